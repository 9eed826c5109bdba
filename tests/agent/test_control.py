"""The control socket by itself: what its peers hear when the agent fails or is overrun."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import zmq
import zmq.asyncio

from jupyter_elastic.agent import control, protocol

Handler = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


def converse(handler: Handler, talk: Callable[[zmq.asyncio.Socket], Awaitable[None]]) -> None:
    """Serve with ``handler`` while ``talk`` speaks with the socket as an admitted client."""

    async def main() -> None:
        context = zmq.asyncio.Context()
        public, secret = zmq.curve_keypair()
        mine, my_secret = zmq.curve_keypair()
        keys = {
            "public_key": public.decode(),
            "secret_key": secret.decode(),
            "client_keys": [mine.decode()],
        }
        server = control.Control(context, "tcp://127.0.0.1:*", keys, handler)
        serving = asyncio.ensure_future(server.serve())
        client = context.socket(zmq.DEALER)
        client.curve_serverkey, client.curve_publickey = public, mine
        client.curve_secretkey = my_secret
        client.connect(server.endpoint)
        try:
            await talk(client)
        finally:
            client.close(0)
            serving.cancel()
            await server.close()
            context.destroy(0)

    asyncio.run(main())


async def ask(client: zmq.asyncio.Socket, number: int, op: str = "status") -> None:
    await client.send(json.dumps({"v": protocol.VERSION, "id": str(number), "op": op}).encode())


async def hear(client: zmq.asyncio.Socket) -> dict[str, Any]:
    reply: dict[str, Any] = json.loads(await asyncio.wait_for(client.recv(), 60))
    return reply


def test_an_error_nobody_foresaw_is_answered_and_logged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def handler(op: str, request: dict[str, Any]) -> dict[str, Any]:
        if op == "usage":
            return {"usage": object()}  # cannot be sent
        if op == "status":
            raise RuntimeError("the key is 1234")
        return {}

    async def talk(client: zmq.asyncio.Socket) -> None:
        for number, op in enumerate(("status", "usage")):
            await ask(client, number, op)
            reply = await hear(client)
            assert (reply["id"], reply["ok"]) == (str(number), False)
            assert reply["reason"] == "AgentError"
            assert "1234" not in reply["message"]
        await ask(client, 7, "hello")
        assert (await hear(client))["ok"]

    converse(handler, talk)
    log = capsys.readouterr().err
    assert "RuntimeError: the key is 1234" in log
    assert "not JSON serializable" in log


def test_too_many_requests_at_once_are_answered_busy() -> None:
    more = 10

    async def talk(client: zmq.asyncio.Socket) -> None:
        for number in range(control.MAX_PENDING + more):
            await ask(client, number)
        for number in range(more):
            reply = await hear(client)
            assert reply["id"] == str(control.MAX_PENDING + number)
            assert (reply["ok"], reply["reason"]) == (False, "Busy")
            assert str(control.MAX_PENDING) in reply["message"]
        may_go_on.set()
        answered = [await hear(client) for _ in range(control.MAX_PENDING)]
        assert all(reply["ok"] for reply in answered)
        await ask(client, 1000)
        assert (await hear(client))["ok"]

    may_go_on = asyncio.Event()

    async def handler(op: str, request: dict[str, Any]) -> dict[str, Any]:
        await may_go_on.wait()
        return {}

    converse(handler, talk)
