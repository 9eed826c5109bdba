"""The Kubernetes adapter of the port: pods are pods of one namespace, records are objects in it.

Nothing is kept here that a watch cannot rebuild. Claims and resizes are patches that name the
version they are for, so any number of servers may act at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, Literal

from msgspec.structs import replace

from ...errors import (
    AgentTimeout,
    Conflict,
    ElasticError,
    Gone,
    KernelExists,
)
from ...model import (
    Capacity,
    Enforcement,
    Kernel,
    Pod,
    PodPhase,
    PoolRow,
    Step,
    Template,
)
from ...podoptions import API_VERSION
from ...resources import Resources
from .. import base, room
from ..client import AgentClient
from . import manifests, records
from .api import MERGE_PATCH, KubeApi
from .births import Births
from .creation import Creator
from .facts import annotation
from .fleet import Fleet
from .lease import LEASE_SECONDS
from .manifests import label
from .pool import Pool
from .portforward import PortForwards
from .problems import ApiConflict, ApiNotFound
from .quota import Quota
from .resize import Policy
from .sizes import Sizes, resizes_in_place
from .talks import Talks
from .view import View
from .waiting import Waiting

_LOG = logging.getLogger(__name__)

BURST = 5
"""Seconds of the budget of requests that may be used at once."""

DELETED_WITHIN = 30.0
"""Seconds a deleted pod may take to be gone; then its node does not answer and we go on."""
ATTEMPTS = 6
"""Deletions that are lost to the kubelet's own writes, which change nothing of ours."""
OWN_STOPS = ("its kernel was deleted", "the start was cancelled")
"""Reasons of deletions that a user asked for: nobody needs to be told, and it has to be quick."""
PREFETCH = 4
"""Warm pods of a template that are dialled ahead of a claim."""


class KubernetesCluster(base.Cluster):
    """See the module, and :class:`~..base.Cluster` for the promises.

    Parameters
    ----------
    namespace, kubeconfig, context
        Which cluster; see :meth:`.api.KubeApi.connect`.
    access
        ``auto``, ``direct`` or ``port-forward``.
    image
        Of templates that name none.
    env_allowed
        Names of the server's variables that kernels get.
    root_dir
        The server's directory that is mounted where a template's ``root_dir`` says.
    cpu, memory
        Millicores and bytes that all kernels of the namespace may have together, besides what a
        ResourceQuota says; None: no such limit.
    deferred_grace
        Seconds a resize may wait for room on its node.
    qps
        Requests per second, on average; :data:`BURST` times as many at once.
    fleet
        What is shared with the clusters of other namespaces, by a controller of them all. Then
        ``kubeconfig``, ``context`` and ``qps`` are the fleet's, which must be open.
    """

    name = "kubernetes"
    exposed = True
    takes_over = True
    settles_later = True
    # Others begin LEASE_SECONDS after our last renewal, and we renew after a third of it.
    lease_valid = LEASE_SECONDS / 3
    lease_look = 4.0
    kernel_ip = "0.0.0.0"
    kernel_ports = MappingProxyType(manifests.KERNEL_PORTS)

    def __init__(
        self,
        *,
        namespace: str = "",
        kubeconfig: str = "",
        context: str = "",
        access: str = "auto",
        image: str = "",
        env_allowed: frozenset[str] = frozenset(),
        root_dir: str = "",
        cpu: int | None = None,
        memory: int | None = None,
        deferred_grace: float = 10.0,
        qps: float = 100.0,
        fleet: Fleet | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        self.env_allowed = env_allowed
        self._where = {"namespace": namespace, "kubeconfig": kubeconfig, "context": context}
        self._access = access
        self._image = image
        self._root_dir = root_dir
        self._caps = (cpu, memory)
        self._policy = Policy(deferred_grace=deferred_grace)
        self._qps = qps
        self._fleet = fleet
        self._log = log or _LOG
        self._open = False
        self._in_place = True

    # -- life ------------------------------------------------------------------------------

    async def open(self) -> None:
        """See :class:`~..base.Cluster`."""
        fleet = self._fleet
        if fleet is not None:
            self._api = fleet.api.within(self._where["namespace"])
        else:
            burst = int(BURST * self._qps)
            self._api = await KubeApi.connect(**self._where, qps=self._qps, burst=burst)
        collect = fleet.collect(self._api.namespace) if fleet is not None else None
        self._view = View(self._api, self._log, collect)
        self._creator = Creator(self._api, self._spawn, self._log)
        direct = self._access == "direct" or (self._access == "auto" and self._api.in_cluster)
        self._tunnels = None if direct else PortForwards(self._api, self._log)
        zmq_context = fleet.context if fleet is not None else None
        self._talks = Talks(self._api, self._view.pod, self._tunnels, self._log, zmq_context)
        self._waiting = Waiting(self._api, self._view, lambda name: self._births.refusal(name))
        where = f"Namespace {self._api.namespace}"
        self._quota = Quota(self._view, self._caps, where, self._give_back, self._spawn, self._log)
        self._sizes = Sizes(
            self._view,
            self._talks,
            self._policy,
            self._quota,
            self._waiting.events,
            self._log,
        )
        self._births = Births(
            self._api,
            self._view,
            self._talks,
            self._trim,
            self._creator,
            self._image,
            self._log,
        )
        identity = f"{socket.gethostname()[:40]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._pool = Pool(
            self._api,
            self._view,
            identity,
            self._births.nurse,
            self._give_back,
            self._spawn,
            self._log,
            fleet=fleet,
        )
        self._chores: set[asyncio.Task[None]] = set()
        self._view.follow = self._follow
        try:
            await self._view.open()
            self._in_place = await self._resizes_in_place()
        except BaseException:
            await self._release()
            raise
        self._open = True

    async def close(self) -> None:
        """See :class:`~..base.Cluster`."""
        if not self._open:
            return
        self._open = False
        await self._pool.close()
        await self._release()

    async def _release(self) -> None:
        for task in tuple(self._chores):
            task.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        await self._births.close()
        await self._view.close()
        await self._talks.close()
        if self._tunnels is not None:
            await self._tunnels.close()
        await self._api.close()

    async def _resizes_in_place(self) -> bool:
        if self._fleet is None:
            return await resizes_in_place(self._api, self._log)
        return await self._fleet.once("resize", lambda: resizes_in_place(self._api, self._log))

    def leave(self, leaving: bool = True) -> None:
        """Give the pool up, or keep it after all; of a fleet's namespace.

        Warm pods go, and then the KernelPool says no more that the fleet keeps it.
        """
        if self._open and self._pool.is_leaving != leaving:
            self._pool.is_leaving = leaving
            self._view.tell_templates()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    # -- reading ---------------------------------------------------------------------------

    def pods(self) -> Mapping[str, Pod]:
        """See :class:`~..base.Cluster`."""
        return MappingProxyType(self._view.pods)

    def kernels(self) -> Mapping[str, Kernel]:
        """See :class:`~..base.Cluster`."""
        return MappingProxyType(self._view.kernels)

    def subscribe(self, listener: base.Listener) -> Callable[[], None]:
        """See :class:`~..base.Cluster`."""
        return self._view.subscribe(listener)

    async def refresh(self) -> None:
        """See :class:`~..base.Cluster`."""
        await self._view.sync()

    async def refresh_one(self, kind: Literal["pod", "kernel"], name: str) -> None:
        """See :class:`~..base.Cluster`."""
        await (self._view.read_pod(name) if kind == "pod" else self._view.read_kernel(name))

    async def capacity(self) -> Capacity:
        """See :class:`~..base.Cluster`."""
        return self._quota.capacity()

    def enforcement(self) -> Enforcement:
        """See :class:`~..base.Cluster`."""
        return Enforcement(memory="kubelet", cpu="kubelet")

    def gpu_kinds(self) -> tuple[str, ...]:
        """See :class:`~..base.Cluster`. The kinds that templates offer."""
        offered = (one.resources.gpu.kinds for one in self._view.templates.values())
        return tuple(sorted({kind for kinds in offered for kind in kinds}))

    def offered(self) -> tuple[Mapping[str, Template], Sequence[ElasticError]]:
        """See :class:`~..base.Cluster`."""
        return self._view.templates, tuple(self._view.problems.values())

    # -- what a kernel sees of the cluster -------------------------------------------------

    def why_cold(self, template: Template, kernel: Kernel) -> str:
        """See :class:`~..base.Cluster`."""
        if not self._in_place:
            return "This cluster cannot resize pods, so that each kernel gets one of its own size."
        gpu = kernel.resources.gpu
        if gpu != template.resources.default().gpu:
            what = f"{gpu.count} x {gpu.kind}" if gpu else "no GPU"
            return f"GPUs are given to pods at their creation, and warm ones do not have {what}."
        if template.kubernetes is not None and template.kubernetes.owner_volume is not None:
            return "The template mounts a volume of its owner, which needs a pod of its own."
        return ""

    def working_directory(self, template: Template, path: str | None) -> str | None:
        """See :class:`~..base.Cluster`."""
        mount = template.kubernetes.root_dir if template.kubernetes is not None else None
        if not mount or not path or not self._root_dir:
            return None
        try:
            inside = PurePosixPath(path).relative_to(PurePosixPath(self._root_dir))
        except ValueError:
            return None
        return str(PurePosixPath(mount) / inside)

    async def reach(self, pod: Pod, connection: dict[str, Any]) -> dict[str, Any]:
        """See :class:`~..base.Cluster`."""
        return await self._talks.reach(pod, connection)

    async def rejoined(self, pod: Pod) -> None:
        """See :class:`~..base.Cluster`."""
        await self._talks.rejoined(pod)

    # -- pods ------------------------------------------------------------------------------

    async def create_pod(self, template: Template, *, kernel: Kernel | None = None) -> Pod:
        """See :class:`~..base.Cluster`. Also raises BadTemplate: there is no image."""
        births, quota = self._births, self._quota
        if kernel is None:
            name = room.make_name(template)
            quota.let_kernels_first()
            with quota.room_for(name, manifests.WARM_REQUESTS, evict=False):
                return await births.create(name, template, None, self._pool.owner())
        owner = self._kernel_owner(kernel)

        async def born() -> Pod:
            name = room.make_name(template)
            with quota.room_for(name, kernel.resources):
                return await births.create(name, template, kernel, owner)

        return await quota.within(born)

    async def wait_pod(
        self, name: str, timeout: float, *, tell: Callable[[Step], None] | None = None
    ) -> Pod:
        """See :class:`~..base.Cluster`."""
        pod = await self._waiting.up(name, timeout, tell)
        if pod is not None:
            return pod
        words = await self.pod_log(name, 10)
        raise AgentTimeout(
            f"The agent of pod {name} was not up within {timeout:.0f} s."
            + (f" Its last words: {words}" if words else ""),
            "Try again; if it stays so, see `kubectl describe pod` and the preload list.",
        )

    async def claim_pod(self, pod: Pod, kernel: Kernel) -> Pod:
        """See :class:`~..base.Cluster`."""
        now = self._view.pod(pod.name)
        if now is None or now.uid != pod.uid or now.version != pod.version:
            raise Conflict(f"Pod {pod.name} changed meanwhile.")
        if now.phase is not PodPhase.WARM:
            raise Conflict(f"Pod {pod.name} is {now.phase.value}.")
        change = {
            "labels": {label("phase"): "claimed", label("kernel"): kernel.kernel_id},
            "annotations": {
                label("asked"): manifests.asked(kernel.resources),
                label("message"): None,  # of a deletion that this claim came before
            },
            "ownerReferences": [self._kernel_owner(kernel)],
        }
        try:
            with self._quota.claiming(pod.name, kernel.resources):
                return await self._view.patch(now, {"metadata": change})
        except Gone as error:
            raise Conflict(error.message) from None

    async def resize_pod(
        self,
        pod: Pod,
        resources: Resources,
        *,
        wait: bool = True,
        tell: Callable[[str], None] | None = None,
    ) -> Pod:
        """See :class:`~..base.Cluster`."""
        now = self._view.pod(pod.name)
        if now is None or now.phase is PodPhase.GONE:
            raise Gone(f"Pod {pod.name} is gone.")
        if now.uid != pod.uid or now.version != pod.version:
            raise Conflict(f"Pod {pod.name} changed meanwhile.")
        if resources == now.resources:
            return await self._sizes.resize(now, resources, wait=wait, tell=tell)
        with self._quota.room_for(pod.name, resources):
            try:
                return await self._sizes.resize(now, resources, wait=wait, tell=tell)
            finally:
                self._quota.settled(pod.name)

    async def _trim(self, pod: Pod, overhead: int) -> Pod:
        return await self._sizes.resize(pod, pod.resources, overhead=overhead)

    async def delete_pod(self, name: str, reason: str = "", *, if_spare: bool = False) -> None:
        """See :class:`~..base.Cluster`. A pod whose node does not answer is left to the cluster."""
        pod = self._view.pod(name)
        if pod is not None and reason and reason not in OWN_STOPS:
            await self._note(pod, reason, if_spare)
            pod = self._view.pod(name)
        try:
            if not await self._delete(name, if_spare):
                return
        except ApiNotFound:
            if pod is not None:
                self._view.forget(pod)
            return
        if pod is not None and not await self._view.gone(pod, DELETED_WITHIN):
            self._log.warning("Pod %s is deleted, but its node has not ended it yet.", name)

    async def _note(self, pod: Pod, reason: str, if_spare: bool) -> None:
        """Let the pod itself say why it goes, for other servers and for `kubectl describe`."""
        obj = self._view.object(pod.name)
        known = obj is None or annotation(obj, "message")
        if known or pod.phase is PodPhase.GONE or (if_spare and not room.is_spare(pod)):
            return
        self._log.info("Pod %s is deleted: %s.", pod.name, reason)
        said = {label("message"): f"The pod was deleted: {reason}."}
        try:
            await self._view.patch(pod, {"metadata": {"annotations": said}})
        except ElasticError as error:
            self._log.debug("Pod %s does not say why it goes: %s", pod.name, error)

    async def _delete(self, name: str, if_spare: bool) -> bool:
        """Ask for a pod's end; False: it is none to be given up. Raises ApiNotFound."""
        path = self._api.path("pods", name)
        options: dict[str, Any] = {"gracePeriodSeconds": manifests.TERM_GRACE}
        for _ in range(ATTEMPTS):
            if if_spare:
                # Named by its version: a claim that is a moment old makes another one of it.
                pod, obj = self._view.pod(name), self._view.object(name)
                if pod is None or obj is None or not (room.is_spare(pod) or _is_over(pod)):
                    return False
                version = obj.metadata.resource_version
                options["preconditions"] = {"uid": pod.uid, "resourceVersion": version}
            try:
                await self._api.request("DELETE", path, body=options)
            except ApiConflict:
                if not if_spare:
                    raise
                self._view.took(await self._api.request("GET", path))
                continue
            return True
        return False

    async def _give_back(self, name: str, reason: str) -> None:
        await self.delete_pod(name, reason, if_spare=True)

    async def dial(self, pod: Pod) -> AgentClient:
        """See :class:`~..base.Cluster`."""
        return await self._talks.dial(pod)

    async def pod_log(self, name: str, lines: int = 50) -> str:
        """See :class:`~..base.Cluster`."""
        try:
            answer = await self._api.request(
                "GET",
                self._api.path("pods", name, "log"),
                query={"tailLines": str(lines), "container": manifests.CONTAINER},
                accept="*/*",
            )
        except ElasticError as error:
            self._log.debug("No log of pod %s: %s", name, error)
            return ""
        return answer.decode(errors="replace")[-8000:]

    # -- kernels ---------------------------------------------------------------------------

    def _kernel_owner(self, kernel: Kernel) -> dict[str, Any]:
        """Makes a pod end with its Kernel object. Raises Conflict: there is no such object."""
        obj = self._view.kernel_object(kernel.kernel_id)
        if obj is None:
            raise Conflict(f"Kernel {kernel.kernel_id} is gone.")
        return manifests.owner_reference("Kernel", kernel.kernel_id, obj.metadata.uid)

    def _kernel_path(self, kernel_id: str = "", sub: str = "") -> str:
        return self._api.path("kernels", kernel_id, sub, api=API_VERSION)

    async def create_kernel(self, kernel: Kernel) -> Kernel:
        """See :class:`~..base.Cluster`."""
        answer = await self._creator.create(
            self._kernel_path(), records.make_kernel(kernel), exists=KernelExists
        )
        return self._view.took_kernel(answer)

    async def update_kernel(self, kernel: Kernel) -> Kernel:
        """See :class:`~..base.Cluster`."""
        obj = self._view.kernel_object(kernel.kernel_id)
        if obj is None or obj.metadata.resource_version != kernel.version:
            raise Conflict(f"Kernel {kernel.kernel_id} changed meanwhile.")
        known = self._view.kernels[kernel.kernel_id]
        if records.spec_of(known) != records.spec_of(kernel):
            kernel = await self._write_kernel(kernel, "", {"spec": records.spec_of(kernel)})
        now = self._view.kernel_object(kernel.kernel_id)
        generation = now.metadata.generation if now else 0
        status = records.status_of(kernel, generation)
        return await self._write_kernel(kernel, "status", {"status": status})

    async def _write_kernel(self, kernel: Kernel, sub: str, change: dict[str, Any]) -> Kernel:
        body = {"metadata": {"resourceVersion": kernel.version}, **change}
        try:
            answer = await self._api.request(
                "PATCH",
                self._kernel_path(kernel.kernel_id, sub),
                body=body,
                content_type=MERGE_PATCH,
            )
        except (ApiConflict, ApiNotFound) as error:
            raise Conflict(f"Kernel {kernel.kernel_id} changed meanwhile.") from error
        written = self._view.took_kernel(answer)
        # After the spec comes the status, of which the answer has the old one.
        return written if sub else replace(kernel, version=written.version)

    async def delete_kernel(self, kernel_id: str) -> None:
        """See :class:`~..base.Cluster`."""
        obj = self._view.kernel_object(kernel_id)
        try:
            await self._api.request("DELETE", self._kernel_path(kernel_id))
        except ApiNotFound:
            self._log.debug("Kernel %s is gone already.", kernel_id)
        if obj is not None:
            self._view.forget_kernel(kernel_id, obj.metadata.uid)
        mine = [pod.name for pod in self._view.pods.values() if pod.kernel_id == kernel_id]
        await asyncio.gather(*(self.delete_pod(name, OWN_STOPS[0]) for name in mine))

    # -- the pool --------------------------------------------------------------------------

    def pool_size(self, template: Template) -> int | None:
        """See :class:`~..base.Cluster`. A KernelPool may say otherwise than the template.

        Where pods cannot be resized, a warm one has no size that anybody asks for: none are kept.
        """
        return self._pool.size(template) if self._in_place else 0

    def pool_predicts(self, template: Template) -> bool:
        """See :class:`~..base.Cluster`."""
        return self._in_place and self._pool.predicts(template)

    async def report_pool(self, rows: Sequence[PoolRow]) -> None:
        """See :class:`~..base.Cluster`."""
        await self._pool.report(rows)

    async def keep_demand(self, text: str) -> None:
        """See :class:`~..base.Cluster`. In a ConfigMap of its own: nobody watches it."""
        await self._pool.keep_demand(text)

    async def kept_demand(self) -> str:
        """See :class:`~..base.Cluster`."""
        return await self._pool.kept_demand()

    async def pool_report(self) -> Sequence[PoolRow]:
        """See :class:`~..base.Cluster`."""
        return self._pool.reported()

    async def acquire_lease(self, name: str) -> bool:
        """See :class:`~..base.Cluster`."""
        return await self._pool.acquire(name)

    async def release_lease(self, name: str) -> None:
        """See :class:`~..base.Cluster`."""
        await self._pool.release(name)

    # -- the watch -------------------------------------------------------------------------

    def _follow(self, name: str) -> None:
        self._talks.follow(name)
        pod = self._view.pod(name)
        if pod is None or pod.phase is not PodPhase.WARM or self._fleet is not None:
            return  # who keeps many pools seldom claims
        if self._view.warm[pod.template] <= PREFETCH:
            self._talks.prefetch(name)


def _is_over(pod: Pod) -> bool:
    """Whether a pod of the pool has ended already."""
    return pod.phase is PodPhase.GONE and pod.kernel_id is None
