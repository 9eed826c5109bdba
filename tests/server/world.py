"""A real server that the tests of one module share, spoken to without ceremony.

The client's loop runs only while a test waits, so tests read from top to bottom; what must happen
at once goes through :meth:`World.run`.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from benchmarks.server import PATIENCE, Server, start_server, until_warm

from .conftest import end_all

_T = TypeVar("_T")
MARK = "JE_TEST_WORLD"
"""Environment variable of a server and of everything that it starts."""


class Reply:
    """What a server answered, success or not."""

    def __init__(self, status: int, kind: str, raw: bytes) -> None:
        self.status = status
        self.kind = kind.partition(";")[0]
        self.raw = raw

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.raw)

    def __repr__(self) -> str:
        return f"{self.status} {self.kind} {self.raw[:1000]!r}"


class World:
    """One server below ``home``; see :func:`world_of`."""

    def __init__(self, home: Path, loop: asyncio.AbstractEventLoop, server: Server, mark: str):
        self.home = home
        self.loop = loop
        self.server = server
        self.mark = mark

    def run(self, work: Coroutine[Any, Any, _T], timeout: float = 150) -> _T:
        """Run on the client's loop."""
        return self.loop.run_until_complete(asyncio.wait_for(work, timeout))

    # -- HTTP ------------------------------------------------------------------------------

    async def ask(
        self, method: str, path: str, body: Any = None, raw: bytes | None = None
    ) -> Reply:
        """Send a request; ``raw`` goes as it is, ``body`` as JSON. Never raises for a status."""
        if raw is None and body is not None:
            raw = json.dumps(body).encode()
        request = HTTPRequest(
            f"{self.server.url}{path}",
            method=method,
            headers={**self.server.headers, "Content-Type": "application/json"},
            body=raw,
            allow_nonstandard_methods=True,
            connect_timeout=PATIENCE,
            request_timeout=PATIENCE,
        )
        try:
            response = await AsyncHTTPClient().fetch(request)
        except HTTPClientError as error:
            if error.response is None:
                raise
            response = error.response
        return Reply(response.code, response.headers.get("Content-Type", ""), response.body)

    def get(self, path: str) -> Any:
        """The JSON found there."""
        return self.run(self.server.request("GET", path))

    def post(self, path: str, body: Any = None) -> Any:
        """The JSON answered."""
        return self.run(self.server.request("POST", path, {} if body is None else body))

    def patch(self, path: str, body: Any) -> Any:
        """The JSON answered."""
        return self.run(self.server.request("PATCH", path, body))

    def delete(self, path: str) -> None:
        """Delete; raises when that is refused."""
        self.run(self.server.request("DELETE", path))

    def refused(self, method: str, path: str, body: Any = None, raw: bytes | None = None) -> Any:
        """The problem that an ``/elastic/api`` request is answered with: complete, and a 4xx."""
        reply = self.run(self.ask(method, path, body, raw))
        assert 400 <= reply.status < 500, reply
        assert reply.kind == "application/problem+json", reply
        problem = reply.json
        assert problem["status"] == reply.status
        assert problem["reason"]
        assert problem["title"]
        assert problem["remedy"]
        return problem

    # -- kernels ---------------------------------------------------------------------------

    def elastic(self, kernel_id: str) -> Any:
        """The kernel as ``/elastic/api`` shows it."""
        return self.get(f"/elastic/api/kernels/{kernel_id}")

    def session(self, path: str, kernel: dict[str, Any]) -> dict[str, Any]:
        """The body of ``POST /api/sessions`` for a notebook."""
        return {"path": path, "name": Path(path).name, "type": "notebook", "kernel": kernel}

    def execute(self, kernel_id: str, code: str, timeout: float = 60) -> str:
        """Open the websocket, run a cell, return its result's text, close."""

        async def work() -> str:
            channel = await self.server.connect(kernel_id)
            try:
                return await channel.execute(code, timeout)
            finally:
                channel.close()

        return self.run(work(), timeout + PATIENCE)

    def warm(self, template: str, count: int = 1) -> None:
        """Wait for warm pods."""
        self.run(until_warm(self.server, template, count))

    def until(self, look: Callable[[], _T], what: str, timeout: float = 60) -> _T:
        """The first truthy thing that ``look`` returns, within a bound."""
        deadline = time.monotonic() + timeout
        while True:
            found = look()
            if found:
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout} s: {what}")
            self.run(asyncio.sleep(0.05))

    def phase(self, kernel_id: str, wanted: str, timeout: float = 60) -> Any:
        """Wait until the kernel is in a phase; returns it."""

        def there() -> Any:
            kernel = self.elastic(kernel_id)
            if kernel["phase"] == "Failed" and wanted != "Failed":
                raise AssertionError(f"the kernel is Failed: {kernel['message']}")
            return kernel if kernel["phase"] == wanted else None

        return self.until(there, f"kernel {wanted}", timeout)

    def notebook(self, name: str, metadata: Any = None, source: str = "") -> str:
        """Write a notebook; returns its API path."""
        cell: dict[str, Any] = {
            "cell_type": "code",
            "id": "one",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": source,
        }
        content = {"cells": [cell], "metadata": metadata or {}, "nbformat": 4, "nbformat_minor": 5}
        path = self.home / "work" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        return name

    # -- what is there, seen from outside --------------------------------------------------

    def processes(self) -> dict[str, list[int]]:
        """Pids by pod of everything that runs in this server's pods."""
        found: dict[str, list[int]] = {}
        for pid, environment in self._marked():
            pod = environment.get(b"JUPYTER_ELASTIC_POD")
            if pod:
                found.setdefault(pod.decode(), []).append(pid)
        return found

    def plain_kernels(self) -> list[int]:
        """Pids of kernels that this server runs outside pods."""
        return [
            pid
            for pid, environment in self._marked()
            if b"JUPYTER_ELASTIC_POD" not in environment
            and b"ipykernel_launcher" in _read(pid, "cmdline")
        ]

    def _marked(self) -> Iterator[tuple[int, dict[bytes, bytes]]]:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                pid = int(entry.name)
                environment = dict(
                    item.split(b"=", 1)
                    for item in _read(pid, "environ").split(b"\0")
                    if b"=" in item
                )
                if environment.get(MARK.encode()) == self.mark.encode():
                    yield pid, environment

    def recorded(self, what: str) -> list[str]:
        """Names in ``kernels``, ``pods`` or ``run`` of the state directory."""
        return sorted(path.name for path in (self.server.state_dir / what).iterdir())

    def assert_nothing_runs(self) -> None:
        """No kernel is known, recorded or running, and no pod is claimed; warm ones may be."""
        assert self.get("/elastic/api/kernels")["kernels"] == []
        assert self.get("/api/kernels") == []
        assert self.get("/api/sessions") == []
        assert self.recorded("kernels") == []
        assert self.plain_kernels() == []
        pods = self.get("/elastic/api/pool")["pods"]
        assert [pod for pod in pods if pod["phase"] == "claimed" or pod["kernel_id"]] == []

        def only_the_pools() -> bool:
            running = set(self.processes())  # first: the pool may be refilled meanwhile
            return running <= {pod["name"] for pod in self.get("/elastic/api/pool")["pods"]}

        self.until(only_the_pools, "no process but those of the pool")

    def stop_all(self) -> None:
        """End what a test left, so that the next one begins with nothing."""
        for session in self.get("/api/sessions"):
            self.delete(f"/api/sessions/{session['id']}")
        for kernel in self.get("/api/kernels"):
            self.run(self.ask("DELETE", f"/api/kernels/{kernel['id']}"))
        for kernel in self.get("/elastic/api/kernels")["kernels"]:
            self.delete(f"/elastic/api/kernels/{kernel['kernel_id']}")


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


@contextmanager
def world_of(config: str | Callable[[Path], str] = "", **environment: str) -> Iterator[World]:
    """Start a server in a directory of its own; in the end nothing of it is left.

    Parameters
    ----------
    config
        Python for ``jupyter_server_config.py``, or what makes it from the directory.
    """
    home = Path(tempfile.mkdtemp(prefix="je-world-"))
    loop = asyncio.new_event_loop()
    mark = uuid.uuid4().hex
    server: Server | None = None
    try:
        text = config if isinstance(config, str) else config(home)
        server = loop.run_until_complete(start_server(home, text, **{MARK: mark, **environment}))
        yield World(home, loop, server, mark)
    finally:
        if server is not None:
            loop.run_until_complete(server.stop())
        loop.run_until_complete(end_all(home / "state"))
        loop.close()
        shutil.rmtree(home, ignore_errors=True)


def template(name: str, pool: int = 0, memory: str = "256Mi", **fields: Any) -> dict[str, Any]:
    """A template as an admin writes it."""
    return {
        "name": name,
        "display_name": name.title(),
        "pool": {"size": pool},
        "resources": {
            "cpu": {"minimum": "100m", "default": "500m", "maximum": "2"},
            "memory": {"minimum": "128Mi", "default": memory, "maximum": "2Gi"},
        },
        **fields,
    }


def templates(*given: dict[str, Any] | str) -> str:
    """A line of configuration."""
    return f"c.ElasticKernels.templates = {list(given)!r}\n"
