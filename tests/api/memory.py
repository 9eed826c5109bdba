"""A cluster that is nothing but two dicts, under the real service and the real handlers.

Tests that send hundreds of requests, or need a kernel in a state that is hard to bring about, use
it; how real kernels behave is tested with a real server.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from jupyter_elastic.cluster.base import Agent, Change, Cluster, Listener
from jupyter_elastic.errors import AgentUnreachable, Conflict, KernelExists, QuotaFull
from jupyter_elastic.model import (
    AgentAddress,
    Capacity,
    Enforcement,
    Kernel,
    KernelPhase,
    Pod,
    PodPhase,
    Step,
    Template,
)
from jupyter_elastic.resources import GIB, Resources

TOTAL = Resources(cpu=8000, memory=16 * GIB)


class MemoryAgent:
    """Answers what the API asks an agent."""

    async def call(self, op: str, timeout: float = 10.0, **fields: Any) -> dict[str, Any]:
        if op == "usage":
            return {
                "v": 1, "id": "1", "ok": True, "time": time.time(), "cpu_seconds": 1.5,
                "cpu_limit": 1000, "throttled_seconds": None, "memory": 10_000_000,
                "memory_limit": GIB, "memory_peak": 20_000_000, "overhead": 60_000_000,
                "oom_kills": 0, "psi": None, "processes": 1, "gpu": [],
            }  # fmt: skip
        return {"ok": True}

    def on_event(self, listener: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        return lambda: None

    def close(self) -> None:
        pass


class MemoryCluster(Cluster):
    """See the module. ``limit`` is how many kernels have room."""

    name = "local"

    def __init__(self, limit: int = 10_000) -> None:
        self.limit = limit
        self._pods: dict[str, Pod] = {}
        self._kernels: dict[str, Kernel] = {}
        self._listeners: list[Listener] = []
        self._versions = itertools.count(1)
        self.deaf = False

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def pods(self) -> Mapping[str, Pod]:
        return self._pods

    def kernels(self) -> Mapping[str, Kernel]:
        return self._kernels

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    async def refresh(self) -> None:
        pass

    async def capacity(self) -> Capacity:
        used = [pod.resources for pod in self._pods.values()]
        return Capacity(
            total=TOTAL,
            used=Resources(cpu=sum(r.cpu for r in used), memory=sum(r.memory for r in used)),
            gpus={"a100": 2},
        )

    def enforcement(self) -> Enforcement:
        return Enforcement(memory="watchdog", cpu="affinity", note="For tests.")

    def gpu_kinds(self) -> tuple[str, ...]:
        return ("a100",)

    def put_pod(self, pod: Pod) -> Pod:
        """Set a pod's state, as if the world had."""
        old = self._pods.get(pod.name)
        self._pods[pod.name] = pod = replace(pod, version=str(next(self._versions)))
        self._tell(Change(kind="pod", name=pod.name, old=old, new=pod))
        return pod

    def put_kernel(self, kernel: Kernel) -> Kernel:
        """Set a kernel's state, as if the world had."""
        old = self._kernels.get(kernel.kernel_id)
        kernel = replace(kernel, version=str(next(self._versions)))
        self._kernels[kernel.kernel_id] = kernel
        self._tell(Change(kind="kernel", name=kernel.kernel_id, old=old, new=kernel))
        return kernel

    def _tell(self, change: Change) -> None:
        for listener in list(self._listeners):
            listener(change)

    async def create_pod(self, template: Template, *, kernel: Kernel | None = None) -> Pod:
        name = f"pod-{next(self._versions)}"
        return self.put_pod(
            Pod(
                name=name,
                uid=name,
                template=template.name,
                template_hash=template.hash,
                phase=PodPhase.CLAIMED if kernel else PodPhase.WARMING,
                kernel_id=kernel.kernel_id if kernel else None,
                created=time.time(),
                resources=kernel.resources if kernel else template.resources.default(),
                agent=AgentAddress("inproc://x", "x"),
            )
        )

    async def wait_pod(self, name: str, timeout: float, *, tell: Any = None) -> Pod:
        return self._pods[name]

    async def claim_pod(self, pod: Pod, kernel: Kernel) -> Pod:
        if self._pods.get(pod.name) != pod:
            raise Conflict("Somebody was faster.")
        claimed = replace(pod, phase=PodPhase.CLAIMED, kernel_id=kernel.kernel_id)
        return self.put_pod(claimed)

    async def resize_pod(
        self, pod: Pod, resources: Resources, *, wait: bool = True, tell: Any = None
    ) -> Pod:
        if resources.memory > TOTAL.memory:
            raise QuotaFull(f"memory: {resources} asked, {TOTAL} there.")
        return self.put_pod(replace(self._pods[pod.name], resources=resources))

    async def delete_pod(self, name: str, reason: str = "", *, if_spare: bool = False) -> None:
        old = self._pods.pop(name, None)
        if old:
            self._tell(Change(kind="pod", name=name, old=old))

    async def dial(self, pod: Pod) -> Agent:
        if self.deaf:
            raise AgentUnreachable("The agent did not answer within 5 s.", "Try again.")
        return MemoryAgent()

    async def pod_log(self, name: str, lines: int = 50) -> str:
        return ""

    async def create_kernel(self, kernel: Kernel) -> Kernel:
        if kernel.kernel_id in self._kernels:
            raise KernelExists(f"There is a kernel {kernel.kernel_id} already.")
        if len(self._kernels) >= self.limit:
            raise QuotaFull(f"{self.limit} kernels run, no more have room.")
        return self.put_kernel(kernel)

    async def update_kernel(self, kernel: Kernel) -> Kernel:
        stored = self._kernels.get(kernel.kernel_id)
        if stored is None or stored.version != kernel.version:
            raise Conflict("It changed.")
        return self.put_kernel(kernel)

    async def delete_kernel(self, kernel_id: str) -> None:
        old = self._kernels.pop(kernel_id, None)
        if old is None:
            return
        if old.pod:
            await self.delete_pod(old.pod)
        self._tell(Change(kind="kernel", name=kernel_id, old=old))

    async def acquire_lease(self, name: str) -> bool:
        return True

    async def release_lease(self, name: str) -> None:
        pass


class MemoryHost:
    """Stands for the kernel manager: kernels run at once, or wait to be let go."""

    def __init__(self, cluster: MemoryCluster, template: Callable[[str], Template]) -> None:
        self.cluster = cluster
        self.template = template
        self.hold = False

    async def start_elastic(self, kernel: Kernel, *, wait: bool) -> Kernel:
        kernel = await self.cluster.create_kernel(replace(kernel, phase=KernelPhase.STARTING))
        return kernel if self.hold else await self.finish(kernel)

    async def finish(self, kernel: Kernel) -> Kernel:
        pod = await self.cluster.create_pod(self.template(kernel.template), kernel=kernel)
        steps = (*kernel.steps, Step(time.time(), "kernel-up", "The kernel answers."))
        return self.cluster.put_kernel(
            replace(
                self.cluster.kernels()[kernel.kernel_id],
                phase=KernelPhase.RUNNING,
                pod=pod.name,
                actual=kernel.resources,
                start="cold",
                steps=steps,
            )
        )

    async def stop_elastic(self, kernel_id: str) -> None:
        await self.cluster.delete_kernel(kernel_id)

    async def replace_elastic(self, kernel_id: str, resources: Resources) -> None:
        kernel = self.cluster.kernels()[kernel_id]
        await self.cluster.update_kernel(replace(kernel, resources=resources, actual=resources))

    def is_attached(self, kernel_id: str) -> bool:
        return kernel_id in self.cluster.kernels()

    def activity_of(self, kernel_id: str) -> tuple[str, float | None]:
        return "idle", time.time()
