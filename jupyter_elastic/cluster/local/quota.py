"""The machine's GPUs and capacity, as a quota. Pure functions of pods to decisions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...errors import NoGpu, QuotaFull
from ...model import Capacity, Pod
from ...resources import Gpu, Resources
from ..room import counts, used
from .machine import Device


def capacity(
    total: Resources, devices: Sequence[Device], pods: Iterable[Pod], cores: int = 0
) -> Capacity:
    """The quota and what of it is taken. ``cores`` are the machine's, in millicores."""
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
        cores=cores if total.cpu > cores else 0,
    )


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
