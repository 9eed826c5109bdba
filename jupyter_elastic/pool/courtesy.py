"""Whether refilling waits because starts need the cluster more. Pure.

A pod of the pool takes as many requests as a start, and more work of scheduler and node. Where so
many starts come at once that the cluster is behind with their claims, each pod that is made
meanwhile makes users wait, for a pod that nobody asks for yet. So it is made a little later, as
long as there are warm pods for all who wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ..model import WAITING_FOR_ROOM, Kernel, KernelPhase

MANY = 8
"""Starts without a pod at the same time that mean that the cluster is behind."""
LONGEST = 10.0
"""Seconds for which a pool is left alone at a stretch, at most."""
LOOK = 0.5
"""Seconds until a pool that is left alone is looked at again."""


class Courtesy:
    """See the module. One for each template."""

    def __init__(self) -> None:
        self._since: float | None = None

    def holds(self, starting: int, warm: int, now: float) -> bool:
        """Whether no pod is to be made now.

        Parameters
        ----------
        starting
            Starts that have no pod yet.
        warm
            Warm pods: with fewer than starts, some would go cold for want of what is not made.
        """
        if starting < MANY or warm < starting:
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now - self._since < LONGEST


def starting(kernels: Iterable[Kernel], now: float) -> Counter[str]:
    """Starts that have no pod yet, and do not wait for room, by template; by the wall clock."""
    return Counter(
        one.template
        for one in kernels
        if one.phase is KernelPhase.STARTING
        and one.pod is None
        and one.reason != WAITING_FOR_ROOM
        and now < one.deadline
    )
