"""A real Jupyter server whose kernels run on a real Kubernetes, with a user's rights only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from ..server.tools import Cell, kernel, phase, start, warm
from ..testcluster.world import Kube
from .desk import Desk, home_directory
from .world import install


@pytest.fixture
def desk(kube: Kube) -> Iterator[Desk]:
    install(kube)
    with kube.namespace() as namespace, home_directory() as home:
        yield Desk(kube, namespace, home)


def test_a_warm_start_a_resize_and_a_stop(desk: Desk) -> None:
    async def scenario() -> None:
        desk.offer()
        async with desk.server() as server:
            await warm(server)
            kernel_id = await start(server)
            view = await kernel(server, kernel_id)
            assert view["start"] == "warm"
            channel = await server.connect(kernel_id)
            assert await channel.execute("x = 6 * 7; x") == "42"
            await server.request(
                "PATCH", f"/elastic/api/kernels/{kernel_id}", {"resources": {"memory": "300Mi"}}
            )
            view = await kernel(server, kernel_id)
            assert view["actual"]["memory"] == "300Mi"
            assert await channel.execute("x") == "42"
            await server.request("DELETE", f"/api/kernels/{kernel_id}")
            assert desk.kernels() == []

    asyncio.run(scenario())
