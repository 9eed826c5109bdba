"""A real ``jupyter server`` for benchmarks, and a client that talks to it as a browser does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

PATIENCE = 120.0
"""Seconds for an answer, the time included that requests wait for each other in this client."""


class Server:
    """The address of a running server and how to ask it something."""

    def __init__(
        self,
        url: str,
        token: str,
        process: subprocess.Popen[bytes],
        state_dir: Path,
        log: Path,
    ) -> None:
        self.url = url
        self.token = token
        self.process = process
        self.pid = process.pid
        self.state_dir = state_dir
        self.log = log
        self.headers = {"Authorization": f"token {token}"}
        self._client = AsyncHTTPClient()

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a reply, or None when it has none. Raises Refused."""
        request = HTTPRequest(
            f"{self.url}{path}",
            method=method,
            headers={**self.headers, "Content-Type": "application/json"},
            body=None if body is None else json.dumps(body),
            allow_nonstandard_methods=True,
            connect_timeout=PATIENCE,
            request_timeout=PATIENCE,
        )
        try:
            response = await self._client.fetch(request)
        except HTTPClientError as error:
            raise Refused(method, path, error) from error
        return json.loads(response.body) if response.body else None

    async def stop(self, signum: int = signal.SIGTERM) -> None:
        """End the server: cleanly by default, at once with SIGKILL. Idempotent."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            await asyncio.to_thread(self.process.wait, 60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)

    async def connect(self, kernel_id: str) -> Channel:
        """Open the kernel's websocket."""
        session = uuid.uuid4().hex
        url = f"ws{self.url[4:]}/api/kernels/{kernel_id}/channels?session_id={session}"
        request = HTTPRequest(
            url, headers=self.headers, connect_timeout=PATIENCE, request_timeout=PATIENCE
        )
        socket_ = await websocket_connect(request)
        return Channel(socket_, session)


class Refused(HTTPClientError):
    """An answer that is no success: what was asked, the status, and what the server said."""

    def __init__(self, method: str, path: str, error: HTTPClientError) -> None:
        super().__init__(error.code, error.message, error.response)
        body = error.response.body.decode(errors="replace") if error.response else ""
        self.asked = f"{method} {path}"
        self.said = body[:2000]

    def __str__(self) -> str:
        return f"{self.asked}: {super().__str__()} {self.said}".rstrip()

    __repr__ = __str__


class Channel:
    """A kernel's websocket."""

    def __init__(self, connection: WebSocketClientConnection, session: str) -> None:
        self.connection = connection
        self.session = session

    async def execute(self, code: str, timeout: float = 60) -> str:
        """Run ``code``; returns the text of its result once that has come (not the idle).

        What comes right after a cell that failed a kernel may abort: it is sent again.
        """
        message_id = self.send(code)

        async def result() -> str:
            nonlocal message_id
            while True:
                message = await self.receive()
                if message.get("parent_header", {}).get("msg_id") != message_id:
                    continue
                if message["content"].get("status") == "aborted":
                    message_id = self.send(code)
                if message["msg_type"] == "execute_result":
                    return str(message["content"]["data"]["text/plain"])
                if message["msg_type"] == "error":
                    raise RuntimeError(message["content"]["evalue"])

        return await asyncio.wait_for(result(), timeout)

    def send(self, code: str, allow_stdin: bool = False) -> str:
        """Send an execute_request; returns its id."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": allow_stdin,
            "stop_on_error": True,
        }
        return self.message("execute_request", content)

    def message(
        self,
        kind: str,
        content: dict[str, Any],
        channel: str = "shell",
        parent: dict[str, Any] | None = None,
    ) -> str:
        """Send any message; returns its id."""
        message_id = uuid.uuid4().hex
        header = {
            "msg_id": message_id,
            "msg_type": kind,
            "username": "client",
            "session": self.session,
            "date": "2000-01-01T00:00:00Z",
            "version": "5.3",
        }
        message = {
            "header": header,
            "parent_header": parent or {},
            "metadata": {},
            "content": content,
            "channel": channel,
            "buffers": [],
        }
        self.connection.write_message(json.dumps(message))
        return message_id

    async def receive(self) -> dict[str, Any]:
        """The next message. Raises ConnectionError when the server closed."""
        raw = await self.connection.read_message()
        if raw is None:
            raise ConnectionError("the server closed the websocket")
        message: dict[str, Any] = json.loads(raw)
        return message

    def close(self) -> None:
        """Close the websocket."""
        self.connection.close()


def free_port() -> int:
    """A TCP port on loopback that is free now, and that the system gives to nobody by itself.

    Else a connection that somebody opens could have it before it is listened on.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(10_000, max(lowest, 20_000))
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """A private directory that is removed in the end."""
    path = Path(tempfile.mkdtemp(prefix="elastic-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


async def start_server(
    home: Path, config: str = "", *, until: str = "/elastic/api/status", **environment: str
) -> Server:
    """Start ``jupyter server`` with the extension, all its files below ``home``.

    ``config`` is Python for ``jupyter_server_config.py``. Starting another on the same ``home``
    is what a user does after a crash: same state directory, same notebooks, new token and port.
    Returns once it answers under ``until``.
    """
    state = home / "state"
    (home / "config").mkdir(exist_ok=True)
    (home / "work").mkdir(exist_ok=True)
    (home / "config" / "jupyter_server_config.py").write_text(
        f"c.ElasticLocal.state_dir = {str(state)!r}\nc.ElasticLocal.orphan_after = 30\n" + config
    )
    token, port = secrets.token_hex(16), free_port()
    env = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_TOKEN": token,
        "IPYTHONDIR": str(home / "ipython"),
        **environment,
    }
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--ServerApp.root_dir={home / 'work'}"]
    command += ["--ServerApp.jpserver_extensions={'jupyter_elastic': True}"]
    if os.geteuid() == 0:
        command.append("--allow-root")
    log = home / f"server-{port}.log"
    with log.open("wb") as out:
        process = await asyncio.to_thread(
            subprocess.Popen, command, env=env, stdout=out, stderr=out, cwd=home
        )
    running = Server(f"http://127.0.0.1:{port}", token, process, state, log)
    try:
        await _answering(running, until)
    except BaseException:
        await running.stop()
        raise
    return running


@contextlib.asynccontextmanager
async def server(config: str = "", **environment: str) -> AsyncIterator[Server]:
    """A server on private directories; its kernels end with it."""
    with directory() as home:
        config = "c.ElasticKernels.stop_with_server = True\n" + config
        running = await start_server(home, config, **environment)
        try:
            yield running
        finally:
            await running.stop()


async def _answering(running: Server, path: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and running.process.poll() is None:
        try:
            await running.request("GET", path)
        except (OSError, HTTPClientError):
            await asyncio.sleep(0.1)
        else:
            return
    raise RuntimeError(f"the server did not come up:\n{running.log.read_text()[-4000:]}")


async def until_warm(running: Server, template: str, count: int = 1, timeout: float = 120) -> None:
    """Wait until ``count`` pods of ``template`` are warm."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        pool = await running.request("GET", "/elastic/api/pool")
        for entry in pool["templates"]:
            if entry["template"] == template and entry["warm"] >= count:
                return
        await asyncio.sleep(0.1)
    raise RuntimeError(f"{count} warm pods of {template} did not come within {timeout} s")
