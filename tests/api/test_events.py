"""Events: what somebody who listens to the server is told, and how often."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from jupyter_events import EventLogger
from msgspec.structs import replace

from jupyter_elastic.api.events import KERNEL_SCHEMA, POOL_SCHEMA, EventBridge, register_events
from jupyter_elastic.model import KernelPhase, PodPhase, Resize, SessionRef

from .conftest import World


class Heard:
    """A listener of all events, validated by their schemas."""

    def __init__(self) -> None:
        self.stream = StringIO()
        self.logger = EventLogger(handlers=[logging.StreamHandler(self.stream)])

    def of(self, schema: str) -> list[dict[str, Any]]:
        events = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [event for event in events if event["__schema__"] == schema]


@pytest.fixture
def heard() -> Iterator[Heard]:
    heard = Heard()
    yield heard
    heard.logger.handlers.clear()


def test_registering_twice_is_no_error() -> None:
    logger = EventLogger()
    register_events(logger)
    register_events(logger)
    assert KERNEL_SCHEMA in logger.schemas
    assert POOL_SCHEMA in logger.schemas


def test_the_life_of_a_kernel_is_told(world: World, heard: Heard) -> None:
    async def scenario() -> None:
        bridge = EventBridge(world.service, heard.logger)
        bridge.open()
        kernel = await world.service.start_kernel("small", {"memory": "2Gi"}, name="n")
        kernel = world.cluster.kernels()[kernel.kernel_id]
        kernel = world.cluster.put_kernel(kernel)  # A new version, and nothing else.
        world.cluster.put_kernel(
            replace(
                kernel,
                phase=KernelPhase.FAILED,
                reason="OutOfMemory",
                message="It needed more than 2 GiB.",
                resize=Resize(state="Done", time=1.0),
            )
        )
        await world.service.stop_kernel(kernel.kernel_id)
        bridge.close()
        await world.service.start_kernel("small")

    asyncio.run(scenario())
    told = heard.of(KERNEL_SCHEMA)
    assert [(event["change"], event["phase"]) for event in told] == [
        ("added", "Starting"),
        ("changed", "Running"),
        ("changed", "Failed"),
        ("removed", "Failed"),
    ]
    assert told[0]["resources"]["memory"] == "2Gi"
    assert told[1]["step"]["name"] == "kernel-up"
    assert (told[2]["reason"], told[2]["message"]) == ("OutOfMemory", "It needed more than 2 GiB.")
    assert told[2]["resize"]["state"] == "Done"
    assert {event["owner"] for event in told} == {"me"}


def test_the_sessions_of_a_kernel_are_told(world: World, heard: Heard) -> None:
    async def scenario() -> None:
        kernel = await world.service.start_kernel("small")
        bridge = EventBridge(world.service, heard.logger)
        bridge.open()
        for path, name in (("work/0-1-2", "a.ipynb"), ("work/a.ipynb", "a.ipynb")):
            kernel = world.cluster.kernels()[kernel.kernel_id]
            world.cluster.put_kernel(replace(kernel, sessions=(SessionRef("s1", path, name),)))
        bridge.close()

    asyncio.run(scenario())
    first, second = heard.of(KERNEL_SCHEMA)
    session = {"id": "s1", "path": "work/0-1-2", "name": "a.ipynb", "type": "notebook"}
    assert first["sessions"] == [session]
    assert second["sessions"] == [session | {"path": "work/a.ipynb"}]


def test_changes_of_the_pool_are_gathered(world: World, heard: Heard) -> None:
    async def scenario() -> None:
        bridge = EventBridge(world.service, heard.logger, pool_delay=0.01)
        bridge.open()
        template = world.service.template("small")
        for _ in range(5):
            pod = await world.cluster.create_pod(template)
            world.cluster.put_pod(replace(pod, phase=PodPhase.WARM))
        await until(lambda: len(heard.of(POOL_SCHEMA)) == 1)
        world.cluster.put_pod(replace(pod, phase=PodPhase.WARM, message="still"))
        await asyncio.sleep(0.05)  # Nothing shall come: no figure changed.
        await world.cluster.delete_pod(pod.name)
        await until(lambda: len(heard.of(POOL_SCHEMA)) == 2)
        await world.cluster.create_pod(template)
        bridge.close()
        bridge.close()
        await asyncio.sleep(0.05)

    asyncio.run(scenario())
    first, second = heard.of(POOL_SCHEMA)
    assert (first["template"], first["warm"], first["warming"]) == ("small", 5, 0)
    assert second["warm"] == 4
    assert isinstance(first["target"], int)


async def until(condition: Any) -> None:
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")
