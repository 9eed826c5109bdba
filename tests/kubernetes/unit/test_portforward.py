"""Ports of pods on this machine, when the pod's end breaks, stalls or floods.

``tests/kubernetes/test_client.py`` has the same over a real API server and kubelet.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from jupyter_elastic.cluster.kubernetes.portforward import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    PortForwards,
)
from jupyter_elastic.errors import Gone

from .fakeapi import PODS, FakeApi, connected, failure, until

Behaviour = Callable[[web.WebSocketResponse], Awaitable[None]]


def kubelet(behave: Behaviour, *, headers: bool = True) -> Any:
    """A port-forward as the kubelet speaks it."""

    async def answer(request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse(protocols=["v4.channel.k8s.io"], max_msg_size=0)
        await websocket.prepare(request)
        assert websocket.ws_protocol == "v4.channel.k8s.io"
        if headers:
            port = struct.pack("<H", int(request.query["ports"]))
            await websocket.send_bytes(b"\x00" + port)
            await websocket.send_bytes(b"\x01" + port)
        with contextlib.suppress(ConnectionError):
            await behave(websocket)
        await websocket.close()
        return websocket

    return answer


async def echo(websocket: web.WebSocketResponse) -> None:
    async for message in websocket:
        if message.type is WSMsgType.BINARY:
            assert message.data[:1] == b"\x00"
            await websocket.send_bytes(message.data)


@contextlib.asynccontextmanager
async def forwarding(folder: Path, **options: Any) -> AsyncIterator[tuple[FakeApi, PortForwards]]:
    async with connected(folder) as (fake, api):
        forwards = PortForwards(api, logging.getLogger("test"), **options)
        try:
            yield fake, forwards
        finally:
            await forwards.close()
            assert forwards._open == 0


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def dialed(
    forwards: PortForwards, pod: str = "a", port: int = 21000
) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", await forwards.local_port(pod, port)
    )
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What still comes until the connection is closed, politely or not."""
    try:
        return await asyncio.wait_for(reader.read(), 60)
    except ConnectionError:
        return b""


async def test_bytes_both_ways_and_the_same_port_every_time(tmp_path: Path) -> None:
    async with forwarding(tmp_path) as (fake, forwards):
        fake.next.append(kubelet(echo))
        async with dialed(forwards) as (reader, writer):
            blob = bytes(range(256)) * 4096
            writer.write(blob)
            assert await asyncio.wait_for(reader.readexactly(len(blob)), 60) == blob
        ports = await asyncio.gather(*(forwards.local_port("a", 21000) for _ in range(5)))
        assert len(set(ports)) == 1
        assert await forwards.local_port("a", 21001) not in ports
        assert await forwards.local_port("b", 21000) not in ports
        [request] = fake.seen
        assert (request.path, request.query["ports"]) == (f"{PODS}/a/portforward", "21000")


async def test_the_ports_number_is_no_data_however_it_is_cut(tmp_path: Path) -> None:
    async def cut_up(websocket: web.WebSocketResponse) -> None:
        for piece in (b"\x00\x08", b"\x00\x52" + b"hel", b"\x01\x08\x52", b"\x00", b"", b"\x00lo"):
            await websocket.send_bytes(piece)
        await websocket.send_str("what is this")
        await websocket.send_bytes(b"\x07another channel")

    async with forwarding(tmp_path) as (fake, forwards):
        fake.next.append(kubelet(cut_up, headers=False))
        async with dialed(forwards) as (reader, _):
            assert await ended(reader) == b"hello"


async def test_a_pod_that_closes_ends_the_connection_after_its_last_byte(tmp_path: Path) -> None:
    async def burst(websocket: web.WebSocketResponse) -> None:
        for _ in range(50):
            await websocket.send_bytes(b"\x00" + b"x" * 30_000)

    async with forwarding(tmp_path) as (fake, forwards):
        fake.next.append(kubelet(burst))
        async with dialed(forwards) as (reader, _):
            await asyncio.sleep(0.1)  # nobody reads yet
            assert len(await ended(reader)) == 1_500_000


async def test_a_client_that_shuts_down_its_half_still_gets_the_answer(tmp_path: Path) -> None:
    async def answer_late(websocket: web.WebSocketResponse) -> None:
        asked = await websocket.receive()
        for piece in (b"\x00you ", b"\x00said ", asked.data):
            await asyncio.sleep(0.1)
            await websocket.send_bytes(piece)

    async with forwarding(tmp_path, linger=5) as (fake, forwards):
        fake.next.append(kubelet(answer_late))
        async with dialed(forwards) as (reader, writer):
            writer.write(b"hello")
            writer.write_eof()
            assert await ended(reader) == b"you said hello"


async def test_a_client_that_is_gone_ends_the_connection_to_the_pod(tmp_path: Path) -> None:
    closed = asyncio.Event()

    async def listen(websocket: web.WebSocketResponse) -> None:
        async for _ in websocket:
            pass
        closed.set()

    async with forwarding(tmp_path, linger=0.1) as (fake, forwards):
        fake.next.append(kubelet(listen))
        async with dialed(forwards) as (_, writer):
            writer.write(b"hello")
            await writer.drain()
        await asyncio.wait_for(closed.wait(), 60)
        await until(lambda: not forwards._open, "its place is free for another")
        assert len(fake.seen) == 1


async def test_nothing_listens_in_the_pod(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(websocket: web.WebSocketResponse) -> None:
        await websocket.send_bytes(b"\x01error forwarding port 21000: connection refused")
        await asyncio.sleep(10)

    with caplog.at_level(logging.DEBUG, "test"):
        async with forwarding(tmp_path) as (fake, forwards):
            fake.next.append(kubelet(refuse))
            async with dialed(forwards) as (reader, _):
                assert await ended(reader) == b""
    assert [one.levelname for one in caplog.records if "connection refused" in one.message] == [
        "DEBUG"
    ]


async def test_a_pod_that_is_not_there(tmp_path: Path) -> None:
    async with forwarding(tmp_path) as (fake, forwards):
        for answer in (failure(404, "NotFound"), failure(403, "Forbidden"), failure(500)):
            fake.next.append(answer)
            async with dialed(forwards) as (reader, _):
                assert await ended(reader) == b""


async def test_nobody_listens_any_more_for_a_pod_that_is_gone(tmp_path: Path) -> None:
    async with forwarding(tmp_path) as (fake, forwards):
        fake.next.append(failure(404, "NotFound"))
        port = await forwards.local_port("a", 21000)
        async with dialed(forwards) as (reader, _):
            assert await ended(reader) == b""

        async def refused() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return True
            writer.close()
            return False

        while not await refused():
            await asyncio.sleep(0.01)
        assert len(fake.seen) <= 3


async def test_a_node_that_does_not_know_its_pod_yet_is_asked_again(tmp_path: Path) -> None:
    async with forwarding(tmp_path) as (fake, forwards):
        fake.put("a")
        fake.next.append(failure(404, "NotFound"))
        port = await forwards.local_port("a", 21000)
        async with dialed(forwards) as (reader, _):
            assert await ended(reader) == b""
        await until(lambda: len(fake.seen) == 2, "the question for the pod")
        fake.next.append(kubelet(echo))
        async with dialed(forwards) as (reader, writer):
            writer.write(b"again")
            assert await asyncio.wait_for(reader.readexactly(5), 60) == b"again"
        assert await forwards.local_port("a", 21000) == port


# -- attempts in vain ----------------------------------------------------------------------------


class Clock:
    """Stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def refuse(websocket: web.WebSocketResponse) -> None:
    await websocket.send_bytes(b"\x01error forwarding port 21000: connection refused")
    await websocket.receive()


async def attempt(forwards: PortForwards, **where: Any) -> None:
    async with dialed(forwards, **where) as (reader, _):
        assert await ended(reader) == b""


async def test_what_does_not_answer_is_asked_less_and_less(tmp_path: Path) -> None:
    clock = Clock()
    pauses = []
    async with forwarding(tmp_path, clock=clock, rand=lambda: 0.5) as (fake, forwards):
        fake.next.extend([kubelet(refuse)] * 30)
        for _ in range(15):
            await attempt(forwards)
            [listener] = forwards._listeners.values()
            pauses.append(listener._not_before - clock.now)
            clock.now = listener._not_before
    assert len(fake.seen) == 15
    assert pauses[0] == pytest.approx(FIRST_PAUSE)
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE


async def test_a_connection_waits_for_its_turn_and_others_are_not_held_up(tmp_path: Path) -> None:
    clock = Clock()
    async with forwarding(tmp_path, clock=clock) as (fake, forwards):
        fake.next.append(kubelet(refuse))
        await attempt(forwards)
        async with dialed(forwards) as (reader, writer):
            writer.write(b"hello")
            fake.next.append(kubelet(echo))
            async with dialed(forwards, pod="b") as (other, more):
                more.write(b"x")
                assert await asyncio.wait_for(other.readexactly(1), 60) == b"x"
            assert len(fake.seen) == 2, "the first waits"
            fake.next.append(kubelet(echo))
            forwards.retry("another")
            forwards.retry("a")  # its container was started again
            assert await asyncio.wait_for(reader.readexactly(5), 60) == b"hello"


async def test_an_answer_on_one_port_lets_all_of_the_pod_try_again(tmp_path: Path) -> None:
    """A kernel's channels come back together, or output would be lost between two of them."""
    clock = Clock()
    async with forwarding(tmp_path, clock=clock) as (fake, forwards):
        fake.next.append(kubelet(refuse))
        await attempt(forwards, port=21002)
        async with dialed(forwards, port=21002) as (reader, writer):
            writer.write(b"waits")
            await writer.drain()
            fake.next.extend([kubelet(echo), kubelet(echo)])
            async with dialed(forwards, port=21001) as (other, more):
                more.write(b"x")
                assert await asyncio.wait_for(other.readexactly(1), 60) == b"x"
                assert await asyncio.wait_for(reader.readexactly(5), 60) == b"waits"


async def test_an_answer_makes_up_for_all_failures(tmp_path: Path) -> None:
    clock = Clock()
    async with forwarding(tmp_path, clock=clock, rand=lambda: 0.5) as (fake, forwards):
        fake.next.extend([kubelet(refuse)] * 5)
        for _ in range(5):
            await attempt(forwards)
            clock.now += LONGEST_PAUSE
        fake.next.extend([kubelet(echo), kubelet(refuse)])
        async with dialed(forwards) as (reader, writer):
            writer.write(b"x")
            assert await asyncio.wait_for(reader.readexactly(1), 60) == b"x"
        await attempt(forwards)
        [listener] = forwards._listeners.values()
        assert listener._not_before - clock.now == pytest.approx(FIRST_PAUSE)


async def test_a_connection_that_waits_ends_with_its_pod(tmp_path: Path) -> None:
    async with forwarding(tmp_path, clock=Clock()) as (fake, forwards):
        fake.next.append(kubelet(refuse))
        await attempt(forwards)
        async with dialed(forwards) as (reader, _):
            await forwards.close_pod("a")
            assert await ended(reader) == b""
        assert len(fake.seen) == 1


async def test_an_api_server_that_breaks_off(tmp_path: Path) -> None:
    async def vanish(websocket: web.WebSocketResponse) -> None:
        await websocket.receive()
        assert websocket._req is not None
        assert websocket._req.transport is not None
        websocket._req.transport.abort()

    async with forwarding(tmp_path) as (fake, forwards):
        fake.next.extend([kubelet(vanish), kubelet(echo)])
        async with dialed(forwards) as (reader, writer):
            writer.write(b"x")
            assert await ended(reader) == b""
        async with dialed(forwards) as (reader, writer):
            writer.write(b"again")
            assert await asyncio.wait_for(reader.readexactly(5), 60) == b"again"


async def test_a_client_that_does_not_read_holds_up_the_pod(tmp_path: Path) -> None:
    sent = 0

    async def flood(websocket: web.WebSocketResponse) -> None:
        nonlocal sent
        for _ in range(2000):
            await websocket.send_bytes(b"\x00" + b"x" * 65_536)
            sent += 65_536

    async with forwarding(tmp_path) as (fake, forwards):
        fake.next.append(kubelet(flood))
        async with dialed(forwards) as (reader, _):
            await until(lambda: sent > 0, "the flood")
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.3)
            assert sent < 60_000_000
            assert len(await ended(reader)) == 2000 * 65_536


async def test_a_pod_that_does_not_read_holds_up_the_client(tmp_path: Path) -> None:
    go = asyncio.Event()
    received = 0

    async def sleepy(websocket: web.WebSocketResponse) -> None:
        nonlocal received
        await go.wait()
        async for message in websocket:
            received += len(message.data) - 1

    async with forwarding(tmp_path, linger=0.1) as (fake, forwards):
        fake.next.append(kubelet(sleepy))
        async with dialed(forwards) as (_, writer):
            chunk, written = b"x" * 65_536, 0
            with contextlib.suppress(asyncio.TimeoutError):
                while written < 200_000_000:
                    writer.write(chunk)
                    written += len(chunk)
                    await asyncio.wait_for(writer.drain(), 1)
            assert written < 60_000_000
            go.set()
            await asyncio.wait_for(writer.drain(), 60)
            await until(lambda: received == written, "all of it")


async def test_a_pod_that_is_gone_closes_its_connections_and_no_others(tmp_path: Path) -> None:
    async with forwarding(tmp_path) as (fake, forwards):
        fake.next.extend([kubelet(echo)] * 3)
        async with (
            dialed(forwards, "a", 1) as (one, _),
            dialed(forwards, "a", 2) as (two, _),
            dialed(forwards, "b", 1) as (other, writer),
        ):
            await until(lambda: len(fake.seen) == 3, "all connections")
            port = await forwards.local_port("a", 1)
            await forwards.close_pod("a")
            await forwards.close_pod("a")
            assert await ended(one) == await ended(two) == b""
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"still here")
            assert await asyncio.wait_for(other.readexactly(10), 60) == b"still here"


async def test_after_the_end_nothing_is_forwarded(tmp_path: Path) -> None:
    async with forwarding(tmp_path) as (fake, forwards):
        fake.next.append(kubelet(echo))
        async with dialed(forwards) as (reader, _):
            await until(lambda: fake.seen, "the connection")
            await forwards.close()
            assert await ended(reader) == b""
        with pytest.raises(Gone):
            await forwards.local_port("a", 21000)


async def test_more_connections_than_allowed_are_refused_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with forwarding(tmp_path, connections=2) as (fake, forwards):
        fake.next.extend([kubelet(echo)] * 3)
        async with dialed(forwards), dialed(forwards):
            await until(lambda: len(fake.seen) == 2, "two connections")
            async with dialed(forwards) as (third, _):
                assert await ended(third) == b""
            assert "2 are open" in caplog.text
            await forwards.close_pod("a")
        async with dialed(forwards) as (reader, writer):
            writer.write(b"room again")
            assert await asyncio.wait_for(reader.readexactly(10), 60) == b"room again"


async def test_clients_have_rejoined_once_each_was_answered(tmp_path: Path) -> None:
    """After a container was killed: whoever waits longest is waited for."""
    listens = asyncio.Event()

    async def late(websocket: web.WebSocketResponse) -> None:
        await listens.wait()
        await websocket.send_bytes(b"\x00hello")
        await websocket.receive()

    async with forwarding(tmp_path) as (fake, forwards):
        fake.next += [kubelet(late), kubelet(late)]
        await asyncio.wait_for(forwards.rejoined("a"), 60)  # nobody wants to be connected
        async with dialed(forwards) as (one, _), dialed(forwards, port=21001) as (two, _):
            await until(lambda: len(fake.seen) == 2, "both are on their way")
            rejoined = asyncio.ensure_future(forwards.rejoined("a"))
            await asyncio.wait_for(forwards.rejoined("b"), 60)
            assert not rejoined.done()
            listens.set()
            await asyncio.wait_for(rejoined, 60)
            assert await asyncio.wait_for(one.readexactly(5), 60) == b"hello"
            assert await asyncio.wait_for(two.readexactly(5), 60) == b"hello"


async def test_clients_of_what_never_listens_are_not_waited_for_long(tmp_path: Path) -> None:
    async def silent(websocket: web.WebSocketResponse) -> None:
        await websocket.receive()

    now = [100.0]

    def clock() -> float:
        now[0] += 0.5
        return now[0]

    async with forwarding(tmp_path, clock=clock) as (fake, forwards):
        fake.next.append(kubelet(silent))
        async with dialed(forwards):
            await until(lambda: len(fake.seen) == 1, "it is on its way")
            await asyncio.wait_for(forwards.rejoined("a"), 60)
