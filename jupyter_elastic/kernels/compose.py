"""Join our mixins with whatever classes a server was configured with.

So ``pip install`` is the only step, and other extensions' managers (conda kernels, an admin's own
subclass) keep working: their methods are called as before, for elastic kernels as well.
"""

from __future__ import annotations

import sys
from typing import Any

_MODULE = sys.modules[__name__]
_made: dict[tuple[type, ...], type] = {}


def compose(mixin: type, chosen: type, behind: type | None = None) -> type:
    """A subclass of both, made once per pair.

    The mixin stands in front of ``chosen``. With ``behind``, one of Jupyter's own classes, it
    stands right in front of that one, where ``chosen`` derives from it: what an admin's subclass
    does around ``super().start_kernel()`` then holds for elastic kernels too.

    The class is importable by its dotted name (:func:`dotted_name`), which traits of type
    ``DottedObjectName`` need.
    """
    if issubclass(chosen, mixin):
        return chosen
    derived = behind is not None and chosen is not behind and issubclass(chosen, behind)
    bases = (chosen, compose(mixin, behind)) if behind and derived else (mixin, chosen)
    made = _made.get(bases)
    if made is None:
        name = f"Elastic{chosen.__name__}"
        attribute = f"{name}_{chosen.__module__}".replace(".", "_")
        made = type(name, bases, {"__module__": __name__, "__qualname__": attribute})
        _made[bases] = made
        setattr(_MODULE, attribute, made)
    return made


def dotted_name(made: type) -> str:
    """The name under which a composed class can be imported."""
    return f"{made.__module__}.{made.__qualname__}"


def chosen_class(app: Any, trait: str) -> type:
    """The class that configuration, a subclass or the default chose for ``app``'s trait.

    Read without triggering dynamic defaults: at link time some of them fail, because they look
    at parts of the server that are built later.
    """
    from traitlets.utils.importstring import import_item

    value: Any = app._trait_values.get(trait)
    if value is None:
        for section in (type(app).__name__, "ServerApp"):
            configured = app.config.get(section, {})
            if trait in configured:
                value = configured[trait]
                break
    if value is None:
        value = DEFAULTS[trait]
    return import_item(value) if isinstance(value, str) else value  # type: ignore[no-any-return]


DEFAULTS = {
    "authorizer_class": "jupyter_server.auth.authorizer.AllowAllAuthorizer",
    "kernel_manager_class": (
        "jupyter_server.services.kernels.kernelmanager.AsyncMappingKernelManager"
    ),
    "kernel_spec_manager_class": "jupyter_client.kernelspec.KernelSpecManager",
    "session_manager_class": "jupyter_server.services.sessions.sessionmanager.SessionManager",
    "kernel_websocket_connection_class": (
        "jupyter_server.services.kernels.connection.channels.ZMQChannelsWebsocketConnection"
    ),
}
"""What jupyter_server uses when nobody chose and no gateway is configured."""
