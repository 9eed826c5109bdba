"""Claiming a warm pod, when others claim as well.

In a burst the starts of all servers meet. Were each to choose among the oldest few, most would lose
their claims, and go cold beside hundreds of warm pods.
"""

from __future__ import annotations

import random

from ..cluster.base import Cluster
from ..errors import Conflict
from ..model import Kernel, Pod, PodPhase, Template

ATTEMPTS = 8
"""Claims lost to others before a start goes cold."""
OLDEST = 4
"""How many warm pods a start chooses from that meets nobody: the most settled, dialled already."""


class Claims:
    """Those of the starts of one launcher, which keep out of each other's way."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._under_way: set[str] = set()
        """Names of pods that are claimed just now."""

    async def claim(self, kernel: Kernel, template: Template) -> Pod | None:
        """A warm pod of the template that is the kernel's now; None: there is none to be had."""
        met = False
        for _ in range(ATTEMPTS):
            ready = [
                p
                for p in self._cluster.pods().values()
                if p.phase is PodPhase.WARM
                and p.template == template.name
                and p.template_hash == template.hash
                and p.name not in self._under_way
            ]
            if not ready:
                return None
            if not met and not self._under_way:
                ready.sort(key=lambda p: (p.warm_since or p.created, p.name))
                ready = ready[:OLDEST]
            # Random, so that starts of several servers keep apart.
            chosen = random.choice(ready)
            self._under_way.add(chosen.name)
            try:
                return await self._cluster.claim_pod(chosen, kernel)
            except Conflict:
                met = True
                await self._cluster.refresh_one("pod", chosen.name)
            finally:
                self._under_way.discard(chosen.name)
        return None
