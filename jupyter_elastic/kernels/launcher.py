"""The life of a kernel over any cluster: start, move, restart, resize, stop.

No Jupyter server here: the provisioner, the managers, the command line and lone clients all go
through this one place, and all it knows stands in the cluster's records. The two invariants of a
start (docs/architecture.md) are kept here and in :mod:`.getting`, which gets the pod:

1. a pod has at most one kernel: :meth:`Cluster.claim_pod` is a compare-and-swap;
2. a kernel has at most one live pod: only whoever's :meth:`Cluster.create_kernel` returned goes
   on, and the pod's name is written to the record before the kernel runs any user code.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from ..agent import protocol
from ..cluster.base import Agent, Cluster
from ..errors import (
    AgentTimeout,
    Conflict,
    ElasticError,
    NotRunning,
    QuotaFull,
    StartCancelled,
    StartFailed,
    Superseded,
)
from ..model import AGENT_WARNING, Kernel, KernelPhase, Pod, Resize, Step, Template
from ..resources import Resources
from .getting import TIMING, Fit, Getting, Hold
from .progress import STARTING_PHASES, Progress
from .queue import Queue
from .records import WRITE_ATTEMPTS, Edit, NotMine, Records, jitter
from .settling import Settling
from .startargs import StartArgs
from .together import time_limit


class Launched(msgspec.Struct, frozen=True):
    """A kernel that runs: its record, its pod, and its connection file's content."""

    kernel: Kernel
    pod: Pod
    connection: dict[str, Any]


class Launcher:
    """See the module. One per process.

    Parameters
    ----------
    cluster
        Where pods run; open.
    start_timeout
        Seconds a start may take, once there is room for it.
    queue_timeout
        Seconds a start waits for room; 0: without room it fails at once.
    queue_per_owner
        Starts of one owner that may wait; 0: as many as there are.
    clock
        Seconds since the epoch; injected by tests.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        start_timeout: float = 120.0,
        queue_timeout: float = 0.0,
        queue_per_owner: int = 0,
        log: logging.Logger | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.cluster = cluster
        self.start_timeout = start_timeout
        self.log = log or logging.getLogger(__name__)
        self.clock = clock
        self.progress = Progress(cluster, clock)
        self.records = Records(cluster)
        self._settling = Settling(cluster, self.records, self.progress, log=self.log, clock=clock)
        self._getting = Getting(
            cluster,
            self.records,
            self.progress,
            self._settling,
            start_timeout=start_timeout,
            log=self.log,
            clock=clock,
        )
        self._queue = Queue(
            cluster,
            self.records,
            self.progress,
            timeout=queue_timeout,
            per_owner=queue_per_owner,
            log=self.log,
            clock=clock,
        )

    async def close(self) -> None:
        """End what goes on in the background; kernels run on. Idempotent."""
        self._queue.close()
        await self._settling.close()

    # -- start -----------------------------------------------------------------------------

    async def record(self, kernel: Kernel) -> Kernel:
        """Write the record of a kernel that is about to be launched by this process.

        Raises
        ------
        KernelExists
            Somebody else starts, or runs, a kernel of this id.
        QueueFull
            Too many starts of its owner wait for room.
        """
        self._queue.check(kernel.owner)
        now = self.clock()
        steps = self.progress.begin(kernel.kernel_id, f"Asked for {kernel.resources}.")
        kernel = replace(
            kernel,
            phase=KernelPhase.STARTING,
            created=kernel.created or now,
            deadline=now + self.start_timeout,
            steps=steps,
        )
        TIMING.debug("%s begun", kernel.kernel_id)
        try:
            kernel = await self.cluster.create_kernel(kernel)
        except ElasticError:
            self.progress.forget(kernel.kernel_id)
            raise
        TIMING.debug("%s recorded", kernel.kernel_id)
        return kernel

    async def recover(self, kernel: Kernel) -> bool:
        """Whether a kernel that is said to start runs already; then its record says so now.

        Its starter may have vanished, or the cluster been out of reach, just before the last write.
        """
        pod = self.cluster.pods().get(kernel.pod or "")
        if pod is None or pod.agent is None or pod.kernel_id != kernel.kernel_id:
            return False
        try:
            agent = await self.cluster.dial(pod)
            status = await agent.call("status", timeout=5)
            if not status.get("alive") or status.get("kernel_id") != kernel.kernel_id:
                return False
            await self.records.update_mine(
                kernel,
                lambda k: replace(
                    k, phase=KernelPhase.RUNNING, reason="", message="", actual=pod.resources
                ),
            )
        except NotMine:
            return True  # somebody looks after it
        except ElasticError as error:
            self.log.debug("Kernel %s is not known to run: %s", kernel.kernel_id, error)
            return False
        return True

    async def take_over(self, kernel: Kernel) -> Kernel:
        """Become the one who starts a kernel that nobody starts (any more).

        Raises
        ------
        Conflict
            Somebody else was faster, it is not as given, or it runs already.
        """
        if await self.recover(kernel):
            raise Conflict("The kernel runs; only its record did not say so.")
        steps = self.progress.begin(kernel.kernel_id, f"Taken over, with {kernel.resources}.")
        try:
            kernel = await self.cluster.update_kernel(
                replace(
                    kernel,
                    phase=KernelPhase.STARTING,
                    pod=None,
                    actual=None,
                    deadline=self.clock() + self.start_timeout,
                    steps=steps,
                )
            )
        except ElasticError:
            self.progress.forget(kernel.kernel_id)
            raise
        # A pod of an earlier try may have run user code, or not; nobody will know.
        for pod in tuple(self.cluster.pods().values()):
            if pod.kernel_id == kernel.kernel_id:
                await self.cluster.delete_pod(pod.name, reason="its starter is gone")
        return kernel

    async def launch(
        self,
        kernel: Kernel,
        template: Template,
        args: StartArgs,
        *,
        cold: str = "",
        patience: float | None = None,
    ) -> Launched:
        """Give a recorded kernel a pod and start its process; returns once it answers.

        ``cold`` says why no warm pod serves, where the caller knows. ``patience`` is for how many
        seconds it waits for room, where that is less than for others.

        On failure the pod is deleted and the record says Failed with reason and sentence; on
        cancellation (the kernel was deleted while it started) both are gone.

        Raises
        ------
        ElasticError
            As the cluster or the agent says it: QuotaFull, BadInterpreter, StartFailed ...
        """
        hold = Hold(kernel)
        try:
            launched = await self._try_with_room(hold, template, args, cold, patience)
            if self.cluster.settles_later:
                self._see_through(launched, template, args)
            return launched
        except asyncio.CancelledError:
            if hold.kernel.phase is KernelPhase.MOVING:
                # The server stops; the kernel is not to vanish with it.
                lost = StartCancelled("The server ended while the kernel moved to another pod.")
                await asyncio.shield(
                    self.give_up(kernel.kernel_id, lost, hold.pod, start=hold.kernel)
                )
            else:
                await asyncio.shield(self._abandon(kernel, hold.pod))
            raise
        except ElasticError as error:
            await asyncio.shield(self.give_up(kernel.kernel_id, error, hold.pod, start=hold.kernel))
            raise
        except Exception as error:
            # Whatever it was: no pod may stay behind that nobody looks after.
            self.log.exception("Starting kernel %s failed", kernel.kernel_id)
            failure = StartFailed(
                f"The start failed by an error of its own ({type(error).__name__}: {error}).",
                "Look into the server's log.",
            )
            await asyncio.shield(
                self.give_up(kernel.kernel_id, failure, hold.pod, start=hold.kernel)
            )
            raise failure from error
        finally:
            self.progress.wake(kernel.kernel_id)

    async def _try_with_room(
        self,
        hold: Hold,
        template: Template,
        args: StartArgs,
        cold: str,
        patience: float | None,
    ) -> Launched:
        """Start the kernel, as often as there may be room for it."""
        refusal: QuotaFull | None = None
        while True:
            if refusal is not None or self._queue.must_wait(hold.kernel):
                await self._queue.wait(hold, refusal, patience)
            self._queue.trying(hold)
            try:
                async with time_limit(self.start_timeout, self._timed_out):
                    fit = await self._getting.get(hold, template, args, cold=cold)
                    return await self._start_in(fit, hold.kernel)
            except QuotaFull as error:
                if error.is_hopeless or not self._queue.takes:
                    raise
                refusal = error
                if hold.pod is not None:  # it was claimed, and then refused its size
                    await self.cluster.delete_pod(hold.pod.name, reason="there is no room for it")
                    hold.pod = None

    async def relaunch(
        self,
        kernel: Kernel,
        template: Template,
        args: StartArgs,
        *,
        resources: Resources | None = None,
        cold: str = "",
        unnoticed: bool = False,
    ) -> Launched:
        """A new pod for a kernel; same id, its variables are lost.

        Its old pod is gone, or is of the wrong size: then ``resources`` are those it should have.
        ``cold`` says why the new pod must be made for it. ``unnoticed``: it has run nothing yet,
        so that this is no restart to anybody.

        Raises
        ------
        Conflict
            Another server moves it already.
        """
        old, now = kernel.pod, self.clock()
        why = "Its pod is gone; getting another."
        if resources is not None:
            why = f"Getting another pod with {resources}."
        steps: tuple[Step, ...] = ()

        def moving(kernel: Kernel) -> Kernel:
            """Whatever was written meanwhile stays, unless somebody else moved the kernel."""
            nonlocal steps
            if kernel.phase in STARTING_PHASES and now < kernel.deadline:
                raise Conflict(
                    f"The kernel is {kernel.phase.value} already.",
                    "Wait until it runs, then try again.",
                )
            if kernel.pod not in (old, None):
                raise Conflict("The kernel was given another pod meanwhile.", "Look again.")
            steps = steps or self.progress.begin(kernel.kernel_id, why)
            return replace(
                kernel,
                phase=KernelPhase.MOVING,
                resources=resources or kernel.resources,
                resize=None,
                pod=None,
                actual=None,
                deadline=now + self.start_timeout,
                steps=steps,
            )

        kernel = await self.records.update(kernel.kernel_id, moving)
        try:
            if old:
                await self.cluster.delete_pod(old, reason="its kernel moved")
        except ElasticError as error:
            await self.give_up(kernel.kernel_id, error)
            raise
        launched = await self.launch(kernel, template, args, cold=cold, patience=self.start_timeout)
        if unnoticed:
            return launched
        return replace_launched(launched, await self._count_restart(launched.kernel))

    async def _count_restart(self, kernel: Kernel) -> Kernel:
        return await self.records.update(
            kernel.kernel_id, lambda k: replace(k, restarts=k.restarts + 1, reason="", message="")
        )

    def _see_through(self, launched: Launched, template: Template, args: StartArgs) -> None:
        kernel_id = launched.kernel.kernel_id

        async def move(why: str) -> None:
            now = self.kernel(kernel_id)
            await self.relaunch(now, template, args, cold=why, unnoticed=True)

        self._settling.settle(launched.kernel, launched.pod, move)

    async def _start_in(self, fit: Fit, kernel: Kernel) -> Launched:
        pod, agent, fields = fit
        TIMING.debug("%s sized", kernel.kernel_id)
        unlisten = agent.on_event(partial(self._take_warning, kernel.kernel_id))
        try:
            reply = await agent.call(protocol.START, timeout=self.start_timeout, **fields)
        finally:
            unlisten()
        TIMING.debug("%s answered", kernel.kernel_id)
        for warning in pod.warnings:
            self.progress.add(kernel.kernel_id, "warning", warning)
        self.progress.add(
            kernel.kernel_id, "kernel-up", f"The kernel answers ({reply.get('how', '')})."
        )
        steps = self.progress.of(kernel.kernel_id)

        def running(kernel: Kernel) -> Kernel:
            return replace(
                kernel,
                phase=KernelPhase.RUNNING,
                reason="",
                message="",
                actual=pod.resources,
                steps=steps,
            )

        if self.cluster.settles_later and kernel.phase is KernelPhase.STARTING:
            # The user's first cell need not wait for a record that only others read.
            self._settling.confirm(kernel, running)
            kernel = running(kernel)
        else:
            kernel = await self.records.update_mine(kernel, running)
        TIMING.debug("%s running", kernel.kernel_id)
        return Launched(kernel, pod, await self.cluster.reach(pod, reply["connection"]))

    def _take_warning(self, kernel_id: str, event: Mapping[str, Any]) -> None:
        if event.get("event") == protocol.WARNING:
            self.progress.add(kernel_id, AGENT_WARNING, str(event.get("message", "")))

    async def give_up(
        self,
        kernel_id: str,
        error: ElasticError,
        pod: Pod | None = None,
        *,
        start: Kernel | None = None,
    ) -> None:
        """Record that the kernel is Failed, and delete whatever pod was claimed for it.

        With ``start``, the record as its starter has it, nothing is done to a kernel that somebody
        else starts by now; only ``pod`` goes.
        """
        self.progress.add(kernel_id, "failed", str(error))
        steps = self.progress.of(kernel_id)

        def failed(kernel: Kernel) -> Kernel:
            return replace(
                kernel,
                phase=KernelPhase.FAILED,
                reason=error.reason,
                message=str(error),
                pod=None,
                steps=steps,
            )

        names = {pod.name} if pod else set()
        mine = True
        try:
            if start is None:
                await self.records.update(kernel_id, failed)
            else:
                await self.records.update_mine(start, failed)
        except NotMine:
            mine = False  # somebody else starts it by now, and has a pod for it
        except (Conflict, StartCancelled):
            self.log.debug("Kernel %s was deleted meanwhile.", kernel_id)
        finally:
            if mine:
                names |= {p.name for p in self.cluster.pods().values() if p.kernel_id == kernel_id}
            for name in names:
                await self.cluster.delete_pod(name, reason=error.reason)

    async def _abandon(self, kernel: Kernel, pod: Pod | None) -> None:
        if pod is not None:
            await self.cluster.delete_pod(pod.name, reason="the start was cancelled")
        await self.cluster.delete_kernel(kernel.kernel_id)
        self.progress.forget(kernel.kernel_id)

    def _timed_out(self) -> ElasticError:
        return AgentTimeout(
            f"The kernel was not up within {self.start_timeout:.0f} s.",
            "Try again; if it stays so, look at `jupyter elastic doctor` or raise "
            "c.ElasticKernels.start_timeout.",
        )

    # -- while it runs ---------------------------------------------------------------------

    def kernel(self, kernel_id: str) -> Kernel:
        """See :meth:`.records.Records.kernel`."""
        return self.records.kernel(kernel_id)

    def pod_of(self, kernel_id: str) -> Pod:
        """See :meth:`.records.Records.pod_of`."""
        return self.records.pod_of(kernel_id)

    async def warn(self, kernel_id: str, message: str) -> None:
        """Keep a warning that the agent gave of a kernel that runs, once however often it comes.

        Raises
        ------
        ElasticError
            It could not be recorded.
        """
        step = Step(self.clock(), AGENT_WARNING, message)

        def edit(kernel: Kernel) -> Kernel:
            known = any(one.name == step.name and one.message == message for one in kernel.steps)
            return kernel if known else replace(kernel, steps=(*kernel.steps, step))

        await self.records.update(kernel_id, edit)

    async def update(self, kernel_id: str, edit: Edit) -> Kernel:
        """See :meth:`.records.Records.update`."""
        return await self.records.update(kernel_id, edit)

    async def confirmed(self, kernel_id: str) -> None:
        """Return once the record says that a kernel runs which was started here just now."""
        await self._settling.confirmed(kernel_id)

    async def agent_of(self, kernel_id: str) -> Agent:
        """A conversation with the agent of a kernel's pod."""
        return await self.cluster.dial(self.pod_of(kernel_id))

    async def attach(self, kernel_id: str) -> dict[str, Any]:
        """The connection file's content of a kernel that runs already."""
        pod = self.pod_of(kernel_id)
        reply = await (await self.cluster.dial(pod)).call("connection")
        return await self.cluster.reach(pod, reply["connection"])

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
        kernel = self.kernel(kernel_id)
        if kernel.phase is not KernelPhase.RUNNING:
            raise NotRunning(
                f"The kernel is {kernel.phase.value}; only a running kernel can be resized.",
                "Wait until it runs.",
            )
        begun = Resize(state="InProgress", message=f"Changing to {resources}.", time=self.clock())
        kernel = await self.records.update(
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
        done = Resize(state="Done", message=f"Now {pod.resources}.", time=self.clock())

        def finished(kernel: Kernel) -> Kernel:
            # What somebody wrote over what was written is a wish of its own.
            later = written and kernel.resources != before
            wanted = kernel.resources if later else resources
            kernel = replace(kernel, resources=wanted, actual=pod.resources, resize=done)
            if kernel.reason == protocol.OUT_OF_MEMORY and resources.memory > had.memory:
                kernel = replace(kernel, reason="", message="")  # it has what it lacked
            return kernel

        return await self.records.update(kernel_id, finished)

    async def refuse_resize(
        self, kernel_id: str, error: Exception, *, unwanted: Resources | None = None
    ) -> Kernel:
        """Let the record say why a kernel does not get another size.

        ``unwanted`` is that size where it was written into the record itself: what the kernel has
        takes its place there, so that nothing later asks for it again.
        """
        reason = error.reason if isinstance(error, ElasticError) else "InternalError"
        refused = Resize(state="Refused", reason=reason, message=str(error), time=self.clock())

        def edit(kernel: Kernel) -> Kernel:
            resources = kernel.resources
            if kernel.actual is not None and resources == unwanted:
                resources = kernel.actual
            return replace(kernel, resources=resources, resize=refused)

        return await self.records.update(kernel_id, edit)

    async def _resize_pod(self, kernel_id: str, resources: Resources) -> Pod:
        for attempt in range(WRITE_ATTEMPTS):
            try:
                return await self.cluster.resize_pod(
                    self.pod_of(kernel_id),
                    resources,
                    tell=partial(self._settling.tell_waiting, kernel_id),
                )
            except Superseded:
                raise  # sent again, it would undo the later one
            except Conflict:
                if attempt == WRITE_ATTEMPTS - 1:
                    raise
                await jitter(attempt)
                await self.cluster.refresh()
        raise AssertionError("unreachable")

    async def restart(
        self, kernel_id: str, *, grace: float, env: dict[str, str] | None, cwd: str | None
    ) -> dict[str, Any]:
        """Replace the kernel's process in place: same pod, ports, keys and resources."""
        pod = self.pod_of(kernel_id)
        agent = await self.cluster.dial(pod)
        if not self.cluster.inherits_environment:
            env, cwd = None, None  # neither is of the pod's world; what it began with stays
        reply = await agent.call("restart", timeout=30 + grace, env=env, cwd=cwd, grace=grace)
        connection = await self.cluster.reach(pod, reply["connection"])
        await self.records.update(
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
        await self.cluster.delete_kernel(kernel_id)
        self.progress.forget(kernel_id)


def without_warnings(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Without what the agent warned of."""
    return tuple(step for step in steps if step.name != AGENT_WARNING)


def replace_launched(launched: Launched, kernel: Kernel) -> Launched:
    """The same launch with a newer record."""
    return Launched(kernel, launched.pod, launched.connection)
