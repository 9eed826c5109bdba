"""Messages between agent and zygote: length-prefixed JSON over a socket pair.

Blocking on the zygote's side, asyncio on the agent's. The end of the stream means the other side
is dead, whatever way it died: no heartbeat is needed.
"""

from __future__ import annotations

import asyncio
import json
import select
import socket
import struct
from typing import Any, Dict, List, Optional

_HEAD = struct.Struct("!I")
Message = Dict[str, Any]


def pack(message: Message) -> bytes:
    """One message as it travels."""
    body = json.dumps(message).encode()
    return _HEAD.pack(len(body)) + body


class Link:
    """The zygote's end; also both ends of the pipe between zygote and spare."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""

    def send(self, message: Message) -> None:
        """Write a message. Raises OSError when the other side is gone."""
        self.sock.sendall(pack(message))

    def receive(self) -> Optional[List[Message]]:
        """Block for input; return the messages now complete, or None at the end."""
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            return None
        if not data:
            return None
        self._buffer += data
        messages = []
        while len(self._buffer) >= _HEAD.size:
            (size,) = _HEAD.unpack_from(self._buffer)
            if len(self._buffer) < _HEAD.size + size:
                break
            messages.append(json.loads(self._buffer[_HEAD.size : _HEAD.size + size]))
            self._buffer = self._buffer[_HEAD.size + size :]
        return messages

    def readable(self) -> bool:
        """Whether :meth:`receive` would return at once."""
        return bool(select.select([self.sock], [], [], 0)[0])

    def receive_one(self) -> Optional[Message]:
        """Block for one message (used where only one is ever sent)."""
        while True:
            messages = self.receive()
            if messages is None:
                return None
            if messages:
                return messages[0]  # type: ignore[no-any-return,unused-ignore]

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


class AsyncLink:
    """The agent's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, sock: socket.socket) -> "AsyncLink":
        """Take over one end of the pair."""
        sock.setblocking(False)
        return cls(*await asyncio.open_connection(sock=sock))

    def send(self, message: Message) -> None:
        """Queue a message; a dead zygote is noticed by :meth:`receive`."""
        if not self._writer.is_closing():
            self._writer.write(pack(message))

    async def receive(self) -> Optional[Message]:
        """Return the next message, or None when the zygote is gone."""
        try:
            (size,) = _HEAD.unpack(await self._reader.readexactly(_HEAD.size))
            body = await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        message: Message = json.loads(body)
        return message

    def close(self) -> None:
        """Close the socket: the zygote ends everything and then itself."""
        self._writer.close()
