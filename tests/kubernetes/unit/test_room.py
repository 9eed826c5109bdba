"""Which warm pods are given up for a kernel: as few as will do."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_elastic.cluster import room
from jupyter_elastic.errors import QuotaFull
from jupyter_elastic.model import Pod, PodPhase
from jupyter_elastic.resources import MIB, Resources

TOTAL = Resources(cpu=4000, memory=1024 * MIB)

KINDS = st.sampled_from(["cpu", "memory", "pods"])
AMOUNTS = st.dictionaries(KINDS, st.integers(0, 9), max_size=3)
OFFERS = st.lists(AMOUNTS, max_size=6).map(
    lambda many: {f"pod-{i}": one for i, one in enumerate(many)}
)


def covers(offers: dict[str, dict[str, int]], names: list[str], lack: dict[str, int]) -> bool:
    return all(
        sum(offers[name].get(kind, 0) for name in names) >= amount for kind, amount in lack.items()
    )


@given(OFFERS, AMOUNTS)
def test_what_is_given_up_is_enough_and_nothing_of_it_is_superfluous(
    offers: dict[str, dict[str, int]], lack: dict[str, int]
) -> None:
    chosen = room.fewest(offers, lack)
    if chosen is None:
        assert not covers(offers, list(offers), lack)
        return
    assert len(set(chosen)) == len(chosen)
    assert covers(offers, chosen, lack)
    for name in chosen:
        assert not covers(offers, [one for one in chosen if one != name], lack)


@given(st.lists(st.integers(0, 9), max_size=7), st.integers(1, 30))
def test_of_one_kind_there_is_no_shorter_list(sizes: list[int], lack: int) -> None:
    offers = {f"pod-{i}": {"memory": size} for i, size in enumerate(sizes)}
    chosen = room.fewest(offers, {"memory": lack})
    if chosen is not None and chosen:
        fewer = combinations(sizes, len(chosen) - 1)
        assert all(sum(some) < lack for some in fewer)


@pytest.mark.parametrize(
    ("lack", "chosen"),
    [
        ({"memory": 100}, ["a"]),
        ({"memory": 120}, ["big"]),
        ({"memory": 500}, ["big"]),
        ({"memory": 550}, ["big", "a"]),
        ({"memory": 600, "cpu": 3}, ["big", "a", "b"]),
        ({"memory": -5, "cpu": 0}, []),
        ({"memory": 800}, None),
        ({"gpu": 1}, None),
    ],
)
def test_the_smallest_that_is_enough(lack: dict[str, int], chosen: list[str] | None) -> None:
    offers = {
        "big": {"memory": 500, "cpu": 1},
        "a": {"memory": 100, "cpu": 1},
        "b": {"memory": 100, "cpu": 1},
    }
    assert room.fewest(offers, lack) == chosen


def pod(name: str, memory: int, phase: PodPhase = PodPhase.WARM) -> Pod:
    return Pod(
        name=name,
        uid=name,
        template="t",
        template_hash="h",
        created=0.0,
        phase=phase,
        kernel_id=name if phase is PodPhase.CLAIMED else None,
        resources=Resources(cpu=100, memory=memory * MIB),
    )


def asked(memory: int) -> Resources:
    return Resources(cpu=100, memory=memory * MIB)


def test_one_large_warm_pod_is_given_up_instead_of_several_small_ones() -> None:
    pods = [pod("a", 128), pod("b", 128), pod("c", 512)]
    assert room.make_room(TOTAL, pods, asked(600), evict=True) == ["c"]


def test_what_is_promised_counts_before_it_shows() -> None:
    pods = [pod("mine", 256, PodPhase.CLAIMED)]
    held = {"mine": asked(512), "coming": asked(256)}
    assert room.make_room(TOTAL, pods, asked(256), promised=held) == []
    with pytest.raises(QuotaFull, match="256 MiB of 1 GiB are free"):
        room.make_room(TOTAL, pods, asked(257), promised=held)
    # What shows already is not counted twice, and a promise of less takes nothing away.
    shown = [pod("mine", 512, PodPhase.CLAIMED), pod("coming", 256)]
    assert room.make_room(TOTAL, shown, asked(256), promised=held) == []
    with pytest.raises(QuotaFull):
        room.make_room(TOTAL, shown, asked(257), promised={**held, "mine": asked(1)})


def test_a_pod_that_is_being_claimed_is_not_given_up() -> None:
    pods = [pod("claimed soon", 512), pod("spare", 512)]
    held = {"claimed soon": asked(512)}
    assert room.make_room(TOTAL, pods, asked(512), evict=True, promised=held) == ["spare"]
    with pytest.raises(QuotaFull):
        room.make_room(TOTAL, pods, asked(513), evict=True, promised=held)


def test_a_resize_gives_back_what_was_promised_to_its_own_pod() -> None:
    pods = [pod("mine", 128, PodPhase.CLAIMED)]
    held = {"mine": asked(1000)}
    assert room.make_room(TOTAL, pods, asked(1024), replacing="mine", promised=held) == []
