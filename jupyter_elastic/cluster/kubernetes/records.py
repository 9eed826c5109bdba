"""A ``Kernel`` object as our record, and back. Pure.

What the owner asks for is the object's spec, how it stands its status. Whoever creates the object
to start the kernel itself says until when in the spec, because a new object has no status: without
one it is Starting until that time, and Queued where nobody has promised to start it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ...errors import BadQuantity
from ...model import Kernel, KernelPhase, Resize, SessionRef, Step
from ...podoptions import API_VERSION
from ...resources import Gpu, Resources, parse_cpu, parse_memory
from .manifests import MANAGED_BY
from .objects import CustomObject, seconds

MOST_STEPS, MOST_SESSIONS = 100, 50
"""What the schema of the object has room for."""
LONGEST = {"reason": 1024, "message": 32768, "step": 4096}


def kernel_from_object(obj: CustomObject, default: Resources) -> Kernel:
    """The record. ``default`` fills in what the spec says nothing about."""
    spec, status = obj.spec, obj.status
    promised = seconds(spec.get("deadline"))
    phase = status.get("phase") or ("Starting" if promised else "Queued")
    actual = status.get("actual")
    resize = status.get("resize")
    start = status.get("start")
    return Kernel(
        kernel_id=obj.metadata.name,
        owner=str(spec.get("owner", "")),
        template=str(spec.get("template", "")),
        version=obj.metadata.resource_version,
        name=str(spec.get("name", "")),
        path=str(spec.get("path", "")),
        resources=_resources(spec.get("resources"), default),
        actual=_resources(actual, default) if actual else None,
        phase=KernelPhase(phase),
        reason=str(status.get("reason", "")),
        message=str(status.get("message", "")),
        pod=status.get("pod") or None,
        start=start if start in ("warm", "cold") else None,
        created=seconds(obj.metadata.creation_timestamp),
        deadline=seconds(status.get("deadline")) or promised,
        lone=bool(spec.get("lone")),
        restarts=int(status.get("restarts", 0)),
        turn=int(status.get("turn") or 0),
        resize=_resize(resize) if resize else None,
        steps=tuple(
            Step(seconds(one.get("time")), str(one.get("name", "")), str(one.get("message", "")))
            for one in status.get("steps", ())
        ),
        sessions=tuple(
            SessionRef(
                id=str(one.get("id", "")),
                path=str(one.get("path", "")),
                name=str(one.get("name", "")),
                type=str(one.get("type", "notebook")),
            )
            for one in status.get("sessions", ())
        ),
    )


def make_kernel(kernel: Kernel) -> dict[str, Any]:
    """The object to create for a kernel that its creator is about to start."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Kernel",
        "metadata": {"name": kernel.kernel_id, "labels": MANAGED_BY},
        "spec": {
            "owner": kernel.owner,
            "template": kernel.template,
            **spec_of(kernel),
            **({"lone": True} if kernel.lone else {}),
            **({"deadline": timestamp(kernel.deadline)} if kernel.deadline else {}),
        },
    }


def spec_of(kernel: Kernel) -> dict[str, Any]:
    """The part of the spec that may change."""
    return {
        "name": kernel.name[:200],
        "path": kernel.path[:4096],
        "resources": kernel.resources.to_json(),
    }


def status_of(kernel: Kernel, generation: int) -> dict[str, Any]:
    """The status, whole: what is not there any more is null, as a merge patch removes it."""
    resize = kernel.resize
    return {
        "phase": kernel.phase.value,
        "reason": kernel.reason[: LONGEST["reason"]],
        "message": kernel.message[: LONGEST["message"]],
        "pod": kernel.pod,
        "start": kernel.start,
        "actual": kernel.actual.to_json() if kernel.actual else None,
        "deadline": timestamp(kernel.deadline) if kernel.deadline else None,
        "restarts": kernel.restarts,
        "turn": kernel.turn or None,
        "resize": {
            "state": resize.state,
            "reason": resize.reason[: LONGEST["reason"]],
            "message": resize.message[: LONGEST["message"]],
            "time": timestamp(resize.time),
        }
        if resize
        else None,
        "steps": [
            {
                "time": timestamp(one.time),
                "name": one.name[:63],
                "message": one.message[: LONGEST["step"]],
            }
            for one in kernel.steps[-MOST_STEPS:]
        ],
        "sessions": [
            {"id": one.id, "path": one.path[:4096], "name": one.name[:4096], "type": one.type[:63]}
            for one in kernel.sessions[-MOST_SESSIONS:]
        ],
        "observedGeneration": generation,
    }


def timestamp(when: float) -> str:
    """Seconds since the epoch as RFC 3339."""
    return datetime.fromtimestamp(when, timezone.utc).isoformat(timespec="microseconds")


def _resize(data: Mapping[str, Any]) -> Resize | None:
    state = data.get("state")
    if state not in ("InProgress", "Done", "Refused"):
        return None
    return Resize(
        state=state,
        reason=str(data.get("reason", "")),
        message=str(data.get("message", "")),
        time=seconds(data.get("time")),
    )


def _resources(data: Mapping[str, Any] | None, default: Resources) -> Resources:
    """Quantities of an object; one that cannot be read is as if it were not there."""
    data = data or {}
    gpu = data.get("gpu")
    return Resources(
        cpu=_read(data.get("cpu"), parse_cpu, default.cpu),
        memory=_read(data.get("memory"), parse_memory, default.memory),
        gpu=Gpu(str(gpu.get("kind", "")), int(gpu.get("count", 0))) if gpu else default.gpu,
    )


def _read(value: object, parse: Any, default: int) -> int:
    if value is None:
        return default
    try:
        number: int = parse(value)
    except BadQuantity:
        return default
    return number
