"""Kubernetes objects as far as we read them: msgspec projections, everything else is skipped.

Decoding only what is needed makes a list of thousands of pods a matter of milliseconds. These
structs are for reading; what is written is built by :mod:`.manifests`. Times stay RFC 3339 text
until somebody needs a number (:func:`seconds`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class _Read(msgspec.Struct, gc=False, frozen=True, rename="camel", kw_only=True):
    """Base of all projections: camelCase outside, unknown fields ignored."""


class OwnerReference(_Read, frozen=True):
    """Who an object belongs to; it is deleted with its owner."""

    kind: str = ""
    name: str = ""
    uid: str = ""


class Meta(_Read, frozen=True):
    """``metadata``."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()


class Amounts(_Read, frozen=True):
    """``resources`` of a container: quantities by resource name."""

    requests: dict[str, str] = {}
    limits: dict[str, str] = {}


class Condition(_Read, frozen=True):
    """One entry of ``status.conditions``."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    observed_generation: int | None = None
    last_transition_time: str | None = None


class Waiting(_Read, frozen=True):
    """A container that does not run yet."""

    reason: str = ""
    message: str = ""


class Running(_Read, frozen=True):
    """A container that runs."""

    started_at: str | None = None


class Terminated(_Read, frozen=True):
    """A container that ended."""

    exit_code: int = 0
    signal: int | None = None
    reason: str = ""
    message: str = ""
    finished_at: str | None = None


class ContainerState(_Read, frozen=True):
    """One of the three is there."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(_Read, frozen=True):
    """What the kubelet says of a container."""

    name: str = ""
    ready: bool = False
    restart_count: int = 0
    image: str = ""
    container_id: str = msgspec.field(name="containerID", default="")
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()
    resources: Amounts | None = None
    allocated_resources: dict[str, str] | None = None


class Container(_Read, frozen=True):
    """A container as it is wanted."""

    name: str = ""
    image: str = ""
    resources: Amounts = Amounts()


class PodSpec(_Read, frozen=True):
    """``spec`` of a pod."""

    node_name: str = ""
    priority_class_name: str = ""
    containers: tuple[Container, ...] = ()


class PodStatus(_Read, frozen=True):
    """``status`` of a pod."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class PodObject(_Read, frozen=True):
    """A pod."""

    metadata: Meta = Meta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class EventObject(_Read, frozen=True):
    """An event about a pod (``core/v1``)."""

    metadata: Meta = Meta()
    type: str = ""
    reason: str = ""
    message: str = ""
    count: int | None = None
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    event_time: str | None = None


class ScopeRequirement(_Read, frozen=True):
    """Which pods a ResourceQuota is about."""

    scope_name: str = ""
    operator: str = "Exists"
    values: tuple[str, ...] = ()


class ScopeSelector(_Read, frozen=True):
    """``spec.scopeSelector`` of a ResourceQuota."""

    match_expressions: tuple[ScopeRequirement, ...] = ()


class QuotaSpec(_Read, frozen=True):
    """``spec`` of a ResourceQuota."""

    scopes: tuple[str, ...] = ()
    scope_selector: ScopeSelector = ScopeSelector()


class QuotaStatus(_Read, frozen=True):
    """``status`` of a ResourceQuota."""

    hard: dict[str, str] = {}
    used: dict[str, str] = {}


class QuotaObject(_Read, frozen=True):
    """A ResourceQuota."""

    metadata: Meta = Meta()
    spec: QuotaSpec = QuotaSpec()
    status: QuotaStatus = QuotaStatus()


class CustomObject(_Read, frozen=True):
    """Any of our own resources: spec and status as plain JSON."""

    metadata: Meta = Meta()
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}


class NodeStatus(_Read, frozen=True):
    """``status`` of a node."""

    allocatable: dict[str, str] = {}


class NodeObject(_Read, frozen=True):
    """A node."""

    metadata: Meta = Meta()
    status: NodeStatus = NodeStatus()


def seconds(timestamp: str | None) -> float:
    """RFC 3339 text as seconds since the epoch; 0 when there is none."""
    if not timestamp:
        return 0.0
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()
