"""Clients that do not wait: what they ask of a kernel that starts, or that has just been up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from .world import World, template, templates, world_of

KERNELS = "/elastic/api/kernels"
SLOW = """
import asyncio
from jupyter_elastic.cluster.local import LocalCluster
reach = LocalCluster.reach

async def slow(self, pod, connection):
    await asyncio.sleep(1.5)
    return await reach(self, pod, connection)

LocalCluster.reach = slow
"""
"""Between the record that says Running, and this server's being connected, much time goes by."""


@pytest.fixture(scope="module")
def server() -> Iterator[World]:
    with world_of(SLOW + templates(template("work", pool=1))) as world:
        yield world


@pytest.fixture
def world(server: World) -> Iterator[World]:
    try:
        yield server
        server.assert_nothing_runs()
    finally:
        server.stop_all()


@pytest.fixture(params=["Starting", "Running"])
def early(world: World, request: pytest.FixtureRequest) -> Iterator[str]:
    """A kernel that the server is not connected to yet."""
    world.warm("work")
    kernel_id = world.post(KERNELS, {"template": "work"})["kernel_id"]
    if request.param == "Running":
        world.phase(kernel_id, "Running")
    assert model(world, kernel_id)["execution_state"] == "starting"
    yield kernel_id
    world.delete(f"/api/kernels/{kernel_id}")


def model(world: World, kernel_id: str) -> Any:
    return world.get(f"/api/kernels/{kernel_id}")


def test_an_interrupt_is_harmless(world: World, early: str) -> None:
    assert world.run(world.ask("POST", f"/api/kernels/{early}/interrupt")).status == 204
    assert world.execute(early, "6 * 7") == "42"


def test_a_restart_gives_a_new_kernel(world: World, early: str) -> None:
    restarted = world.post(f"/api/kernels/{early}/restart")
    assert restarted["id"] == early
    assert restarted["execution_state"] in ("idle", "busy")
    assert world.elastic(early)["phase"] == "Running"
    assert world.execute(early, "6 * 7") == "42"


def test_an_interrupt_during_a_restart(world: World, early: str) -> None:
    assert world.execute(early, "x = 1; x") == "1"

    async def both() -> list[int]:
        ways = [f"/api/kernels/{early}/{what}" for what in ("restart", "interrupt", "restart")]
        replies = await asyncio.gather(*(world.ask("POST", way) for way in ways))
        return [reply.status for reply in replies]

    assert world.run(both()) == [200, 204, 200]
    assert world.execute(early, "'x' in globals()") == "False"
