"""Why a pod ended: from the object to a reason, a sentence, and an error for whoever waited.

Sources, in this order: what the agent left as the container's last message; the cluster
(evicted, preempted, node lost ...); whoever deleted the pod, in an annotation; the container's exit
code and last words.
"""

from __future__ import annotations

import re

import msgspec

from ...errors import (
    AgentFailed,
    AgentTimeout,
    BadInterpreter,
    ElasticError,
    Evicted,
    NodeLost,
    NodeShutdown,
    PodFailed,
    Preempted,
    Unschedulable,
)
from ...model import PodPhase
from ...resources import show_memory
from . import wording
from .facts import (
    amounts,
    annotation,
    condition,
    container,
    granted,
    image,
    label_of,
    unreachable,
)
from .objects import ContainerStatus, PodObject, Terminated

_MISSING = re.compile(r"No module named '?(zmq|ipykernel|tornado|jupyter_client)\b")
_NO_PROGRAM = re.compile(
    r"(?:exec: .*|^)"
    r"(?P<cause>executable file not found|no such file or directory|permission denied)"
    r"|(?P<format>exec format error)",
    re.IGNORECASE | re.DOTALL,
)
_LOW_ON = re.compile(r"low on resource: ([\w-]+)")
_USED = re.compile(r"was using (\w+), request is (\w+)")
_REASON = re.compile(r"[A-Z][A-Za-z0-9]{1,60}")


class _LastWord(msgspec.Struct, frozen=True):
    """What the agent writes as the container's termination message."""

    reason: str
    message: str = ""


class Ending(msgspec.Struct, frozen=True):
    """Why a pod is gone, as it is recorded, and as the error of whoever waited for the pod."""

    reason: str
    message: str
    error: ElasticError

    @classmethod
    def by(cls, error: ElasticError) -> Ending:
        """The reason is the error's own."""
        return cls(error.reason, str(error), error)

    @classmethod
    def told(cls, obj: PodObject, reason: str, message: str) -> Ending:
        """The reason is what somebody wrote."""
        name = obj.metadata.name
        text = f"Pod {name} ended before its agent was up ({reason}): {message}"
        return cls(reason, message, AgentTimeout(text, "Try again."))


def ending(obj: PodObject) -> Ending | None:
    """Why the pod is gone; None: it is not."""
    claimed = label_of(obj, "phase") == PodPhase.CLAIMED.value
    status = container(obj)
    now, before = status.state.terminated, status.last_state.terminated
    word = _last_word(now) or _last_word(before)
    if word and word.reason != "Terminated":
        return Ending.told(obj, word.reason, word.message or "The pod ended by itself.")
    if error := ended_by_cluster(obj):
        return Ending.by(error)
    if obj.metadata.deletion_timestamp or label_of(obj, "phase") == "gone":
        reason = annotation(obj, "reason") or "Deleted"
        return Ending.told(obj, reason, annotation(obj, "message") or "The pod was deleted.")
    if word:
        return Ending.told(obj, word.reason, word.message)
    if claimed:
        if status.restart_count >= 2 or (status.restart_count == 1 and not _coming(status)):
            return Ending.told(obj, "ContainerKilled", killed("again", now or before, obj))
        if now and now.exit_code == 0:
            return Ending.told(obj, "Ended", "The pod ended by itself.")
    elif how := now or (before if status.restart_count or status.state.waiting else None):
        if label_of(obj, "phase") == PodPhase.WARM.value:
            return Ending.told(obj, "AgentLost", killed("", how, obj, "the warm pod"))
        return Ending.by(explain_exit(obj, how))
    if obj.status.phase in ("Succeeded", "Failed"):
        said = wording.clip(obj.status.message) or "The pod ended by itself"
        return Ending.told(obj, obj.status.reason or "Ended", wording.sentence(said))
    return None


def ended_by_cluster(obj: PodObject) -> PodFailed | None:
    """Why the pod ended or is about to, where that is the cluster's doing; None: it is not.

    Evicted, preempted, its node lost, shut down or refusing it.
    """
    over = obj.status.phase == "Failed" or bool(obj.metadata.deletion_timestamp)
    if not over and obj.status.reason != "NodeLost":
        return None
    status, said = obj.status.reason, obj.status.message
    disruption = condition(obj, "DisruptionTarget")
    why = disruption.reason if disruption and disruption.status == "True" else ""
    if status == "Evicted":
        return _evicted(said)
    if status in ("Preempting", "Preempted") or why == "PreemptionByScheduler":
        return Preempted("A pod of higher priority took the place of the kernel's pod.")
    if status in ("NodeShutdown", "Shutdown") or (
        status == "Terminated" and "shutdown" in said.lower()
    ):
        return NodeShutdown("The pod's node was shut down, and the kernel ended with it.")
    if status == "NodeLost" or why == "DeletionByPodGC":
        return NodeLost("The pod's node does not exist any more; the kernel is lost with it.")
    if why == "DeletionByTaintManager":
        if unreachable(obj):
            return NodeLost("The pod's node does not answer any more; the kernel is lost with it.")
        return Evicted("The pod's node was told to let its pods go (by a taint).")
    if why == "EvictionByEvictionAPI":
        return Evicted("The pod was evicted, as when its node is emptied for maintenance.")
    if why == "TerminationByKubelet":
        return NodeShutdown("The pod's node ended it, most likely because it shuts down.")
    if status == "DeadlineExceeded":
        return PodFailed(
            "The pod reached the longest time that its cluster lets pods run.",
            "Start a new kernel.",
        )
    if obj.status.phase == "Failed" and status and not obj.status.container_statuses:
        return _refused(status, said)
    return None


def explain_exit(obj: PodObject, ended: Terminated) -> ElasticError:
    """Why a container ended before its agent was up, from exit code and last words."""
    if missing := _MISSING.search(ended.message):
        package = {"zmq": "pyzmq"}.get(missing[1], missing[1])
        return BadInterpreter(
            f"The image {image(obj)} has no {package}.",
            "Build it with: python -m pip install pyzmq ipykernel",
            field="image",
        )
    if ended.reason in ("StartError", "ContainerCannotRun"):
        return explain_start(obj, ended.message)
    if ended.reason == "OOMKilled":
        memory = wording.read_memory(amounts(obj).limits.get("memory"))
        return AgentFailed(
            "The pod ran out of memory before its agent was up (OOMKilled; its memory limit: "
            f"{show_memory(memory)}).",
            "Shorten the template's preload list, or give it more memory.",
        )
    last = wording.last_words(ended.message)
    signal = ended.signal or (ended.exit_code - 128 if 128 < ended.exit_code < 160 else 0)
    how = f"killed by signal {signal}" if signal else f"exit code {ended.exit_code}"
    return AgentFailed(
        f"The agent of pod {obj.metadata.name} ended before it was up ({how})."
        + (f" Its last words: {wording.sentence(last)}" if last else " It said nothing."),
    )


def explain_start(obj: PodObject, said: str) -> BadInterpreter | AgentFailed:
    """Why a container could not even be started; most likely the image has no such Python."""
    if found := _NO_PROGRAM.search(said):
        program = re.search(r'exec: "([^"]{1,120})"', said)
        name = program[1] if program else "the template's interpreter"
        cause = (found["cause"] or found["format"]).lower()
        return BadInterpreter(
            f"The image {image(obj)} cannot run {name} ({cause}).",
            "Name an interpreter in the template that the image has, with pyzmq and ipykernel.",
            field="interpreter",
        )
    quoted = wording.innermost(said)
    return AgentFailed(
        "The pod's container cannot be started" + (f": {quoted}." if quoted else ".")
    )


def _coming(status: ContainerStatus) -> bool:
    """Whether a container that was restarted runs, or is on its way to."""
    state = status.state
    if state.waiting is not None:
        return state.waiting.reason != "CrashLoopBackOff"
    return state.terminated is None


def killed(again: str, how: Terminated | None, obj: PodObject, what: str = "the pod") -> str:
    """Everything in a pod was killed at once; with the limit, and the kernel's word for it."""
    cause = ""
    if how and how.reason == "OOMKilled":
        cause = "OOMKilled; "
    elif how and how.exit_code not in (0, 137):
        cause = f"exit code {how.exit_code}; "
    limit = show_memory(granted(obj).memory)
    text = f"Everything in {what} was killed {again}".strip()
    return f"{text} ({cause}its memory limit: {limit})."


def _evicted(said: str) -> Evicted:
    low = _LOW_ON.search(said)
    if not low:
        quoted = wording.clip(said)
        return Evicted("The node evicted the kernel's pod" + (f": {quoted}." if quoted else "."))
    name = {"memory": "memory", "ephemeral-storage": "disk space", "pids": "processes"}
    text = f"The node ran low on {name.get(low[1], low[1])} and evicted the kernel's pod"
    used = _USED.search(said)
    if used and low[1] in ("memory", "ephemeral-storage"):
        had, asked = (wording.read_memory(used[i]) for i in (1, 2))
        text += f", which used {show_memory(had)}"
        text += f" of {show_memory(asked)} reserved for it" if asked else ""
    return Evicted(text + ".")


def _refused(reason: str, said: str) -> Unschedulable:
    """A kubelet that does not admit a pod which the scheduler sent it (``OutOfcpu`` ...)."""
    figures = [wording.show_shortage(one) for one in wording.shortages(said)]
    detail = "; ".join(figures) or wording.clip(said) or reason
    return Unschedulable(
        f"The node refused the kernel's pod: {detail}.", "Start it again; another node may take it."
    )


def _last_word(ended: Terminated | None) -> _LastWord | None:
    if ended is None or not ended.message.startswith("{"):
        return None
    try:
        word = msgspec.json.decode(ended.message, type=_LastWord)
    except msgspec.DecodeError:
        return None
    return word if _REASON.fullmatch(word.reason) else None
