"""Errors that belong to HTTP alone, and how every exception becomes a problem (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus

from tornado.web import HTTPError

from ..errors import BadRequest, ElasticError, Forbidden


class NoSuchPath(ElasticError):
    """Nothing is served under this path."""

    reason, status = "NoSuchPath", 404
    remedy = "The paths there are stand in /elastic/api/openapi.yaml."


class MethodNotAllowed(ElasticError):
    """The path exists, but not for this verb."""

    reason, status = "MethodNotAllowed", 405
    remedy = "The header Allow names the verbs there are."


class TooLarge(BadRequest):
    """The body is over the limit; it was not read."""

    reason, status = "TooLarge", 413


class UnsupportedMediaType(BadRequest):
    """The body is not said to be JSON."""

    reason, status = "UnsupportedMediaType", 415
    remedy = "Send JSON with the header Content-Type: application/json."


class InternalError(ElasticError):
    """Something nobody expected; the server's log has it."""

    reason, status = "InternalError", 500
    remedy = "Nothing more can be said here; the server's log has the details."


class OtherError(ElasticError):
    """An HTTP error that somebody else raised, with its own status."""

    reason = "HttpError"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self._status = status

    def to_problem(self) -> dict[str, object]:
        """The problem, under the status it was raised with."""
        return super().to_problem() | {"status": self._status}


def problem_of(error: BaseException | None, status: int) -> ElasticError:
    """What is told to the client about ``error``; ``status`` is what tornado made of it."""
    if isinstance(error, ElasticError):
        return error
    message = ""
    if isinstance(error, HTTPError):
        message = error.log_message or ""
        if message and error.args:
            message = message % error.args
    elif error is not None:
        return InternalError("The server failed in a way nobody expected.")
    message = message or f"{_phrase(status)}."
    if status in (401, 403):
        return Forbidden(message, "Log in, or ask whoever runs this server for the permission.")
    if status == 404:
        return NoSuchPath(message)
    if status == 405:
        return MethodNotAllowed(message)
    if status == 400:
        return BadRequest(message)
    return InternalError(message) if status == 500 else OtherError(status, message)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"HTTP status {status}"
