"""Claiming a warm pod, when others claim as well.

In a burst the starts of all servers meet. Were each to choose among the oldest few, most would lose
their claims, and go cold beside hundreds of warm pods. So a server that has met others goes on in
the order of names, from a place of its own: what it claims there it sees, while of what others
claim it hears late.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

from ..cluster.base import Cluster
from ..errors import Conflict
from ..model import Kernel, Pod, PodPhase, Template

ATTEMPTS = 8
"""Claims lost to others before a start goes cold."""
OLDEST = 4
"""How many warm pods a start chooses from that meets nobody: the most settled, dialled already."""
REMEMBERED = 10.0
"""Seconds after a lost claim in which others are taken to be about."""


class Claims:
    """Those of the starts of one launcher, which keep out of each other's way.

    Parameters
    ----------
    clock
        Seconds that only grow; injected by tests.
    """

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._under_way: set[str] = set()
        """Names of pods that are claimed just now."""
        self._met = -math.inf
        """When a claim was lost last."""
        self._place = ""
        """The name from which on this server takes pods while others are about."""

    async def claim(self, kernel: Kernel, template: Template) -> Pod | None:
        """A warm pod of the template that is the kernel's now; None: there is none to be had."""
        lost: set[str] = set()
        for _ in range(ATTEMPTS):
            ready = [
                p
                for p in self._cluster.pods().values()
                if p.phase is PodPhase.WARM
                and p.template == template.name
                and p.template_hash == template.hash
                and p.name not in self._under_way
                and p.name not in lost
            ]
            if not ready:
                return None
            chosen = self._choose(ready)
            self._under_way.add(chosen.name)
            try:
                return await self._cluster.claim_pod(chosen, kernel)
            except Conflict:
                lost.add(chosen.name)
                self._met, self._place = self._clock(), ""
                if self._cluster.pods().get(chosen.name) == chosen:
                    await self._cluster.refresh_one("pod", chosen.name)
            finally:
                self._under_way.discard(chosen.name)
        return None

    def _choose(self, ready: list[Pod]) -> Pod:
        if not self._under_way and self._clock() > self._met + REMEMBERED:
            ready.sort(key=lambda p: (p.warm_since or p.created, p.name))
            return random.choice(ready[:OLDEST])
        if not self._place:
            self._place = random.choice(ready).name
        return min(ready, key=lambda p: (p.name < self._place, p.name))
