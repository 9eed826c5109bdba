"""What becomes of a pod: pure functions from what was seen to what is to be recorded.

This is the part of a kubelet that decides. An agent writes why it ended; where it could not,
everything in the pod was killed at once (as when a container runs out of memory), and that is
forgiven once.
"""

from __future__ import annotations

import re

import msgspec

from ...agent import protocol
from ...errors import AgentTimeout, BadInterpreter, ElasticError
from ...model import AgentAddress, Kernel, KernelPhase, Pod, PodPhase
from ...resources import show_memory
from .state import PodRecord, Status

_MISSING = re.compile(r"No module named '?(zmq|ipykernel|tornado|jupyter_client)\b")


def observe(pod: Pod, status: Status | None, now: float) -> Pod | None:
    """The pod as the agent's words make it, or None when they change nothing."""
    if status is None or status.phase not in ("warm", "claimed"):
        return None
    if not status.endpoint or not status.public_key or pod.phase is PodPhase.GONE:
        return None
    address = AgentAddress(status.endpoint, status.public_key)
    if pod.phase is PodPhase.WARMING:
        return msgspec.structs.replace(
            pod,
            phase=PodPhase.WARM if pod.kernel_id is None else PodPhase.CLAIMED,
            agent=address,
            overhead=max(0, status.overhead),
            warnings=tuple(status.warnings),
            warm_since=now,
        )
    if pod.agent != address:  # brought back in place
        return msgspec.structs.replace(pod, agent=address)
    return None


def ended(status: Status | None) -> bool:
    """Whether the agent (or its zygote as the witness) wrote that it ended."""
    return status is not None and status.phase == "gone"


def unmourned(kernel: Kernel, pod: Pod) -> bool:
    """Whether a lone client is gone, so that nobody would read why its kernel's pod ended.

    ``Unclaimed``: the client vanished after the pod was made and before it could use it.
    """
    lost = pod.reason in (protocol.CLIENT_GONE, "Unclaimed")
    return kernel.lone and pod.phase is PodPhase.GONE and lost


def abandoned(kernel: Kernel, pod: Pod | None, age: float, now: float, patience: float) -> bool:
    """Whether a lone client has left a kernel's record behind that no pod will serve again.

    ``age`` is how long ago, in seconds, the pod's record was written. A client that lives removes
    the record itself well within ``patience`` seconds; one that was killed in a start never will.
    """
    if not kernel.lone:
        return False
    if pod is not None and pod.phase is PodPhase.GONE:
        return age > patience
    if pod is None or kernel.phase in (KernelPhase.QUEUED, KernelPhase.STARTING):
        return now > kernel.deadline + patience
    return False


def judge(
    record: PodRecord, status: Status | None, *, left: bool, this_boot: bool, log: str
) -> Pod | None:
    """The pod as it is to be recorded once its agent is dead; None: bring the agent back."""
    pod = record.pod
    if status is not None and ended(status):
        return _gone(pod, status.reason or "Ended", status.message or "The pod ended by itself.")
    if not this_boot:
        return _gone(
            pod, "MachineRestarted", "The machine was restarted; the kernel ended with it."
        )
    if pod.phase is PodPhase.WARMING:
        failure = explain_log(pod.name, record.python, log)
        return _gone(pod, failure.reason, str(failure))
    if left:
        return _gone(
            pod,
            "AgentLost",
            "The pod's agent died and left processes behind; they were ended with it.",
        )
    if pod.phase is PodPhase.CLAIMED and pod.restarts == 0:
        return None
    if pod.phase is PodPhase.CLAIMED:
        return _gone(pod, "ContainerKilled", _killed("again", pod, status))
    return _gone(pod, "AgentLost", "Everything in the warm pod was killed.")


def brought_back(pod: Pod, status: Status | None) -> Pod:
    """The pod while its agent comes up again in place."""
    return msgspec.structs.replace(
        pod,
        agent=None,
        restarts=pod.restarts + 1,
        reason="ContainerKilled",
        message=_killed("", pod, status) + " The kernel was started again in the same pod.",
    )


def condemned(pod: Pod, reason: str) -> Pod:
    """A pod that somebody deletes."""
    return _gone(pod, reason or "Deleted", "The pod was deleted.")


def explain_log(pod: str, python: str, log: str) -> ElasticError:
    """Why an agent did not come up, from the last lines of its log."""
    if missing := _MISSING.search(log):
        package = {"zmq": "pyzmq"}.get(missing[1], missing[1])
        return BadInterpreter(
            f"The interpreter {python} has no {package}.",
            f"Install it there: {python} -m pip install pyzmq ipykernel",
            field="interpreter",
        )
    last = "\n".join(log.splitlines()[-10:]).strip()
    return AgentTimeout(
        f"The agent of pod {pod} ended before it was up."
        + (f" Its last words: {last}" if last else " It said nothing."),
        "See the template's interpreter and preload list.",
    )


def _gone(pod: Pod, reason: str, message: str) -> Pod:
    return msgspec.structs.replace(
        pod, phase=PodPhase.GONE, reason=reason, message=message, agent=None
    )


def _killed(again: str, pod: Pod, status: Status | None) -> str:
    text = f"Everything in the pod was killed {again}".strip()
    usage = (status.usage if status else None) or {}
    memory = usage.get("memory_peak") or usage.get("memory")
    if isinstance(memory, (int, float)) and memory > 0:
        text += f"; it had used up to {show_memory(memory)} of {show_memory(pod.resources.memory)}"
    else:
        text += f" (its memory limit: {show_memory(pod.resources.memory)})"
    return text + "."
