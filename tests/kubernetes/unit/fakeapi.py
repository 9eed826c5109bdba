"""A stand-in for an API server that misbehaves on demand; the real one is used for all else.

It keeps pods with versions, lists them in pages, streams a watch from any version it remembers,
and answers as it is told to before that. What is created otherwise it keeps as it came.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from benchmarks.server import free_port
from jupyter_elastic.cluster.kubernetes.api import KubeApi
from jupyter_elastic.cluster.kubernetes.connection import Connection

Object = dict[str, Any]
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

NAMESPACE = "team"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


def failure(code: int, reason: str = "", message: str = "", **more: Any) -> Answer:
    """An answer of this status, as the API writes it; ``headers`` and ``details`` may be given."""
    headers = more.pop("headers", {})

    async def answer(_request: web.Request) -> web.StreamResponse:
        status = {"kind": "Status", "code": code, "reason": reason, "message": message, **more}
        status["metadata"] = {}
        return web.json_response(status, status=code, headers=headers)

    return answer


async def hang(request: web.Request) -> web.StreamResponse:
    """No answer at all, until the client gives up."""
    while request.transport is not None:
        await asyncio.sleep(0.01)
    return web.Response()


async def cut(request: web.Request) -> web.StreamResponse:
    """The connection breaks instead of an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


class FakeApi:
    """An API server with one namespace and pods in it.

    Attributes
    ----------
    seen
        The requests so far.
    next
        How the next requests are answered; what it does not say is answered properly.
    watches
        How many watches run.
    made
        What was created with a name, by its path.
    """

    def __init__(self) -> None:
        self.seen: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.next: deque[Answer] = deque()
        self.version = 100
        self.page_limit = 10_000
        self.leases: dict[str, Object] = {}
        self.made: dict[str, Object] = {}
        self._pods: dict[str, Object] = {}
        self._log: list[tuple[int, bytes]] = []
        self._oldest = 0
        self._streams: list[tuple[web.Request, asyncio.Queue[bytes | None]]] = []
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def watches(self) -> int:
        return len(self._streams)

    @property
    def paths(self) -> list[str]:
        return [f"{one.method} {one.path}" for one in self.seen]

    # -- pods ------------------------------------------------------------------------------

    def put(self, name: str, uid: str = "", **status: Any) -> Object:
        """Create or change a pod, as anyone might."""
        self.version += 1
        old = self._pods.get(name)
        meta = {
            "name": name,
            "uid": uid or (old["metadata"]["uid"] if old else f"uid-{self.version}"),
            "resourceVersion": str(self.version),
        }
        self._pods[name] = pod = {"metadata": meta, "status": status}
        self._event("MODIFIED" if old else "ADDED", pod)
        return pod

    def delete(self, name: str) -> None:
        self.version += 1
        pod = self._pods.pop(name)
        meta = {**pod["metadata"], "resourceVersion": str(self.version)}
        self._event("DELETED", {**pod, "metadata": meta})

    def _event(self, kind: str, pod: Object) -> None:
        line = json.dumps({"type": kind, "object": pod}).encode() + b"\n"
        self._log.append((self.version, line))
        self.say(line)

    # -- watches ---------------------------------------------------------------------------

    def say(self, data: bytes) -> None:
        """Write to every watch."""
        for _, queue in self._streams:
            queue.put_nowait(data)

    def end_watches(self) -> None:
        """As the server does every few minutes, with a bookmark before."""
        bookmark = {"metadata": {"resourceVersion": str(self.version)}}
        self.say(json.dumps({"type": "BOOKMARK", "object": bookmark}).encode() + b"\n")
        for _, queue in self._streams:
            queue.put_nowait(None)

    def cut_watches(self) -> None:
        for request, _ in self._streams:
            if request.transport is not None:
                request.transport.abort()

    def forget(self) -> None:
        """Compact: versions up to now cannot be watched from any more."""
        self._log.clear()
        self._oldest = self.version

    # -- HTTP ------------------------------------------------------------------------------

    async def start(self, port: int = 0) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        # One that nobody has meanwhile when it is stopped and started again.
        site = web.TCPSite(self._runner, "127.0.0.1", port or free_port())
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        assert self._runner is not None
        self.end_watches()
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        self.bodies.append(await request.read())
        if self.next:
            return await self.next.popleft()(request)
        return await self._properly(request)

    async def lose(self, request: web.Request) -> web.StreamResponse:
        """Carry the request out; the connection breaks instead of the answer."""
        await self._properly(request)
        return await cut(request)

    async def _properly(self, request: web.Request) -> web.StreamResponse:
        if "/leases" in request.path:
            return await self._lease(request)
        if request.method == "POST":
            return await self._make(request)
        if request.path in self.made and request.method in ("GET", "DELETE"):
            keep = request.method == "GET"
            found = self.made[request.path] if keep else self.made.pop(request.path)
            return web.json_response(found)
        if request.path in self.made and request.method == "PATCH":
            self.version += 1
            _merge(self.made[request.path], await request.json())
            self.made[request.path]["metadata"]["resourceVersion"] = str(self.version)
            return web.json_response(self.made[request.path])
        if request.method != "GET":
            return web.json_response({"metadata": {"name": "x"}})
        if request.path == PODS:
            return await (self._watch(request) if "watch" in request.query else self._list(request))
        pod = self._pods.get(request.path.rpartition("/")[2])
        if pod is None:
            missing = failure(404, "NotFound", "not found", details={"name": "x", "kind": "pods"})
            return await missing(request)
        return web.json_response(pod)

    async def _make(self, request: web.Request) -> web.StreamResponse:
        body: Object = {}
        with contextlib.suppress(ValueError):
            body = await request.json()
        name = body.get("metadata", {}).get("name")
        if name is None:
            return web.json_response({"metadata": {"name": "x"}})
        path = f"{request.path}/{name}"
        if path in self.made:
            return await failure(409, "AlreadyExists", "already exists")(request)
        self.version += 1
        marks = {"uid": f"uid-{self.version}", "resourceVersion": str(self.version)}
        self.made[path] = {**body, "metadata": {**body["metadata"], **marks}}
        return web.json_response(self.made[path], status=201)

    async def _lease(self, request: web.Request) -> web.StreamResponse:
        """Leases are written as any object is: compare and swap by version."""
        self.version += 1
        name = request.path.partition("/leases/")[2]
        if request.method == "POST":
            lease: Object = await request.json()
            name = lease["metadata"]["name"]
            if name in self.leases:
                return await failure(409, "AlreadyExists", "already exists")(request)
            lease["metadata"]["uid"] = f"uid-{self.version}"
        elif name not in self.leases:
            details = {"name": name, "kind": "leases"}
            return await failure(404, "NotFound", "not found", details=details)(request)
        elif request.method == "GET":
            return web.json_response(self.leases[name])
        else:
            old, patch = self.leases[name], await request.json()
            for field in ("uid", "resourceVersion"):
                if patch["metadata"][field] != old["metadata"][field]:
                    return await failure(409, "Conflict", "modified")(request)
            lease = copy.deepcopy(old)
            _merge(lease, patch)
        lease["metadata"]["resourceVersion"] = str(self.version)
        self.leases[name] = lease
        return web.json_response(lease)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        first = int(request.query.get("continue") or 0)
        limit = min(int(request.query.get("limit") or 10**9), self.page_limit)
        pods = list(self._pods.values())
        meta = {"resourceVersion": str(self.version)}
        if first + limit < len(pods) and "limit" in request.query:
            meta["continue"] = str(first + limit)
            return web.json_response({"metadata": meta, "items": pods[first : first + limit]})
        return web.json_response({"metadata": meta, "items": pods[first:]})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        since = int(request.query["resourceVersion"])
        if since < self._oldest:
            status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
            await response.write(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
            return response
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        for version, line in self._log:
            if version > since:
                queue.put_nowait(line)
        mine = (request, queue)
        self._streams.append(mine)
        try:
            while (data := await queue.get()) is not None:
                await response.write(data)
        except OSError:
            pass
        finally:
            self._streams.remove(mine)
        return response


def _merge(into: Object, patch: Object) -> None:
    """A JSON merge patch."""
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


def write_kubeconfig(path: Path, server: str, user: Object | None = None, **context: Any) -> Path:
    """A kubeconfig with one context, ``here``."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", **context}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user or {"token": "secret"}}],
    }
    path.write_text(json.dumps(config))
    return path


class Pause:
    """A sleep that does not, and remembers."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def connected(
    folder: Path, user: Object | None = None, **options: Any
) -> AsyncIterator[tuple[FakeApi, KubeApi]]:
    """A fake API server and a client of it that does not wait between attempts."""
    fake = FakeApi()
    await fake.start()
    path = write_kubeconfig(
        folder / "config", f"http://127.0.0.1:{fake.port}", user, namespace=NAMESPACE
    )
    options = {"sleep": Pause(), "rand": lambda: 0.5, "qps": 1e6, **options}
    api = KubeApi(await Connection.load(kubeconfig=str(path)), **options)
    try:
        yield fake, api
    finally:
        await api.close()
        await fake.stop()


async def until(condition: Callable[[], Any], what: str, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        await asyncio.sleep(0.01)
