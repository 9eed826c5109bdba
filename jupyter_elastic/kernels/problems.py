"""Our errors where Jupyter's own REST handlers raise them: the same sentence, the same status."""

from __future__ import annotations

import math

from jupyter_server.base.call_context import CallContext
from tornado.web import HTTPError

from ..errors import ElasticError

SOON = 2.0
"""Seconds after which to try again where nothing better is known."""


class ElasticHTTPError(HTTPError):
    """An :class:`ElasticError` that jupyter_server's handlers report as it is.

    ``str()`` is the sentence: several handlers put that into a response of their own.
    """

    def __init__(self, error: ElasticError) -> None:
        super().__init__(error.status, str(error), reason=None)
        self.error = error

    def __str__(self) -> str:
        return str(self.error)


def as_http(error: ElasticError) -> ElasticHTTPError:
    """The error for a handler of Jupyter's to raise."""
    if error.status in (429, 503):
        _tell_when(error)
    return ElasticHTTPError(error)


def retry_after(error: ElasticError) -> str:
    """The header of this name: whole seconds."""
    return f"{max(1, math.ceil(error.retry_after or SOON))}"


def _tell_when(error: ElasticError) -> None:
    """Have the answer to the present request say when to try again.

    Tornado forgets all headers before it answers with an error, and sets the default ones anew.
    """
    handler = CallContext.get(CallContext.JUPYTER_HANDLER)
    if handler is None:
        return
    usual = handler.set_default_headers

    def headers() -> None:
        usual()
        handler.set_header("Retry-After", retry_after(error))

    handler.set_default_headers = headers
