"""Carries a resize out: sends the PATCH, follows the state machine, asks the agent meanwhile.

The kubelet changes the limits a fifth of a second after the PATCH and reports it a second after.
The agent in the pod reads its own control group, so asking it shows the new limits as soon as
they hold.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from ...agent import protocol
from ...errors import ApiUnreachable, ElasticError, Gone, ResizeUnsupported
from ...model import Pod
from ...resources import Resources
from .. import room
from . import manifests
from .api import KubeApi
from .manifests import CONTAINER
from .objects import Amounts, EventObject, PodObject
from .quota import Quota
from .resize import (
    Accepted,
    Action,
    EnforcedByAgent,
    Event,
    GiveUp,
    PodGone,
    Policy,
    Refused,
    Report,
    Resizing,
    Revert,
    Seen,
    Tick,
)
from .resize_status import Size, State, size_of
from .talks import Talks

POLL = 0.05
"""Seconds between two questions to the agent while a resize is young."""
YOUNG = 3.0
"""Seconds until the agent is asked less often."""
POLL_LATER = 0.5
EVENTS_AFTER = 2.0
"""Seconds between two looks at the events of a pod whose new size does not come into force."""

_WORTH_TELLING = frozenset({State.DEFERRED, State.BLOCKED, State.REVERTING})


class Pods(Protocol):
    """What resizes need of the adapter's view of pods."""

    def pod(self, name: str) -> Pod | None:
        """The pod as last seen."""

    def object(self, name: str) -> PodObject | None:
        """The same as Kubernetes has it."""

    async def patch(self, pod: Pod, change: dict[str, Any], *, sub: str = "") -> Pod:
        """Patch a pod if nobody but the kubelet has changed it. Raises Conflict or Gone."""

    async def changed(self, timeout: float) -> None:
        """Return at the next change of any pod, or after ``timeout`` seconds."""


def size_for(resources: Resources, overhead: int) -> Size:
    """Requests and limits for a kernel's resources."""
    return size_of(msgspec.convert(manifests.amounts(resources, overhead), Amounts))


def size_patch(size: Size) -> dict[str, Any]:
    """The strategic merge patch of ``pods/resize``."""
    resources = {
        "requests": {"cpu": f"{size.cpu_request}m", "memory": str(size.memory_request)},
        "limits": {"cpu": f"{size.cpu_limit}m", "memory": str(size.memory_limit)},
    }
    return {"spec": {"containers": [{"name": CONTAINER, "resources": resources}]}}


async def resizes_in_place(api: KubeApi, log: logging.Logger) -> bool:
    """Whether this cluster knows ``pods/resize``; taken for granted where it does not say."""
    try:
        answer = await api.request("GET", "/api/v1")
    except ElasticError as error:
        log.debug("What the API server knows is not to be learnt: %s", error)
        return True
    known = msgspec.json.decode(answer, type=_Resources).resources
    return any(one.name == "pods/resize" for one in known)


class _Resource(msgspec.Struct):
    name: str = ""


class _Resources(msgspec.Struct):
    resources: list[_Resource] = []


class Sizes:
    """See the module.

    Parameters
    ----------
    quota
        Gives warm pods back when there is no room.
    read_events
        Returns a pod's events: the kubelet tells there what goes wrong long before its status does.
    """

    def __init__(
        self,
        pods: Pods,
        talks: Talks,
        policy: Policy,
        quota: Quota,
        read_events: Callable[[str], Awaitable[tuple[EventObject, ...]]],
        log: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pods = pods
        self._talks = talks
        self._policy = policy
        self._quota = quota
        self._read_events = read_events
        self._log = log
        self._clock = clock
        self._causes = itertools.count(1)

    async def resize(
        self,
        pod: Pod,
        resources: Resources,
        *,
        overhead: int | None = None,
        wait: bool = True,
        tell: Callable[[str], None] | None = None,
    ) -> Pod:
        """See :meth:`..base.Cluster.resize_pod`.

        ``overhead`` is the agent's share where the pod does not say it yet.
        """
        obj = self._pods.object(pod.name)
        if obj is None:
            raise Gone(f"Pod {pod.name} is gone.")
        born = overhead is not None
        overhead = pod.overhead if overhead is None else overhead
        if resources.gpu != pod.resources.gpu:
            raise ResizeUnsupported(
                "GPUs cannot be changed while a kernel runs.",
                "Start a new kernel with the GPUs you need.",
                field="gpu",
            )
        same = not born and resources == pod.resources
        if same and not wait:
            return pod
        if wait and not born and resources.memory < pod.resources.memory:
            await self._check_use(pod, resources)
        size = size_for(resources, overhead)
        machine = Resizing(obj, size, self._policy, self._clock())
        if same:
            self._feed(machine, Accepted(cause="asked before", generation=obj.metadata.generation))
        else:
            pod = await self._send(machine, pod, size)
            if not wait:
                return pod
        return await self._follow(machine, pod, resources, tell)

    async def _check_use(self, pod: Pod, resources: Resources) -> None:
        """Refuse to lower memory under its use, with the figures. Raises ShrinkUnderUse."""
        agent = await self._talks.dial(pod)
        answer = await agent.call(protocol.CHECK_SHRINK, memory=resources.memory)
        use = int(answer.get("use", 0))
        if use + room.HEADROOM > resources.memory:
            raise room.shrink_refusal(use, resources.memory)

    async def _send(self, machine: Resizing, pod: Pod, size: Size) -> Pod:
        """Send the PATCH; a full quota is answered with warm pods first."""
        try:
            answer = await self._quota.within(
                lambda: self._pods.patch(pod, size_patch(size), sub="resize")
            )
        except ElasticError as error:
            await self._refuse(machine, pod, error)
            raise
        obj = self._pods.object(pod.name)
        generation = obj.metadata.generation if obj else 0
        self._feed(machine, Accepted(cause=self._cause("patch"), generation=generation))
        return answer

    async def _refuse(self, machine: Resizing, pod: Pod, error: ElasticError) -> None:
        """Raise why the size was not accepted; one that may have been all the same is reverted."""
        certain = not isinstance(error, ApiUnreachable)
        event = Refused(cause=self._cause("patch"), error=error, certain=certain)
        await self._carry_out(machine, pod, list(self._feed(machine, event)), None)

    async def _follow(
        self,
        machine: Resizing,
        pod: Pod,
        resources: Resources,
        tell: Callable[[str], None] | None,
    ) -> Pod:
        begun = self._clock()
        todo: list[Action] = []
        events: tuple[EventObject, ...] = ()
        looked = begun
        while not machine.over:
            now = self._clock()
            young = now - begun < YOUNG
            if machine.state is State.IN_PROGRESS and now - looked >= EVENTS_AFTER:
                events, looked = await self._read_events(pod.name), now
            await self._pods.changed(POLL if young else POLL_LATER)
            obj = self._pods.object(pod.name)
            if obj is None or obj.metadata.uid != pod.uid:
                todo += self._feed(machine, PodGone(cause=self._cause("watch")))
            else:
                todo += self._feed(
                    machine, Seen(cause=self._cause("watch"), pod=obj, events=events)
                )
                if not machine.over and machine.state is not State.REVERTING:
                    todo += await self._ask(machine, pod, resources)
            todo += self._feed(machine, Tick(cause=self._cause("tick")))
            await self._carry_out(machine, pod, todo, tell)
            todo.clear()
        return self._pods.pod(pod.name) or pod

    async def _ask(self, machine: Resizing, pod: Pod, resources: Resources) -> tuple[Action, ...]:
        """What the agent reads in its own group. It is told the limits in the same breath."""
        try:
            agent = await self._talks.dial(pod)
            answer = await agent.call(
                protocol.LIMITS, timeout=5, memory=resources.memory, cpu=resources.cpu
            )
        except ElasticError as error:
            self._log.debug("The agent of pod %s was asked in vain: %s", pod.name, error)
            return ()
        seen = EnforcedByAgent(
            cause=self._cause("agent"),
            memory_limit=answer.get("memory_limit"),
            cpu_limit=answer.get("cpu_limit"),
        )
        return self._feed(machine, seen)

    async def _carry_out(
        self,
        machine: Resizing,
        pod: Pod,
        actions: list[Action],
        tell: Callable[[str], None] | None,
    ) -> None:
        for action in list(actions):
            if isinstance(action, Report):
                if tell is not None and (action.slow or action.state in _WORTH_TELLING):
                    tell(action.message)
            elif isinstance(action, Revert):
                await self._revert(machine, pod, action.to)
            elif isinstance(action, GiveUp):
                raise action.error  # who asked decides whether another pod serves

    async def _revert(self, machine: Resizing, pod: Pod, size: Size) -> None:
        now = self._pods.pod(pod.name) or pod
        event: Event
        try:
            await self._pods.patch(now, size_patch(size), sub="resize")
        except ElasticError as error:
            event = Refused(cause=self._cause("revert"), error=error)
        else:
            obj = self._pods.object(pod.name)
            generation = obj.metadata.generation if obj else 0
            event = Accepted(cause=self._cause("revert"), generation=generation)
        await self._carry_out(machine, pod, list(self._feed(machine, event)), None)

    def _feed(self, machine: Resizing, event: Event) -> tuple[Action, ...]:
        return machine.advance(event, self._clock())

    def _cause(self, what: str) -> str:
        return f"{what} {next(self._causes)}"
