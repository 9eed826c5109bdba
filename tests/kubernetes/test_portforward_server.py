"""A server outside the cluster, which reaches its kernels through the API server alone."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.server import Channel

from ..server.tools import Cell
from ..testcluster.world import Kube
from .desk import Desk, home_directory
from .detour import Detour, detour
from .served import RESOURCES, Served, own, server_on
from .world import install, rules


@pytest.fixture(scope="module")
def desk(kube: Kube) -> Iterator[Desk]:
    install(kube)
    with kube.namespace() as namespace, home_directory() as home:
        desk = Desk(kube, namespace, home)
        granted = rules() + rules("port-forward-role")
        desk.kubeconfig = kube.service_account(namespace, granted)
        desk.offer("work", pool=1, resources=RESOURCES)
        desk.offer("cold", pool=0, resources=RESOURCES)
        yield desk


@pytest.fixture(scope="module")
def way(desk: Desk) -> Iterator[Detour]:
    with detour(desk.kubeconfig, desk.home / "detour.conf") as way:
        yield way


@pytest.fixture(scope="module")
def settings(desk: Desk) -> dict[str, Any]:
    return {"access": "port-forward", "kubeconfig": str(desk.home / "detour.conf")}


@pytest.fixture(scope="module")
def server(desk: Desk, way: Detour, settings: dict[str, Any]) -> Iterator[Served]:
    with server_on(desk, **settings) as running:
        yield running
        running.assert_nothing_runs()


@pytest.fixture
def world(server: Served) -> Iterator[Served]:
    yield server
    server.stop_all()


def test_a_kernels_life_through_the_api_server(world: Served) -> None:
    world.warm("work")
    session = world.post("/api/sessions", world.session("a.ipynb", {"name": "work"}))
    kernel_id = session["kernel"]["id"]
    view = world.elastic(kernel_id)
    assert view["start"] == "warm"
    file = world.home / "runtime" / f"kernel-{kernel_id}.json"
    before = json.loads(file.read_text())
    assert before["ip"] == "127.0.0.1"
    assert before["curve_secretkey"], "loopback here, and a network further on"
    assert world.execute(kernel_id, "kept = 41; kept + 1") == "42"
    view = world.resize(kernel_id, memory="300Mi")
    assert view["actual"]["memory"] == "300Mi"
    assert world.get(f"/elastic/api/kernels/{kernel_id}/usage")["memory_limit"] == 300 * 2**20
    assert world.execute(kernel_id, "kept") == "41"
    world.post(f"/api/kernels/{kernel_id}/restart")
    assert world.execute(kernel_id, "'kept' in globals()") == "False"
    assert json.loads(file.read_text()) == before
    assert world.elastic(kernel_id)["pod"] == view["pod"]
    big = world.execute(kernel_id, "'x' * 3_000_000", 60)
    assert len(big) == 3_000_002


def idle(world: Served, kernel_id: str) -> None:
    """Wait until the server knows that the cell has ended.

    To a kernel that is said to be busy, Jupyter opens channels without seeing that they are open.
    """
    world.until(
        lambda: world.get(f"/api/kernels/{kernel_id}")["execution_state"] == "idle",
        "the server knows that the cell has ended",
    )


@pytest.mark.fault
def test_connections_that_are_cut_come_again(world: Served, way: Detour) -> None:
    """As when a laptop sleeps, or the API server is replaced."""
    world.warm("work")
    kernel_id = world.start()

    async def scenario() -> None:
        channel = await world.server.connect(kernel_id)
        assert await channel.execute("kept = 41; kept") == "41"
        cell = Cell(channel, "import time; print('begun'); time.sleep(5); kept += 1")
        await cell.prints("begun")
        way.passes = False
        assert way.cut() > 2
        view = await world.server.request("GET", f"/elastic/api/kernels/{kernel_id}")
        assert view["phase"] == "Running", "what was seen is still shown"
        await asyncio.sleep(1.5)
        way.passes = True
        # On the very same websocket, as a notebook that stays open:
        assert await channel.execute("kept", 100) == "42"
        channel.close()

    world.run(scenario())
    idle(world, kernel_id)
    assert world.execute(kernel_id, "kept + 1") == "43"
    assert world.resize(kernel_id, memory="300Mi")["resize"]["state"] == "Done"
    view = world.elastic(kernel_id)
    assert (view["phase"], view["restarts"]) == ("Running", 0)
    # The watches go on as well.
    world.desk.offer("later", pool=0, resources=RESOURCES)
    world.until(lambda: world.find("/elastic/api/templates/later"), "the new template")
    world.desk.withdraw("later")


@pytest.mark.fault
def test_a_kernel_whose_container_was_killed_comes_back(world: Served) -> None:
    """In place, behind the same ports; a notebook that was open is told, and goes on."""
    own(world.desk.kube)
    world.warm("work")
    kernel_id = world.start()
    before = world.elastic(kernel_id)

    async def begin() -> tuple[Channel, Cell]:
        channel = await world.server.connect(kernel_id)
        cell = Cell(channel, "x = 41; print('begun', flush=True); import time; time.sleep(600)")
        await cell.prints("begun")
        return channel, cell

    channel, cell = world.run(begin())
    world.kill_all(kernel_id)
    world.run(cell.status("restarting", 100))
    assert "Everything in the pod was killed" in cell.output, cell.output
    # On the very same websocket:
    assert world.run(channel.execute("'x' in globals()", 100)) == "False"
    channel.close()
    idle(world, kernel_id)

    def told() -> bool:
        view = world.elastic(kernel_id)
        there = (view["phase"], view["pod"]) == ("Running", before["pod"])
        return there and (view["reason"], view["restarts"]) == ("ContainerKilled", 1)

    world.until(told, "the record says so")
    assert world.execute(kernel_id, "6 * 7") == "42"
    assert world.resize(kernel_id, memory="640Mi")["actual"]["memory"] == "640Mi"


def test_without_the_right_to_forward_it_is_named(world: Served, settings: dict[str, Any]) -> None:
    world.warm("work")
    with world.without("pods/portforward", "create", "get"):
        world.again(**settings)  # which has no way to any pod yet
        for template, start in (("work", "warm"), ("cold", "cold")):
            view = world.failed(template)
            assert view["start"] in (start, None)
            assert view["reason"] == "Forbidden", view["message"]
            assert re.search(r"may not \w+ pods/portforward", view["message"]), view["message"]
            assert "on `pods/portforward`" in view["message"]
    kernel_id = world.start("cold")
    assert world.execute(kernel_id, "6 * 7") == "42"
