"""Getting a pod for a kernel that starts: a warm one by claim, or a cold one made for it.

What comes out is a pod of the kernel's size whose agent answers, and a record that names it.
Nothing of the user has run in it yet, and a pod that is lost on the way is replaced by another.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

from msgspec.structs import replace

from ..agent import protocol
from ..cluster.base import Agent, Cluster
from ..errors import ElasticError, Gone, NoEncryption
from ..model import WAITING_FOR_ROOM, Kernel, KernelPhase, Pod, Step, Template
from ..resources import Resources
from .claims import Claims
from .progress import Progress
from .records import Records
from .settling import Settling
from .startargs import StartArgs, start_fields
from .together import both

TIMING = logging.getLogger("jupyter_elastic.timing")
"""One debug line (kernel id, what was reached) per part of a start; for benchmarks."""

LOST_PODS = 2
"""Pods that may end before a start of a kernel was asked of them until the start fails."""
NOTED_EVERY = 1.0
"""Seconds between two looks whether the record lacks steps of a start that takes long."""
LAST_LOOK = 3.0
"""Seconds of a start's time, or a tenth of it, kept to find out why a pod is not up."""


class Hold:
    """What a start has so far: whoever gives it up reads here what there is to let go of."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        """The record, as this start wrote it last."""
        self.pod: Pod | None = None
        self.turn: int | None = None
        """Its turn among those who wait for room (:mod:`.queue`); None: it has not waited."""
        self.wait_until: float | None = None
        """When it has waited for room long enough, by the loop's clock."""
        self.seen: int | None = None
        """How much had become free when it was tried last."""
        self.why = ""
        """What it was refused with last."""
        self.told: tuple[int, int] | None = None
        """The place, and of how many, that the user was told last."""
        self.told_at = 0.0
        """When that was, by the loop's clock."""


class Fit(NamedTuple):
    """A pod of the size that was asked for, and what its agent is to be told."""

    pod: Pod
    agent: Agent
    fields: dict[str, Any]


class Getting:
    """See the module. One per launcher.

    Parameters
    ----------
    start_timeout
        Seconds a start may take.
    """

    def __init__(
        self,
        cluster: Cluster,
        records: Records,
        progress: Progress,
        settling: Settling,
        *,
        start_timeout: float,
        log: logging.Logger,
        clock: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._records = records
        self._progress = progress
        self._settling = settling
        self._start_timeout = start_timeout
        self._log = log
        self._clock = clock
        self._claims = Claims(cluster)

    async def get(self, hold: Hold, template: Template, args: StartArgs, *, cold: str = "") -> Fit:
        """Get a pod for the held kernel, and write its name into the record.

        ``cold`` says why no warm pod serves, where the caller knows. Whatever is got is in
        ``hold`` at once, also when this fails.

        Raises
        ------
        ElasticError
            As the cluster or the agent says it: QuotaFull, BadInterpreter, NoEncryption ...
        """
        until = asyncio.get_running_loop().time() + self._start_timeout
        until -= min(LAST_LOOK, self._start_timeout / 10)
        for attempt in itertools.count():
            hold.pod, start = await self._get_pod(hold, template, cold, until)
            pod = hold.pod
            TIMING.debug("%s claimed", hold.kernel.kernel_id)
            try:
                fields = start_fields(self._cluster, pod, hold.kernel, template, args)
                return await self._make_ready(pod, start, hold, args, fields)
            except Gone as error:
                if attempt == LOST_PODS:
                    raise
                # Nothing of the user has run in it yet: another serves as well.
                await self._lose(pod, hold.kernel, error)
        raise AssertionError("unreachable")

    async def _get_pod(
        self, hold: Hold, template: Template, cold: str, until: float
    ) -> tuple[Pod, Literal["warm", "cold"]]:
        """A claimed pod and how it was got: ``warm`` by claim or ``cold`` by creation.

        It is waited for ``until`` then, by the loop's clock: the pod's own failure, which says
        more than that the start took too long, comes first.
        """
        kernel = hold.kernel
        why_cold = cold or self._cluster.why_cold(template, kernel)
        if not why_cold:
            claimed = await self._claims.claim(kernel, template)
            if claimed is not None:
                self._progress.add(kernel.kernel_id, "claimed", f"Claimed warm pod {claimed.name}.")
                await self._leave_queue(hold, claimed)
                return claimed, "warm"
            why_cold = "No warm pod is ready."
        pod = await self._cluster.create_pod(template, kernel=kernel)
        self._progress.add(kernel.kernel_id, "created", f"{why_cold} Created pod {pod.name}.")
        await self._leave_queue(hold, pod)
        note = asyncio.create_task(self._note_steps(hold.kernel, pod.name))
        try:
            # Should it fail, the pod ends with the start: it bears the kernel's id from its birth.
            pod = await self._cluster.wait_pod(
                pod.name,
                max(0.1, until - asyncio.get_running_loop().time()),
                tell=partial(self._progress.take, kernel.kernel_id),
            )
        finally:
            note.cancel()
        self._progress.add(kernel.kernel_id, "agent-up", "The agent is up.")
        return pod, "cold"

    async def _leave_queue(self, hold: Hold, pod: Pod) -> None:
        """There is room: a start that waited for it waits no more, and the next may try."""
        if hold.kernel.reason != WAITING_FOR_ROOM:
            return
        steps = self._progress.of(hold.kernel.kernel_id)

        def starts(kernel: Kernel) -> Kernel:
            moves = kernel.phase is KernelPhase.MOVING
            return replace(
                kernel,
                phase=KernelPhase.MOVING if moves else KernelPhase.STARTING,
                reason="",
                message="",
                turn=0,
                pod=pod.name,
                deadline=self._clock() + self._start_timeout,
                steps=steps,
            )

        hold.kernel = await self._records.update_mine(hold.kernel, starts)

    async def _note_steps(self, kernel: Kernel, pod: str) -> None:
        """Keep a long start's pod and steps in the record, for whoever looks from elsewhere."""
        noted: tuple[Step, ...] = ()

        def edit(known: Kernel) -> Kernel:
            return replace(known, pod=pod, start="cold", steps=noted)

        while True:
            steps = self._progress.of(kernel.kernel_id)
            if steps != noted:
                noted = steps
                try:
                    await self._records.update_mine(kernel, edit)
                except ElasticError as error:  # the start itself will meet what is behind it
                    self._log.debug("Steps of %s were not recorded: %s", kernel.kernel_id, error)
            await asyncio.sleep(NOTED_EVERY)

    async def _make_ready(
        self,
        pod: Pod,
        start: Literal["warm", "cold"],
        hold: Hold,
        args: StartArgs,
        fields: dict[str, Any],
    ) -> Fit:
        """The record that names the pod, the pod at the kernel's size, and its agent."""

        def found(kernel: Kernel) -> Kernel:
            return replace(kernel, pod=pod.name, start=start)

        hold.kernel, (agent, fit) = await both(
            # Invariant 2, before anything of the user runs:
            self._records.update_mine(hold.kernel, found),
            # A refusal for want of room must come before user code runs, too.
            self._make_fit(pod, hold.kernel.resources, args, fields),
        )
        return Fit(fit, agent, fields)

    async def _make_fit(
        self, pod: Pod, resources: Resources, args: StartArgs, fields: dict[str, Any]
    ) -> tuple[Agent, Pod]:
        agent = await self._cluster.dial(pod)
        if self._cluster.settles_later:
            # While record and size are written, the spare takes its name and binds.
            self._settling.spawn(self._prepare(agent, fields))
        if args.require_curve and (not args.curve or not (await agent.call("hello"))["curve"]):
            raise NoEncryption("The kernel's channels cannot be encrypted, and that is required.")
        return agent, await self._cluster.resize_pod(pod, resources, wait=False)

    async def _prepare(self, agent: Agent, fields: dict[str, Any]) -> None:
        try:
            await agent.call(protocol.PREPARE, timeout=self._start_timeout, **fields)
        except ElasticError as error:  # an older agent does not know it; the start tells the rest
            self._log.debug("Nothing was prepared: %s", error)

    async def _lose(self, pod: Pod, kernel: Kernel, error: ElasticError) -> None:
        """Let go of a pod that ended before a kernel was started in it."""
        self._log.warning("Pod %s is of no use to kernel %s: %s", pod.name, kernel.kernel_id, error)
        self._progress.add(
            kernel.kernel_id, "warning", f"Pod {pod.name} ended; getting another. {error.message}"
        )
        await self._cluster.delete_pod(pod.name, reason="it ended before its kernel was started")
