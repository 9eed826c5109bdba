"""A way to the API server that can be cut: TCP through this process, on a port of loopback."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import yaml

PIECE = 65536


class Detour:
    """Passes connections on to ``host``; see :func:`detour`."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.passes = True
        """Set to False, new connections are closed at once."""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            try:
                if not self.passes:
                    raise ConnectionRefusedError
                theirs = socket.create_connection(self._target, timeout=10)
                theirs.settimeout(None)
            except OSError:
                ours.close()
                continue
            pair = (ours, theirs)
            with self._lock:
                self._pairs.add(pair)
            for one, other in (pair, pair[::-1]):
                threading.Thread(target=self._pass, args=(one, other, pair), daemon=True).start()

    def _pass(
        self,
        source: socket.socket,
        sink: socket.socket,
        pair: tuple[socket.socket, socket.socket],
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE):
                sink.sendall(piece)
        self._end(pair)

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            self._pairs.discard(pair)
        for one in pair:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def cut(self) -> int:
        """Close every connection there is; how many there were."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._end(pair)
        return len(pairs)

    def close(self) -> None:
        """Listen no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()


@contextlib.contextmanager
def detour(kubeconfig: Path, into: Path) -> Iterator[Detour]:
    """Write ``into`` a kubeconfig that leads through a detour."""
    config = yaml.safe_load(kubeconfig.read_text())
    [cluster] = config["clusters"]
    where = urlsplit(cluster["cluster"]["server"])
    assert where.hostname is not None
    way = Detour(where.hostname, where.port or 443)
    cluster["cluster"]["server"] = f"https://127.0.0.1:{way.port}"
    cluster["cluster"]["tls-server-name"] = where.hostname
    into.write_text(yaml.safe_dump(config))
    into.chmod(0o600)
    try:
        yield way
    finally:
        way.close()
