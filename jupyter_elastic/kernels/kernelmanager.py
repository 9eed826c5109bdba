"""The per-kernel manager: start, restart and stop of an elastic kernel without the stock detours.

For a plain kernel every method is the configured class's own. For an elastic one the agent does
in place what jupyter_client would do by polling a process: restart keeps pod, ports and keys.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from jupyter_client.connect import port_names
from jupyter_client.ioloop.restarter import AsyncIOLoopKernelRestarter

from ..errors import Conflict, ElasticError, Gone, NotRunning
from ..resources import Resources
from .provisioner import ElasticProvisioner
from .service import STOP_GRACE, ElasticService

RESTART_GRACE = 1.0
"""Seconds a kernel may run its exit handlers before it is restarted, as jupyter_client gives."""


class ElasticRestarter(AsyncIOLoopKernelRestarter):
    """Keeps the callbacks of websockets; it polls nothing, because the agent tells."""

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""

    def fire(self, event: str) -> None:
        """Call those who asked for ``restart`` or ``dead``."""
        self._fire_callbacks(event)


class ElasticKernelManagerMixin:
    """In front of ``AsyncIOLoopKernelManager``, behind what is configured or derives from it."""

    if TYPE_CHECKING:
        log: Any
        loop: Any
        provisioner: ElasticProvisioner
        kernel_id: str
        _launch_args: dict[str, Any] | None
        _ready: Any
        _restarter: Any
        parent: Any
        shutdown_wait_time: float
        kernel_spec_manager: Any

    elastic: ElasticService | None = None
    """Set on elastic kernels only."""
    elastic_reason: str = ""
    """Why the kernel was last brought back or is dead; for people."""
    elastic_exit: str = ""
    """The machine-readable reason of the last exit."""
    elastic_pod: str = ""
    """The pod that the channels are connected to."""
    elastic_adopted: bool = False
    """Whether another process started the kernel; then its environment is not known here."""
    elastic_patience: float | None = None
    """Seconds that its start waits for room, where that is less than for others."""
    elastic_busy: bool = False
    """A restart or stop of ours is under way; the agent's events about it are no news."""

    # -- restarter -------------------------------------------------------------------------

    def start_restarter(self) -> None:
        """Elastic kernels get one that only keeps callbacks."""
        if self.elastic is None:
            super().start_restarter()  # type: ignore[misc]
        elif self._restarter is None:
            self._restarter = ElasticRestarter(
                kernel_manager=self, loop=self.loop, parent=self, log=self.log
            )

    def fire(self, event: str) -> None:
        """Tell websockets ``restart`` or ``dead``."""
        if isinstance(self._restarter, ElasticRestarter):
            self._restarter.fire(event)

    # -- start -----------------------------------------------------------------------------

    async def start_kernel(self, **kwargs: Any) -> None:
        """Start; ``ready`` resolves when the kernel answers, or with why it does not."""
        if self.elastic is None:
            await super().start_kernel(**kwargs)  # type: ignore[misc]
            return
        with self._pending() as ready:
            self._attempted_start = True
            cmd, kwargs = await self._async_pre_start_kernel(**kwargs)  # type: ignore[attr-defined]
            await self._async_launch_kernel(cmd, **kwargs)  # type: ignore[attr-defined]
            await self._async_post_start_kernel(**kwargs)  # type: ignore[attr-defined]
            ready.done()

    def _pending(self, *, yielding: bool = False) -> _Pending:
        return _Pending(self, yielding)

    # -- restart ---------------------------------------------------------------------------

    async def restart_kernel(self, now: bool = False, newports: bool = False, **kw: Any) -> None:
        """Restart in place: same pod, ports, keys and resources; its variables are lost.

        When the pod is gone (the kernel is Failed), the kernel gets a new one.
        """
        if self.elastic is None:
            await super().restart_kernel(now=now, newports=newports, **kw)  # type: ignore[misc]
            return
        launch = self._launch_args or {}
        launch.update(kw)
        env = None if self.elastic_adopted else launch.get("env")
        cwd = None if self.elastic_adopted else launch.get("cwd")
        self.elastic_busy = True
        before = self.elastic_pod
        try:
            await self._restart_elastic(now, env, cwd)
            if self.elastic_pod != before:
                self.start_restarter()  # it has none where its start had failed
                await self.parent._connected(self, self.kernel_id)  # to its new agent
        except Conflict:
            raise  # somebody else gives it a pod: that will tell how it is
        except ElasticError as error:
            await self._note_dead(error)
            raise
        finally:
            self.elastic_busy = False
        self.elastic_reason = ""

    async def _restart_elastic(self, now: bool, env: Any, cwd: Any) -> None:
        assert self.elastic is not None
        with self._pending(yielding=True) as ready:
            try:
                connection = await self.elastic.launcher.running.restart(
                    self.kernel_id,
                    grace=0 if now else RESTART_GRACE,
                    env=None if env is None else dict(env),
                    cwd=None if cwd is None else str(cwd),
                )
                connection = self.provisioner.adopt(connection)
            except (Gone, NotRunning):
                connection = await self._new_pod()
            self.use_connection(connection)
            ready.done()

    async def _note_dead(self, error: ElasticError) -> None:
        """After a restart that failed: say so everywhere, unless the old kernel lives on."""
        assert self.elastic is not None
        try:
            agent = await self.elastic.launcher.running.agent_of(self.kernel_id)
            alive = bool((await agent.call("status", timeout=5)).get("alive"))
        except ElasticError:
            alive = False
        if alive:
            self._ready = asyncio.get_running_loop().create_future()
            self._ready.set_result(None)
            return
        await self.elastic.fail(self.kernel_id, error.reason, str(error))
        self.parent.show_dead(self, str(error))

    async def move_kernel(self, resources: Resources | None = None) -> None:
        """Get a new pod: for a kernel whose pod is gone, or of another size.

        Its variables are lost. Raises ElasticError.
        """
        self.elastic_busy = True
        try:
            with self._pending(yielding=True) as ready:
                self.use_connection(await self._new_pod(resources))
                ready.done()
        finally:
            self.elastic_busy = False

    async def _new_pod(self, resources: Resources | None = None) -> dict[str, Any]:
        launch = self._launch_args or {}
        cwd = launch.get("cwd")
        return await self.provisioner.relaunch(
            dict(launch.get("env") or os.environ),
            None if cwd is None else str(cwd),
            resources=resources,
        )

    def use_connection(self, connection: dict[str, Any]) -> None:
        """Write the connection file and connect the control socket for what runs now."""
        assert self.elastic is not None
        self._close_control_socket()  # type: ignore[attr-defined]
        # Not _reconcile_connection_info: it trusts a matching file that another server wrote,
        # and leaves this manager without ports and key.
        for port in port_names:
            setattr(self, port, 0)
        self.load_connection_info(connection)  # type: ignore[attr-defined]
        self._connection_file_written = False
        self.write_connection_file()  # type: ignore[attr-defined]
        self._connect_control_socket()  # type: ignore[attr-defined]
        self.elastic_pod = self.elastic.launcher.records.kernel(self.kernel_id).pod or ""

    # -- stop ------------------------------------------------------------------------------

    async def shutdown_kernel(self, now: bool = False, restart: bool = False) -> None:
        """End the kernel, its pod and its record."""
        if self.elastic is None or restart:
            await super().shutdown_kernel(now=now, restart=restart)  # type: ignore[misc]
            return
        self.shutting_down = True
        self.elastic_busy = True
        grace = 0.0 if now else min(self.shutdown_wait_time, STOP_GRACE)
        await self.elastic.launcher.running.stop(self.kernel_id, grace=grace)
        await self._async_cleanup_resources(restart=False)  # type: ignore[attr-defined]


class _Pending:
    """``ready`` is a new future while inside; it resolves as the block ends.

    What jupyter_client's ``in_pending_state`` does, without its 10 ms sleep per call, and with
    cancellation, after which waiters must not wait for ever.

    ``yielding``: a conflict leaves the future in place that was there before, as nothing was done:
    somebody else sees to the kernel.
    """

    def __init__(self, manager: ElasticKernelManagerMixin, yielding: bool) -> None:
        self.manager = manager
        self.yielding = yielding
        self.before = manager._ready
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __enter__(self) -> _Pending:
        self.manager._ready = self.future
        return self

    def done(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        if self.future.done():
            return
        if self.yielding and isinstance(error, Conflict) and self.manager._ready is self.future:
            self.manager._ready = self.before
        if isinstance(error, Exception):
            self.future.set_exception(error)
        else:
            self.future.set_exception(Gone("The kernel was deleted while it started."))
        self.future.exception()  # retrieved: not everybody waits for it
