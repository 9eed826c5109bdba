"""The controller over a model of a cluster where everything goes wrong, in virtual time."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jupyter_elastic.model import PodPhase
from jupyter_elastic.pool.actor import Pace
from jupyter_elastic.pool.controller import PoolController
from jupyter_elastic.pool.troubles import MAX_BACKOFF

from .model_cluster import BURST, LEASE, RATE, ModelCluster, World, kill
from .virtual_time import VirtualLoop

SOAK = bool(os.environ.get("JUPYTER_ELASTIC_SOAK"))
pytestmark = [pytest.mark.fault, pytest.mark.timeout(1800 if SOAK else 120)]
PACE = Pace(rate=RATE, burst=BURST, at_once=3, warming_grace=60)
NAMES = st.sampled_from(["a", "b", "c"])
PATIENCE = 60 + 1.2 * MAX_BACKOFF + 120
"""Seconds within which all is well once nothing is disturbed any more."""

SILENT = logging.getLogger("tests.pool.silent")
SILENT.propagate = False
SILENT.addHandler(logging.NullHandler())


class PoolUnderAttack(RuleBasedStateMachine):
    """Three templates, up to three controllers, and a world that is against them."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        asyncio.set_event_loop(self.loop)
        self.world = World(self.loop)
        self.controllers: list[PoolController] = []
        self.version = self.born = 0

    # -- helpers ---------------------------------------------------------------------------

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def pass_by(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    async def _begin(self) -> None:
        self.born += 1
        cluster = ModelCluster(self.world, f"controller-{self.born}")
        controller = PoolController(
            cluster,
            lambda: self.world.templates,
            refill_delay=0,
            pace=PACE,
            log=SILENT,
            clock=self.world.now,
            monotonic=self.loop.time,
            rng=random.Random(self.born),
        )
        controller.start()
        self.controllers.append(controller)

    def client(self, number: int) -> ModelCluster:
        cluster = self.controllers[number % len(self.controllers)].cluster
        assert isinstance(cluster, ModelCluster)
        return cluster

    # -- what happens ----------------------------------------------------------------------

    @initialize(
        sizes=st.lists(st.integers(0, 5), min_size=3, max_size=3),
        predicted=st.lists(st.booleans(), min_size=3, max_size=3),
    )
    def offer(self, sizes: list[int], predicted: list[bool]) -> None:
        for name, size, predict in zip("abc", sizes, predicted, strict=True):
            self.world.offer(name, 0 if predict else size, predict=predict)
        self.run(self._begin())

    @rule(seconds=st.sampled_from([0.005, 0.05, 0.5, 2, 5, 20, 90]))
    def time_passes(self, seconds: float) -> None:
        self.pass_by(seconds)

    @rule(name=NAMES, count=st.integers(1, 5))
    def kernels_start(self, name: str, count: int) -> None:
        for _ in range(count):
            if not self.world.claim(name) and name in self.world.templates:
                self.world.start_cold(name)

    @rule(count=st.integers(1, 8))
    def kernels_end(self, count: int) -> None:
        self.world.end_kernels(count)

    @rule(name=NAMES, size=st.integers(0, 6))
    def target_changes(self, name: str, size: int) -> None:
        self.world.offer(name, size, version=self.version)

    @rule(name=NAMES, size=st.integers(0, 4), ttl=st.sampled_from([0, 30, 3600]))
    def template_changes(self, name: str, size: int, ttl: float) -> None:
        self.version += 1
        self.world.offer(name, size, ttl, self.version)

    @rule(name=NAMES, size=st.integers(0, 1), ttl=st.sampled_from([0, 30]))
    def template_is_predicted(self, name: str, size: int, ttl: float) -> None:
        """One that nobody has started yet gets one pod."""
        self.version += 1
        self.world.offer(name, size, ttl, self.version, predict=True)

    @precondition(lambda self: any(one.pool.predict for one in self.world.templates.values()))
    @rule()
    def predicted_templates_change(self) -> None:
        self.version += 1
        for name, one in list(self.world.templates.items()):
            if one.pool.predict:
                self.world.offer(name, one.pool.size, one.pool.ttl, self.version, predict=True)

    @rule(name=NAMES)
    def template_goes(self, name: str) -> None:
        self.world.withdraw(name)

    @rule(name=NAMES, how=st.sampled_from(["good", "broken", "stuck", "silent", "refused"]))
    def template_breaks(self, name: str, how: str) -> None:
        self.world.behaviour[name] = how

    @rule(limit=st.integers(0, 30))
    def quota_changes(self, limit: int) -> None:
        self.world.limit = limit

    @rule(number=st.integers(0, 2), lag=st.sampled_from([0, 0.5, 3, 20]))
    def watch_lags(self, number: int, lag: float) -> None:
        self.client(number).lag = lag

    @rule(number=st.integers(0, 2))
    def watch_stalls(self, number: int) -> None:
        self.client(number).is_stalled = True

    @rule(number=st.integers(0, 2))
    def watch_goes_on(self, number: int) -> None:
        self.client(number).resume()

    @rule(number=st.integers(0, 2), cut=st.booleans())
    def network_fails(self, number: int, cut: bool) -> None:
        self.client(number).is_cut = cut

    @rule(
        number=st.integers(0, 2),
        faults=st.lists(st.sampled_from(["", "before", "after", "bug"]), max_size=4),
    )
    def creations_fail(self, number: int, faults: list[str]) -> None:
        self.client(number).faults.extend(faults)

    @rule(
        number=st.integers(0, 2), faults=st.lists(st.sampled_from(["before", "after"]), max_size=3)
    )
    def deletions_fail(self, number: int, faults: list[str]) -> None:
        self.client(number).deletion_faults.extend(faults)

    @rule(number=st.integers(0, 2), latency=st.sampled_from([0.01, 0.2, 1.5]))
    def answers_are_slow(self, number: int, latency: float) -> None:
        self.client(number).latency = latency

    @rule(seconds=st.sampled_from([0.2, 15, 60]))
    def nodes_are_slow(self, seconds: float) -> None:
        self.world.deletion_takes = seconds

    @rule(hours=st.sampled_from([-30, -1, 1, 30]))
    def wall_clock_is_set(self, hours: int) -> None:
        self.world.wall += hours * 3600

    @rule()
    def leases_are_stolen(self) -> None:
        self.world.steal_leases()

    @precondition(lambda self: len(self.controllers) < 3)
    @rule()
    def controller_comes(self) -> None:
        self.run(self._begin())

    @precondition(lambda self: self.controllers)
    @rule(number=st.integers(0, 2), crash=st.booleans())
    def controller_goes(self, number: int, crash: bool) -> None:
        controller = self.controllers.pop(number % len(self.controllers))
        if crash:
            self.run(kill(controller))
        else:
            self.run(controller.stop())
            self.world.clients.remove(controller.cluster)  # type: ignore[arg-type]
        if not self.controllers:
            self.run(self._begin())

    # -- what must hold --------------------------------------------------------------------

    @invariant()
    def nobody_did_what_must_not_be_done(self) -> None:
        assert not self.world.violations, self.world.violations

    def teardown(self) -> None:
        try:
            if self.controllers:
                self._heal()
                self._converges()
        finally:
            for controller in self.controllers:
                self.run(controller.stop())
            # What was under way at the end has ended, too.
            self.pass_by(0)
            left = asyncio.all_tasks(self.loop)
            self.loop.close()
            asyncio.set_event_loop(None)
        assert not left

    def _heal(self) -> None:
        world = self.world
        for controller in self.controllers:
            client = controller.cluster
            assert isinstance(client, ModelCluster)
            client.is_cut, client.lag, client.latency = False, 0, 0.01
            client.faults.clear()
            client.deletion_faults.clear()
            client.resume()
        world.deletion_takes = 0.2
        world.limit = 300  # a tenth is room for all that are replaced
        for name in world.behaviour:
            world.behaviour[name] = "good"

    def _converges(self) -> None:
        self.pass_by(2 * LEASE)  # whoever lost a lease knows it by then
        deadline = self.loop.time() + PATIENCE
        while (wrong := self._wrong()) and self.loop.time() < deadline:
            self.pass_by(5)
        assert not wrong, wrong
        # And stays so: nothing flaps.
        made = sum(self.world.creations.values())
        ttls = [one.pool.ttl for one in self.world.templates.values()]
        self.pass_by(60)
        assert not self._wrong() or 30 in ttls
        if 30 not in ttls:
            assert sum(self.world.creations.values()) == made
        assert not self.world.violations, self.world.violations

    def _wrong(self) -> str:
        """What is not yet as it should be."""
        world = self.world
        leaders = [one for one in self.controllers if one.leading]
        if len(leaders) != 1:
            return f"{len(leaders)} controllers lead"
        for pod in world.spare():
            template = world.templates.get(pod.template)
            if template is None or template.hash != pod.template_hash:
                return f"{pod.name} is of no use"
        for name, template in world.templates.items():
            spare = world.spare(name)
            warm = [pod for pod in spare if pod.phase is PodPhase.WARM]
            wanted = template.pool.size
            if template.pool.predict:
                wanted = max(1, wanted)
            if not len(warm) == len(spare) == wanted:
                return f"{name}: {len(warm)} warm and {len(spare)} in all of {wanted}"
        (leader,) = leaders
        if len(leader.expect) or leader.messages:
            return f"it still waits: {len(leader.expect)}, {leader.messages}"
        return ""


PoolUnderAttack.TestCase.settings = settings(
    max_examples=500 if SOAK else 50,
    stateful_step_count=60 if SOAK else 30,
    derandomize=not SOAK,  # `make soak` tells other stories each time
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestPoolUnderAttack = PoolUnderAttack.TestCase
