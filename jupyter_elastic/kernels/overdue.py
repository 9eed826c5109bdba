"""What a server that vanished left half done with a kernel that runs: the kernel's size.

A resize is carried out by the server that was asked for it, and so is the check that a new
kernel's size came into force. Should that server end meanwhile, the record would say
``InProgress`` for ever, or nothing. Whoever looks after the kernel then asks the cluster, once it
is overdue, and writes how it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec.structs import replace

from ..errors import Conflict, ElasticError, Gone, NotRunning, ResizerLost, StartCancelled
from ..model import Kernel, KernelPhase, Resize
from ..resources import Resources

if TYPE_CHECKING:
    from .service import ElasticService

RESIZE_PATIENCE = 90.0
"""Seconds after the last word about a resize; longer than any goes on without another."""
TRIES = 10
"""How often what fails passingly is tried again: for some four minutes."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


def pauses(tries: int = TRIES) -> Iterator[float]:
    """Seconds before each further try, longer each time; jittered, as other servers try too."""
    pause = FIRST_PAUSE
    for _ in range(tries):
        yield pause * random.uniform(0.7, 1.3)
        pause = min(2 * pause, LONGEST_PAUSE)


def overdue_at(kernel: Kernel, *, settles_later: bool) -> float | None:
    """When somebody else should look after a kernel's size; None when nothing is open."""
    if kernel.phase is not KernelPhase.RUNNING:
        return None
    if kernel.resize is not None:
        begun = kernel.resize.state == "InProgress"
        return kernel.resize.time + RESIZE_PATIENCE if begun else None
    # Where a size is accepted first, its start's server sees it come into force by its deadline.
    return kernel.deadline if settles_later and kernel.deadline else None


def outcome(
    kernel: Kernel, actual: Resources | None, error: ElasticError | None, now: float
) -> Kernel:
    """The record of a kernel whose size was looked after; the same where there is nothing to say.

    ``actual`` is what is in force (None: unknown), ``error`` why it is not what was set.
    """
    if error is not None:
        refused = Resize(state="Refused", reason=error.reason, message=str(error), time=now)
        return replace(kernel, actual=actual or kernel.actual, resize=refused)
    if actual is None or kernel.resize is None:
        return kernel
    if actual == kernel.resources:
        lost = ResizerLost(
            f"The server that was changing the kernel's size ended meanwhile; it has {actual}."
        )
        return outcome(kernel, actual, lost, now)
    done = Resize(state="Done", message=f"Now {actual}.", time=now)
    return replace(kernel, resources=actual, actual=actual, resize=done)


async def look_after_size(service: ElasticService, kernel_id: str) -> None:
    """Wait until the kernel's size is overdue, should it come to that, and settle it.

    Raises
    ------
    ElasticError
        The cluster could not be asked, for as long as :func:`pauses` lasts.
    """
    waits = pauses()
    while True:
        kernel = await _once_overdue(service, kernel_id)
        if kernel is None:
            return
        try:
            await _settle(service, kernel)
        except (Conflict, StartCancelled):
            return  # somebody else was faster
        except ElasticError as error:
            pause = next(waits, None) if error.retry else None
            if pause is None:
                raise
            await asyncio.sleep(pause)
        else:
            return


async def _once_overdue(service: ElasticService, kernel_id: str) -> Kernel | None:
    later = service.cluster.settles_later
    while True:
        kernel = service.cluster.kernels().get(kernel_id)
        due = None if kernel is None else overdue_at(kernel, settles_later=later)
        if due is None:
            return None
        left = due - service.launcher.clock()
        if left <= 0:
            return kernel
        await asyncio.sleep(left + random.uniform(0, 1))


async def _settle(service: ElasticService, kernel: Kernel) -> None:
    launcher = service.launcher
    actual: Resources | None = None
    failure: ElasticError | None = None
    try:
        pod = launcher.records.pod_of(kernel.kernel_id)
        # Asking for the size that is set changes nothing, and tells whether it is in force.
        actual = (await service.cluster.resize_pod(pod, pod.resources)).resources
    except (Conflict, Gone, NotRunning):
        return  # it has ended, or somebody resizes it now: that has its own outcome
    except ElasticError as error:
        if error.status == 503:  # nobody answered; that says nothing about the size
            raise
        failure = error
        with contextlib.suppress(ElasticError):  # its pod ended
            actual = launcher.records.pod_of(kernel.kernel_id).resources

    def change(now: Kernel) -> Kernel:
        if now.resize != kernel.resize or now.pod != kernel.pod:
            return now
        return outcome(now, actual, failure, launcher.clock())

    await launcher.records.update(kernel.kernel_id, change)
