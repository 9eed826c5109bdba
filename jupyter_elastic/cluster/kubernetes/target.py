"""What a request is about, in the words of RBAC. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What a request is about, in the words of RBAC."""

    verb: str
    resource: str
    """With the subresource: ``pods/resize``."""
    group: str = ""
    namespace: str = ""
    name: str = ""


_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def target(method: str, path: str, query: Mapping[str, str] | None = None) -> Target:
    """The verb and resource that RBAC checks for a request."""
    parts = path.strip("/").split("/")
    if parts[:1] == ["api"]:
        group, parts = "", parts[2:]
    elif parts[:1] == ["apis"]:
        group, parts = "".join(parts[1:2]), parts[3:]
    else:
        return Target(verb=method.lower(), resource="/" + "/".join(parts))
    namespace = ""
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    resource, name, sub = [*parts, "", "", ""][:3]
    verb = _VERBS.get(method, "get")
    if not name and verb == "get":
        verb = "watch" if (query or {}).get("watch") else "list"
    if not name and verb == "delete":
        verb = "deletecollection"
    return Target(
        verb=verb,
        resource=f"{resource}/{sub}" if sub else resource,
        group=group,
        namespace=namespace,
        name=name,
    )
