"""The machine's capacity accounted like a quota. Pure functions of pods to decisions.

A claimed pod (and one born for a kernel) counts its resources, a warm or warming one its warm
size, one that is gone nothing. Warm pods are given up, oldest first, when a kernel needs their
room; they never push out anything themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...errors import NoGpu, QuotaFull
from ...model import Capacity, Pod, PodPhase
from ...resources import Gpu, Resources, format_cpu, show_memory
from .machine import Device


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


def capacity(total: Resources, devices: Sequence[Device], pods: Iterable[Pod]) -> Capacity:
    """The quota and what of it is taken."""
    listed = [pod for pod in pods if counts(pod)]
    taken = {gpu for pod in listed for gpu in pod.gpu_ids}
    kinds = sorted({device.kind for device in devices})
    return Capacity(
        total=total,
        used=used(listed),
        gpus={kind: sum(one.kind == kind for one in devices) for kind in kinds},
        gpus_used={
            kind: sum(one.kind == kind and one.id in taken for one in devices) for kind in kinds
        },
    )


def make_room(
    total: Resources,
    pods: Iterable[Pod],
    asked: Resources,
    *,
    replacing: str | None = None,
    evict: bool = False,
) -> list[str]:
    """Names of the warm pods to give up so that ``asked`` fits; often none.

    Parameters
    ----------
    replacing
        The pod whose present share is given back by the same step (a resize).
    evict
        Whether warm pods may be given up.

    Raises
    ------
    QuotaFull
        It does not fit, with the figures.
    """
    others = [pod for pod in pods if counts(pod) and pod.name != replacing]
    now = used(others)
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
        now = used(pod for pod in others if not is_spare(pod))
    raise QuotaFull(_refusal(total, now, asked, lack_cpu > 0, lack_memory > 0))


def _refusal(total: Resources, now: Resources, asked: Resources, cpu: bool, memory: bool) -> str:
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
    return f"This machine has no room: {'; '.join(parts)}."


def pick_gpus(devices: Sequence[Device], pods: Iterable[Pod], gpu: Gpu | None) -> tuple[str, ...]:
    """Ids of free devices for ``gpu``; none for none.

    Raises
    ------
    NoGpu
        There are no such devices here, or never so many.
    QuotaFull
        Too few of them are free now.
    """
    if gpu is None or gpu.count < 1:
        return ()
    fitting = [device.id for device in devices if device.kind == gpu.kind]
    if len(fitting) < gpu.count:
        kinds = ", ".join(sorted({device.kind for device in devices})) or "none"
        raise NoGpu(
            f"{gpu.count} x {gpu.kind} were asked for; this machine has {len(fitting)} of that"
            f" kind (kinds here: {kinds}).",
            "Ask for a kind and a number that exist here.",
        )
    taken = {one for pod in pods if counts(pod) for one in pod.gpu_ids}
    free = [one for one in fitting if one not in taken]
    if len(free) < gpu.count:
        raise QuotaFull(
            f"{gpu.count} x {gpu.kind} were asked for; {len(free)} of {len(fitting)} are free."
        )
    return tuple(free[: gpu.count])
