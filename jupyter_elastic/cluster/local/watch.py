"""Notices what others wrote: servers that share the state directory, and agents.

A timer compares a few directories' times; that costs some ten microseconds, four times a second.
Only when one has changed are records read, in the ledger's thread. Our own writes do not wait
for this: the ledger publishes them at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Iterator

from . import process
from .cache import Cache
from .keeper import Do, Keeper
from .ledger import Ledger
from .state import StateDir

POLL = 0.25
"""Seconds between looks at the directories' times."""
POLL_WAITING = 0.02
"""The same while somebody waits for a pod."""
SWEEP = 15.0
"""Seconds between looks at logs and leftovers."""
FINISH = 2.0
"""Seconds that a look under way has when the watch is closed."""
LOG_MOST = 2**20
"""Bytes a pod's log may have."""
_GRAIN = 50_000_000
"""Nanoseconds within which two writes may show the same time."""


class Watch:
    """Begins with its making, on the running loop; :meth:`close` ends it."""

    def __init__(
        self,
        state: StateDir,
        ledger: Ledger,
        cache: Cache,
        keeper: Keeper,
        do: Do,
        log: logging.Logger,
    ) -> None:
        self._state = state
        self._ledger = ledger
        self._cache = cache
        self._keeper = keeper
        self._do = do
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._seen: dict[str, int] = {}
        self._sweep_at = self._loop.time()
        self._waiting = 0
        self._failures = 0
        self._task: asyncio.Task[None] | None = None
        self._timer = self._loop.call_soon(self._tick)

    async def close(self) -> None:
        """Look no more; a look that has begun is ended first, within a bound. Idempotent."""
        self._timer.cancel()
        if self._task is not None:
            # A process that is there only for a moment has to hand on what it found to clean up.
            await asyncio.wait([self._task], timeout=FINISH)
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @contextlib.contextmanager
    def hurry(self) -> Iterator[None]:
        """Look more often meanwhile: somebody waits."""
        self._waiting += 1
        if self._task is None:  # else it goes on at the new pace by itself
            self._timer.cancel()
            self._timer = self._loop.call_soon(self._tick)
        try:
            yield
        finally:
            self._waiting -= 1

    def _tick(self) -> None:
        try:
            signature = self._state.signature(self._cache.live())
            self._keeper.poll()
        except OSError as error:
            self._log.error("The state directory cannot be watched: %s", error)
            return self._again(failed=True)
        if signature == self._seen and self._loop.time() < self._sweep_at:
            return self._again()
        self._task = asyncio.create_task(self._catch_up(signature), name="watch: catch up")
        self._task.add_done_callback(self._caught_up)
        return None

    def _again(self, *, failed: bool = False) -> None:
        self._failures = self._failures + 1 if failed else 0
        pause = POLL_WAITING if self._waiting else POLL
        if failed:
            pause = min(30.0, 2.0**self._failures) * random.uniform(0.5, 1.0)
        self._timer = self._loop.call_later(pause, self._tick)

    async def _catch_up(self, signature: dict[str, int]) -> None:
        if self._loop.time() >= self._sweep_at:
            self._sweep_at = self._loop.time() + SWEEP
            process.reap()
            gone, strays = await self._do(self._ledger.sweep, LOG_MOST)
            self._keeper.finish(gone)
            self._keeper.finish_strays(strays)
        if signature != self._seen:
            await self._do(self._ledger.scan)
            await self._keeper.look()
            # Times have a grain: what was written just now is read once more.
            recent = time.time_ns() - max(signature.values()) < _GRAIN
            self._seen = {} if recent else signature

    def _caught_up(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            return
        if error := task.exception():
            self._log.error("The watch of the local cluster failed; it goes on", exc_info=error)
        self._again(failed=error is not None)
