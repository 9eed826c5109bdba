"""Arithmetic and words that adapters share: room for pods, refusals, names. Pure but for names.

A claimed pod (and one born for a kernel) counts its resources, a warm or warming one its warm
size, one that is gone nothing. Warm pods are given up, oldest first, when a kernel needs their
room; they never push out anything themselves.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence

from ..errors import QuotaFull, ShrinkUnderUse
from ..model import Pod, PodPhase, Template
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
    cpu = memory = 0
    for pod in pods:
        if counts(pod):
            cpu += pod.resources.cpu
            memory += pod.resources.memory
    return Resources(cpu=cpu, memory=memory)


def make_room(
    total: Resources,
    pods: Iterable[Pod],
    asked: Resources,
    *,
    replacing: str | None = None,
    evict: bool = False,
    promised: Sequence[Resources] = (),
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
        What is being created and does not show among ``pods`` yet.
    where
        What has no room, for the refusal's sentence.

    Raises
    ------
    QuotaFull
        It does not fit, with the figures.
    """
    others = [pod for pod in pods if counts(pod) and pod.name != replacing]
    now = _with(used(others), promised)
    lack_cpu = now.cpu + asked.cpu - total.cpu
    lack_memory = now.memory + asked.memory - total.memory
    chosen: list[str] = []
    if evict:
        for pod in sorted(filter(is_spare, others), key=lambda one: (one.created, one.name)):
            if lack_cpu <= 0 and lack_memory <= 0:
                break
            helps_cpu = lack_cpu > 0 and pod.resources.cpu > 0
            helps_memory = lack_memory > 0 and pod.resources.memory > 0
            if helps_cpu or helps_memory:
                chosen.append(pod.name)
                lack_cpu -= pod.resources.cpu
                lack_memory -= pod.resources.memory
    if lack_cpu <= 0 and lack_memory <= 0:
        return chosen
    if evict:  # what kernels hold is what counts for the user
        now = _with(used(pod for pod in others if not is_spare(pod)), promised)
    raise QuotaFull(_refusal(where, total, now, asked, lack_cpu > 0, lack_memory > 0))


def _with(taken: Resources, promised: Sequence[Resources]) -> Resources:
    return Resources(
        cpu=taken.cpu + sum(one.cpu for one in promised),
        memory=taken.memory + sum(one.memory for one in promised),
    )


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
