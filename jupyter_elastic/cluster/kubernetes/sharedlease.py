"""A lease that the controllers of many namespaces hold together: one request serves all of them.

Each of them asks as if the lease were its own. Whether it is held is asked of the API by whoever
comes first, and told to all.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

from ...errors import ApiUnreachable, ElasticError
from .answers import ApiBusy
from .balance import YIELD
from .lease import LeaseElector

_LOG = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks at a lease that another process holds."""
STOPPED_WITHIN = 0.2
"""Seconds that those who act by a lease get to see that it is not ours any more."""


class SharedLease:
    """See the module. Belongs to the running loop."""

    def __init__(self, elector: LeaseElector, clock: Callable[[], float] = time.monotonic) -> None:
        self._elector = elector
        self._clock = clock
        self._lock = asyncio.Lock()
        self._held = False
        self._look_at = -math.inf
        self._silence: ElasticError | None = None
        """Why the last question got no answer; None: it got one."""
        self._listeners: list[Callable[[], None]] = []

    @property
    def name(self) -> str:
        """The Lease object's name."""
        return self._elector.name

    @property
    def held(self) -> bool:
        """Whether it was ours when it was asked for the last time."""
        return self._held

    async def acquire(self) -> bool:
        """See :meth:`.LeaseElector.acquire`, which may be believed for as long.

        That the API gives no answer is told to all who ask, and logged once.
        """
        async with self._lock:
            was, now = self._held, self._clock()
            if not was and now < self._look_at:
                if self._silence is not None:
                    raise self._silence.with_traceback(None)
                return False
            self._look_at, self._held = now + LOOK, False
            self._held = await self._ask()
        if self._held and not was:
            _LOG.info("Lease %s is ours: this process keeps the pools that go with it.", self.name)
            self._tell()
        elif was and not self._held:
            _LOG.info("Lease %s is not ours any more.", self.name)
        return self._held

    async def _ask(self) -> bool:
        before, self._silence = self._silence, None
        try:
            return await self._elector.acquire()
        except (ApiUnreachable, ApiBusy) as error:
            self._silence = error
            if before is None:
                _LOG.warning("Nobody can tell whose lease %s is: %s", self.name, error)
            raise

    async def hand_over(self) -> None:
        """Let the one who asks for it have it; first all who act here are told to stop."""
        async with self._lock:
            self._held, self._look_at = False, self._clock() + YIELD
        self._tell()
        await asyncio.sleep(STOPPED_WITHIN)
        await self._elector.release()

    async def release(self) -> None:
        """Let another process take over at once. Idempotent; nobody may ask any more."""
        async with self._lock:
            self._held = False
            await self._elector.release()

    def is_free(self) -> None:
        """Nobody holds it, by what the watch tells: those who want it may ask at once."""
        if not self._held:
            self._look_at = -math.inf
            self._tell()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Be called when it became ours, or may be had; returns a disposer."""
        self._listeners.append(listener)

        def dispose() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return dispose

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            listener()
