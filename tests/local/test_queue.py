"""Starts that wait for room, over the local cluster: by themselves, and in several servers."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from jupyter_elastic.cluster.base import Cluster
from jupyter_elastic.errors import QueueFull, QuotaFull, StartCancelled
from jupyter_elastic.kernels.launcher import Launched, Launcher
from jupyter_elastic.kernels.startargs import StartArgs
from jupyter_elastic.model import WAITING_FOR_ROOM, Kernel, KernelPhase, PodPhase
from jupyter_elastic.resources import MIB, Resources

from ..contract.suite import SIZE, until
from ..contract.test_local import LocalWorld

ONE = Resources(cpu=SIZE.cpu, memory=SIZE.memory)
"""Room for one kernel."""


def launcher(cluster: Cluster, timeout: float = 60.0, per_owner: int = 0) -> Launcher:
    return Launcher(
        cluster,
        queue_timeout=timeout,
        queue_per_owner=per_owner,
        log=logging.getLogger("tests.queue"),
    )


class Starts:
    """Starts through one server, by name, and the order in which they ran."""

    def __init__(self, world: LocalWorld, cluster: Cluster, launcher: Launcher) -> None:
        self.world = world
        self.cluster = cluster
        self.launcher = launcher
        self.tasks: dict[str, asyncio.Task[Launched]] = {}
        self.kernels: dict[str, Kernel] = {}

    async def begin(self, name: str, **fields: Any) -> None:
        """Ask for a kernel; the first word of its name is its owner."""
        kernel = self.world.kernel(owner=name.split()[0], name=name, **fields)
        kernel = await self.launcher.record(kernel)
        self.kernels[name] = kernel
        args = StartArgs(key=uuid.uuid4().hex, env={}, inherit=True)
        work = self.launcher.launch(kernel, self.world.template(), args)
        self.tasks[name] = asyncio.create_task(work)

    def record(self, name: str) -> Kernel:
        return self.cluster.kernels()[self.kernels[name].kernel_id]

    def waits(self, name: str) -> bool:
        kernel = self.cluster.kernels().get(self.kernels[name].kernel_id)
        return kernel is not None and kernel.reason == WAITING_FOR_ROOM

    async def until_waiting(self, *names: str) -> None:
        await until(lambda: all(self.waits(name) for name in names))

    async def end(self, name: str) -> None:
        await self.launcher.running.stop(self.kernels[name].kernel_id)

    async def next(self) -> str:
        """The name of the one start that succeeds next."""
        done, _ = await asyncio.wait(
            self.tasks.values(), return_when=asyncio.FIRST_COMPLETED, timeout=120
        )
        names = [name for name, task in self.tasks.items() if task in done]
        assert len(names) == 1, names
        self.tasks.pop(names[0]).result()
        return names[0]


@asynccontextmanager
async def server(world: LocalWorld) -> AsyncIterator[Cluster]:
    """One more server on the same state directory."""
    cluster = world.make(ONE)
    await cluster.open()
    try:
        yield cluster
    finally:
        await cluster.close()


def test_a_start_without_room_waits_and_says_so(world: LocalWorld) -> None:
    async def story(cluster: Cluster) -> None:
        starts = Starts(world, cluster, launcher(cluster))
        await starts.begin("ada 1")
        assert await starts.next() == "ada 1"
        await starts.begin("ada 2")
        await starts.until_waiting("ada 2")
        waiting = starts.record("ada 2")
        assert (waiting.phase, waiting.pod) == (KernelPhase.QUEUED, None)
        assert waiting.message.startswith("Waiting for room: 1st of 1; how long it takes is not")
        assert "192 MiB of memory were asked for" in waiting.message, "the figures of the refusal"
        assert waiting.steps[-1].name == "blocked"
        assert waiting.steps[-1].message == waiting.message

        await starts.end("ada 1")
        assert await starts.next() == "ada 2"
        runs = starts.record("ada 2")
        assert (runs.phase, runs.reason, runs.message) == (KernelPhase.RUNNING, "", "")
        names = [step.name for step in runs.steps]
        assert names == ["queued", "blocked", "created", "agent-up", "kernel-up"]
        await starts.launcher.close()

    world.run(story, ONE)


def test_owners_take_turns_through_any_server(world: LocalWorld) -> None:
    """Ada's burst came first, through one server; Bob asks through another."""

    async def story(cluster: Cluster) -> None:
        async with server(world) as other:
            here = Starts(world, cluster, launcher(cluster))
            there = Starts(world, other, launcher(other))
            await here.begin("ada 0")
            assert await here.next() == "ada 0"
            for name in ("ada 1", "ada 2", "ada 3"):
                await here.begin(name)
                await here.until_waiting(name)
            await until(lambda: len(other.kernels()) == 4)
            await there.begin("bob 1")
            await there.until_waiting("bob 1")
            # The other server may see a moment later that Ada's third waits as well.
            await until(
                lambda: there.record("bob 1").message.startswith("Waiting for room: 2nd of 4")
            )
            await until(lambda: len(cluster.kernels()) == 5)

            await here.end("ada 0")
            assert await here.next() == "ada 1"
            assert there.waits("bob 1")
            await here.end("ada 1")
            assert await there.next() == "bob 1"
            assert here.waits("ada 2")
            await there.end("bob 1")
            assert await here.next() == "ada 2"
            await here.end("ada 2")
            assert await here.next() == "ada 3"
            await there.launcher.close()
            await here.launcher.close()

    world.run(story, ONE)


def test_a_server_that_is_gone_keeps_nobody_back(world: LocalWorld) -> None:
    async def story(cluster: Cluster) -> None:
        starts = Starts(world, cluster, launcher(cluster))
        gone = await cluster.create_kernel(
            world.kernel(
                owner="ada",
                phase=KernelPhase.QUEUED,
                reason=WAITING_FOR_ROOM,
                deadline=time.time() + 5,
                created=1.0,
            )
        )
        await starts.begin("bob 1")
        await starts.until_waiting("bob 1")
        assert starts.record("bob 1").message.startswith("Waiting for room: 2nd of 2")
        assert await starts.next() == "bob 1"
        assert time.time() >= gone.deadline
        await starts.launcher.close()

    world.run(story, ONE)


def test_what_waited_with_a_server_that_is_gone_keeps_its_place(world: LocalWorld) -> None:
    async def story(cluster: Cluster) -> None:
        starts = Starts(world, cluster, launcher(cluster))
        await starts.begin("ada 1")
        assert await starts.next() == "ada 1"
        gone = await cluster.create_kernel(
            world.kernel(
                owner="ada",
                phase=KernelPhase.QUEUED,
                reason=WAITING_FOR_ROOM,
                turn=5,
                deadline=time.time() - 1,
            )
        )
        await starts.begin("bob 1")
        await starts.until_waiting("bob 1")
        starts.kernels["ada 0"] = taken = await starts.launcher.take_over(gone)
        args = StartArgs(key=uuid.uuid4().hex, env={}, inherit=True)
        starts.tasks["ada 0"] = asyncio.create_task(
            starts.launcher.launch(taken, world.template(), args)
        )
        await until(lambda: starts.record("ada 0").phase is KernelPhase.QUEUED)
        assert starts.record("ada 0").turn == 5
        await starts.end("ada 1")
        assert await starts.next() == "bob 1"
        await starts.end("bob 1")
        assert await starts.next() == "ada 0"
        await starts.launcher.close()

    world.run(story, ONE)


def test_one_that_is_stopped_waits_no_more(world: LocalWorld) -> None:
    async def story(cluster: Cluster) -> None:
        async with server(world) as other:
            starts = Starts(world, cluster, launcher(cluster))
            await starts.begin("ada 1")
            assert await starts.next() == "ada 1"
            for name in ("ada 2", "ada 3"):
                await starts.begin(name)
                await starts.until_waiting(name)
            # Its own server gives the start up ...
            starts.tasks["ada 2"].cancel()
            with pytest.raises(asyncio.CancelledError):
                await starts.tasks.pop("ada 2")
            assert starts.kernels["ada 2"].kernel_id not in cluster.kernels()
            # ... or it is stopped through another.
            await launcher(other).running.stop(starts.kernels["ada 3"].kernel_id)
            with pytest.raises(StartCancelled):
                await asyncio.wait_for(starts.tasks.pop("ada 3"), 60)
            assert list(cluster.kernels()) == [starts.kernels["ada 1"].kernel_id]
            await starts.launcher.close()

    world.run(story, ONE)


def test_a_cancellation_just_when_something_changed_is_not_lost(world: LocalWorld) -> None:
    """As ``asyncio.wait_for`` of Python 3.11 and older would lose it."""

    async def story(cluster: Cluster) -> None:
        starts = Starts(world, cluster, launcher(cluster))
        await starts.begin("ada 1")
        assert await starts.next() == "ada 1"
        await starts.begin("ada 2")
        await starts.until_waiting("ada 2")
        queue = starts.launcher._queue
        await until(lambda: queue._waiters)
        for changed in queue._waiters.values():
            changed.set()
        # One round later what waited for the change is done, and has not gone on yet.
        await asyncio.sleep(0)
        starts.tasks["ada 2"].cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(starts.tasks.pop("ada 2"), 60)
        assert list(cluster.kernels()) == [starts.kernels["ada 1"].kernel_id]
        await starts.launcher.close()

    world.run(story, ONE)


def test_it_fails_when_nothing_becomes_free_in_time(world: LocalWorld) -> None:
    async def story(cluster: Cluster) -> None:
        starts = Starts(world, cluster, launcher(cluster, timeout=0.5))
        await starts.begin("ada 1")
        assert await starts.next() == "ada 1"
        await starts.begin("ada 2")
        with pytest.raises(QuotaFull, match=r"192 MiB.* No room became free within 0 s"):
            await starts.tasks.pop("ada 2")
        failed = starts.record("ada 2")
        assert (failed.phase, failed.reason) == (KernelPhase.FAILED, "QuotaFull")
        assert "Stop a kernel" in failed.message
        await starts.launcher.close()

    world.run(story, ONE)


def test_what_never_has_room_does_not_wait(world: LocalWorld) -> None:
    async def story(cluster: Cluster) -> None:
        starts = Starts(world, cluster, launcher(cluster))
        await starts.begin("ada 1", resources=replace(SIZE, memory=SIZE.memory + MIB))
        with pytest.raises(QuotaFull) as refused:
            await starts.tasks.pop("ada 1")
        assert refused.value.is_hopeless
        await starts.launcher.close()

    world.run(story, ONE)


def test_so_many_of_an_owner_may_wait(world: LocalWorld) -> None:
    async def story(cluster: Cluster) -> None:
        starts = Starts(world, cluster, launcher(cluster, per_owner=1))
        await starts.begin("ada 1")
        assert await starts.next() == "ada 1"
        await starts.begin("ada 2")
        await starts.until_waiting("ada 2")
        with pytest.raises(QueueFull, match="1 starts of ada wait") as refused:
            await starts.begin("ada 3")
        assert refused.value.status == 429
        assert len(cluster.kernels()) == 2, "nothing was recorded"
        await starts.begin("bob 1")
        await starts.until_waiting("bob 1")
        for task in starts.tasks.values():
            task.cancel()
        await asyncio.gather(*starts.tasks.values(), return_exceptions=True)
        await starts.launcher.close()

    world.run(story, ONE)


def test_a_warm_pod_takes_no_room_that_somebody_waits_for(world: LocalWorld) -> None:
    async def story(cluster: Cluster) -> None:
        starts = Starts(world, cluster, launcher(cluster))
        await world.warm(cluster)
        await starts.begin("ada 1")
        assert await starts.next() == "ada 1", "the warm pod was claimed, or gave way"
        await until(lambda: {pod.phase for pod in cluster.pods().values()} == {PodPhase.CLAIMED})
        await starts.begin("ada 2")
        await starts.until_waiting("ada 2")
        with pytest.raises(QuotaFull, match="waits for room"):
            await cluster.create_pod(world.template())
        starts.tasks["ada 2"].cancel()
        await asyncio.gather(*starts.tasks.values(), return_exceptions=True)
        await starts.launcher.close()

    world.run(story, ONE)
