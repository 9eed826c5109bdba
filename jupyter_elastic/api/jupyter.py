"""Two of Jupyter's own handlers, which would call every failure a 500 and hide its status.

They stand in front of jupyter_server's and do what those do. What our managers refuse leaves with
the status that the error has, so that a client can tell a bad request from a full quota.
"""

from __future__ import annotations

import json
from typing import Any

from jupyter_client.jsonutil import json_default
from jupyter_server.services.kernels.handlers import KernelActionHandler
from jupyter_server.services.sessions.handlers import SessionRootHandler
from jupyter_server.utils import ensure_async
from tornado import web

from ..errors import ElasticError
from ..kernels.problems import as_http
from .base import protected


class ElasticSessionRootHandler(SessionRootHandler):
    """``/api/sessions``: as Jupyter's, but a refusal keeps its status."""

    async def post(self) -> None:
        """Create a session; Jupyter's own method, which is authenticated and authorized."""
        try:
            await ensure_async(super().post())
        except web.HTTPError as error:
            # `raise HTTPError(500, str(e)) from e` is all that jupyter_server makes of it.
            if error.status_code == 500 and isinstance(error.__cause__, web.HTTPError):
                raise error.__cause__ from None
            raise


class ElasticRestartHandler(KernelActionHandler):
    """``/api/kernels/<id>/restart``: as Jupyter's, but a failure says why."""

    @protected
    async def post(self, kernel_id: str, action: str) -> None:
        """Restart a kernel, elastic or plain."""
        manager: Any = self.kernel_manager
        try:
            await manager.restart_kernel(kernel_id)
        except ElasticError as error:
            raise as_http(error) from error
        except web.HTTPError:
            raise
        except Exception as error:
            raise web.HTTPError(500, "Exception restarting kernel") from error
        model = await ensure_async(manager.kernel_model(kernel_id))
        self.finish(json.dumps(model, default=json_default))


def jupyter_routes() -> list[tuple[str, type[Any]]]:
    """Handlers in place of Jupyter's own; the server adds its base URL itself."""
    kernel = r"(?P<kernel_id>\w+-\w+-\w+-\w+-\w+)"
    return [
        ("/api/sessions", ElasticSessionRootHandler),
        (rf"/api/kernels/{kernel}/(?P<action>restart)", ElasticRestartHandler),
    ]
