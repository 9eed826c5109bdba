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
* A pod that no node takes is warming, with that for a reason: the scheduler goes on trying.
* A node that does not answer may come back: a claimed pod on it goes on, with a reason, and a warm
  one is warming until then, so that nobody claims it. When the cluster gives the node up, it
  deletes the pod.
"""

from __future__ import annotations

import math

from ...errors import Unschedulable
from ...model import NODE_UNREACHABLE, AgentAddress, Pod, PodPhase
from ...resources import Resources
from . import wording
from .ending import ending, killed
from .facts import (
    amounts,
    annotation,
    asked,
    condition,
    container,
    decoded,
    enforced,
    gpu,
    granted,
    label_of,
    overhead,
    unreachable,
)
from .manifests import AGENT_PORT, CPU_OVERHEAD
from .objects import ContainerStatus, PodObject, seconds
from .obstacles import unschedulable

__all__ = ["CPU_OVERHEAD", "enforced", "pod_from_object"]


def pod_from_object(obj: PodObject) -> Pod:
    """The pod as the rest of the project knows it."""
    meta = obj.metadata
    status = container(obj)
    mark = label_of(obj, "phase")
    claimed = mark == PodPhase.CLAIMED.value
    phase = PodPhase(mark) if mark in ("warm", "claimed") else PodPhase.WARMING
    reason = message = ""
    if end := ending(obj):
        phase, reason, message = PodPhase.GONE, end.reason, end.message
    elif unreachable(obj):
        phase = phase if claimed else PodPhase.WARMING
        reason = NODE_UNREACHABLE
        message = (
            "The pod's node does not answer. What runs there may still run, and is reachable again "
            "when the node is; else the cluster will give it up within minutes."
        )
    elif phase is PodPhase.WARMING and (waits := _waits_for_node(obj)):
        reason, message = waits.reason, str(waits)
    elif claimed and status.restart_count and (how := status.last_state.terminated):
        reason = "ContainerKilled"
        message = killed("", how, obj) + " The kernel was started again in the same pod."
    return Pod(
        name=meta.name,
        uid=meta.uid,
        version=f"{annotation(obj, 'version') or 0}.{meta.generation}.{status.restart_count}",
        template=label_of(obj, "template"),
        template_hash=label_of(obj, "hash"),
        phase=phase,
        reason=reason,
        message=message,
        created=seconds(meta.creation_timestamp),
        warm_since=_number(annotation(obj, "warm-since")),
        kernel_id=label_of(obj, "kernel") or None,
        node=obj.spec.node_name,
        resources=_resources(obj, claimed),
        overhead=overhead(obj),
        agent=None if phase is PodPhase.GONE else _agent(obj, status),
        restarts=status.restart_count if claimed else 0,
        warnings=_warnings(obj),
    )


def _waits_for_node(obj: PodObject) -> Unschedulable | None:
    """What the scheduler said when it found no node for the pod; it tries again."""
    scheduled = condition(obj, "PodScheduled")
    if scheduled is None or scheduled.status != "False":
        return None
    return unschedulable(obj, scheduled.message)


def _resources(obj: PodObject, claimed: bool) -> Resources:
    if claimed:
        return granted(obj)
    wish = asked(obj)
    if wish is not None and label_of(obj, "kernel"):
        return wish
    requests = amounts(obj).requests
    return Resources(
        cpu=wording.read_cpu(requests.get("cpu")),
        memory=wording.read_memory(requests.get("memory")),
        gpu=gpu(obj),
    )


def _agent(obj: PodObject, status: ContainerStatus) -> AgentAddress | None:
    ip, key = obj.status.pod_ip, annotation(obj, "agent-key")
    if status.state.running is None or not ip or not key:
        return None
    host = f"[{ip}]" if ":" in ip else ip
    return AgentAddress(f"tcp://{host}:{AGENT_PORT}", key, status.restart_count)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _warnings(obj: PodObject) -> tuple[str, ...]:
    return decoded(annotation(obj, "warnings"), tuple[str, ...]) or ()
