"""Who acts: a loop that contends for a lease, and how long one may believe in it.

Apart from the acting, which may take longer than a lease lasts. Leadership ends by itself when
nothing is heard, so whoever asks :attr:`Term.leading` before each request does no harm for longer
than a request takes.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable

from ..cluster.base import Cluster
from ..errors import ElasticError
from ..waits import event_or_timeout

LEASE_PERIOD = 5.0
"""Seconds between renewals of the lease, at most; the port asks for less than 10."""


class Term:
    """See the module.

    Parameters
    ----------
    began
        Called when this process begins to lead.
    """

    def __init__(
        self,
        cluster: Cluster,
        lease: str,
        began: Callable[[], None],
        *,
        monotonic: Callable[[], float],
        rng: random.Random,
        log: logging.Logger,
    ) -> None:
        self.lease = lease
        self._cluster = cluster
        self._began = began
        self._monotonic = monotonic
        self._rng = rng
        self.log = log
        self._until = -math.inf
        self._heard_at = self._turned_at = monotonic()
        self._news = asyncio.Event()
        self._failing = False

    @property
    def leading(self) -> bool:
        """Whether this process may act now."""
        return self._monotonic() < self._until

    @property
    def silent_for(self) -> float:
        """Seconds since the cluster gave an answer, whatever it was."""
        return self._monotonic() - self._heard_at

    @property
    def stuck_for(self) -> float:
        """Seconds since the loop last turned, with an answer or without."""
        return self._monotonic() - self._turned_at

    def look(self) -> None:
        """The lease may be free: try it now."""
        self._news.set()

    async def run(self) -> None:
        """Hold the lease, or be there when it is free; for ever."""
        self._heard_at = self._turned_at = self._monotonic()
        while True:
            self._news.clear()
            asked = self._monotonic()
            held = await self._ask()
            self._turned_at = self._monotonic()
            self._take(held, asked)
            valid, look = self._cluster.lease_valid, self._cluster.lease_look
            pause = min(LEASE_PERIOD, valid / 2) if held else look
            await event_or_timeout(self._news, pause * self._rng.uniform(0.8, 1.0))

    async def give_up(self) -> None:
        """Let another take over at once. The loop must have ended."""
        if not self.leading:
            return
        self._until = -math.inf
        try:
            await self._cluster.release_lease(self.lease)
        except ElasticError as error:
            self.log.warning("The lease could not be given up and runs out: %s", error)

    async def _ask(self) -> bool:
        try:
            held = await self._cluster.acquire_lease(self.lease)
        except ElasticError as error:
            # Whether we still hold the lease is not known: another may act by now.
            if not self._failing:
                self.log.warning("The pool cannot be looked after, trying again: %s", error)
            self._failing = True
            return False
        except Exception:
            self.log.exception("The pool cannot be looked after, trying again")
            return False
        self._failing = False
        self._heard_at = self._monotonic()
        return held

    def _take(self, held: bool, asked: float) -> None:
        was = self.leading
        self._until = asked + self._cluster.lease_valid if held else -math.inf
        if self.leading and not was:
            self.log.info("This process keeps the pool of warm pods now.")
            self._began()
        elif was and not self.leading:
            self.log.info("This process no longer keeps the pool of warm pods.")
