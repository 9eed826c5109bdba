"""What REST, the command line and the Jupyter managers ask of elastic kernels.

One :class:`ElasticService` per process and event loop: it owns the cluster connection, the
templates, the launcher and (in servers) the pool's controller. It holds nothing that must
survive: every record lives in the cluster.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from ..cluster.base import Change, Cluster
from ..errors import (
    BadRequest,
    Conflict,
    ElasticError,
    Forbidden,
    NotRunning,
    ResizeUnsupported,
    StartCancelled,
    UnknownKernel,
)
from ..model import Kernel, KernelPhase, Template
from ..pool.controller import LEASE, PoolController
from ..resources import Resources
from ..templates import Machine, TemplateStore, resolve_wish
from .launcher import Launcher
from .poolsettings import ElasticPool
from .progress import STARTING_PHASES
from .settings import ElasticKernels, ElasticKubernetes, ElasticLocal
from .takeover import Takeover

STOP_GRACE = 5.0
"""Seconds a kernel may run its exit handlers when it is stopped."""


class Host(Protocol):
    """The Jupyter kernel manager of this process, when there is one."""

    async def start_elastic(self, kernel: Kernel, *, wait: bool) -> Kernel:
        """Register the kernel and start it; with ``wait`` return when it runs."""

    async def stop_elastic(self, kernel_id: str) -> None:
        """End an attached kernel or cancel its start."""

    async def replace_elastic(self, kernel_id: str, resources: Resources) -> None:
        """Give an attached kernel a new pod of another size; its variables are lost."""

    def is_attached(self, kernel_id: str) -> bool:
        """Whether the manager holds the kernel."""

    def activity_of(self, kernel_id: str) -> tuple[str, float | None]:
        """Execution state and last activity (seconds since the epoch)."""


class ElasticService:
    """Elastic kernels for one process.

    Parameters
    ----------
    settings, local, kubernetes
        Configured traitlets.
    cluster
        One that is made already, and not yet open; by default the configured one.
    lease
        The lease that whoever keeps the pool must hold.
    spread
        See :class:`~..pool.controller.PoolController`.
    find_specs
        Kernelspecs on this machine, ``{name: {resource_dir, spec}}``, from which templates are
        made when none is configured. Called off the loop's critical path.
    """

    def __init__(
        self,
        settings: ElasticKernels,
        local: ElasticLocal,
        kubernetes: ElasticKubernetes | None = None,
        *,
        cluster: Cluster | None = None,
        lease: str = LEASE,
        spread: float = 0.0,
        find_specs: Callable[[], Mapping[str, Any]] | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        self.settings = settings
        self.local = local
        self.kubernetes = kubernetes or ElasticKubernetes()
        self.log = log or logging.getLogger("jupyter_elastic")
        self.owner: str = settings.owner
        self.cluster: Cluster = cluster or make_cluster(settings, local, self.kubernetes, self.log)
        self.templates = TemplateStore(
            settings.templates,
            # What is installed on this machine says nothing about images.
            find_specs=find_specs if self.cluster.inherits_environment else None,
            log=self.log,
        )
        self.launcher = Launcher(
            self.cluster,
            start_timeout=settings.start_timeout,
            queue_timeout=settings.queue_timeout,
            queue_per_owner=settings.queue_per_owner,
            log=self.log,
        )
        pool = ElasticPool(config=settings.config)
        self.controller = PoolController(
            self.cluster,
            self.templates.all,
            refill_delay=settings.refill_delay,
            pace=pool.pace(),
            # On one machine GPUs are given at the claim, on Kubernetes with the pod.
            foresight=pool.foresight(gives_gpus=not self.cluster.inherits_environment),
            lease=lease,
            spread=spread,
            log=self.log,
        )
        self.controller.owners_shown = pool.metrics_owners
        self.takeover = Takeover(
            self.cluster,
            self.launcher,
            self.controller,
            self.templates.get,
            encrypt=settings.channel_encryption != "disabled",
            require_curve=self.requires_encryption,
            log=self.log,
        )
        self.host: Host | None = None
        self.version = ""
        self._readings: dict[str, tuple[float, float]] = {}
        self._opened = False
        self._disposers: list[Callable[[], None]] = []

    # -- life ------------------------------------------------------------------------------

    async def open(self, *, pool: bool) -> None:
        """Connect to the cluster; with ``pool`` also keep its warm pods.

        Raises
        ------
        Unsupported
            This machine lacks something; the sentence names it.
        """
        if self._opened:
            return
        await self.cluster.open()
        if self.cluster.inherits_environment:
            self.templates.machine = await self._machine()
        self._disposers.append(self.cluster.subscribe(self._take_offered))
        self._take_offered(Change(kind="templates", name=""))
        await self.templates.open()
        self._opened = True
        self._disposers.append(self.cluster.subscribe(self._forget_readings))
        if pool and self.settings.keep_pool:
            self._disposers.append(self.templates.subscribe(self.controller.wake))
            self.controller.start()
            if self.cluster.takes_over:
                self.takeover.start()

    def _take_offered(self, change: Change) -> None:
        if change.kind == "templates":
            offered = self.cluster.offered()
            if offered is not None:
                self.templates.take_live(*offered)
                self.controller.wake()

    def _forget_readings(self, change: Change) -> None:
        if change.kind == "kernel" and change.new is None:
            self._readings.pop(change.name, None)

    async def close(self) -> None:
        """Let go of everything; pods and kernels run on. Idempotent."""
        if not self._opened:
            return
        self._opened = False
        for dispose in self._disposers:
            dispose()
        self._disposers.clear()
        await self.takeover.stop()
        await self.controller.stop()
        await self.launcher.close()
        await self.templates.close()
        await self.cluster.close()

    async def _machine(self) -> Machine:
        """What default templates may offer: this machine, and no more than the quota."""
        capacity = await self.cluster.capacity()
        here = Machine.here(capacity.gpus)
        return msgspec.structs.replace(
            here,
            cpu=min(here.cpu, capacity.total.cpu),
            memory=min(here.memory, capacity.total.memory),
        )

    @property
    def requires_encryption(self) -> bool:
        """Whether kernels whose channels cannot be encrypted are refused."""
        setting = self.settings.channel_encryption
        return setting == "required" or (setting == "auto" and self.cluster.exposed)

    # -- owners ----------------------------------------------------------------------------

    def owner_of(self, user: Any) -> str:
        """The owner behind an authenticated Jupyter user (``handler.current_user``)."""
        if self.settings.owner_from == "identity":
            name = getattr(user, "username", "")
            if not name:
                raise Forbidden(
                    "This server gives kernels to the authenticated user, and there is none.",
                    "Sign in, or set c.ElasticKernels.owner_from = 'server'.",
                )
            return str(name)
        return self.owner

    def is_mine(self, kernel: Kernel) -> bool:
        """Whether this process looks after the kernel."""
        return self.settings.owner_from == "identity" or kernel.owner == self.owner

    # -- templates -------------------------------------------------------------------------

    def template(self, name: str) -> Template:
        """One template. Raises UnknownTemplate."""
        return self.templates.get(name)

    # -- kernels ---------------------------------------------------------------------------

    def draft(
        self,
        template: str,
        resources: Resources | None = None,
        *,
        owner: str | None = None,
        name: str = "",
        path: str = "",
        kernel_id: str | None = None,
    ) -> Kernel:
        """A record, not yet written. Raises BadRequest (no UUID) or UnknownTemplate."""
        offered = self.template(template)
        return Kernel(
            kernel_id=check_kernel_id(kernel_id) if kernel_id else str(uuid.uuid4()),
            owner=owner or self.owner,
            template=template,
            name=name,
            path=path,
            resources=resources or offered.resources.default(),
            created=time.time(),
        )

    async def start_kernel(
        self,
        template: str,
        wish: dict[str, Any] | None = None,
        *,
        owner: str | None = None,
        name: str = "",
        path: str = "",
        kernel_id: str | None = None,
    ) -> Kernel:
        """Validate, record and begin to start a kernel; returns at once (Queued or Starting).

        Raises
        ------
        BadRequest, OutOfRange, NoGpu, UnknownTemplate, KernelExists
            Nothing was started.
        """
        if self.host is None:
            raise BadRequest("Kernels can be started only through a Jupyter server here.")
        resources = resolve_wish(self.template(template), wish)
        kernel = self.draft(
            template, resources, owner=owner, name=name, path=path, kernel_id=kernel_id
        )
        return await self.host.start_elastic(kernel, wait=False)

    async def record_lone(
        self, kernel_id: str, template: str, wish: dict[str, Any] | None
    ) -> Kernel:
        """Write the record of a kernel that a lone client starts."""
        resources = resolve_wish(self.template(template), wish)
        kernel = self.draft(template, resources, kernel_id=kernel_id)
        return await self.launcher.record(replace(kernel, lone=True))

    async def wait_running(self, kernel_id: str) -> Kernel:
        """Return once the kernel is Running.

        Raises
        ------
        ElasticError
            The start failed (same reason and sentence) or the kernel was deleted.
        """
        async for _ in self.launcher.progress.follow(kernel_id):
            pass
        kernel = self.cluster.kernels().get(kernel_id)
        if kernel is None:
            raise StartCancelled(f"Kernel {kernel_id} was deleted while it started.")
        if kernel.phase is not KernelPhase.RUNNING:
            raise Recorded(kernel)
        return kernel

    def kernels_of(self, owner: str | None) -> list[Kernel]:
        """The owner's kernels, newest first; None: everybody's."""
        mine = [k for k in self.cluster.kernels().values() if owner in (None, k.owner)]
        return sorted(mine, key=lambda k: k.created, reverse=True)

    def kernel_of(self, owner: str, kernel_id: str) -> Kernel:
        """One kernel of the owner. Raises UnknownKernel (also for somebody else's)."""
        kernel = self.cluster.kernels().get(kernel_id)
        if kernel is None or kernel.owner != owner:
            raise UnknownKernel(f"You have no kernel {kernel_id}.")
        return kernel

    async def change_kernel(
        self,
        kernel_id: str,
        *,
        wish: dict[str, Any] | None = None,
        name: str | None = None,
        replace_pod: bool = False,
    ) -> Kernel:
        """Resize and/or rename.

        With ``replace_pod`` the kernel gets another pod of that size, which can have other GPUs
        and be on another node, and loses its variables; whoever asks must know.

        Raises
        ------
        OutOfRange, BadQuantity, QuotaFull, ShrinkUnderUse, ResizeUnsupported, NoNodeFits,
        NotRunning
            Nothing was changed.
        """
        await self.launcher.confirmed(kernel_id)
        kernel = self.launcher.records.kernel(kernel_id)
        if wish:
            offered = self.template(kernel.template)
            resources = resolve_wish(offered, wish, kernel.resources)
            if replace_pod:
                kernel = await self._replace_pod(kernel, offered, resources)
            elif resources.gpu != kernel.resources.gpu:
                raise ResizeUnsupported(
                    "GPUs cannot be changed while a kernel runs.",
                    "Move the kernel to another pod with the GPUs you need; that loses its"
                    " variables.",
                    field="gpu",
                )
            else:
                kernel = await self.launcher.running.resize(kernel_id, resources)
        if name is not None:
            kernel = await self.launcher.records.update(kernel_id, lambda k: replace(k, name=name))
        return kernel

    async def _replace_pod(
        self, kernel: Kernel, template: Template, resources: Resources
    ) -> Kernel:
        if kernel.phase not in (KernelPhase.RUNNING, KernelPhase.FAILED):
            raise NotRunning(
                f"The kernel is {kernel.phase.value}; it can be moved once it runs.",
                "Wait until it runs.",
            )
        kernel_id = kernel.kernel_id
        if self.host is not None and self.host.is_attached(kernel_id):
            await self.host.replace_elastic(kernel_id, resources)
        else:
            await self.launcher.relaunch(
                kernel, template, self.takeover.args(), resources=resources
            )
        return self.launcher.records.kernel(kernel_id)

    async def stop_kernel(self, kernel_id: str) -> None:
        """End a kernel or cancel its start. Idempotent."""
        if self.host is not None and self.host.is_attached(kernel_id):
            await self.host.stop_elastic(kernel_id)
        else:
            await self.launcher.running.stop(kernel_id, grace=STOP_GRACE)

    async def fail(self, kernel_id: str, reason: str, message: str, *, pod: str = "") -> None:
        """Record that a kernel is Failed, once; no error when it was deleted meanwhile.

        With ``pod`` only if that is still its pod: somebody may be giving it another.
        """

        def failed(kernel: Kernel) -> Kernel:
            if kernel.phase is KernelPhase.FAILED or (pod and kernel.pod != pod):
                return kernel
            return replace(kernel, phase=KernelPhase.FAILED, reason=reason, message=message)

        with contextlib.suppress(Conflict, StartCancelled):
            await self.launcher.records.update(kernel_id, failed)

    async def usage(self, kernel_id: str) -> dict[str, Any]:
        """The ``Usage`` schema of the OpenAPI document."""
        agent = await self.launcher.running.agent_of(kernel_id)
        reading = await agent.call("usage", timeout=5)
        now, seconds = float(reading["time"]), float(reading["cpu_seconds"])
        before = self._readings.get(kernel_id)
        cpu: float | None = None
        if before is not None and now > before[0] and seconds >= before[1]:
            cpu = round((seconds - before[1]) / (now - before[0]), 4)
        if before is None or now - before[0] > 0.2:
            self._readings[kernel_id] = (now, seconds)
        millis = reading.get("cpu_limit")
        return {
            **{k: v for k, v in reading.items() if k not in ("v", "id", "ok")},
            "cpu": cpu,
            "cpu_limit": None if millis is None else millis / 1000,
        }

    async def keepalive(self, kernel_id: str) -> None:
        """Restart the kernel's idle clock."""
        agent = await self.launcher.running.agent_of(kernel_id)
        await agent.call("keepalive", timeout=5)

    def activity(self, kernel_id: str) -> tuple[str, float | None, bool]:
        """(execution_state, last_activity, attached) as this process knows it."""
        kernel = self.cluster.kernels().get(kernel_id)
        if kernel is not None and kernel.phase is KernelPhase.FAILED:
            state: str = "dead"
        elif kernel is not None and kernel.phase in STARTING_PHASES:
            state = "starting"
        else:
            state = "unknown"
        if self.host is not None and self.host.is_attached(kernel_id):
            known, when = self.host.activity_of(kernel_id)
            return (known if state == "unknown" else state), when, True
        return state, None, False

    # -- pool ------------------------------------------------------------------------------

    def pool_targets(self) -> dict[str, int]:
        """Warm pods wanted per template."""
        return self.controller.targets()

    def pool_messages(self) -> dict[str, str]:
        """Per template, why its target is not met (absent when it is)."""
        return dict(self.controller.messages)

    def pool_reasons(self) -> dict[str, str]:
        """Per template, why its target is what it is, as far as this process can tell."""
        return self.controller.reasons()

    def pool_starts(self) -> dict[str, tuple[int, int]]:
        """Per template, starts seen that found a warm pod, and those that found none."""
        return self.controller.starts()

    @property
    def is_controller(self) -> bool:
        """Whether this process keeps the pool now."""
        return self.controller.leading


class Recorded(ElasticError):
    """The failure that a kernel's record tells of, raised again in another process."""

    status = 502

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel.message or f"The kernel is {kernel.phase.value}.")
        self.reason = kernel.reason or "StartFailed"  # type: ignore[misc]


def check_kernel_id(kernel_id: str) -> str:
    """The id in canonical form. Raises BadRequest when it is no UUID."""
    try:
        canonical = str(uuid.UUID(kernel_id))
    except (ValueError, AttributeError, TypeError):
        canonical = ""
    if canonical != str(kernel_id).lower():
        raise BadRequest(
            f"kernel_id: {str(kernel_id)[:60]!r} is no UUID.",
            "Leave it out to get a new one.",
            field="kernel_id",
        )
    return canonical


def make_cluster(
    settings: ElasticKernels,
    local: ElasticLocal,
    kubernetes: ElasticKubernetes,
    log: logging.Logger,
) -> Cluster:
    """The configured cluster, not yet open."""
    if settings.cluster == "kubernetes":
        from ..cluster.kubernetes import KubernetesCluster

        return KubernetesCluster(**kubernetes.options(), log=log)
    from ..cluster.local import LocalCluster

    return LocalCluster(**local.options(), log=log)
