"""Keeps the warm pods of all templates at their targets, over any cluster.

Woken by changes (claims, ends, template edits) and by a slow resync. Whoever holds the lease acts;
every other process's controller stands by and takes over within seconds. It holds nothing that
must survive: what is there is read from the cluster each time, and what it remembers only keeps it
from doing things twice, or too fast.

The parts: :mod:`.term` says whether it is us who act, :mod:`.planner` decides (pure),
:mod:`.actor` carries out; :mod:`.goals`, :mod:`.expectations`, :mod:`.bucket` and :mod:`.troubles`
are what they need to remember.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

from .. import metrics
from ..cluster.base import Change, Cluster
from ..errors import ElasticError
from ..model import Capacity, Kernel, Pod, PodPhase, PoolRow, Template
from ..waits import event_or_timeout
from .actor import Actor, Pace
from .courtesy import LOOK as LOOK_AT_STARTS
from .courtesy import Courtesy, starting
from .expectations import Expectations
from .foresight import Foresight
from .goals import Goal
from .planner import Delete, Want, plan
from .term import Term
from .troubles import RESYNC as RESYNC
from .troubles import Troubles

LEASE = "pool"
LOOK = 5.0
"""Seconds after which the pool is looked at though nothing happened."""
KEEP_PERIOD = 300.0
"""Seconds between two times that what is known of the demand is kept for the next controller."""
REPORT_PERIOD = 5.0
"""Seconds between two reports of how the pool stands, at least."""


class PoolController:
    """One per process; :meth:`start` it once the cluster is open.

    Parameters
    ----------
    cluster
        Where pods run.
    templates
        Returns the templates offered now.
    refill_delay
        Seconds to wait after a claim before a new pod is warmed, so that warming does not
        compete with the first cell of the kernel that was just started.
    pace
        How fast the pool is changed.
    foresight
        What is known of the demand, and the guards, for templates that are predicted.
    lease
        The lease that whoever acts must hold; see :mod:`.shards`.
    spread
        Seconds over which what can wait is spread at the beginning of a term, by chance: where one
        process keeps hundreds of pools, all their terms begin at once.
    clock
        Seconds since the epoch, for the ages of pods; injected by tests.
    monotonic
        Seconds that only grow, for all else: a clock that is set must not hurt.
    rng
        For jitter.
    """

    def __init__(
        self,
        cluster: Cluster,
        templates: Callable[[], Mapping[str, Template]],
        *,
        refill_delay: float = 1.0,
        pace: Pace | None = None,
        foresight: Foresight | None = None,
        lease: str = LEASE,
        spread: float = 0.0,
        log: logging.Logger | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.cluster = cluster
        self.templates = templates
        self.refill_delay = refill_delay
        self.pace = pace or Pace()
        self.foresight = foresight or Foresight()
        self.lease = lease
        self.spread = spread
        self.log = log or logging.getLogger(__name__)
        self.clock = clock
        self.monotonic = monotonic
        self.capacity: Capacity | None = None
        """The quota when it was last looked at, by who keeps the pool."""
        self.owners_shown = 0
        """How many owners the metrics name."""
        self.namespace = ""
        """What the metrics call the pool, where a process keeps several."""
        self._rng = rng or random.Random()
        self._troubles = Troubles(self.pace.warming_grace, self._rng, self.log)
        self._courtesy: defaultdict[str, Courtesy] = defaultdict(Courtesy)
        self._sizes: dict[str, int] = {}
        self._whys: dict[str, str] = {}
        self._synced = False
        self._rows: tuple[PoolRow, ...] | None = None
        self._reported = -math.inf
        self._kept = -math.inf
        """When the demand was last kept, or recalled; never in this term at first."""
        self._recall_at = math.inf
        """When it is recalled although others lead, so that it is known when our term begins."""
        self._unkept = ""
        """Why the demand could not be kept the last time; it is said once."""
        self._wake = asyncio.Event()
        self._quiet_until = -math.inf
        self._more_in: float | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._dispose: Callable[[], None] | None = None
        self.term = Term(
            cluster, lease, self._begin_term, monotonic=monotonic, rng=self._rng, log=self.log
        )
        """Whether it is us who act; and how the lease is."""
        self.expect = Expectations()
        self._actor = Actor(
            cluster,
            templates,
            self._troubles,
            self.expect,
            self.pace,
            may_act=lambda: self.leading,
            has_room=self.foresight.has_room,
            clock=clock,
            monotonic=monotonic,
            log=self.log,
        )

    # -- life ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to keep the pool. Idempotent."""
        if not self._tasks:
            metrics.POOL.add(self)
            self._dispose = self.cluster.subscribe(self._on_change)
            if self.spread:
                self._recall_at = self.monotonic() + self._rng.uniform(0, self.spread)
            self._tasks = [
                asyncio.create_task(self.term.run(), name="elastic-pool-lease"),
                asyncio.create_task(self._run(), name="elastic-pool"),
            ]

    async def halt(self) -> None:
        """Do nothing more; :meth:`stop` is still to come. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._actor.close()

    async def stop(self) -> None:
        """Stop and let another controller take over at once. Warm pods stay."""
        if self._dispose:
            self._dispose()
            self._dispose = None
        if self._tasks:
            await self.halt()
            self._tasks = []
            # Of many, others stand by who know as much; hundreds of requests would hold them up.
            if self.leading and not self.spread and self._predicted(self.templates()):
                await self._keep_demand()
            await self.term.give_up()
            metrics.POOL.remove(self)

    def wake(self) -> None:
        """Look again soon (templates changed)."""
        self._wake.set()

    @property
    def leading(self) -> bool:
        """Whether this process keeps the pool now. Ends by itself when the lease may have."""
        return self.term.leading

    @property
    def is_prepared(self) -> bool:
        """Whether a term could begin without asking for what is kept of the demand."""
        return self.leading or self._recall_at == math.inf

    @property
    def messages(self) -> dict[str, str]:
        """Per template, why its target is not met."""
        return self._troubles.messages

    # -- targets: the seam to whatever decides how many ------------------------------------

    def goals(self) -> dict[str, Goal]:
        """How many warm pods are wanted of each template, and why."""
        templates = self.templates()
        goals = {name: self._goal(template) for name, template in templates.items()}
        if self.capacity is None:
            return goals
        predicted = self._predicted(templates)
        found = self.foresight.targets(
            {name: templates[name] for name, goal in goals.items() if goal.size is not None},
            {name: goal.size or 0 for name, goal in goals.items() if name not in predicted},
            self.capacity,
            self.cluster.pods().values(),
            self.clock(),
        )
        return goals | {name: Goal(one.size, one.reason) for name, one in found.items()}

    def _predicted(self, templates: Mapping[str, Template]) -> list[str]:
        return [
            name
            for name, template in templates.items()
            if self.cluster.pool_predicts(template) and self.cluster.pool_size(template) is not None
        ]

    def _goal(self, template: Template) -> Goal:
        size = self.cluster.pool_size(template)
        if size is None:
            return Goal(None, "The pool is paused.")
        return Goal(size, "A fixed number, as set or by default.")

    def targets(self) -> dict[str, int]:
        """Warm pods wanted, per template."""
        sizes = {name: goal.size or 0 for name, goal in self.goals().items()}
        if self.leading:
            sizes |= {name: size for name, size in self._sizes.items() if name in sizes}
        return sizes

    def reasons(self) -> dict[str, str]:
        """Why the targets are what they are, per template."""
        if self.leading and self._whys:
            return dict(self._whys)
        return {name: goal.reason for name, goal in self.goals().items()}

    def starts(self) -> dict[str, tuple[int, int]]:
        """Starts seen per template: those that found a warm pod, and those that did not."""
        return {name: (one.hits, one.misses) for name, one in self.foresight.demand.items()}

    def pauses(self) -> dict[str, float]:
        """Seconds for which no pod of a template is made; only where there is such a pause."""
        now = self.monotonic()
        left = {name: self._troubles.left(name, now) for name in self.templates()}
        return {name: seconds for name, seconds in left.items() if seconds}

    def _begin_term(self) -> None:
        metrics.LEADER_CHANGES.inc()
        self._synced = False
        if self.spread and self._kept > -math.inf:
            now = self.monotonic()
            self._kept = now - self._rng.uniform(0, KEEP_PERIOD)
            self._reported = now + self._rng.uniform(0, self.spread) - REPORT_PERIOD
        else:
            self._kept = -math.inf
        self._wake.set()

    # -- what happens ----------------------------------------------------------------------

    def _on_change(self, change: Change) -> None:
        now = self.monotonic()
        if change.kind == "lease":
            if change.name == self.lease:
                self.term.look()
        elif change.kind == "capacity":
            self._troubles.room_given()
            self._wake.set()
        elif change.kind == "kernel":
            if self.leading:
                metrics.count_kernel(change)
            before = change.old if isinstance(change.old, Kernel) else None
            after = change.new if isinstance(change.new, Kernel) else None
            self.foresight.saw_kernel(before, after, self.clock())
            if after is not None and before is None:
                self._quiet_until = now + self.refill_delay
        elif isinstance(change.new, Pod) or isinstance(change.old, Pod):
            old = change.old if isinstance(change.old, Pod) else None
            new = change.new if isinstance(change.new, Pod) else None
            self.foresight.saw_pod(old, new, self.clock())
            self.expect.see(change.name, new)
            self._troubles.see(old, new, now, leading=self.leading)
            if _gives_room(old, new):
                self._troubles.room_given()
            self._wake.set()

    # -- loop ------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            if self.leading:
                begun = self.monotonic()
                try:
                    await self._reconcile()
                    metrics.RECONCILE_SECONDS.observe(self.monotonic() - begun)
                except ElasticError as error:
                    metrics.RECONCILE_FAILURES.inc()
                    self.log.warning("The pool could not be looked after: %s", error)
                except Exception:
                    metrics.RECONCILE_FAILURES.inc()
                    self.log.exception("The pool could not be looked after")
            elif self.monotonic() >= self._recall_at:
                self._recall_at = math.inf
                if self._predicted(self.templates()):
                    await self._recall_demand()
            await self._sleep()

    async def _sleep(self) -> None:
        """Until woken (merging what comes within the refill delay) or it is time to look."""
        wait = LOOK * self._rng.uniform(0.8, 1.0)
        if self._more_in is not None:
            wait = min(wait, max(self._more_in, 0.02))
            self._more_in = None
        if not await event_or_timeout(self._wake, wait):
            return
        quiet = self._quiet_until - self.monotonic()
        await asyncio.sleep(min(max(quiet, 0.02), self.refill_delay or 0.02))
        self._wake.clear()

    async def _reconcile(self) -> None:
        self._wake.clear()
        await self._catch_up()
        now = self.monotonic()
        known = {pod.name: pod for pod in self.expect.apply(self.cluster.pods())}
        gone = self._actor.deleting
        pods = {pod.name: pod for pod in _waiting(known) if pod.name not in gone}
        self._troubles.find_pending(pods.values())
        overdue = self._give_up_overdue(pods, now)
        templates = self.templates()
        predicted = self._predicted(templates)
        if predicted and self._kept == -math.inf:
            await self._recall_demand()
        self.capacity = await self.cluster.capacity()
        goals = self.goals()
        wants = {
            name: self._want(template, goals[name], pods, now)
            for name, template in templates.items()
            if name in goals
        }
        self._sizes = {name: want.target for name, want in wants.items()}
        self._whys = {name: goals[name].reason for name in wants}
        self._troubles.keep(set(templates))
        ready = Counter(pod.template for pod in pods.values() if pod.phase is PodPhase.WARM)
        for name, want in wants.items():
            if ready[name] >= want.target:
                self._troubles.is_met(name)
        held = self._held(ready, now)
        actions = [*overdue, *plan(pods.values(), wants, self.clock())]
        actions = [one for one in actions if isinstance(one, Delete) or one.template not in held]
        self._more_in = await self._actor.carry_out(actions)
        if held:
            self._more_in = min(LOOK_AT_STARTS, self._more_in or LOOK_AT_STARTS)
        if self.leading:
            await self._report(wants)
            if predicted and now >= self._kept + KEEP_PERIOD:
                await self._keep_demand()

    async def _catch_up(self) -> None:
        """See what others did before our term, and what should have been seen long ago."""
        asked = self.monotonic()
        if self._synced and not self.expect.is_overdue(asked):
            return
        await self.cluster.refresh()
        self.expect.confirm(asked)
        self._synced = True

    async def _recall_demand(self) -> None:
        """Take what the controller before us knew; that it cannot be had must not stop the pool."""
        self._kept = self.monotonic()
        try:
            text = await self.cluster.kept_demand()
            self.foresight.restore(json.loads(text) if text else {}, self.clock())
        except (ElasticError, ValueError) as error:
            self.log.warning("What was known of the demand is not to be had: %s", error)

    async def _keep_demand(self) -> None:
        self._kept = self.monotonic()
        try:
            await self.cluster.keep_demand(json.dumps(self.foresight.to_json()))
        except ElasticError as error:
            level = logging.DEBUG if error.message == self._unkept else logging.WARNING
            self._unkept = error.message
            self.log.log(level, "What is known of the demand could not be kept: %s", error)
        else:
            self._unkept = ""

    def _give_up_overdue(self, pods: dict[str, Pod], now: float) -> list[Delete]:
        """Pods that will never be warm count as gone, and their templates as failing."""
        deletes = []
        for pod in self._troubles.overdue(pods, now):
            minutes = self.pace.warming_grace / 60
            message = f"Pod {pod.name} was not warm within {minutes:.0f} minutes. {pod.message}"
            self._troubles.failed(pod.template, message.strip(), now)
            deletes.append(Delete(pod.name, "it was not warm in time"))
            del pods[pod.name]
        return deletes

    def _held(self, ready: Mapping[str, int], now: float) -> set[str]:
        """Templates of which none is made now, because of starts that have no pod yet."""
        begun = starting(self.cluster.kernels().values(), self.clock())
        return {
            name
            for name, warm in ready.items()
            if self._courtesy[name].holds(begun[name], warm, now)
        }

    def _want(self, template: Template, goal: Goal, pods: dict[str, Pod], now: float) -> Want:
        name = template.name
        mine = [pod for pod in pods.values() if pod.template == name]
        size, blocked = goal.size, self._troubles.left(name, now) > 0
        if size is None:  # paused: make none, and take none away
            size, blocked = len(mine), True
        return Want(
            template=name,
            hash=template.hash,
            target=size,
            ttl=template.pool.ttl,
            blocked_until=math.inf if blocked else 0,
            failing=self._troubles.failures(name) > 0,
        )

    # -- report ----------------------------------------------------------------------------

    async def _report(self, wants: Mapping[str, Want]) -> None:
        """Let the cluster keep how the pool stands, when that has changed, and not too often."""
        now = self.monotonic()
        if now < self._reported + REPORT_PERIOD:
            return
        rows = tuple(self._row(name, wants[name], now) for name in sorted(wants))
        if rows != self._rows:
            await self.cluster.report_pool(rows)
            self._reported, self._rows = now, rows

    def _row(self, name: str, want: Want, now: float) -> PoolRow:
        pods = _waiting(self.cluster.pods())
        counts = Counter(pod.phase for pod in pods if pod.template == name)
        left = self._troubles.left(name, now)
        return PoolRow(
            template=name,
            target=want.target,
            warm=counts[PodPhase.WARM],
            warming=counts[PodPhase.WARMING],
            message=self.messages.get(name, ""),
            reason=self._whys[name],
            failures=self._troubles.failures(name),
            # Coarse, so that the same pause does not make two reports.
            retry_at=round((self.clock() + left) / 10) * 10 if left else 0,
        )


def _waiting(pods: Mapping[str, Pod]) -> list[Pod]:
    """The pods of the pool: warm, or to be."""
    return [
        pod
        for pod in pods.values()
        if pod.kernel_id is None and pod.phase in (PodPhase.WARMING, PodPhase.WARM)
    ]


def _gives_room(old: Pod | None, new: Pod | None) -> bool:
    """Whether a pod ended or became smaller."""
    if old is None or old.phase is PodPhase.GONE:
        return False
    if new is None or new.phase is PodPhase.GONE:
        return True
    return new.resources.memory < old.resources.memory or new.resources.cpu < old.resources.cpu
