"""Limits by control groups, version 2 or 1: find a place that may be written, and use it.

A pod's group is named in its record (:class:`Group`), so that any server can work with it, also
one that would itself have found another place. Version 2 needs a subtree delegated to this user;
a group that has processes of its own may not have children with controllers, therefore our own
processes are moved into a leaf first.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

_LOG = logging.getLogger(__name__)

ROOT = "jupyter-elastic"
"""The group under which all pods' groups lie."""
LEAF = "jupyter-elastic-server"
"""Version 2: where processes go that were in the parent itself."""
PERIOD = 100_000
"""Microseconds of a CPU period, the kernel's own default."""


class Group(msgspec.Struct, frozen=True):
    """One pod's control group. Its fields go to the agent as they are."""

    version: int
    memory: str
    cpu: str | None
    """None: only memory can be limited here; CPU is held by affinity."""
    join: tuple[str, ...]
    cpuacct: str | None = None
    """Version 1 with ``cpuacct`` mounted apart from ``cpu``."""

    @property
    def directories(self) -> tuple[str, ...]:
        """All directories of the group, each once."""
        return tuple(dict.fromkeys(one for one in (self.memory, self.cpu, self.cpuacct) if one))


class Place(msgspec.Struct, frozen=True):
    """Where pods' groups can be made."""

    version: int
    memory: str
    cpu: str | None
    cpuacct: str | None = None

    def group(self, pod: str) -> Group:
        """The group a pod has, or would have, here."""
        memory = f"{self.memory}/{pod}"
        cpu = f"{self.cpu}/{pod}" if self.cpu else None
        cpuacct = f"{self.cpuacct}/{pod}" if self.cpuacct else None
        directories = dict.fromkeys(one for one in (memory, cpu, cpuacct) if one)
        join = tuple(f"{one}/cgroup.procs" for one in directories)
        return Group(self.version, memory, cpu, join, cpuacct)


class Mounts(msgspec.Struct, frozen=True):
    """Where this process is in each hierarchy: controller (or ``""`` for v2) to directories.

    The value is (mount point, own directory): the second lies in the first.
    """

    found: dict[str, tuple[Path, Path]]

    @classmethod
    def read(cls, proc: Path = Path("/proc/self")) -> Mounts:
        """Read ``mountinfo`` and ``cgroup``; empty where there are no control groups."""
        try:
            mountinfo = (proc / "mountinfo").read_text()
            own = (proc / "cgroup").read_text()
        except OSError:
            return cls({})
        paths: dict[str, str] = {}
        for line in own.splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                paths[controller] = path
        found: dict[str, tuple[Path, Path]] = {}
        for line in mountinfo.splitlines():
            before, _, after = line.partition(" - ")
            kind, _, options = after.split(" ", 2)
            if kind not in ("cgroup", "cgroup2"):
                continue
            root, point = before.split(" ")[3:5]
            names = [""] if kind == "cgroup2" else options.split(",")
            for name in names:
                if name in paths and name not in found:
                    found[name] = (Path(point), _inside(Path(point), root, paths[name]))
        return cls(found)


def _inside(point: Path, root: str, path: str) -> Path:
    """The directory of group ``path`` under a mount that shows the hierarchy from ``root`` on."""
    if root != "/" and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    directory = point / path.lstrip("/")
    # With a namespace the path may point out of what is mounted: then the mount is all we have.
    return directory if ".." not in path and directory.is_dir() else point


# -- finding a place -------------------------------------------------------------------------


def find(setting: str = "auto", mounts: Mounts | None = None) -> tuple[Place | None, str]:
    """Where pods' groups can be made, and otherwise, in a sentence, why not.

    Parameters
    ----------
    setting
        ``auto``; ``off``; or a path: the directory of a delegated version 2 group, or for
        version 1 a path below each controller's mount.
    """
    if setting == "off":
        return None, "Control groups are switched off by configuration."
    mounts = mounts or Mounts.read()
    if setting != "auto":
        path = Path(setting)
        if (path / "cgroup.controllers").exists():
            return _find_v2(path)
        return _find_v1(mounts, setting)
    note = "This system has no control groups."
    if "" in mounts.found:
        _, own = mounts.found[""]
        if own.name == LEAF:
            own = own.parent
        place, note = _find_v2(own)
        if place is not None:
            return place, ""
    if "memory" in mounts.found:
        return _find_v1(mounts)
    return None, note


def _find_v2(base: Path) -> tuple[Place | None, str]:
    try:
        offered = set((base / "cgroup.controllers").read_text().split())
    except OSError:
        return None, f"The control group {base} cannot be read."
    if "memory" not in offered:
        return None, f"The control group {base} does not offer the memory controller."
    wanted = offered & {"memory", "cpu"}
    for needed in (base, base / "cgroup.subtree_control", base / "cgroup.procs"):
        if not os.access(needed, os.W_OK):
            return None, f"This user may not write the control group {base}."
    try:
        if missing := wanted - set((base / "cgroup.subtree_control").read_text().split()):
            if (base / "cgroup.type").exists():  # the real root group needs no empty parent
                strangers = _move_to_leaf(base)
                if strangers:
                    return None, f"The control group {base} also holds other users' processes."
            _enable(base, missing)
        pods = base / ROOT
        _mkdir(pods)
        if missing := wanted - set((pods / "cgroup.subtree_control").read_text().split()):
            _enable(pods, missing)
    except OSError as error:
        return None, f"The control group {base} cannot be used ({error.strerror})."
    return Place(2, str(pods), str(pods) if "cpu" in wanted else None), ""


def _enable(group: Path, controllers: Iterable[str]) -> None:
    words = " ".join(f"+{one}" for one in sorted(controllers))
    (group / "cgroup.subtree_control").write_text(words)


def _move_to_leaf(base: Path) -> bool:
    """Empty ``base`` into its leaf; True, with nothing moved, when others' processes are there."""
    leaf = base / LEAF
    for _ in range(5):  # processes may be born while we move
        pids = _pids([base / "cgroup.procs"])
        if not pids:
            return False
        for pid in pids:
            try:
                if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
                    return True
            except FileNotFoundError:
                continue
        _mkdir(leaf)
        for pid in pids:
            try:
                (leaf / "cgroup.procs").write_text(str(pid))
            except ProcessLookupError:
                continue
    return False


def _find_v1(mounts: Mounts, path: str | None = None) -> tuple[Place | None, str]:
    if "memory" not in mounts.found:
        return None, "This system has no memory control groups of version 1."
    places: dict[str, str] = {}
    for controller, probe in (
        ("memory", "memory.limit_in_bytes"),
        ("cpu", "cpu.cfs_quota_us"),
        ("cpuacct", "cpuacct.usage"),
    ):
        if controller not in mounts.found:
            continue
        point, own = mounts.found[controller]
        tries = [point / path.lstrip("/")] if path else list(dict.fromkeys((own, point)))
        for parent in tries:
            pods = parent / ROOT
            try:
                pods.mkdir(parents=bool(path), exist_ok=True)
            except OSError:
                continue
            if os.access(pods, os.W_OK) and os.access(pods / probe, os.W_OK):
                places[controller] = str(pods)
                break
    if "memory" not in places:
        return None, "This user may not write the memory control groups."
    cpuacct = places.get("cpuacct")
    return Place(
        1,
        places["memory"],
        places.get("cpu"),
        cpuacct if cpuacct != places.get("cpu") else None,
    ), ""


# -- using a group ---------------------------------------------------------------------------


def _mkdir(path: Path) -> None:
    path.mkdir(exist_ok=True)


def _rmdir(path: Path) -> None:
    path.rmdir()


def _write(directory: str, name: str, value: int | str, *, optional: bool = False) -> None:
    path = Path(directory) / name
    if optional and not path.exists():
        return
    path.write_text(str(value))


def _read(directory: str, name: str) -> str:
    return (Path(directory) / name).read_text()


def _pids(files: Iterable[Path]) -> list[int]:
    found: dict[int, None] = {}
    for file in files:
        try:
            text = file.read_text()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno != errno.ENODEV:  # ENODEV: the group was removed while we read
                raise
            continue
        found.update(dict.fromkeys(int(word) for word in text.split()))
    return list(found)


def make(group: Group) -> None:
    """Make the group's directories. Raises OSError."""
    for directory in group.directories:
        _mkdir(Path(directory))


def remove(group: Group) -> bool:
    """Remove the group; False when something in it still lives. Idempotent."""
    gone = True
    for directory in group.directories:
        try:
            _rmdir(Path(directory))
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                raise
            gone = False
    return gone


def pids(group: Group) -> list[int]:
    """Processes in the group."""
    return _pids(Path(one) / "cgroup.procs" for one in group.directories)


def kill(group: Group) -> None:
    """Kill all in the group at once where the kernel can (version 2); else do nothing."""
    if group.version == 2:
        try:
            _write(group.memory, "cgroup.kill", 1, optional=True)
        except FileNotFoundError:
            _LOG.debug("%s is gone already", group.memory)


def set_memory(group: Group, limit: int) -> None:
    """Limit memory (bytes); swap does not count on top. Raises OSError (EBUSY: in use).

    Version 1 demands memory <= memory + swap at every moment, so that the order depends on the
    direction; on failure the former limits stay.
    """
    directory = group.memory
    if group.version == 2:
        _write(directory, "memory.swap.max", 0, optional=True)
        _write(directory, "memory.max", limit)
        return
    swap = "memory.memsw.limit_in_bytes"
    has_swap = (Path(directory) / swap).exists()
    if not has_swap:
        _write(directory, "memory.swappiness", 0, optional=True)
        _write(directory, "memory.limit_in_bytes", limit)
        return
    if limit >= int(_read(directory, swap)):
        _write(directory, swap, limit)
        _write(directory, "memory.limit_in_bytes", limit)
        return
    before = _read(directory, "memory.limit_in_bytes").strip()
    _write(directory, "memory.limit_in_bytes", limit)
    try:
        _write(directory, swap, limit)
    except OSError:
        _write(directory, "memory.limit_in_bytes", before)
        raise


def memory_limit(group: Group) -> int:
    """The limit now in force, in bytes; 2**63 and the like where there is none."""
    if group.version == 2:
        text = _read(group.memory, "memory.max").strip()
        return 2**63 if text == "max" else int(text)
    return int(_read(group.memory, "memory.limit_in_bytes"))


def set_cpu(group: Group, millicores: int | None) -> None:
    """Limit CPU; None lifts the limit. Nothing where the group has no CPU controller."""
    if group.cpu is None:
        return
    # The kernel refuses quotas under one millisecond.
    quota = None if millicores is None else max(1000, millicores * PERIOD // 1000)
    if group.version == 2:
        _write(group.cpu, "cpu.max", f"{'max' if quota is None else quota} {PERIOD}")
        if millicores is not None:
            _write(group.cpu, "cpu.weight", min(10000, max(1, millicores // 10)), optional=True)
        return
    _write(group.cpu, "cpu.cfs_period_us", PERIOD)
    _write(group.cpu, "cpu.cfs_quota_us", -1 if quota is None else quota)
    if millicores is not None:
        # Under contention each gets its share of what was promised, as on Kubernetes.
        _write(group.cpu, "cpu.shares", max(2, millicores * 1024 // 1000), optional=True)


def cpu_limit(group: Group) -> int | None:
    """The limit now in force, in millicores; None where there is none."""
    if group.cpu is None:
        return None
    if group.version == 2:
        quota, period = _read(group.cpu, "cpu.max").split()
        return None if quota == "max" else int(quota) * 1000 // int(period)
    quota = _read(group.cpu, "cpu.cfs_quota_us").strip()
    period = _read(group.cpu, "cpu.cfs_period_us")
    return None if int(quota) < 0 else int(quota) * 1000 // int(period)


def memory_use(group: Group) -> int:
    """Bytes charged to the group, without page cache that the kernel can drop."""
    if group.version == 2:
        use, prefix = int(_read(group.memory, "memory.current")), ""
    else:
        use, prefix = int(_read(group.memory, "memory.usage_in_bytes")), "total_"
    droppable = {f"{prefix}inactive_file", f"{prefix}active_file"}
    for line in _read(group.memory, "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in droppable:
            use -= int(value)
    return max(0, use)


def surrounding(mounts: Mounts | None = None) -> tuple[int | None, int | None]:
    """(bytes, millicores) that the groups around this process allow; None: no limit."""
    mounts = mounts or Mounts.read()
    memory = _least(mounts, "memory", "memory.limit_in_bytes")
    memory_v2 = _least(mounts, "", "memory.max")
    limits = [one for one in (memory, memory_v2) if one is not None and one < 2**62]
    return (min(limits) if limits else None), _cpu_around(mounts)


def _upwards(mounts: Mounts, controller: str) -> list[Path]:
    if controller not in mounts.found:
        return []
    point, own = mounts.found[controller]
    found = [own]
    while found[-1] != point and point in found[-1].parents:
        found.append(found[-1].parent)
    return found


def _least(mounts: Mounts, controller: str, name: str) -> int | None:
    values = []
    for directory in _upwards(mounts, controller):
        try:
            text = (directory / name).read_text().strip()
        except OSError:
            continue  # the root group has no such file
        if text not in ("max", "-1"):
            values.append(int(text))
    return min(values) if values else None


def _cpu_around(mounts: Mounts) -> int | None:
    values = []
    for directory in _upwards(mounts, "cpu"):
        try:
            quota = int((directory / "cpu.cfs_quota_us").read_text())
            period = int((directory / "cpu.cfs_period_us").read_text())
        except OSError:
            continue
        if quota > 0:
            values.append(quota * 1000 // period)
    for directory in _upwards(mounts, ""):
        try:
            first, second = (directory / "cpu.max").read_text().split()
        except OSError:
            continue
        if first != "max":
            values.append(int(first) * 1000 // int(second))
    return min(values) if values else None
