"""Whose kernels a request may see, where one server serves several people.

With ``c.ElasticKernels.owner_from = "identity"`` every way into the kernel manager asks here, so
that Jupyter's own REST, its websockets and other extensions' handlers are held to it alike. Who
asks is the user of the request that is being handled, which jupyter_server keeps in a context
variable. What this process does by itself (adopt, cull, shut down) runs as :func:`trusted`, since
it may have been begun during anybody's request.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Awaitable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_server.auth.authorizer import AllowAllAuthorizer
from jupyter_server.base.call_context import CallContext

from ..errors import Forbidden

if TYPE_CHECKING:
    from .service import ElasticService

OTHERS = "elastic-others"
"""The resource that an authorizer is asked for before an administrator acts on others' kernels."""
GUARDED = ("kernels", "sessions")
"""Jupyter's resources under which kernels are reached."""
NOBODY = ""
"""Owner of a plain kernel that no user's request started."""

_trusted: ContextVar[bool] = ContextVar("elastic_trusted", default=False)


class Asker(NamedTuple):
    """The user whose request is being handled."""

    owner: str
    others: bool
    """Whether the authorizer allows this request to act on others' kernels."""

    def sees(self, owner: str, *, own: bool = False) -> bool:
        """Whether a kernel of ``owner`` is there for the asker; ``own``: as one of theirs."""
        return (owner != NOBODY and owner == self.owner) or (self.others and not own)


@contextlib.contextmanager
def trusted() -> Iterator[None]:
    """Inside, and in tasks begun inside, this process acts for itself and sees every kernel."""
    token = _trusted.set(True)
    try:
        yield
    finally:
        _trusted.reset(token)


def asker_of(service: ElasticService | None) -> Asker | None:
    """Who asks; None where every kernel may be seen: by this process, or by its only owner."""
    if service is None or service.settings.owner_from != "identity" or _trusted.get():
        return None
    handler = CallContext.get(CallContext.JUPYTER_HANDLER)
    if handler is None:
        return None
    try:
        owner = service.owner_of(handler.current_user)
    except Forbidden:
        owner = NOBODY
    return Asker(owner, bool(getattr(handler, "elastic_others", False)))


class WhoseAuthorizerMixin:
    """In front of the configured authorizer: notes who may act on others' kernels.

    It decides nothing by itself. It answers as the configured one does, at once or by an
    awaitable, because not every handler waits for an answer.
    """

    def is_authorized(
        self, handler: Any, user: Any, action: str, resource: str
    ) -> Awaitable[bool] | bool:
        """What the configured authorizer says."""
        ask = super().is_authorized  # type: ignore[misc]
        allowed: Awaitable[bool] | bool = ask(handler, user, action, resource)
        # The default allows everything to everybody; that is no decision about others' kernels.
        if resource not in GUARDED or isinstance(self, AllowAllAuthorizer):
            return allowed
        others: Awaitable[bool] | bool = ask(handler, user, action, OTHERS)
        if inspect.isawaitable(allowed) or inspect.isawaitable(others):
            return _noted_later(handler, allowed, others)
        handler.elastic_others = bool(others)
        return allowed


async def _noted_later(
    handler: Any, allowed: Awaitable[bool] | bool, others: Awaitable[bool] | bool
) -> bool:
    handler.elastic_others = bool(await others if inspect.isawaitable(others) else others)
    return bool(await allowed if inspect.isawaitable(allowed) else allowed)
