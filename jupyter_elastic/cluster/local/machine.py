"""How much this machine has to give: memory, cores, GPUs. Read only; no accounting."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from ...agent import nvml
from ...resources import MIB, Resources
from . import cgroups

RESERVE_SHARE = 0.10
RESERVE_LEAST = 512 * MIB
"""What is left to the system, the server and the agents: 10 %, at least 512 MiB."""


class Device(msgspec.Struct, frozen=True):
    """One GPU."""

    id: str
    """NVML's UUID, as ``CUDA_VISIBLE_DEVICES`` takes it."""
    kind: str
    """The product's name as a slug, ``nvidia-h200``."""


def total_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes of physical memory."""
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise OSError("no MemTotal in /proc/meminfo")


def cores() -> int:
    """Millicores that the processes of this server may use."""
    _, around = cgroups.surrounding()
    usable = len(os.sched_getaffinity(0)) * 1000
    return min(usable, around or usable)


def capacity(cpu_overcommit: float) -> Resources:
    """What kernels may have together: memory less a reserve, cores times ``cpu_overcommit``."""
    around_memory, _ = cgroups.surrounding()
    memory = min(total_memory(), around_memory or 2**63)
    memory -= max(int(memory * RESERVE_SHARE), RESERVE_LEAST)
    return Resources(cpu=int(cores() * cpu_overcommit), memory=max(0, memory))


def gpus() -> tuple[Device, ...]:
    """The GPUs this user's kernels may have; none where NVML finds none.

    An admin who gave this server only some (``CUDA_VISIBLE_DEVICES``) gave kernels no more.
    """
    found = tuple(Device(one.uuid, slug(one.name)) for one in nvml.devices())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    words = {word.strip() for word in visible.split(",")}
    return tuple(one for index, one in enumerate(found) if one.id in words or str(index) in words)


def slug(name: str) -> str:
    """``NVIDIA H200`` becomes ``nvidia-h200``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
