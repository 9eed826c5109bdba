"""Wake all who wait for "something has changed", none of whom may miss it or take it away."""

from __future__ import annotations

import asyncio
from typing import Optional, Set


class Stir:
    """Many waiters, each woken by the next :meth:`set`."""

    def __init__(self) -> None:
        self._waiters: "Set[asyncio.Future[None]]" = set()

    def set(self) -> None:
        """Wake everybody who waits now."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, timeout: Optional[float] = None) -> bool:
        """Return True once stirred, False after ``timeout`` seconds (None: never)."""
        waiter: "asyncio.Future[None]" = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            done, _ = await asyncio.wait([waiter], timeout=timeout)
            return bool(done)
        finally:
            self._waiters.discard(waiter)
