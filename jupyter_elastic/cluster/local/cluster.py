"""The local adapter of the port: cache, watch, and the life of pods on this machine.

Servers come and go, and several share one state directory. Whatever is decided is decided by the
:class:`~.ledger.Ledger` under its lock; this class keeps a cache of it, notices changes (its own
at once, others' by their directories' times), and ends what is to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import zmq.asyncio

from ...agent import pack, protocol
from ...errors import AgentTimeout, BadInterpreter, ElasticError, Gone, Unsupported
from ...model import Capacity, Enforcement, Kernel, Pod, PodPhase, PoolRow, Step, Template
from ...resources import Resources
from ...threads import in_thread
from .. import base, room
from ..client import AgentClient
from . import birth, cgroups, machine, quota
from .cache import Cache
from .keeper import Keeper
from .ledger import Ledger, Snapshot, Written
from .state import StateDir
from .watch import Watch

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

SETTLE = 1.0
"""Seconds that opening waits for what ended while nobody looked; mostly none."""
TELL = 5.0
"""Seconds an agent has to take note of new limits."""


class LocalCluster(base.Cluster):
    """Pods are process groups of this machine. See :class:`~..base.Cluster` for the promises.

    Parameters
    ----------
    state_dir
        Where everything is recorded; on a local disk, one per user.
    capacity
        What all kernels together may have. None: the machine's memory less a reserve, and its
        cores times ``cpu_overcommit``.
    cgroup
        ``auto``, ``off``, or a path (see :func:`.cgroups.find`).
    orphan_after
        Seconds after which warm pods end when no server holds a lease.
    warm_timeout
        Seconds within which a pod born for a kernel must get it, else it ends.
    python
        What runs the agent of templates whose kernel is not Python.
    devices
        The GPUs; None: what NVML finds.
    """

    name = "local"
    inherits_environment = True
    lease_valid = math.inf
    """A lock of the operating system: ours until we let it go."""
    lease_look = 1.0

    def __init__(
        self,
        *,
        state_dir: Path,
        capacity: Resources | None = None,
        cpu_overcommit: float = 4.0,
        cgroup: str = "auto",
        orphan_after: float = 300.0,
        warm_timeout: float = 120.0,
        python: str = sys.executable,
        devices: Sequence[machine.Device] | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        self._state = StateDir(Path(state_dir).absolute())
        self._wanted_capacity = capacity
        self._cpu_overcommit = cpu_overcommit
        self._cgroup = str(cgroup)
        self._orphan_after = orphan_after
        self._warm_timeout = warm_timeout
        self._python = python
        self._wanted_devices = devices
        self._log = log or _LOG
        self._cache = Cache(self._follow)
        self._clients: dict[str, AgentClient] = {}
        self._leases: dict[str, int] = {}
        self._note = ""
        self._place: cgroups.Place | None = None
        self._open = False

    # -- life ------------------------------------------------------------------------------

    async def open(self) -> None:
        """See :class:`~..base.Cluster`."""
        if not sys.platform.startswith("linux"):
            raise Unsupported(
                "The local cluster needs Linux (its /proc and process groups); this is"
                f" {sys.platform}.",
                "Run the Jupyter server on Linux, or in a container or virtual machine with it.",
            )
        self._loop = asyncio.get_running_loop()
        self._context = zmq.asyncio.Context()
        self._cache.clear()  # it may have been open before
        # One thread: what it publishes is in the order in which it was written.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="jupyter-elastic-state")
        try:
            self._ledger = await self._do(self._make_ledger)
            self._keeper = Keeper(self._state, self._ledger, self._cache, self._do, self._log)
            self._open = True
            await self._do(self._ledger.scan)
            # Else a process that only looks and goes (the command line) would never see it.
            await self._keeper.settled(SETTLE)
        except BaseException:
            self._open = False
            self._worker.shutdown(wait=False)
            self._context.destroy(linger=0)
            raise
        self._watch = Watch(
            self._state, self._ledger, self._cache, self._keeper, self._do, self._log
        )

    def _make_ledger(self) -> Ledger:
        self._state.prepare()
        self._place, self._note = cgroups.find(self._cgroup)
        self._total = self._wanted_capacity or machine.capacity(self._cpu_overcommit)
        self._cores = machine.cores()
        wanted = self._wanted_devices
        self._devices = tuple(machine.gpus() if wanted is None else wanted)
        outfit = birth.Outfit(
            agent=pack.build(),
            python=self._python,
            place=self._place,
            orphan_after=self._orphan_after,
            warm_timeout=self._warm_timeout,
        )
        return Ledger(self._state, outfit, self._total, self._devices, self._publish)

    async def close(self) -> None:
        """See :class:`~..base.Cluster`."""
        if not self._open:
            return
        self._open = False
        await self._watch.close()
        await self._keeper.close()
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        for name in tuple(self._leases):
            await self.release_lease(name)
        self._worker.shutdown(wait=False)
        self._context.destroy(linger=0)

    async def _do(self, function: Callable[..., _T], *args: Any) -> _T:
        """Run a step of the ledger in its thread; it is done even if the caller is cancelled."""
        return await in_thread(self._worker, function, *args)

    # -- reading ---------------------------------------------------------------------------

    def pods(self) -> Mapping[str, Pod]:
        """See :class:`~..base.Cluster`."""
        return MappingProxyType(self._cache.pods)

    def kernels(self) -> Mapping[str, Kernel]:
        """See :class:`~..base.Cluster`."""
        return MappingProxyType(self._cache.kernels)

    def subscribe(self, listener: base.Listener) -> Callable[[], None]:
        """See :class:`~..base.Cluster`."""
        return self._cache.subscribe(listener)

    async def refresh(self) -> None:
        """See :class:`~..base.Cluster`."""
        await self._do(self._ledger.scan)

    async def capacity(self) -> Capacity:
        """See :class:`~..base.Cluster`."""
        pods = self._cache.pods.values()
        return quota.capacity(self._total, self._devices, pods, self._cores)

    def enforcement(self) -> Enforcement:
        """See :class:`~..base.Cluster`."""
        if self._place is None:
            return Enforcement(
                memory="watchdog",
                cpu="affinity",
                note=f"{self._note} Memory is watched by sampling, so that a fast allocation may"
                " pass the limit for a moment; CPU is limited to whole cores.",
            )
        kind = f"cgroup-v{self._place.version}"
        if self._place.cpu is None:
            return Enforcement(
                memory=kind,
                cpu="affinity",
                note="The CPU controller is not delegated to this user: CPU is limited to whole"
                " cores.",
            )
        return Enforcement(memory=kind, cpu=kind)

    def gpu_kinds(self) -> tuple[str, ...]:
        """See :class:`~..base.Cluster`."""
        return tuple(sorted({device.kind for device in self._devices}))

    # -- pods ------------------------------------------------------------------------------

    async def create_pod(self, template: Template, *, kernel: Kernel | None = None) -> Pod:
        """See :class:`~..base.Cluster`."""
        if kernel is None:
            room.let_kernels_first(self._cache.kernels.values(), time.time())
        record, evicted = await self._do(self._ledger.create, template, kernel)
        self._keeper.finish(evicted)
        return record.pod

    async def wait_pod(
        self, name: str, timeout: float, *, tell: Callable[[Step], None] | None = None
    ) -> Pod:
        """See :class:`~..base.Cluster`. Also raises BadInterpreter when the log shows that."""
        until = self._loop.time() + timeout
        with self._watch.hurry():
            while True:
                pod = self._cache.pods.get(name) or self._cache.endings.get(name)
                if pod is None or pod.phase is PodPhase.GONE:
                    raise self._never_up(name, pod)
                if pod.agent is not None and pod.phase is not PodPhase.WARMING:
                    return pod
                left = until - self._loop.time()
                if left <= 0:
                    break
                await self._cache.next_change(left)
        words = await self.pod_log(name, 10)
        raise AgentTimeout(
            f"The agent of pod {name} was not up within {timeout:g} s."
            + (f" Its last words: {words}" if words else ""),
            "Try again; if it stays so, see the template's preload list and how busy the machine"
            " is.",
        )

    def _never_up(self, name: str, pod: Pod | None) -> AgentTimeout | BadInterpreter:
        if pod is None:
            return AgentTimeout(f"Pod {name} is gone.", "Start a new kernel.")
        kind = BadInterpreter if pod.reason == BadInterpreter.reason else AgentTimeout
        return kind(pod.message, "See the template's interpreter and preload list.")

    async def claim_pod(self, pod: Pod, kernel: Kernel) -> Pod:
        """See :class:`~..base.Cluster`. Also raises QuotaFull and NoGpu for the kernel's GPUs."""
        return (await self._do(self._ledger.claim, pod, kernel)).pod

    async def resize_pod(
        self,
        pod: Pod,
        resources: Resources,
        *,
        wait: bool = True,
        tell: Callable[[str], None] | None = None,
    ) -> Pod:
        """See :class:`~..base.Cluster`. Also raises ResizeUnsupported for a change of GPUs."""
        known = self._cache.records.get(pod.name)
        watchdog = known is not None and known.group is None
        if watchdog and pod.agent is not None and resources.memory < pod.resources.memory:
            agent = await self.dial(pod)
            answer = await agent.call(protocol.CHECK_SHRINK, memory=resources.memory)
            if not answer.get("fits", True):
                raise room.shrink_refusal(int(answer.get("use", 0)), resources.memory)
        record, before, evicted = await self._do(self._ledger.resize, pod, resources)
        self._keeper.finish(evicted)
        try:
            await self._tell_limits(record.pod)
        except Exception as error:
            if record.group is None:  # the agent is who enforces: nothing has changed
                await self._do(self._ledger.undo_resize, record, before)
                # It may have heard us and only its answer was lost.
                await self._tell_former_limits(before.pod)
                raise
            self._log.warning(
                "Pod %s has its new limits, but its agent was not told: %s", pod.name, error
            )
        return record.pod

    async def _tell_limits(self, pod: Pod) -> None:
        if pod.agent is not None:
            agent = await self.dial(pod)
            resources = pod.resources
            await agent.call(
                protocol.LIMITS, timeout=TELL, memory=resources.memory, cpu=resources.cpu
            )

    async def _tell_former_limits(self, pod: Pod) -> None:
        try:
            await self._tell_limits(pod)
        except ElasticError as error:
            self._log.warning("Pod %s may have limits that were taken back: %s", pod.name, error)

    async def delete_pod(self, name: str, reason: str = "", *, if_spare: bool = False) -> None:
        """See :class:`~..base.Cluster`."""
        record = await self._do(self._ledger.condemn, name, reason, if_spare)
        if record is not None:
            await self._keeper.finish_now([record])

    async def dial(self, pod: Pod) -> AgentClient:
        """See :class:`~..base.Cluster`."""
        known = self._cache.records.get(pod.name)
        address = known.pod.agent if known is not None else None
        if address is None:
            ended = known.pod if known is not None else self._cache.endings.get(pod.name)
            why = f" {ended.message}" if ended is not None and ended.message else ""
            raise Gone(f"Pod {pod.name} has no agent now.{why}")
        client = self._clients.get(pod.name)
        if client is not None and client.address == address and not client.closed:
            return client
        path = self._state.run_dir(pod.name) / "client.json"
        try:
            keys = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise Gone(f"Pod {pod.name} is gone.") from None
        if client is not None:
            client.close()
        client = AgentClient(self._context, address, pod=pod.name, **keys)
        self._clients[pod.name] = client
        return client

    async def pod_log(self, name: str, lines: int = 50) -> str:
        """See :class:`~..base.Cluster`."""
        return await self._do(self._state.log_tail, name, lines)

    # -- kernels ---------------------------------------------------------------------------

    async def create_kernel(self, kernel: Kernel) -> Kernel:
        """See :class:`~..base.Cluster`."""
        return await self._do(self._ledger.create_kernel, kernel)

    async def update_kernel(self, kernel: Kernel) -> Kernel:
        """See :class:`~..base.Cluster`."""
        return await self._do(self._ledger.update_kernel, kernel)

    async def delete_kernel(self, kernel_id: str) -> None:
        """See :class:`~..base.Cluster`."""
        await self._keeper.finish_now(await self._do(self._ledger.delete_kernel, kernel_id))

    # -- controllers -----------------------------------------------------------------------

    async def acquire_lease(self, name: str) -> bool:
        """See :class:`~..base.Cluster`. The lease ends with this process, however it ends."""
        if name not in self._leases:
            descriptor = await self._do(self._state.try_lease, name)
            if descriptor is None:
                return False
            self._leases[name] = descriptor
        await self._do(self._state.beat)
        return True

    async def release_lease(self, name: str) -> None:
        """See :class:`~..base.Cluster`."""
        descriptor = self._leases.pop(name, None)
        if descriptor is not None:
            # Explicitly: a process just being started may share the descriptor.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    async def report_pool(self, rows: Sequence[PoolRow]) -> None:
        """See :class:`~..base.Cluster`."""
        await self._do(self._state.put_pool, list(rows))

    async def keep_demand(self, text: str) -> None:
        """See :class:`~..base.Cluster`."""
        await self._do(self._state.put_demand, text)

    async def kept_demand(self) -> str:
        """See :class:`~..base.Cluster`."""
        return await self._do(self._state.demand_text)

    async def pool_report(self) -> Sequence[PoolRow]:
        """See :class:`~..base.Cluster`."""
        return await self._do(self._state.pool_rows)

    # -- the watch -------------------------------------------------------------------------

    def _publish(self, news: Snapshot | Sequence[Written]) -> None:
        """Called in the ledger's thread: hand over what is written, in order."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads the cache
            self._loop.call_soon_threadsafe(self._apply, news)

    def _apply(self, news: Snapshot | Sequence[Written]) -> None:
        if self._open:
            self._cache.apply(news)

    def _follow(self, name: str) -> None:
        """A pod changed: look after its agent, and let go of a conversation that is over."""
        self._keeper.follow(name)
        record = self._cache.records.get(name)
        client = self._clients.get(name)
        if client is None or (record is not None and record.pod.agent == client.address):
            return
        del self._clients[name]
        if record is None or record.pod.phase is PodPhase.GONE:
            client.close(
                Gone(f"Pod {name} is gone. {record.pod.message if record else ''}".strip())
            )
        else:
            client.close()  # brought back: it listens elsewhere
