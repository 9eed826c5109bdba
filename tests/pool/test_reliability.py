"""How the controller holds up, in virtual time: each figure of docs/reliability.md is one here."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from jupyter_elastic.model import PodPhase
from jupyter_elastic.pool.actor import Pace
from jupyter_elastic.pool.controller import PoolController

from .model_cluster import BURST, RATE, ModelCluster, World, kill
from .virtual_time import VirtualLoop, run

PACE = Pace(rate=RATE, burst=BURST)


class Stage:
    """A world and its controllers."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop, self.world = loop, World(loop)
        self.controllers: list[PoolController] = []

    def controller(self, pace: Pace = PACE, kind: type[PoolController] = PoolController) -> Any:
        """One more; the first one leads."""
        number = len(self.controllers) + 1
        controller = kind(
            ModelCluster(self.world, f"controller-{number}"),
            lambda: self.world.templates,
            refill_delay=0,
            pace=pace,
            clock=self.world.now,
            monotonic=self.loop.time,
            rng=random.Random(number),
        )
        controller.start()
        self.controllers.append(controller)
        return controller

    def client(self, number: int = 0) -> ModelCluster:
        cluster = self.controllers[number].cluster
        assert isinstance(cluster, ModelCluster)
        return cluster

    async def until(self, condition: Callable[[], Any], within: float) -> float:
        """How long it took, in virtual seconds."""
        begun = self.loop.time()
        while not condition():
            assert self.loop.time() - begun <= within, f"not within {within} s"
            await asyncio.sleep(0.02)
        return self.loop.time() - begun

    def is_full(self, *names: str) -> bool:
        return all(
            self.world.warm(name) == self.world.templates[name].pool.size
            for name in names or self.world.templates
        )

    async def end(self) -> None:
        for controller in self.controllers:
            await controller.stop()
        assert not self.world.violations


def staged(scenario: Callable[[Stage], Any]) -> Callable[[], None]:
    """Run a test on a stage."""

    def test() -> None:
        async def play(loop: VirtualLoop) -> None:
            stage = Stage(loop)
            await scenario(stage)
            await stage.end()

        run(play)

    test.__name__, test.__doc__ = scenario.__name__, scenario.__doc__
    return test


# -- who acts ------------------------------------------------------------------------------


@staged
async def test_a_killed_leader_is_replaced_within_15_s(stage: Stage) -> None:
    stage.world.offer("a", 3)
    for _ in range(3):
        stage.controller()
    await stage.until(lambda: stage.is_full(), 30)
    (leader,) = [one for one in stage.controllers if one.leading]
    await kill(leader)
    assert stage.world.claim("a")
    made = sum(stage.world.creations.values())
    await stage.until(lambda: sum(stage.world.creations.values()) > made, 15)


class OneOfMany(PoolController):
    """One of hundreds in its process, of predicted templates; notes what it asks for."""

    asked: list[str]

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more, spread=10.0)
        self.asked = []
        cluster: Any = self.cluster

        async def kept_demand() -> str:
            self.asked.append("leading" if self.leading else "standing by")
            return ""

        cluster.kept_demand = kept_demand
        cluster.pool_predicts = lambda _template: True


@staged
async def test_who_stands_by_for_many_pools_knows_before_its_term_what_is_kept(
    stage: Stage,
) -> None:
    """Else hundreds of terms that begin at once would begin with hundreds of requests."""
    stage.world.offer("a", 3)
    first, second = (stage.controller(kind=OneOfMany) for _ in range(2))
    await stage.until(lambda: stage.is_full(), 30)
    await asyncio.sleep(30)
    assert (first.asked, second.asked) == (["leading"], ["standing by"])
    assert first.is_prepared
    assert second.is_prepared
    await first.halt()
    await first.term.give_up()
    await stage.until(lambda: second.leading, 2)
    assert stage.world.claim("a")
    await stage.until(lambda: stage.is_full(), 10)
    assert second.asked == ["standing by"]


@staged
async def test_a_leader_that_stops_hands_over_within_2_s(stage: Stage) -> None:
    stage.world.offer("a", 3)
    for _ in range(3):
        stage.controller()
    await stage.until(lambda: stage.is_full(), 30)
    (leader,) = [one for one in stage.controllers if one.leading]
    assert stage.world.claim("a")
    made = sum(stage.world.creations.values())
    await leader.stop()
    await stage.until(lambda: sum(stage.world.creations.values()) > made, 2)


@staged
async def test_a_new_leader_sees_what_the_old_one_did_before_it_acts(stage: Stage) -> None:
    stage.controller()
    await stage.until(lambda: stage.controllers[0].leading, 5)
    stage.controller()
    stage.client(1).is_stalled = True
    stage.world.offer("a", 5)
    stage.controllers[0].wake()
    await stage.until(lambda: stage.is_full(), 30)
    assert not stage.client(1).pods()
    await kill(stage.controllers[0])
    await stage.until(lambda: stage.controllers[1].leading, 15)
    await asyncio.sleep(5)
    assert sum(stage.world.creations.values()) == 5


@staged
async def test_who_lost_the_lease_stops_acting_before_others_begin(stage: Stage) -> None:
    """A leader that is cut off from the API and comes back does not go on where it was."""
    stage.world.offer("a", 0)
    stage.controller(Pace(rate=RATE, burst=BURST, at_once=1))
    await stage.until(lambda: stage.controllers[0].leading, 5)
    client = stage.client()
    client.latency = 1.0  # creations last longer than the lease
    stage.world.offer("a", 12)
    stage.controllers[0].wake()
    await stage.until(lambda: stage.world.creations["a"] >= 1, 10)
    stage.world.steal_leases()
    stage.world.leases["pool"].holder = "somebody else"
    await stage.until(lambda: not stage.controllers[0].leading, 6)
    made = stage.world.creations["a"]
    await asyncio.sleep(8)
    assert stage.world.creations["a"] <= made + 1  # the one that was on its way


@staged
async def test_two_leaders_for_a_moment_do_no_harm(stage: Stage) -> None:
    """Both fill the same pool: the surplus goes again, and no kernel's pod with it."""
    stage.world.offer("a", 0)
    for _ in range(2):
        stage.controller()
    await stage.until(lambda: any(one.leading for one in stage.controllers), 5)
    await asyncio.sleep(1)
    stage.world.steal_leases()
    stage.world.offer("a", 5)
    for number, controller in enumerate(stage.controllers):
        stage.client(number).latency = 0.3
        controller.wake()
    await stage.until(lambda: all(one.leading for one in stage.controllers), 5)
    most = 0

    def count(_: object) -> None:
        nonlocal most
        most = max(most, len(stage.world.spare("a")))

    stage.client().subscribe(count)
    await stage.until(lambda: stage.world.warm("a") >= 4, 10)
    assert 5 < most <= 10
    for _ in range(4):
        stage.world.claim("a")
    await stage.until(lambda: sum(one.leading for one in stage.controllers) == 1, 15)
    await stage.until(lambda: stage.is_full() and len(stage.world.spare()) == 5, 30)
    claimed = [pod for pod in stage.world.pods.values() if pod.phase is PodPhase.CLAIMED]
    assert len(claimed) == 4


@staged
async def test_slow_nodes_cost_neither_the_lease_nor_new_pods(stage: Stage) -> None:
    """Pods that take a minute to end are not waited for, neither one by one nor together."""
    stage.world.offer("a", 10)
    stage.world.offer("b", 0)
    for _ in range(2):
        stage.controller()
    await stage.until(lambda: stage.is_full(), 60)
    stage.world.deletion_takes = 60
    (leader,) = [one for one in stage.controllers if one.leading]
    stage.world.offer("a", 0)
    leader.wake()
    await asyncio.sleep(1)
    stage.world.offer("b", 4)
    leader.wake()
    await stage.until(lambda: stage.is_full("b"), 15)
    assert stage.world.pods  # those of the other template are still ending
    assert leader.leading
    await stage.until(lambda: not stage.world.spare("a"), 200)


# -- claims that race ----------------------------------------------------------------------


@staged
async def test_a_pod_that_was_claimed_a_moment_ago_is_not_deleted(stage: Stage) -> None:
    stage.world.offer("a", 3)
    stage.controller()
    await stage.until(lambda: stage.is_full(), 30)
    stage.client().is_stalled = True  # the controller does not hear of the claims
    for _ in range(3):
        assert stage.world.claim("a")
    stage.world.offer("a", 0)
    stage.controllers[0].wake()
    await asyncio.sleep(30)
    phases = [pod.phase for pod in stage.world.pods.values()]
    assert phases == [PodPhase.CLAIMED] * 3


# -- counting what is not seen -------------------------------------------------------------


@staged
async def test_a_late_watch_makes_no_pod_twice(stage: Stage) -> None:
    stage.world.offer("a", 6)
    stage.controller()
    stage.client().is_stalled = True
    for _ in range(60):
        stage.controllers[0].wake()
        await asyncio.sleep(1)
    assert sum(stage.world.creations.values()) == 6


@staged
async def test_an_answer_that_is_lost_makes_no_pod_twice(stage: Stage) -> None:
    stage.world.offer("a", 2)
    stage.controller()
    stage.client().is_stalled = True
    stage.client().faults.extend(["after"])
    await asyncio.sleep(9)
    assert sum(stage.world.creations.values()) == 2
    stage.client().faults.extend(["before"] * 2)
    stage.client().resume()
    assert stage.world.claim("a")
    await asyncio.sleep(60)
    assert stage.is_full()


# -- pace, failures, room ------------------------------------------------------------------


@staged
async def test_a_large_burst_is_refilled_at_the_pace_that_is_allowed(stage: Stage) -> None:
    stage.world.limit = 300
    stage.world.offer("a", 60)
    stage.controller(Pace(rate=RATE, burst=BURST))
    took = await stage.until(lambda: stage.is_full(), 60)
    assert took >= (60 - BURST) / RATE  # the model counts the rest: no faster, in no second


@staged
async def test_refilling_waits_a_little_for_starts_that_wait_for_their_claims(stage: Stage) -> None:
    world = stage.world
    world.limit = 100
    world.offer("a", 20)
    stage.controller(Pace(rate=RATE, burst=BURST))
    await stage.until(stage.is_full, 60)
    made = world.creations["a"]
    world.ask("a", 12)
    for _ in range(6):
        world.claim("a")
    await asyncio.sleep(5)
    assert world.creations["a"] == made, "there are warm pods for all who wait"
    world.kernels.clear()  # they have theirs
    await stage.until(stage.is_full, 10)

    world.ask("a", 12)
    for _ in range(10):
        world.claim("a")
    await asyncio.sleep(2)
    assert world.creations["a"] > made + 6, "some would go cold"
    await stage.until(stage.is_full, 30)
    for _ in range(6):
        world.claim("a")
    await stage.until(stage.is_full, 25)  # also when the cluster never gets up with them


@staged
async def test_the_api_down_for_a_minute_in_a_burst_needs_no_hand(stage: Stage) -> None:
    stage.world.offer("a", 6)
    stage.world.offer("b", 3)
    for _ in range(3):
        stage.controller()
    await stage.until(lambda: stage.is_full(), 30)
    for _ in range(6):
        stage.world.claim("a")
    for number in range(3):
        stage.client(number).is_cut = True
    await asyncio.sleep(60)
    assert not any(one.leading for one in stage.controllers)
    for number in range(3):
        stage.client(number).is_cut = False
    await stage.until(lambda: stage.is_full(), 30)
    assert all(not one.messages for one in stage.controllers)


@staged
async def test_a_broken_template_starves_nobody_and_uses_little(stage: Stage) -> None:
    for name in ("a", "b", "bad"):
        stage.world.offer(name, 5)
    stage.world.behaviour["bad"] = "broken"
    controller = stage.controller()
    await stage.until(lambda: stage.is_full("a", "b"), 30)
    first = stage.world.creations["bad"]
    assert "broken" in controller.messages["bad"]
    await asyncio.sleep(3600)
    assert stage.world.creations["bad"] - first < 25  # one by one, at last every five minutes
    assert controller.leading
    stage.world.behaviour["bad"] = "good"
    await stage.until(lambda: stage.is_full(), 400)
    assert not controller.messages


@staged
async def test_a_pod_that_never_gets_warm_is_given_back(stage: Stage) -> None:
    stage.world.offer("stuck", 2)
    stage.world.behaviour["stuck"] = "stuck"
    controller = stage.controller()
    await asyncio.sleep(290)
    assert len(stage.world.spare("stuck")) == 2
    await stage.until(lambda: not stage.world.spare("stuck"), 20)
    assert "5 minutes" in controller.messages["stuck"]
    await asyncio.sleep(30)
    assert len(stage.world.spare("stuck")) == 1  # it is tried with one


@staged
async def test_a_template_that_no_node_takes_has_one_pod_waiting(stage: Stage) -> None:
    world = stage.world
    world.offer("a", 5)
    world.offer("far", 8)
    world.behaviour["far"] = "nodeless"
    controller = stage.controller()
    await stage.until(lambda: stage.is_full("a"), 30)
    assert len(world.spare("far")) == 1
    assert "No node takes" in controller.messages["far"]
    made = world.creations["far"]
    for _ in range(280):
        await asyncio.sleep(1)
        assert len(world.spare("far")) == 1
    assert world.creations["far"] == made, "nor is any made in vain meanwhile"
    await asyncio.sleep(3600)
    assert len(world.spare("far")) <= 1
    assert world.creations["far"] - made < 15, "when it is given up, the next comes after a pause"
    await stage.until(lambda: world.spare("far"), 400)
    world.add_node("far")
    await stage.until(stage.is_full, 60)
    assert not controller.messages


@staged
async def test_who_takes_over_says_that_no_node_takes_a_pod(stage: Stage) -> None:
    stage.world.offer("far", 3)
    stage.world.behaviour["far"] = "nodeless"
    first = stage.controller()
    await stage.until(lambda: "No node takes" in first.messages.get("far", ""), 30)
    await kill(first)
    next_one = stage.controller()
    await stage.until(lambda: next_one.leading, 30)
    await asyncio.sleep(1)
    assert "No node takes" in next_one.messages.get("far", "")
    stage.world.add_node("far")
    await stage.until(stage.is_full, 60)
    assert not next_one.messages


@staged
async def test_the_wall_clock_makes_no_pod_late(stage: Stage) -> None:
    stage.world.offer("a", 2, ttl=0)
    controller = stage.controller()
    await asyncio.sleep(1)
    stage.world.wall += 7200
    await stage.until(lambda: stage.is_full(), 10)
    assert not controller.messages
    assert sum(stage.world.creations.values()) == 2


@staged
async def test_outdated_pods_are_replaced_one_by_one_where_nothing_fits_beside(
    stage: Stage,
) -> None:
    stage.world.limit, stage.world.shows_limit = 4, False
    stage.world.offer("a", 4)
    stage.controller()
    await stage.until(lambda: stage.is_full(), 30)
    fewest = 4

    def watch(_: object) -> None:
        nonlocal fewest
        warm = [pod for pod in stage.world.spare("a") if pod.phase is PodPhase.WARM]
        fewest = min(fewest, len(warm))

    stage.client().subscribe(watch)
    stage.world.offer("a", 4, version=1)
    stage.controllers[0].wake()
    await stage.until(lambda: stage.is_full(), 120)
    assert fewest == 3


@staged
async def test_replacing_pods_keeps_below_95_percent_of_the_quota_as_well(stage: Stage) -> None:
    world = stage.world
    world.limit = 10
    world.offer("a", 8)
    controller = stage.controller()
    await stage.until(stage.is_full, 30)
    most, fewest = 0, 8

    def watch(_: object) -> None:
        nonlocal most, fewest
        most = max(most, world.alive())
        warm = [pod for pod in world.spare("a") if pod.phase is PodPhase.WARM]
        fewest = min(fewest, len(warm))

    stage.client().subscribe(watch)
    world.offer("a", 8, version=1)
    controller.wake()
    await stage.until(stage.is_full, 300)
    assert most == 9
    assert fewest == 8, "one after the other, with no dip"
    await stage.until(lambda: not controller.messages, 30)


@pytest.mark.parametrize("limit", [10, 30])
def test_replacing_what_is_predicted_keeps_within_a_tenth_of_the_quota(limit: int) -> None:
    async def play(loop: VirtualLoop) -> None:
        stage = Stage(loop)
        world, names = stage.world, "abc"[: limit // 10]
        world.limit = limit
        for name in names:
            world.offer(name, 0, predict=True, ttl=0)  # a new one gets one pod
        controller = stage.controller()

        def is_full() -> bool:
            hashes = [world.templates[name].hash for name in names]
            return [world.warm(name) for name in names] == [1] * len(names) and sorted(
                pod.template_hash for pod in world.spare()
            ) == sorted(hashes)

        await stage.until(is_full, 30)
        most = 0

        def watch(_: object) -> None:
            nonlocal most
            most = max(most, len(world.spare()))

        stage.client().subscribe(watch)
        for name in names:
            world.offer(name, 0, predict=True, version=1, ttl=0)
        controller.wake()
        await stage.until(is_full, 60)
        world.offer("a", 0, predict=True, version=1, ttl=60)
        controller.wake()
        await stage.until(is_full, 60)
        made = world.creations["a"]
        await stage.until(lambda: world.creations["a"] > made, 70)  # too old
        await stage.until(is_full, 30)
        assert most == limit // 10
        await stage.until(lambda: not controller.messages, 30)
        await stage.end()

    run(play)


@staged
async def test_a_lower_prediction_has_to_last_and_what_a_guard_cuts_has_not(stage: Stage) -> None:
    world = stage.world
    world.limit = 100
    world.offer("a", 0, predict=True)
    controller = stage.controller()
    await asyncio.sleep(1)
    for _ in range(20):  # a burst
        controller.foresight.demand_of("a", world.now()).observe(world.now(), hit=True)
    controller.wake()
    await stage.until(lambda: world.warm("a") == 10, 30)
    await asyncio.sleep(500)
    assert world.warm("a") == 10
    await stage.until(lambda: "wanted in the last 10 minutes" in stage.client().rows[0].reason, 60)
    for _ in range(88):
        world.start_cold("a")
    controller.wake()
    await stage.until(lambda: world.warm("a") == 6, 5)
    assert "with all other pods 95%" in controller.reasons()["a"]
    world.end_kernels(88)
    await stage.until(lambda: world.warm("a") == 10, 30)
    await stage.until(lambda: world.warm("a") < 10, 3600)


@staged
async def test_a_constant_size_keeps_below_95_percent_of_the_quota(stage: Stage) -> None:
    world = stage.world
    world.limit = 20
    world.offer("a", 12)
    world.offer("b", 6)
    controller = stage.controller()
    await stage.until(stage.is_full, 30)
    assert controller.reasons()["a"] == "A fixed number, as set or by default."
    for _ in range(2):
        world.start_cold("b")
    controller.wake()
    await stage.until(lambda: world.alive() == 18, 5)
    assert world.warm("a") == 11
    assert world.warm("b") == 5
    assert controller.reasons()["b"] == (
        "5 of the 6 configured, because room for warm pods is short of cpu (with all other pods"
        " they stay below 95% of the quota)."
    )
    world.end_kernels(2)
    await stage.until(stage.is_full, 30)


@staged
async def test_it_is_told_why(stage: Stage) -> None:
    """What anybody can read: the target's reason, what is missing, until when nothing is tried."""
    stage.world.offer("a", 2)
    stage.world.offer("bad", 1)
    stage.world.behaviour["bad"] = "refused"
    stage.controller()
    await asyncio.sleep(60)
    good, bad = stage.client().rows
    assert (good.warm, good.target, good.message, good.retry_at) == (2, 2, "", 0)
    assert good.reason == "A fixed number, as set or by default."
    assert "no such interpreter" in bad.message
    assert bad.failures >= 3
    assert bad.retry_at
