"""Planners beside each other on the same worlds, each as it comes and at equal idle. Pure.

Any planner hits more if it may keep more pods. So each other planner has a knob, which is turned
until it keeps as many pods idle as ours did in that very world: it is chosen knowing the outcome,
which no one can do in life, so the comparison leans their way. Between two settings of the knob the
hit rate is interpolated.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from . import rivals
from .rivals import Planner
from .simulate import Result, simulate
from .targets import Settings
from .traces import Kind, World

OURS = "elastic"
RANKING = "ranking"


class Rival(msgspec.Struct, frozen=True):
    """Another planner: how it is made, its knob's usual value, and the span of the knob."""

    make: Callable[[Sequence[Kind], float, Settings], Planner]
    usual: float
    least: float
    most: float
    whole: bool = False
    """Whether the knob is a number of pods."""


RIVALS: Mapping[str, Rival] = {
    RANKING: Rival(rivals.Ranking, 1.0, 0.01, 1.0),
    "ranking-events": Rival(rivals.Eager, 1.0, 0.01, 1.0),
    "static": Rival(rivals.Static, 16.0, 1.0, 60.0, whole=True),
    "rate-refill": Rival(rivals.RateRefill, 1.0, 0.0, 60.0),
    "little": Rival(rivals.Little, 1.0, 0.0, 60.0),
}


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One planner in one world."""

    planner: str
    world: str
    seed: int
    result: Result
    equal_idle: float | None = None
    """Its hit rate with its knob turned until it is as idle as ours; None for ours."""
    matched: float | None = None
    """Pod-hours a day that it then kept idle: less than ours where more does not help it."""


def compare(
    world: World,
    seed: int,
    settings: Settings,
    *,
    names: Iterable[str] = tuple(RIVALS),
    steps: int = 6,
) -> list[Run]:
    """Ours and the others in one world. ``steps``: turns of the knob; 0: no equal idle."""
    ours = simulate(
        world, rivals.Elastic(world.kinds, _first(world), settings), settings=settings, seed=seed
    )
    runs = [Run(planner=OURS, world=world.name, seed=seed, result=ours)]
    for name in names:
        rival = RIVALS[name]
        plain = _run(rival, rival.usual, world, seed, settings)
        rate, idle = (None, None)
        if steps:
            rate, idle = at_idle(
                lambda knob, rival=rival: _run(rival, knob, world, seed, settings),  # type: ignore[misc]
                rival,
                plain,
                ours.idle_hours,
                steps,
            )
        runs.append(
            Run(
                planner=name, world=world.name, seed=seed, result=plain,
                equal_idle=rate, matched=idle,
            )
        )  # fmt: skip
    return runs


def _first(world: World) -> float:
    return world.starts[0].time if world.starts else world.begin


def _run(rival: Rival, knob: float, world: World, seed: int, settings: Settings) -> Result:
    planner = rival.make(world.kinds, knob, settings)
    return simulate(world, planner, settings=settings, seed=seed)


def at_idle(
    run: Callable[[float], Result], rival: Rival, plain: Result, idle: float, steps: int
) -> tuple[float, float]:
    """Hit rate at ``idle`` pod-hours a day, and the idle reached.

    Turns the knob at most ``steps`` times, each time to where a straight line between the nearest
    results on both sides suggests, then interpolates between these.
    """
    under: tuple[float, Result] | None = None
    over: tuple[float, Result] | None = None
    tried = {rival.usual}
    knob, result = rival.usual, plain
    for step in range(steps + 1):
        if result.idle_hours <= idle:
            if under is None or result.idle_hours >= under[1].idle_hours:
                under = (knob, result)
        elif over is None or result.idle_hours <= over[1].idle_hours:
            over = (knob, result)
        knob = _next_knob(rival, under, over, idle)
        if step == steps or knob in tried or abs(result.idle_hours - idle) < 0.01 * idle:
            break
        tried.add(knob)
        result = run(knob)
    if under is None or over is None:  # the whole span is on one side
        _, end = under or over or (knob, plain)
        return end.hit_rate, end.idle_hours
    low, high = under[1], over[1]
    part = (idle - low.idle_hours) / (high.idle_hours - low.idle_hours)
    return low.hit_rate + part * (high.hit_rate - low.hit_rate), idle


def _next_knob(
    rival: Rival, under: tuple[float, Result] | None, over: tuple[float, Result] | None, idle: float
) -> float:
    if under is None:
        return rival.least
    if over is None:
        return rival.most if under[0] * 4 >= rival.most else max(under[0] * 4, rival.least)
    span = over[1].idle_hours - under[1].idle_hours
    part = (idle - under[1].idle_hours) / span
    knob = under[0] + min(0.9, max(0.1, part)) * (over[0] - under[0])
    return round(knob) if rival.whole else knob


# -- figures -------------------------------------------------------------------------------


def summary(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A row for each world and planner, then one for each planner over all worlds (``pooled``).

    Pooled figures weigh every start and every pod-hour the same. A spread is the standard deviation
    over seeds.
    """
    rows = []
    worlds = list(dict.fromkeys(run.world for run in runs))
    planners = list(dict.fromkeys(run.planner for run in runs))
    for world in [*worlds, "pooled"]:
        for planner in planners:
            mine = [r for r in runs if r.planner == planner and world in (r.world, "pooled")]
            if mine:
                rows.append({"world": world, "planner": planner, **_figures(mine)})
    for row in rows:
        rule = [r for r in rows if r["world"] == row["world"] and r["planner"] == RANKING]
        if rule and rule[0]["idle"]:
            row["idle_share"] = row["idle"] / rule[0]["idle"]
    return rows


def _figures(runs: Sequence[Run]) -> dict[str, Any]:
    seeds = sorted({run.seed for run in runs})
    by_seed = [[run for run in runs if run.seed == seed] for seed in seeds]
    rates = [_rate(some) for some in by_seed]
    idles = [statistics.fmean(run.result.idle_hours for run in some) for some in by_seed]
    waits = sorted(wait for run in runs for wait in run.result.waits)
    equal = [
        sum((run.equal_idle or 0) * run.result.starts for run in some)
        / sum(run.result.starts for run in some)
        for some in by_seed
        if all(run.equal_idle is not None for run in some) and any(r.result.starts for r in some)
    ]
    matched = [run.matched for run in runs if run.matched is not None]
    starts = sum(run.result.starts for run in runs)
    return {
        "seeds": len(seeds),
        "starts": starts,
        "hit_rate": statistics.fmean(rates),
        "hit_rate_spread": _spread(rates),
        "equal_idle_hit_rate": statistics.fmean(equal) if equal else None,
        "equal_idle_spread": _spread(equal) if equal else None,
        "equal_idle": statistics.fmean(matched) if matched else None,
        "wait_p50": _quantile(waits, 0.5),
        "wait_p95": _quantile(waits, 0.95),
        "wait_p99": _quantile(waits, 0.99),
        "idle": statistics.fmean(idles),
        "idle_spread": _spread(idles),
        "quota_mean": statistics.fmean(run.result.quota_mean for run in runs),
        "quota_most": max(run.result.quota_most for run in runs),
        "pods_per_start": sum(run.result.created for run in runs) / starts if starts else None,
        "guards_broken": sum(run.result.breaks for run in runs),
    }


def _rate(runs: Sequence[Run]) -> float:
    starts = sum(run.result.starts for run in runs)
    return sum(run.result.hits for run in runs) / starts if starts else 0.0


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


COLUMNS = (
    "TRACE", "PLANNER", "HIT %", "+-", "AT EQUAL IDLE %", "+-", "THEN IDLE", "WAIT P95 s", "P99 s",
    "IDLE POD-H/DAY", "OF RANKING'S %", "QUOTA MEAN %", "PODS/START",
)  # fmt: skip


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of :func:`summary` for people, under :data:`COLUMNS`."""

    def shown(value: float | None, digits: int = 1, times: float = 100) -> str:
        return "-" if value is None else f"{value * times:.{digits}f}"

    return (
        row["world"],
        row["planner"],
        shown(row["hit_rate"], 2),
        shown(row["hit_rate_spread"], 2),
        shown(row["equal_idle_hit_rate"], 2),
        shown(row["equal_idle_spread"], 2),
        shown(row["equal_idle"], 1, 1),
        shown(row["wait_p95"], 1, 1),
        shown(row["wait_p99"], 1, 1),
        shown(row["idle"], 1, 1),
        shown(row.get("idle_share"), 0),
        shown(row["quota_mean"], 0),
        shown(row["pods_per_start"], 2, 1),
    )
