"""What tests see of a Kubernetes: the tree's own cluster, or any other by its kubeconfig.

The own cluster has only an image of busybox. Its pods run the very Python that runs the tests, by
read-only mounts of the machine's folders at the same paths.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jupyter_elastic.resources import parse_cpu, parse_memory

from . import cgroups, image, nodes
from .api import Api, ApiFailure, Object, TimedOut, until
from .certificates import write_kubeconfig
from .cluster import Cluster

POD_SECURITY = "pod-security.kubernetes.io"


class Rule(NamedTuple):
    """What a role allows; core resources have the group ``""``."""

    groups: tuple[str, ...]
    resources: tuple[str, ...]
    verbs: tuple[str, ...]


def _machine_folders() -> list[str]:
    """What Python needs of the machine, outermost folders only."""
    wanted = {"/usr", "/lib", "/lib64", sys.base_prefix, sys.prefix}
    present = {Path(folder).absolute() for folder in wanted if Path(folder).exists()}
    outer = [one for one in present if not any(parent in present for parent in one.parents)]
    return sorted(map(str, outer))


class Kube:
    """A Kubernetes for tests.

    Attributes
    ----------
    kubeconfig
        Of one who may do everything.
    image
        Of every pod.
    python
        The interpreter in pods that have :attr:`volumes` and :attr:`mounts`.
    volumes, mounts
        For ``spec.volumes`` and ``volumeMounts`` of a container; empty where the image has Python.
    cluster
        The tree's own cluster; None elsewhere.
    """

    def __init__(self, kubeconfig: Path, given_image: str, cluster: Cluster | None) -> None:
        self.kubeconfig = kubeconfig
        self.cluster = cluster
        self.admin = Api(kubeconfig)
        self.image = given_image or image.NAME
        self.python = "python3" if given_image else sys.executable
        folders = [] if given_image else _machine_folders()
        named = [(f"machine-{number}", folder) for number, folder in enumerate(folders)]
        self.volumes: list[Object] = [
            {"name": name, "hostPath": {"path": folder}} for name, folder in named
        ]
        self.mounts: list[Object] = [
            {"name": name, "mountPath": folder, "readOnly": True} for name, folder in named
        ]
        self._files = tempfile.TemporaryDirectory(prefix="je-kube-")
        self._numbers = itertools.count(1)
        self._leaving: list[str] = []

    def close(self) -> None:
        """Wait until the namespaces are gone, and remove the kubeconfigs that were made."""
        self._files.cleanup()
        until("namespaces gone", lambda: not any(map(self.admin.find, self._leaving)))

    # -- namespaces and what is in them ----------------------------------------------------------

    @contextlib.contextmanager
    def namespace(self, enforce: str = "privileged") -> Iterator[str]:
        """Give a fresh namespace, gone at the end.

        Parameters
        ----------
        enforce
            Pod security standard. The machine's folders, which the own cluster's pods mount, are
            forbidden by ``baseline`` and ``restricted``; all else is warned about.
        """
        name = f"test-{uuid.uuid4().hex[:10]}"
        labels = {
            f"{POD_SECURITY}/enforce": enforce,
            f"{POD_SECURITY}/warn": "restricted",
            f"{POD_SECURITY}/audit": "restricted",
        }
        self.admin.post("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        try:
            default = f"/api/v1/namespaces/{name}/serviceaccounts/default"
            until("the default service account", lambda: self.admin.find(default))
            yield name
        finally:
            self._delete_namespace(name)

    def _delete_namespace(self, name: str) -> None:
        """Wait for the pods only: the namespace takes Kubernetes five seconds more."""
        path = f"/api/v1/namespaces/{name}"
        self.admin.delete(path)
        self._leaving.append(path)
        self.admin.delete(f"{path}/pods?gracePeriodSeconds=1")
        until(f"pods of {name} gone", lambda: not self.admin.get(f"{path}/pods")["items"])

    def quota(self, namespace: str, hard: dict[str, str], name: str = "quota") -> None:
        """Set a resource quota and wait until it counts; a second call changes it.

        The API server, which refuses, hears of it by a watch of its own.
        """
        path = f"/api/v1/namespaces/{namespace}/resourcequotas"
        if self.admin.find(f"{path}/{name}") is None:
            self.admin.post(path, {"metadata": {"name": name}, "spec": {"hard": hard}})
        else:
            self.admin.patch(f"{path}/{name}", {"spec": {"hard": hard}})
        until(
            "the quota counts",
            lambda: self.admin.get(f"{path}/{name}").get("status", {}).get("hard") == hard,
        )
        probe = _over(hard)
        if probe is not None:
            until("the quota is held to", lambda: not self.admits(namespace, probe))

    def admits(self, namespace: str, resources: Object | None = None, **spec: Any) -> bool:
        """Whether the API server would let in a pod with these resources, and this in its spec."""
        container: Object = {"name": "probe", "image": self.image, "resources": resources or {}}
        path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
        body = {"metadata": {"name": "probe"}, "spec": {"containers": [container], **spec}}
        try:
            self.admin.post(path, body)
        except ApiFailure as error:
            if error.code != 403:
                raise
            return False
        return True

    def limit_range(self, namespace: str, *limits: Object, name: str = "limits") -> None:
        """Make a LimitRange of ``spec.limits``."""
        body = {"metadata": {"name": name}, "spec": {"limits": limits}}
        self.admin.post(f"/api/v1/namespaces/{namespace}/limitranges", body)

    def service_account(
        self, namespace: str, rules: list[Rule | Object], *, name: str = "", seconds: int = 3600
    ) -> Path:
        """Make a service account that may do only this in its namespace; its kubeconfig.

        Parameters
        ----------
        rules
            :class:`Rule` or a rule as it stands in a Role.
        seconds
            The token's life; at least 600.
        """
        name = name or f"account-{next(self._numbers)}"
        account = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        self.admin.post(
            f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}}
        )
        group = "rbac.authorization.k8s.io"
        place = f"/apis/{group}/v1/namespaces/{namespace}"
        self.admin.post(
            f"{place}/roles",
            {"metadata": {"name": name}, "rules": [_as_object(rule) for rule in rules]},
        )
        self.admin.post(
            f"{place}/rolebindings",
            {
                "metadata": {"name": name},
                "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
                "subjects": [account],
            },
        )
        self._await_rights(namespace, name, [_as_object(rule) for rule in rules])
        return self.token(namespace, name, seconds)

    def _await_rights(self, namespace: str, account: str, rules: list[Object]) -> None:
        """Wait until the API server, which hears of roles by a watch, allows what they allow."""
        general = [rule for rule in rules if "resourceNames" not in rule]
        if not general:
            return
        resource, _, sub = general[-1]["resources"][-1].partition("/")
        attributes = {
            "namespace": namespace,
            "verb": general[-1]["verbs"][-1],
            "group": general[-1]["apiGroups"][-1],
            "resource": resource,
            "subresource": sub,
        }
        user = f"system:serviceaccount:{namespace}:{account}"
        asked = {"spec": {"user": user, "resourceAttributes": attributes}}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        until(f"rights of {account}", lambda: self.admin.post(path, asked)["status"]["allowed"])

    def token(self, namespace: str, account: str, seconds: int = 3600) -> Path:
        """Give the kubeconfig of a service account, with a fresh token and its namespace."""
        answer = self.admin.post(
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token",
            {"spec": {"expirationSeconds": seconds}},
        )
        path = Path(self._files.name) / f"{account}-{next(self._numbers)}.conf"
        user = {"token": str(answer["status"]["token"])}
        write_kubeconfig(path, self.admin.server, self.admin.authority, user, namespace)
        return path

    # -- pods ------------------------------------------------------------------------------------

    def await_pod(
        self, namespace: str, name: str, condition: Callable[[Object], Any], patience: float = 90
    ) -> Object:
        """Give the pod once a condition on it holds; a failure shows its status."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        last: Object = {}

        def look() -> Any:
            last.update(self.admin.get(path))
            return condition(last)

        try:
            until(f"pod {name}", look, patience)
        except TimedOut as error:
            raise AssertionError(f"{error}; status: {last.get('status')}") from error
        return last

    def log(self, namespace: str, name: str, container: str = "kernel") -> str:
        """Read a container's log."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/log?container={container}"
        return self.admin.text(path)

    def container_cgroup(self, pod_uid: str, container: str = "kernel") -> dict[str, Path] | None:
        """Give the control groups of a container by controller (``memory``, ``cpu``).

        None when it has none, and on a cluster that is not ours.
        """
        return None if self.cluster is None else self.cluster.container(pod_uid, container)

    def container_pids(self, pod_uid: str, container: str = "kernel") -> list[int] | None:
        """Give the processes of a container, as the machine counts them; None as above."""
        groups = self.container_cgroup(pod_uid, container)
        return None if groups is None else cgroups.pids(groups)

    def limits(self, pod_uid: str, container: str = "kernel") -> cgroups.Limits | None:
        """Say what the kernel enforces for a container; None as above."""
        groups = self.container_cgroup(pod_uid, container)
        return None if groups is None else cgroups.limits(groups)

    # -- nodes -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def fake_nodes(self, count: int) -> Iterator[list[str]]:
        """Give nodes that only pretend, gone at the end; the tree's own cluster only."""
        assert self.cluster is not None, "only the tree's own cluster has kwok"
        names = nodes.add(self.admin, count, f"fake-{next(self._numbers)}")
        try:
            yield names
        finally:
            nodes.remove(self.admin, names)


def _over(hard: dict[str, str]) -> Object | None:
    """Resources of a container that is just over a quota; None where only counts are limited."""
    for key, amount in hard.items():
        kind, _, name = key.rpartition(".")
        if kind not in ("requests", "limits", "") or name not in ("cpu", "memory"):
            continue
        parse, unit = (parse_cpu, "m") if name == "cpu" else (parse_memory, "")
        over = {name: f"{parse(amount) + 1}{unit}"}
        # A limit alone is a request as well, but not the other way round.
        return {"requests": over} if kind == "requests" else {"limits": over}
    return None


def _as_object(rule: Rule | Object) -> Object:
    if isinstance(rule, Rule):
        return {"apiGroups": rule.groups, "resources": rule.resources, "verbs": rule.verbs}
    return rule
