"""A cluster whose API server does not know ``pods/resize``: kernels start cold and can be moved."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from jupyter_elastic.cluster.base import Cluster
from jupyter_elastic.cluster.kubernetes.api import KubeApi
from jupyter_elastic.errors import ResizeUnsupported
from jupyter_elastic.kernels.launcher import Launcher
from jupyter_elastic.kernels.startargs import StartArgs
from jupyter_elastic.model import KernelPhase
from jupyter_elastic.resources import MIB

from ..contract.suite import SIZE
from ..testcluster.world import Kube
from .world import KubernetesWorld, install


@pytest.fixture
def world(kube: Kube, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesWorld]:
    ask = KubeApi.request

    async def older(self: KubeApi, method: str, path: str, **more: Any) -> bytes:
        """As an API server says it that has no such subresource."""
        if path.endswith("/resize"):
            raise ResizeUnsupported("This cluster cannot change a pod while it runs.")
        answer = await ask(self, method, path, **more)
        if path == "/api/v1":
            known = msgspec.json.decode(answer)
            known["resources"] = [one for one in known["resources"] if one["name"] != "pods/resize"]
            answer = msgspec.json.encode(known)
        return answer

    monkeypatch.setattr(KubeApi, "request", older)
    install(kube)
    with kube.namespace() as namespace:
        yield KubernetesWorld(kube, namespace)


def test_kernels_start_cold_and_move_to_another_size(world: KubernetesWorld) -> None:
    bigger = replace(SIZE, memory=SIZE.memory + 64 * MIB)

    async def story(cluster: Cluster) -> None:
        launcher = Launcher(cluster)
        template = world.template()
        assert cluster.pool_size(template) == 0, "a warm pod would have nobody's size"
        args = StartArgs(key=uuid.uuid4().hex, env={}, inherit=True)
        kernel = await launcher.record(world.kernel(SIZE))
        launched = await launcher.launch(kernel, template, args)
        assert launched.kernel.start == "cold"
        created = next(step for step in launched.kernel.steps if step.name == "created")
        assert "cannot resize pods" in created.message
        await launcher.confirmed(kernel.kernel_id)

        with pytest.raises(ResizeUnsupported):
            await launcher.running.resize(kernel.kernel_id, bigger)
        now = launcher.records.kernel(kernel.kernel_id)
        assert (now.phase, now.pod) == (KernelPhase.RUNNING, launched.pod.name), "it lives on"

        moved = await launcher.relaunch(now, template, args, resources=bigger)
        assert moved.kernel.resources == bigger == moved.pod.resources
        await launcher.close()

    world.run(story)
