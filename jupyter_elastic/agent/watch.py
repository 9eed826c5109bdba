"""Ending a kernel that needs too much memory, before or instead of the system.

On cgroup version 2 the system may kill everything in the pod at once, the agent included, and
nobody would be left to say why; so the agent ends the kernel itself just below the limit. With
``enforce: watchdog`` nobody else holds the limit at all. On version 1 the system kills only the
process that needed the memory, and there is nothing to watch.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from .cgroup import Cgroup

if TYPE_CHECKING:
    from .kernel import Kernel
    from .meter import Meter

BUSY, IDLE, CLOSE = 0.15, 2.0, 0.05
"""Seconds between two looks: while busy, while idle, and when three quarters are used."""
MARGIN = 0.02
"""Below a version 2 limit by this share (at most 16 MiB) the kernel is ended."""


def too_close(cgroup: Cgroup) -> bool:
    """Whether a version 2 group is about to be killed as a whole."""
    limit, used = cgroup.memory_limit(), cgroup.memory_used()
    if limit is None or used is None:
        return False
    return used > limit - min(limit * MARGIN, 16 * 2**20)


def pause(kernel: "Kernel", meter: "Meter") -> float:
    """How long to wait before the next look."""
    limit = meter.memory_limit()
    if limit and meter.memory_used(exact=False) > 0.75 * limit:
        return CLOSE if kernel.execution_state == "busy" else BUSY
    return BUSY if kernel.execution_state == "busy" else IDLE


async def watch_memory(kernel: "Kernel", meter: "Meter") -> None:
    """Look after the kernel's memory for as long as the pod is claimed."""
    early = meter.cgroup is not None and meter.cgroup.version == 2
    if not early and not meter.watchdog:
        return
    while True:
        if not kernel.alive or not meter.memory_limit():
            await kernel.stirred.wait()
            continue
        if meter.watchdog:
            over = meter.over_limit()
        else:
            over = meter.cgroup is not None and too_close(meter.cgroup)
        if over and not kernel.over_memory:
            kernel.over_memory = True
            kernel.signal(signal.SIGKILL)
        await kernel.stirred.wait(pause(kernel, meter))
