"""Kernel websockets: no Nagle delay for any kernel, and the reason why an elastic one went away.

jupyter_server leaves TCP_NODELAY off; with it each short cell is answered some 40 ms sooner.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jupyter_client.jsonutil import json_default
from jupyter_server.services.kernels.connection.base import serialize_msg_to_ws_v1

DELIMITER = b"<IDS|MSG>"


class ElasticWebsocketMixin:
    """In front of the configured websocket connection class."""

    if TYPE_CHECKING:
        websocket_handler: Any
        kernel_manager: Any
        log: Any
        session: Any
        subprotocol: Any
        write_message: Any

    _asked: dict[str, Any] | None = None
    """Headers of execute_requests that came by this socket and are not answered, oldest first."""

    def connect(self) -> Any:
        """Open the kernel's channels for a browser."""
        try:
            self.websocket_handler.set_nodelay(True)
        except Exception as error:  # noqa: BLE001 - an option that saves time, no reason to fail
            self.log.debug("TCP_NODELAY could not be set: %s", error)
        return super().connect()  # type: ignore[misc]

    def handle_incoming_message(self, incoming_msg: Any) -> None:
        """Pass a browser's message on, noting which cells wait for their end."""
        header = execute_header(incoming_msg)
        if header is not None:
            if self._asked is None:
                self._asked = {}
            self._asked[str(header.get("msg_id"))] = header
        super().handle_incoming_message(incoming_msg)  # type: ignore[misc]

    def handle_outgoing_message(self, stream: Any, outgoing_msg: list[Any]) -> None:
        """Pass a kernel's message on, noting which cells have ended."""
        if self._asked and getattr(stream, "channel", "") == "shell":
            self._note_ended(outgoing_msg)
        super().handle_outgoing_message(stream, outgoing_msg)  # type: ignore[misc]

    def _note_ended(self, parts: list[Any]) -> None:
        assert self._asked is not None
        try:
            frames = [bytes(part) for part in parts[:6]]
            at = frames.index(DELIMITER)
            if b'"execute_reply"' in frames[at + 2]:
                self._asked.pop(json.loads(frames[at + 3]).get("msg_id", ""), None)
        except (ValueError, IndexError, TypeError):
            self.log.debug("A reply without the usual frames was passed on.")

    def on_kernel_restarted(self) -> None:
        """Tell the browser that the kernel was brought back, and in the cell's output why."""
        self._tell_reason()
        super().on_kernel_restarted()  # type: ignore[misc]

    def on_restart_failed(self) -> None:
        """Tell the browser that the kernel is dead, and in the cell's output why."""
        self._tell_reason()
        super().on_restart_failed()  # type: ignore[misc]

    def _tell_reason(self) -> None:
        reason = getattr(self.kernel_manager, "elastic_reason", "")
        if reason and self._asked:
            # Cells run in the order in which they came: the oldest is the one that was running.
            running = next(iter(self._asked.values()))
            self.write_stderr(reason, running)  # type: ignore[attr-defined]
            for header in self._asked.values():
                self._end_cell(header, reason)
        self._asked = None

    def _end_cell(self, header: dict[str, Any], reason: str) -> None:
        """Answer a cell for a kernel that cannot any more, so that it ends, with an error."""
        content = {"status": "error", "ename": "KernelLost", "evalue": reason, "traceback": []}
        reply = self.session.msg("execute_reply", content=content, parent=header)
        if self.subprotocol == "v1.kernel.websocket.jupyter.org":
            binary = serialize_msg_to_ws_v1(reply, "shell", self.session.pack)  # type: ignore[no-untyped-call]
            self.write_message(binary, binary=True)
        else:
            reply["channel"] = "shell"
            self.write_message(json.dumps(reply, default=json_default))


def execute_header(message: Any) -> dict[str, Any] | None:
    """The header of an execute_request as it comes from a browser, else None.

    Both websocket protocols: JSON text, and ``v1.kernel.websocket.jupyter.org``, in which a binary
    message begins with a count and as many 64-bit little-endian offsets of its parts: channel,
    header, parent, metadata, content, buffers.
    """
    try:
        if isinstance(message, str):
            if '"execute_request"' not in message[:2000]:
                return None
            header = json.loads(message).get("header")
        else:
            if b'"execute_request"' not in message[:2000]:
                return None
            begin, end = (
                int.from_bytes(message[8 * (i + 1) : 8 * (i + 2)], "little") for i in (1, 2)
            )
            header = json.loads(message[begin:end])
    except (ValueError, AttributeError, TypeError):
        return None
    if not isinstance(header, dict) or header.get("msg_type") != "execute_request":
        return None
    return header
