"""What goes on after a start was answered: its record is written, and its size comes into force.

On clusters where a size may be accepted and yet not come into force (``Cluster.settles_later``),
nobody waits for that before the kernel is used; it is seen through here, in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from msgspec.structs import replace

from ..cluster.base import Cluster
from ..errors import Conflict, ElasticError, Gone, NoNodeFits, ShrinkUnderUse, StartCancelled
from ..model import Kernel, KernelPhase, Pod, Resize
from .progress import Progress
from .records import Edit, NotMine, Records

CONFIRMED_WITHIN = 5.0
"""Seconds that whoever needs the record of a kernel just started waits for it."""
CLOSE_WITHIN = 5.0
"""Seconds that a process which ends waits for records of what has happened already."""

Move = Callable[[str], Awaitable[object]]
"""Gives the kernel another pod, for the reason given; it has run nothing yet."""


class Settling:
    """See the module. One per launcher."""

    def __init__(
        self,
        cluster: Cluster,
        records: Records,
        progress: Progress,
        *,
        log: logging.Logger,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._cluster = cluster
        self._records = records
        self._progress = progress
        self._log = log
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._confirming: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something in the background, until :meth:`close`; it must not raise."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End what goes on in the background; kernels run on. Idempotent."""
        if self._confirming:
            await asyncio.wait(tuple(self._confirming), timeout=CLOSE_WITHIN)
        tasks = (*self._tasks, *self._confirming)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- that a kernel runs ----------------------------------------------------------------

    async def confirmed(self, kernel_id: str) -> None:
        """Return once the record says that a kernel runs which was started here just now."""
        tasks = [task for task in self._confirming if task.get_name() == kernel_id]
        if tasks:
            await asyncio.wait(tasks, timeout=CONFIRMED_WITHIN)

    def confirm(self, start: Kernel, edit: Edit) -> None:
        """Write what has come true already, in the background and until it is written.

        Not given up while the record is this start's: without it, somebody would take the start
        over, and end a kernel that runs.
        """
        kernel_id = start.kernel_id

        async def write() -> None:
            pause = 0.5
            while True:
                try:
                    await self._records.update_mine(start, edit)
                except (NotMine, StartCancelled):
                    return  # it was ended or moved meanwhile
                except ElasticError as error:
                    self._log.warning(
                        "No record says yet that kernel %s runs: %s", kernel_id, error
                    )
                    await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                    pause = min(2 * pause, 10.0)
                else:
                    self._progress.wake(kernel_id)
                    return

        task = asyncio.create_task(write(), name=kernel_id)
        self._confirming.add(task)
        task.add_done_callback(self._confirming.discard)

    # -- that it has its size --------------------------------------------------------------

    def settle(self, kernel: Kernel, pod: Pod, move: Move) -> None:
        """See a new kernel's size come into force, or give it a pod where it can.

        A kernel that has run nothing yet is moved unnoticed; otherwise its record tells that it
        has less than was asked for.
        """
        self.spawn(self._settle(kernel, pod, move))

    async def _settle(self, kernel: Kernel, pod: Pod, move: Move) -> None:
        waited: list[str] = []

        def tell(message: str) -> None:
            waited.append(message)
            self.tell_waiting(kernel.kernel_id, message, begins=True)

        try:
            settled = await self._cluster.resize_pod(pod, kernel.resources, tell=tell)
            if waited:
                await self._settled(kernel.kernel_id, settled)
        except NoNodeFits as error:
            self._log.warning("Kernel %s does not fit where it is: %s", kernel.kernel_id, error)
            try:
                await self._settle_elsewhere(kernel, pod, move, error)
            except ElasticError as failure:
                self._log.warning("Kernel %s could not be moved: %s", kernel.kernel_id, failure)
        except (Conflict, Gone):
            return  # resized or ended meanwhile: that has its own outcome
        except ShrinkUnderUse as error:
            # It has used more of the warm pod than it asked for, before that was in force.
            await self._settle_above(kernel, pod, error)
        except ElasticError as error:
            self._log.warning(
                "Whether kernel %s has its size is unknown: %s", kernel.kernel_id, error
            )
            await self._unsettled(kernel.kernel_id, pod, error)

    async def _settle_above(self, kernel: Kernel, pod: Pod, error: ElasticError) -> None:
        """A size with the memory that the kernel has, and the rest as it was asked for."""
        try:
            now = self._records.pod_of(kernel.kernel_id)
            size = replace(kernel.resources, memory=now.resources.memory)
            await self._cluster.resize_pod(now, size)
        except ElasticError as failure:
            self._log.warning("Kernel %s has more than it asked for: %s", kernel.kernel_id, failure)
        await self._unsettled(kernel.kernel_id, pod, error)

    async def _unsettled(self, kernel_id: str, pod: Pod, error: ElasticError) -> None:
        """Record that a kernel does not have the size that was asked for, and what it has."""
        refused = Resize(
            state="Refused", reason=error.reason, message=str(error), time=self._clock()
        )

        def edit(kernel: Kernel) -> Kernel:
            if kernel.phase is not KernelPhase.RUNNING or kernel.pod != pod.name:
                return kernel  # it failed or moved meanwhile: that says more
            actual = self._records.pod_of(kernel_id).resources
            return replace(kernel, actual=actual, resize=refused)

        with contextlib.suppress(ElasticError):  # it ended meanwhile, or somebody else resizes it
            await self._records.update(kernel_id, edit)

    async def _settled(self, kernel_id: str, pod: Pod) -> None:
        done = Resize(state="Done", message=f"Now {pod.resources}.", time=self._clock())

        def edit(kernel: Kernel) -> Kernel:
            if kernel.resize is None or kernel.resize.state != "InProgress":
                return kernel
            return replace(kernel, actual=pod.resources, resize=done)

        await self._records.update(kernel_id, edit)

    async def _settle_elsewhere(
        self, kernel: Kernel, pod: Pod, move: Move, error: ElasticError
    ) -> None:
        agent = await self._cluster.dial(pod)
        if (await agent.call("status", timeout=5)).get("touched", True):
            await self._unsettled(kernel.kernel_id, pod, error)
            return
        await move(str(error))

    def tell_waiting(self, kernel_id: str, message: str, *, begins: bool = False) -> None:
        """Let the record say what a resize waits for; ``begins``: it says nothing of it yet."""
        waits = Resize(state="InProgress", message=message, time=self._clock())

        def edit(kernel: Kernel) -> Kernel:
            known = kernel.resize
            if known is None or known.state != "InProgress":
                # Not over an outcome that was faster.
                return replace(kernel, resize=waits) if begins and known is None else kernel
            return replace(kernel, resize=waits)

        async def write() -> None:
            try:
                await self._records.update(kernel_id, edit)
            except ElasticError as error:
                self._log.debug("What a resize waits for was not recorded: %s", error)

        self.spawn(write())
