"""Other ways to size a pool, to simulate ours beside. Pure.

Each is given all that it could use: the same history before the simulation begins, every start,
every refill time, the same guards. What each is missing is what its rule does not look at.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from .demand import Demand
from .share import Claimant, Room, limits_of, share_out
from .targets import Line, Settings, Snapshot, Target, targets
from .traces import Kind


class Planner(Protocol):
    """What the simulation asks for targets."""

    period: float
    """Seconds between two looks at all templates."""
    awaits_events: bool
    """Whether it also acts at once on starts and ends; otherwise with the period alone."""

    def observe(self, now: float, template: str, hit: bool) -> None:
        """A start."""

    def refilled(self, template: str, seconds: float) -> None:
        """A pod is warm."""

    def targets(self, now: float, room: Room) -> Mapping[str, int]:
        """How many warm pods there shall be."""


class Elastic:
    """Ours: nothing but the functions that the controller uses."""

    period, awaits_events = 30.0, True

    def __init__(self, kinds: Sequence[Kind], begin: float, settings: Settings) -> None:
        self.kinds, self.settings = kinds, settings
        self.demand = {kind.name: Demand(begin) for kind in kinds}
        self.found: dict[str, Target] = {}

    def observe(self, now: float, template: str, hit: bool) -> None:
        """See :class:`Planner`."""
        self.demand[template].observe(now, hit)

    def refilled(self, template: str, seconds: float) -> None:
        """See :class:`Planner`."""
        self.demand[template].refilled(seconds)

    def targets(self, now: float, room: Room) -> Mapping[str, int]:
        """See :class:`Planner`."""
        lines = []
        for kind in self.kinds:
            self.demand[kind.name].advance(now)
            line = Line(template=kind.name, cost=kind.warm, demand=self.demand[kind.name])
            lines.append(line)
        snapshot = Snapshot(
            lines=lines, room=room, settings=self.settings, previous=self.found
        )  # fmt: skip
        self.found = targets(snapshot, now)
        return {name: target.size for name, target in self.found.items()}


class _Rival(ABC):
    """What the others share: rates, refill times, guards."""

    period, awaits_events = 60.0, False

    def __init__(self, kinds: Sequence[Kind], knob: float, settings: Settings) -> None:
        self.kinds, self.knob, self.settings = kinds, knob, settings
        self.recent: dict[str, deque[float]] = {kind.name: deque() for kind in kinds}
        self.refills = {kind.name: deque([kind.refill], maxlen=32) for kind in kinds}
        self.window = 7 * 86400.0
        # The same starts, refill times and use of the quota give the same targets.
        self.turns = 0
        self.known: object = None
        self.given: dict[str, int] = {}

    def observe(self, now: float, template: str, hit: bool) -> None:
        """See :class:`Planner`."""
        self.recent[template].append(now)

    def refilled(self, template: str, seconds: float) -> None:
        """See :class:`Planner`."""
        self.refills[template].append(seconds)
        self.turns += 1

    def targets(self, now: float, room: Room) -> Mapping[str, int]:
        """See :class:`Planner`."""
        counts = {}
        for name, times in self.recent.items():
            while times and times[0] < now - self.window:
                times.popleft()
            counts[name] = len(times)
        known = (counts, dict(room.used), self.turns)
        if known == self.known:
            return self.given
        self.known = known
        wishes = self.wishes(counts, room)
        limits = limits_of(
            room,
            [kind.warm for kind in self.kinds],
            share=self.settings.share,
            ceiling=self.settings.ceiling,
            most=self.settings.most,
        )
        claims = []
        for kind in self.kinds:
            number = wishes[kind.name]
            values = self.values(kind.name, number, counts)
            claims.append(Claimant(kind.warm, 0, number, values))
        given = share_out(claims, limits)
        self.given = {kind.name: size for kind, size in zip(self.kinds, given, strict=True)}
        return self.given

    @abstractmethod
    def wishes(self, counts: Mapping[str, int], room: Room) -> Mapping[str, int]:
        """Pods wanted, by template, from starts within the window."""

    def values(self, template: str, number: int, counts: Mapping[str, int]) -> list[float]:
        """What each pod is worth where there is not room for all: by frequency, falling."""
        return [counts[template] / n for n in range(1, number + 1)]

    def seconds(self, template: str, share: float) -> float:
        """A quantile of the refill time."""
        ordered = sorted(self.refills[template])
        return ordered[int(share * (len(ordered) - 1) + 0.5)]


class Ranking(_Rival):
    """The published rule: rank by frequency, fill a tenth of the quota, look every 60 s.

    Frequency is that of the last seven days. The tenth is dealt out one pod at a time to whoever
    has most starts for the pods it has (largest remainders), so the first in the ranking get most.
    """

    def wishes(self, counts: Mapping[str, int], room: Room) -> Mapping[str, int]:
        """See :class:`_Rival`; ``knob`` is the part of the pool that is filled."""
        whole = room.total["pods"] * self.settings.share * self.knob
        size = max(1, math.floor(whole + 1e-9))
        # GPUs bound some templates: what they cannot have goes to the others.
        caps = {
            kind.name: min(
                (
                    max(1, math.floor(self.settings.share * room.total[name] / amount))
                    for name, amount in kind.warm.items()
                    if amount and name in room.total
                ),
                default=size,
            )
            for kind in self.kinds
        }
        given: Counter[str] = Counter()
        for _ in range(size):
            open_ones = [n for n in counts if given[n] < caps[n] and counts[n] > 0]
            if not open_ones:
                break
            given[max(open_ones, key=lambda n: counts[n] / (given[n] + 1))] += 1
        return {name: given[name] for name in counts}


class Eager(Ranking):
    """The ranking rule on events instead of every 60 s."""

    awaits_events = True


class Static(_Rival):
    """Fixed sizes, dealt out by the history before the simulation, the best that one can do.

    One pod at a time to the template whose next one would have been needed most often.
    """

    period, awaits_events = 3600.0, True

    def __init__(self, kinds: Sequence[Kind], knob: float, settings: Settings) -> None:
        super().__init__(kinds, knob, settings)
        self.sizes: dict[str, int] | None = None
        self.busy: dict[str, Counter[int]] = {kind.name: Counter() for kind in kinds}

    def observe(self, now: float, template: str, hit: bool) -> None:
        """See :class:`Planner`."""
        if self.sizes is None:
            times = self.recent[template]
            times.append(now)
            while times[0] < now - self.seconds(template, 0.9):
                times.popleft()
            self.busy[template][len(times)] += 1  # this start needs the len-th pod

    def targets(self, now: float, room: Room) -> Mapping[str, int]:
        """See :class:`Planner`."""
        if self.sizes is None:
            sizes: Counter[str] = Counter()
            for _ in range(int(self.knob)):
                best = max(self.busy, key=lambda name: self._need(name, sizes[name] + 1))
                sizes[best] += 1
            self.sizes = {kind.name: sizes[kind.name] for kind in self.kinds}
        self.recent = {name: deque() for name in self.recent}
        return super().targets(now, room)

    def wishes(self, counts: Mapping[str, int], room: Room) -> Mapping[str, int]:
        """See :class:`_Rival`; ``knob`` is the number of pods in all."""
        return self.sizes or {}

    def values(self, template: str, number: int, counts: Mapping[str, int]) -> list[float]:
        """See :class:`_Rival`: how often each pod would have been needed."""
        return [self._need(template, n) for n in range(1, number + 1)]

    def _need(self, template: str, number: int) -> float:
        seen = self.busy[template]
        # Where a pod was never needed: next to nothing, more for templates with more starts.
        return seen[number] + 1e-6 * sum(seen.values()) / number


class RateRefill(_Rival):
    """As autoscalers of queues do: the rate of the last 5 minutes times the refill time."""

    period, awaits_events = 15.0, False

    def __init__(self, kinds: Sequence[Kind], knob: float, settings: Settings) -> None:
        super().__init__(kinds, knob, settings)
        self.window = 300.0
        self.ever: Counter[str] = Counter()

    def wishes(self, counts: Mapping[str, int], room: Room) -> Mapping[str, int]:
        """See :class:`_Rival`; ``knob`` multiplies it.

        One at least, as is usual; below 1 the knob also says what part of the templates gets that
        one, those with most starts first.
        """
        names = sorted(counts, key=lambda name: -self.ever[name])
        sure = set(names[: round(min(1.0, self.knob) * len(names))])
        return {
            name: max(
                int(name in sure),
                math.ceil(self.knob * count / self.window * self.seconds(name, 0.9)),
            )
            for name, count in counts.items()
        }

    def observe(self, now: float, template: str, hit: bool) -> None:
        """See :class:`Planner`."""
        super().observe(now, template, hit)
        self.ever[template] += 1


class Little(_Rival):
    """Little's law: mean number on their way, rate of the last hour times mean refill time."""

    awaits_events = True

    def __init__(self, kinds: Sequence[Kind], knob: float, settings: Settings) -> None:
        super().__init__(kinds, knob, settings)
        self.window = 3600.0

    def wishes(self, counts: Mapping[str, int], room: Room) -> Mapping[str, int]:
        """See :class:`_Rival`; ``knob`` multiplies it."""
        return {
            name: math.ceil(
                self.knob * count / self.window * sum(self.refills[name]) / len(self.refills[name])
            )
            for name, count in counts.items()
        }
