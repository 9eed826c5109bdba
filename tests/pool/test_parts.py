"""What the controller remembers: pace, back-off, expectations, targets, shards. Pure."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from jupyter_elastic.model import PodPhase
from jupyter_elastic.pool.backoff import Backoff
from jupyter_elastic.pool.bucket import TokenBucket
from jupyter_elastic.pool.expectations import LATE, UNSURE, Expectations
from jupyter_elastic.pool.shards import lease_name, shard_of

from .test_planner import pod


def middle(low: float, high: float) -> float:
    return (low + high) / 2


# -- pace ----------------------------------------------------------------------------------


@given(
    st.floats(0.1, 100),
    st.integers(1, 50),
    st.lists(st.floats(-5, 60), min_size=1, max_size=60),
)
def test_a_bucket_never_gives_more_than_its_rate_and_burst(
    rate: float, burst: int, pauses: list[float]
) -> None:
    bucket = TokenBucket(rate, burst)
    now = passed = given_out = 0.0
    for pause in pauses:
        now += pause
        passed += max(0.0, pause)
        given_out += sum(bucket.take(now) for _ in range(burst + 2))
        assert given_out <= burst + passed * rate + 0.01


def test_a_bucket_says_when_there_is_a_token() -> None:
    bucket = TokenBucket(0.5, 1)
    assert bucket.take(0)
    assert not bucket.take(0)
    assert bucket.ready_in(0) == pytest.approx(2)
    assert bucket.take(2)


# -- back-off ------------------------------------------------------------------------------


def test_pauses_double_up_to_the_longest_and_end_when_it_works() -> None:
    backoff, now, pauses = Backoff(2, 300, middle), 0.0, []
    for _ in range(10):
        pauses.append(backoff.fail("a", now))
        now += pauses[-1]
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert not backoff.left("b", 0)
    backoff.succeed("a")
    assert not backoff.left("a", now)
    assert backoff.fail("a", now) == 2


def test_many_pods_that_fail_together_are_one_failure() -> None:
    backoff = Backoff(2, 300, middle)
    for second in range(10):
        backoff.fail("a", second / 10)
    assert backoff.failures("a") == 1
    assert backoff.left("a", 2) == 0


# -- expectations --------------------------------------------------------------------------


def test_a_pod_counts_from_its_creation_until_it_is_seen() -> None:
    expect, made = Expectations(), pod("x", PodPhase.WARMING)
    expect.creating()
    expect.created(made, 0)
    assert expect.apply({}) == [made]
    seen = replace(made, phase=PodPhase.WARM)
    expect.see("x", seen)
    assert expect.apply({"x": seen}) == [seen]
    assert expect.apply({}) == []  # seen once, and gone since


def test_news_may_be_faster_than_the_answer() -> None:
    expect = Expectations()
    expect.creating()
    expect.see("x", pod("x", PodPhase.WARMING))
    expect.see("x", None)
    expect.created(pod("x", PodPhase.WARMING), 0)
    assert expect.apply({}) == []


def test_a_pod_that_was_deleted_counts_no_more_though_it_is_still_seen() -> None:
    expect, pods = Expectations(), {"x": pod("x"), "y": pod("y")}
    expect.removed("x", 0)
    assert [p.name for p in expect.apply(pods)] == ["y"]
    expect.see("x", None)
    assert not len(expect)


def test_a_creation_without_an_answer_counts_until_the_cache_must_show_it() -> None:
    expect = Expectations()
    expect.creating()
    expect.unsure("a", "h1", 0)
    (phantom,) = expect.apply({})
    assert (phantom.template, phantom.template_hash) == ("a", "h1")
    assert not expect.is_overdue(UNSURE)
    expect.confirm(UNSURE)
    assert len(expect) == 1  # it may still get there
    assert expect.is_overdue(UNSURE + 1)
    expect.confirm(UNSURE + 1)
    assert not len(expect)


def test_what_is_not_seen_for_long_is_worth_a_look_and_then_forgotten() -> None:
    expect = Expectations()
    expect.creating()
    expect.created(pod("x", PodPhase.WARMING), 0)
    expect.removed("y", 1)
    assert not expect.is_overdue(LATE)
    assert expect.is_overdue(LATE + 0.1)
    expect.confirm(0.5)  # as of then: y was deleted after it
    assert len(expect) == 1


# -- shards --------------------------------------------------------------------------------


def test_namespaces_spread_over_shards_and_few_move_when_there_is_one_more() -> None:
    names = [f"team-{i}" for i in range(3000)]
    before = {name: shard_of(name, 4) for name in names}
    after = {name: shard_of(name, 5) for name in names}
    moved = [name for name in names if before[name] != after[name]]
    assert all(after[name] == 4 for name in moved)
    for placed, shards in ((before, 4), (after, 5)):
        counts = Counter(placed.values())
        assert all(abs(counts[i] - 3000 / shards) < 3000 / shards * 0.2 for i in range(shards))


def test_each_shard_has_a_lease_of_its_own() -> None:
    names = {lease_name(i, n) for n in (1, 2, 3) for i in range(n)}
    assert len(names) == 6
    assert "pool" not in names, "that one is of a single namespace"
    with pytest.raises(ValueError):
        lease_name(3, 3)
