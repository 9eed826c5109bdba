"""The controller over the real local cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace
from traitlets import TraitError

from jupyter_elastic.cluster.local import LocalCluster
from jupyter_elastic.errors import Forbidden, QuotaFull
from jupyter_elastic.kernels.poolsettings import ElasticPool
from jupyter_elastic.kernels.settings import ElasticLocal
from jupyter_elastic.model import Capacity, Kernel, Pod, PodPhase, Template
from jupyter_elastic.pool.controller import RESYNC, PoolController
from jupyter_elastic.resources import GIB, MIB, Resources
from jupyter_elastic.templates import Machine, parse_template


def template(name: str = "a", size: int = 1, ttl: float = 600, **more: Any) -> Template:
    data = {"name": name, "display_name": name, "pool": {"size": size, "ttl": ttl}, **more}
    return parse_template(data, "test", Machine.here())


@asynccontextmanager
async def kept(
    state_dir: Path, offered: dict[str, Template], clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[tuple[LocalCluster, PoolController]]:
    """A cluster whose pool is kept; everything ends with it."""
    cluster = LocalCluster(**ElasticLocal(state_dir=str(state_dir)).options())
    await cluster.open()
    controller = PoolController(cluster, lambda: offered, refill_delay=0, monotonic=clock)
    controller.start()
    try:
        yield cluster, controller
    finally:
        await controller.stop()
        for name in list(cluster.pods()):
            await cluster.delete_pod(name)
        await cluster.close()


def warm(cluster: LocalCluster, version: str | None = None) -> list[Pod]:
    return [
        p
        for p in cluster.pods().values()
        if p.phase is PodPhase.WARM and version in (None, p.template_hash)
    ]


async def until(condition: Any, what: str, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        await asyncio.sleep(0.02)


def test_fills_refills_and_never_creates_too_many(state_dir: Path) -> None:
    async def scenario() -> None:
        async with kept(state_dir, {"a": template(size=2)}) as (cluster, controller):
            most = 0

            def count(_: object) -> None:
                nonlocal most
                alive = [p for p in cluster.pods().values() if p.phase is not PodPhase.GONE]
                most = max(most, len(alive))
                controller.wake()

            cluster.subscribe(count)
            await until(lambda: len(warm(cluster)) == 2, "two warm pods")
            lost = warm(cluster)[0]
            await cluster.delete_pod(lost.name)
            await until(lambda: len(warm(cluster)) == 2, "the lost pod replaced")
            assert lost.name not in cluster.pods()
            assert most == 2

    asyncio.run(scenario())


def test_renews_old_pods_and_changed_templates_without_a_dip(state_dir: Path) -> None:
    async def scenario() -> None:
        offered = {"a": template()}
        async with kept(state_dir, offered) as (cluster, controller):
            await until(lambda: len(warm(cluster)) == 1, "a warm pod")
            fewest = 1

            def watch(_: object) -> None:
                nonlocal fewest
                fewest = min(fewest, len(warm(cluster)))

            cluster.subscribe(watch)
            (first,) = warm(cluster)

            offered["a"] = template(ttl=4)  # the ttl is no part of what a warm pod looks like
            controller.wake()
            await until(lambda: first.name not in cluster.pods(), "the old pod renewed")

            changed = template(env={"NEW": "1"})
            assert changed.hash != offered["a"].hash
            offered["a"] = changed
            controller.wake()
            await until(
                lambda: [p.template_hash for p in warm(cluster)] == [changed.hash],
                "the pod of the old template replaced",
            )
            assert fewest == 1

            del offered["a"]
            controller.wake()
            await until(lambda: not cluster.pods(), "the pool of a removed template given back")

    asyncio.run(scenario())


def test_a_broken_template_backs_off_and_starves_nobody(state_dir: Path) -> None:
    async def scenario() -> None:
        broken = template("broken", size=2, interpreter="/bin/false")
        offered = {"broken": broken, "good": template("good")}
        async with kept(state_dir, offered) as (cluster, controller):
            created = 0

            def count(change: Any) -> None:
                nonlocal created
                pod = change.new
                if change.old is None and isinstance(pod, Pod) and pod.template == "broken":
                    created += 1
                controller.wake()

            cluster.subscribe(count)
            await until(lambda: "broken" in controller.messages, "a message about it")
            await until(lambda: any(p.template == "good" for p in warm(cluster)), "the good one")
            assert controller.messages["broken"]
            assert created <= 6, "it backs off instead of trying on and on"
            assert "good" not in controller.messages

    asyncio.run(scenario())


def test_stops_at_once_also_when_it_is_just_woken(state_dir: Path) -> None:
    """A cancellation that comes together with a wake-up is not lost."""

    async def scenario() -> None:
        async with kept(state_dir, {}) as (cluster, _):
            for _ in range(50):
                controller = PoolController(cluster, dict, refill_delay=0)
                controller.start()
                await asyncio.sleep(0.003)
                controller.wake()
                await asyncio.sleep(0)
                await asyncio.wait_for(controller.stop(), 5)
                assert not controller.leading

    asyncio.run(scenario())


@asynccontextmanager
async def on_a_full_machine(
    state_dir: Path, clock: Callable[[], float]
) -> AsyncIterator[tuple[LocalCluster, PoolController, Pod]]:
    """A pool of one that has no room, because of the pod of a kernel."""
    full = Resources(cpu=4000, memory=256 * MIB)
    local = ElasticLocal(state_dir=str(state_dir)).options()
    cluster = LocalCluster(**{**local, "capacity": full})
    await cluster.open()
    offered = {"a": template(resources={"cpu": "1", "memory": "256Mi"})}
    asked = Resources(cpu=1000, memory=256 * MIB)
    kernel = await cluster.create_kernel(
        Kernel(kernel_id=str(uuid4()), owner="me", template="a", resources=asked, created=0)
    )
    pod = await cluster.create_pod(offered["a"], kernel=kernel)
    controller = PoolController(cluster, lambda: offered, refill_delay=0, monotonic=clock)
    controller.start()
    try:
        said = "0 of the 1 configured, because room for warm pods is short of memory"
        await until(lambda: controller.reasons()["a"].startswith(said), "the reason")
        yield cluster, controller, pod
    finally:
        await controller.stop()
        await cluster.delete_kernel(kernel.kernel_id)
        for name in list(cluster.pods()):
            await cluster.delete_pod(name)
        await cluster.close()


def test_room_that_is_given_back_is_used_at_once(state_dir: Path) -> None:
    async def scenario() -> None:
        # The clock stands: no waiting time passes by itself.
        async with on_a_full_machine(state_dir, lambda: 1e9) as (cluster, controller, pod):
            await cluster.delete_pod(pod.name)
            await until(lambda: warm(cluster), "a warm pod")
            assert controller.messages == {}

    asyncio.run(scenario())


def test_a_full_machine_is_no_reason_for_a_back_off_that_grows(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        now, attempts = 1e9, 0

        async def refuse(*words: Any, **fields: Any) -> Pod:
            nonlocal attempts
            attempts += 1
            raise QuotaFull("No room, though the books say otherwise.")

        async with kept(state_dir, {"a": template()}, lambda: now) as (cluster, controller):
            monkeypatch.setattr(cluster, "create_pod", refuse)
            for i in range(1, 9):  # doubling, the ninth attempt would come after 256 s
                now += RESYNC * 1.2
                controller.wake()
                await until(lambda i=i: attempts == i, f"attempt {i}")

    asyncio.run(scenario())


def test_a_predicted_pool_follows_the_starts(state_dir: Path) -> None:
    """One pod for a newcomer; more while starts come in a burst; why, in words."""
    offered = {"a": template(size=0), "b": template("b", size=1)}
    offered["a"] = replace(offered["a"], pool=replace(offered["a"].pool, predict=True))

    async def scenario() -> None:
        async with kept(state_dir, offered) as (cluster, controller):
            await until(lambda: controller.targets() == {"a": 1, "b": 1}, "one for a newcomer")
            assert "until it is known" in controller.goals()["a"].reason
            for _ in range(12):
                await cluster.create_kernel(
                    Kernel(
                        kernel_id=str(uuid4()),
                        owner="ada",
                        template="a",
                        created=time.time(),
                        resources=Resources(cpu=100, memory=64 * MIB),
                        start="warm",
                    )
                )
            await until(lambda: controller.targets()["a"] >= 2, "more while they come fast")
            goal = controller.goals()["a"]
            assert "expected" in goal.reason, "people read why"
            assert controller.targets()["b"] == 1, "what an admin fixed stays"
            await until(
                lambda: sum(pod.template == "a" for pod in warm(cluster)) >= 2, "they are made"
            )

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("schedule", "said"),
    [({"a": ["soon"]}, "schedule"), ({"a": ["40 by Monday 9:00"], "b": ["9 by 9:00"]}, "9 by 9")],
)
def test_a_schedule_that_cannot_be_read_is_refused(schedule: Any, said: str) -> None:
    with pytest.raises(TraitError, match=said):
        ElasticPool(schedule=schedule)


def test_a_schedule_is_a_floor_of_the_prediction() -> None:
    foresight = ElasticPool(schedule={"a": ["7 by daily 0:00 for 24h"]}).foresight(gives_gpus=False)
    offered = template(size=2)
    room = Capacity(total=Resources(cpu=100_000, memory=64 * GIB), used=Resources(cpu=0, memory=0))
    found = foresight.targets({"a": offered}, {}, room, (), time.time())["a"]
    assert found.size == 7
    assert "7 by every day 0:00" in found.reason


def test_what_is_known_of_the_demand_outlives_its_controller(state_dir: Path) -> None:
    offered = {"a": template(size=0)}
    offered["a"] = replace(offered["a"], pool=replace(offered["a"].pool, predict=True))

    async def scenario() -> None:
        async with kept(state_dir, offered) as (cluster, controller):
            await until(lambda: controller.leading, "it keeps the pool")
            for _ in range(3):
                controller.foresight.demand_of("a", time.time()).observe(time.time(), hit=True)
            await controller.stop()
            following = PoolController(cluster, lambda: offered, refill_delay=0)
            following.start()
            known = following.foresight.demand
            await until(lambda: "a" in known and known["a"].hits == 3, "the next one knows it")
            await following.stop()

            await cluster.keep_demand("{ no JSON")
            third = PoolController(cluster, lambda: offered, refill_delay=0)
            third.start()
            await until(lambda: third.targets() == {"a": 1}, "damage does not stop the pool")
            await third.stop()

    asyncio.run(scenario())


def test_that_the_demand_cannot_be_kept_is_said_once(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As under a Role of an older version, which does not allow it; the pool goes on."""
    caplog.set_level("DEBUG", "jupyter_elastic")
    offered = {"a": template(size=0)}
    offered["a"] = replace(offered["a"], pool=replace(offered["a"].pool, predict=True))
    monkeypatch.setattr("jupyter_elastic.pool.controller.KEEP_PERIOD", 0.0)
    tried: list[str] = []

    async def scenario() -> None:
        async with kept(state_dir, offered) as (cluster, controller):
            keep = cluster.keep_demand

            async def refuse(text: str) -> None:
                tried.append(text)
                raise Forbidden("This server may not patch configmaps.")

            monkeypatch.setattr(cluster, "keep_demand", refuse)
            await until(lambda: controller.leading, "it keeps the pool")
            while len(tried) < 3:
                controller.wake()
                await asyncio.sleep(0.02)
            said = [one for one in caplog.records if "could not be kept" in one.getMessage()]
            assert len(said) >= 3
            assert [one.levelname for one in said].count("WARNING") == 1
            monkeypatch.setattr(cluster, "keep_demand", keep)

    asyncio.run(scenario())
