"""How many warm pods each template should have now: demand, an admin's will and the guards. Pure.

A pod is worth keeping when it is likely to serve a start within the time that the settings call
*patience*. For the n-th pod of a template that is a chance per refill time (:mod:`.demand`), so the
target is a quantile: the smallest number that starts exceed with a chance of no more than
``refill / patience``. Where there is not room for all that is wanted, pods go where they prevent
most misses for what they cost (:mod:`.share`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

import msgspec

from .chance import MOST
from .demand import REFILL, Demand, Forecast
from .schedule import Floor, floor_now
from .share import Claimant, Limits, Room, limits_of, share_out

GIVEN, LONG = 0.1, 1e-4
"""Bounds of the chance below which a pod is not kept, whatever refills take."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The guards, and how readily pods are kept."""

    share: float = 0.10
    """Part of the quota that predicted warm pods may take, but always room for one pod."""
    ceiling: float = 0.95
    """Part of the quota that warm pods and all others together stay below."""
    patience: float = 57600.0
    """Seconds within which a warm pod must be likely to be needed. More: more hits, more idle."""
    stabilise: float = 600.0
    """Seconds for which a target is kept before it falls."""
    most: int = 100
    """Warm pods of a namespace up to which more are predicted; the only bound without a quota."""
    newcomer: float = 86400.0
    """Seconds for which a template that nobody has started yet is given one pod."""
    refill_rate: float = 2.0
    """Pods per second that the controller creates; a schedule begins early enough for it."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One template as the planner sees it."""

    template: str
    cost: Mapping[str, int]
    """What a warm pod takes, by resource: ``pods`` 1, ``cpu`` millicores, ``memory`` bytes, ..."""
    size: int | None = None
    """What an admin fixed; None: by prediction."""
    minimum: int = 0
    maximum: int = MOST
    schedule: Sequence[Floor] = ()
    demand: Demand | None = None


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The number of warm pods for a template, and why, for people."""

    template: str
    size: int
    wanted: int
    """What it would be with room for everything."""
    reason: str
    floor: int = 0
    """What an admin wants of it, up to its size; the rest is predicted."""
    recent: tuple[tuple[float, int], ...] = ()
    """What was wanted lately, (time, number); the next call looks at it."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All that a decision rests on."""

    lines: Sequence[Line]
    room: Room
    settings: Settings = Settings()
    previous: Mapping[str, Target] = {}
    """What the last call returned; without it targets may fall at once."""
    offset: float = 0.0
    """Seconds from UTC to the time of day by which a schedule is meant."""


class _Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What one template wants, before others are looked at."""

    line: Line
    floor: int
    """By an admin; only the ceiling cuts it."""
    number: int
    values: tuple[float, ...] = ()
    """Chance per second that the n-th pod is needed."""
    why: str
    recent: tuple[tuple[float, int], ...] = ()


def targets(snapshot: Snapshot, now: float) -> dict[str, Target]:
    """The target of every template, each with a reason.

    Never more in all than the guards allow: what an admin fixed or scheduled stays under the
    ceiling, what is predicted also within the share. Other than that, more demand or more quota
    never means fewer pods.
    """
    wishes = [_wish(line, snapshot, now) for line in snapshot.lines]
    limits = limits_of(
        snapshot.room,
        [wish.line.cost for wish in wishes if wish.line.size is None],
        share=snapshot.settings.share,
        ceiling=snapshot.settings.ceiling,
        most=snapshot.settings.most,
    )
    given = share_out(
        [
            Claimant(
                wish.line.cost,
                min(wish.floor, wish.number),
                wish.number,
                wish.values,
                _size_before(snapshot, wish.line.template),
            )
            for wish in wishes
        ],
        limits,
    )
    return {
        wish.line.template: Target(
            template=wish.line.template,
            size=size,
            wanted=wish.number,
            reason=wish.why if size == wish.number else _cut(wish, size, limits, snapshot),
            floor=min(wish.floor, size),
            recent=wish.recent,
        )
        for wish, size in zip(wishes, given, strict=True)
    }


def _size_before(snapshot: Snapshot, template: str) -> int:
    before = snapshot.previous.get(template)
    return before.size if before is not None else 0


def least_chance(refill: float, patience: float) -> float:
    """The chance per refill time under which a pod is not kept."""
    return min(GIVEN, max(LONG, refill / max(patience, 1.0)))


def _wish(line: Line, snapshot: Snapshot, now: float) -> _Wish:
    settings = snapshot.settings
    if line.size is not None:
        size = max(0, line.size)
        return _Wish(
            line=line, floor=size, number=size, why="A fixed number, as set or by default."
        )
    demand = line.demand
    refill = demand.refill if demand is not None else REFILL
    largest = max((floor.size for floor in line.schedule), default=0)
    lead = 60.0 + refill + largest / max(settings.refill_rate, 0.01)
    booked = floor_now(line.schedule, now, lead=lead, offset=snapshot.offset)
    floor = min(max(line.minimum, booked.size if booked else 0), MOST)

    values: tuple[float, ...] = ()
    number, why = 0, "Nothing is known of its starts."
    if demand is not None:
        number, values, why = _predicted(demand, settings, now)
    if number > line.maximum:
        number, why = line.maximum, f"{line.maximum} at most, as configured. {why}"
    before = snapshot.previous.get(line.template)
    recent = _recent(before, number, settings.stabilise, now)
    held = min(recent[0][1], line.maximum)
    if held > number and held > floor:
        minutes = settings.stabilise / 60
        number, why = held, f"{held} were wanted in the last {minutes:.3g} minutes. Now: {why}"
    if floor >= number and floor > 0:
        number = floor
        words = booked.words() if booked and booked.size == floor else f"{floor} at least"
        why = f"{words}, as configured."
    return _Wish(line=line, floor=floor, number=number, values=values, why=why, recent=recent)


def _recent(
    before: Target | None, number: int, stabilise: float, now: float
) -> tuple[tuple[float, int], ...]:
    """What was wanted within the last ``stabilise`` seconds, falling; the first is the most."""
    kept = before.recent if before is not None else ()
    return (
        *((time, size) for time, size in kept if size > number and 0 <= now - time < stabilise),
        (now, number),
    )


def _predicted(
    demand: Demand, settings: Settings, now: float
) -> tuple[int, tuple[float, ...], str]:
    """How many pods the demand is worth, what each is worth per second, and why."""
    least = least_chance(demand.refill, settings.patience)
    forecast = demand.forecast(now, least)
    evidence = (forecast.usual, forecast.peaks, forecast.recent, forecast.burst)
    chances = [max(each) for each in zip_longest(*evidence, fillvalue=0.0)]
    number = min(len(chances), MOST)
    if number == 0 and forecast.starts == 0 and forecast.age < settings.newcomer:
        why = "One, until it is known how often it is started."
        return 1, (least / forecast.refill,), why
    values = tuple(chance / forecast.refill for chance in chances[:number])
    return number, values, _explained(forecast, number, least)


def _explained(forecast: Forecast, number: int, least: float) -> str:
    time = f"{forecast.refill:.0f} s that a new pod takes"
    if number == 0:
        return f"A start at this time is too unlikely: less than {least:.1%} within the {time}."
    if len(forecast.burst) == number:
        return (
            f"Starts come in a burst: {forecast.burst_mean:.1f} expected in the {time}, by the"
            f" last 90 s; usual are {forecast.expected:.1f}."
        )
    if len(forecast.peaks) == number:
        many = f"Up to {forecast.busiest} starts" if forecast.busiest > 1 else "A start"
        return (
            f"{many} came within {forecast.refill:.0f} s around {forecast.when},"
            f" in the last {_weeks(forecast.weeks)}."
        )
    source = "the last quarter of an hour"
    if len(forecast.usual) == number:
        clock = forecast.when.split()[1]
        source = f"the last {_weeks(forecast.weeks)} around {forecast.when}"
        if not forecast.weeks:
            source = f"the last days around {clock}"
    mean = forecast.expected
    shown = f"{mean:.1f}" if mean >= 0.1 else f"{mean:.2g}"
    return (
        f"{shown} starts expected in the {time}, by {source}; {number} suffice but for"
        f" {least:.1%} of the time."
    )


def _weeks(number: int) -> str:
    return "week" if number == 1 else f"{number} weeks"


def _cut(wish: _Wish, size: int, limits: Limits, snapshot: Snapshot) -> str:
    settings = snapshot.settings
    ceiling = f"{settings.ceiling:.0%}"
    if wish.line.size is not None:
        tight = limits.tightest(wish.line.cost, predicted=False)
        return (
            f"{size} of the {wish.number} configured, because room for warm pods is short of"
            f" {tight} (with all other pods they stay below {ceiling} of the quota)."
        )
    tight = limits.tightest(wish.line.cost, predicted=True)
    if tight is None:
        what = f"warm pods may be {settings.most} at most"
    else:
        guards = f"{settings.share:.0%} of the quota, and with all other pods {ceiling}"
        what = f"room for warm pods is short of {tight} (they may take {guards})"
    return f"{size} of {wish.number}, because {what}. Wanted: {wish.why}"
