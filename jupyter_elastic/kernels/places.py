"""In which order starts that wait for room get it: round-robin over owners. Pure.

There is no list of those who wait, only their records. Every server computes the same order from
what it sees, so nobody has to be asked and nobody's end stops the others.

Fair queueing as in networks: a start that begins to wait is given a **turn**, the round in which
it is to be served, and keeps it in its record. That is the round which is being served now, or the
one after its owner's last. So an owner's starts are one round apart, in the order in which they
were asked for, and a newcomer waits behind at most one start of each other owner, however many
they have waiting and however many of these have been served already.

The order is total, so that no two servers see another one: by turn, by when a start was asked for
(on Kubernetes in whole seconds), and by the kernel's id. An owner's own starts of one second are in
the order of the turns in their records. To write a turn down changes no place.

Starts that want GPUs of a kind wait in a line of their own: what they lack is mostly the GPU, and
others need not wait for that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..model import Kernel

LATELY = 600.0
"""Seconds for which a start that got room counts for how long others will have to wait."""
PATIENT = 60.0
"""Seconds for which the first of a line holds the others up."""
MOST = 8
"""Starts of a line that may try at the same time."""
FEWEST = 2
"""Starts that must have got room lately until a time is estimated."""


class Place(NamedTuple):
    """Where a start stands in its line."""

    place: int
    """1: the first."""
    of: int
    """How many wait in this line."""
    turn: int
    """The round in which it is served."""
    line: str
    """See :func:`line_of`."""


def places(waiting: Iterable[Kernel], now: float) -> dict[str, Place]:
    """The places of starts that wait, by kernel id.

    A record whose deadline has passed is left out: who waited with it has not been heard for so
    long that it must be gone, and until somebody takes its start over it keeps nobody back.
    """
    lines: defaultdict[str, list[Kernel]] = defaultdict(list)
    for kernel in waiting:
        if kernel.waits_for_room(now):
            lines[line_of(kernel)].append(kernel)
    found: dict[str, Place] = {}
    for line in lines.values():
        turns = _turns(line)
        line.sort(key=lambda one: (turns[one.kernel_id], one.created, one.kernel_id))
        for number, kernel in enumerate(line, 1):
            found[kernel.kernel_id] = Place(
                number, len(line), turns[kernel.kernel_id], line_of(kernel)
            )
    return found


def may_try(found: Mapping[str, Place], since: Mapping[str, float], now: float) -> list[str]:
    """Ids of the starts whose turn it is.

    That is the first of each line. One that could not start for :data:`PATIENT` seconds, because
    it needs more than becomes free, goes on trying before all others and holds them up no more.

    Parameters
    ----------
    since
        When it was first seen, by a clock of the caller's, to be a start's turn.
    """
    turn: list[str] = []
    open_lines: defaultdict[str, int] = defaultdict(lambda: MOST)
    for kernel_id, place in sorted(found.items(), key=lambda one: one[1].place):
        if open_lines[place.line] > 0:
            turn.append(kernel_id)
            stuck = now > since.get(kernel_id, now) + PATIENT
            open_lines[place.line] = open_lines[place.line] - 1 if stuck else 0
    return turn


def next_turn(kernel: Kernel, waiting: Iterable[Kernel], now: float) -> int:
    """The turn of a start that begins to wait now, behind those who wait."""
    line = [
        one
        for one in waiting
        if one.waits_for_room(now)
        and line_of(one) == line_of(kernel)
        and one.kernel_id != kernel.kernel_id
    ]
    turns = _turns(line)
    served = min(turns.values(), default=0)
    mine = [turns[one.kernel_id] for one in line if one.owner == kernel.owner]
    return max(mine) + 1 if mine else served


def line_of(kernel: Kernel) -> str:
    """The line it waits in: the kind of its GPUs, or empty."""
    gpu = kernel.resources.gpu
    return gpu.kind if gpu is not None and gpu.count else ""


def estimate(place: int, served: Sequence[float], now: float) -> float | None:
    """Seconds until a start at this place gets room; None: nobody can tell.

    ``served`` are the times at which starts of the line got room, oldest first. While none does,
    the estimate grows.
    """
    lately = [when for when in served if now - when <= LATELY]
    if len(lately) < FEWEST:
        return None
    return place * (now - lately[0]) / len(lately)


def sentence(place: Place, seconds: float | None) -> str:
    """What the user is told."""
    told = f"Waiting for room: {ordinal(place.place)} of {place.of}"
    if seconds is None:
        return f"{told}; how long it takes is not known yet."
    return f"{told}, {roughly(seconds)}."


def ordinal(number: int) -> str:
    """``1st``, ``2nd``, ``11th`` ..."""
    teens = 11 <= number % 100 <= 13
    ending: Mapping[int, str] = {} if teens else {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{ending.get(number % 10, 'th')}"


def roughly(seconds: float) -> str:
    """A time that nobody should take for exact."""
    if seconds < 45:
        return "less than a minute"
    if seconds < 5400:
        return f"about {max(1, round(seconds / 60))} min"
    return f"about {max(2, round(seconds / 3600))} h"


def _turns(line: Iterable[Kernel]) -> dict[str, int]:
    """Each start's turn: of one owner's, the first that was asked for has the first turn.

    No two of an owner's are the same, although two servers may have given the same.
    """
    owners: defaultdict[str, list[Kernel]] = defaultdict(list)
    for kernel in line:
        owners[kernel.owner].append(kernel)
    turns: dict[str, int] = {}
    for owner in owners.values():
        turn = min(kernel.turn for kernel in owner) - 1
        given = sorted(kernel.turn for kernel in owner)
        for kernel, least in zip(sorted(owner, key=_asked), given, strict=True):
            turn = max(least, turn + 1)
            turns[kernel.kernel_id] = turn
    return turns


def _asked(kernel: Kernel) -> tuple[float, int, str]:
    """The order of one owner's."""
    # Kubernetes dates records in whole seconds.
    return kernel.created, kernel.turn, kernel.kernel_id
