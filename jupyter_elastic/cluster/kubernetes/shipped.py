"""The manifests that come with the package, for an admin to apply. Needs no cluster.

They are files, so that they can also be read, copied and kept in a repository as they are.
"""

from __future__ import annotations

from importlib import resources

_ROOT = resources.files(__package__)
_NAMESPACE = "namespace: default\n"
"""What stands in the files where a namespace must be named."""


def definitions() -> str:
    """The custom resource definitions, as YAML documents."""
    return _joined("crds", ("kerneltemplates.yaml", "kernelpools.yaml", "kernels.yaml"))


def roles(namespace: str) -> str:
    """Who may do what in a namespace: the server's role, bound to an account, and the admin's."""
    files = ("server-role.yaml", "port-forward-role.yaml", "admin-role.yaml")
    return _joined("rbac", files).replace(_NAMESPACE, f"namespace: {namespace}\n")


def network_policy(namespace: str) -> str:
    """Who may reach the kernels of a namespace."""
    text = _joined("rbac", ("network-policy.yaml",))
    return text.replace(_NAMESPACE, f"namespace: {namespace}\n")


def disruption_budget(namespace: str) -> str:
    """What keeps the kernels of a namespace from eviction."""
    text = _joined("rbac", ("disruption-budget.yaml",))
    return text.replace(_NAMESPACE, f"namespace: {namespace}\n")


def _joined(folder: str, names: tuple[str, ...]) -> str:
    texts = [(_ROOT / folder / name).read_text(encoding="utf-8") for name in names]
    return "---\n".join(texts)
