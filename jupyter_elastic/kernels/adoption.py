"""Kernels that this server did not start, or that changed behind its back.

On start, and whenever a record of the owner appears, the kernel is taken into the mapping under
its id, with its sessions, as if it had been started here. While the server runs, the agent's and
the cluster's news about attached kernels become what Jupyter's clients understand: restarting,
dead, gone; with the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from jupyter_client.kernelspec import KernelSpec, NoSuchKernel
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_server._tz import utcnow
from msgspec.structs import replace

from ..agent import protocol
from ..cluster.base import Change
from ..errors import (
    AgentUnreachable,
    ApiUnreachable,
    Conflict,
    ElasticError,
    Gone,
    NotRunning,
    StartCancelled,
    StarterLost,
)
from ..model import Kernel, KernelPhase, Pod, PodPhase
from ..waits import event_or_timeout
from .overdue import look_after_size, overdue_at, pauses
from .progress import STARTING_PHASES
from .takeover import PATIENCE
from .whose import trusted

if TYPE_CHECKING:
    from .service import ElasticService

READY_TIMEOUT = 15.0
"""Seconds a session request waits for adoption before it goes on with what is known."""
RESTORE_PATIENCE, RESTORE_INTERVAL = 60.0, 0.1
"""Seconds for which, and how far apart, a restored agent is asked for its kernel."""
LONE_PATIENCE = 60.0
"""Seconds that a lone client has to remove its kernel's record after the pod is gone."""
CULLED = ("Idle", "MaxAge", "Exited", "Stopped", protocol.CLIENT_GONE)
"""Reasons of a pod's end after which nothing is left to tell or to restart."""


class AdoptionMixin:
    """Part of :class:`~jupyter_elastic.kernels.manager.ElasticMappingMixin`."""

    if TYPE_CHECKING:
        log: Any
        parent: Any

        @property
        def elastic(self) -> ElasticService | None:
            """The service, when there is one."""

        _kernels: dict[str, Any]
        _elastic_starts: dict[str, asyncio.Task[None]]
        _kernel_ports: dict[str, Any]
        _elastic_km: Callable[[str], Any]
        _register: Callable[[str, Any, str], None]
        _unregister: Callable[[str], Any]
        _starts_here: Callable[[], set[str]]

    def _init_adoption(self) -> None:
        self._elastic_ready = asyncio.Event()
        self._listening: dict[str, Callable[[], None]] = {}
        self._adopting: dict[str, asyncio.Task[None]] = {}
        self._chores: set[asyncio.Task[None]] = set()
        self._ending: set[str] = set()
        """Kernels that this process is ending: news about them are no reason to adopt them."""
        self._unsubscribe: Callable[[], None] | None = None
        self._watched: dict[str, float] = {}  # deadlines of starts in other servers
        self._elastic_later: set[str] = set()
        """Kernels whose adoption failed passingly and is tried again."""
        self._sizing: set[str] = set()
        """Kernels whose size is looked after, should whoever set it be gone."""

    # -- life ------------------------------------------------------------------------------

    @property
    def elastic_is_ready(self) -> bool:
        """Whether kernels that ran already have been adopted (or there is nothing to adopt)."""
        return self.elastic is None or self._elastic_ready.is_set()

    async def elastic_ready(self) -> None:
        """Wait, within a bound, until kernels that ran already have been adopted."""
        if not self.elastic_is_ready:
            await event_or_timeout(self._elastic_ready, READY_TIMEOUT)

    async def open_adoption(self) -> None:
        """Adopt what is there, then watch. The cluster is open."""
        assert self.elastic is not None
        self._unsubscribe = self.elastic.cluster.subscribe(self._on_change)
        known = self.elastic.cluster.kernels().values()
        mine = [k for k in known if self.elastic.is_mine(k) and not k.lone]
        pods = self.elastic.cluster.pods()
        for kernel in known:
            pod = pods.get(kernel.pod or "")
            if self._is_lone(kernel.kernel_id) and (pod is None or pod.phase is PodPhase.GONE):
                self._spawn(self._tidy_up(kernel.kernel_id))
        await asyncio.gather(*(self._adopt_quietly(kernel) for kernel in mine))
        self._elastic_ready.set()
        if mine:
            self.log.info("Found %d elastic kernel(s) of %s.", len(mine), self.elastic.owner)

    def give_up_adoption(self) -> None:
        """The cluster could not be opened: serve plain kernels."""
        self._elastic_ready.set()

    async def close_adoption(self) -> None:
        """Stop watching. Idempotent."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        tasks = [*self._adopting.values(), *self._chores]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- adopt -----------------------------------------------------------------------------

    async def adopt(self, kernel: Kernel) -> None:
        """Attach a kernel that runs, or show one that is Failed. Idempotent.

        Raises
        ------
        ElasticError
            Its agent does not answer.
        """
        task = self._adopting.get(kernel.kernel_id)
        if task is None:
            if kernel.kernel_id in self._kernels:
                return
            with trusted():
                task = asyncio.create_task(self._adopt(kernel))
            self._adopting[kernel.kernel_id] = task
            task.add_done_callback(lambda _: self._adopting.pop(kernel.kernel_id, None))
        await asyncio.shield(task)

    async def _adopt_quietly(self, kernel: Kernel) -> None:
        if not await self._try_to_adopt(kernel):
            self._elastic_later.add(kernel.kernel_id)
            self._spawn(self._adopt_later(kernel.kernel_id))

    async def _adopt_later(self, kernel_id: str) -> None:
        """Try again what failed passingly, for a while; a change of the record is one more try."""
        assert self.elastic is not None
        try:
            for pause in pauses():
                await asyncio.sleep(pause)
                kernel = self.elastic.cluster.kernels().get(kernel_id)
                if kernel is None or kernel_id in self._kernels or kernel_id in self._ending:
                    return
                if await self._try_to_adopt(kernel):
                    self.log.info("Kernel %s could be adopted now.", kernel_id)
                    return
            self.log.error(
                "Kernel %s could not be adopted and is not tried again; it runs on. Restart this "
                "server to try once more.",
                kernel_id,
            )
        finally:
            self._elastic_later.discard(kernel_id)

    async def _try_to_adopt(self, kernel: Kernel) -> bool:
        """Adopt what can be; False when it failed by something that may pass. Logs failures."""
        try:
            if kernel.phase in (KernelPhase.RUNNING, KernelPhase.FAILED):
                await self.adopt(kernel)
            elif kernel.phase in STARTING_PHASES:
                self._watch_deadline(kernel)
        except ElasticError as error:
            self.log.warning("Kernel %s could not be adopted: %s", kernel.kernel_id, error)
            return not error.retry
        except Exception:
            # One that cannot be shown must not keep all others from being served.
            self.log.exception("Kernel %s could not be adopted", kernel.kernel_id)
        return True

    async def _adopt(self, kernel: Kernel) -> None:
        assert self.elastic is not None
        kernel_id = kernel.kernel_id
        km, _, _ = self.pre_start_kernel(kernel.template, {"kernel_id": kernel_id})  # type: ignore[attr-defined]
        try:
            spec = km.kernel_spec
        except NoSuchKernel:
            spec = km._kernel_spec = gone_template_spec(kernel.template)
        cwd = self.cwd_for_path(kernel.path, env={})  # type: ignore[attr-defined]
        km._launch_args = {"env": dict(os.environ), "cwd": str(cwd)}
        km._attempted_start = True
        km.elastic_adopted = True
        km.provisioner = KernelProvisionerFactory.instance(
            parent=self.parent
        ).create_provisioner_instance(kernel_id, spec, parent=km)
        self._register(kernel_id, km, kernel.owner)
        try:
            if kernel.phase is KernelPhase.FAILED:
                self._show_failed(km, kernel)
            else:
                await self._adopt_running(km, kernel)
        except BaseException:
            self._unregister(kernel_id)
            raise
        if kernel_id not in self.elastic.cluster.kernels():
            self._unregister(kernel_id)  # deleted meanwhile, when there was nothing to tell yet
            return
        self._watch_size(self.elastic.cluster.kernels()[kernel_id])
        # As it is now: a session is recorded a moment after its kernel.
        await self._restore_sessions(self.elastic.cluster.kernels()[kernel_id])

    async def _restore_sessions(self, kernel: Kernel) -> None:
        sessions = getattr(self.parent, "session_manager", None)
        if sessions is not None and kernel.sessions:
            await sessions.restore_sessions(kernel)

    async def _adopt_running(self, km: Any, kernel: Kernel) -> None:
        assert self.elastic is not None
        try:
            await self._attach(km, kernel.kernel_id)
        except (Gone, NotRunning):
            # It died while no server watched; say so, or bring it back, as if one had.
            await self.elastic.cluster.refresh()
            pod = self.elastic.cluster.pods().get(kernel.pod or "")
            if pod is not None and pod.phase is not PodPhase.GONE:
                raise
            km.elastic_pod = kernel.pod or ""
            km.provisioner.adopt({})
            km.start_restarter()
            self._spawn(self._pod_gone(km, kernel.kernel_id, pod))
        km.ready.set_result(None)

    @staticmethod
    def show_dead(km: Any, message: str) -> None:
        """Tell clients that the kernel is dead, and why."""
        km.reason = km.elastic_reason = message
        km.execution_state = "dead"
        km.fire("dead")

    def _show_failed(self, km: Any, kernel: Kernel) -> None:
        km.execution_state = "dead"
        km.reason = km.elastic_reason = kernel.message
        km.provisioner._running = True
        km.start_restarter()
        if not km.ready.done():
            km.ready.set_result(None)

    async def _attach(self, km: Any, kernel_id: str) -> None:
        """Connect the manager's channels to the kernel as it runs now."""
        assert self.elastic is not None
        connection = km.provisioner.adopt(await self.elastic.launcher.running.attach(kernel_id))
        km.use_connection(connection)
        km.start_restarter()
        await self._connected(km, kernel_id)

    async def _connected_first(self, km: Any, kernel_id: str) -> None:
        """:meth:`_connected` after a start; its pod may have ended before there was an ear."""
        assert self.elastic is not None
        try:
            await self._connected(km, kernel_id)
        except ElasticError:
            await self.elastic.cluster.refresh()
            if not self._pod_ended(km):
                raise
        if self._pod_ended(km):
            pod = self.elastic.cluster.pods().get(km.elastic_pod)
            self._spawn(self._pod_gone(km, kernel_id, pod))

    def _pod_ended(self, km: Any) -> bool:
        assert self.elastic is not None
        pod = self.elastic.cluster.pods().get(km.elastic_pod)
        return pod is None or pod.phase is PodPhase.GONE

    async def _connected(self, km: Any, kernel_id: str) -> None:
        """Watch activity and listen to the agent; channels are connected."""
        assert self.elastic is not None
        self.stop_watching_activity(kernel_id)  # type: ignore[attr-defined]
        self._kernel_ports.setdefault(kernel_id, km.ports)
        self.start_watching_activity(kernel_id)  # type: ignore[attr-defined]
        km.execution_state = "idle"  # it answered; Jupyter would wait for its next message
        agent = await self.elastic.launcher.running.agent_of(kernel_id)
        self._unlisten(kernel_id)
        self._listening[kernel_id] = agent.on_event(partial(self._on_agent_event, kernel_id))
        if km.elastic_adopted:
            status = await agent.call("status", timeout=5)
            km.execution_state = status.get("execution_state", "idle")

    def _unlisten(self, kernel_id: str) -> None:
        dispose = self._listening.pop(kernel_id, None)
        if dispose is not None:
            dispose()

    def _watch_deadline(self, kernel: Kernel) -> None:
        """A start whose starter died is Failed once its deadline passed."""
        assert self.elastic is not None
        service = self.elastic
        if not kernel.deadline or self._watched.get(kernel.kernel_id) == kernel.deadline:
            return  # without a deadline it waits for a controller, however long
        self._watched[kernel.kernel_id] = kernel.deadline

        async def wait() -> None:
            patience = PATIENCE if service.cluster.takes_over else 1.0
            await asyncio.sleep(max(0.0, kernel.deadline - service.launcher.clock()) + patience)
            if self._watched.get(kernel.kernel_id) == kernel.deadline:
                del self._watched[kernel.kernel_id]
            now = service.cluster.kernels().get(kernel.kernel_id)
            if now is None or now.phase not in STARTING_PHASES or now.deadline > kernel.deadline:
                return
            if await service.launcher.recover(now):
                return
            lost = StarterLost("The server that started this kernel ended before it was up.")
            await service.launcher.give_up(kernel.kernel_id, lost)

        self._spawn(wait())

    def _watch_size(self, kernel: Kernel) -> None:
        """See that a resize has an end, also when the server that carries it out is gone."""
        assert self.elastic is not None
        service, kernel_id = self.elastic, kernel.kernel_id
        due = overdue_at(kernel, settles_later=service.cluster.settles_later)
        if due is None or kernel_id in self._sizing:
            return
        self._sizing.add(kernel_id)

        async def wait() -> None:
            try:
                await look_after_size(service, kernel_id)
            finally:
                self._sizing.discard(kernel_id)

        self._spawn(wait())

    # -- news from agents ------------------------------------------------------------------

    def _on_agent_event(self, kernel_id: str, event: dict[str, Any]) -> None:
        km = self._elastic_km(kernel_id)
        kind = event.get("event")
        if km is not None and kind == protocol.WARNING:
            self._spawn(self._record_warning(kernel_id, str(event.get("message", ""))))
        if km is None or km.elastic_busy:
            return
        if kind == protocol.EXITED:
            ended = event.get("exit") or {}
            km.elastic_reason = str(ended.get("message") or "The kernel ended.")
            km.elastic_exit = str(ended.get("reason") or "Exited")
            if event.get("restarting") or self._is_lone(kernel_id):
                return
            self._spawn(self._record_failed(kernel_id, km.elastic_exit, km.elastic_reason))
        elif kind == protocol.RESTARTED:
            if event.get("asked"):
                km.elastic_reason = "The kernel was restarted from another server."
            else:
                self._spawn(self._record_restart(kernel_id, km.elastic_reason, km.elastic_exit))
            self._came_back(km, kernel_id)

    def _came_back(self, km: Any, kernel_id: str) -> None:
        """The kernel is a new process on the same ports."""
        km.execution_state, km.last_activity = "idle", utcnow()
        self.log.warning("Kernel %s was brought back: %s", kernel_id, km.elastic_reason)
        km.fire("restart")

    async def _record_failed(self, kernel_id: str, reason: str, message: str) -> None:
        assert self.elastic is not None
        await self.elastic.fail(kernel_id, reason, message)

    async def _record_warning(self, kernel_id: str, message: str) -> None:
        assert self.elastic is not None
        self.log.warning("Kernel %s: %s", kernel_id, message)
        with contextlib.suppress(Conflict, StartCancelled):
            await self.elastic.launcher.running.warn(kernel_id, message)

    async def _record_end(self, kernel_id: str, reason: str, message: str) -> None:
        assert self.elastic is not None

        def change(kernel: Kernel) -> Kernel:
            return replace(kernel, phase=KernelPhase.STOPPED, reason=reason, message=message)

        with contextlib.suppress(Conflict, StartCancelled):
            await self.elastic.launcher.records.update(kernel_id, change)

    async def _record_restart(self, kernel_id: str, message: str, reason: str) -> None:
        assert self.elastic is not None

        known = self.elastic.cluster.kernels().get(kernel_id)
        count = known.restarts + 1 if known else 1

        def change(kernel: Kernel) -> Kernel:
            # Every server of the owner counts; together they count once.
            restarts = max(kernel.restarts, count)
            return replace(kernel, restarts=restarts, reason=reason, message=message)

        with contextlib.suppress(Conflict, StartCancelled):
            await self.elastic.launcher.records.update(kernel_id, change)

    # -- news from the cluster -------------------------------------------------------------

    def _on_change(self, change: Change) -> None:
        # It may be told of during anybody's request.
        with trusted():
            if change.kind == "kernel":
                self._on_kernel(change.name, change.old, change.new)
            elif isinstance(change.new, Pod) and change.new.kernel_id:
                old = change.old if isinstance(change.old, Pod) else None
                self._on_pod(change.new, old)

    def _on_kernel(self, kernel_id: str, old: Any, new: Any) -> None:
        assert self.elastic is not None
        km = self._elastic_km(kernel_id)
        if new is None:
            self.elastic.launcher.progress.forget(kernel_id)
            # A start that is under way here finds out by itself.
            if km is not None and kernel_id not in self._elastic_starts:
                self.show_dead(km, km.elastic_reason or "The kernel was stopped.")
                self._unregister(kernel_id)
        elif not self.elastic.is_mine(new):
            return
        elif new.phase in STARTING_PHASES:
            if kernel_id not in self._starts_here():
                self._watch_deadline(new)
        elif km is None:
            known = kernel_id in self._kernels or kernel_id in self._ending
            if new.phase is KernelPhase.RUNNING and not known and not new.lone:
                self._spawn(self._adopt_quietly(new))
        elif new.phase is KernelPhase.FAILED:
            if km.execution_state != "dead" and km.ready.done():
                self.show_dead(km, new.message)
        elif new.phase is KernelPhase.RUNNING:
            if new.resize is not None:
                self._watch_size(new)
            if self._moved(km, new):
                self._spawn(self._follow_move(km, kernel_id))
            if km.ready.done() and old is not None and new.sessions != old.sessions:
                # Begun in another server of this owner.
                self._spawn(self._restore_sessions(new))

    @staticmethod
    def _moved(km: Any, new: Kernel) -> bool:
        """Whether somebody else gave the kernel another pod."""
        settled = not km.elastic_busy and km.ready.done()
        return bool(settled and new.pod and km.elastic_pod and new.pod != km.elastic_pod)

    def _on_pod(self, pod: Pod, old: Pod | None) -> None:
        kernel_id = pod.kernel_id or ""
        km = self._elastic_km(kernel_id)
        if km is None and pod.phase is PodPhase.GONE and self._is_lone(kernel_id):
            self._spawn(self._tidy_up(kernel_id))
        if km is None or km.elastic_busy or not km.ready.done() or pod.name != km.elastic_pod:
            return
        assert self.elastic is not None
        kernel = self.elastic.cluster.kernels().get(kernel_id)
        if kernel is not None and (kernel.phase in STARTING_PHASES or kernel.pod != pod.name):
            return  # it is being given another pod, and this one is in the way
        if pod.phase is PodPhase.GONE:
            self._spawn(self._pod_gone(km, kernel_id, pod))
        elif old is not None and pod.agent is not None and pod.agent != old.agent:
            # The agent was brought back in place, after everything in the pod was killed.
            self._spawn(self._restored(km, kernel_id, pod))

    async def _restored(self, km: Any, kernel_id: str, pod: Pod) -> None:
        """Everything in the pod was killed, and the agent is back with a new kernel process."""
        km.elastic_reason = pod.message or (
            "Everything in the kernel's pod was killed, most likely for want of memory; the kernel "
            "was started again and its variables are lost."
        )
        assert self.elastic is not None
        await self._kernel_up(kernel_id)
        await self._attach(km, kernel_id)
        await self.elastic.cluster.rejoined(pod)
        await self._record_restart(kernel_id, km.elastic_reason, pod.reason or "ContainerKilled")
        self._came_back(km, kernel_id)

    async def _kernel_up(self, kernel_id: str) -> None:
        """Wait until a restored agent has its kernel running. Raises NotRunning, Gone.

        Its container runs before the agent listens, and a way to it may first have to be found.
        """
        assert self.elastic is not None
        clock = asyncio.get_running_loop().time
        until = clock() + RESTORE_PATIENCE
        last = ""
        while clock() < until:
            try:
                agent = await self.elastic.launcher.running.agent_of(kernel_id)
                if (await agent.call("status", timeout=2)).get("alive"):
                    return
            except (AgentUnreachable, ApiUnreachable) as error:
                last = error.message
            await asyncio.sleep(RESTORE_INTERVAL)
        raise NotRunning(
            f"Kernel {kernel_id} did not come back within {RESTORE_PATIENCE:.0f} s after everything"
            f" in its pod was killed. {last}".strip(),
            "Restart it.",
        )

    async def _pod_gone(self, km: Any, kernel_id: str, pod: Pod | None) -> None:
        assert self.elastic is not None
        reason = pod.reason if pod else "PodLost"
        message = (pod.message if pod else "") or "The kernel's pod is gone."
        km.elastic_reason = message
        if reason in CULLED:
            self.log.info("Kernel %s ended: %s", kernel_id, message)
            # Written before it is removed, so that whoever follows the record learns why.
            await self._record_end(kernel_id, reason, message)
            await self.elastic.launcher.running.stop(kernel_id)
        elif reason == "ContainerKilled" and not self._is_lone(kernel_id):
            try:
                await km.move_kernel()
            except (Conflict, NotRunning):
                return  # another server of this owner moves it
            except ElasticError as error:
                self.show_dead(km, str(error))
                return
            await self._connected(km, kernel_id)
            self._came_back(km, kernel_id)
        else:
            await self.elastic.fail(kernel_id, reason, message, pod=km.elastic_pod)

    async def _tidy_up(self, kernel_id: str) -> None:
        """Remove the record of a lone client's kernel, should the client be gone like the pod."""
        assert self.elastic is not None
        await asyncio.sleep(LONE_PATIENCE)
        if self._is_lone(kernel_id):
            await self.elastic.launcher.running.stop(kernel_id)

    def _is_lone(self, kernel_id: str) -> bool:
        """Whether there is a kernel whose life a client without a server looks after."""
        assert self.elastic is not None
        kernel = self.elastic.cluster.kernels().get(kernel_id)
        return kernel is not None and kernel.lone and self.elastic.is_mine(kernel)

    async def _follow_move(self, km: Any, kernel_id: str) -> None:
        """Another server moved the kernel to a new pod."""
        await self._attach(km, kernel_id)
        self._came_back(km, kernel_id)

    # -- chores ----------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        with trusted():
            task = asyncio.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chore_done)

    def _chore_done(self, task: asyncio.Task[None]) -> None:
        self._chores.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, ElasticError):
            self.log.warning("%s", error)
        elif error is not None:
            self.log.error("Looking after elastic kernels failed", exc_info=error)


def gone_template_spec(template: str) -> KernelSpec:
    """A kernelspec for a kernel whose template is no longer offered."""
    return KernelSpec(
        argv=[],
        display_name=f"{template} (no longer offered)",
        language="",
        metadata={
            "kernel_provisioner": {
                "provisioner_name": "elastic-provisioner",
                "config": {"template": template},
            }
        },
    )
