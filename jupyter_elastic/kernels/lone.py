"""The thread on which a lone client's kernels are looked after.

A client's event loop runs when the client likes, may be closed under us (Jupyter's applications
do so before their exit handlers run), and there may be several. So the service of a process that
is no server has a loop of its own, on a daemon thread, from the first kernel to the process's
end. Then kernels that the client did not end are ended, as a plain kernel ends with its parent;
should even that be cut short, their agents notice that the process is gone.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from ..agent import processes
from ..errors import ElasticError, Gone
from .service import ElasticService

_LOG = logging.getLogger("jupyter_elastic")
_T = TypeVar("_T")

LEAVE_GRACE = 2.0
"""Seconds a kernel may run its exit handlers when its client just ends."""
LEAVE_TIMEOUT = 15.0
"""Seconds after which a process that ends waits for its kernels' end no longer."""

_thread: LoneThread | None = None


def lone_thread() -> LoneThread:
    """This process's thread; begun when it is first asked for."""
    global _thread
    if _thread is None or _thread.pid != os.getpid():  # a forked child has none of our threads
        _thread = LoneThread()
    return _thread


class LoneThread:
    """See the module. Make it through :func:`lone_thread`."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.over = False
        """Whether the process is ending, and every kernel has been ended."""
        self._kept: dict[str, ElasticService] = {}
        self._services: dict[tuple[str, bool], ElasticService] = {}
        self._loop = asyncio.new_event_loop()
        self._opening = asyncio.Lock()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="jupyter-elastic", daemon=True
        )
        self._thread.start()
        atexit.register(self.end)

    @property
    def client(self) -> dict[str, int]:
        """This process as agents are told of it."""
        return {"pid": self.pid, "start_ticks": processes.start_ticks(self.pid)}

    async def run(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run on the thread's loop, wait on the caller's; cancelled together.

        Raises
        ------
        Gone
            The process is ending.
        """
        if self.over:
            raise Gone("The program that started this kernel is ending.")
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), self._loop))

    async def service(
        self, key: tuple[str, bool], make: Callable[[], Awaitable[ElasticService]]
    ) -> ElasticService:
        """The service under ``key``, opened by ``make`` at first. Only on the thread's loop."""
        async with self._opening:
            if key not in self._services:
                self._services[key] = await make()
            return self._services[key]

    def keep(self, kernel_id: str, service: ElasticService) -> None:
        """Note a kernel that is to end with this process."""
        self._kept[kernel_id] = service

    def let_go(self, kernel_id: str) -> None:
        """The kernel was ended. Idempotent."""
        self._kept.pop(kernel_id, None)

    # -- the process's end -----------------------------------------------------------------

    def end(self) -> None:
        """End kernels and thread; an exit handler. Idempotent."""
        if self.over or self.pid != os.getpid():
            return
        self.over = True
        try:
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(LEAVE_TIMEOUT)
        except concurrent.futures.TimeoutError:
            _LOG.warning("Elastic kernels of this program need long to end; their agents end them.")
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(1.0)
        if not self._thread.is_alive():
            self._loop.close()

    async def _end(self) -> None:
        for kernel_id, service in tuple(self._kept.items()):
            try:
                await service.launcher.running.stop(kernel_id, grace=LEAVE_GRACE)
            except ElasticError as error:
                _LOG.warning("Kernel %s is left to its agent to end: %s", kernel_id, error)
        self._kept.clear()
        for service in self._services.values():
            await service.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*rest, return_exceptions=True)
