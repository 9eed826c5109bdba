"""Attaching, changing and deleting while a kernel starts: one process, and the right kernel.

Once as jupyter_server is, and once with its pending kernels, which change most of its answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tornado.httpclient import HTTPClientError
from tornado.websocket import WebSocketClosedError

from benchmarks.server import Channel

from .world import World, template, templates, world_of

SLOWLY = """
import os, time
end = time.monotonic() + 120
while not os.path.exists({gate!r}) and time.monotonic() < end:
    time.sleep(0.02)
"""
"""What the slow template preloads: its pods warm up once the gate is there; none is kept warm."""
PENDING = "c.MappingKernelManager.use_pending_kernels = True\n"


def gate(home: Path) -> Path:
    """The file without which no start of the slow template goes on."""
    return home / "gate"


def make_config(home: Path, pending: bool) -> str:
    """A template whose preload list has a module that takes its time."""
    (home / "lib").mkdir()
    (home / "lib" / "slowly.py").write_text(SLOWLY.format(gate=str(gate(home))))
    slow = template("slow", preload=["slowly"], env={"PYTHONPATH": str(home / "lib")})
    return templates(slow, template("quick", pool=1)) + (PENDING if pending else "")


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "pending"])
def server(request: pytest.FixtureRequest) -> Iterator[World]:
    with world_of(lambda home: make_config(home, request.param)) as world:
        yield world


@pytest.fixture
def world(server: World) -> Iterator[World]:
    """The module's server; each test must leave it as it found it. Slow starts wait."""
    gate(server.home).unlink(missing_ok=True)
    try:
        yield server
        server.assert_nothing_runs()
    finally:
        server.stop_all()


def begin(world: World) -> str:
    """Begin a slow start; returns the id of a kernel that is starting."""
    kernel = world.post("/elastic/api/kernels", {"template": "slow"})
    assert kernel["phase"] in ("Queued", "Starting")
    return str(kernel["kernel_id"])


def is_starting(world: World, kernel_id: str) -> bool:
    return bool(world.elastic(kernel_id)["phase"] == "Starting")


def go_on(world: World) -> None:
    """Let slow starts come to their end."""
    gate(world.home).touch()


def only_slow_pod(world: World) -> list[str]:
    """Pods with a kernel; asserts that no kernel runs outside of pods."""
    assert world.plain_kernels() == []
    return [p["name"] for p in world.get("/elastic/api/pool")["pods"] if p["kernel_id"]]


def test_a_session_attaches_to_a_kernel_that_starts(world: World) -> None:
    kernel_id = begin(world)
    path = world.notebook("one.ipynb")
    session = world.post("/api/sessions", world.session(path, {"id": kernel_id, "name": "slow"}))
    world.until(lambda: is_starting(world, kernel_id), "it starts")
    assert session["kernel"]["id"] == kernel_id
    assert session["kernel"]["name"] == "slow"
    go_on(world)
    world.phase(kernel_id, "Running")
    assert world.execute(kernel_id, "__import__('slowly').__name__") == "'slowly'"
    assert [k["id"] for k in world.get("/api/kernels")] == [kernel_id]
    assert only_slow_pod(world) == [world.elastic(kernel_id)["pod"]]
    world.delete(f"/api/sessions/{session['id']}")


def test_another_session_changes_to_a_kernel_that_starts(world: World) -> None:
    """What a client does that first asks our API for a kernel and then changes to it."""
    world.warm("quick")
    path = world.notebook("two.ipynb")
    session = world.post("/api/sessions", world.session(path, {"name": "quick"}))
    old = session["kernel"]["id"]
    world.phase(old, "Running")
    kernel_id = begin(world)

    async def change() -> str:
        change = {"kernel": {"id": kernel_id}}
        work = world.server.request("PATCH", f"/api/sessions/{session['id']}", change)
        asked = asyncio.ensure_future(work)
        while (await world.server.request("GET", place))["phase"] != "Starting":
            await asyncio.sleep(0.05)
        go_on(world)
        return str((await asked)["kernel"]["id"])

    place = f"/elastic/api/kernels/{kernel_id}"
    assert world.run(change()) == kernel_id
    world.phase(kernel_id, "Running")
    assert world.execute(kernel_id, "1 + 1") == "2"
    world.until(
        lambda: [k["id"] for k in world.get("/api/kernels")] == [kernel_id], "the old one gone"
    )
    assert only_slow_pod(world) == [world.elastic(kernel_id)["pod"]]
    assert [s["id"] for s in world.elastic(kernel_id)["sessions"]] == [session["id"]]
    world.delete(f"/api/sessions/{session['id']}")


def test_changing_to_a_slow_template_keeps_the_old_kernel_until_the_new_one_answers(
    world: World,
) -> None:
    world.warm("quick")
    path = world.notebook("three.ipynb")
    session = world.post("/api/sessions", world.session(path, {"name": "quick"}))
    old = session["kernel"]["id"]
    world.phase(old, "Running")
    assert world.execute(old, "x = 5; x") == "5"

    async def change() -> str:
        work = asyncio.ensure_future(
            world.server.request(
                "PATCH", f"/api/sessions/{session['id']}", {"kernel": {"name": "slow"}}
            )
        )
        while not [k for k in await kernels(world) if k["template"] == "slow"]:
            await asyncio.sleep(0.05)
        channel = await world.server.connect(old)
        assert await channel.execute("x") == "5"
        channel.close()
        assert not work.done()
        go_on(world)
        return str((await work)["kernel"]["id"])

    new = world.run(change())
    assert world.execute(new, "1 + 1") == "2"
    world.until(lambda: [k["id"] for k in world.get("/api/kernels")] == [new], "the old one gone")
    world.delete(f"/api/sessions/{session['id']}")


async def kernels(world: World) -> list[dict[str, str]]:
    """My kernels."""
    found: list[dict[str, str]] = (await world.server.request("GET", "/elastic/api/kernels"))[
        "kernels"
    ]
    return found


@pytest.mark.parametrize("api", ["/api/kernels", "/elastic/api/kernels"])
def test_deleting_a_kernel_that_starts_cancels_the_start(world: World, api: str) -> None:
    kernel_id = begin(world)
    world.until(lambda: world.processes(), "an agent")
    world.delete(f"{api}/{kernel_id}")
    assert world.get("/elastic/api/kernels")["kernels"] == []
    assert world.refused("GET", f"/elastic/api/kernels/{kernel_id}")["reason"] == "UnknownKernel"
    assert world.run(world.ask("GET", f"/api/kernels/{kernel_id}")).status == 404
    assert world.recorded("kernels") == []
    world.until(lambda: only_slow_pod(world) == [], "its pod gone")


def test_deleting_the_session_of_a_kernel_that_starts_cancels_the_start(world: World) -> None:
    kernel_id = begin(world)
    path = world.notebook("four.ipynb")
    session = world.post("/api/sessions", world.session(path, {"id": kernel_id}))
    world.delete(f"/api/sessions/{session['id']}")
    assert world.get("/elastic/api/kernels")["kernels"] == []
    assert world.recorded("kernels") == []
    world.until(lambda: only_slow_pod(world) == [], "its pod gone")


def test_deleting_while_a_plain_post_waits_ends_that_post(world: World) -> None:
    """Whoever waits for the start is told that it was cancelled, and waits no longer."""

    async def scenario() -> int:
        posted = asyncio.ensure_future(world.ask("POST", "/api/kernels", {"name": "slow"}))
        while not (found := await kernels(world)):
            await asyncio.sleep(0.05)
        await world.server.request("DELETE", f"/elastic/api/kernels/{found[0]['kernel_id']}")
        return (await posted).status

    # With pending kernels the POST was answered long before.
    assert world.run(scenario()) in (201, 409)


def test_channels_that_are_opened_while_it_starts_open_when_it_runs(world: World) -> None:
    kernel_id = begin(world)

    async def scenario() -> str:
        opening = asyncio.ensure_future(world.server.connect(kernel_id))
        place = f"/elastic/api/kernels/{kernel_id}"
        while (await world.server.request("GET", place))["phase"] != "Starting":
            await asyncio.sleep(0.05)
        assert not opening.done()
        go_on(world)
        channel: Channel = await asyncio.wait_for(opening, 120)
        result = await channel.execute("1 + 1")
        channel.close()
        return result

    assert world.run(scenario()) == "2"
    assert len(world.get("/api/kernels")) == 1
    assert len(only_slow_pod(world)) == 1
    world.delete(f"/api/kernels/{kernel_id}")


def test_channels_of_a_start_that_is_cancelled_do_not_stay_open(world: World) -> None:
    kernel_id = begin(world)

    async def scenario() -> str:
        opening = asyncio.ensure_future(world.server.connect(kernel_id))
        await asyncio.sleep(0.2)  # wherever that finds the opening, the outcome is the same
        await world.server.request("DELETE", f"/api/kernels/{kernel_id}")
        try:
            channel = await asyncio.wait_for(opening, 60)
            while True:
                await asyncio.wait_for(channel.receive(), 60)
        except HTTPClientError:
            return "refused"
        except (ConnectionError, WebSocketClosedError):
            return "closed"

    assert world.run(scenario()) in ("refused", "closed")


def test_many_who_attach_at_once_get_one_kernel(world: World) -> None:
    kernel_id = begin(world)
    paths = [world.notebook(f"many{i}.ipynb") for i in range(4)]

    async def scenario() -> list[str]:
        models = await asyncio.gather(
            *(
                world.server.request("POST", "/api/sessions", world.session(p, {"id": kernel_id}))
                for p in paths
            )
        )
        go_on(world)
        channels = await asyncio.gather(*(world.server.connect(kernel_id) for _ in range(3)))
        values = [await c.execute("__import__('os').getpid()") for c in channels]
        for channel in channels:
            channel.close()
        assert len(set(values)) == 1
        return [model["kernel"]["id"] for model in models]

    assert world.run(scenario()) == [kernel_id] * 4
    assert len(world.get("/api/kernels")) == 1
    assert len(only_slow_pod(world)) == 1
    world.delete(f"/api/kernels/{kernel_id}")
