"""The agent's own eyes on the kernel: whether it answers, and whether it is busy.

As little of the Jupyter messaging protocol as that needs, signed with the kernel's key, without
jupyter_client (which would cost memory in every warm pod).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
import uuid
from typing import Any, Callable, Dict, List, Optional

import zmq
import zmq.asyncio

_DELIMITER = b"<IDS|MSG>"
# Messages by which nobody works: they do not make the kernel "active" for idle culling.
_PASSIVE = {
    "",
    "kernel_info_request",
    "comm_info_request",
    "usage_request",
    "shutdown_request",
    "interrupt_request",
    "history_request",
    "debug_request",  # sent for every notebook that is opened
}


class Channels:
    """One kernel's sockets as seen by the agent.

    Parameters
    ----------
    context
        The agent's zmq context.
    connection
        Content of the connection file.
    python
        Whether the kernel's status messages carry ipykernel's topic (``kernel.<id>.status``), so
        that its output need not be read at all.
    on_state
        Called with ``busy`` or ``idle`` when that changes.
    """

    def __init__(
        self,
        context: zmq.asyncio.Context,
        connection: Dict[str, Any],
        python: bool,
        on_state: Callable[[str], None],
    ) -> None:
        self._context = context
        self._connection = connection
        self._on_state = on_state
        self._key = str(connection["key"]).encode()
        scheme = str(connection.get("signature_scheme", "hmac-sha256")).rpartition("-")[2]
        self._hash = getattr(hashlib, scheme)
        self._busy: Dict[str, str] = {}
        """Requests being worked on, and the subshell that does (main one: empty)."""
        self._asking: Dict[str, "asyncio.Task[None]"] = {}
        self._in_order = python
        self.last_activity = time.time()
        self.seen_status = False
        self.worked = False
        """Whether the kernel ever did anything for a user."""
        self._topics = [b"kernel."] if python else [b""]
        self._iopub = self._socket(zmq.SUB, "iopub_port")
        for topic in self._topics:
            self._iopub.setsockopt(zmq.SUBSCRIBE, topic)
        self._task: Optional["asyncio.Task[None]"] = asyncio.ensure_future(self._listen())

    def _socket(self, kind: int, port: str) -> Any:
        sock = self._context.socket(kind)
        sock.linger = 0
        sock.setsockopt(zmq.RECONNECT_IVL, 3)
        sock.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        info = self._connection
        if info.get("curve_publickey"):
            sock.curve_serverkey = info["curve_publickey"].encode()
            sock.curve_publickey = info["curve_publickey"].encode()
            sock.curve_secretkey = info["curve_secretkey"].encode()
        ip = "127.0.0.1" if info["ip"] in ("0.0.0.0", "*") else info["ip"]
        sock.connect(f"tcp://{ip}:{info[port]}")
        return sock

    def _sign(self, parts: List[bytes]) -> bytes:
        if not self._key:
            return b""
        signature = hmac.new(self._key, digestmod=self._hash)
        for part in parts:
            signature.update(part)
        return signature.hexdigest().encode()

    def _request(
        self, kind: str, content: Optional[Dict[str, Any]] = None, subshell: str = ""
    ) -> List[bytes]:
        """A message of ours, for the main shell unless a subshell is named."""
        header = {
            "msg_id": uuid.uuid4().hex,
            "session": "agent",
            "username": "agent",
            "date": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime()),
            "msg_type": kind,
            "version": "5.3",
        }
        if subshell:
            header["subshell_id"] = subshell
        parts = [json.dumps(header).encode(), b"{}", b"{}", json.dumps(content or {}).encode()]
        return [_DELIMITER, self._sign(parts), *parts]

    def _parse(self, frames: List[bytes]) -> Optional[Dict[str, Any]]:
        """Header, parent and content of a message whose signature is right, else None."""
        try:
            at = frames.index(_DELIMITER)
            signature, header, parent, metadata, content = frames[at + 1 : at + 6]
            if self._key and not hmac.compare_digest(
                signature, self._sign([header, parent, metadata, content])
            ):
                return None
            return {
                "header": json.loads(header),
                "parent": json.loads(parent),
                "content": json.loads(content),
            }
        except ValueError:
            return None

    async def answered(self, patience: float) -> None:
        """Return once the kernel replies to ``kernel_info_request``.

        A request sent before the kernel has bound waits in the socket; asking again now and then
        covers a kernel that drops what comes early.

        Raises
        ------
        asyncio.TimeoutError
            No reply within ``patience`` seconds.
        """
        shell = self._socket(zmq.DEALER, "shell_port")
        until = time.monotonic() + patience
        try:
            while True:
                await shell.send_multipart(self._request("kernel_info_request"))
                wait = min(2.0, until - time.monotonic())
                if wait <= 0:
                    raise asyncio.TimeoutError
                try:
                    await asyncio.wait_for(self._reply(shell), wait)
                    return
                except asyncio.TimeoutError:
                    continue
        finally:
            shell.close()

    async def _reply(self, shell: Any) -> None:
        """Return once a ``kernel_info_reply`` comes."""
        while True:
            message = self._parse(await shell.recv_multipart())
            if message and message["header"].get("msg_type") == "kernel_info_reply":
                return

    def ask_whether_busy(self) -> None:
        """Find out, however long it takes, whether what seems to run still does.

        The ``idle`` that ends a request may get lost, and nothing would ever come after it. A
        question waits on each shell that seems busy, one at a time: a shell works in order, so
        its answer means that all before it has ended. Only asked of ipykernel; a kernel of
        another kind may answer while it works, and busy is never idle.
        """
        if not self._in_order:
            return
        for subshell in set(self._busy.values()) - set(self._asking):
            self._asking[subshell] = asyncio.ensure_future(self._ask_shell(subshell))

    async def _ask_shell(self, subshell: str) -> None:
        before = [request for request, where in self._busy.items() if where == subshell]
        shell = self._socket(zmq.DEALER, "shell_port")
        try:
            await shell.send_multipart(self._request("kernel_info_request", subshell=subshell))
            await self._reply(shell)
        finally:
            shell.close()
            self._asking.pop(subshell, None)
        unheard = [request for request in before if self._busy.pop(request, None) is not None]
        if unheard:
            # Nobody knows when it ended; the idle time counts from now, never too early.
            self.last_activity = time.time()
            self._on_state(self.state)

    async def ask_to_end(self, restart: bool) -> None:
        """Send a ``shutdown_request``: the kernel runs its exit handlers and ends by itself."""
        control = self._socket(zmq.DEALER, "control_port")
        control.linger = 1000
        try:
            request = self._request("shutdown_request", {"restart": restart})
            await control.send_multipart(request)
        finally:
            control.close()

    @property
    def state(self) -> str:
        """``busy`` while any request is being worked on, else ``idle``."""
        return "busy" if self._busy else "idle"

    async def _listen(self) -> None:
        while True:
            frames = await self._iopub.recv_multipart()
            topic = frames[0]
            if topic.startswith(b"kernel.") and not topic.endswith(b".status"):
                continue
            message = self._parse(frames)
            if message is not None and message["header"].get("msg_type") == "status":
                self._note(message)

    def _note(self, message: Dict[str, Any]) -> None:
        state = message["content"].get("execution_state")
        parent = message["parent"]
        if parent.get("session") == "agent":
            return
        before = self.state
        self.seen_status = True
        # By request, not by the last word: a usage_request on the control channel ends with
        # "idle" while a cell runs on.
        request = str(parent.get("msg_id", ""))
        if state == "busy":
            if len(self._busy) < 1000:
                self._busy[request] = str(parent.get("subshell_id") or "")
        else:
            self._busy.pop(request, None)
        # A kernel that says that it starts does so for nobody.
        if parent.get("msg_type", "") not in _PASSIVE:
            self.worked = True
            self.last_activity = time.time()
        if self.state != before:
            self._on_state(self.state)

    def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        for asking in self._asking.values():
            asking.cancel()
        self._iopub.close()
