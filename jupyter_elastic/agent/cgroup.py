"""Reading a pod's cgroup, version 1 or 2. Writing its limits is the cluster adapter's business."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional

UNLIMITED = 2**60
"""Version 1 shows "no limit" as a number somewhere above this."""


class Cgroup:
    """One pod's groups. A file that cannot be read yields None (or 0 for counters)."""

    def __init__(self, config: Dict[str, Any]) -> None:
        self.version = int(config["version"])
        self._memory = str(config.get("memory") or "")
        self._cpu = str(config.get("cpu") or config.get("memory") or "")

    def _text(self, directory: str, name: str) -> Optional[str]:
        if not directory:
            return None
        try:
            with open(os.path.join(directory, name), encoding="ascii") as file:
                return file.read()
        except OSError:
            return None

    def _number(self, directory: str, name: str) -> Optional[int]:
        text = self._text(directory, name)
        try:
            return int(text) if text is not None else None
        except ValueError:  # "max"
            return None

    def _table(self, directory: str, name: str) -> Dict[str, int]:
        found = {}
        for line in (self._text(directory, name) or "").splitlines():
            words = line.split()
            if len(words) == 2 and words[1].isdigit():
                found[words[0]] = int(words[1])
        return found

    # -- memory ----------------------------------------------------------------------------

    def memory_charged(self) -> Optional[int]:
        """Bytes charged now, page cache included."""
        name = "memory.current" if self.version == 2 else "memory.usage_in_bytes"
        return self._number(self._memory, name)

    def memory_used(self) -> Optional[int]:
        """Bytes charged that cannot be dropped: without file cache."""
        charged = self.memory_charged()
        if charged is None:
            return None
        prefix = "" if self.version == 2 else "total_"
        table = self._table(self._memory, "memory.stat")
        cache = table.get(prefix + "inactive_file", 0) + table.get(prefix + "active_file", 0)
        return max(0, charged - cache)

    def memory_limit(self) -> Optional[int]:
        """The limit in bytes, or None when there is none."""
        name = "memory.max" if self.version == 2 else "memory.limit_in_bytes"
        limit = self._number(self._memory, name)
        return limit if limit is not None and limit < UNLIMITED else None

    def memory_peak(self) -> Optional[int]:
        """The most that was ever charged, page cache included."""
        name = "memory.peak" if self.version == 2 else "memory.max_usage_in_bytes"
        return self._number(self._memory, name)

    def oom_kills(self) -> int:
        """How often the system has killed in this group for want of memory."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        return self._table(self._memory, name).get("oom_kill", 0)

    # -- cpu -------------------------------------------------------------------------------

    def cpu_limit(self) -> Optional[int]:
        """The limit in millicores, or None."""
        if self.version == 2:
            words = (self._text(self._cpu, "cpu.max") or "max").split()
            if words[0] == "max" or len(words) < 2:
                return None
            quota, period = int(words[0]), int(words[1])
        else:
            quota = self._number(self._cpu, "cpu.cfs_quota_us") or -1
            period = self._number(self._cpu, "cpu.cfs_period_us") or 100000
        return quota * 1000 // period if quota > 0 else None

    def cpu_seconds(self) -> Optional[float]:
        """CPU time used by all that ever ran in the group, where the group tells it."""
        if self.version == 2:
            micro = self._table(self._cpu, "cpu.stat").get("usage_usec")
            return micro / 1e6 if micro is not None else None
        nano = self._number(self._cpu, "cpuacct.usage")
        return nano / 1e9 if nano is not None else None

    def throttled_seconds(self) -> Optional[float]:
        """How long the group's threads had to wait for their CPU limit."""
        table = self._table(self._cpu, "cpu.stat")
        if "throttled_usec" in table:
            return table["throttled_usec"] / 1e6
        return table["throttled_time"] / 1e9 if "throttled_time" in table else None

    def pressure(self) -> Optional[Dict[str, float]]:
        """Share of the last 10 s (0-100) in which some task waited for memory, for CPU."""
        found = {}
        for name, directory in (("memory", self._memory), ("cpu", self._cpu)):
            words = (self._text(directory, f"{name}.pressure") or "").split()
            for word in words[:2]:
                if word.startswith("avg10="):
                    found[name] = float(word[6:])
        return found if len(found) == 2 else None

    def processes(self) -> List[int]:
        """The processes in the memory group."""
        text = self._text(self._memory, "cgroup.procs") or ""
        return [int(word) for word in text.split()]


def own_cgroup(root: str = "/sys/fs/cgroup") -> Optional[Cgroup]:
    """The group this process is in, as a container sees it below ``root``; None: not to be read.

    In a container the mount shows its own group at the root, or (version 1 without a namespace)
    at the path that ``/proc/self/cgroup`` names.
    """
    unified = os.path.exists(os.path.join(root, "cgroup.controllers"))
    paths = _own_paths()
    if unified:
        for path in (root, os.path.join(root, paths.get("", "").lstrip("/"))):
            if os.path.exists(os.path.join(path, "memory.current")):
                return Cgroup({"version": 2, "memory": path, "cpu": path})
        return None
    found = {}
    for name, probe in (("memory", "memory.usage_in_bytes"), ("cpu", "cpu.cfs_quota_us")):
        place = os.path.join(root, name)
        for path in (place, os.path.join(place, paths.get(name, "").lstrip("/"))):
            if _there(path, probe):
                found[name] = path
    return Cgroup({"version": 1, **found}) if "memory" in found else None


def _there(path: str, probe: str) -> bool:
    return os.path.exists(os.path.join(path, probe))


def _own_paths() -> Dict[str, str]:
    """Controller -> path of this process's group; the empty name is version 2."""
    found = {}
    try:
        with open("/proc/self/cgroup", encoding="ascii") as file:
            for line in file:
                _, controllers, path = line.rstrip("\n").split(":", 2)
                for name in controllers.split(","):
                    found[name] = path
    except OSError:
        return {}
    return found
