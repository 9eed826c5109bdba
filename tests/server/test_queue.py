"""More starts than there is room for, by several people on one server: each gets its turn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from benchmarks.server import PATIENCE, Server

from .people import CHIEF, NAME
from .world import World, template, templates, world_of

ROOT = str(Path(__file__).parents[2])
CONFIG = (
    templates(
        template("work", resources={"cpu": "100m", "memory": "256Mi"}), template("other", pool=1)
    )
    + """
c.ElasticKernels.owner_from = "identity"
c.ElasticKernels.queue_per_owner = 3
c.ElasticKernels.start_timeout = 90
c.ElasticLocal.memory = "512Mi"
c.ElasticLocal.cpu = "8"
c.ServerApp.identity_provider_class = "tests.server.people.NamedIdentity"
c.ServerApp.authorizer_class = "tests.server.people.ChiefAuthorizer"
"""
)


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    with world_of(CONFIG, PYTHONPATH=ROOT) as world:
        yield world


def as_user(world: World, name: str) -> World:
    """The same server, as somebody else meets it."""
    one = world.server
    other = Server(one.url, one.token, one.process, one.state_dir, one.log)
    other.headers = {**one.headers, NAME: name}
    return World(world.home, world.loop, other, world.mark)


@pytest.fixture
def people(shared: World) -> Iterator[tuple[World, World]]:
    """Ada and Bob; in the end nothing is left."""
    try:
        yield as_user(shared, "ada"), as_user(shared, "bob")
    finally:
        chief = as_user(shared, CHIEF)
        for kernel in chief.get("/elastic/api/kernels?all=1")["kernels"]:
            chief.delete(f"/elastic/api/kernels/{kernel['kernel_id']}")
        chief.assert_nothing_runs()


def begin(world: World, count: int = 1) -> list[str]:
    """Starts at once, in this order."""
    body = {"template": "work"}
    return [world.post("/elastic/api/kernels", body)["kernel_id"] for _ in range(count)]


def waits(world: World, kernel_id: str) -> str:
    """The sentence of a start that waits; empty when it does not."""
    kernel = world.elastic(kernel_id)
    return kernel["message"] if kernel["reason"] == "WaitingForRoom" else ""


def all_wait(world: World, kernel_ids: list[str]) -> None:
    """Return once all of them wait."""
    world.until(lambda: all(waits(world, one) for one in kernel_ids), "they wait")


def full(world: World) -> list[str]:
    """Two kernels that take all the room."""
    running = begin(world, 2)
    for kernel_id in running:
        world.phase(kernel_id, "Running")
    return running


def test_bursts_of_two_people_get_room_in_turn(people: tuple[World, World]) -> None:
    ada, bob = people
    running = full(ada)
    mine = begin(ada, 3)
    all_wait(ada, mine)
    theirs = begin(bob, 2)
    bob.until(lambda: "2nd of 5" in waits(bob, theirs[0]), "behind one of Ada's")
    bob.until(lambda: "4th of 5" in waits(bob, theirs[1]), "behind two of Ada's")
    ada.until(lambda: "1st of 5" in waits(ada, mine[0]), "the others are counted")
    view = ada.elastic(mine[0])
    assert view["phase"] == "Queued"
    assert "256 MiB of memory were asked for" in view["message"]
    progress = ada.get(f"/elastic/api/kernels/{mine[0]}/progress")
    assert not progress["done"]
    assert progress["steps"][-1]["message"] == view["message"]

    # Whenever one ends, the next in order starts, and it alone.
    line = [(ada, mine[0]), (bob, theirs[0]), (ada, mine[1]), (bob, theirs[1]), (ada, mine[2])]
    held = [(ada, kernel_id) for kernel_id in running]
    while line:
        owner, kernel_id = held.pop(0)
        owner.delete(f"/elastic/api/kernels/{kernel_id}")
        owner, kernel_id = line.pop(0)
        owner.phase(kernel_id, "Running")
        for other, behind in line:
            assert other.elastic(behind)["phase"] == "Queued"
        held.append((owner, kernel_id))
    assert bob.execute(theirs[1], "6 * 7") == "42"
    assert ada.execute(mine[2], "6 * 7") == "42"


def test_a_start_that_waits_can_be_cancelled(people: tuple[World, World]) -> None:
    ada, bob = people
    running = full(ada)
    [first], [second] = begin(bob), begin(ada)
    ada.until(lambda: "2nd of 2" in waits(ada, second), "it waits behind Bob's")
    bob.delete(f"/elastic/api/kernels/{first}")
    ada.until(lambda: "1st of 1" in waits(ada, second), "it moved up")
    ada.delete(f"/elastic/api/kernels/{running[0]}")
    ada.phase(second, "Running")
    assert bob.get("/elastic/api/kernels")["kernels"] == []


async def ask(world: World, path: str, body: dict[str, Any]) -> tuple[int, dict[str, str]]:
    """Status and headers of a POST."""
    request = HTTPRequest(
        f"{world.server.url}{path}",
        method="POST",
        headers={**world.server.headers, "Content-Type": "application/json"},
        body=json.dumps(body),
        connect_timeout=PATIENCE,
        request_timeout=PATIENCE,
    )
    response = await AsyncHTTPClient().fetch(request, raise_error=False)
    return response.code, dict(response.headers)


def test_too_many_of_one_owner_are_told_when_to_come_back(people: tuple[World, World]) -> None:
    ada, bob = people
    full(ada)
    mine = begin(ada, 3)
    all_wait(ada, mine)
    problem = ada.refused("POST", "/elastic/api/kernels", {"template": "work"})
    assert (problem["reason"], problem["status"]) == ("QueueFull", 429)
    assert "3 starts of ada" in problem["title"]
    for path, body in (
        ("/elastic/api/kernels", {"template": "work"}),
        ("/api/kernels", {"name": "work"}),
    ):
        status, headers = ada.run(ask(ada, path, body))
        assert status == 429
        assert int(headers["Retry-After"]) > 0
    assert len(ada.get("/elastic/api/kernels")["kernels"]) == 5, "nothing was recorded"
    [theirs] = begin(bob)
    bob.until(lambda: "2nd of 4" in waits(bob, theirs), "Bob may still wait")


def test_a_plain_request_waits_as_well(people: tuple[World, World]) -> None:
    """Jupyter's own API answers when the kernel runs."""
    ada, bob = people
    running = full(ada)

    async def scenario() -> Any:
        asked = asyncio.ensure_future(bob.ask("POST", "/api/kernels", {"name": "work"}))
        while True:
            kernels = (await bob.server.request("GET", "/elastic/api/kernels"))["kernels"]
            if kernels and kernels[0]["reason"] == "WaitingForRoom":
                break
            await asyncio.sleep(0.05)
        await ada.server.request("DELETE", f"/elastic/api/kernels/{running[0]}")
        return await asked

    reply = bob.run(scenario())
    assert reply.status == 201
    assert bob.execute(reply.json["id"], "6 * 7") == "42"
