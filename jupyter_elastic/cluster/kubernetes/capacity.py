"""How much of the namespace there is and what of it is taken. Pure.

What users asked for is what counts here; the agent's share, which a ResourceQuota counts as well,
is left out, so that the figures are those that users know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...errors import BadQuantity
from ...model import UNLIMITED, Capacity, Pod
from ...resources import Resources, parse_cpu, parse_memory
from .. import room
from .counts import NAMES
from .facts import amounts
from .objects import PodObject, QuotaObject
from .problems import number

_CPU = ("requests.cpu", "cpu", "limits.cpu")
_MEMORY = ("requests.memory", "memory", "limits.memory")


def capped(caps: tuple[int | None, int | None]) -> Resources:
    """The configured limits for all kernels together, millicores and bytes."""
    cpu, memory = caps
    return Resources(
        cpu=UNLIMITED if cpu is None else cpu, memory=UNLIMITED if memory is None else memory
    )


def read(
    caps: tuple[int | None, int | None],
    quotas: Sequence[QuotaObject],
    pods: Iterable[Pod],
    counts: tuple[dict[str, int], dict[str, int]] = ({}, {}),
) -> Capacity:
    """The tightest of all limits, and what pods take of it; ``counts`` as :mod:`.counts` tells.

    ``quotas`` are those that are about such pods as ours.
    """
    total = capped(caps)
    cpu, memory = total.cpu, total.memory
    gpus: dict[str, int] = {}
    gpus_used: dict[str, int] = {}
    for quota in quotas:
        cpu = min([cpu, *_limits(quota, _CPU, parse_cpu)])
        memory = min([memory, *_limits(quota, _MEMORY, parse_memory)])
        for key, value in quota.status.hard.items():
            name = key.removeprefix("requests.")
            if "/" in name and value.isdigit():
                gpus[name] = min(gpus.get(name, int(value)), int(value))
                used = quota.status.used.get(key, "0")
                gpus_used[name] = int(used) if used.isdigit() else 0
    return Capacity(
        total=Resources(cpu=cpu, memory=memory),
        used=room.used(pods),
        gpus=gpus,
        gpus_used=gpus_used,
        counts=counts[0],
        counts_used=counts[1],
    )


def given_back(obj: PodObject) -> dict[str, int]:
    """What a ResourceQuota gets back when a pod goes, by the names that quotas have for it.

    Millicores, bytes or a count.
    """
    size = amounts(obj)
    found = dict.fromkeys(NAMES, 1)
    for key, quantity in size.requests.items():
        amount = number(key, quantity)
        found[f"requests.{key}"] = amount
        if key in ("cpu", "memory"):
            found[key] = amount
    for key, quantity in size.limits.items():
        found[f"limits.{key}"] = number(key, quantity)
        # Of what cannot be overcommitted only the limit need be there.
        found.setdefault(f"requests.{key}", found[f"limits.{key}"])
    return found


def _limits(quota: QuotaObject, names: Sequence[str], parse: object) -> list[int]:
    found = []
    for name in names:
        text = quota.status.hard.get(name)
        if text is None:
            continue
        try:
            found.append(parse(text))  # type: ignore[operator]
        except BadQuantity:
            found.append(0)  # "0" is no usable quantity for a kernel, but it is a quota
    return found
