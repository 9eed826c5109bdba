"""Answers of the Kubernetes API for which :mod:`jupyter_elastic.errors` has no class of its own.

Most are met by our own code only, which decides by them; those that reach a user are sentences
all the same. :mod:`.problems` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ... import errors
from ...errors import ElasticError


class ApiError(ElasticError):
    """An answer of the Kubernetes API that has no better class.

    Attributes
    ----------
    code
        The HTTP status of the API's answer.
    status_reason
        The API's own word: ``AlreadyExists``, ``Invalid`` ... Empty when it sent none.
    details
        ``details`` of the API's ``Status``: kind, name, causes.
    retry_after
        Seconds the API asked to wait, or None.
    """

    reason, status = "ApiError", 502
    remedy = "If it stays so, show this message to whoever runs the cluster."

    def __init__(
        self,
        message: str,
        remedy: str = "",
        *,
        code: int = 0,
        status_reason: str = "",
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, remedy)
        self.code = code
        self.status_reason = status_reason
        self.details: Mapping[str, Any] = details or {}
        self.retry_after = retry_after


class ApiBusy(ApiError):
    """The API is overloaded or has trouble of its own; the same request may succeed later."""

    reason, status, retry = "ApiBusy", 503, True
    remedy = "Kernels run on and nothing is lost; try again in a moment."


class ResourceExpired(ApiError):
    """The version to continue from is no longer kept; read everything anew."""

    reason, status, retry = "ResourceExpired", 410, True


class ApiNotFound(errors.Gone):
    """No such object, or the cluster knows no such resource."""

    remedy = "It may have ended; look at what is there now."


class ApiConflict(errors.Conflict):
    """Somebody else wrote first, or an object of this name exists.

    Attributes
    ----------
    exists
        An object of this name exists already.
    retried
        An earlier attempt of the same request got no answer, so that the conflict may be with
        that attempt itself: read the object before judging.
    """

    exists = False
    retried = False


class ApiQuotaFull(errors.QuotaFull):
    """A ResourceQuota has no room.

    Attributes
    ----------
    quota
        The ResourceQuota's name.
    requested, used, limited
        Quantities by the quota's names of resources, as the API wrote them.
    lacking
        How much is too little, by those names: millicores, bytes or a count.
    """

    quota: str = ""
    requested: Mapping[str, str] = {}
    used: Mapping[str, str] = {}
    limited: Mapping[str, str] = {}
    lacking: Mapping[str, int] = {}


class Unauthorized(errors.Forbidden):
    """The API does not know who we are."""

    reason, status = "Unauthorized", 403
    remedy = (
        "Log in to the cluster again or renew the credentials of the kubeconfig; "
        "kernels run on and nothing is lost."
    )


def api_error(error: BaseException) -> ApiError | None:
    """The API's own answer behind an error; None when the API did not answer."""
    if isinstance(error, ApiError):
        return error
    return error.__cause__ if isinstance(error.__cause__, ApiError) else None
