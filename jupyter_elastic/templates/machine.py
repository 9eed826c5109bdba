"""What a template offers of this machine when its admin did not say. Reads the machine, no more."""

from __future__ import annotations

import os

import msgspec

from ..model import GpuRange, Offer, Range
from ..resources import GIB, MIB

CPU_MINIMUM = 100
MEMORY_MINIMUM = 128 * MIB
_SHARE = 0.9
"""Part of the machine's memory that one kernel may get; the rest keeps the machine usable."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The size from which defaults are derived."""

    cpu: int
    """Millicores."""
    memory: int
    """Bytes."""
    gpus: dict[str, int] = {}
    """How many GPUs there are, by kind."""

    @classmethod
    def here(cls, gpus: dict[str, int] | None = None) -> Machine:
        """The machine this process runs on: its usable cores and its physical memory."""
        try:
            cores = len(os.sched_getaffinity(0))
        except AttributeError:  # Not Linux.
            cores = os.cpu_count() or 1
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return cls(cpu=cores * 1000, memory=memory, gpus=gpus or {})

    def cpu_range(self) -> Range:
        """From a tenth of a core to all cores, by default half of them but at least one."""
        maximum = max(self.cpu, CPU_MINIMUM)
        half = self.cpu // 2000 * 1000
        return Range(minimum=CPU_MINIMUM, default=min(max(1000, half), maximum), maximum=maximum)

    def memory_range(self) -> Range:
        """From 128 MiB to 90 % of the memory, by default an eighth of it (1 to 4 GiB)."""
        maximum = max(_rounded(int(self.memory * _SHARE)), MEMORY_MINIMUM)
        default = min(max(self.memory // 8 // GIB * GIB, GIB), 4 * GIB)
        return Range(minimum=MEMORY_MINIMUM, default=min(default, maximum), maximum=maximum)

    def gpu_range(self) -> GpuRange:
        """All kinds there are; none by default."""
        kinds = tuple(sorted(kind for kind, count in self.gpus.items() if count > 0))
        return GpuRange(kinds=kinds, maximum=max((self.gpus[kind] for kind in kinds), default=0))

    def offer(self) -> Offer:
        """All of the above."""
        return Offer(cpu=self.cpu_range(), memory=self.memory_range(), gpu=self.gpu_range())


def _rounded(size: int) -> int:
    """Down to a figure that reads well: whole 256 MiB, on tiny machines whole MiB."""
    step = 256 * MIB if size >= GIB else MIB
    return size // step * step
