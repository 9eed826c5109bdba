"""What can be read off a pod object directly: our labels and annotations, container, sizes.

Annotations may have been written by anybody; nonsense in them reads as if they were missing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...resources import Gpu, Resources
from . import wording
from .manifests import CONTAINER, CPU_OVERHEAD, label
from .objects import Amounts, Condition, ContainerStatus, PodObject


def label_of(obj: PodObject, name: str) -> str:
    """One of our labels; empty when it is missing."""
    return obj.metadata.labels.get(label(name), "")


def annotation(obj: PodObject, name: str) -> str:
    """One of our annotations; empty when it is missing."""
    return obj.metadata.annotations.get(label(name), "")


def decoded(text: str, type_: Any) -> Any:
    """An annotation's JSON; None when it is missing or not of that type."""
    try:
        return msgspec.json.decode(text, type=type_) if text else None
    except (msgspec.DecodeError, UnicodeError):
        return None


def condition(obj: PodObject, name: str) -> Condition | None:
    """The condition of this type."""
    return next((one for one in obj.status.conditions if one.type == name), None)


def container(obj: PodObject) -> ContainerStatus:
    """The status of the kernel's container; an empty one before there is any."""
    statuses = obj.status.container_statuses
    return next((one for one in statuses if one.name == CONTAINER), ContainerStatus())


def image(obj: PodObject) -> str:
    """The image that the container is to run."""
    return next((one.image for one in obj.spec.containers if one.name == CONTAINER), "")


def amounts(obj: PodObject) -> Amounts:
    """Requests and limits of the kernel's container, as the specification has them."""
    wanted = obj.spec.containers
    return next((one.resources for one in wanted if one.name == CONTAINER), Amounts())


def overhead(obj: PodObject) -> int:
    """Bytes of the memory limit that are the agent's."""
    text = annotation(obj, "overhead")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


def asked(obj: PodObject) -> Resources | None:
    """What the kernel's user asked for; None: there is no kernel, or nobody wrote it."""
    read: Resources | None = decoded(annotation(obj, "asked"), Resources)
    return read


def gpu(obj: PodObject) -> Gpu | None:
    """The kernel's GPUs."""
    known = asked(obj)
    return known.gpu if known and known.gpu and known.gpu.count > 0 else None


def granted(obj: PodObject) -> Resources:
    """The limits in the specification, without the agent's overhead."""
    return _without_overhead(amounts(obj), obj)


def enforced(obj: PodObject) -> Resources:
    """The limits that the kubelet says are in force, without the agent's overhead.

    :attr:`Pod.resources` follows the specification; while a resize is under way they differ.
    """
    return _without_overhead(container(obj).resources or amounts(obj), obj)


def mounting(obj: PodObject) -> bool:
    """Whether a node has the pod and waits for what it mounts; or pulls, where none tells apart."""
    scheduled, ready = condition(obj, "PodScheduled"), condition(obj, "PodReadyToStartContainers")
    if scheduled is None or scheduled.status != "True" or (ready and ready.status == "True"):
        return False
    state = container(obj).state
    return state.running is None and state.terminated is None


def unreachable(obj: PodObject) -> bool:
    """Whether the control plane marked the pod because its node went silent.

    A kubelet that says itself that a pod is not ready gives a reason, and says the same of the
    container.
    """
    ready = condition(obj, "Ready")
    return bool(ready and ready.status != "True" and not ready.reason and container(obj).ready)


def _without_overhead(given: Amounts, obj: PodObject) -> Resources:
    return Resources(
        cpu=max(0, wording.read_cpu(given.limits.get("cpu")) - CPU_OVERHEAD),
        memory=max(0, wording.read_memory(given.limits.get("memory")) - overhead(obj)),
        gpu=gpu(obj),
    )
