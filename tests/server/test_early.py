"""Clients that do not wait: what they ask of a kernel that starts, or that has just been up."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .tools import Cell, agent_of, kill
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
delete_pod = LocalCluster.delete_pod

async def slowly(self, name, *args, **kwargs):
    await asyncio.sleep(1.5)
    await delete_pod(self, name, *args, **kwargs)

LocalCluster.delete_pod = slowly
"""
"""Much time goes by between the record that says Running and this server's being connected, and
between one that says Failed and the end of what was tried."""


def second(home: Path) -> dict[str, Any]:
    """A template whose first kernel does not come up."""
    flag = home / "tried"
    launch = f"exec {sys.executable} -m ipykernel_launcher -f {{connection_file}}"
    script = f"if [ -e {flag} ]; then {launch}; fi; touch {flag}; exit 3"
    return template("second", argv=["sh", "-c", script], language="python")


@pytest.fixture(scope="module")
def server() -> Iterator[World]:
    with world_of(lambda home: SLOW + templates(template("work", pool=1), second(home))) as world:
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


def test_a_start_that_failed_is_restarted_at_once(world: World) -> None:
    kernel_id = world.post(KERNELS, {"template": "second"})["kernel_id"]
    world.phase(kernel_id, "Failed")
    world.post(f"/api/kernels/{kernel_id}/restart")
    assert world.elastic(kernel_id)["phase"] == "Running"
    assert world.execute(kernel_id, "6 * 7") == "42"

    async def dies() -> str:
        channel = await world.server.connect(kernel_id)
        cell = Cell(channel, "import os; os._exit(3)")
        await cell.status("restarting")
        channel.close()
        return cell.output

    assert "exit code 3" in world.run(dies()), "the server hears its new agent"
    world.delete(f"/api/kernels/{kernel_id}")


def test_an_agent_that_dies_at_once_is_told(world: World) -> None:
    """Before the server is connected to it, so that it hears nothing."""
    world.warm("work")
    kernel_id = world.post(KERNELS, {"template": "work"})["kernel_id"]
    kill([agent_of(world.phase(kernel_id, "Running")["pod"])])
    assert world.phase(kernel_id, "Failed")["reason"] == "AgentLost"
    world.until(lambda: model(world, kernel_id)["execution_state"] == "dead", "Jupyter says so")
    world.delete(f"/api/kernels/{kernel_id}")
