"""Reading and writing the records of kernels: again after conflicts, a bounded number of times."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from ..cluster.base import Cluster
from ..errors import Conflict, Gone, NotRunning, StartCancelled, UnknownKernel
from ..model import Kernel, Pod, PodPhase
from .progress import STARTING_PHASES

WRITE_ATTEMPTS = 5

Edit = Callable[[Kernel], Kernel]
"""A record as it is to what it should be; the same object where there is nothing to write."""


class NotMine(Conflict):
    """The record is in the hands of another starter."""


class Records:
    """What the cluster says of kernels, and how it is changed."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def kernel(self, kernel_id: str) -> Kernel:
        """The record. Raises UnknownKernel."""
        kernel = self._cluster.kernels().get(kernel_id)
        if kernel is None:
            raise UnknownKernel(f"There is no kernel {kernel_id}.")
        return kernel

    def pod_of(self, kernel_id: str) -> Pod:
        """The live pod of a kernel. Raises UnknownKernel, NotRunning or Gone."""
        kernel = self.kernel(kernel_id)
        pod = self._cluster.pods().get(kernel.pod) if kernel.pod else None
        if pod is None:
            raise NotRunning(
                f"The kernel has no pod; it is {kernel.phase.value}.",
                kernel.message or "Wait until it runs, or start a new one.",
            )
        if pod.phase is PodPhase.GONE:
            raise Gone(f"The kernel's pod is gone: {pod.message or pod.reason}")
        return pod

    async def update(self, kernel_id: str, edit: Edit) -> Kernel:
        """Read, edit and write the record, again after conflicts.

        ``edit`` sees each newer record, and may raise to leave it as it is.

        Raises
        ------
        StartCancelled
            The record was deleted meanwhile.
        Conflict
            It changes faster than it can be written.
        """
        for attempt in range(WRITE_ATTEMPTS):
            kernel = self._cluster.kernels().get(kernel_id)
            if kernel is None:
                raise StartCancelled(f"Kernel {kernel_id} was deleted meanwhile.")
            edited = edit(kernel)
            if edited is kernel:
                return kernel
            try:
                return await self._cluster.update_kernel(edited)
            except Conflict:
                if attempt == WRITE_ATTEMPTS - 1:
                    raise
                await jitter(attempt)
                await self._cluster.refresh()
        raise AssertionError("unreachable")

    async def update_mine(self, start: Kernel, edit: Edit) -> Kernel:
        """Like :meth:`update`, but only while the record is of the start that ``start`` is of.

        Each start, move and take-over sets a deadline of its own, which names it.

        Raises
        ------
        NotMine
            Somebody else starts the kernel by now, or it is Failed.
        """

        def mine(kernel: Kernel) -> Kernel:
            if kernel.phase not in STARTING_PHASES or kernel.deadline != start.deadline:
                raise NotMine("Somebody else starts this kernel by now.")
            return edit(kernel)

        return await self.update(start.kernel_id, mine)


async def jitter(attempt: int) -> None:
    """Wait a little, longer at each attempt, so that those who meet do not meet again."""
    await asyncio.sleep(random.uniform(0, 0.02) * 2**attempt)
