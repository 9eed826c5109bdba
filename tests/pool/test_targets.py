"""Targets: what the guards promise for any demand, and what people are told."""

from __future__ import annotations

import json
import math
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from jupyter_elastic.errors import BadRequest
from jupyter_elastic.model import UNLIMITED
from jupyter_elastic.pool.chance import again, tail
from jupyter_elastic.pool.demand import SLOT, Demand
from jupyter_elastic.pool.schedule import Floor, floor_now, parse_floor
from jupyter_elastic.pool.share import Room
from jupyter_elastic.pool.targets import Line, Settings, Snapshot, Target, targets

HOUR, DAY, WEEK = 3600.0, 86400.0, 7 * 86400.0
MONDAY = 2600 * WEEK + 4 * DAY
SMALL = {"pods": 1, "cpu": 100, "memory": 128}
GPU = {**SMALL, "gpu": 1}


def room(pods: int, used: int = 0, **more: int) -> Room:
    return Room(total={"pods": pods, **more}, used={"pods": used})


def busy(*times: float, born: float = MONDAY, hit: bool = True) -> Demand:
    demand = Demand(born)
    for time in times:
        demand.observe(time, hit)
    return demand


def class_weeks(weeks: int, size: int = 20) -> Demand:
    """``size`` starts within a minute, every Monday at 9:00."""
    starts = [
        MONDAY + week * WEEK + 9 * HOUR + number * 60 / size
        for week in range(weeks)
        for number in range(size)
    ]
    return busy(*starts)


def one(snapshot: Snapshot, now: float) -> Target:
    (target,) = targets(snapshot, now).values()
    return target


def alone(demand: Demand | None, quota: Room | None = None, **line: object) -> Snapshot:
    only = Line(template="a", cost=SMALL, demand=demand, **line)  # type: ignore[arg-type]
    return Snapshot(lines=[only], room=quota or room(1000))


# -- chances -------------------------------------------------------------------------------


def test_tails_are_those_of_the_distributions() -> None:
    poisson = tail(2.0, 1.0, 1e-6)
    assert poisson[0] == pytest.approx(1 - math.exp(-2))
    assert poisson[1] == pytest.approx(1 - math.exp(-2) * 3)
    # With twice the variance: failures before the second success of a fair coin.
    assert tail(2.0, 2.0, 1e-6)[:2] == pytest.approx([0.75, 0.5])


@given(st.floats(1e-6, 2000), st.floats(1, 6), st.floats(1e-6, 0.2))
def test_a_tail_falls_and_its_length_is_the_quantile(
    mean: float, disp: float, least: float
) -> None:
    found = tail(mean, disp, least)
    assert all(0 < later <= earlier <= 1 for earlier, later in pairwise(found))
    assert all(chance > least for chance in found)
    assert len(found) <= 1000
    assert len(tail(mean * 2, disp, least)) >= len(found)


def test_what_came_once_is_likely_again_and_little_more_is_not() -> None:
    assert again(12, 12) > 0.5 > again(13, 12) > again(20, 12)
    assert again(1, 0) == 0


# -- what demand says ----------------------------------------------------------------------


def test_a_class_of_every_monday_finds_its_pods_warm() -> None:
    demand = class_weeks(3)
    nine = MONDAY + 3 * WEEK + 9 * HOUR
    early = nine - 2 * HOUR
    demand.advance(early)
    before = one(alone(demand), early).size
    demand.advance(nine - 60)
    at_nine = one(alone(demand), nine - 60)
    assert before <= 3
    assert 15 <= at_nine.size <= 30
    assert "Monday 9:00" in at_nine.reason
    assert "3 weeks" in at_nine.reason


def test_the_last_minutes_count_where_nothing_is_known() -> None:
    quiet = busy(MONDAY + 8 * HOUR)
    some = busy(*(MONDAY + 9 * HOUR - 60 * n for n in range(14, 0, -1)))
    burst = busy(*(MONDAY + 9 * HOUR - n for n in range(12, 0, -1)))
    now = MONDAY + 9 * HOUR
    assert one(alone(quiet), now).size < one(alone(some), now).size
    assert one(alone(some), now).size < one(alone(burst), now).size
    assert "quarter of an hour" in one(alone(some), now).reason
    assert "burst" in one(alone(burst), now).reason


def test_slower_refills_need_more_pods() -> None:
    fast, slow = (busy(*(MONDAY + 60 * n for n in range(60))) for _ in range(2))
    fast.refilled(5)
    slow.refilled(300)
    now = MONDAY + HOUR
    assert one(alone(fast), now).size < one(alone(slow), now).size


def test_nine_of_ten_refills_are_within_the_refill_time_and_nonsense_is_none() -> None:
    demand = Demand(MONDAY)
    for seconds in [10.0] * 18 + [90.0, 95.0, math.nan, math.inf, -1.0]:
        demand.refilled(seconds)
    assert demand.refill == 10


def test_a_newcomer_gets_one_pod_and_keeps_none_that_nobody_wants() -> None:
    demand = Demand(MONDAY)
    fresh = one(alone(demand), MONDAY + HOUR)
    assert (fresh.size, fresh.wanted) == (1, 1)
    assert "known" in fresh.reason
    demand.advance(MONDAY + 3 * DAY)
    assert one(alone(demand), MONDAY + 3 * DAY).size == 0


def test_what_is_no_longer_done_is_forgotten() -> None:
    demand = class_weeks(3)
    later = MONDAY + 12 * WEEK + 9 * HOUR - 60
    demand.advance(later)
    assert one(alone(demand), later).size == 0


# -- an admin's will -----------------------------------------------------------------------


def test_a_fixed_size_is_a_constant_whatever_the_demand() -> None:
    for demand in (None, class_weeks(2), Demand(MONDAY)):
        target = one(alone(demand, room(20), size=5), MONDAY)
        assert target.size == 5
        assert target.reason == "A fixed number, as set or by default."


def test_a_fixed_size_keeps_below_the_ceiling_and_says_so() -> None:
    target = one(alone(None, room(20, used=15), size=5), MONDAY)
    assert (target.size, target.wanted) == (3, 5)
    assert target.reason == (
        "3 of the 5 configured, because room for warm pods is short of pods (with all other pods"
        " they stay below 95% of the quota)."
    )
    # A tenth of the quota is for what nobody decided.
    assert one(alone(None, room(20), size=18), MONDAY).size == 18


def test_a_schedule_is_a_floor_from_before_its_time_until_its_end() -> None:
    floor = parse_floor("40 by Monday 9:00 for 30m")
    nine = MONDAY + 9 * HOUR
    sizes = {
        minutes: one(alone(None, schedule=[floor]), nine + 60 * minutes).size
        for minutes in (-60, -2, 0, 29, 31)
    }
    assert sizes == {-60: 0, -2: 40, 0: 40, 29: 40, 31: 0}
    assert "40 by Monday 9:00" in one(alone(None, schedule=[floor]), nine).reason
    assert one(alone(class_weeks(3, size=60), schedule=[floor]), nine + 3 * WEEK).size > 40


def test_schedules_follow_the_offset() -> None:
    floor = parse_floor("4 by daily 9:00")
    assert floor_now([floor], MONDAY + 8 * HOUR, lead=0, offset=HOUR) == floor
    assert floor_now([floor], MONDAY + 8 * HOUR, lead=0) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("40 by Monday 9:00", Floor(40, (0,), 32400.0)),
        ("10 by mon-fri 8:30 for 2h", Floor(10, (0, 1, 2, 3, 4), 30600.0, 7200.0)),
        ("2 by Fri-Mon 23:59", Floor(2, (0, 4, 5, 6), 86340.0)),
        ("5 by sat,sun 7:00 for 90m", Floor(5, (5, 6), 25200.0, 5400.0)),
    ],
)
def test_schedules_are_read(text: str, expected: Floor) -> None:
    assert parse_floor(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "40", "40 by 9:00", "40 by Monday", "x by Monday 9:00", "40 by Monday 24:00",
     "40 by Monday 9:60", "9999 by Monday 9:00", "4 by Monnday 9:00", "4 by mon-foo 9:00",
     "4 by Monday 9:00 for 3 days"],
)  # fmt: skip
def test_what_is_no_schedule_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_floor(text)
    assert "40 by Monday 9:00" in caught.value.remedy


# -- guards --------------------------------------------------------------------------------


def test_a_small_quota_has_room_for_one_pod() -> None:
    demand = busy(*(MONDAY + 20 * n for n in range(180)))
    sizes = [one(alone(demand, room(pods)), MONDAY + HOUR).size for pods in (1, 2, 5, 9, 20, 50)]
    assert sizes == [0, 1, 1, 1, 2, 5]  # of a quota of 1, 95 % is no whole pod


def test_users_come_first() -> None:
    demand = busy(*(MONDAY + 20 * n for n in range(180)))
    sizes = [one(alone(demand, room(40, used)), MONDAY + HOUR).size for used in (0, 34, 36, 37, 40)]
    assert sizes == [4, 3, 1, 0, 0]


def test_the_reason_of_a_cut_names_what_is_short() -> None:
    demand = busy(*(MONDAY + 20 * n for n in range(180)))
    target = one(alone(demand, room(20)), MONDAY + HOUR)
    assert target.size == 2 < target.wanted
    assert target.reason.startswith(f"2 of {target.wanted}, because")
    assert "pods" in target.reason
    assert "10%" in target.reason


def test_without_a_quota_the_pool_is_bounded_all_the_same() -> None:
    demand = busy(*(MONDAY + n / 10 for n in range(6000)))
    unlimited = Room(total={"pods": UNLIMITED}, used={})
    for quota in (unlimited, Room(total={}, used={})):
        assert one(alone(demand, quota), MONDAY + 600).size == Settings().most


def test_scarce_gpus_do_not_take_from_those_who_need_none() -> None:
    plain, torch = (busy(*(MONDAY + 30 * n for n in range(120))) for _ in range(2))
    lines = [
        Line(template="plain", cost=SMALL, demand=plain),
        Line(template="torch", cost=GPU, demand=torch),
    ]
    found = targets(Snapshot(lines=lines, room=room(400, gpu=10)), MONDAY + HOUR)
    assert found["torch"].size == 1
    assert "gpu" in found["torch"].reason
    assert found["plain"].size == found["plain"].wanted


def test_a_short_pool_goes_where_most_misses_are_prevented() -> None:
    popular = busy(*(MONDAY + 20 * n for n in range(180)))
    rare = busy(*(MONDAY + 600 * n for n in range(6)))
    lines = [
        Line(template="rare", cost=SMALL, demand=rare),
        Line(template="popular", cost=SMALL, demand=popular),
    ]
    found = targets(Snapshot(lines=lines, room=room(40)), MONDAY + HOUR)
    assert (found["popular"].size, found["rare"].size) in ((3, 1), (4, 0))


def test_targets_rise_at_once_and_fall_later() -> None:
    demand = busy(*(MONDAY + 9 * HOUR - n for n in range(12, 0, -1)))
    now = MONDAY + 9 * HOUR
    snapshot = alone(demand)
    high = one(snapshot, now)
    calm = replace(snapshot, previous={"a": replace(high, recent=((now, high.size),))})
    held = one(calm, now + 200)
    assert held.size == high.size
    assert "wanted in the last" in held.reason
    assert one(calm, now + 1000).size < high.size


# -- for anything --------------------------------------------------------------------------

moments = st.one_of(
    st.floats(0, 3 * WEEK),
    st.floats(0, 2 * HOUR),
    st.floats(-10 * WEEK, 300 * WEEK),
    st.sampled_from([math.nan, math.inf, -math.inf]),
)


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    """Anything that may happen, with clocks that jump."""
    demand = Demand(MONDAY, offset=draw(st.sampled_from([0.0, 3600.0, -7 * 3600.0])))
    for what, when in draw(
        st.lists(
            st.tuples(st.sampled_from(["start", "clump", "wait", "refill", "gap"]), moments),
            max_size=15,
        )
    ):
        time = MONDAY + when
        if what == "start":
            demand.observe(time, bool(draw(st.booleans())))
        elif what == "clump":
            for number in range(draw(st.integers(2, 40))):
                demand.observe(time + number, True)
        elif what == "wait":
            demand.advance(time)
        elif what == "gap":
            demand.resume(time)
        else:
            demand.refilled(when)
    return demand


costs = st.sampled_from([SMALL, GPU, {"pods": 1, "cpu": 4000, "memory": 2048, "gpu": 2}])
floors = st.lists(
    st.builds(Floor, st.integers(0, 60), st.just((0, 1)), st.floats(0, DAY), st.floats(60, DAY)),
    max_size=2,
)


@st.composite
def all_lines(draw: st.DrawFn) -> list[Line]:
    count = draw(st.integers(1, 5))
    return [
        Line(
            template=f"t{index}",
            cost=draw(costs),
            size=draw(st.sampled_from([None, None, None, 0, 3])),
            minimum=draw(st.sampled_from([0, 0, 1])),
            maximum=draw(st.sampled_from([1000, 4])),
            schedule=draw(floors),
            demand=draw(st.one_of(st.none(), demands())),
        )
        for index in range(count)
    ]


quotas = st.builds(
    lambda total, part: Room(total=total, used={k: int(v * part) for k, v in total.items()}),
    st.fixed_dictionaries(
        {"pods": st.integers(0, 300), "cpu": st.integers(0, 300_000)},
        optional={"gpu": st.integers(0, 20), "memory": st.just(UNLIMITED)},
    ),
    st.sampled_from([0.0, 0.3, 0.9, 0.96, 1.2]),
)


@settings(max_examples=60, deadline=None)
@given(all_lines(), quotas, st.floats(0, 4 * WEEK))
def test_guards_hold_for_anything(lines: list[Line], quota: Room, when: float) -> None:
    now = MONDAY + when
    for line in lines:
        if line.demand is not None:
            line.demand.advance(now)
    found = targets(Snapshot(lines=lines, room=quota), now)
    assert set(found) == {line.template for line in lines}
    for target in found.values():
        assert 0 <= target.size <= target.wanted <= 1000
        assert target.reason.endswith(".")
        assert "nan" not in target.reason
    for resource, total in quota.total.items():
        taken = sum(line.cost.get(resource, 0) * found[line.template].size for line in lines)
        if taken:
            assert taken + quota.used[resource] < 0.95 * total
        predicted = [line for line in lines if line.size is None and not line.schedule
                     and not line.minimum]  # fmt: skip
        if len(predicted) == len(lines):
            smallest = min((line.cost.get(resource, 0) for line in lines
                            if line.cost.get(resource)), default=0)  # fmt: skip
            assert taken <= max(0.10 * total, smallest)


@settings(max_examples=25, deadline=None)
@given(st.lists(demands(), min_size=1, max_size=4), st.integers(0, 200), st.integers(0, 100))
def test_more_quota_never_means_fewer_pods(known: list[Demand], pods: int, more: int) -> None:
    lines = [Line(template=str(n), cost=SMALL, demand=one) for n, one in enumerate(known)]
    now = max(one.last for one in known)
    less = targets(Snapshot(lines=lines, room=room(pods)), now)
    plenty = targets(Snapshot(lines=lines, room=room(pods + more)), now)
    assert all(less[name].size <= plenty[name].size for name in less)


def test_the_edge_of_a_burst_is_the_same_after_a_restart() -> None:
    """A millisecond, or a second of refill time, would make another target there."""
    demand = Demand(MONDAY)
    demand.refilled(108.03)
    demand.observe(MONDAY + 1.8125, True)
    now = demand.last
    again = Demand.from_json(json.loads(json.dumps(demand.to_json())), now=now)
    assert (again.refill, again.last) == (demand.refill, demand.last)
    assert one(alone(again), now).size == one(alone(demand), now).size


@settings(max_examples=40, deadline=None)
@given(demands(), st.floats(0, WEEK))
def test_demand_survives_a_restart(demand: Demand, when: float) -> None:
    text = json.dumps(demand.to_json(), allow_nan=False)
    again = Demand.from_json(json.loads(text), now=demand.last, offset=demand.offset)
    assert json.dumps(again.to_json()) == text
    now = demand.last + when
    demand.advance(now)
    again.advance(now)
    mine, theirs = one(alone(demand), now), one(alone(again), now)
    # The clumps within the running refill time are not kept; a slot later they are equal enough.
    assert abs(mine.size - theirs.size) <= 2


@settings(max_examples=50, deadline=None)
@given(st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["version", "born", "last", "starts", "rates", "refills",
                                         "scatter", "slot", "weeks", "3000"]), inner),
    ),
))  # fmt: skip
def test_a_damaged_state_is_a_poor_one_and_no_failure(data: object) -> None:
    if isinstance(data, dict):
        data = {**data, "version": 1}
    demand = Demand.from_json(data, now=MONDAY)
    demand.observe(MONDAY + 1, True)
    assert one(alone(demand), MONDAY + 2).size >= 0


def test_the_state_is_small() -> None:
    rng = random.Random(5)
    demand = Demand(MONDAY)
    now = MONDAY
    while now < MONDAY + 6 * WEEK:
        now += rng.expovariate(1 / 120)
        demand.observe(now, True)
    assert len(json.dumps(demand.to_json())) < 6000


def test_a_clock_set_back_does_not_stop_learning() -> None:
    demand = class_weeks(2)
    demand.advance(MONDAY + 100 * WEEK)
    demand.advance(MONDAY + 2 * WEEK)
    for number in range(20):
        demand.observe(MONDAY + 2 * WEEK + 9 * HOUR + number, True)
    demand.advance(MONDAY + 3 * WEEK + 9 * HOUR - 60)
    assert one(alone(demand), MONDAY + 3 * WEEK + 9 * HOUR - 60).size >= 10


def test_time_that_nobody_watched_is_not_quiet_time() -> None:
    watched, away = class_weeks(2), class_weeks(2)
    nine = MONDAY + 3 * WEEK + 9 * HOUR - 60
    watched.advance(nine)
    away.resume(nine - SLOT)
    away.advance(nine)
    assert one(alone(away), nine).size >= one(alone(watched), nine).size > 0
