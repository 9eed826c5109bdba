"""What is done to a kernel that runs: attach, warn, resize, restart, stop.

As for a start, all that this knows stands in the cluster's records.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec.structs import replace

from ..agent import protocol
from ..cluster.base import Agent, Cluster
from ..errors import Conflict, ElasticError, NotRunning, Superseded
from ..model import AGENT_WARNING, Kernel, KernelPhase, Pod, Resize, Step
from ..resources import Resources
from .progress import Progress
from .records import WRITE_ATTEMPTS, Records, jitter
from .settling import Settling


class Running:
    """See the module. One per launcher, which starts what this looks after."""

    def __init__(
        self,
        cluster: Cluster,
        records: Records,
        progress: Progress,
        settling: Settling,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._cluster = cluster
        self._records = records
        self._progress = progress
        self._settling = settling
        self._clock = clock

    async def warn(self, kernel_id: str, message: str) -> None:
        """Keep a warning that the agent gave of a kernel that runs, once however often it comes.

        Raises
        ------
        ElasticError
            It could not be recorded.
        """
        step = Step(self._clock(), AGENT_WARNING, message)

        def edit(kernel: Kernel) -> Kernel:
            known = any(one.name == step.name and one.message == message for one in kernel.steps)
            return kernel if known else replace(kernel, steps=(*kernel.steps, step))

        await self._records.update(kernel_id, edit)

    async def agent_of(self, kernel_id: str) -> Agent:
        """A conversation with the agent of a kernel's pod."""
        return await self._cluster.dial(self._records.pod_of(kernel_id))

    async def attach(self, kernel_id: str) -> dict[str, Any]:
        """The connection file's content of a kernel that runs already."""
        pod = self._records.pod_of(kernel_id)
        reply = await (await self._cluster.dial(pod)).call("connection")
        return await self._cluster.reach(pod, reply["connection"])

    async def resize(
        self, kernel_id: str, resources: Resources, *, written: bool = False
    ) -> Kernel:
        """Change CPU and memory of a running kernel, in place.

        ``written``: it was asked for by writing it into the record, and is put back if refused.

        Raises
        ------
        QuotaFull, ShrinkUnderUse
            Refused; nothing changed. The record's ``resize`` says so as well.
        Superseded
            Somebody else resized it after this; the record is about that.
        NotRunning, Gone
            There is no pod to resize.
        """
        kernel = self._records.kernel(kernel_id)
        if kernel.phase is not KernelPhase.RUNNING:
            raise NotRunning(
                f"The kernel is {kernel.phase.value}; only a running kernel can be resized.",
                "Wait until it runs.",
            )
        begun = Resize(state="InProgress", message=f"Changing to {resources}.", time=self._clock())
        kernel = await self._records.update(
            kernel_id,
            # What the agent warned of was about the size before.
            lambda k: replace(k, resize=begun, steps=without_warnings(k.steps)),
        )
        before = kernel.resources
        had = kernel.actual or before
        try:
            pod = await self._resize_pod(kernel_id, resources)
        except Superseded:
            raise  # the record is about the later one
        except Exception as error:
            # Whatever it was, the record must not say for ever that it is under way.
            await self.refuse_resize(kernel_id, error, unwanted=before if written else None)
            raise
        done = Resize(state="Done", message=f"Now {pod.resources}.", time=self._clock())

        def finished(kernel: Kernel) -> Kernel:
            # What somebody wrote over what was written is a wish of its own.
            later = written and kernel.resources != before
            wanted = kernel.resources if later else resources
            kernel = replace(kernel, resources=wanted, actual=pod.resources, resize=done)
            if kernel.reason == protocol.OUT_OF_MEMORY and resources.memory > had.memory:
                kernel = replace(kernel, reason="", message="")  # it has what it lacked
            return kernel

        return await self._records.update(kernel_id, finished)

    async def refuse_resize(
        self, kernel_id: str, error: Exception, *, unwanted: Resources | None = None
    ) -> Kernel:
        """Let the record say why a kernel does not get another size.

        ``unwanted`` is that size where it was written into the record itself: what the kernel has
        takes its place there, so that nothing later asks for it again.
        """
        reason = error.reason if isinstance(error, ElasticError) else "InternalError"
        refused = Resize(state="Refused", reason=reason, message=str(error), time=self._clock())

        def edit(kernel: Kernel) -> Kernel:
            resources = kernel.resources
            if kernel.actual is not None and resources == unwanted:
                resources = kernel.actual
            return replace(kernel, resources=resources, resize=refused)

        return await self._records.update(kernel_id, edit)

    async def _resize_pod(self, kernel_id: str, resources: Resources) -> Pod:
        for attempt in range(WRITE_ATTEMPTS):
            try:
                return await self._cluster.resize_pod(
                    self._records.pod_of(kernel_id),
                    resources,
                    tell=partial(self._settling.tell_waiting, kernel_id),
                )
            except Superseded:
                raise  # sent again, it would undo the later one
            except Conflict:
                if attempt == WRITE_ATTEMPTS - 1:
                    raise
                await jitter(attempt)
                await self._cluster.refresh()
        raise AssertionError("unreachable")

    async def restart(
        self, kernel_id: str, *, grace: float, env: dict[str, str] | None, cwd: str | None
    ) -> dict[str, Any]:
        """Replace the kernel's process in place: same pod, ports, keys and resources."""
        pod = self._records.pod_of(kernel_id)
        agent = await self._cluster.dial(pod)
        if not self._cluster.inherits_environment:
            env, cwd = None, None  # neither is of the pod's world; what it began with stays
        reply = await agent.call("restart", timeout=30 + grace, env=env, cwd=cwd, grace=grace)
        connection = await self._cluster.reach(pod, reply["connection"])
        await self._records.update(
            kernel_id, lambda k: replace(k, phase=KernelPhase.RUNNING, reason="", message="")
        )
        return connection

    async def stop(self, kernel_id: str, *, grace: float = 0.0) -> None:
        """End the kernel with everything in its pod and remove the record. Idempotent.

        ``grace`` is how long, in seconds, the kernel may run its own exit handlers.
        """
        if grace:
            with contextlib.suppress(ElasticError):  # already gone, or deaf: deleted below
                agent = await self.agent_of(kernel_id)
                await agent.call("stop", timeout=grace + 2, grace=grace)
        await self._cluster.delete_kernel(kernel_id)
        self._progress.forget(kernel_id)


def without_warnings(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Without what the agent warned of."""
    return tuple(step for step in steps if step.name != AGENT_WARNING)
