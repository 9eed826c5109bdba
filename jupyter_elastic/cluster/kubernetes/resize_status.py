"""What a pod's status says of a resize: the part of :mod:`.resize` that reads the kubelet.

The kubelet reports in pieces. Two conditions say what is wrong (``PodResizePending``,
``PodResizeInProgress``), each with the generation it is about; both are absent before it looked as
well as after it is done. So absence counts only together with ``observedGeneration``, and done is
what the container's status shows. Quantities are compared by value: the kubelet writes "1" for
"1000m".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

import msgspec

from ...errors import (
    ElasticError,
    NoNodeFits,
    ResizeLost,
    ResizeStuck,
    ResizeUnsupported,
    ShrinkUnderUse,
)
from ...resources import show_memory
from ..room import shrink_refusal
from . import wording
from .facts import amounts, container, overhead
from .objects import Amounts, Condition, ContainerStatus, EventObject, PodObject

LEAST_CPU = 10
"""Millicores below which a kernel cannot hold a limit; the kubelet reports this instead."""

_RESIZE_EVENTS = frozenset({"ResizeStarted", "ResizeError", "ResizeCompleted"})
_GENERATION = re.compile(r'"generation":(\d+)')
_NO_FIGURE = re.compile(r"missing (?:pod|container \S+) memory usage")
_UNDER_USE = re.compile(r"memory limit \((\d+)\) below current usage \((\d+)\)")


class State(str, Enum):
    """Where a resize is."""

    ASKED = "Asked"
    """The PATCH is under way."""
    SUBMITTED = "Submitted"
    """The API server accepted it; the kubelet has not looked yet."""
    DEFERRED = "Deferred"
    """The node has no room now. The size counts against the quota all the same."""
    INFEASIBLE = "Infeasible"
    """The node will never have room."""
    IN_PROGRESS = "InProgress"
    """The node has given the room and is changing the limits."""
    BLOCKED = "Blocked"
    """It cannot change them, and tries again."""
    LOST = "Lost"
    """The container was killed meanwhile, and the kernel with it."""
    REVERTING = "Reverting"
    """The old size is being put back."""

    DONE = "Done"
    """In force."""
    UNSUPPORTED = "Unsupported"
    """This cluster cannot resize pods, or not in this way."""
    DENIED = "Denied"
    """The API server refused; nothing was changed."""
    SUPERSEDED = "Superseded"
    """Somebody else asked for another size after us."""
    REVERTED = "Reverted"
    """It failed, and the old size is back."""
    STRANDED = "Stranded"
    """It failed, and the old size could not be put back."""
    GONE = "Gone"
    """The pod ended."""


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """Requests and limits of the kernel's container; millicores and bytes."""

    cpu_request: int
    cpu_limit: int
    memory_request: int
    memory_limit: int


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is waited for, and how to tell that the container is still the same."""

    size: Size
    generation: int = 0
    """``metadata.generation`` after the PATCH."""
    container_id: str = ""
    restart_count: int = 0

    @classmethod
    def before(cls, pod: PodObject, size: Size) -> Wanted:
        """To be completed with the generation that the PATCH's answer has."""
        status = container(pod)
        return cls(
            size=size,
            generation=pod.metadata.generation,
            container_id=status.container_id,
            restart_count=status.restart_count,
        )


class Observation(msgspec.Struct, frozen=True):
    """How a resize stands, a sentence, and the error it amounts to if it stays so."""

    state: State
    message: str
    error: ElasticError | None = None


def observe(want: Wanted, pod: PodObject, events: Sequence[EventObject] = ()) -> Observation:
    """Read a pod's status. Never a state that only our own doing leads to.

    ``events`` may be left out: they tell 12 s sooner that the kubelet cannot lower memory.
    """
    meta, status = pod.metadata, container(pod)
    if meta.deletion_timestamp or pod.status.phase in ("Succeeded", "Failed"):
        return Observation(State.GONE, "The pod ended while it was resized.")
    if lost := _lost(want, status):
        return lost
    if meta.generation < want.generation:
        return _SUBMITTED
    if meta.generation > want.generation and size_of(amounts(pod)) != want.size:
        return Observation(State.SUPERSEDED, "Somebody else asked for another size meanwhile.")
    looked = pod.status.observed_generation
    if pending := _condition(pod, "PodResizePending", want.generation):
        if pending.reason == "Infeasible":
            error = infeasible(pending.message)
            return Observation(State.INFEASIBLE, error.message, error)
        message = _no_room(pending.message, " now")
        return Observation(State.DEFERRED, message, NoNodeFits(message))
    if progress := _condition(pod, "PodResizeInProgress", want.generation):
        if progress.reason == "Error":
            return _blocked(progress.message, pod)
        said = _error_event(events, want.generation)
        return _blocked(said, pod) if said else _IN_PROGRESS
    if looked is not None and looked < want.generation:
        return _SUBMITTED
    if _same(in_force(pod), want.size, status):
        return Observation(State.DONE, "The new size is in force.")
    return _SUBMITTED if looked is None else _IN_PROGRESS


def in_force(pod: PodObject) -> Size:
    """Requests that the node has allocated and limits that it enforces, as the kubelet says."""
    wanted, status = amounts(pod), container(pod)
    actual = status.resources or Amounts()
    allocated = status.allocated_resources or {}
    return size_of(
        Amounts(
            # The requests in ``resources`` are computed back from shares or weights: not exact.
            requests={**wanted.requests, **actual.requests, **allocated},
            limits={**wanted.limits, **actual.limits},
        )
    )


def size_of(given: Amounts) -> Size:
    """Requests and limits as numbers; 0 for what is not there."""
    return Size(
        cpu_request=wording.read_cpu(given.requests.get("cpu")),
        cpu_limit=wording.read_cpu(given.limits.get("cpu")),
        memory_request=wording.read_memory(given.requests.get("memory")),
        memory_limit=wording.read_memory(given.limits.get("memory")),
    )


def same_cpu(one: int, other: int) -> bool:
    """Whether two CPU limits are the same to a kernel."""
    return max(one, LEAST_CPU) == max(other, LEAST_CPU)


def infeasible(said: str) -> ElasticError:
    """The error of a resize that the kubelet calls infeasible."""
    if any(wording.shortages(said)):
        return NoNodeFits(_no_room(said))
    return ResizeUnsupported(
        "The pod's node cannot change this pod while it runs"
        + (f": {wording.clip(said)}." if said else "."),
        "Start a new kernel with that size.",
    )


def blocked(said: str, overhead: int = 0) -> ElasticError:
    """The error of a resize that the kubelet cannot put in force.

    ``overhead`` are the bytes of the figures in it that are the agent's.
    """
    if under := _UNDER_USE.search(said):
        limit, use = (max(0, int(figure) - overhead) for figure in under.groups())
        if use <= limit:  # it has no figure yet of a container that has just started
            return ShrinkUnderUse(
                f"The kernel uses more memory now than the {show_memory(limit)} that were asked"
                " for.",
                "Ask for more, or free memory in the notebook first.",
            )
        return shrink_refusal(use, limit)
    if _NO_FIGURE.search(said):
        return ResizeStuck(
            "The pod's node does not lower the memory, as it has no figure of what is used: it has"
            " none for a while after a container was started, and often none any more once one was"
            " killed and started again in the same pod.",
            "Try again in a minute; if it stays so, move the kernel to another pod.",
        )
    return ResizeStuck(
        "The pod's node accepted the new size, but cannot put it in force"
        + (f": {wording.clip(said)}." if said else ".")
    )


_SUBMITTED = Observation(State.SUBMITTED, "The cluster accepted the size.")
_IN_PROGRESS = Observation(State.IN_PROGRESS, "The pod's node is changing the limits.")


def _blocked(said: str, pod: PodObject) -> Observation:
    error = blocked(said, overhead(pod))
    return Observation(State.BLOCKED, error.message, error)


def _error_event(events: Sequence[EventObject], generation: int) -> str:
    """What the kubelet said last of this resize, if that is an error."""
    last = ""
    # Times are whole seconds: of those in the same one, the last listed is the latest.
    for event in sorted(events, key=lambda one: one.last_timestamp or ""):
        about = _GENERATION.search(event.message)
        if event.reason in _RESIZE_EVENTS and about and int(about[1]) >= generation:
            last = event.message if event.reason == "ResizeError" else ""
    return last


def _lost(want: Wanted, status: ContainerStatus) -> Observation | None:
    ended = status.state.terminated
    other = bool(want.container_id and status.container_id) and (
        status.container_id != want.container_id
    )
    changed = other or status.restart_count > want.restart_count
    if not ended and not changed:
        return None
    how = ended or status.last_state.terminated
    cause = " for want of memory (OOMKilled)" if how and how.reason == "OOMKilled" else ""
    message = f"The kernel was killed{cause} while it was resized."
    return Observation(State.LOST, message, ResizeLost(message))


def _condition(pod: PodObject, name: str, generation: int) -> Condition | None:
    """A condition that is true of ``generation`` or a later one."""
    for one in pod.status.conditions:
        if one.type == name and one.status == "True":
            about = one.observed_generation
            about = pod.status.observed_generation if about is None else about
            return one if about is None or about >= generation else None
    return None


def _no_room(said: str, when: str = "") -> str:
    figures = "; ".join(wording.show_shortage(one) for one in wording.shortages(said))
    if figures:
        return f"The pod's node has no room for the new size{when}: the pod needs {figures}."
    quoted = wording.clip(said)
    return f"The pod's node has no room for the new size{when}" + (
        f": {quoted}." if quoted else "."
    )


def _same(actual: Size, wanted: Size, status: ContainerStatus) -> bool:
    if status.resources is None:
        return False  # a node that says nothing of limits
    limits_same = (
        same_cpu(actual.cpu_limit, wanted.cpu_limit) and actual.memory_limit == wanted.memory_limit
    )
    if status.allocated_resources is None:
        return limits_same
    return (
        limits_same
        and actual.cpu_request == wanted.cpu_request
        and actual.memory_request == wanted.memory_request
    )
