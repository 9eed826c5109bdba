"""What all handlers share: who asks, which service answers, and how errors are told."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, cast

from jupyter_server.auth.authorizer import AllowAllAuthorizer
from jupyter_server.auth.decorator import authorized
from jupyter_server.auth.utils import HTTP_METHOD_TO_AUTH_ACTION
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import ensure_async
from tornado import web

from ..errors import ElasticError, Unsupported
from ..kernels.problems import retry_after
from ..kernels.service import ElasticService
from ..kernels.whose import OTHERS
from ..model import Kernel
from .bodies import Body, decode, kernel_id_of_path
from .problems import problem_of

SERVICE = "elastic_service"
"""Key of the web application's settings: an ElasticService, or the ElasticError that explains
why there is none here."""
VERBS = ("get", "head", "post", "put", "patch", "delete")

_Method = Callable[..., Coroutine[Any, Any, None]]


def protected(method: _Method) -> _Method:
    """Authenticated and authorized, as every verb of ours must be."""
    return cast("_Method", web.authenticated(authorized(method)))


def _refused() -> _Method:
    """A verb that a handler does not have; a stranger is not even told that."""

    async def method(self: ElasticHandler, *_args: str, **_kwargs: str) -> None:
        raise web.HTTPError(405, f"{self.request.path} does not know {self.request.method}.")

    return protected(method)


class ElasticHandler(APIHandler):
    """Base of all handlers below ``/elastic/api``.

    Every verb is authenticated and authorized for the resource ``elastic``; ``OPTIONS`` is
    Jupyter's own preflight. Every error leaves as ``application/problem+json``.
    """

    auth_resource = "elastic"

    # One function each: `authorized` remembers the first verb that it met.
    get = _refused()
    head = _refused()
    post = _refused()
    put = _refused()
    patch = _refused()
    delete = _refused()

    @property
    def service(self) -> ElasticService:
        """The service of this server. Raises what its opening failed with."""
        service = self.settings.get(SERVICE)
        if isinstance(service, ElasticError):
            raise service
        if service is None:
            raise Unsupported(
                "Elastic kernels are not ready on this server.",
                "Wait a moment; if it stays so, look into the server's log.",
            )
        return cast("ElasticService", service)

    @property
    def owner(self) -> str:
        """The owner who asks."""
        return self.service.owner_of(self.current_user)

    async def my_kernel(self, text: str) -> Kernel:
        """The kernel of the path.

        Raises
        ------
        UnknownKernel
            There is none, or it is somebody else's and the asker is no administrator.
        """
        service, kernel_id = self.service, kernel_id_of_path(text)
        if kernel_id not in service.cluster.kernels():
            # Another server may have started it a moment ago.
            await service.cluster.refresh_one("kernel", kernel_id)
        kernel = service.cluster.kernels().get(kernel_id)
        if kernel is not None and kernel.owner != self.owner and await self.is_admin():
            return kernel
        return service.kernel_of(self.owner, kernel_id)

    async def is_admin(self) -> bool:
        """Whether the configured authorizer lets the asker do this with others' kernels.

        It is asked for the resource ``elastic-others``. Jupyter's default, which allows everything
        to everybody who is signed in, does not count as a decision.
        """
        if isinstance(self.authorizer, AllowAllAuthorizer):
            return False
        action = HTTP_METHOD_TO_AUTH_ACTION[(self.request.method or "GET").upper()]
        allowed = self.authorizer.is_authorized(self, self.current_user, action, OTHERS)
        return bool(await ensure_async(allowed))

    def body(self, kind: type[Body]) -> Body:
        """The request's body; see :func:`jupyter_elastic.api.bodies.decode` for what it raises."""
        return decode(self.request.body, self.request.headers.get("Content-Type", ""), kind)

    def reply(self, data: Any) -> None:
        """End the request with JSON."""
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(data))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Tell an error as a problem; what nobody expected is told without its words."""
        exc_info = kwargs.get("exc_info")
        error = problem_of(exc_info[1] if exc_info else None, status_code)
        problem = error.to_problem()
        status = problem["status"]
        self.set_status(status)
        if status == 405:
            own = type(self)
            verbs = [v.upper() for v in VERBS if getattr(own, v) is not getattr(ElasticHandler, v)]
            self.set_header("Allow", ", ".join([*verbs, "OPTIONS"]))
        if status in (429, 503):
            self.set_header("Retry-After", retry_after(error))
        self.finish(json.dumps(problem), set_content_type="application/problem+json")

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        """Errors that users meet are no tracebacks in the log."""
        if isinstance(value, ElasticError):
            level = self.log.warning if value.status >= 500 else self.log.info
            level("%s: %s", value.reason, value)
        else:
            super().log_exception(typ, value, tb)
