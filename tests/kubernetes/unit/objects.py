"""Pod objects for tests of the pure modules: a healthy one, and what differs from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from jupyter_elastic.cluster.kubernetes.objects import EventObject, PodObject

MIB = 2**20
GROUP = "elastic.jupyter.org/"
DATA = Path(__file__).with_name("data")
SIZE = {
    "requests": {"cpu": "1", "memory": str(256 * MIB)},
    "limits": {"cpu": "1050m", "memory": str(256 * MIB)},
}
"""1 CPU and 192 MiB for the kernel, 64 MiB for the agent."""


class Sample(NamedTuple):
    """A pod and its events."""

    pod: PodObject
    events: tuple[EventObject, ...]


def pod(
    phase: str = "claimed",
    *,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    metadata: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    container: dict[str, Any] | None = None,
    resources: dict[str, Any] | None = None,
    image: str = "img:1",
) -> PodObject:
    """A pod that runs well; ``status`` and ``container`` (its status) are laid over that."""
    sizes = SIZE if resources is None else resources
    marks = {"template": "t", "hash": "h", "phase": phase}
    if phase == "claimed":
        marks["kernel"] = "k"
    notes = {"version": "7", "overhead": str(64 * MIB), "agent-key": "KEY", **(annotations or {})}
    one = {
        "name": "kernel",
        "ready": True,
        "restartCount": 0,
        "containerID": "containerd://a",
        "state": {"running": {"startedAt": "2026-01-01T00:00:02Z"}},
        "lastState": {},
        "resources": sizes,
        "allocatedResources": sizes["requests"],
        **(container or {}),
    }
    content = {
        "metadata": {
            "name": "p",
            "uid": "u",
            "generation": 3,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {GROUP + key: value for key, value in (marks | (labels or {})).items()},
            "annotations": {GROUP + key: value for key, value in notes.items()},
            **(metadata or {}),
        },
        "spec": {
            "containers": [
                {"name": "helper", "image": "other"},
                {"name": "kernel", "image": image, "resources": sizes},
            ]
        },
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.9",
            "observedGeneration": 3,
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "helper", "restartCount": 9}, one],
            **(status or {}),
        },
    }
    return msgspec.convert(content, PodObject)


def running(restarts: int, last: dict[str, Any] | None = None) -> dict[str, Any]:
    """A container's status after so many restarts."""
    return {"restartCount": restarts, "lastState": {"terminated": last} if last else {}}


def ended(restarts: int = 0, **how: Any) -> dict[str, Any]:
    """A container's status that has just ended."""
    return {"restartCount": restarts, "state": {"terminated": {"exitCode": 137, **how}}}


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    """A container's status that waits."""
    return {"state": {"waiting": {"reason": reason, "message": message}}, **more}


def condition(kind: str, reason: str = "", message: str = "", **more: Any) -> dict[str, Any]:
    """One that holds."""
    return {"type": kind, "status": "True", "reason": reason, "message": message, **more}


def word(reason: str, message: str = "") -> str:
    """A termination message of the agent's."""
    return json.dumps({"reason": reason, "message": message})


def event(reason: str, message: str = "", at: str = "", kind: str = "Normal") -> EventObject:
    """An event about the pod, ``at`` a second of the first minute."""
    time = f"2026-01-01T00:00:{at or '01'}Z"
    return EventObject(
        type=kind, reason=reason, message=message, first_timestamp=time, last_timestamp=time
    )


def samples(topic: str) -> dict[str, Sample]:
    """Pods and their events as a real cluster (1.35) had them, trimmed; from ``data/``."""
    content = json.loads((DATA / f"{topic}.json").read_text("utf-8"))
    return {
        name: Sample(
            msgspec.convert(one["pod"], PodObject),
            msgspec.convert(one["events"], tuple[EventObject, ...]),
        )
        for name, one in content.items()
    }
