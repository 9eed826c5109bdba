"""Who gets how much of a pool that has not room for all: guards, and shares by worth. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence

import msgspec

from ..model import UNLIMITED

_EPSILON = 1e-9
_KEEP = 2.0
"""Without it, pods would be made and deleted whenever two templates change places."""


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """A quota by resource, and what of it is taken by all but warm pods.

    A resource that is not named, or is unlimited, does not bound the pool.
    """

    total: Mapping[str, int]
    used: Mapping[str, int]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What warm pods may take of each resource."""

    share: Mapping[str, float]
    """All that are predicted."""
    ceiling: Mapping[str, float]
    """All, those that an admin fixed included; these amounts are not reached, only approached."""
    most: int

    def fits(self, taken: Mapping[str, int], cost: Mapping[str, int], *, predicted: bool) -> bool:
        """Whether one more pod of ``cost`` has room beside what is ``taken``."""
        for resource, amount in cost.items():
            ceiling = self.ceiling.get(resource)
            if not amount or ceiling is None:
                continue
            after = taken.get(resource, 0) + amount
            if after >= ceiling - _EPSILON:
                return False
            if predicted and after > self.share[resource] + _EPSILON:
                return False
        return True

    def tightest(self, cost: Mapping[str, int], *, predicted: bool) -> str | None:
        """The resource of which fewest pods of this cost fit; None if none is bounded."""
        pods = {
            resource: min(self.ceiling[resource], self.share[resource] if predicted else math.inf)
            / amount
            for resource, amount in cost.items()
            if amount and resource in self.ceiling
        }
        if not pods or (predicted and min(pods.values()) > self.most):
            return None
        return min(pods, key=lambda resource: pods[resource])


class Claimant(msgspec.Struct, frozen=True):
    """One template that wants a share."""

    cost: Mapping[str, int]
    floor: int
    """Pods that only the ceiling may cut."""
    number: int
    """All pods wanted, floor included."""
    values: Sequence[float]
    """What the n-th pod prevents, misses per second; beyond the list next to nothing."""
    kept: int = 0
    """Pods it had until now: another must be worth twice as much to take one of them."""


def limits_of(
    room: Room, costs: Sequence[Mapping[str, int]], *, share: float, ceiling: float, most: int
) -> Limits:
    """The guards as amounts. Of each resource one pod's worth is always within the share.

    Without that, 10 % of a quota of less than ten pods would be none at all.
    """
    shares: dict[str, float] = {}
    ceilings: dict[str, float] = {}
    for resource, total in room.total.items():
        if total >= UNLIMITED:
            continue
        one = min((cost[resource] for cost in costs if cost.get(resource)), default=0)
        shares[resource] = max(share * total, one)
        ceilings[resource] = ceiling * total - room.used.get(resource, 0)
    return Limits(share=shares, ceiling=ceilings, most=most)


def share_out(claimants: Sequence[Claimant], limits: Limits) -> list[int]:
    """How many pods each gets: floors first, then one by one whoever's next is worth most."""
    if _all_fit(claimants, limits):
        return [one.number for one in claimants]
    given = [0] * len(claimants)
    taken: dict[str, int] = {}
    _give_floors(claimants, limits, given, taken)
    prices = _prices(claimants, limits, given)
    queue = [
        (-_worth(one, given[index] + 1, prices), index)
        for index, one in enumerate(claimants)
        if given[index] < one.number and given[index] >= one.floor
    ]
    heapq.heapify(queue)
    room = limits.most - sum(given)
    while queue and room > 0:
        _, index = heapq.heappop(queue)
        one = claimants[index]
        if not limits.fits(taken, one.cost, predicted=True):
            continue  # nor will its next fit
        _take(one, index, given, taken)
        room -= 1
        if given[index] < one.number:
            heapq.heappush(queue, (-_worth(one, given[index] + 1, prices), index))
    return given


def _all_fit(claimants: Sequence[Claimant], limits: Limits) -> bool:
    """Whether nobody has to share, which is what is so most of the time."""
    if sum(one.number for one in claimants) > limits.most:
        return False
    for resource, ceiling in limits.ceiling.items():
        wanted = sum(one.cost.get(resource, 0) * one.number for one in claimants)
        if wanted and wanted >= min(ceiling, limits.share[resource] + 2 * _EPSILON) - _EPSILON:
            return False
    return True


def _give_floors(
    claimants: Sequence[Claimant], limits: Limits, given: list[int], taken: dict[str, int]
) -> None:
    """One pod after the other to whoever has got the smallest part of its floor."""
    queue = [(0.0, index) for index, one in enumerate(claimants) if one.floor > 0]
    heapq.heapify(queue)
    while queue:
        _, index = heapq.heappop(queue)
        one = claimants[index]
        if not limits.fits(taken, one.cost, predicted=False):
            continue
        _take(one, index, given, taken)
        if given[index] < one.floor:
            heapq.heappush(queue, (given[index] / one.floor, index))


def _take(one: Claimant, index: int, given: list[int], taken: dict[str, int]) -> None:
    given[index] += 1
    for resource, amount in one.cost.items():
        taken[resource] = taken.get(resource, 0) + amount


def _prices(
    claimants: Sequence[Claimant], limits: Limits, given: Sequence[int]
) -> dict[str, float]:
    """What a unit of each scarce resource costs; what all wishes leave over is free."""
    prices: dict[str, float] = {}
    for resource, ceiling in limits.ceiling.items():
        room = min(limits.share[resource], ceiling)
        wanted = sum(
            one.cost.get(resource, 0) * max(one.number, got)
            for one, got in zip(claimants, given, strict=True)
        )
        if wanted > room > 0:
            prices[resource] = 1 / room
    return prices


def _worth(one: Claimant, number: int, prices: Mapping[str, float]) -> float:
    """Misses that the ``number``-th pod prevents, for what it costs."""
    if number <= len(one.values):
        value = one.values[number - 1]
    else:
        value = 1e-9 / number
    if number <= one.kept:
        value *= _KEEP
    cost = sum(price * one.cost.get(resource, 0) for resource, price in prices.items())
    return value / cost if cost > 0 else value
