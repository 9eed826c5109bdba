"""The simulator: the same every time, guards kept, files read; no figure of merit is asserted."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from msgspec.structs import replace

from jupyter_elastic.errors import BadRequest
from jupyter_elastic.pool import rivals, traces
from jupyter_elastic.pool.compare import COLUMNS, RIVALS, cells, compare, summary
from jupyter_elastic.pool.plot import plot
from jupyter_elastic.pool.simulate import Result, simulate
from jupyter_elastic.pool.targets import Settings
from jupyter_elastic.pool.traces import DAY, Kind, Start, World, read_csv, read_events, world_of

POD = {"pods": 1}


def short(name: str, seed: int = 77) -> World:
    """A generated week of which some hours of the third day are measured: seconds of CPU."""
    world = traces.GENERATORS[name](seed, 1)
    begin = traces.MONDAY + 2 * DAY + 8 * 3600
    end = begin + DAY / 4
    return replace(
        world, begin=begin, end=end, starts=tuple(s for s in world.starts if s.time < end)
    )


def tiny(*starts: Start, pods: int = 100) -> World:
    return World(
        name="tiny",
        kinds=(Kind(name="a", warm=POD, kernel=POD),),
        quota={"pods": pods},
        starts=starts,
        begin=0.0,
        end=DAY,
    )


def fixed(world: World, size: float, settings: Settings | None = None) -> Result:
    planner = rivals.Static(world.kinds, size, settings or Settings())
    return simulate(world, planner, settings=settings)


@pytest.mark.parametrize("name", list(traces.GENERATORS))
def test_generators_repeat_themselves_and_seeds_differ(name: str) -> None:
    make = traces.GENERATORS[name]
    assert make(3, 1) == make(3, 1)
    assert make(3, 1).starts != make(4, 1).starts
    times = [start.time for start in make(3, 1).starts]
    assert times == sorted(times)


@pytest.mark.parametrize("name", ["classes", "lab"])
def test_the_benchmark_runs_is_deterministic_and_breaks_no_guard(name: str) -> None:
    world = short(name)
    runs = compare(world, 77, Settings(), steps=0)
    assert compare(world, 77, Settings(), names=[], steps=0) == runs[:1]
    assert {run.planner for run in runs} == {"elastic", *RIVALS}
    for run in runs:
        result = run.result
        assert result.breaks == 0, run.planner
        assert 0 <= result.hits <= result.starts == len(result.waits)
        assert result.starts == sum(1 for s in world.starts if s.time >= world.begin)
        assert 0 < result.quota_most <= 1
    rows = summary(runs)
    assert len(rows) == 2 * len(runs)  # this world, and pooled
    assert all(len(cells(row)) == len(COLUMNS) for row in rows)
    json.dumps(rows, allow_nan=False)
    assert plot(rows).count("<circle") == len(rows)


def test_a_small_quota_that_is_always_full_keeps_its_guards() -> None:
    world = replace(short("office"), quota={"pods": 25, "cpu": 40_000, "gpu": 2, "memory": 10**6})
    planner = rivals.Elastic(world.kinds, world.starts[0].time, Settings())
    result = simulate(world, planner, seed=1)
    assert result.breaks == 0
    assert result.wait(0.99) > 60  # users queue for the quota, and are not forgotten
    assert len(result.waits) == result.starts


def test_hits_idle_and_waits_of_a_case_that_can_be_reckoned() -> None:
    # One pod, warm after some 40 s: the first start after an hour hits, the one right behind not.
    world = tiny(Start(3600.0, "a", 60.0), Start(3601.0, "a", 60.0))
    planner = rivals.Elastic(world.kinds, 0.0, Settings())
    result = simulate(world, planner)
    assert (result.starts, result.hits) == (2, 1)
    assert result.waits[0] < 1 < 20 < result.waits[1] < 90
    none = fixed(world, 0)
    assert (none.hits, none.idle, none.created) == (0, 0, 0)
    assert none.waits[0] > 20


def test_a_start_that_finds_no_room_takes_that_of_warm_pods() -> None:
    world = tiny(*(Start(3600.0 + n, "a", 600.0) for n in range(30)), pods=30)
    result = fixed(replace(world, starts=(Start(-5.0, "a", 1.0), *world.starts)), 3)
    assert result.starts == 30
    assert max(result.waits) < 120  # nobody had to wait for somebody's end
    assert result.breaks == 0


def test_other_planners_are_as_idle_as_ours_where_they_can_be() -> None:
    runs = compare(short("classes"), 77, Settings(), names=["static"], steps=3)
    (ours, static) = runs
    assert static.matched == pytest.approx(ours.result.idle_hours)
    assert 0 <= (static.equal_idle or 0) <= 1


def test_no_planner_sees_the_future() -> None:
    """What happens later changes nothing before it: the measured day cut short, same beginning."""
    world = short("classes")
    cut = world.begin + DAY / 8
    half = replace(world, end=cut, starts=tuple(s for s in world.starts if s.time < cut))
    changed = replace(half, starts=(*half.starts, Start(cut - 1, "python", 60.0)))
    plain, other = (
        simulate(one, rivals.Elastic(one.kinds, one.starts[0].time, Settings()))
        for one in (half, changed)
    )
    assert other.starts == plain.starts + 1
    assert other.hits - plain.hits in (0, 1)


# -- files ---------------------------------------------------------------------------------


def test_reads_a_csv_of_starts() -> None:
    text = """time,owner,template,seconds
1700000000,ada,python,60
2023-11-14T22:13:30Z,bob,r,
2023-11-14T22:13:25,bob,"with, comma",5
"""
    found = read_csv(text.splitlines())
    assert [(s.time - 1.7e9, s.template, s.lasts) for s in found] == [
        (0, "python", 60),
        (5, "with, comma", 5),
        (10, "r", 3600),
    ]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("when,what\n1,a", "time and template"),
        ("time,template\n1,a\nyesterday,b", "Line 3"),
        ("time,template\n1,", "Line 2"),
        ("time,template\nnan,a", "Line 2"),
        ("time,template,seconds\n1,a,-5", "Line 2"),
        ("time,template\n", "no starts"),
        ("", "time and template"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused_with_its_line(text: str, named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        read_csv(text.splitlines())


def test_reads_the_events_archive() -> None:
    def event(**more: object) -> str:
        return json.dumps(
            {
                "timestamp": "2024-03-04T09:00:00+00:00",
                "schema": "binderhub.jupyter.org/launch",
                "version": 4,
                "provider": "GitHub",
                "spec": "someone/notebooks/main",
                "status": "success",
                "ref": "abc",
                **more,
            }
        )

    lines = [
        event(),
        event(spec="someone/notebooks/dev", timestamp="2024-03-04T09:00:01Z"),
        event(status="failure"),
        event(provider="Zenodo", spec="10.5281/zenodo.1"),
        "",
    ]
    found = read_events(lines)
    assert Counter(start.template for start in found) == {
        "GitHub/someone/notebooks": 2,
        "Zenodo/10.5281/zenodo.1": 1,
    }
    for broken in ("{", "[]", '{"provider": "GitHub"}', event(timestamp="later")):
        with pytest.raises(BadRequest, match="Line 2"):
            read_events([event(), broken])


def test_a_read_trace_is_learnt_from_and_then_measured() -> None:
    starts = [Start(1e9 + 600 * n, "a", 60.0) for n in range(400)]
    world = world_of(starts, name="mine", pods=50, learn=DAY)
    result = simulate(world, rivals.Elastic(world.kinds, world.starts[0].time, Settings()))
    assert result.starts == sum(1 for start in starts if start.time >= 1e9 + DAY)
    assert result.hits > result.starts / 2
