"""The cluster's control groups: its own root beside the machine's groups, and those of pods."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import NamedTuple

CONTROLLERS = (
    *("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb"),
    *("name=systemd", ""),
)
"""What the kubelet works with; ``""`` stands for all of version 2."""

UNLIMITED = 1 << 62
"""Memory limits of version 1 from here on mean that there is none."""


class Limits(NamedTuple):
    """What the kernel enforces: bytes and thousandths of a CPU, None where there is no limit."""

    memory: int | None
    cpu: int | None


def hierarchies() -> dict[str, Path]:
    """Mount point of each controller; the one of version 2 under the name ``""``."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        place = Path(before.split()[4])
        if kind == "cgroup2" and (place / "cgroup.controllers").exists():
            if (place / "cgroup.controllers").read_text().split():  # else version 1 has them all
                found[""] = place
        elif kind == "cgroup":
            for name in options.split(","):
                found.setdefault(name, place)
    return found


def roots(name: str) -> list[Path]:
    places = hierarchies()
    return sorted({places[one] / name for one in CONTROLLERS if one in places})


def make(name: str) -> None:
    """Make the root group that the kubelet works below, with all controllers."""
    for root in roots(name):
        root.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):  # version 1 starts with none
            if (root.parent / file).exists() and not (root / file).read_text().strip():
                (root / file).write_text((root.parent / file).read_text())
        if (root / "cgroup.subtree_control").exists():
            for group in (root.parent, root):
                for controller in (group / "cgroup.controllers").read_text().split():
                    with contextlib.suppress(OSError):  # what is not on stays off
                        (group / "cgroup.subtree_control").write_text(f"+{controller}")


def remove(name: str, patience: float = 10.0) -> list[Path]:
    """Remove the root group with all below; what could not be removed in time."""
    deadline = time.monotonic() + patience
    while True:
        left = []
        for root in roots(name):
            for place, _, _ in os.walk(root, topdown=False):
                try:
                    os.rmdir(place)
                except FileNotFoundError:
                    pass
                except OSError:
                    left.append(Path(place))
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def of_container(name: str, pod_uid: str, container_id: str) -> dict[str, Path] | None:
    """The groups of a container by controller (``memory``, ``cpu``), or None without them.

    Parameters
    ----------
    container_id
        As in the pod's status, ``containerd://...``.
    """
    places = hierarchies()
    short = container_id.rpartition("/")[2]
    found = {}
    for controller in ("memory", "cpu"):
        root = places.get(controller) or places.get("")
        for quality in ("", "burstable", "besteffort"):
            if root is not None:
                group = root / name / "kubepods" / quality / f"pod{pod_uid}" / short
                if group.is_dir():
                    found[controller] = group
    return found if len(found) == 2 else None


def pods(name: str) -> set[str]:
    """The uids of the pods that have groups here."""
    places = hierarchies()
    root = (places.get("memory") or places[""]) / name / "kubepods"
    found = (
        one
        for folder in (root, root / "burstable", root / "besteffort")
        for one in (folder.iterdir() if folder.is_dir() else ())
    )
    return {one.name[3:] for one in found if one.name.startswith("pod")}


def pids(groups: dict[str, Path]) -> list[int]:
    """Process ids in a container, of the machine's namespace."""
    return [int(line) for line in (groups["memory"] / "cgroup.procs").read_text().split()]


def limits(groups: dict[str, Path]) -> Limits:
    """What is enforced now."""

    def read(controller: str, file: str) -> str:
        return (groups[controller] / file).read_text().strip()

    if (groups["memory"] / "memory.max").exists():
        memory, (quota, period) = read("memory", "memory.max"), read("cpu", "cpu.max").split()
    else:
        memory = read("memory", "memory.limit_in_bytes")
        quota, period = read("cpu", "cpu.cfs_quota_us"), read("cpu", "cpu.cfs_period_us")
    return Limits(
        None if memory == "max" or int(memory) >= UNLIMITED else int(memory),
        None if quota in ("max", "-1") else int(quota) * 1000 // int(period),
    )
