"""Idle kernels: Jupyter's culler ends plain ones, the agent ends elastic ones by its template."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .tools import Cell
from .world import World, template, templates, world_of

BRIEF = 5.0
"""Seconds after which the template ``brief`` ends an idle kernel."""
CONFIG = (
    templates(template("work"), template("brief", idle={"cull_after": BRIEF}))
    + "c.MappingKernelManager.cull_idle_timeout = 2\nc.MappingKernelManager.cull_interval = 1\n"
)


@pytest.fixture(scope="module")
def server() -> Iterator[World]:
    with world_of(CONFIG) as world:
        yield world


@pytest.fixture
def world(server: World) -> Iterator[World]:
    """The module's server; each test must leave it as it found it."""
    try:
        yield server
        server.assert_nothing_runs()
    finally:
        server.stop_all()


def ids(world: World) -> set[str]:
    """Kernels that Jupyter's API lists."""
    return {kernel["id"] for kernel in world.get("/api/kernels")}


def test_jupyters_culler_ends_plain_kernels_and_leaves_elastic_ones(world: World) -> None:
    elastic = world.post("/api/kernels", {"name": "work"})["id"]
    assert world.execute(elastic, "x = 1; x") == "1"
    # Started later, and gone while the elastic one, idle for longer, is there.
    plain = world.post("/api/kernels", {"name": "python3"})["id"]
    world.until(lambda: plain not in ids(world), "the plain kernel culled")
    assert ids(world) == {elastic}
    assert world.execute(elastic, "x") == "1"
    world.delete(f"/api/kernels/{elastic}")


def test_an_idle_elastic_kernel_is_ended_by_its_template(world: World) -> None:
    session = world.post(
        "/api/sessions", world.session(world.notebook("a.ipynb"), {"name": "brief"})
    )
    kernel_id = session["kernel"]["id"]
    assert world.execute(kernel_id, "1 + 1") == "2"
    world.until(lambda: kernel_id not in ids(world), "the kernel ended")
    # Like a kernel that Jupyter culls: neither kernel nor session nor record is left.
    world.until(lambda: world.get("/api/sessions") == [], "its session gone")
    problem = world.refused("GET", f"/elastic/api/kernels/{kernel_id}")
    assert problem["reason"] == "UnknownKernel"


def test_keepalive_holds_off_the_end(world: World) -> None:
    kept = world.post("/api/kernels", {"name": "brief"})["id"]
    left = world.post("/api/kernels", {"name": "brief"})["id"]

    def ended() -> bool:
        world.post(f"/elastic/api/kernels/{kept}/keepalive")
        return left not in ids(world)

    world.until(ended, "the other kernel ended")
    assert kept in ids(world)
    world.until(lambda: kept not in ids(world), "the kept kernel ended, once nobody keeps it")


def test_a_busy_kernel_is_not_idle(world: World) -> None:
    kernel_id = world.post("/api/kernels", {"name": "brief"})["id"]

    async def scenario() -> str:
        channel = await world.server.connect(kernel_id)
        cell = Cell(channel, f"import time; time.sleep({2 * BRIEF}); print('done')")
        reply = await cell.done()
        channel.close()
        return str(reply["content"]["status"])

    assert world.run(scenario()) == "ok"
    world.until(lambda: kernel_id not in ids(world), "the kernel ended after the cell")
