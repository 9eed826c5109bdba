"""A Jupyter server whose kernels run on the Kubernetes of this run."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.server import Server, start_server
from jupyter_elastic.resources import parse_memory

from ..testcluster.api import until
from ..testcluster.certificates import NODE
from ..testcluster.world import POD_SECURITY, Kube
from .world import access, server_rules

TEMPLATES = "/apis/elastic.jupyter.org/v1alpha1/namespaces/{}/kerneltemplates"
KERNELS = "/apis/elastic.jupyter.org/v1alpha1/namespaces/{}/kernels"


def template_spec(kube: Kube, pool: int = 1, memory: str = "256Mi", **more: Any) -> dict[str, Any]:
    """The spec of a KernelTemplate that serves this machine's Python; None leaves a field out."""
    spec = {
        "displayName": "Work",
        "image": kube.image,
        "interpreter": kube.python,
        "env": {"HOME": "/tmp"},
        "resources": {
            "cpu": {"minimum": "100m", "default": "500m", "maximum": "8"},
            "memory": {"minimum": "64Mi", "default": memory, "maximum": "64Gi"},
        },
        "pool": {"size": pool},
        "pod": {"runAsUser": 1000, "volumes": kube.volumes, "volumeMounts": kube.mounts},
        **more,
    }
    return {name: value for name, value in spec.items() if value is not None}


class Desk:
    """A namespace, its templates, and servers on it."""

    def __init__(self, kube: Kube, namespace: str, home: Path) -> None:
        self.kube = kube
        self.namespace = namespace
        self.home = home
        self.kubeconfig = kube.service_account(namespace, server_rules(kube))

    def offer(self, name: str = "work", **more: Any) -> None:
        """Have a KernelTemplate, changed where it is there already."""
        path = TEMPLATES.format(self.namespace)
        spec = template_spec(self.kube, **more)
        if self.kube.admin.find(f"{path}/{name}") is None:
            body = {
                "apiVersion": "elastic.jupyter.org/v1alpha1",
                "kind": "KernelTemplate",
                "metadata": {"name": name},
                "spec": spec,
            }
            self.kube.admin.post(path, body)
        else:
            self.kube.admin.patch(f"{path}/{name}", {"spec": spec})

    def spec(self, name: str) -> dict[str, Any]:
        """The spec of a KernelTemplate here."""
        path = f"{TEMPLATES.format(self.namespace)}/{name}"
        found: dict[str, Any] = self.kube.admin.get(path)["spec"]
        return found

    def change(self, name: str, change: dict[str, Any]) -> None:
        """Change parts of a KernelTemplate's spec."""
        self.kube.admin.patch(f"{TEMPLATES.format(self.namespace)}/{name}", {"spec": change})

    def withdraw(self, name: str) -> None:
        """Delete a KernelTemplate."""
        self.kube.admin.delete(f"{TEMPLATES.format(self.namespace)}/{name}")

    def pod_options(self, **more: Any) -> dict[str, Any]:
        """``spec.pod`` of the templates here."""
        options: dict[str, Any] = template_spec(self.kube)["pod"]
        return {**options, **more}

    def config_map(self, name: str, data: dict[str, str]) -> None:
        """Make one."""
        path = f"/api/v1/namespaces/{self.namespace}/configmaps"
        self.kube.admin.post(path, {"metadata": {"name": name}, "data": data})

    def remove(self, what: str) -> None:
        """Delete a core object, ``resourcequotas/quota`` for instance; returns once it is gone."""
        path = f"/api/v1/namespaces/{self.namespace}/{what}"
        self.kube.admin.delete(path)
        until(f"{what} gone", lambda: self.kube.admin.find(path) is None)
        if what.startswith(("resourcequotas/", "limitranges/")):
            # The API server, which refuses, hears of it by a watch of its own.
            until(f"nobody is held to {what}", lambda: self.admits(memory="4Gi"))

    @contextlib.contextmanager
    def crowded(self, free: int) -> Iterator[Callable[[], None]]:
        """Leave only so many bytes of memory free on the node, to be asked for by pods.

        Gives what ends it early.
        """
        place = f"/api/v1/namespaces/{self.namespace}/pods"
        node = self.kube.admin.get(f"/api/v1/nodes/{NODE}")["status"]["allocatable"]["memory"]
        pods = self.kube.admin.get("/api/v1/pods", fieldSelector=f"spec.nodeName={NODE}")["items"]
        taken = sum(_requested(pod) for pod in pods if pod["status"]["phase"] != "Succeeded")
        asked = parse_memory(node) - taken - free
        container = {
            "name": "filler",
            "image": self.kube.image,
            "resources": {"requests": {"memory": str(asked)}},
        }
        spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
        self.kube.admin.post(place, {"metadata": {"name": "filler"}, "spec": spec})
        try:
            self.kube.await_pod(
                self.namespace, "filler", lambda pod: pod["status"]["phase"] == "Running"
            )
            yield lambda: self.remove("pods/filler")
        finally:
            self.remove("pods/filler")

    @contextlib.contextmanager
    def enforcing(self, level: str) -> Iterator[None]:
        """Hold the namespace to a Pod Security level meanwhile."""
        place = f"/api/v1/namespaces/{self.namespace}"

        def enforce(level: str, admits: bool) -> None:
            labels = {f"{POD_SECURITY}/enforce": level}
            self.kube.admin.patch(place, {"metadata": {"labels": labels}})
            until("the level holds", lambda: self.admits(host_path="/tmp") is admits)

        enforce(level, False)
        try:
            yield
        finally:
            enforce("privileged", True)

    def admits(self, host_path: str = "", memory: str = "") -> bool:
        """Whether the namespace would let a pod in that mounts this, or asks for this much."""
        resources = {"limits": {"memory": memory}} if memory else None
        volumes = [{"name": "host", "hostPath": {"path": host_path}}] if host_path else []
        return self.kube.admits(self.namespace, resources, volumes=volumes)

    def config(self, **settings: Any) -> str:
        """Configuration of a server here; ``settings`` are traits of ``c.ElasticKubernetes``."""
        lines = ["c.ElasticKernels.cluster = 'kubernetes'"]
        for name, value in {
            "namespace": self.namespace,
            "kubeconfig": str(self.kubeconfig),
            "access": access(self.kube),
            **settings,
        }.items():
            lines.append(f"c.ElasticKubernetes.{name} = {value!r}")
        return "\n".join(lines) + "\n"

    @contextlib.asynccontextmanager
    async def server(self, extra: str = "", **settings: Any) -> AsyncIterator[Server]:
        """A running server; its kernels run on after it."""
        running = await start_server(self.home, self.config(**settings) + extra)
        try:
            yield running
        finally:
            await running.stop()

    def pods(self) -> list[dict[str, Any]]:
        """The namespace's pods as Kubernetes has them."""
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        found: list[dict[str, Any]] = self.kube.admin.get(path)["items"]
        return found

    def pod(self, name: str) -> dict[str, Any]:
        """One of them."""
        return self.kube.admin.get(f"/api/v1/namespaces/{self.namespace}/pods/{name}")

    def evict(self, name: str) -> None:
        """Ask for a pod's eviction, as whoever empties a node does."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/eviction"
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        self.kube.admin.post(path, body)

    def end(self, kernel_id: str) -> None:
        """Delete a Kernel object."""
        self.kube.admin.delete(f"{KERNELS.format(self.namespace)}/{kernel_id}")

    def kernels(self) -> list[dict[str, Any]]:
        """The namespace's Kernel objects."""
        found: list[dict[str, Any]] = self.kube.admin.get(KERNELS.format(self.namespace))["items"]
        return found


def _requested(pod: dict[str, Any]) -> int:
    """Bytes of memory that a pod asks its node for."""
    parts = (one.get("resources", {}).get("requests", {}) for one in pod["spec"]["containers"])
    return sum(parse_memory(part["memory"]) for part in parts if "memory" in part)


@contextlib.contextmanager
def home_directory() -> Any:
    """For a server's files."""
    path = Path(tempfile.mkdtemp(prefix="je-kube-home-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
