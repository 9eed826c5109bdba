"""The dated steps of starts: kept in memory while a start runs, and followed by whoever waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import takewhile

from ..cluster.base import Cluster
from ..model import KernelPhase, Step
from ..waits import event_or_timeout

STARTING_PHASES = (KernelPhase.QUEUED, KernelPhase.STARTING, KernelPhase.MOVING)
LOOK = 0.5
"""Seconds between looks at a start in another process, whose steps come with the record only."""


class Progress:
    """Steps by kernel id. One per launcher."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float]) -> None:
        self._cluster = cluster
        self._clock = clock
        self._steps: dict[str, list[Step]] = {}
        self._waiters: dict[str, asyncio.Event] = {}

    def begin(self, kernel_id: str, message: str) -> tuple[Step, ...]:
        """Forget an earlier start; the first step is ``queued``."""
        self._steps[kernel_id] = []
        self.add(kernel_id, "queued", message)
        return self.of(kernel_id)

    def add(self, kernel_id: str, name: str, message: str) -> None:
        """One more step, now."""
        self.take(kernel_id, Step(self._clock(), name, message))

    def say(self, kernel_id: str, name: str, message: str) -> None:
        """The step that goes on: one of this name is the last, and this is what it is now."""
        steps = self._steps.get(kernel_id)
        if steps and steps[-1].name == name:
            steps.pop()
        self.add(kernel_id, name, message)

    def take(self, kernel_id: str, step: Step) -> None:
        """One more step that somebody else has dated, perhaps in whole seconds.

        No step is dated before the one that was known before it.
        """
        steps = self._steps.setdefault(kernel_id, [])
        if steps and step.time < steps[-1].time:
            step = Step(steps[-1].time, step.name, step.message)
        steps.append(step)
        self.wake(kernel_id)

    def of(self, kernel_id: str) -> tuple[Step, ...]:
        """The steps so far, also those not yet written to the record."""
        mine = self._steps.get(kernel_id)
        if mine is not None:
            return tuple(mine)
        kernel = self._cluster.kernels().get(kernel_id)
        return kernel.steps if kernel else ()

    def forget(self, kernel_id: str) -> None:
        """The kernel is gone. Idempotent."""
        self._steps.pop(kernel_id, None)
        self.wake(kernel_id)

    def wake(self, kernel_id: str) -> None:
        """Let followers look again."""
        waiter = self._waiters.pop(kernel_id, None)
        if waiter:
            waiter.set()

    async def follow(self, kernel_id: str) -> AsyncIterator[Step]:
        """Each step, as it comes, until the kernel runs, failed or is gone.

        The last one comes again when it says something else now.
        """
        shown: tuple[Step, ...] = ()
        while True:
            waiter = self._waiters.setdefault(kernel_id, asyncio.Event())
            kernel = self._cluster.kernels().get(kernel_id)
            steps = self.of(kernel_id)
            pairs = zip(steps, shown, strict=False)
            known = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            for step in steps[known:]:
                yield step
            shown = steps
            if kernel is None or kernel.phase not in STARTING_PHASES:
                return
            await event_or_timeout(waiter, LOOK)
