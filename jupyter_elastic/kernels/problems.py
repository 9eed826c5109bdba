"""Our errors where Jupyter's own REST handlers raise them: the same sentence, the same status."""

from __future__ import annotations

from tornado.web import HTTPError

from ..errors import ElasticError


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
    return ElasticHTTPError(error)
