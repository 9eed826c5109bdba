"""Waiting for a pod to come up: its steps as they happen, and its failure as soon as it is sure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from ...errors import AgentTimeout, ElasticError
from ...model import Pod, PodPhase, Step
from .api import KubeApi
from .facts import container
from .objects import EventObject, PodObject
from .progress import Hindrance, hindrance, steps

LOOK = 1.0
"""Seconds between two looks at a pod's events; only while somebody waits for it."""
LOOK_SOON = 0.1
EVENTS_LATE = 2.0
"""Seconds that events may come later than the status, so that steps are told in their order."""


class Pods(Protocol):
    """What waiting needs of the adapter's view of pods."""

    def pod(self, name: str) -> Pod | None:
        """The pod as last seen."""

    def object(self, name: str) -> PodObject | None:
        """The same as Kubernetes has it."""

    async def changed(self, timeout: float) -> None:
        """Return at the next change of any pod, or after ``timeout`` seconds."""


class _Events(msgspec.Struct):
    items: list[EventObject] = []


class Waiting:
    """See the module.

    Parameters
    ----------
    refused
        Why a pod's agent, which may be up, may not be reached; None: nothing is known.
    """

    def __init__(
        self,
        api: KubeApi,
        pods: Pods,
        refused: Callable[[str], ElasticError | None] = lambda name: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._pods = pods
        self._refused = refused
        self._clock = clock

    async def up(
        self, name: str, timeout: float, tell: Callable[[Step], None] | None
    ) -> Pod | None:
        """The pod once its agent is up; None: not within ``timeout`` seconds.

        Raises
        ------
        ElasticError
            It will not come up, with cause and remedy.
        """
        clock = asyncio.get_running_loop().time
        until, looked = clock() + timeout, clock()
        events: tuple[EventObject, ...] = ()
        told: set[tuple[str, str]] = set()
        started: float | None = None
        hindered: Hindrance | None = None
        while True:
            pod = self._pods.pod(name)
            if pod is None:
                raise AgentTimeout(f"Pod {name} is gone.", "Start a new kernel.")
            up = pod.phase is not PodPhase.WARMING and pod.agent is not None
            refusal = self._refused(name)
            if refusal is not None and not up:
                raise refusal
            obj = self._pods.object(name)
            held = False
            if obj is not None:
                if started is None and container(obj).state.running is not None:
                    started = clock()
                if tell is not None and started is not None and not _tell_all(events):
                    # What happened before it, the image's step, is known by events only.
                    looked, events = clock(), await self.events(name) or events
                    held = not up and not _tell_all(events) and clock() < started + EVENTS_LATE
                for step in steps(obj, events):
                    if held and step.name == "started":
                        continue
                    if tell is not None and (step.name, step.message) not in told:
                        tell(step)
                    told.add((step.name, step.message))
            if up:
                return pod
            if obj is not None:
                hindered = hindrance(obj, events)
                if hindered is not None and hindered.is_hopeless(self._clock()):
                    raise hindered.error
            if pod.phase is PodPhase.GONE:
                raise AgentTimeout(
                    pod.message or f"Pod {name} is gone.",
                    "See the template's image, interpreter and preload list.",
                )
            left = until - clock()
            if left <= 0:
                if hindered is not None:
                    raise hindered.error
                return None
            await self._pods.changed(min(left, LOOK_SOON if held else LOOK))
            if clock() - looked >= LOOK:
                looked = clock()
                events = await self.events(name) or events

    async def events(self, name: str) -> tuple[EventObject, ...]:
        """A pod's events, oldest first; none where they cannot be read."""
        selector = f"involvedObject.kind=Pod,involvedObject.name={name}"
        try:
            answer = await self._api.request(
                "GET", self._api.path("events"), query={"fieldSelector": selector}
            )
        except ElasticError:
            return ()  # the pod's own status says most of it
        found = msgspec.json.decode(answer, type=_Events).items
        return tuple(sorted(found, key=lambda one: int(one.metadata.resource_version or 0)))


def _tell_all(events: tuple[EventObject, ...]) -> bool:
    """Whether events tell what became of the image; none do where they are lost or forbidden."""
    return any(event.reason == "Pulled" for event in events)
