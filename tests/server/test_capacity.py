"""More starts at once than there is room for: capacity holds, refusals are clear, nothing stays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_elastic.resources import parse_memory

from ..leftovers import pod_cgroups
from .world import Reply, World, template, templates, world_of

ROOM = 10
MEMORY = "256Mi"
CONFIG = (
    templates(
        template(
            "work", resources={"cpu": "100m", "memory": {"default": MEMORY, "maximum": "4Gi"}}
        ),
        # Its warm pods take room too, and must give it up.
        template("other", pool=2),
    )
    + "c.ElasticKernels.queue_timeout = 0\n"  # test_queue.py is about waiting
    + f"c.ElasticLocal.memory = '{ROOM * 256}Mi'\nc.ElasticLocal.cpu = '8'\n"
)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with world_of(CONFIG) as world:
        yield world


async def storm(world: World, count: int) -> list[Reply]:
    """Start ``count`` kernels at once, every other one through Jupyter's own API."""
    return await asyncio.gather(
        *(
            world.ask("POST", "/api/kernels", {"name": "work"})
            if i % 2
            else world.ask("POST", "/elastic/api/kernels", {"template": "work"})
            for i in range(count)
        )
    )


class Samples:
    """What was taken at each moment, by the server's books and by the records on disk."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.memory: list[tuple[int, int]] = []
        self.claimed: list[int] = []

    async def take(self) -> None:
        """One sample."""
        capacity = await self.world.server.request("GET", "/elastic/api/capacity")
        memory = capacity["memory"]
        self.memory.append((parse_memory(memory["used"]), parse_memory(memory["total"])))
        self.claimed.append(sum(1 for pod in records(self.world) if pod.get("kernel_id")))

    async def take_on(self) -> None:
        """Samples until cancelled."""
        while True:
            await self.take()
            await asyncio.sleep(0.05)


def records(world: World) -> list[dict[str, Any]]:
    """The live pods as they are recorded."""
    found = []
    for path in (world.server.state_dir / "pods").glob("*.json"):
        try:
            pod = json.loads(path.read_text())["pod"]
        except FileNotFoundError:
            continue
        if pod.get("phase") != "gone":
            found.append(pod)
    return found


def connection_files(world: World) -> list[Path]:
    """The connection files of the server's kernels."""
    return sorted((world.home / "runtime").glob("kernel-*.json"))


def test_thirty_starts_with_room_for_ten(world: World) -> None:
    world.warm("other", 2)
    samples = Samples(world)

    async def scenario() -> list[Reply]:
        sampling = asyncio.ensure_future(samples.take_on())
        replies = await storm(world, 30)
        while any(
            kernel["phase"] in ("Queued", "Starting")
            for kernel in (await world.server.request("GET", "/elastic/api/kernels"))["kernels"]
        ):
            await asyncio.sleep(0.1)
        sampling.cancel()
        await samples.take()
        return replies

    replies = world.run(scenario(), 240)

    # Never more than the capacity, by the books and on the disk.
    assert all(used <= total for used, total in samples.memory)
    assert max(samples.claimed) == ROOM

    # Whoever did not get a kernel was told so, with figures and what to do.
    kernels = world.get("/elastic/api/kernels")["kernels"]
    running = [kernel for kernel in kernels if kernel["phase"] == "Running"]
    refused = [kernel for kernel in kernels if kernel["phase"] == "Failed"]
    turned_away = [reply for reply in replies if reply.status == 429]
    assert len(running) == ROOM
    assert len(running) + len(refused) + len(turned_away) == 30
    assert {reply.status for reply in replies} <= {201, 202, 429}
    assert {kernel["reason"] for kernel in refused} == {"QuotaFull"}
    sentences = [kernel["message"] for kernel in refused]
    sentences += [reply.json["message"] for reply in turned_away]
    for sentence in sentences:
        assert "256 MiB" in sentence
        assert "2.5 GiB" in sentence
        assert "Stop a kernel" in sentence
    assert all(kernel["pod"] is None for kernel in refused)

    # Those that run, do.
    assert world.execute(running[0]["kernel_id"], "1 + 1") == "2"
    assert world.execute(running[-1]["kernel_id"], "1 + 1") == "2"
    capacity = world.get("/elastic/api/capacity")["memory"]
    assert capacity["free"] == "0"

    # Room that is given back can be had.
    world.delete(f"/elastic/api/kernels/{running[0]['kernel_id']}")
    model = world.post("/api/kernels", {"name": "work"})
    assert world.elastic(model["id"])["phase"] == "Running"

    # And when all is stopped, nothing is left.
    pods = {pod["name"] for pod in records(world) if pod.get("kernel_id")}
    assert len(pods) == ROOM
    groups = {group for group in pod_cgroups() if group.name in pods}
    for kernel in world.get("/elastic/api/kernels")["kernels"]:
        world.delete(f"/elastic/api/kernels/{kernel['kernel_id']}")
    world.assert_nothing_runs()
    assert not pods & set(world.processes())
    assert not {group for group in groups if group.exists()}
    left = {name.removesuffix(".json") for name in world.recorded("pods")}
    assert not pods & left
    assert not pods & set(world.recorded("run"))
    assert connection_files(world) == []


def test_more_than_there_ever_is_room_for(world: World) -> None:
    body = {"template": "work", "resources": {"memory": "3Gi"}}
    kernel_id = world.post("/elastic/api/kernels", body)["kernel_id"]
    kernel = world.phase(kernel_id, "Failed")
    assert kernel["reason"] == "QuotaFull"
    assert "3 GiB" in kernel["message"]
    assert "2.5 GiB" in kernel["message"]
    world.delete(f"/elastic/api/kernels/{kernel_id}")
    world.assert_nothing_runs()


def test_a_session_that_there_is_no_room_for(world: World) -> None:
    """Its status says that it may be asked for again later."""
    path = world.notebook("large.ipynb", {"elastic": {"resources": {"memory": "3Gi"}}})
    reply = world.run(world.ask("POST", "/api/sessions", world.session(path, {"name": "work"})))
    assert reply.status == 429
    assert "3 GiB" in reply.json["message"]
    assert "2.5 GiB" in reply.json["message"]
    world.assert_nothing_runs()


def test_the_pool_comes_back_when_there_is_room_again(world: World) -> None:
    world.warm("other", 2)

    def untroubled() -> bool:
        [row] = [
            one for one in world.get("/elastic/api/pool")["templates"] if one["template"] == "other"
        ]
        return (row["warm"], row["target"]) == (2, 2) and "message" not in row

    world.until(untroubled, "nothing is in its way any more")
    pool = world.get("/elastic/api/pool")
    assert all(pod["kernel_id"] is None for pod in pool["pods"])
