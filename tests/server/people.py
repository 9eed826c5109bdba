"""Several people on one server: who they are, and what they may do to each other's kernels."""

from __future__ import annotations

from typing import Any

from jupyter_server.auth import Authorizer, IdentityProvider, User
from jupyter_server.utils import ensure_async

NAME = "X-Test-User"
"""Header that names the user, as a proxy in front of a server would set it."""
CHIEF = "chief"
"""The one who may act on others' kernels."""


class NamedIdentity(IdentityProvider):
    """Whoever has the server's token is whom the header names."""

    def get_user(self, handler: Any) -> Any:
        return self._named(handler)

    async def _named(self, handler: Any) -> User | None:
        user = await ensure_async(super().get_user(handler))
        return User(handler.request.headers.get(NAME, "nobody")) if user else None


class ChiefAuthorizer(Authorizer):
    """Everybody may do everything with what is theirs, the chief also with the rest."""

    def is_authorized(self, handler: Any, user: User, action: str, resource: str) -> bool:
        return resource != "elastic-others" or user.username == CHIEF


class SlowAuthorizer(ChiefAuthorizer):
    """The same, as one answers who has to ask elsewhere."""

    def is_authorized(self, handler: Any, user: User, action: str, resource: str) -> Any:
        async def answer() -> bool:
            return resource != "elastic-others" or user.username == CHIEF

        return answer()
