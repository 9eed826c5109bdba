"""What becomes of a pod on Kubernetes: a pure function from the object to our :class:`Pod`.

Labels and annotations say what servers decided (phase, kernel, what was asked for), the status
what the kubelet saw. The counterpart of :mod:`..local.fate`, with the same reasons and words.
Everything comes from the object, so all servers come to the same result, and nothing is kept.

Rules that are not obvious:

* What the agent left as the container's last message is the reason, except ``Terminated``: that
  only says that the pod was told to end, and whoever told it usually wrote why.
* A claimed pod in which everything was killed is forgiven once: the agent comes back in the same
  pod and restores its kernel. The second time the pod is gone, as soon as that is seen: the
  kubelet would wait 10 s and more before it starts the container again.
* A pod that is not claimed is never forgiven, as on one machine. While warming, its image or
  interpreter is broken and would break again; once warm it would carry a restart that its later
  kernel is to have. The pool makes another.
* A pod being deleted is gone at once, though its processes may take their time to end.
* A node that does not answer may come back: a claimed pod on it goes on, with a reason, and a warm
  one is warming until then, so that nobody claims it. When the cluster gives the node up, it
  deletes the pod.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ...errors import (
    AgentFailed,
    BadInterpreter,
    ElasticError,
    Evicted,
    NodeLost,
    NodeShutdown,
    PodFailed,
    Preempted,
    Unschedulable,
)
from ...model import AgentAddress, Pod, PodPhase
from ...resources import Gpu, Resources, show_memory
from . import wording
from .objects import Amounts, Condition, ContainerStatus, PodObject, Terminated, seconds

GROUP = "elastic.jupyter.org/"
"""Prefix of our labels and annotations."""
CONTAINER = "kernel"
"""Name of the container that agent and kernel run in."""
AGENT_PORT = 21000
CPU_OVERHEAD = 50
"""Millicores of the limit that are the agent's; its memory is measured, see ``overhead``."""

_MISSING = re.compile(r"No module named '?(zmq|ipykernel|tornado|jupyter_client)\b")
_NO_PROGRAM = re.compile(
    r"executable file not found|no such file or directory|exec format error|permission denied",
    re.IGNORECASE,
)
_LOW_ON = re.compile(r"low on resource: ([\w-]+)")
_USED = re.compile(r"was using (\w+), request is (\w+)")
_REASON = re.compile(r"[A-Z][A-Za-z0-9]{1,60}")


class _LastWord(msgspec.Struct, frozen=True):
    """What the agent writes as the container's termination message."""

    reason: str
    message: str = ""


class _Gpu(msgspec.Struct, frozen=True):
    kind: str
    count: int


class _Asked(msgspec.Struct, frozen=True):
    """Annotation ``asked``: what the user asked for; millicores and bytes."""

    cpu: int = 0
    memory: int = 0
    gpu: _Gpu | None = None


def pod_from_object(obj: PodObject) -> Pod:
    """The pod as the rest of the project knows it."""
    meta = obj.metadata
    status = container(obj)
    label = meta.labels.get(GROUP + "phase", "")
    claimed = label == PodPhase.CLAIMED.value
    resources, overhead = _resources(obj, claimed), _overhead(obj)
    phase = PodPhase(label) if label in ("warm", "claimed") else PodPhase.WARMING
    reason = message = ""
    if end := _ending(obj, phase, status, resources):
        phase, (reason, message) = PodPhase.GONE, end
    elif unreachable(obj):
        reason, message = (
            "NodeUnreachable",
            (
                "The pod's node does not answer. The kernel may still run there; it is reachable "
                "again when the node is, else the cluster will give it up within minutes."
            ),
        )
    elif claimed and status.restart_count and (killed := status.last_state.terminated):
        reason = "ContainerKilled"
        message = _killed("", killed, resources) + " The kernel was started again in the same pod."
    return Pod(
        name=meta.name,
        uid=meta.uid,
        version=f"{_annotation(obj, 'version') or 0}.{meta.generation}.{status.restart_count}",
        template=meta.labels.get(GROUP + "template", ""),
        template_hash=meta.labels.get(GROUP + "hash", ""),
        phase=phase,
        reason=reason,
        message=message,
        created=seconds(meta.creation_timestamp),
        warm_since=_number(_annotation(obj, "warm-since")),
        kernel_id=meta.labels.get(GROUP + "kernel") or None,
        resources=resources,
        overhead=overhead,
        agent=None if phase is PodPhase.GONE else _agent(obj, status),
        restarts=status.restart_count if claimed else 0,
        warnings=_warnings(obj),
    )


def container(obj: PodObject) -> ContainerStatus:
    """The status of the kernel's container; an empty one before there is any."""
    statuses = obj.status.container_statuses
    return next((one for one in statuses if one.name == CONTAINER), ContainerStatus())


def limits(obj: PodObject) -> Amounts:
    """Requests and limits of the kernel's container, as the specification has them."""
    wanted = obj.spec.containers
    return next((one.resources for one in wanted if one.name == CONTAINER), Amounts())


def in_force(obj: PodObject) -> Resources:
    """What the kubelet says is enforced now, without the agent's overhead.

    :attr:`Pod.resources` follows the specification; while a resize is under way they differ.
    """
    amounts = container(obj).resources or limits(obj)
    return _granted(amounts, obj)


def unreachable(obj: PodObject) -> bool:
    """Whether the control plane marked the pod because its node went silent.

    A kubelet that says itself that a pod is not ready gives a reason, and says the same of the
    container.
    """
    ready = _condition(obj, "Ready")
    return bool(
        ready and ready.status != "True" and not ready.reason and container(obj).state.running
    )


# -- the end ---------------------------------------------------------------------------------


def ending(obj: PodObject) -> ElasticError | None:
    """Why the pod ended or is about to, where that is the cluster's doing; None: it is not.

    Evicted, preempted, its node lost, shut down or refusing it.
    """
    over = obj.status.phase == "Failed" or bool(obj.metadata.deletion_timestamp)
    if not over and obj.status.reason != "NodeLost":
        return None
    status, said = obj.status.reason, obj.status.message
    disruption = _condition(obj, "DisruptionTarget")
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
        return NodeLost(
            "The pod's node cannot be reached, or was told to let its pods go; the kernel ended."
        )
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
    image = next((c.image for c in obj.spec.containers if c.name == CONTAINER), "")
    if missing := _MISSING.search(ended.message):
        package = {"zmq": "pyzmq"}.get(missing[1], missing[1])
        return BadInterpreter(
            f"The image {image} has no {package}.",
            "Build it with: python -m pip install pyzmq ipykernel",
            field="image",
        )
    if ended.reason in ("StartError", "ContainerCannotRun") and _NO_PROGRAM.search(ended.message):
        return no_program(image, ended.message)
    if ended.reason == "OOMKilled":
        memory = wording.read_memory(limits(obj).limits.get("memory"))
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
        + (f" Its last words: {last}" if last else " It said nothing."),
    )


def no_program(image: str, said: str) -> BadInterpreter:
    """The container's program cannot be run: the image has no such Python."""
    program = re.search(r'exec: "([^"]{1,120})"', said)
    name = program[1] if program else "the template's interpreter"
    return BadInterpreter(
        f"The image {image} cannot run {name} ({_cause(said)}).",
        "Name an interpreter in the template that the image has, with pyzmq and ipykernel.",
        field="interpreter",
    )


def _cause(said: str) -> str:
    found = _NO_PROGRAM.search(said)
    return found[0].lower() if found else wording.clip(said, 80)


def _ending(
    obj: PodObject, phase: PodPhase, status: ContainerStatus, resources: Resources
) -> tuple[str, str] | None:
    """Reason and message of a pod that is gone, else None."""
    now, before = status.state.terminated, status.last_state.terminated
    told = _last_word(now) or _last_word(before)
    if told and told.reason != "Terminated":
        return told.reason, told.message or "The pod ended by itself."
    if error := ending(obj):
        return error.reason, str(error)
    if obj.metadata.deletion_timestamp or obj.metadata.labels.get(GROUP + "phase") == "gone":
        reason = _annotation(obj, "reason") or "Deleted"
        return reason, _annotation(obj, "message") or "The pod was deleted."
    if told:
        return told.reason, told.message
    if phase is PodPhase.CLAIMED:
        if status.restart_count >= 2 or (status.restart_count == 1 and not _coming(status)):
            return "ContainerKilled", _killed("again", now or before, resources)
        if now and now.exit_code == 0:
            return "Ended", "The pod ended by itself."
    elif killed := now or (before if status.restart_count or status.state.waiting else None):
        if phase is PodPhase.WARM:
            return "AgentLost", _killed("", killed, resources, "Everything in the warm pod")
        failure = explain_exit(obj, killed)
        return failure.reason, str(failure)
    if obj.status.phase in ("Succeeded", "Failed"):
        said = wording.clip(obj.status.message)
        return obj.status.reason or "Ended", wording.sentence(said or "The pod ended by itself")
    return None


def _coming(status: ContainerStatus) -> bool:
    """Whether a container that was restarted runs, or is on its way to."""
    state = status.state
    if state.waiting is not None:
        return state.waiting.reason != "CrashLoopBackOff"
    return state.terminated is None


def _killed(
    again: str, how: Terminated | None, resources: Resources, what: str = "Everything in the pod"
) -> str:
    cause = ""
    if how and how.reason == "OOMKilled":
        cause = "OOMKilled; "
    elif how and how.exit_code not in (0, 137):
        cause = f"exit code {how.exit_code}; "
    text = f"{what} was killed {again}".strip()
    return f"{text} ({cause}its memory limit: {show_memory(resources.memory)})."


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


# -- reading ---------------------------------------------------------------------------------


def _last_word(ended: Terminated | None) -> _LastWord | None:
    if ended is None or not ended.message.startswith("{"):
        return None
    try:
        word = msgspec.json.decode(ended.message, type=_LastWord)
    except msgspec.DecodeError:
        return None
    return word if _REASON.fullmatch(word.reason) else None


def _condition(obj: PodObject, name: str) -> Condition | None:
    return next((one for one in obj.status.conditions if one.type == name), None)


def _annotation(obj: PodObject, name: str) -> str:
    return obj.metadata.annotations.get(GROUP + name, "")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _overhead(obj: PodObject) -> int:
    text = _annotation(obj, "overhead")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


def _warnings(obj: PodObject) -> tuple[str, ...]:
    return _decoded(_annotation(obj, "warnings"), tuple[str, ...]) or ()


def _decoded(text: str, type_: Any) -> Any:
    """An annotation; None when it is missing or somebody wrote nonsense into it."""
    try:
        return msgspec.json.decode(text, type=type_) if text else None
    except msgspec.DecodeError:
        return None


def _resources(obj: PodObject, claimed: bool) -> Resources:
    asked: _Asked | None = _decoded(_annotation(obj, "asked"), _Asked)
    if claimed:
        return _granted(limits(obj), obj)
    if asked and obj.metadata.labels.get(GROUP + "kernel"):
        return Resources(cpu=asked.cpu, memory=asked.memory, gpu=_gpu(asked))
    requests = limits(obj).requests
    return Resources(
        cpu=wording.read_cpu(requests.get("cpu")),
        memory=wording.read_memory(requests.get("memory")),
        gpu=_gpu(asked),
    )


def _granted(amounts: Amounts, obj: PodObject) -> Resources:
    cpu = wording.read_cpu(amounts.limits.get("cpu"))
    memory = wording.read_memory(amounts.limits.get("memory"))
    return Resources(
        cpu=max(0, cpu - CPU_OVERHEAD),
        memory=max(0, memory - _overhead(obj)),
        gpu=_gpu(_decoded(_annotation(obj, "asked"), _Asked)),
    )


def _gpu(asked: _Asked | None) -> Gpu | None:
    gpu = asked.gpu if asked else None
    return Gpu(gpu.kind, gpu.count) if gpu and gpu.count > 0 else None


def _agent(obj: PodObject, status: ContainerStatus) -> AgentAddress | None:
    ip, key = obj.status.pod_ip, _annotation(obj, "agent-key")
    if status.state.running is None or not ip or not key:
        return None
    host = f"[{ip}]" if ":" in ip else ip
    return AgentAddress(f"tcp://{host}:{AGENT_PORT}", key, status.restart_count)
