"""Keeps one thing going for each name that is wanted: opened, tried again, closed when it is not.

No name waits for another one: what cannot be opened now is tried again after pauses that double,
while the others go on.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Protocol

from ..errors import ElasticError
from ..waits import event_or_timeout

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds between two tries to open what cannot be opened."""
AT_ONCE = 8
"""How many are being opened at the same time."""


class Keeper(Protocol):
    """What is kept going."""

    async def open(self) -> None:
        """Begin. May be called again after it failed with an ElasticError."""

    def want(self, wanted: bool) -> None:
        """Whether it is to go on, or only to put things in order before its end."""

    async def close(self) -> None:
        """End. Also after an :meth:`open` that failed."""


class Supervisor:
    """See the module. Belongs to the running loop.

    Parameters
    ----------
    make
        Returns what is to be kept for a name, not yet open.
    """

    def __init__(
        self,
        make: Callable[[str], Keeper],
        log: logging.Logger,
        rng: random.Random | None = None,
    ) -> None:
        self._make = make
        self._log = log
        self._rng = rng or random.Random()
        self._opening = asyncio.Semaphore(AT_ONCE)
        self._wanted: dict[str, bool] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._tried: set[str] = set()
        self.keepers: dict[str, Keeper] = {}
        """Those that are open."""

    def want(self, names: Mapping[str, bool]) -> None:
        """What is to be there from now on, and for each whether it is to go on.

        Returns at once; what is not named any more is closed.
        """
        before, self._wanted = self._wanted, dict(names)
        for name in before.keys() | names.keys():
            if name not in self._tasks:
                self._begin(name)
            elif before.get(name) != names.get(name):
                self._changed[name].set()

    def untried(self) -> int:
        """How many are wanted that nobody has tried to open yet: they wait for their turn."""
        return len(self._wanted.keys() - self._tried)

    async def close(self) -> None:
        """Close all, at the same time."""
        self.want({})
        while self._tasks:
            await asyncio.wait(tuple(self._tasks.values()))

    def _begin(self, name: str) -> None:
        self._changed[name] = asyncio.Event()
        task = self._tasks[name] = asyncio.create_task(self._keep(name), name=f"keep {name}")
        task.add_done_callback(lambda task: self._ended(name, task))

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        del self._tasks[name], self._changed[name]
        self._tried.discard(name)
        if task.cancelled():
            return
        if task.exception() is None:
            self._begin_again(name)
        else:
            self._log.error("Keeping %s failed", name, exc_info=task.exception())
            task.get_loop().call_later(LONGEST_PAUSE, self._begin_again, name)

    def _begin_again(self, name: str) -> None:
        """One that came back while it was being closed."""
        if name in self._wanted and name not in self._tasks:
            self._begin(name)

    async def _keep(self, name: str) -> None:
        keeper = self._make(name)
        try:
            if await self._open(name, keeper):
                self.keepers[name] = keeper
                changed = self._changed[name]
                while name in self._wanted:
                    changed.clear()
                    keeper.want(self._wanted[name])
                    await changed.wait()
        finally:
            self.keepers.pop(name, None)
            await keeper.close()

    async def _open(self, name: str, keeper: Keeper) -> bool:
        """Whether it is open; False: it is wanted no more."""
        pause = FIRST_PAUSE
        while name in self._wanted:
            try:
                async with self._opening:
                    await keeper.open()
                return True
            except ElasticError as error:
                self._log.warning("%s: not yet, trying again: %s", name, error)
            except Exception:  # noqa: BLE001 - the others go on, and so does the trying
                self._log.exception("%s: not yet, trying again", name)
            finally:
                self._tried.add(name)
            self._changed[name].clear()
            await event_or_timeout(self._changed[name], pause * self._rng.uniform(0.8, 1.2))
            pause = min(2 * pause, LONGEST_PAUSE)
        return False
