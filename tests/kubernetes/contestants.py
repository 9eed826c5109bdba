"""Servers as far as starts go, on a real API server, with stand-ins for the pods' agents.

Pods are of nodes that pretend. All else is what servers run: launcher, adapter, watches.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_elastic.agent import protocol
from jupyter_elastic.cluster.kubernetes import KubernetesCluster
from jupyter_elastic.kernels.launcher import Launched, Launcher
from jupyter_elastic.kernels.startargs import StartArgs
from jupyter_elastic.model import Kernel, Pod, PodPhase, Template


class Hand:
    """Answers for the agent of one pod: it starts one kernel, once."""

    closed = False

    def __init__(self) -> None:
        self.started: list[str] = []

    async def call(self, op: str, timeout: float = 10.0, **fields: Any) -> dict[str, Any]:
        await asyncio.sleep(random.uniform(0, 0.03))
        if op == "hello":
            return {"phase": "warm", "overhead": 0, "curve": True}
        if op == "status":
            return {"alive": bool(self.started), "kernel_id": (self.started or [""])[0]}
        if op == protocol.START:
            self.started.append(fields["kernel_id"])
            return {"how": "spare", "connection": {}}
        return {}

    def on_event(self, listener: Any) -> Callable[[], None]:
        return lambda: None


class Staged(KubernetesCluster):
    """The adapter, with stand-ins for agents."""

    def __init__(self, namespace: str, kubeconfig: Path, hands: dict[str, Hand]) -> None:
        super().__init__(
            namespace=namespace, kubeconfig=str(kubeconfig), access="direct", qps=500.0
        )
        self._hands = hands

    async def open(self) -> None:
        await super().open()
        self._talks.dial = self.dial  # type: ignore[method-assign]

    async def dial(self, pod: Pod) -> Any:
        return self._hands.setdefault(pod.name, Hand())


class Contestant:
    """A server, as far as starts go."""

    def __init__(self, cluster: Staged, launcher: Launcher) -> None:
        self.cluster = cluster
        self.launcher = launcher

    def warm(self) -> int:
        """Warm pods that it sees."""
        return sum(pod.phase is PodPhase.WARM for pod in self.cluster.pods().values())

    async def start(self, kernel: Kernel, template: Template) -> Launched:
        kernel = await self.launcher.record(kernel)
        return await self.launcher.launch(kernel, template, StartArgs(key="k", env={}))

    async def close(self) -> None:
        await self.launcher.close()
        await self.cluster.close()


async def contestant(namespace: str, kubeconfig: Path, hands: dict[str, Hand]) -> Contestant:
    """One more server: a connection, a cache and a launcher of its own."""
    cluster = Staged(namespace, kubeconfig, hands)
    await cluster.open()
    return Contestant(cluster, Launcher(cluster, start_timeout=90))
