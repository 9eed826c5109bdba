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
from jupyter_elastic.errors import Forbidden, QuotaFull
from jupyter_elastic.model import Kernel, Pod
from jupyter_elastic.resources import MIB, Resources
from jupyter_elastic.templates.parse import parse_template

from .fakeapi import NAMESPACE, PODS, FakeApi, connected, failure, until
from .objects import pod as pod_object

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
        self.patches: list[dict[str, Any]] = []

    @property
    def pods(self) -> dict[str, Pod]:
        return {name: pod_from_object(obj) for name, obj in self.objects.items()}

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
        self.patches.append(change["metadata"])
        del self.objects[pod.name]  # the end of its nursing
        return pod

    async def changed(self, timeout: float) -> None:
        await asyncio.sleep(0.01)


class Talks:
    """Agents that are up and say how much they need for themselves."""

    overhead = 64 * MIB

    def know(self, pod: str, keys: ClientKeys) -> None:
        pass

    async def dial(self, pod: Pod) -> Any:
        return self

    async def call(self, op: str, **fields: Any) -> dict[str, Any]:
        return {"phase": "claimed", "overhead": self.overhead}


class World:
    def __init__(self, fake: FakeApi, pods: Pods, births: Births, talks: Talks) -> None:
        self.fake, self.pods, self.births, self.talks = fake, pods, births, talks
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
        raise QuotaFull("There is no room.")

    async with connected(folder) as (fake, api):
        log, pods = logging.getLogger("test"), Pods()
        creator = Creator(api, spawn, log)
        talks = Talks()
        spoken: Any = talks
        made = Births(api, pods, spoken, resize, creator, "", log)
        it = World(fake, pods, made, talks)
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


# -- the agent's share -----------------------------------------------------------------------------

KERNEL = Kernel(
    kernel_id="k",
    owner="ada",
    template="work",
    resources=Resources(cpu=1000, memory=1024 * MIB),
    created=0.0,
)


@pytest.mark.parametrize(("needs", "keeps"), [(64, 256), (300, 300)])
async def test_a_pod_that_cannot_be_trimmed_says_what_its_agent_needs(
    tmp_path: Path, needs: int, keeps: int
) -> None:
    """Nobody silently gets less than was asked for."""
    async with world(tmp_path) as it:
        it.talks.overhead = needs * MIB
        pod = await it.births.create("cold", TEMPLATE, KERNEL, None)
        assert pod.overhead == 256 * MIB
        running = {"name": "kernel", "state": {"running": {}}}
        it.pods.shows(pod.name, {"podIP": "10.0.0.9", "containerStatuses": [running]})
        await until(lambda: it.pods.patches, "its phase")
        [patch] = it.pods.patches
        assert patch["annotations"]["elastic.jupyter.org/overhead"] == str(keeps * MIB)
        assert patch["labels"]["elastic.jupyter.org/phase"] == "claimed"


async def test_a_pod_is_born_with_room_for_what_others_of_its_template_needed(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as it:
        notes = {"overhead": str(400 * MIB), "warm-since": "5.0"}
        other = pod_object("warm", annotations=notes, labels={"hash": TEMPLATE.hash})
        it.pods.objects["p"] = other
        pod = await it.births.create("cold", TEMPLATE, KERNEL, None)
        assert pod.overhead == 500 * MIB
        assert pod.resources.memory == KERNEL.resources.memory
