"""The plain data that all layers share: template, pod, kernel. No IO, no clock.

Times are seconds since the epoch (UTC). Structs are frozen: a change is a new value made with
``msgspec.structs.replace`` and written by compare-and-swap on ``version``. Those of which there are
thousands refer to nothing that refers back, so the garbage collector need not look at them
(``gc=False``): else each of its rounds keeps the loop for a fifth of a second.
"""

from __future__ import annotations

import hashlib
from enum import Enum
from typing import Any, Literal

import msgspec

from .podoptions import PodOptions
from .resources import Resources

WAITING_FOR_ROOM = "WaitingForRoom"
"""Reason of a kernel whose start waits until there is room for it."""
NODE_UNREACHABLE = "NodeUnreachable"
"""Reason of a pod that goes on, as far as anybody knows: its node does not answer now."""


class PodPhase(str, Enum):
    """``warming -> warm -> claimed -> gone``. A claimed pod never returns to the pool."""

    WARMING = "warming"
    WARM = "warm"
    CLAIMED = "claimed"
    GONE = "gone"


class KernelPhase(str, Enum):
    """Where a kernel is in its life; ``reason`` and ``message`` say why."""

    QUEUED = "Queued"
    STARTING = "Starting"
    RUNNING = "Running"
    MOVING = "Moving"
    STOPPED = "Stopped"
    FAILED = "Failed"


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a template offers of CPU (millicores) or memory (bytes)."""

    minimum: int
    default: int
    maximum: int
    choices: tuple[int, ...] = ()


class GpuRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a template offers of GPUs: the kinds, and how many (0 = none)."""

    kinds: tuple[str, ...] = ()
    default: int = 0
    maximum: int = 0


class Offer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The resources a template offers."""

    cpu: Range
    memory: Range
    gpu: GpuRange = GpuRange()

    def default(self) -> Resources:
        """What a kernel gets that asks for nothing."""
        from .resources import Gpu

        gpu = Gpu(self.gpu.kinds[0], self.gpu.default) if self.gpu.default else None
        return Resources(cpu=self.cpu.default, memory=self.memory.default, gpu=gpu)


class IdlePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the agent ends a kernel by itself. Seconds; 0 means never. Busy is never idle."""

    cull_after: float = 0
    max_age: float = 0
    cull_connected: bool = True


class PoolPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many warm pods are kept, and how long (seconds) one may wait before it is renewed."""

    size: int = 0
    ttl: float = 3600
    predict: bool = False
    """Whether more than ``size`` are kept when starts are expected."""


class Template(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an admin offers. One template = one kernelspec of the same name.

    Exactly one of ``interpreter`` (a Python with ipykernel) and ``argv`` (any kernel; one of the
    words is ``{connection_file}``) says what runs.
    """

    name: str
    display_name: str
    description: str = ""
    icon: str | None = None
    language: str = "python"
    interpreter: str | None = None
    argv: tuple[str, ...] = ()
    interrupt_mode: Literal["signal", "message"] = "signal"
    image: str | None = None
    env: dict[str, str] = {}
    working_directory: str | None = None
    preload: tuple[str, ...] = ()
    resources: Offer
    idle: IdlePolicy = IdlePolicy()
    pool: PoolPolicy = PoolPolicy()
    metadata: dict[str, Any] = {}
    kubernetes: PodOptions | None = None
    """How its pods are made on Kubernetes; of no meaning elsewhere."""

    @property
    def hash(self) -> str:
        """Identifies what a *warm pod* of this template looks like.

        Fields that matter only from the claim on (CPU, memory, idle and pool policy, words for
        people) are left out, so that changing them does not throw warm pods away.
        """
        what: tuple[Any, ...] = (
            self.language,
            self.interpreter,
            self.argv,
            self.image,
            sorted(self.env.items()),
            self.preload,
        )
        if self.kubernetes is not None:
            what = (*what, self.kubernetes)
        gpu = self.resources.default().gpu
        if gpu is not None:
            # Where pods are given GPUs at their creation, a warm one has these and no others.
            what = (*what, gpu)
        text = msgspec.json.encode(what, order="deterministic")
        return hashlib.sha256(text).hexdigest()[:16]


class AgentAddress(msgspec.Struct, gc=False, frozen=True):
    """Where a pod's agent listens, and its public CurveZMQ key (Z85)."""

    endpoint: str
    public_key: str
    incarnation: int = 0
    """How often the agent was brought back in place; a conversation does not outlive it."""


class Pod(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """A sandbox as the cluster sees it now."""

    name: str
    uid: str
    version: str = ""
    template: str
    template_hash: str
    phase: PodPhase = PodPhase.WARMING
    reason: str = ""
    message: str = ""
    created: float
    warm_since: float | None = None
    kernel_id: str | None = None
    node: str = ""
    """Name of the machine it is on; empty as long as that is not known."""
    resources: Resources
    """What is enforced now, without the agent's overhead."""
    overhead: int = 0
    """Bytes that agent, zygote and spare need; added on top of ``resources.memory``."""
    agent: AgentAddress | None = None
    restarts: int = 0
    """How often everything in the pod was killed and the agent brought back in place."""
    warnings: tuple[str, ...] = ()
    gpu_ids: tuple[str, ...] = ()
    """Devices given to this pod at claim, exclusively (local; for ``CUDA_VISIBLE_DEVICES``)."""


AGENT_WARNING = "agent-warning"
"""Name of steps that say what the agent warned of, at the start or later."""


class Step(msgspec.Struct, gc=False, frozen=True):
    """One dated line of a start's progress."""

    time: float
    name: str
    """``queued``, ``blocked`` (what it waits for), ``created``, ``claimed``, ``agent-up``,
    ``warning``, ``kernel-up``, ``failed``, ``agent-warning``; where pods are scheduled also
    ``scheduled``, ``node-coming``, ``image-pulling``, ``image-pulled`` and ``started``."""
    message: str = ""


class Resize(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """How the last resize of a kernel stands. A condition, not a phase."""

    state: Literal["InProgress", "Done", "Refused"]
    reason: str = ""
    message: str = ""
    time: float = 0


class SessionRef(msgspec.Struct, gc=False, frozen=True):
    """A Jupyter session bound to the kernel, so that another server can restore it."""

    id: str
    path: str
    name: str = ""
    type: str = "notebook"


class Kernel(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """The record of a user's kernel. Lives in the cluster, never only in a server."""

    kernel_id: str
    owner: str
    template: str
    version: str = ""
    name: str = ""
    path: str = ""
    resources: Resources
    """What the user asked for; what the kernel gets, or its start fails."""
    actual: Resources | None = None
    """What was last seen to be enforced."""
    phase: KernelPhase = KernelPhase.QUEUED
    reason: str = ""
    message: str = ""
    pod: str | None = None
    start: Literal["warm", "cold"] | None = None
    created: float
    deadline: float = 0
    """Until when the starter must have reached Running; then another may take over."""
    lone: bool = False
    """Started by a client without a server, and ends with it: servers leave its life to that."""
    restarts: int = 0
    resize: Resize | None = None
    steps: tuple[Step, ...] = ()
    sessions: tuple[SessionRef, ...] = ()
    turn: int = 0
    """While its start waits for room: the round in which it is served."""

    def waits_for_room(self, now: float) -> bool:
        """Whether its start waits for room, and whoever waits with it has been heard lately."""
        return self.reason == WAITING_FOR_ROOM and self.phase in _STARTS and now < self.deadline


_STARTS = (KernelPhase.QUEUED, KernelPhase.STARTING, KernelPhase.MOVING)
UNLIMITED = 2**53
"""In a :class:`Capacity`: nobody has set a limit. What JSON's numbers still say exactly."""


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """A quota and what of it is taken. GPUs by kind."""

    total: Resources
    used: Resources
    gpus: dict[str, int] = {}
    gpus_used: dict[str, int] = {}
    counts: dict[str, int] = {}
    """How many there may be of what each pod takes one of, by the quota's name for it: ``pods``."""
    counts_used: dict[str, int] = {}
    cores: int = 0
    """Millicores of the machine, where kernels together may have more of them; 0: they may not."""


class PoolRow(msgspec.Struct, frozen=True, kw_only=True):
    """How the pool of one template stands."""

    template: str
    target: int
    warm: int
    warming: int
    message: str = ""
    """Why there are fewer than there should be."""
    reason: str = ""
    """Why the target is what it is."""
    failures: int = 0
    """Pods that failed one after the other, without a warm one between."""
    retry_at: float = 0
    """Until about when no pod is made, after failures or for want of room; 0: there is no pause."""


class Enforcement(msgspec.Struct, frozen=True, kw_only=True):
    """By what means limits hold here; shown to users, because the weaker ones must be declared."""

    memory: str
    """``cgroup-v2``, ``cgroup-v1``, ``kubelet`` or ``watchdog`` (the agent samples RSS)."""
    cpu: str
    """``cgroup-v2``, ``cgroup-v1``, ``kubelet`` or ``affinity`` (whole cores only)."""
    note: str = ""
