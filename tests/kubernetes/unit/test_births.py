"""What a pod needs besides itself: made with it, and made again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jupyter_elastic.cluster import room
from jupyter_elastic.cluster.kubernetes import agentmap, births
from jupyter_elastic.cluster.kubernetes.agentmap import AgentMap
from jupyter_elastic.cluster.kubernetes.births import Births
from jupyter_elastic.cluster.kubernetes.creation import Creator
from jupyter_elastic.cluster.kubernetes.fate import pod_from_object
from jupyter_elastic.cluster.kubernetes.objects import PodObject
from jupyter_elastic.cluster.kubernetes.talks import ClientKeys
from jupyter_elastic.errors import Forbidden
from jupyter_elastic.model import Pod
from jupyter_elastic.templates.parse import parse_template

from .fakeapi import NAMESPACE, PODS, FakeApi, connected, failure, until

MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"
SIZE = {"cpu": 1, "memory": "1Gi"}
TEMPLATE = parse_template({"name": "work", "image": "img:1", "resources": SIZE})
MOUNTING = {
    "phase": "Pending",
    "conditions": [
        {"type": "PodScheduled", "status": "True"},
        {"type": "PodReadyToStartContainers", "status": "False"},
    ],
}


class Pods:
    """A view of pods that shows what the test says."""

    def __init__(self) -> None:
        self.objects: dict[str, PodObject] = {}

    def pod(self, name: str) -> Pod | None:
        obj = self.objects.get(name)
        return None if obj is None else pod_from_object(obj)

    def object(self, name: str) -> PodObject | None:
        return self.objects.get(name)

    def took(self, answer: bytes) -> Pod:
        obj = msgspec.json.decode(answer, type=PodObject)
        self.objects[obj.metadata.name] = obj
        return pod_from_object(obj)

    def shows(self, name: str, status: dict[str, Any]) -> None:
        content = msgspec.to_builtins(self.objects[name])
        self.objects[name] = msgspec.convert({**content, "status": status}, PodObject)

    async def patch(self, pod: Pod, change: dict[str, Any]) -> Pod:
        raise AssertionError("its agent is not up")

    async def changed(self, timeout: float) -> None:
        await asyncio.sleep(0.01)


class Talks:
    def know(self, pod: str, keys: ClientKeys) -> None:
        pass


class World:
    def __init__(self, fake: FakeApi, pods: Pods, births: Births, tasks: set[Any]) -> None:
        self.fake, self.pods, self.births, self.tasks = fake, pods, births, tasks
        self.now = 1000.0

    async def create(self) -> Pod:
        return await self.births.create(room.make_name(TEMPLATE), TEMPLATE, None, None)

    @property
    def map(self) -> str | None:
        """The path of the ConfigMap that is there."""
        return next((path for path in self.fake.made if path.startswith(MAPS)), None)

    def has_secret(self, pod: str) -> bool:
        return f"{SECRETS}/{pod}" in self.fake.made


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    tasks: set[asyncio.Task[None]] = set()

    def spawn(work: Coroutine[Any, Any, None]) -> None:
        tasks.add(asyncio.ensure_future(work))

    async def resize(pod: Pod, overhead: int) -> Pod:
        raise AssertionError("its agent is not up")

    async with connected(folder) as (fake, api):
        log, pods = logging.getLogger("test"), Pods()
        creator = Creator(api, spawn, log)
        talks: Any = Talks()
        made = Births(api, pods, talks, resize, creator, "", log)
        it = World(fake, pods, made, tasks)
        made._agent_map = AgentMap(api, creator, clock=lambda: it.now)
        try:
            yield it
        finally:
            await made.close()


async def test_a_pod_is_made_with_its_keys_and_the_agents_code(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        pod = await it.create()
        assert it.has_secret(pod.name)
        assert it.map is not None
        [volume] = [
            one
            for one in it.fake.made[f"{PODS}/{pod.name}"]["spec"]["volumes"]
            if "configMap" in one
        ]
        assert it.map == f"{MAPS}/{volume['configMap']['name']}"


async def test_the_agents_code_is_made_again_for_the_next_pod(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        await it.create()
        asked = it.fake.paths.count(f"POST {MAPS}")
        await it.create()
        assert it.fake.paths.count(f"POST {MAPS}") == asked, "it was there a moment ago"
        first = it.map
        assert first is not None
        del it.fake.made[first]
        it.now += agentmap.TRUSTED
        await it.create()
        assert it.map == first


async def test_a_pod_that_waits_for_its_mounts_gets_the_agents_code_again(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        pod = await it.create()
        first = it.map
        assert first is not None
        del it.fake.made[first]
        it.pods.shows(pod.name, MOUNTING)
        it.now += births.MAP_TRUSTED
        await until(lambda: it.map == first, "the config map again")


async def test_a_secret_whose_answer_is_lost_leaves_the_pod(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        proper = it.fake._properly
        it.fake.next.extend([proper, proper, it.fake.lose])  # code, pod, secret
        pod = await it.create()
        assert it.has_secret(pod.name)
        assert f"{PODS}/{pod.name}" in it.fake.made


async def test_a_pod_without_keys_is_taken_back(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        proper = it.fake._properly
        it.fake.next.extend([proper, proper, failure(403, "Forbidden", "no")])
        with pytest.raises(Forbidden):
            await it.create()
        assert not [path for path in it.fake.made if path.startswith(PODS)]


async def test_a_pod_whose_answer_is_lost_is_the_one_that_is_used(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.fake.next.extend([it.fake._properly, it.fake.lose])
        pod = await it.create()
        assert [path for path in it.fake.made if path.startswith(PODS)] == [f"{PODS}/{pod.name}"]
        assert it.has_secret(pod.name)
