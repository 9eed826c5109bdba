"""Clients of a real API server, pods to look at, and a connection that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from jupyter_elastic.cluster.kubernetes.api import KubeApi

from ..testcluster.api import Object
from ..testcluster.world import Kube


@contextlib.asynccontextmanager
async def client(kubeconfig: Path, namespace: str = "", **options: Any) -> AsyncIterator[KubeApi]:
    api = await KubeApi.connect(kubeconfig=str(kubeconfig), namespace=namespace, **options)
    try:
        yield api
    finally:
        await api.close()


def pod(kube: Kube, name: str, script: str = "", memory: str = "64Mi", **spec: Any) -> Object:
    """A pod that runs a Python script; for one that is only looked at, on a node far away."""
    container: Object = {
        "name": "kernel",
        "image": kube.image,
        "command": [kube.python, "-c", script],
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"cpu": "1", "memory": memory},
        },
        "volumeMounts": kube.mounts,
    }
    more = {} if script else {"schedulingGates": [{"name": "elastic.jupyter.org/test"}]}
    return {
        "metadata": {"name": name, "labels": {"test": "yes"}},
        "spec": {
            "containers": [container],
            "volumes": kube.volumes,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            **more,
            **spec,
        },
    }


async def until(condition: Callable[[], Any], what: str, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        await asyncio.sleep(0.02)


class Relay:
    """TCP to the API server; what passes through it can be cut."""

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._writers: set[asyncio.StreamWriter] = set()
        self.refuses = False

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def stop(self) -> None:
        self._server.close()
        self.cut()
        await asyncio.sleep(0.05)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if self.refuses:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        self._writers.add(far_writer)
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def relayed(kube: Kube, namespace: str, folder: Path) -> AsyncIterator[tuple[Relay, KubeApi]]:
    """A client whose connections can be cut; certificates are checked all the same."""
    server = kube.admin.server
    relay = Relay(server)
    port = await relay.start()
    config = yaml.safe_load(kube.kubeconfig.read_text())
    for one in config["clusters"]:
        one["cluster"]["server"] = f"https://127.0.0.1:{port}"
        one["cluster"]["tls-server-name"] = urlsplit(server).hostname
    path = folder / "relayed"
    path.write_text(json.dumps(config))
    async with client(path, namespace) as api:
        try:
            yield relay, api
        finally:
            await relay.stop()
