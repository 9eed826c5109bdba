"""The control socket: CurveZMQ, admits only known clients, survives whatever they send."""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections import OrderedDict
from typing import Any, Awaitable, Callable, Dict, List, Set

import zmq
import zmq.asyncio
from zmq.auth.asyncio import AsyncioAuthenticator

from . import protocol

Handler = Callable[[str, Dict[str, Any]], Awaitable[Dict[str, Any]]]
DOMAIN = "agent"
MAX_PEERS = 256
MAX_PENDING = 64
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading the fields of a request raises when they are missing or of the wrong kind."""


class Refused(Exception):
    """A request that cannot be carried out; travels to the peer."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class _Admit:
    """The ZAP handler's memory: which client keys may speak."""

    def __init__(self, keys: List[str]) -> None:
        self._keys = {key.encode() for key in keys}

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether the client that proved to hold ``key`` is one of ours."""
        return key in self._keys


class Control:
    """Receives requests, gives them to ``handler``, sends replies and events."""

    def __init__(
        self, context: zmq.asyncio.Context, bind: str, keys: Dict[str, Any], handler: Handler
    ) -> None:
        self._handler = handler
        self._listeners: "OrderedDict[bytes, None]" = OrderedDict()
        self._pending: Set["asyncio.Task[None]"] = set()
        self._auth = AsyncioAuthenticator(context)
        self._auth.start()
        self._auth.configure_curve_callback(
            DOMAIN, credentials_provider=_Admit(keys["client_keys"])
        )
        self._socket = context.socket(zmq.ROUTER)
        self._socket.linger = 200
        self._socket.curve_server = True
        self._socket.zap_domain = DOMAIN.encode()
        self._socket.curve_secretkey = keys["secret_key"].encode()
        self._socket.curve_publickey = keys["public_key"].encode()
        self._socket.setsockopt(zmq.MAXMSGSIZE, protocol.MAX_MESSAGE)
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._socket.bind(bind)
        self.public_key: str = keys["public_key"]
        self.endpoint: str = bytes(self._socket.getsockopt(zmq.LAST_ENDPOINT)).decode().rstrip("\0")

    async def serve(self) -> None:
        """Receive for ever."""
        while True:
            frames = await self._socket.recv_multipart()
            if len(self._pending) >= MAX_PENDING:
                await self._turn_away(frames)
                continue
            task = asyncio.ensure_future(self._answer(frames))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)

    async def _answer(self, frames: List[bytes]) -> None:
        if len(frames) != 2:
            return
        identity, body = frames
        request_id: Any = None
        try:
            request = _parse(body)
            request_id = request.get("id")
            if request["op"] == protocol.HELLO and request.get("events"):
                self._listen(identity)
            reply = {"ok": True, **await self._handler(request["op"], request)}
            answer = _pack(request_id, reply)
        except Exception as error:  # noqa: BLE001 - logged; the peer waits for an answer
            answer = _pack(request_id, {"ok": False, **_explain(error)})
        await self._socket.send_multipart([identity, answer])

    async def _turn_away(self, frames: List[bytes]) -> None:
        """Answer at once that there is too much to do; a peer must not take it for silence."""
        if len(frames) != 2:
            return
        identity, body = frames
        request_id: Any = None
        try:
            request_id = _parse(body).get("id")
            refusal = Refused(
                "Busy",
                f"The agent works on {MAX_PENDING} requests already; try again in a moment.",
            )
        except Refused as error:
            refusal = error
        answer = _pack(request_id, {"ok": False, **_explain(refusal)})
        await self._socket.send_multipart([identity, answer])

    def _listen(self, identity: bytes) -> None:
        self._listeners[identity] = None
        self._listeners.move_to_end(identity)
        while len(self._listeners) > MAX_PEERS:
            self._listeners.popitem(last=False)

    async def tell(self, event: str, **fields: Any) -> None:
        """Send an event to every peer that asked for events; absent peers miss it."""
        body = json.dumps({"v": protocol.VERSION, "event": event, **fields}).encode()
        for identity in list(self._listeners):
            await self._socket.send_multipart([identity, body])

    async def close(self) -> None:
        """Let replies that were given go out, then close."""
        me = asyncio.current_task()
        others = [task for task in self._pending if task is not me]
        if others:
            await asyncio.wait(others, timeout=0.5)
        self._socket.close()
        self._auth.stop()


def _pack(request_id: Any, reply: Dict[str, Any]) -> bytes:
    try:
        return json.dumps({"v": protocol.VERSION, "id": request_id, **reply}).encode()
    except (TypeError, ValueError) as error:  # ours, not the request's
        raise RuntimeError("an answer cannot be sent") from error


def _explain(error: Exception) -> Dict[str, str]:
    """Reason and message for the peer; what is the agent's own fault goes to its log in full."""
    if isinstance(error, Refused):
        return {"reason": error.reason, "message": error.message}
    if isinstance(error, _MALFORMED):
        what = f"{type(error).__name__}: {error}"[:300]
        return {"reason": "BadRequest", "message": f"Bad request: {what}."}
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    sys.stderr.write(f"agent: an operation failed:\n{text}")
    why = "an error of its own"
    if isinstance(error, OSError) and error.strerror:
        why = error.strerror
    return {"reason": "AgentError", "message": f"The agent failed: {why}. Its log says more."}


def _parse(body: bytes) -> Dict[str, Any]:
    if len(body) > protocol.MAX_MESSAGE:
        raise Refused("BadRequest", "The message is too big.")
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused("BadRequest", "The message is not JSON.") from error
    if not isinstance(request, dict) or not isinstance(request.get("op"), str):
        raise Refused("BadRequest", "A request is an object with an 'op'.")
    version = request.get("v")
    if not isinstance(version, int) or not protocol.OLDEST <= version <= protocol.VERSION:
        raise Refused(
            "UnsupportedVersion",
            f"This agent speaks protocol {protocol.OLDEST} to {protocol.VERSION}.",
        )
    return request
