"""The manifests that come with the package, for an admin to apply. Needs no cluster.

They are files, so that they can also be read, copied and kept in a repository as they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import yaml

_ROOT = resources.files(__package__)
_NAMESPACE = "namespace: default\n"
"""What stands in the files where a namespace must be named."""
_CONTROLLER_NAMESPACE = "jupyter-elastic-controllers-namespace"
"""The same for that of a controller which is in another one."""
_IMAGE, _COMMAND_END = "image: registry.example/jupyter-elastic:1\n", '"8099"]\n'
"""What stands in the Deployment where the image, and more of the command, go."""


def definitions() -> str:
    """The custom resource definitions, as YAML documents."""
    return _joined("crds", ("kerneltemplates.yaml", "kernelpools.yaml", "kernels.yaml"))


def roles(namespace: str) -> str:
    """Who may do what in a namespace: the server's role, bound to an account, and the admin's."""
    files = ("server-role.yaml", "port-forward-role.yaml", "admin-role.yaml")
    return _joined("rbac", files).replace(_NAMESPACE, f"namespace: {namespace}\n")


def network_policy(namespace: str, controller_namespace: str = "") -> str:
    """Who may reach the kernels of a namespace; also a controller in another one, if named."""
    files = ["network-policy.yaml"]
    if controller_namespace:
        files.append("controller-network-policy.yaml")
    text = _joined("rbac", tuple(files)).replace(_NAMESPACE, f"namespace: {namespace}\n")
    return text.replace(_CONTROLLER_NAMESPACE, controller_namespace)


def controller(namespace: str, image: str, namespaces: Sequence[str], words: Sequence[str]) -> str:
    """A Deployment of controllers, with its service account and rights.

    Parameters
    ----------
    namespace
        Where it is.
    namespaces
        Where it keeps pools, with a Role in each; empty: in the whole cluster, with a ClusterRole.
    words
        That say the same in its command.
    """
    account = _joined("rbac", ("controller-account.yaml",))
    deployment = _joined("rbac", ("controller-deployment.yaml",))
    deployment = deployment.replace(_IMAGE, f"image: {json.dumps(image)}\n")
    # A JSON string is one of YAML as well, whatever is in it.
    more = "".join(f", {json.dumps(word)}" for word in words)
    deployment = deployment.replace(_COMMAND_END, f'"8099"{more}]\n')
    everywhere = _joined("rbac", ("controller-role.yaml",))
    roles = _in_each(everywhere, namespaces) if namespaces else everywhere
    text = "---\n".join([account, roles, deployment])
    return text.replace(_NAMESPACE, f"namespace: {namespace}\n")


def _in_each(everywhere: str, namespaces: Sequence[str]) -> str:
    """The same rights as Roles of single namespaces: nothing of the cluster can be found then."""
    role, binding = yaml.safe_load_all(everywhere)
    rules = [rule for rule in role["rules"] if rule["resources"] != ["namespaces"]]
    documents: list[Any] = []
    for name in namespaces:
        meta = {**role["metadata"], "namespace": name}
        documents.append({**role, "kind": "Role", "metadata": meta, "rules": rules})
        reference = {**binding["roleRef"], "kind": "Role"}
        documents.append({**binding, "kind": "RoleBinding", "metadata": meta, "roleRef": reference})
    return yaml.safe_dump_all(documents, sort_keys=False)


def disruption_budget(namespace: str) -> str:
    """What keeps the kernels of a namespace from eviction."""
    text = _joined("rbac", ("disruption-budget.yaml",))
    return text.replace(_NAMESPACE, f"namespace: {namespace}\n")


def _joined(folder: str, names: tuple[str, ...]) -> str:
    texts = [(_ROOT / folder / name).read_text(encoding="utf-8") for name in names]
    return "---\n".join(texts)
