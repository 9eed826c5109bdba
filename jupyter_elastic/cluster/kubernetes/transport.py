"""What lies under :mod:`.api`: connections that notice a dead peer, a budget, lines of a stream.

Imports ``aiohttp``, an optional extra, only when a session is made.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ... import __version__

if TYPE_CHECKING:
    import aiohttp

Sleep = Callable[[float], Awaitable[object]]


class Budget:
    """A token bucket that delays and never fails; first come, first served."""

    def __init__(
        self,
        qps: float,
        burst: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._qps, self._burst = qps, float(burst)
        self._clock, self._sleep = clock, sleep
        self._tokens, self._at = float(burst), clock()

    async def take(self) -> None:
        """Wait until one more request may be sent."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._qps) - 1
        self._at = now
        if self._tokens < 0:  # a debt: those who come later wait longer
            await self._sleep(-self._tokens / self._qps)


def session(limit: int) -> aiohttp.ClientSession:
    """A pool of at most ``limit`` connections; 0 is no limit."""
    import aiohttp

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=limit, keepalive_timeout=30, socket_factory=keepalive_socket
        ),
        headers={"User-Agent": f"jupyter-elastic/{__version__}"},
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=2**20,
        trust_env=False,  # the proxy is given per request; and never a password of a netrc file
    )


def keepalive_socket(address: Any) -> socket.socket:
    """A socket that notices within a minute when the other side is gone."""
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", 30),
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 60_000),
    ):
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    made.setblocking(False)
    return made


async def lines(chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    """Whole lines, however long; what follows the last line's end is dropped."""
    rest: list[bytes] = []
    async for chunk in chunks:
        head, end, tail = chunk.rpartition(b"\n")
        if not end:
            rest.append(chunk)
            continue
        rest.append(head)
        for line in b"".join(rest).split(b"\n"):
            if line.strip():
                yield line
        rest = [tail] if tail else []
