"""A conversation with one pod's agent: the server's end of :mod:`jupyter_elastic.agent.protocol`.

The same client serves every adapter; only how its socket reaches the pod differs. One socket per
pod: a cluster keeps one client per pod and hands it to everybody who dials.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import uuid
from collections.abc import Callable
from typing import Any

import zmq
import zmq.asyncio

from .. import errors
from ..agent import protocol
from ..model import AgentAddress
from ..waits import within

_LOG = logging.getLogger(__name__)

EventListener = Callable[[dict[str, Any]], None]


class AgentRefused(errors.ElasticError):
    """The agent refused for a reason that has no class of its own; the reason is kept."""

    status = 502

    def __init__(self, reason: str, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.reason = reason  # type: ignore[misc]  # the agent's word instead of the class's


class BadWorkingDirectory(errors.BadRequest):
    """The kernel's working directory does not exist or may not be entered."""

    reason = "BadWorkingDirectory"
    remedy = "Create the directory or choose another one."


_REFUSALS: dict[str, Callable[[str], errors.ElasticError]] = {
    "StartFailed": errors.StartFailed,
    "BadWorkingDirectory": BadWorkingDirectory,
    "Claimed": errors.Conflict,
    "Conflict": errors.Conflict,
    "Gone": errors.Gone,
    "NotRunning": errors.NotRunning,
    "BadRequest": errors.BadRequest,
    "ShrinkUnderUse": errors.ShrinkUnderUse,
    "BadInterpreter": errors.BadInterpreter,
    "Unsupported": errors.Unsupported,
}


def refusal(reason: str, message: str) -> errors.ElasticError:
    """The error of an agent's refusal; its reason and message are kept."""
    known = _REFUSALS.get(reason)
    return known(message) if known else AgentRefused(reason or "AgentRefused", message)


class AgentClient:
    """Implements :class:`jupyter_elastic.cluster.base.Agent`. Belongs to the running loop.

    Requests may overlap; each is answered by its id. The first message is a ``hello`` that asks
    for events; it travels ahead of the first request, so that dialing waits for nothing.
    """

    def __init__(
        self,
        context: zmq.asyncio.Context,
        address: AgentAddress,
        *,
        public_key: str,
        secret_key: str,
        pod: str,
    ) -> None:
        self.address = address
        self.pod = pod
        self._ids = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._listeners: list[EventListener] = []
        self._closed: errors.ElasticError | None = None
        self._version = protocol.OLDEST
        """What is spoken until the agent said what it knows; every agent we speak with knows it."""
        self._socket = socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        # The same after a reconnection, so that the agent's events go on reaching us.
        socket.setsockopt(zmq.ROUTING_ID, b"c" + uuid.uuid4().bytes)
        socket.setsockopt(zmq.MAXMSGSIZE, protocol.MAX_MESSAGE)
        socket.setsockopt(zmq.RECONNECT_IVL, 100)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
        socket.setsockopt(zmq.CURVE_SERVERKEY, address.public_key.encode())
        socket.setsockopt(zmq.CURVE_PUBLICKEY, public_key.encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, secret_key.encode())
        socket.connect(address.endpoint)
        self._reader = asyncio.create_task(self._read(), name=f"agent client of {pod}")
        self._hello = asyncio.create_task(self._greet(), name=f"hello to {pod}")
        self._hello.add_done_callback(_retrieve)

    @property
    def closed(self) -> bool:
        """Whether this conversation is over."""
        return self._closed is not None

    async def hello(self) -> dict[str, Any]:
        """What the agent said of itself when the conversation began.

        Raises
        ------
        AgentUnreachable
            It has not answered.
        Unsupported
            It speaks a protocol this server does not know.
        """
        return await asyncio.shield(self._hello)

    async def call(self, op: str, timeout: float = 10.0, **fields: Any) -> dict[str, Any]:
        """Send a request and return the reply's fields; see :class:`..base.Agent`."""
        if self._closed is not None:
            raise self._closed
        request_id = str(next(self._ids))
        message = {**fields, "v": self._version, "id": request_id, "op": op}
        body = json.dumps(message).encode()
        if len(body) > protocol.MAX_MESSAGE:
            raise errors.BadRequest(
                f"The request {op!r} has {len(body)} bytes; an agent takes {protocol.MAX_MESSAGE}."
            )
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        try:
            await within(self._socket.send(body), timeout)
            reply = await within(future, timeout)
        except asyncio.TimeoutError:
            raise errors.AgentUnreachable(
                f"The agent of pod {self.pod} did not answer {op!r} within {timeout:g} s.",
                "Try again; if it stays so, stop the kernel and start a new one.",
            ) from None
        finally:
            self._waiting.pop(request_id, None)
        if not reply.get("ok"):
            raise refusal(str(reply.get("reason", "")), str(reply.get("message", "")))
        return {key: reply[key] for key in reply if key not in ("v", "id", "ok")}

    def on_event(self, listener: EventListener) -> Callable[[], None]:
        """Be told the agent's events; returns a disposer."""
        self._listeners.append(listener)

        def dispose() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return dispose

    def close(self, why: errors.ElasticError | None = None) -> None:
        """End the conversation; requests under way fail with ``why``. Idempotent."""
        if self._closed is not None:
            return
        self._closed = why or errors.AgentUnreachable(
            f"The conversation with the agent of pod {self.pod} was ended."
        )
        self._hello.cancel()
        self._reader.cancel()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(self._closed)
        self._socket.close(linger=0)

    # -- inside ----------------------------------------------------------------------------

    async def _greet(self) -> dict[str, Any]:
        reply = await self.call(protocol.HELLO, timeout=30, events=True)
        spoken = reply.get("protocol", protocol.OLDEST)
        if not isinstance(spoken, int) or spoken < protocol.OLDEST:
            raise errors.Unsupported(
                f"The agent of pod {self.pod} speaks protocol {spoken}; this server knows"
                f" {protocol.OLDEST} to {protocol.VERSION}.",
                "Stop the kernel and start a new one.",
            )
        self._version = min(protocol.VERSION, spoken)
        return reply

    async def _read(self) -> None:
        while True:
            body = await self._socket.recv()
            try:
                message = json.loads(body)
            except ValueError:
                _LOG.warning("The agent of pod %s sent what is no JSON; dropped.", self.pod)
                continue
            if not isinstance(message, dict):
                _LOG.warning("The agent of pod %s sent no JSON object; dropped.", self.pod)
            elif "event" in message:
                self._tell(message)
            else:
                future = self._waiting.get(str(message.get("id")))
                if future is not None and not future.done():
                    future.set_result(message)

    def _tell(self, event: dict[str, Any]) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:  # noqa: BLE001 - one bad listener must not silence the others
                _LOG.exception("A listener to events of pod %s failed", self.pod)


def _retrieve(task: asyncio.Task[dict[str, Any]]) -> None:
    # Whoever wants the greeting awaits it; a failure shows in their requests anyway.
    if not task.cancelled() and task.exception() is not None:
        _LOG.debug("hello failed: %s", task.exception())
