"""How much the kernel uses, and holding it to its limits where nobody else does.

Memory is counted without the pod's *overhead*: what agent, zygote and spare needed while warm.
"""

from __future__ import annotations

import os
import time
from typing import Any, Dict, List, Optional

from . import processes
from .cgroup import Cgroup, own_cgroup
from .nvml import open_library

MIB = 2**20


class Meter:
    """Measures one pod.

    Attributes
    ----------
    memory, cpu
        The limits in force: bytes and millicores without overhead; 0 = none.
    overhead
        Bytes, see the module.
    has_spare
        Whether there is a spare now, besides the kernel.
    """

    def __init__(self, config: Dict[str, Any]) -> None:
        self.cgroup = _find_cgroup(config["cgroup"])
        self._cpu_overhead = int(config["cpu_overhead"])
        self.watchdog = config["enforce"] == "watchdog"
        self.memory = int(config["memory"])
        self.cpu = int(config["cpu"])
        self.overhead = 0
        self.kernel: Optional[int] = None
        self.peak = 0
        self._kills_seen = self.oom_kills()
        self._cpu_before = 0.0
        self._cpu_last = 0.0
        self._lost_cpu = 0.0
        self._base_cheap = 0
        self._base_exact = 0
        self._next_spare = 0
        self.has_spare = True

    # -- overhead --------------------------------------------------------------------------

    def weigh(self, pids: List[int], spare: Optional[int]) -> int:
        """Measure the overhead of a warm pod made of ``pids``, rounded up to MiB.

        The spare counts twice: it becomes the kernel, and then there will be a next one.
        """
        used = self.cgroup.memory_used() if self.cgroup else None
        if used is None:
            used = sum(processes.proportional(pid) for pid in pids)
        if spare is not None:
            self._base_cheap = processes.anonymous(spare)
            self._base_exact = processes.proportional(spare)
            self._next_spare = processes.proportional(spare, private=True)
            used += self._next_spare
        self.overhead = -(-used // MIB) * MIB
        self._cpu_before = self._cpu_total() or 0.0
        return self.overhead

    # -- the kernel ------------------------------------------------------------------------

    def began(self, pid: int) -> None:
        """A kernel process was born."""
        self.kernel = pid
        self.peak = 0
        self._lost_cpu += self._cpu_last
        self._cpu_last = 0.0
        self._kills_seen = self.oom_kills()

    def oom_kills(self) -> int:
        """Kills for want of memory in the pod's cgroup since it exists."""
        return self.cgroup.oom_kills() if self.cgroup else 0

    def killed_by_system(self) -> bool:
        """Whether the system killed for want of memory since the kernel was born."""
        return self.oom_kills() > self._kills_seen

    def memory_limit(self) -> Optional[int]:
        """The limit in force, without overhead."""
        if not self.watchdog and self.cgroup is not None:
            limit = self.cgroup.memory_limit()
            if limit is not None:
                return max(0, limit - self.overhead)
        return self.memory or None

    def cpu_limit(self) -> Optional[int]:
        """The limit in force, in millicores and without overhead."""
        limit = self.cgroup.cpu_limit() if self.cgroup else None
        return max(1, limit - self._cpu_overhead) if limit else self.cpu or None

    def in_force(self) -> Dict[str, Optional[int]]:
        """The limits of the pod's own group as they are, overheads included."""
        group = self.cgroup
        return {
            "memory_limit": group.memory_limit() if group else None,
            "cpu_limit": group.cpu_limit() if group else None,
        }

    def memory_used(self, exact: bool = True) -> int:
        """Bytes used by the kernel and what it started.

        Not ``exact`` costs little and may count pages several times that processes share.
        """
        used = self.cgroup.memory_used() if self.cgroup else None
        if used is not None:
            # While there is no next spare, that part of the overhead is not in use.
            used -= self.overhead - (0 if self.has_spare else self._next_spare)
        elif self.kernel is None:
            used = 0
        else:
            measure = processes.proportional if exact else processes.anonymous
            used = sum(measure(pid) for pid in processes.tree(self.kernel))
            # The bare interpreter is in the overhead.
            used -= self._base_exact if exact else self._base_cheap
        used = max(0, used)
        self.peak = max(self.peak, used)
        return used

    def memory_peak(self) -> Optional[int]:
        """The most the kernel used, as far as it was seen, without overhead."""
        peak = self.cgroup.memory_peak() if self.cgroup else None
        if peak is not None:
            limit = self.memory_limit()
            peak = max(0, peak - self.overhead)
            return min(peak, limit) if limit else peak
        return self.peak or None

    def over_limit(self) -> bool:
        """Whether the kernel uses more than it may; exact, but dear only near the limit."""
        limit = self.memory_limit()
        if not limit or self.memory_used(exact=False) <= limit:
            return False
        return self.cgroup is not None or self.memory_used(exact=True) > limit

    def _cpu_total(self) -> Optional[float]:
        return self.cgroup.cpu_seconds() if self.cgroup else None

    def cpu_seconds(self) -> float:
        """CPU time used since the pod was claimed; never falls."""
        total = self._cpu_total()
        if total is not None:
            return max(0.0, total - self._cpu_before)
        if self.kernel is not None:
            now = processes.cpu_seconds(processes.tree(self.kernel))
            self._cpu_last = max(self._cpu_last, now)
        return self._lost_cpu + self._cpu_last

    def usage(self, gpu: List[str]) -> Dict[str, Any]:
        """The fields of the protocol's ``usage`` reply."""
        group = self.cgroup
        tree = processes.tree(self.kernel) if self.kernel is not None else []
        return {
            "time": time.time(),
            "cpu_seconds": self.cpu_seconds(),
            "cpu_limit": self.cpu_limit(),
            "throttled_seconds": group.throttled_seconds() if group else None,
            "memory": self.memory_used(),
            "memory_limit": self.memory_limit(),
            "memory_peak": self.memory_peak(),
            "overhead": self.overhead,
            "oom_kills": self.oom_kills(),
            "psi": group.pressure() if group else None,
            "processes": len(tree),
            "gpu": gpu_usage(gpu, tree),
        }

    # -- holding to the limit of CPU -------------------------------------------------------

    def set_affinity(self) -> Optional[str]:
        """Keep the kernel's threads on as many cores as it may use. Returns a warning or None.

        Whole cores only, and cores are not told apart between pods: the weaker means, used
        where no cgroup may be written.
        """
        if not self.watchdog or self.kernel is None:
            return None
        allowed = sorted(os.sched_getaffinity(0))
        count = min(len(allowed), max(1, -(-self.cpu // 1000))) if self.cpu else len(allowed)
        # Another pod's kernel should not sit on the very same cores: begin somewhere else.
        begin = self.kernel % len(allowed)
        cores = {allowed[(begin + i) % len(allowed)] for i in range(count)}
        failed = None
        for pid in processes.tree(self.kernel):
            try:
                for thread in os.listdir(f"/proc/{pid}/task"):
                    os.sched_setaffinity(int(thread), cores)
            except ProcessLookupError:
                continue
            except FileNotFoundError:
                continue
            except OSError as error:
                failed = f"The CPU limit could not be set: {error}."
        return failed


def _find_cgroup(config: Any) -> Optional[Cgroup]:
    if config == "own":
        return own_cgroup()
    return Cgroup(config) if config else None


def gpu_usage(wanted: List[str], tree: List[int]) -> List[Dict[str, Any]]:
    """Memory and load of the pod's GPUs (``wanted``: UUIDs or indices)."""
    nvml = open_library() if wanted else None
    if nvml is None:
        return []
    try:
        found = []
        for device in nvml.devices():
            if device.uuid not in wanted and str(device.number) not in wanted:
                continue
            load = nvml.load(device.number)
            found.append(
                {
                    "id": device.uuid,
                    "kind": device.name,
                    "memory": _mine(load.processes, tree, load.memory) if load else 0,
                    "memory_total": device.memory_total,
                    "utilization": load.utilization if load else 0,
                }
            )
        return found
    finally:
        nvml.close()


def _mine(by_process: Dict[int, int], tree: List[int], everybody: int) -> int:
    """What the pod's processes use; all of it where the driver sees other process ids."""
    mine = [used for pid, used in by_process.items() if pid in tree]
    return sum(mine) if mine or not by_process else everybody
