"""A pool in simulated time: what a planner's targets would have been worth on a trace. Pure.

Pods are brought to the targets by the production :func:`~.planner.plan`; warm pods give way to
kernels as they do in the real clusters. What is random (how long a pod takes to be warm) comes from
a seed and from the pod's turn, not from the planner, so that planners are compared on equal luck.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from ..model import Pod, PodPhase
from ..resources import Resources
from .planner import Create, Want, plan
from .rivals import Planner
from .share import Room
from .targets import Settings
from .traces import Kind, Start, World

CLAIM = 0.3
"""Seconds that a warm start takes."""
_NOTHING = Resources(cpu=100, memory=2**27)
_READY, _END, _LOOK = 0, 1, 2


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulation showed. Of the time after the learning."""

    starts: int
    hits: int
    waits: tuple[float, ...]
    """Seconds that the starts waited, in order of size."""
    idle: float
    """Pod-seconds of pods that were warm or warming, and nobody's."""
    seconds: float
    created: int
    quota_mean: float
    """Part of the quota that was taken, of the resource that was taken most; mean and most."""
    quota_most: float
    breaks: int
    """Pods whose creation broke a guard."""

    @property
    def hit_rate(self) -> float:
        """Part of the starts that found a warm pod."""
        return self.hits / self.starts if self.starts else math.nan

    @property
    def idle_hours(self) -> float:
        """Pod-hours a day."""
        return self.idle / 3600 / (self.seconds / 86400)

    def wait(self, share: float) -> float:
        """A quantile of the waits."""
        if not self.waits:
            return math.nan
        return self.waits[min(len(self.waits) - 1, int(share * len(self.waits)))]


class _Simulation:
    def __init__(self, world: World, planner: Planner, settings: Settings, seed: int) -> None:
        self.world, self.planner, self.settings, self.seed = world, planner, settings, seed
        self.kinds: dict[str, Kind] = {kind.name: kind for kind in world.kinds}
        self.pools: dict[str, dict[str, Pod]] = {name: {} for name in self.kinds}
        self.pool_size = 0
        self.used = dict.fromkeys(world.quota, 0)
        self.pooled = dict.fromkeys(world.quota, 0)
        self.events: list[tuple[float, int, int, str, str]] = []
        self.turn = 0
        self.turns = dict.fromkeys(self.kinds, 0)
        self.goals: Mapping[str, int] = dict.fromkeys(self.kinds, 0)
        self.queue: deque[Start] = deque()
        self.waits: list[float] = []
        self.hits = self.created = self.breaks = 0
        self.now = world.begin
        self.idle = self.quota_area = self.quota_most = 0.0

    # -- time ------------------------------------------------------------------------------

    def run(self, starts: Sequence[Start]) -> Result:
        self.push(self.now, _LOOK)
        self.look()
        for start in starts:
            self.until(start.time)
            self.start(start)
        self.until(self.world.end)
        return Result(
            starts=len(starts),
            hits=self.hits,
            # Whoever still waits at the end has waited until then.
            waits=tuple(sorted([*self.waits, *(self.now - one.time for one in self.queue)])),
            idle=self.idle,
            seconds=self.world.end - self.world.begin,
            created=self.created,
            quota_mean=self.quota_area / (self.world.end - self.world.begin),
            quota_most=self.quota_most,
            breaks=self.breaks,
        )

    def push(self, time: float, what: int, template: str = "", name: str = "") -> None:
        self.turn += 1
        heapq.heappush(self.events, (time, self.turn, what, template, name))

    def pass_to(self, time: float) -> None:
        passed = time - self.now
        if passed <= 0:
            return
        self.idle += passed * self.pool_size
        part = max(
            (self.used[name] + self.pooled[name]) / total
            for name, total in self.world.quota.items()
        )
        self.quota_area += passed * part
        self.quota_most = max(self.quota_most, part)
        self.now = time

    def until(self, time: float) -> None:
        while self.events and self.events[0][0] <= time:
            at, _, what, template, name = heapq.heappop(self.events)
            self.pass_to(at)
            if what == _LOOK:
                self.push(at + self.planner.period, _LOOK)
                self.look()
            elif what == _READY:
                self.ready(template, name)
            else:
                self.release(template)
        self.pass_to(time)

    # -- what happens ----------------------------------------------------------------------

    def start(self, start: Start) -> None:
        kind = self.kinds[start.template]
        pool = self.pools[start.template]
        ready = [pod for pod in pool.values() if pod.phase is PodPhase.WARM]
        taken = None if self.queue else next(iter(ready), None)
        if taken is not None:
            self.drop(start.template, taken.name)
            if not self.make_room(kind):
                self.add(start.template, taken)
                taken = None
        self.planner.observe(self.now, start.template, taken is not None)
        if taken is not None:
            self.hits += 1
            self.begin(start, CLAIM)
        elif not self.queue and self.make_room(kind):
            self.begin(start, self.refill_time(kind, f"cold-{start.time}"))
        else:
            self.queue.append(start)
        if self.planner.awaits_events:
            self.look()

    def begin(self, start: Start, wait: float) -> None:
        for name, amount in self.kinds[start.template].kernel.items():
            self.used[name] += amount
        self.waits.append(self.now - start.time + wait)
        self.push(self.now + wait + start.lasts, _END, start.template)

    def release(self, template: str) -> None:
        for name, amount in self.kinds[template].kernel.items():
            self.used[name] -= amount
        while self.queue and self.make_room(self.kinds[self.queue[0].template]):
            start = self.queue.popleft()
            kind = self.kinds[start.template]
            self.begin(start, self.refill_time(kind, f"cold-{start.time}"))

    def ready(self, template: str, name: str) -> None:
        pod = self.pools[template].get(name)
        if pod is not None:
            self.planner.refilled(template, self.now - pod.created)
            self.pools[template][name] = msgspec.structs.replace(
                pod, phase=PodPhase.WARM, warm_since=self.now
            )

    def make_room(self, kind: Kind) -> bool:
        """Give up warm pods, the oldest first, until a kernel fits; False: it cannot."""
        while True:
            lacking = [
                name
                for name, amount in kind.kernel.items()
                if self.used[name] + self.pooled[name] + amount > self.world.quota[name]
            ]
            if not lacking:
                return True
            helpful = [
                pod
                for template, pool in self.pools.items()
                if any(self.kinds[template].warm.get(name) for name in lacking)
                for pod in pool.values()
            ]
            if not helpful:
                return False
            victim = min(helpful, key=lambda pod: (pod.created, pod.name))
            self.drop(victim.template, victim.name)

    # -- the pool --------------------------------------------------------------------------

    def look(self) -> None:
        """Ask the planner, and bring the pool to what it says."""
        room = Room(total=self.world.quota, used=self.used)
        self.goals = self.planner.targets(self.now, room)
        creates = []
        for template, goal in self.goals.items():
            pool = self.pools[template]
            if len(pool) == goal:
                continue
            want = Want(template=template, hash="", target=goal, ttl=0)
            for action in plan(pool.values(), {template: want}, self.now):
                if isinstance(action, Create):
                    creates.append(template)
                else:
                    self.drop(template, action.pod)
        for template in creates:
            self.create(template)

    def create(self, template: str) -> None:
        kind = self.kinds[template]
        for name, amount in kind.warm.items():
            total = self.world.quota[name]
            if self.used[name] + self.pooled[name] + amount > total:
                return  # the cluster refuses
        turn = self.turns[template] = self.turns[template] + 1
        pod = Pod(
            name=f"{template}-{turn:06d}",
            uid="",
            template=template,
            template_hash="",
            created=self.now,
            resources=_NOTHING,
        )
        self.add(template, pod)
        self.created += 1
        self.breaks += self.broken()
        time = self.now + self.refill_time(kind, pod.name)
        self.push(time, _READY, template, pod.name)

    def broken(self) -> bool:
        """Whether the pool is over a guard, which nothing may bring about by creating a pod."""
        settings = self.settings
        for name, total in self.world.quota.items():
            most = max((kind.warm.get(name, 0) for kind in self.world.kinds), default=0)
            if self.pooled[name] > max(settings.share * total, most) + 1e-9:
                return True
            if self.pooled[name] and self.pooled[name] + self.used[name] >= (
                settings.ceiling * total
            ):
                return True
        return False

    def add(self, template: str, pod: Pod) -> None:
        self.pools[template][pod.name] = pod
        self.pool_size += 1
        for name, amount in self.kinds[template].warm.items():
            self.pooled[name] += amount

    def drop(self, template: str, name: str) -> None:
        if self.pools[template].pop(name, None) is not None:
            self.pool_size -= 1
            for resource, amount in self.kinds[template].warm.items():
                self.pooled[resource] -= amount

    def refill_time(self, kind: Kind, which: str) -> float:
        draw = random.Random(f"{self.seed}-{kind.name}-{which}").gauss(0, 1)
        return kind.refill * math.exp(0.25 * draw)


def simulate(
    world: World, planner: Planner, *, settings: Settings | None = None, seed: int = 0
) -> Result:
    """Run one planner over one world; the same arguments give the same result.

    Before ``world.begin`` the planner is only told the starts, as one that always missed, and how
    long some pods took.
    """
    split = next(
        (n for n, one in enumerate(world.starts) if one.time >= world.begin), len(world.starts)
    )
    for start in world.starts[:split]:
        planner.observe(start.time, start.template, False)
    simulation = _Simulation(world, planner, settings or Settings(), seed)
    for kind in world.kinds:
        for turn in range(10):
            planner.refilled(kind.name, simulation.refill_time(kind, f"before-{turn}"))
    return simulation.run(world.starts[split:])
