"""Ports of pods on this machine, for servers outside the cluster: TCP over the API server.

Every TCP connection is a websocket of its own to ``pods/NAME/portforward``. In its protocol
(``v4.channel.k8s.io``) the first byte of a message names a channel: 0 carries the connection's
bytes, 1 an error's text; the first two bytes that the server sends on each are the port.

The protocol cannot say that one side will send no more. When a client shuts down its half, the
pod is not told, and what it sends is still handed on until it has been silent for a while.

Clients connect again and again, ZeroMQ ten times a second. Where nothing answers, the next
connection is accepted and waits, longer each time, before it is one more request to the API; when
the pod is gone nobody listens for it any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from functools import partial

try:
    import aiohttp
except ModuleNotFoundError:  # an optional extra; KubeApi.connect says so
    aiohttp = None  # type: ignore[assignment]

from ...errors import ElasticError, Forbidden, Gone
from ...waits import event_or_timeout, within
from .api import KubeApi

CHUNK = 64 * 1024
LINGER = 5.0
"""Seconds of silence from the pod after which a connection whose client is done is closed."""

PING = 30.0
"""Seconds between pings, so that nothing on the way takes a quiet connection for a dead one."""

CONNECTIONS = 1024
"""Connections at once; more are refused."""

FIRST_PAUSE, PAUSE_GROWTH, LONGEST_PAUSE = 0.05, 1.5, 5.0
"""Seconds between two attempts to reach a port where nothing answers."""

STILL = 0.3
"""Seconds after which a client that lost its connection has tried again; ZeroMQ takes up to 0.2."""
REJOIN_WITHIN = 5.0
"""Seconds for which clients of a pod are waited for."""

_DATA, _ERROR = 0, 1
_PROTOCOL = "v4.channel.k8s.io"
_HEADER = 2


class _Listener:
    """One port of one pod."""

    def __init__(
        self, pod: str, port: int, clock: Callable[[], float], rand: Callable[[], float]
    ) -> None:
        self.pod, self.port = pod, port
        self.tasks: set[asyncio.Task[None]] = set()
        self.silent: set[asyncio.Task[None]] = set()
        """Those of connections by which the pod has sent nothing yet."""
        self.server: asyncio.Server | None = None
        self.closed = False
        self._clock, self._rand = clock, rand
        self._failures = 0
        self._not_before = 0.0
        self._news = asyncio.Event()

    @property
    def local_port(self) -> int:
        assert self.server is not None
        number: int = self.server.sockets[0].getsockname()[1]
        return number

    async def turn(self) -> bool:
        """Wait until the port may be tried again; False: there is nothing to try any more."""
        while not self.closed and (left := self._not_before - self._clock()) > 0:
            self._news.clear()
            await event_or_timeout(self._news, left)
        return not self.closed

    def failed(self) -> None:
        """Nothing answered there."""
        now = self._clock()
        if now < self._not_before:
            return  # one of several that tried at the same time
        pause = FIRST_PAUSE * PAUSE_GROWTH ** min(self._failures, 50)
        self._failures += 1
        self._not_before = now + min(pause, LONGEST_PAUSE) * (0.5 + self._rand())

    def answered(self) -> None:
        """Something answered, or may do so from now on."""
        self._failures, self._not_before = 0, 0.0
        self._news.set()

    def stop(self) -> None:
        """Listen no more; what is connected goes on."""
        self.closed = True
        self._news.set()
        if self.server is not None:
            self.server.close()

    async def close(self) -> None:
        """Listen no more, and close all connections."""
        self.stop()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class PortForwards:
    """Listens on 127.0.0.1 for each port of a pod that is asked for, until told otherwise.

    Any process of this machine can connect; what listens in the pod must know whom it talks to.
    """

    def __init__(
        self,
        api: KubeApi,
        log: logging.Logger | None = None,
        *,
        connections: int = CONNECTIONS,
        linger: float = LINGER,
        clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._api = api
        self._log = log or logging.getLogger(__name__)
        self._most, self._linger = connections, linger
        self._clock, self._rand = clock, rand
        self._open = 0
        self._told: set[str] = set()
        self.on_refused: Callable[[str, Forbidden], None] = lambda pod, error: None
        """Called with a pod's name when the API server does not let us reach it."""
        self._closed = False
        self._lock = asyncio.Lock()
        self._listeners: dict[tuple[str, int], _Listener] = {}

    async def local_port(self, pod: str, port: int) -> int:
        """A port of 127.0.0.1 that leads to ``port`` of ``pod``; the same one every time.

        Does not look whether the pod is there: when it is not, connections are closed, and after
        the first one nobody listens any more.

        Raises
        ------
        Gone
            Closed.
        """
        async with self._lock:
            if self._closed:
                raise Gone(f"Port {port} of pod {pod} is not forwarded any more.")
            listener = self._listeners.get((pod, port))
            if listener is None:
                listener = _Listener(pod, port, self._clock, self._rand)

                async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    # Before Python 3.12 asyncio complains of a connection that was cancelled.
                    with contextlib.suppress(asyncio.CancelledError):
                        await self._serve(listener, reader, writer)

                listener.server = await asyncio.start_server(
                    serve, "127.0.0.1", 0, limit=CHUNK, backlog=256
                )
                self._listeners[pod, port] = listener
            return listener.local_port

    def retry(self, pod: str) -> None:
        """Something may answer in a pod where nothing did: do not wait before the next attempt."""
        for listener in self._listeners.values():
            if listener.pod == pod:
                listener.answered()

    async def rejoined(self, pod: str) -> None:
        """Try all ways to a pod now; return once clients that want to be connected are.

        That is when no connection has been without an answer for :data:`STILL` seconds, or after
        :data:`REJOIN_WITHIN`, for ways to where nothing listens.
        """
        until = still_since = self._clock()
        until += REJOIN_WITHIN
        self.retry(pod)
        while (now := self._clock()) < until:
            if any(one.silent for one in self._listeners.values() if one.pod == pod):
                still_since = now
            elif now - still_since >= STILL:
                return
            await asyncio.sleep(STILL / 6)

    async def close_pod(self, pod: str) -> None:
        """Close all connections to a pod and stop listening for it. Idempotent."""
        async with self._lock:
            ended = [self._listeners.pop(key) for key in list(self._listeners) if key[0] == pod]
        await asyncio.gather(*(listener.close() for listener in ended))

    async def close(self) -> None:
        """Close everything. Idempotent."""
        async with self._lock:
            self._closed = True
            ended = list(self._listeners.values())
            self._listeners.clear()
        await asyncio.gather(*(listener.close() for listener in ended))

    # -- inside ----------------------------------------------------------------------------

    async def _serve(
        self, listener: _Listener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One TCP connection, from its acceptance to its end."""
        task = asyncio.current_task()
        assert task is not None
        listener.tasks.add(task)
        listener.silent.add(task)
        self._open += 1
        where = f"port {listener.port} of pod {listener.pod}"
        try:
            if self._open > self._most:
                self._log.warning(
                    "A connection to %s is refused: %d are open, which is the most.",
                    where,
                    self._most,
                )
                return
            if not await listener.turn():
                writer.transport.abort()
                return
            websocket = await self._api.websocket(
                self._api.path("pods", listener.pod, "portforward"),
                {"ports": str(listener.port)},
                [_PROTOCOL],
            )
            try:
                await self._carry(listener, websocket, reader, writer, task)
            finally:
                await _close_soon(websocket)
        except Gone as error:
            self._log.debug("There is no way to %s: %s", where, error)
            writer.transport.abort()
            if await self._has_pod(listener.pod):
                listener.failed()
            else:
                self._stop(listener)
        except Forbidden as error:
            listener.failed()
            # ZeroMQ connects again and again, and whoever waits only sees that nobody answers.
            level = logging.DEBUG if error.message in self._told else logging.WARNING
            self._told.add(error.message)
            self._log.log(level, "Pods cannot be reached: %s", error)
            writer.transport.abort()
            self.on_refused(listener.pod, error)
        except (ElasticError, _Broken, aiohttp.ClientError, OSError) as error:
            self._log.debug("The connection to %s ended: %s", where, error)
            listener.failed()
            writer.transport.abort()
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            self._open -= 1
            listener.tasks.discard(task)
            listener.silent.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _has_pod(self, pod: str) -> bool:
        """Whether there may be such a pod; a node that starts does not know its pods yet."""
        try:
            await self._api.request("GET", self._api.path("pods", pod))
        except Gone:
            return False
        except ElasticError:
            return True
        return True

    def _stop(self, listener: _Listener) -> None:
        """Its pod is gone for good, as names are never used again."""
        listener.stop()
        key = (listener.pod, listener.port)
        if self._listeners.get(key) is listener:
            del self._listeners[key]

    def _answered(self, listener: _Listener, task: asyncio.Task[None]) -> None:
        """What listens in a pod begins to do so at once: a kernel's channels belong together."""
        listener.silent.discard(task)
        listener.answered()
        self.retry(listener.pod)

    async def _carry(
        self,
        listener: _Listener,
        websocket: aiohttp.ClientWebSocketResponse,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        task: asyncio.Task[None],
    ) -> None:
        """Copy both ways until the pod's side ends."""
        down = _Down(websocket, writer, partial(self._answered, listener, task))
        receiving = asyncio.create_task(down.run())
        sending = asyncio.create_task(_send(reader, websocket))
        pinging = asyncio.create_task(_ping(websocket))
        try:
            await asyncio.wait({receiving, sending}, return_when=asyncio.FIRST_COMPLETED)
            while not receiving.done() and sending.done() and sending.exception() is None:
                seen = down.received
                await asyncio.wait([receiving], timeout=self._linger)
                if down.received == seen:
                    break
            for task in (receiving, sending):
                if task.done():
                    task.result()
            if receiving.done() and not down.received:
                listener.failed()
        finally:
            for task in (receiving, sending, pinging):
                task.cancel()
            await asyncio.gather(receiving, sending, pinging, return_exceptions=True)


class _Broken(Exception):
    """The other side said that something went wrong."""


class _Down:
    """What the pod sends, on its way to the client."""

    def __init__(
        self,
        websocket: aiohttp.ClientWebSocketResponse,
        writer: asyncio.StreamWriter,
        begins: Callable[[], None],
    ) -> None:
        self.received = 0
        self._websocket, self._writer = websocket, writer
        self._begins = begins

    async def run(self) -> None:
        header = {_DATA: _HEADER, _ERROR: _HEADER}
        async for message in self._websocket:
            if message.type is aiohttp.WSMsgType.ERROR:
                raise _Broken(str(self._websocket.exception()))
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            channel, content = message.data[0], memoryview(message.data)[1:]
            if skipped := min(header.get(channel, 0), len(content)):
                header[channel] -= skipped
                content = content[skipped:]
            if not content:
                continue
            if channel == _ERROR:
                raise _Broken(bytes(content).decode(errors="replace").strip())
            if channel == _DATA:
                if not self.received:
                    self._begins()
                self.received += len(content)
                self._writer.write(content)
                await self._writer.drain()  # a client that does not read holds up the pod
        code = self._websocket.close_code
        if code not in (aiohttp.WSCloseCode.OK, aiohttp.WSCloseCode.GOING_AWAY):
            raise _Broken(f"the API server closed it with code {code}")


async def _send(reader: asyncio.StreamReader, websocket: aiohttp.ClientWebSocketResponse) -> None:
    """Copy what the client sends until it sends no more."""
    while data := await reader.read(CHUNK):
        await websocket.send_bytes(bytes((_DATA,)) + data)


async def _ping(websocket: aiohttp.ClientWebSocketResponse) -> None:
    # Not aiohttp's own heartbeat: it takes a client that does not read for a dead server.
    while True:
        await asyncio.sleep(PING)
        await websocket.ping()


async def _close_soon(websocket: aiohttp.ClientWebSocketResponse) -> None:
    """Close politely, but do not wait long for an answer."""
    with contextlib.suppress(asyncio.TimeoutError, aiohttp.ClientError, OSError):
        await within(websocket.close(), 1.0)
