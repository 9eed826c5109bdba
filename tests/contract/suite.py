"""The promises of ``cluster/base.py``, as tests that every adapter must pass unchanged.

An adapter subclasses :class:`World` (factories and a side door that reads and breaks things
around the code under test) and :class:`ClusterContract` (overriding only the ``world`` fixture).
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec
import pytest

from jupyter_elastic import errors
from jupyter_elastic.cluster.base import Change, Cluster
from jupyter_elastic.model import (
    Kernel,
    KernelPhase,
    Offer,
    Pod,
    PodPhase,
    PoolRow,
    Range,
    Template,
)
from jupyter_elastic.resources import MIB, Resources
from tests.leftovers import kill_at_once

SIZE = Resources(cpu=500, memory=192 * MIB)
BOUND = 240.0
"""Seconds of a whole story; of one wait see :func:`until`."""

Story = Callable[[Cluster], Awaitable[None]]


class World(ABC):
    """Where a contract test happens."""

    capacity = Resources(cpu=16_000, memory=2048 * MIB)

    @abstractmethod
    def make(self, capacity: Resources) -> Cluster:
        """A cluster object over the state of this test; each call is another server."""

    @abstractmethod
    def processes(self, pod: str) -> list[int]:
        """What lives of a pod now: anything, as long as empty means that nothing does."""

    @abstractmethod
    def agent_of(self, pod: str) -> int:
        """The process of the pod's agent."""

    @abstractmethod
    def kill(self, pids: list[int]) -> None:
        """SIGKILL."""

    def kill_all(self, pod: str) -> set[int]:
        """SIGKILL to everything in the pod at one moment, as a container out of memory is.

        Returns what was killed: the pod may have other processes a moment later.
        """
        return kill_at_once(lambda: self.processes(pod))

    @abstractmethod
    def memory_limit(self, pod: str) -> int | None:
        """Bytes enforced on the pod now, overhead included; None where it cannot be read."""

    @abstractmethod
    def template(self, name: str = "contract") -> Template:
        """A template that serves a Python kernel."""

    # -- helpers ---------------------------------------------------------------------------

    def offer(self) -> Offer:
        return Offer(
            cpu=Range(100, SIZE.cpu, 8000), memory=Range(32 * MIB, SIZE.memory, 4096 * MIB)
        )

    def run(self, story: Story, capacity: Resources | None = None) -> None:
        """Tell a story in an open cluster; whatever it leaves is deleted."""

        async def whole() -> None:
            cluster = self.make(capacity or self.capacity)
            await cluster.open()
            try:
                await asyncio.wait_for(story(cluster), BOUND)
            finally:
                await cluster.refresh()
                for kernel_id in list(cluster.kernels()):
                    await cluster.delete_kernel(kernel_id)
                for name in list(cluster.pods()):
                    await cluster.delete_pod(name)
                await cluster.close()

        asyncio.run(whole())

    def kernel(self, resources: Resources = SIZE, **fields: Any) -> Kernel:
        return Kernel(
            **{
                "kernel_id": str(uuid.uuid4()),
                "owner": "ada",
                "template": "contract",
                "created": time.time(),
                "resources": resources,
                **fields,
            }
        )

    async def warm(self, cluster: Cluster) -> Pod:
        pod = await cluster.create_pod(self.template())
        return await cluster.wait_pod(pod.name, 120)

    async def claimed(self, cluster: Cluster, resources: Resources = SIZE) -> tuple[Pod, Kernel]:
        """A warm pod claimed for a recorded kernel, at its size."""
        pod = await self.warm(cluster)
        kernel = await cluster.create_kernel(self.kernel(resources))
        pod = await cluster.claim_pod(pod, kernel)
        return await cluster.resize_pod(pod, resources), kernel

    async def start(self, cluster: Cluster, pod: Pod, kernel: Kernel) -> dict[str, Any]:
        """Let the agent start the kernel."""
        agent = await cluster.dial(pod)
        answer = await agent.call(
            "start",
            timeout=60,
            kernel_id=kernel.kernel_id,
            key=uuid.uuid4().hex,
            signature_scheme="hmac-sha256",
            curve=None,
            env={},
            inherit=True,
            cwd=None,
            ip=cluster.kernel_ip,
            ports=None if cluster.kernel_ports is None else dict(cluster.kernel_ports),
            memory=kernel.resources.memory,
            cpu=kernel.resources.cpu,
            idle={"cull_after": 0, "max_age": 0, "cull_connected": True},
            on_death="restart",
            kernel_name="contract",
            argv_context={},
            gpu=[],
        )
        return {**answer, "connection": await cluster.reach(pod, answer["connection"])}


async def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for a condition, which may be asynchronous; fail when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)


def same(seen: Pod, pod: Pod) -> bool:
    """Whether ``seen`` is ``pod`` as far as anybody decides: its version and what that is of.

    What the machine adds by itself (where the pod is, its agent's address) changes no version.
    """
    return facts(seen) == facts(pod)


def facts(pod: Pod) -> tuple[object, ...]:
    """What :func:`same` compares."""
    return (pod.name, pod.uid, pod.version, pod.phase, pod.kernel_id, pod.resources, pod.gpu_ids)


def shows(cluster: Cluster, pod: Pod) -> bool:
    """Whether the cluster shows a pod as :func:`same` as this."""
    seen = cluster.pods().get(pod.name)
    return seen is not None and same(seen, pod)


class ClusterContract:
    """Subclass it, and give it a fixture ``world``."""

    # -- pods ------------------------------------------------------------------------------

    def test_a_created_pod_becomes_warm(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            template = world.template()
            pod = await cluster.create_pod(template)
            assert pod.phase is PodPhase.WARMING
            assert pod.kernel_id is None
            # What is shown may be newer: a node may have taken the pod by now.
            seen = cluster.pods()[pod.name]
            assert (seen.uid, seen.template_hash) == (pod.uid, template.hash)
            assert seen.phase in (PodPhase.WARMING, PodPhase.WARM)
            warm = await cluster.wait_pod(pod.name, 120)
            assert warm.phase is PodPhase.WARM
            assert warm.uid == pod.uid
            assert warm.version != pod.version
            assert warm.template_hash == template.hash
            assert warm.overhead > 0
            assert warm.agent is not None
            assert warm.warm_since is not None

        world.run(story)

    def test_a_cold_start_is_bound_and_sized_from_birth(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            kernel = await cluster.create_kernel(world.kernel())
            pod = await cluster.create_pod(world.template(), kernel=kernel)
            assert (pod.phase, pod.kernel_id) == (PodPhase.WARMING, kernel.kernel_id)
            assert pod.resources == SIZE
            assert (await cluster.capacity()).used.memory == SIZE.memory
            other = await cluster.create_kernel(world.kernel())
            with pytest.raises(errors.Conflict):
                await cluster.claim_pod(pod, other)
            pod = await cluster.wait_pod(pod.name, 120)
            assert (pod.phase, pod.kernel_id) == (PodPhase.CLAIMED, kernel.kernel_id)
            limit = world.memory_limit(pod.name)
            assert limit is None or limit == SIZE.memory + pod.overhead
            answer = await world.start(cluster, pod, kernel)
            assert answer["connection"]["shell_port"] > 0

        world.run(story)

    def test_many_claimers_one_winner(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            pod = await world.warm(cluster)
            other = world.make(world.capacity)
            await other.open()
            kernels = [await cluster.create_kernel(world.kernel()) for _ in range(6)]
            results = await asyncio.gather(
                *(
                    (cluster, other)[i % 2].claim_pod(pod, kernel)
                    for i, kernel in enumerate(kernels)
                ),
                return_exceptions=True,
            )
            await other.close()
            winners = [one for one in results if isinstance(one, Pod)]
            assert len(winners) == 1
            assert all(isinstance(one, (Pod, errors.Conflict)) for one in results)
            await cluster.refresh()
            assert facts(cluster.pods()[pod.name]) == facts(winners[0])
            assert winners[0].phase is PodPhase.CLAIMED

        world.run(story)

    def test_a_claimed_pod_cannot_be_claimed(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            pod, kernel = await world.claimed(cluster)
            second = await cluster.create_kernel(world.kernel())
            with pytest.raises(errors.Conflict):
                await cluster.claim_pod(pod, second)
            assert cluster.pods()[pod.name].kernel_id == kernel.kernel_id

        world.run(story)

    def test_a_stale_version_changes_nothing(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            pod = await world.warm(cluster)
            kernel = await cluster.create_kernel(world.kernel())
            with pytest.raises(errors.Conflict):
                await cluster.claim_pod(msgspec.structs.replace(pod, version="1"), kernel)
            with pytest.raises(errors.Conflict):
                await cluster.claim_pod(msgspec.structs.replace(pod, uid="another"), kernel)
            assert facts(cluster.pods()[pod.name]) == facts(pod)
            claimed = await cluster.claim_pod(pod, kernel)
            with pytest.raises(errors.Conflict):
                await cluster.resize_pod(pod, SIZE)
            assert facts(cluster.pods()[pod.name]) == facts(claimed)

        world.run(story)

    def test_deleting_ends_all_and_may_be_repeated(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            pod, kernel = await world.claimed(cluster)
            await world.start(cluster, pod, kernel)
            assert world.processes(pod.name)
            await asyncio.gather(*(cluster.delete_pod(pod.name) for _ in range(3)))
            assert world.processes(pod.name) == []
            assert pod.name not in cluster.pods()
            await cluster.delete_pod(pod.name)
            await cluster.delete_pod("never-existed")
            assert (await cluster.capacity()).used.memory == 0
            with pytest.raises(errors.Gone):
                await cluster.dial(pod)
            with pytest.raises((errors.Gone, errors.Conflict)):
                await cluster.resize_pod(pod, SIZE)

        world.run(story)

    def test_deleting_while_it_warms(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            pod = await cluster.create_pod(world.template())
            waiting = asyncio.create_task(cluster.wait_pod(pod.name, 60))
            await asyncio.sleep(0)
            await cluster.delete_pod(pod.name)
            with pytest.raises(errors.AgentTimeout):
                await waiting
            assert world.processes(pod.name) == []

        world.run(story)

    def test_waiting_is_bounded(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            pod = await cluster.create_pod(world.template())
            with pytest.raises(errors.AgentTimeout, match="0 s"):
                await cluster.wait_pod(pod.name, 0)

        world.run(story)

    # -- resize ----------------------------------------------------------------------------

    def test_resize_up_and_down(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            pod, kernel = await world.claimed(cluster)
            await world.start(cluster, pod, kernel)
            for size in (
                Resources(cpu=1500, memory=768 * MIB),
                Resources(cpu=250, memory=768 * MIB),
                Resources(cpu=250, memory=256 * MIB),
            ):
                pod = await cluster.resize_pod(pod, size)
                assert pod.resources == size
                assert facts(cluster.pods()[pod.name]) == facts(pod)
                assert (await cluster.capacity()).used == size
                limit = world.memory_limit(pod.name)
                assert limit is None or limit == size.memory + pod.overhead
            usage = await (await cluster.dial(pod)).call("usage")
            assert usage["memory_limit"] == 256 * MIB

        world.run(story)

    def test_growing_over_the_quota_is_refused_with_figures(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            pod, _ = await world.claimed(cluster)
            before = world.memory_limit(pod.name)
            with pytest.raises(errors.QuotaFull, match=r"3 GiB .* of\s1 GiB are free"):
                await cluster.resize_pod(pod, Resources(cpu=500, memory=3072 * MIB))
            with pytest.raises(errors.QuotaFull, match=r"4500m CPU .* of 4 are free"):
                await cluster.resize_pod(pod, Resources(cpu=4500, memory=192 * MIB))
            assert facts(cluster.pods()[pod.name]) == facts(pod)
            assert world.memory_limit(pod.name) == before

        world.run(story, Resources(cpu=4000, memory=1024 * MIB))

    def test_shrinking_under_use_is_refused_with_figures(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            size = Resources(cpu=1000, memory=768 * MIB)
            pod, kernel = await world.claimed(cluster, size)
            answer = await world.start(cluster, pod, kernel)
            await execute(answer["connection"], "x = bytearray(300 * 2**20)")
            with pytest.raises(errors.ShrinkUnderUse, match=r"uses \d+.* MiB") as refused:
                await cluster.resize_pod(pod, Resources(cpu=1000, memory=256 * MIB))
            assert "at least" in refused.value.remedy
            assert facts(cluster.pods()[pod.name]) == facts(pod)
            limit = world.memory_limit(pod.name)
            assert limit is None or limit == size.memory + pod.overhead
            await execute(answer["connection"], "del x")
            pod = await cluster.resize_pod(pod, Resources(cpu=1000, memory=256 * MIB))
            assert pod.resources.memory == 256 * MIB

        world.run(story)

    def test_warm_pods_make_room_for_kernels_only(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            spare = await world.warm(cluster)
            pod, _ = await world.claimed(cluster)
            created = await asyncio.gather(
                *(cluster.create_pod(world.template()) for _ in range(6)), return_exceptions=True
            )
            assert any(isinstance(one, errors.QuotaFull) for one in created)
            assert spare.name in cluster.pods()
            pod = await cluster.resize_pod(pod, Resources(cpu=500, memory=700 * MIB))
            await until(lambda: set(cluster.pods()) == {pod.name})
            await until(lambda: not world.processes(spare.name))

        world.run(story, Resources(cpu=8000, memory=704 * MIB))

    # -- kernels ---------------------------------------------------------------------------

    def test_one_starter_per_kernel_id(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            other = world.make(world.capacity)
            await other.open()
            kernel = world.kernel()
            results = await asyncio.gather(
                *((cluster, other)[i % 2].create_kernel(kernel) for i in range(6)),
                return_exceptions=True,
            )
            await other.close()
            assert sum(isinstance(one, Kernel) for one in results) == 1
            assert sum(isinstance(one, errors.KernelExists) for one in results) == 5

        world.run(story)

    def test_kernel_records_are_compared_and_swapped(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            first = await cluster.create_kernel(world.kernel())
            second = await cluster.update_kernel(
                msgspec.structs.replace(first, phase=KernelPhase.STARTING)
            )
            assert second.version != first.version
            assert cluster.kernels()[first.kernel_id] == second
            with pytest.raises(errors.Conflict):
                await cluster.update_kernel(msgspec.structs.replace(first, name="late"))
            assert cluster.kernels()[first.kernel_id] == second
            await cluster.delete_kernel(first.kernel_id)
            await cluster.delete_kernel(first.kernel_id)
            assert first.kernel_id not in cluster.kernels()
            with pytest.raises(errors.Conflict):
                await cluster.update_kernel(second)
            again = await cluster.create_kernel(first)
            with pytest.raises(errors.Conflict):
                await cluster.update_kernel(second)
            assert again.version not in (first.version, second.version)

        world.run(story)

    def test_deleting_a_kernel_ends_its_pod(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            pod, kernel = await world.claimed(cluster)
            await world.start(cluster, pod, kernel)
            await cluster.delete_kernel(kernel.kernel_id)
            assert world.processes(pod.name) == []
            assert not cluster.pods()
            assert not cluster.kernels()

        world.run(story)

    # -- events ----------------------------------------------------------------------------

    def test_events_are_ordered_and_the_cache_shows_them(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            seen: list[Change] = []
            not_shown: list[Change] = []  # a cluster survives what its listeners raise

            def listen(change: Change) -> None:
                seen.append(change)
                view = cluster.kernels() if change.kind == "kernel" else cluster.pods()
                if change.kind in ("kernel", "pod") and view.get(change.name) != change.new:
                    not_shown.append(change)

            dispose = cluster.subscribe(listen)
            pod, kernel = await world.claimed(cluster)
            await cluster.delete_kernel(kernel.kernel_id)
            assert not_shown == []
            pods = [one for one in seen if one.kind == "pod" and one.name == pod.name]
            assert pods[0].old is None
            assert pods[-1].new is None
            for before, after in itertools.pairwise(pods):
                assert after.old == before.new
            phases = [one.new.phase for one in pods if isinstance(one.new, Pod)]
            order = list(PodPhase)
            assert phases == sorted(phases, key=order.index)
            assert {PodPhase.WARMING, PodPhase.WARM, PodPhase.CLAIMED} <= set(phases)
            assert any(one.kind == "capacity" for one in seen)
            dispose()
            count = len(seen)
            await cluster.create_kernel(world.kernel())
            assert len(seen) == count

        world.run(story)

    def test_another_server_sees_everything(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            other = world.make(world.capacity)
            await other.open()
            pod, kernel = await world.claimed(cluster)
            await until(lambda: shows(other, pod))
            await until(lambda: kernel.kernel_id in other.kernels())
            assert (await other.capacity()) == (await cluster.capacity())
            await world.start(cluster, pod, kernel)
            hello = await (await other.dial(pod)).call("hello")
            assert (hello["pod"], hello["kernel_id"]) == (pod.name, kernel.kernel_id)
            bigger = await other.resize_pod(pod, Resources(cpu=500, memory=300 * MIB))
            await cluster.refresh_one("pod", pod.name)
            assert facts(cluster.pods()[pod.name]) == facts(bigger)
            await cluster.close()  # its server stops; the kernel runs on
            assert (await (await other.dial(pod)).call("status"))["alive"]
            third = world.make(world.capacity)
            await third.open()
            assert facts(third.pods()[pod.name]) == facts(bigger)
            await third.delete_kernel(kernel.kernel_id)
            await other.refresh_one("kernel", kernel.kernel_id)
            assert kernel.kernel_id not in other.kernels()
            await until(lambda: not other.pods())
            await other.close()
            await third.close()
            await cluster.open()

        world.run(story)

    # -- agents ----------------------------------------------------------------------------

    def test_refusals_keep_their_reason(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            agent = await cluster.dial(await world.warm(cluster))
            with pytest.raises(errors.ElasticError) as refused:
                await agent.call("no-such-operation")
            assert refused.value.reason == "UnknownOperation"
            assert (await agent.call("hello"))["phase"] == "warm"

        world.run(story)

    def test_an_agent_that_does_not_answer(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            agent = await cluster.dial(await world.warm(cluster))
            await agent.call("hello")
            with pytest.raises(errors.AgentUnreachable, match="within 0 s"):
                await agent.call("status", timeout=0)
            assert (await agent.call("status"))["phase"] == "warm"

        world.run(story)

    def test_a_killed_agent_is_a_lost_kernel(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            pod, kernel = await world.claimed(cluster)
            await world.start(cluster, pod, kernel)
            world.kill([world.agent_of(pod.name)])
            await until(lambda: cluster.pods()[pod.name].phase is PodPhase.GONE)
            gone = cluster.pods()[pod.name]
            assert gone.reason == "AgentLost"
            assert gone.message
            await until(lambda: not world.processes(pod.name))
            assert (await cluster.capacity()).used.memory == 0
            with pytest.raises(errors.Gone):
                await cluster.dial(gone)
            await cluster.delete_pod(pod.name)
            assert not cluster.pods()

        world.run(story)

    def test_a_wholly_killed_pod_comes_back_once(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            other = world.make(world.capacity)  # it also watches: still only once
            await other.open()
            pod, kernel = await world.claimed(cluster)
            first = await world.start(cluster, pod, kernel)
            world.kill_all(pod.name)
            await until(lambda: cluster.pods()[pod.name].restarts == 1)
            back = await cluster.wait_pod(pod.name, 120)
            assert (back.phase, back.kernel_id) == (PodPhase.CLAIMED, kernel.kernel_id)
            assert back.agent != pod.agent

            async def alive() -> bool:
                agent = await cluster.dial(back)
                return bool((await agent.call("status", timeout=60))["alive"])

            await until(alive)
            answer = await (await cluster.dial(back)).call("connection")
            assert await cluster.reach(back, answer["connection"]) == first["connection"]
            limit = world.memory_limit(pod.name)
            assert limit is None or limit == SIZE.memory + back.overhead
            world.kill_all(pod.name)
            await until(lambda: cluster.pods()[pod.name].phase is PodPhase.GONE)
            gone = cluster.pods()[pod.name]
            assert gone.reason == "ContainerKilled"
            assert "192 MiB" in gone.message
            await until(lambda: not world.processes(pod.name))
            assert gone.restarts == 1
            await until(lambda: other.pods()[pod.name].phase is PodPhase.GONE)
            assert other.pods()[pod.name].reason == gone.reason
            await other.close()

        world.run(story)

    def test_what_happened_while_no_server_was_there(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            lost, kernel_1 = await world.claimed(cluster)
            killed, kernel_2 = await world.claimed(cluster)
            await world.start(cluster, lost, kernel_1)
            await world.start(cluster, killed, kernel_2)
            agent = world.agent_of(lost.name)
            await cluster.close()
            world.kill([agent])
            ended = world.kill_all(killed.name)
            await until(lambda: not world.processes(lost.name))
            # A kubelet may have started it again before anybody looks.
            await until(lambda: not ended & set(world.processes(killed.name)))
            await cluster.open()
            await until(lambda: cluster.pods()[lost.name].phase is PodPhase.GONE)
            assert cluster.pods()[lost.name].reason == "AgentLost"
            await until(lambda: cluster.pods()[killed.name].restarts == 1)
            back = await cluster.wait_pod(killed.name, 120)
            assert back.kernel_id == kernel_2.kernel_id

        world.run(story)

    # -- controllers -----------------------------------------------------------------------

    def test_what_is_known_of_the_demand_is_kept_for_others(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            assert await cluster.kept_demand() == ""
            other = world.make(world.capacity)
            await other.open()
            for text in ("{}", '{"a": 1}'):
                await cluster.keep_demand(text)
                assert await other.kept_demand() == text
            await other.close()

        world.run(story)

    def test_how_the_pool_stands_is_told_to_others(self, world: World) -> None:
        row = PoolRow(
            template="a",
            target=2,
            warm=1,
            warming=1,
            reason="A fixed number, as set or by default.",
        )

        async def story(cluster: Cluster) -> None:
            other = world.make(world.capacity)
            await other.open()
            assert await cluster.acquire_lease("pool")  # on Kubernetes this makes the KernelPool
            for rows in (
                [row],
                [msgspec.structs.replace(row, failures=2, retry_at=1e9, message="Why not.")],
            ):
                await cluster.report_pool(rows)

                async def seen(rows: list[PoolRow] = rows) -> bool:
                    return list(await other.pool_report()) == rows

                await until(seen)
            await cluster.release_lease("pool")
            await other.close()

        world.run(story)

    def test_a_lease_has_one_holder(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            other = world.make(world.capacity)
            await other.open()
            assert await cluster.acquire_lease("pool")
            assert await cluster.acquire_lease("pool")
            assert not await other.acquire_lease("pool")
            assert await other.acquire_lease("another")
            await cluster.release_lease("pool")
            await cluster.release_lease("pool")
            assert await other.acquire_lease("pool")
            assert not await cluster.acquire_lease("pool")
            await other.close()  # a holder that goes away lets it go
            assert await cluster.acquire_lease("pool")

        world.run(story)


async def execute(connection: dict[str, Any], code: str) -> None:
    """Run code in a kernel and see it succeed."""
    from jupyter_client.asynchronous.client import AsyncKernelClient

    client = AsyncKernelClient()
    client.load_connection_info(cast(Any, connection))
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=60)
        reply = await client.execute_interactive(code, timeout=60, output_hook=lambda _m: None)
        assert reply["content"]["status"] == "ok", reply["content"]
    finally:
        client.stop_channels()
