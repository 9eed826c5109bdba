"""The order of starts that wait for room: fair to owners, the same for everybody who looks."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from jupyter_elastic.kernels.places import (
    MOST,
    PATIENT,
    Place,
    estimate,
    may_try,
    next_turn,
    ordinal,
    places,
    sentence,
)
from jupyter_elastic.model import WAITING_FOR_ROOM, Kernel, KernelPhase
from jupyter_elastic.resources import Gpu, Resources

NOW = 1000.0
SIZE = Resources(cpu=100, memory=2**28)
OWNERS = ("ada", "bob", "cleo", "dan")


def start(number: int, owner: str, turn: int = 0, **fields: Any) -> Kernel:
    """A start that waits; those with higher numbers were asked for later."""
    kernel = Kernel(
        kernel_id=f"{number:04}",
        owner=owner,
        template="t",
        resources=SIZE,
        phase=KernelPhase.QUEUED,
        reason=WAITING_FOR_ROOM,
        created=float(number),
        deadline=NOW + 60,
        turn=turn,
    )
    return replace(kernel, **fields)


def order(waiting: list[Kernel], now: float = NOW) -> list[Kernel]:
    """Those who have a place, in the order of places."""
    found = places(waiting, now)
    return sorted(
        (one for one in waiting if one.kernel_id in found), key=lambda k: found[k.kernel_id].place
    )


def join(line: list[Kernel], number: int, owner: str, seen: list[Kernel] | None = None) -> Kernel:
    """One more start begins to wait; ``seen`` is what its server knows of the others."""
    kernel = start(number, owner)
    kernel = replace(kernel, turn=next_turn(kernel, line if seen is None else seen, NOW))
    line.append(kernel)
    return kernel


class Story:
    """Starts that come and get room, and what happened to each while it waited."""

    def __init__(self) -> None:
        self.line: list[Kernel] = []
        self.born = 0
        self.before: dict[str, int] = {}
        """By start: how many of its owner's were there before it."""
        self.passed: dict[str, Counter[str]] = {}
        """By start: how many of each owner's got room since it waits."""

    def come(self, owner: str) -> None:
        self.born += 1
        mine = sum(one.owner == owner for one in self.line)
        kernel = join(self.line, self.born, owner)
        self.before[kernel.kernel_id], self.passed[kernel.kernel_id] = mine, Counter()

    def serve(self) -> Kernel | None:
        if not self.line:
            return None
        first = order(self.line)[0]
        self.line.remove(first)
        for one in self.line:
            self.passed[one.kernel_id][first.owner] += 1
        return first


EVENTS = st.lists(st.one_of(st.sampled_from(OWNERS), st.just("serve")), max_size=60)


@given(EVENTS)
def test_a_start_waits_behind_at_most_one_of_each_other_owner(events: list[str]) -> None:
    """And the n-th of an owner behind at most n of each, whatever was served before.

    One more where its owner has had room in this round already.
    """
    story = Story()
    served: list[Kernel] = []
    for event in [*events, *["serve"] * len(events)]:
        if event != "serve":
            story.come(event)
            continue
        first = story.serve()
        if first is None:
            continue
        served.append(first)
        passed = story.passed[first.kernel_id]
        for owner in OWNERS:
            if owner != first.owner:
                before = story.before[first.kernel_id]
                assert passed[owner] <= (before + 2 if before else 1)
    assert not story.line
    for owner in OWNERS:
        mine = [one.created for one in served if one.owner == owner]
        assert mine == sorted(mine), "in the order in which they were asked for"


waiting_lines = st.lists(
    st.builds(
        lambda number, owner, turn, dead: start(
            number,
            owner,
            turn,
            # Several in one second, as Kubernetes dates records.
            created=float(number // 1000),
            deadline=NOW - 1 if dead else NOW + 60,
        ),
        st.integers(0, 9999),
        st.sampled_from(OWNERS),
        st.integers(0, 9),
        st.booleans(),
    ),
    max_size=30,
    unique_by=lambda kernel: kernel.kernel_id,
)
"""Whatever records may say, also after races between servers that did not see each other."""


@given(waiting_lines, st.randoms())
def test_everybody_sees_the_same_order(waiting: list[Kernel], chance: random.Random) -> None:
    shuffled = list(waiting)
    chance.shuffle(shuffled)
    assert places(waiting, NOW) == places(shuffled, NOW)
    found = places(waiting, NOW)
    assert sorted(one.place for one in found.values()) == list(range(1, len(found) + 1))
    assert {one.of for one in found.values()} <= {len(found)}


@given(waiting_lines)
def test_whoever_is_not_heard_keeps_nobody_back(waiting: list[Kernel]) -> None:
    alive = [one for one in waiting if one.deadline > NOW]
    assert places(waiting, NOW) == places(alive, NOW)
    new = start(10_000, "ada")
    assert next_turn(new, waiting, NOW) == next_turn(new, alive, NOW)


@given(waiting_lines)
def test_the_order_among_an_owners_is_kept_whatever_the_records_say(waiting: list[Kernel]) -> None:
    """Two servers may have given the same turn, or turns in another order."""
    for owner in OWNERS:
        mine = [one.created for one in order(waiting) if one.owner == owner]
        assert mine == sorted(mine)
    found = places(waiting, NOW)
    turns = [(k.owner, found[k.kernel_id].turn) for k in waiting if k.kernel_id in found]
    assert len(turns) == len(set(turns)), "one of each owner in a round"


@given(waiting_lines)
def test_writing_the_places_down_changes_nothing(waiting: list[Kernel]) -> None:
    found = places(waiting, NOW)
    noted = [
        replace(one, turn=found[one.kernel_id].turn) for one in waiting if one.kernel_id in found
    ]
    assert places(noted, NOW) == found


def test_a_burst_that_did_not_see_itself_is_no_advantage() -> None:
    line: list[Kernel] = []
    for number in range(5):
        join(line, number, "ada", seen=[])
    join(line, 9, "bob")
    assert [one.owner for one in order(line)] == ["ada", "bob", "ada", "ada", "ada", "ada"]


def test_gpus_have_a_line_of_their_own() -> None:
    gpu = Resources(cpu=100, memory=2**28, gpu=Gpu("a100", 1))
    line = [start(1, "ada", resources=gpu), start(2, "ada"), start(3, "bob", resources=gpu)]
    found = places(line, NOW)
    assert [found[one.kernel_id][:2] for one in line] == [(1, 2), (1, 1), (2, 2)]
    assert sorted(may_try(found, {}, NOW)) == ["0001", "0002"]


@pytest.mark.parametrize(
    "other",
    [
        {"phase": KernelPhase.RUNNING},
        {"phase": KernelPhase.FAILED},
        {"reason": "", "phase": KernelPhase.STARTING},
    ],
)
def test_only_those_who_wait_have_a_place(other: dict[str, Any]) -> None:
    assert places([start(1, "ada", **other)], NOW) == {}


def test_one_that_finds_no_room_holds_the_others_up_for_a_while_only() -> None:
    line = [start(number, owner) for number, owner in enumerate(("ada", "bob", "cleo"))]
    found = places(line, NOW)
    assert may_try(found, {}, NOW) == ["0000"]
    since = {"0000": NOW}
    assert may_try(found, since, NOW + PATIENT) == ["0000"]
    assert may_try(found, since, NOW + PATIENT + 1) == ["0000", "0001"]
    since["0001"] = NOW
    assert may_try(found, since, NOW + PATIENT + 1) == ["0000", "0001", "0002"]


def test_only_so_many_try_at_once() -> None:
    line = [start(number, f"owner{number}") for number in range(3 * MOST)]
    since = {one.kernel_id: NOW for one in line}
    assert len(may_try(places(line, NOW), since, NOW + PATIENT + 1)) == MOST


# -- how long ----------------------------------------------------------------------------------


def test_the_estimate_is_by_what_got_room_lately() -> None:
    assert estimate(3, [], NOW) is None
    assert estimate(3, [NOW - 10], NOW) is None, "one says nothing"
    assert estimate(3, [NOW - 2000, NOW - 1000], NOW) is None, "that was long ago"
    assert estimate(3, [NOW - 120, NOW - 60], NOW) == 180
    assert estimate(3, [NOW - 180, NOW - 120], NOW) == 270, "it grows while none gets room"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "Waiting for room: 3rd of 7; how long it takes is not known yet."),
        (20, "Waiting for room: 3rd of 7, less than a minute."),
        (50, "Waiting for room: 3rd of 7, about 1 min."),
        (125, "Waiting for room: 3rd of 7, about 2 min."),
        (9000, "Waiting for room: 3rd of 7, about 2 h."),
    ],
)
def test_what_the_user_is_told(seconds: float | None, words: str) -> None:
    assert sentence(Place(3, 7, 0, ""), seconds) == words


def test_ordinals() -> None:
    words = ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "101st", "111th"]
    assert [ordinal(int(word[:-2])) for word in words] == words
