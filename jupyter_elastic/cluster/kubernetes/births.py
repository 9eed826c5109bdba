"""How a pod comes into the world: its objects, and the moment when its agent is up.

Nothing in a pod may speak to the API (it has no token). So a server that created a pod waits for
its agent, asks it what it needs, and writes that and the new phase on the pod; should that server
vanish, whoever holds the pool's lease does it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec
import zmq

from ...errors import (
    AgentUnreachable,
    BadTemplate,
    Conflict,
    ElasticError,
    Forbidden,
    Gone,
)
from ...model import Kernel, Pod, PodPhase, Template
from ...podoptions import PodOptions
from . import manifests
from .agentmap import AgentMap
from .api import KubeApi
from .creation import Creator
from .facts import mounting
from .manifests import label
from .objects import PodObject
from .talks import ClientKeys, Talks

HELLO_WAIT = 20.0
"""Seconds a pod's agent is asked to answer within, again and again, while it warms."""
MAP_TRUSTED = 5.0
"""Seconds for which the agent's code is believed to be there while a pod waits for its mounts."""
COLD_TIMEOUT = 300.0
"""Seconds within which a pod born for a kernel must get it, else it ends."""
WARM_PATIENCE = 1.5
"""Of a template's ``ttl``: how long a warm pod waits when nobody renews it, then it ends."""


class Pods(Protocol):
    """What births need of the adapter's view of pods."""

    @property
    def pods(self) -> Mapping[str, Pod]:
        """All pods by name."""

    def pod(self, name: str) -> Pod | None:
        """The pod as last seen."""

    def object(self, name: str) -> PodObject | None:
        """The same as Kubernetes has it."""

    def took(self, answer: bytes) -> Pod:
        """Take the answer to a write of ours into the view."""

    async def patch(self, pod: Pod, change: dict[str, Any]) -> Pod:
        """Patch a pod if nobody but the kubelet has changed it. Raises Conflict or Gone."""

    async def changed(self, timeout: float) -> None:
        """Return at the next change of any pod, or after ``timeout`` seconds."""


Resize = Callable[[Pod, int], Awaitable[Pod]]
"""Gives a pod that is born for a kernel its size with this overhead, and returns it in force."""


class Births:
    """See the module."""

    def __init__(
        self,
        api: KubeApi,
        pods: Pods,
        talks: Talks,
        resize: Resize,
        creator: Creator,
        image: str,
        log: logging.Logger,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._creator = creator
        self._pods = pods
        self._talks = talks
        self._resize = resize
        self._clock = clock
        self._image = image
        self._log = log
        self._agent_map = AgentMap(api, creator)
        self._nursed: dict[str, asyncio.Task[None]] = {}
        self._unreachable: dict[str, Forbidden] = {}

    async def close(self) -> None:
        """Stop waiting for agents."""
        tasks = tuple(self._nursed.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- objects ---------------------------------------------------------------------------

    async def create(
        self, name: str, template: Template, kernel: Kernel | None, owner: dict[str, Any] | None
    ) -> Pod:
        """Create a pod with its Secret, and begin to wait for its agent.

        Raises
        ------
        BadTemplate
            There is no image to run.
        ElasticError
            The API refused; nothing is left.
        """
        image = template.image or self._image
        if not image:
            raise BadTemplate(
                f"Template {template.name!r} names no image.",
                "Give it an image with Python, pyzmq and ipykernel, or set "
                "c.ElasticKubernetes.image.",
                field="image",
            )
        agent_map = await self._agent_map.ensure()
        if kernel is not None:
            await self._ensure_claim(template, kernel)
        agent_public, agent_secret = (key.decode() for key in zmq.curve_keypair())
        public, secret = (key.decode() for key in zmq.curve_keypair())
        manifest = manifests.make_pod(
            name,
            template,
            image=image,
            agent_map=agent_map,
            agent_key=agent_public,
            owner=owner,
            kernel=kernel,
            overhead=manifests.cold_overhead(template, self._pods.pods.values()),
        )
        timeout = COLD_TIMEOUT if kernel else WARM_PATIENCE * template.pool.ttl
        config = manifests.make_config(
            name, template, cold=kernel.resources if kernel else None, warm_timeout=timeout
        )
        self._talks.know(name, ClientKeys(public, secret))
        pod = self._pods.took(await self._creator.create(self._api.path("pods"), manifest))
        keys = {
            "secret_key": agent_secret,
            "public_key": agent_public,
            "client_keys": [public],
        }
        client = {"public_key": public, "secret_key": secret}
        body = manifests.make_secret(name, pod.uid, config, keys, client)
        try:
            await self._creator.ensure(self._api.path("secrets"), body)
        except BaseException:
            await asyncio.shield(self._forget(name))
            raise
        self.nurse(name)
        return pod

    async def _forget(self, name: str) -> None:
        try:
            await self._api.request(
                "DELETE", self._api.path("pods", name), query={"gracePeriodSeconds": "0"}
            )
        except ElasticError as error:
            self._log.warning("Pod %s could not be taken back: %s", name, error)

    async def _ensure_claim(self, template: Template, kernel: Kernel) -> None:
        """Have the owner's volume, where the template makes one for each owner."""
        body = manifests.make_claim(template.kubernetes or PodOptions(), kernel.owner)
        if body is not None:
            await self._creator.ensure(self._api.path("persistentvolumeclaims"), body)

    # -- until the agent is up -------------------------------------------------------------

    def nurse(self, name: str) -> None:
        """See a warming pod through until its agent is up; idempotent."""
        if name not in self._nursed:
            task = asyncio.ensure_future(self._nurse(name))
            self._nursed[name] = task
            task.add_done_callback(lambda _: self._forget_nursed(name))

    def _forget_nursed(self, name: str) -> None:
        self._nursed.pop(name, None)
        self._unreachable.pop(name, None)

    def refusal(self, name: str) -> Forbidden | None:
        """Why the agent of a pod that warms may not be reached; None: it may, or nobody knows."""
        return self._unreachable.get(name)

    async def _nurse(self, name: str) -> None:
        while True:
            pod = self._pods.pod(name)
            if pod is None or pod.phase is not PodPhase.WARMING:
                return
            if pod.agent is None:
                await self._help_mount(name)
                await self._pods.changed(5.0)
                continue
            try:
                hello = await self._greet(pod)
                if hello is not None:
                    await self._promote(pod, hello)
            except (Conflict, Gone):
                await self._pods.changed(1.0)  # it changed meanwhile, or is about to: look again
            except Forbidden as error:
                self._unreachable[name] = error
                await asyncio.sleep(2.0)
            except ElasticError as error:
                self._log.warning("Pod %s is not looked after for now: %s", name, error)
                await asyncio.sleep(2.0)

    async def _help_mount(self, name: str) -> None:
        """Have the agent's code there while a pod waits for what it mounts."""
        obj = self._pods.object(name)
        if obj is None or not mounting(obj):
            return
        try:
            await self._agent_map.ensure(MAP_TRUSTED)
        except ElasticError as error:
            self._log.warning("Pod %s may lack the agent's code: %s", name, error)

    async def _greet(self, pod: Pod) -> dict[str, Any] | None:
        """What the agent says once it no longer warms; None: not yet."""
        agent = await self._talks.dial(pod)
        try:
            hello = await agent.call("hello", timeout=HELLO_WAIT + 2, events=True, wait=HELLO_WAIT)
        except AgentUnreachable:
            return None
        return None if hello["phase"] == "warming" else hello

    async def _promote(self, pod: Pod, hello: dict[str, Any]) -> None:
        overhead = max(0, int(hello["overhead"]))
        phase = PodPhase.WARM
        if pod.kernel_id is not None:
            phase = PodPhase.CLAIMED
            pod, overhead = await self._trim(pod, overhead)
        annotations = {
            label("overhead"): str(overhead),
            label("warm-since"): f"{self._clock():.3f}",
            label("warnings"): msgspec.json.encode(list(hello.get("warnings") or ())).decode(),
        }
        await self._pods.patch(
            pod,
            {"metadata": {"labels": {label("phase"): phase.value}, "annotations": annotations}},
        )

    async def _trim(self, pod: Pod, overhead: int) -> tuple[Pod, int]:
        """Give a pod born for a kernel the size that was asked for, now that the agent's is known.

        Where that cannot be, the pod keeps the overhead that it was born with, if the agent needs
        no more. Else it says so, and the kernel has less than it asked for: whoever starts it asks
        for its size again, and is told why it cannot be.
        """
        try:
            return await self._resize(pod, overhead), overhead
        except (Conflict, Gone):
            raise
        except ElasticError as error:
            self._log.info("Pod %s keeps its first size: %s", pod.name, error)
            return pod, max(overhead, pod.overhead)
