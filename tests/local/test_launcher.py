"""A kernel's start and moves when others act at the same time, over the local cluster."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import pytest
from msgspec.structs import replace

from jupyter_elastic.cluster.base import Cluster
from jupyter_elastic.cluster.local import LocalCluster
from jupyter_elastic.errors import Conflict, Gone, QuotaFull, Superseded
from jupyter_elastic.kernels.launcher import Launcher
from jupyter_elastic.kernels.startargs import StartArgs
from jupyter_elastic.model import Kernel, KernelPhase, Pod, Resize, Step

from ..contract.suite import until
from ..contract.test_local import LocalWorld


def args() -> StartArgs:
    return StartArgs(key=uuid.uuid4().hex, env={}, inherit=True)


async def failed(cluster: Cluster, kernel: Kernel, **fields: Any) -> Kernel:
    """The record of a kernel whose pod was lost."""
    return await cluster.update_kernel(
        replace(kernel, phase=KernelPhase.FAILED, reason="AgentLost", **fields)
    )


def test_a_restart_goes_on_though_the_record_was_written_meanwhile(world: LocalWorld) -> None:
    async def story(cluster: Cluster) -> None:
        launcher = Launcher(cluster)
        seen = await failed(cluster, await cluster.create_kernel(world.kernel()))
        await cluster.update_kernel(replace(seen, name="renamed"))
        launched = await launcher.relaunch(seen, world.template(), args())
        assert launched.kernel.phase is KernelPhase.RUNNING
        assert launched.kernel.name == "renamed", "what was written meanwhile stays"
        assert launched.kernel.restarts == 1
        await launcher.close()

    world.run(story)


def test_a_kernel_that_another_moves_is_not_moved_twice(world: LocalWorld) -> None:
    async def story(cluster: Cluster) -> None:
        mine, other = Launcher(cluster), Launcher(cluster)
        seen = await failed(cluster, await cluster.create_kernel(world.kernel()))
        first = asyncio.ensure_future(other.relaunch(seen, world.template(), args()))
        while cluster.kernels()[seen.kernel_id].phase is not KernelPhase.MOVING:
            await asyncio.sleep(0.01)
        with pytest.raises(Conflict):
            await mine.relaunch(seen, world.template(), args())
        await first
        with pytest.raises(Conflict, match="another pod"):
            await mine.relaunch(seen, world.template(), args())
        pods = [pod for pod in cluster.pods().values() if pod.kernel_id == seen.kernel_id]
        assert len(pods) == 1

    world.run(story)


class Losing(LocalWorld):
    """A world in which pods end just after they were claimed, so many times."""

    losses = 1

    def make(self, capacity: Any) -> LocalCluster:
        world = self

        class Cluster(LocalCluster):
            async def dial(self, pod: Pod) -> Any:
                if pod.kernel_id is not None and world.losses:
                    world.losses -= 1
                    raise Gone(f"Pod {pod.name} is gone.")
                return await super().dial(pod)

        return Cluster(state_dir=self.path, capacity=capacity, cgroup=self.cgroup)


@pytest.mark.parametrize(("losses", "starts"), [(1, True), (9, False)])
def test_a_pod_that_ends_before_the_start_is_replaced(
    world: LocalWorld, losses: int, starts: bool
) -> None:
    losing = Losing(world.path, world.cgroup)
    losing.losses = losses

    async def story(cluster: Cluster) -> None:
        launcher = Launcher(cluster)
        await losing.warm(cluster)
        kernel = await launcher.record(losing.kernel())
        if starts:
            launched = await launcher.launch(kernel, losing.template(), args())
            mine = [pod for pod in cluster.pods().values() if pod.kernel_id == kernel.kernel_id]
            assert [pod.name for pod in mine] == [launched.pod.name] == [launched.kernel.pod]
            assert launched.kernel.start == "cold", "the one warm pod was lost"
        else:
            with pytest.raises(Gone):
                await launcher.launch(kernel, losing.template(), args())
            now = cluster.kernels()[kernel.kernel_id]
            assert (now.phase, now.pod) == (KernelPhase.FAILED, None)
            await until(lambda: not [pod for pod in cluster.pods().values() if pod.kernel_id])

    losing.run(story)


class Watched(LocalWorld):
    """A world whose sizes settle later, as on Kubernetes; notes what agents are asked."""

    def __init__(self, path: Any, cgroup: str, refuse: bool) -> None:
        super().__init__(path, cgroup)
        self.refuse = refuse
        self.asked: list[str] = []

    def make(self, capacity: Any) -> LocalCluster:
        world = self

        class Noting:
            def __init__(self, agent: Any) -> None:
                self._agent = agent

            async def call(self, op: str, **fields: Any) -> Any:
                world.asked.append(op)
                return await self._agent.call(op, **fields)

            def on_event(self, listener: Any) -> Any:
                return self._agent.on_event(listener)

        class Cluster(LocalCluster):
            settles_later = True

            async def dial(self, pod: Pod) -> Any:
                return Noting(await super().dial(pod))

            async def resize_pod(self, pod: Pod, resources: Any, **more: Any) -> Pod:
                if world.refuse:
                    while "prepare" not in world.asked:
                        await asyncio.sleep(0.01)
                    raise QuotaFull("There is no room.")
                return await super().resize_pod(pod, resources, **more)

        return Cluster(state_dir=self.path, capacity=capacity, cgroup=self.cgroup)


def test_a_spare_is_bound_while_its_size_is_agreed(world: LocalWorld) -> None:
    watched = Watched(world.path, world.cgroup, refuse=False)

    async def story(cluster: Cluster) -> None:
        launcher = Launcher(cluster)
        await watched.warm(cluster)
        kernel = await launcher.record(watched.kernel())
        launched = await launcher.launch(kernel, watched.template(), args())
        assert [op for op in watched.asked if op != "limits"][:2] == ["prepare", "start"]
        assert launched.kernel.steps[-1].message == "The kernel answers (spare)."
        await launcher.close()

    watched.run(story)


def test_no_user_code_runs_in_a_pod_that_is_refused_its_size(world: LocalWorld) -> None:
    watched = Watched(world.path, world.cgroup, refuse=True)

    async def story(cluster: Cluster) -> None:
        launcher = Launcher(cluster)
        await watched.warm(cluster)
        kernel = await launcher.record(watched.kernel())
        with pytest.raises(QuotaFull):
            await launcher.launch(kernel, watched.template(), args())
        assert "start" not in watched.asked
        await until(lambda: not cluster.pods())  # it went, with what was prepared
        await launcher.close()

    watched.run(story)


def test_others_see_the_steps_of_a_long_start(world: LocalWorld) -> None:
    class Slow(LocalWorld):
        def make(self, capacity: Any) -> LocalCluster:
            class Cluster(LocalCluster):
                async def wait_pod(self, name: str, timeout: float, **more: Any) -> Pod:
                    more["tell"](Step(time.time(), "pulling", "An image is pulled."))
                    while len(noted(self)) < 3:
                        await asyncio.sleep(0.02)
                    return await super().wait_pod(name, timeout, **more)

            return Cluster(state_dir=self.path, capacity=capacity, cgroup=self.cgroup)

    def noted(cluster: Cluster) -> list[str]:
        """What another server reads of the one kernel."""
        (kernel,) = cluster.kernels().values()
        assert kernel.phase is KernelPhase.STARTING
        return [step.name for step in kernel.steps] if kernel.pod else []

    slow = Slow(world.path, world.cgroup)

    async def story(cluster: Cluster) -> None:
        launcher = Launcher(cluster)
        kernel = await launcher.record(slow.kernel())
        launched = await launcher.launch(kernel, slow.template(), args())
        names = [step.name for step in launched.kernel.steps]
        assert names == ["queued", "created", "pulling", "agent-up", "kernel-up"]
        assert launched.kernel.start == "cold"

    slow.run(story)


def test_a_resize_that_another_has_overtaken_leaves_the_later_one_alone(
    world: LocalWorld,
) -> None:
    later = Resize(state="Done", message="Now something else.", time=2.0)

    class Overtaken(LocalWorld):
        asked = 0

        def make(self, capacity: Any) -> LocalCluster:
            world = self

            class Cluster(LocalCluster):
                async def resize_pod(self, pod: Pod, resources: Any, **more: Any) -> Pod:
                    (kernel,) = self.kernels().values()
                    if kernel.phase is not KernelPhase.RUNNING:
                        return await super().resize_pod(pod, resources, **more)
                    world.asked += 1
                    await self.update_kernel(replace(kernel, resize=later))
                    raise Superseded("Somebody else resized the pod.")

            return Cluster(state_dir=self.path, capacity=capacity, cgroup=self.cgroup)

    overtaken = Overtaken(world.path, world.cgroup)

    async def story(cluster: Cluster) -> None:
        launcher = Launcher(cluster)
        kernel = await launcher.record(overtaken.kernel())
        await launcher.launch(kernel, overtaken.template(), args())
        with pytest.raises(Superseded):
            await launcher.running.resize(kernel.kernel_id, kernel.resources)
        assert overtaken.asked == 1, "sent again, it would undo the later one"
        assert launcher.records.kernel(kernel.kernel_id).resize == later

    overtaken.run(story)


def test_more_memory_ends_the_notice_of_having_run_out_of_it(world: LocalWorld) -> None:
    async def story(cluster: Cluster) -> None:
        launcher = Launcher(cluster)
        kernel = (
            await launcher.launch(await launcher.record(world.kernel()), world.template(), args())
        ).kernel
        told = replace(kernel, reason="OutOfMemory", message="It needed more.")
        await cluster.update_kernel(
            replace(told, version=launcher.records.kernel(kernel.kernel_id).version)
        )
        size = kernel.resources
        same = await launcher.running.resize(kernel.kernel_id, replace(size, cpu=size.cpu + 100))
        assert (same.reason, same.message) == ("OutOfMemory", "It needed more.")
        more = await launcher.running.resize(
            kernel.kernel_id, replace(size, memory=2 * size.memory)
        )
        assert (more.reason, more.message) == ("", "")

    world.run(story)
