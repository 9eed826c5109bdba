"""Arithmetic and words that adapters share: room for pods, refusals, names. Pure but for names.

A claimed pod (and one born for a kernel) counts its resources, a warm or warming one its warm
size, one that is gone nothing. Warm pods are given up when a kernel needs their room, as few as
will do; they never push out anything themselves.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from ..errors import QuotaFull, ShrinkUnderUse
from ..model import Kernel, Pod, PodPhase, Template
from ..resources import MIB, Resources, format_cpu, show_memory

HEADROOM = 8 * MIB
"""Left above current use when memory is lowered, else the next allocation ends the kernel."""


def counts(pod: Pod) -> bool:
    """Whether a pod takes capacity."""
    return pod.phase is not PodPhase.GONE


def is_spare(pod: Pod) -> bool:
    """Whether a pod belongs to nobody yet, and may be given up for a kernel."""
    return pod.kernel_id is None and pod.phase in (PodPhase.WARMING, PodPhase.WARM)


def used(pods: Iterable[Pod]) -> Resources:
    """CPU and memory taken by all pods together."""
    return _sum(pod.resources for pod in pods if counts(pod))


def fewest(offers: Mapping[str, Mapping[str, int]], lack: Mapping[str, int]) -> list[str] | None:
    """Names of few offers that make up for all that is lacking; of equal ones the first.

    None of them is superfluous. Where only one kind is lacking there is no shorter list.

    Parameters
    ----------
    offers
        What each one gives back, by kind; the names in the order of preference.
    lack
        How much of each kind is too little. What is not above zero does not matter.

    Returns
    -------
    list or None
        None: all of them together are not enough. Empty: nothing is lacking.
    """
    needs = {kind: amount for kind, amount in lack.items() if amount > 0}

    def left(names: Iterable[str]) -> dict[str, int]:
        given = [offers[name] for name in names]
        rest = {kind: need - sum(one.get(kind, 0) for one in given) for kind, need in needs.items()}
        return {kind: amount for kind, amount in rest.items() if amount > 0}

    def use(name: str, short: Mapping[str, int]) -> float:
        """How much of a shortage one makes up for."""
        offer = offers[name]
        return sum(min(offer.get(kind, 0), amount) / needs[kind] for kind, amount in short.items())

    def size(name: str) -> float:
        return sum(offers[name].get(kind, 0) / need for kind, need in needs.items())

    chosen: list[str] = []
    while short := left(chosen):
        rest = [name for name in offers if name not in chosen]
        if enough := [name for name in rest if not left([*chosen, name])]:
            chosen.append(min(enough, key=size))
            break
        best = max(rest, key=lambda name: use(name, short), default=None)
        if best is None or use(best, short) <= 0:
            return None
        chosen.append(best)
    for name in tuple(chosen):
        others = [one for one in chosen if one != name]
        if not left(others):
            chosen = others
    return chosen


def make_room(
    total: Resources,
    pods: Iterable[Pod],
    asked: Resources,
    *,
    replacing: str | None = None,
    evict: bool = False,
    promised: Mapping[str, Resources] = MappingProxyType({}),
    where: str = "This machine",
) -> list[str]:
    """Names of the warm pods to give up so that ``asked`` fits; often none.

    Parameters
    ----------
    replacing
        The pod whose present share is given back by the same step (a resize).
    evict
        Whether warm pods may be given up.
    promised
        What pods are being given, by name, and do not show yet; such pods are not given up.
    where
        What has no room, for the refusal's sentence.

    Raises
    ------
    QuotaFull
        It does not fit, with the figures.
    """
    others = [pod for pod in pods if counts(pod) and pod.name != replacing]
    sizes = {pod.name: pod.resources for pod in others}
    for name, size in promised.items():
        if name != replacing:
            sizes[name] = _larger(size, sizes.get(name, size))
    now = _sum(sizes.values())
    lack = {
        "cpu": now.cpu + asked.cpu - total.cpu,
        "memory": now.memory + asked.memory - total.memory,
    }
    spare = [one for one in others if evict and is_spare(one) and one.name not in promised]
    spare.sort(key=lambda one: (one.created, one.name))
    offers = {one.name: _amounts(one.resources) for one in spare}
    chosen = fewest(offers, lack)
    if chosen is not None:
        return chosen
    for one in spare:  # what kernels hold is what counts for the user
        del sizes[one.name]
        lack = {kind: amount - offers[one.name][kind] for kind, amount in lack.items()}
    now = _sum(sizes.values())
    refusal = QuotaFull(_refusal(where, total, now, asked, lack["cpu"] > 0, lack["memory"] > 0))
    refusal.is_hopeless = asked.cpu > total.cpu or asked.memory > total.memory
    raise refusal


def let_kernels_first(kernels: Iterable[Kernel], now: float) -> None:
    """A warm pod takes no room that a kernel waits for. Raises QuotaFull."""
    if any(kernel.waits_for_room(now) for kernel in kernels):
        raise QuotaFull("A kernel that waits for room takes what there is.")


def _sum(sizes: Iterable[Resources]) -> Resources:
    cpu = memory = 0
    for one in sizes:
        cpu += one.cpu
        memory += one.memory
    return Resources(cpu=cpu, memory=memory)


def _larger(one: Resources, other: Resources) -> Resources:
    return Resources(cpu=max(one.cpu, other.cpu), memory=max(one.memory, other.memory))


def _amounts(size: Resources) -> dict[str, int]:
    return {"cpu": size.cpu, "memory": size.memory}


def _refusal(
    where: str, total: Resources, now: Resources, asked: Resources, cpu: bool, memory: bool
) -> str:
    parts = []
    if memory:
        free = max(0, total.memory - now.memory)
        parts.append(
            f"{show_memory(asked.memory)} of memory were asked for, {show_memory(free)} of"
            f" {show_memory(total.memory)} are free"
        )
    if cpu:
        free = max(0, total.cpu - now.cpu)
        parts.append(
            f"{format_cpu(asked.cpu)} CPU were asked for, {format_cpu(free)} of"
            f" {format_cpu(total.cpu)} are free"
        )
    return f"{where} has no room: {'; '.join(parts)}."


def shrink_refusal(use: int, asked: int) -> ShrinkUnderUse:
    """The error for memory that would be lowered under its use."""
    least = -(-(use + HEADROOM) // MIB) * MIB
    return ShrinkUnderUse(
        f"The kernel uses {show_memory(use)} of memory now; {show_memory(asked)} would be too"
        " little.",
        f"Choose at least {show_memory(least)}, or free memory in the notebook first.",
    )


def make_name(template: Template) -> str:
    """A name no pod ever had, and that people can tell apart."""
    slug = re.sub(r"[^a-z0-9]+", "-", template.name.lower()).strip("-")[:40] or "pod"
    return f"{slug}-{uuid.uuid4().hex[:10]}"
