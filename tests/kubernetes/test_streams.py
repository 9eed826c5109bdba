"""What stays open: the reflector's watch, leases and port-forwards, on a real Kubernetes.

Faults that a real server cannot be made to show are in ``unit/``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jupyter_elastic.cluster.kubernetes import reflector as reflector_module
from jupyter_elastic.cluster.kubernetes.api import MERGE_PATCH, KubeApi
from jupyter_elastic.cluster.kubernetes.lease import API as LEASES
from jupyter_elastic.cluster.kubernetes.lease import LeaseElector
from jupyter_elastic.cluster.kubernetes.objects import PodObject
from jupyter_elastic.cluster.kubernetes.portforward import PortForwards
from jupyter_elastic.cluster.kubernetes.reflector import Reflector

from ..testcluster.world import Kube
from .clients import client, pod, relayed, until

LOG = logging.getLogger("test")


@pytest.fixture
def namespace(kube: Kube) -> Iterator[str]:
    with kube.namespace() as name:
        yield name


class Story:
    """What a reflector told, checked while it is told: a chain for each name."""

    def __init__(self) -> None:
        self.count = 0
        self.shown: dict[str, PodObject] = {}

    def tell(self, name: str, old: PodObject | None, new: PodObject | None) -> None:
        self.count += 1
        assert self.shown.get(name) is old
        if new is None:
            del self.shown[name]
        else:
            assert old is None or old.metadata.uid == new.metadata.uid
            self.shown[name] = new


@contextlib.asynccontextmanager
async def reflecting(api: KubeApi) -> AsyncIterator[tuple[Reflector[PodObject], Story]]:
    story = Story()
    reflector = Reflector(
        api, api.path("pods"), PodObject, story.tell, query={"labelSelector": "test=yes"}, log=LOG
    )
    try:
        await reflector.start()
        yield reflector, story
        assert story.shown == reflector.items
    finally:
        await reflector.close()


async def versions(api: KubeApi) -> dict[str, str]:
    """The truth."""
    query = {"labelSelector": "test=yes"}
    found = json.loads(await api.request("GET", api.path("pods"), query=query))["items"]
    return {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in found}


def seen(reflector: Reflector[PodObject]) -> dict[str, str]:
    return {name: one.metadata.resource_version for name, one in reflector.items.items()}


# -- reflector -----------------------------------------------------------------------------------


async def test_what_anyone_writes_is_shown_after_a_sync(kube: Kube, namespace: str) -> None:
    async with (
        client(kube.kubeconfig, namespace) as api,
        client(kube.kubeconfig, namespace) as other,
        reflecting(api) as (reflector, _story),
    ):
        for number in range(20):
            name = f"p{number}"
            await other.request("POST", other.path("pods"), body=pod(kube, name))
            await reflector.sync()
            assert name in reflector.items
            label = {"metadata": {"labels": {"number": str(number)}}}
            path = other.path("pods", name)
            await other.request("PATCH", path, body=label, content_type=MERGE_PATCH)
            await reflector.sync()
            assert reflector.items[name].metadata.labels["number"] == str(number)
            if number % 3 == 0:
                await other.request("DELETE", path, body={"gracePeriodSeconds": 0})
                await reflector.sync()
                assert name not in reflector.items
        assert seen(reflector) == await versions(api)
        assert reflector.relists == 0


async def test_our_own_writes_are_told_once(kube: Kube, namespace: str) -> None:
    async with (
        client(kube.kubeconfig, namespace) as api,
        reflecting(api) as (reflector, _story),
    ):
        made = await api.request("POST", api.path("pods"), body=pod(kube, "a"))
        reflector.put(msgspec.json.decode(made, type=PodObject))
        assert "a" in reflector.items
        labels = {"metadata": {"labels": {"x": "1"}}}
        path = api.path("pods", "a")
        changed = await api.request("PATCH", path, body=labels, content_type=MERGE_PATCH)
        reflector.put(msgspec.json.decode(changed, type=PodObject))
        await api.request("DELETE", path, body={"gracePeriodSeconds": 0})
        reflector.drop("a", msgspec.json.decode(made, type=PodObject).metadata.uid)
        assert "a" not in reflector.items
        await api.request("POST", api.path("pods"), body=pod(kube, "b"))
        await until(lambda: "b" in reflector.items, "the watch")
        await reflector.sync()
        # Gone from the selection, and back in it.
        path = api.path("pods", "b")
        for value in ("no", "yes"):
            body = {"metadata": {"labels": {"test": value}}}
            await api.request("PATCH", path, body=body, content_type=MERGE_PATCH)
            await reflector.sync()
            assert ("b" in reflector.items) == (value == "yes")
        assert seen(reflector) == await versions(api)


async def test_a_connection_that_is_cut_again_and_again_loses_nothing(
    kube: Kube, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflector_module, "BACKOFF_CAP", 0.5)
    async with (
        relayed(kube, namespace, tmp_path) as (relay, api),
        client(kube.kubeconfig, namespace) as other,
        reflecting(api) as (reflector, _story),
    ):
        for number in range(30):
            await other.request("POST", other.path("pods"), body=pod(kube, f"p{number}"))
            if number % 3 == 0:
                relay.cut()
            if number % 4 == 0:
                path = other.path("pods", f"p{number // 2}")
                with contextlib.suppress(Exception):
                    await other.request("DELETE", path, body={"gracePeriodSeconds": 0})
        relay.refuses = True
        relay.cut()
        await until(lambda: reflector.last_error, "the interruption is noticed")
        await other.request("POST", other.path("pods"), body=pod(kube, "last"))
        relay.refuses = False
        await until(lambda: "last" in reflector.items, "the watch goes on")
        await reflector.sync()
        assert seen(reflector) == await versions(other)
        assert reflector.relists == 0
        assert reflector.last_error == ""


async def forgets(kube: Kube, namespace: str) -> None:
    """Have an API server that does not know version 1 any more, as a new one may."""
    async with client(kube.kubeconfig, namespace) as api:
        query = {"watch": "true", "resourceVersion": "1", "timeoutSeconds": "1"}
        answer = await api.request("GET", api.path("pods"), query=query)
    if b'"code":410' not in answer:
        assert kube.cluster is not None, "only our own API server can be started anew"
        await asyncio.to_thread(kube.cluster.restart, "apiserver")


async def test_a_version_that_the_api_has_forgotten(kube: Kube, namespace: str) -> None:
    await forgets(kube, namespace)
    async with (
        client(kube.kubeconfig, namespace) as api,
        reflecting(api) as (reflector, _story),
    ):
        for name in ("a", "b"):
            await api.request("POST", api.path("pods"), body=pod(kube, name))
        await reflector.sync()
        assert reflector._task is not None
        reflector._task.cancel()
        await asyncio.wait([reflector._task])
        path = api.path("pods", "a")
        await api.request("DELETE", path, body={"gracePeriodSeconds": 0})
        await api.request("POST", api.path("pods"), body=pod(kube, "c"))
        reflector._at, reflector._task = "1", None
        reflector._task = asyncio.create_task(reflector._run())
        await until(lambda: reflector.relists == 1, "everything is read again")
        assert seen(reflector) == await versions(api)
        await api.request("POST", api.path("pods"), body=pod(kube, "d"))
        await until(lambda: "d" in reflector.items, "the watch")


async def test_pages(kube: Kube, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jupyter_elastic.cluster.kubernetes.listing.PAGE", 7)
    async with client(kube.kubeconfig, namespace) as api:
        await asyncio.gather(
            *(api.request("POST", api.path("pods"), body=pod(kube, f"p{n}")) for n in range(30))
        )
        async with reflecting(api) as (reflector, _story):
            assert seen(reflector) == await versions(api)
            assert len(reflector.items) == 30
            lists = api.requests["list", "pods"]
            await reflector.sync()
            assert api.requests["list", "pods"] - lists == 5


# -- lease ---------------------------------------------------------------------------------------


async def test_a_lease_is_held_released_and_taken_over(kube: Kube, namespace: str) -> None:
    async with (
        client(kube.kubeconfig, namespace) as one,
        client(kube.kubeconfig, namespace) as two,
    ):
        a = LeaseElector(one, "pool", "a", duration=8)
        b = LeaseElector(two, "pool", "b", duration=8)
        held = await asyncio.gather(a.acquire(), b.acquire())
        assert sorted(held) == [False, True]
        holder, other = (a, b) if held[0] else (b, a)
        for _ in range(9):  # for longer than the duration
            await asyncio.sleep(1)
            assert await holder.acquire()
            assert not await other.acquire()
        path = one.path("leases", "pool", api=LEASES)
        lease = json.loads(await one.request("GET", path))
        assert lease["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "jupyter-elastic"
        spec = lease["spec"]
        assert spec["holderIdentity"] == holder.identity
        assert spec["leaseTransitions"] == 0
        for field in ("acquireTime", "renewTime"):
            written = datetime.strptime(spec[field], "%Y-%m-%dT%H:%M:%S.%f%z")
            assert abs(datetime.now(written.tzinfo).timestamp() - written.timestamp()) < 120
        await holder.release()
        assert await other.acquire()
        # It falls silent.
        assert not await holder.acquire()
        await until_held(holder, 90)
        assert json.loads(await one.request("GET", path))["spec"]["leaseTransitions"] == 2
        await other.release()
        assert await holder.acquire()


async def until_held(elector: LeaseElector, seconds: float) -> None:
    async def held() -> None:
        while not await elector.acquire():
            await asyncio.sleep(0.1)

    await asyncio.wait_for(held(), seconds)


# -- port-forward --------------------------------------------------------------------------------

ECHO = """
import socketserver, sys, time

class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)

class Bye(socketserver.BaseRequestHandler):
    def handle(self):
        name = self.request.recv(100)
        self.request.sendall(b"bye " + name + b"." * 300000)

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads, request_queue_size = True, True, 100

import threading
for port, handler in ((21000, Echo), (21001, Bye)):
    server = Server(("0.0.0.0", port), handler)
    threading.Thread(target=server.serve_forever).start()
print("up", flush=True)
"""


@pytest.fixture
def listening(kube: Kube, namespace: str) -> str:
    """A pod that echoes on port 21000 and says goodbye on 21001."""
    body = pod(kube, "echo", ECHO)
    kube.admin.post(f"/api/v1/namespaces/{namespace}/pods", body)
    kube.await_pod(namespace, "echo", lambda one: one["status"]["phase"] == "Running")
    return namespace


@contextlib.asynccontextmanager
async def dialed(forwards: PortForwards, port: int) -> AsyncIterator[Any]:
    local = await forwards.local_port("echo", port)
    reader, writer = await asyncio.open_connection("127.0.0.1", local)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def up(forwards: PortForwards) -> None:
    """Wait until the pod listens: until then its connections are closed."""
    for _ in range(600):
        async with dialed(forwards, 21000) as (reader, writer):
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                writer.write(b"?")
                await asyncio.wait_for(reader.readexactly(1), 60)
                return
        await asyncio.sleep(0.1)
    raise AssertionError("the pod does not listen")


async def test_ports_of_a_pod(kube: Kube, listening: str) -> None:
    async with client(kube.kubeconfig, listening) as api:
        forwards = PortForwards(api, LOG)
        await up(forwards)
        blob = bytes(range(256)) * 8192

        async def echo() -> None:
            async with dialed(forwards, 21000) as (reader, writer):
                writer.write(blob)
                assert await asyncio.wait_for(reader.readexactly(len(blob)), 60) == blob

        await asyncio.gather(*(echo() for _ in range(20)))
        async with dialed(forwards, 21001) as (reader, writer):
            writer.write(b"you")
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 60)
            assert answer == b"bye you" + b"." * 300_000
        # Nothing listens there.
        async with dialed(forwards, 21002) as (reader, _):
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 60) == b""
        await forwards.close()


async def test_a_ping_is_answered_and_does_no_harm(
    kube: Kube, listening: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupyter_elastic.cluster.kubernetes.portforward.PING", 0.05)
    async with client(kube.kubeconfig, listening) as api:
        forwards = PortForwards(api, LOG)
        await up(forwards)
        async with dialed(forwards, 21000) as (reader, writer):
            for _ in range(10):
                await asyncio.sleep(0.2)
                writer.write(b"still here")
                assert await asyncio.wait_for(reader.readexactly(10), 60) == b"still here"
        await forwards.close()


async def test_a_pod_that_is_deleted_ends_its_connections(kube: Kube, listening: str) -> None:
    async with client(kube.kubeconfig, listening) as api:
        forwards = PortForwards(api, LOG)
        await up(forwards)
        async with dialed(forwards, 21000) as (reader, writer):
            writer.write(b"x")
            assert await asyncio.wait_for(reader.readexactly(1), 60) == b"x"
            path = api.path("pods", "echo")
            await api.request("DELETE", path, body={"gracePeriodSeconds": 0})
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 60) == b""
        async with dialed(forwards, 21000) as (reader, _):
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 60) == b""
        await forwards.close()
