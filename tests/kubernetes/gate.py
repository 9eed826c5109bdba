"""A way to the API server whose answers can be replaced: HTTP through this process."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import yaml

from ..testcluster.api import Api

PIECE = 65536
HOP = {"connection", "host", "keep-alive", "transfer-encoding", "accept-encoding"}
"""Headers that are of one connection only."""


class Refusal(NamedTuple):
    """An answer instead of the API server's."""

    code: int
    body: bytes
    headers: dict[str, str]


def status(code: int, reason: str, message: str) -> dict[str, object]:
    """A failure as the API writes it."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


def busy(seconds: int) -> Refusal:
    """429, as the API server's priority and fairness says it."""
    body = status(429, "TooManyRequests", "Too many requests, please try again later.")
    return Refusal(429, json.dumps(body).encode(), {"Retry-After": str(seconds)})


def expired() -> Refusal:
    """A watch that is told 410 in its stream, as when etcd was compacted."""
    event = {"type": "ERROR", "object": status(410, "Expired", "too old resource version: 1 (2)")}
    return Refusal(200, json.dumps(event).encode() + b"\n", {})


Refuse = Callable[[str, str, bool], Refusal | None]
"""What to answer to (method, path, whether it is a watch); None: pass it on."""


class Gate(ThreadingHTTPServer):
    """Passes requests on; see :func:`gate`."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self, api: Api) -> None:
        super().__init__(("127.0.0.1", 0), _Visitor)
        self.api = api
        self.refuse: Refuse = lambda method, path, watch: None
        """Say what is refused from now on; running watches go on until :meth:`cut`."""
        self.refused: list[str] = []
        """Paths of requests that were refused."""
        self._watches: set[socket.socket] = set()
        self._lock = threading.Lock()

    def cut(self) -> int:
        """End the watches that run; how many there were."""
        with self._lock:
            watches = list(self._watches)
        for one in watches:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        return len(watches)

    @contextlib.contextmanager
    def watching(self, connection: socket.socket) -> Iterator[None]:
        """Let :meth:`cut` end this one meanwhile."""
        with self._lock:
            self._watches.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._watches.discard(connection)

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections end as their clients like; nobody needs to read of it."""


class _Visitor(BaseHTTPRequestHandler):
    """One connection of a client, with one to the API server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Gate

    def setup(self) -> None:
        super().setup()
        where = urlsplit(self.server.api.server)
        assert where.hostname is not None
        self._beyond = http.client.HTTPSConnection(
            where.hostname, where.port or 443, context=self.server.api.tls
        )

    def finish(self) -> None:
        self._beyond.close()
        with contextlib.suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else None
        parts = urlsplit(self.path)
        watch = parse_qs(parts.query).get("watch", ["false"])[0] in ("1", "true")
        refusal = self.server.refuse(self.command, parts.path, watch)
        if refusal is not None:
            self.server.refused.append(parts.path)
            self._answer(refusal)
            return
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
            self._beyond.request(self.command, self.path, body, headers)
            answer = self._beyond.getresponse()
        except (OSError, http.client.HTTPException):
            self.close_connection = True  # no answer, as there is none beyond
            return
        with self.server.watching(self.connection) if watch else contextlib.nullcontext():
            self._pass(answer)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _answer(self, refusal: Refusal) -> None:
        self.send_response(refusal.code)
        for name, value in {"Content-Type": "application/json", **refusal.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(refusal.body)))
        self.end_headers()
        self.wfile.write(refusal.body)

    def _pass(self, answer: http.client.HTTPResponse) -> None:
        self.send_response(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in HOP | {"content-length", "date", "server"}:
                self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while piece := answer.read1(PIECE):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            answer.close()  # it does not notice that it was read to its end
        except (OSError, http.client.HTTPException):
            self.close_connection = True
            self._beyond.close()

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


@contextlib.contextmanager
def gate(kubeconfig: Path, into: Path) -> Iterator[Gate]:
    """Write ``into`` a kubeconfig that leads through a gate."""
    config = yaml.safe_load(kubeconfig.read_text())
    [cluster] = config["clusters"]
    gate = Gate(Api(kubeconfig))
    cluster["cluster"] = {"server": f"http://127.0.0.1:{gate.server_address[1]}"}
    into.write_text(yaml.safe_dump(config))
    into.chmod(0o600)
    thread = threading.Thread(target=gate.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield gate
    finally:
        gate.shutdown()
        gate.cut()
        gate.server_close()
