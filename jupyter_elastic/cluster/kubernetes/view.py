"""What is seen of the namespace: our pods, kernels, templates and its quotas, kept by watches.

Everything here can be rebuilt by listing again. Writes of our own are shown at once, from the
API's answer; what others do is shown when the watch tells it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ...errors import Conflict, ElasticError, Gone
from ...model import Kernel, Pod, PodPhase, Template
from ...podoptions import API_VERSION
from ...resources import MIB, Resources
from .. import base
from .api import MERGE_PATCH, KubeApi
from .everywhere import Collect, Collection, Item
from .fate import pod_from_object
from .manifests import OURS, label
from .objects import CustomObject, PodObject, QuotaObject
from .problems import ApiConflict, ApiNotFound
from .records import kernel_from_object
from .reflector import Reflector
from .templates import PLURAL, template_from_object

STRATEGIC_PATCH = "application/strategic-merge-patch+json"
ATTEMPTS = 6
"""Writes that are lost to the kubelet's own, which change nothing of ours."""
UNSAID = Resources(cpu=1000, memory=1024 * MIB)
"""What a kernel has that says nothing of resources, of a template that is not offered."""


class View:
    """See the module. Belongs to the running loop.

    Parameters
    ----------
    collect
        Makes the collections that are kept; by default a watch for each of them.
    """

    def __init__(self, api: KubeApi, log: logging.Logger, collect: Collect | None = None) -> None:
        self._api = api
        self._log = log
        self.pods: dict[str, Pod] = {}
        self.warm: Counter[str] = Counter()
        """How many warm pods there are, by template; to count them at every change is too dear."""
        self.kernels: dict[str, Kernel] = {}
        self.templates: dict[str, Template] = {}
        self.problems: dict[str, ElasticError] = {}
        self.follow: Callable[[str], None] = lambda name: None
        """Called with a pod's name at every change, before listeners."""
        self._listeners: list[base.Listener] = []
        self._waiters: set[asyncio.Future[None]] = set()
        collect = collect or self._watch
        crd = {"api": API_VERSION}
        self._pods = collect(api.path("pods"), PodObject, self._on_pod, {"labelSelector": OURS})
        self._kernels = collect(api.path("kernels", **crd), CustomObject, self._on_kernel)
        self._templates = collect(api.path(PLURAL, **crd), CustomObject, self._on_template)
        self._pools = collect(api.path("kernelpools", **crd), CustomObject, self._on_pool)
        self._quotas = collect(api.path("resourcequotas"), QuotaObject, self._on_quota)

    def _watch(
        self,
        path: str,
        type: type[Item],
        on_change: Callable[[str, Item | None, Item | None], None],
        query: Mapping[str, str] | None = None,
    ) -> Collection[Item]:
        return Reflector(self._api, path, type, on_change, query=query, log=self._log)

    # -- life ------------------------------------------------------------------------------

    async def open(self) -> None:
        """Read everything, then watch. Raises ElasticError: the first thing that failed."""
        await self._templates.start()  # kernels need their templates' defaults
        rest = (self._pods, self._kernels, self._pools, self._quotas)
        await asyncio.gather(*(one.start() for one in rest))

    async def close(self) -> None:
        """Stop watching."""
        every = (self._pods, self._kernels, self._templates, self._pools, self._quotas)
        await asyncio.gather(*(one.close() for one in every))
        for waiter in self._waiters:
            waiter.cancel()

    async def sync(self) -> None:
        """Return once all that was written before is shown."""
        await asyncio.gather(self._pods.sync(), self._kernels.sync())

    async def read_pod(self, name: str) -> None:
        """Show a pod as it is now, whatever the watch has told so far."""
        known = self.pod(name)
        try:
            self.took(await self._read(name))
        except Gone:
            if known is not None:  # one that was created since stays
                self.forget(known)

    async def read_kernel(self, kernel_id: str) -> None:
        """Show a kernel's record as it is now, whatever the watch has told so far."""
        known = self.kernel_object(kernel_id)
        path = self._api.path("kernels", kernel_id, api=API_VERSION)
        try:
            self.took_kernel(await self._api.request("GET", path))
        except ApiNotFound:
            if known is not None:
                self.forget_kernel(kernel_id, known.metadata.uid)

    def subscribe(self, listener: base.Listener) -> Callable[[], None]:
        """See :meth:`..base.Cluster.subscribe`."""
        self._listeners.append(listener)

        def dispose() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return dispose

    # -- reading ---------------------------------------------------------------------------

    def pod(self, name: str) -> Pod | None:
        """The pod as last seen."""
        return self.pods.get(name)

    def object(self, name: str) -> PodObject | None:
        """The same as Kubernetes has it."""
        return self._pods.items.get(name)

    def kernel_object(self, kernel_id: str) -> CustomObject | None:
        """The Kernel object as last seen."""
        return self._kernels.items.get(kernel_id)

    def pool(self) -> CustomObject | None:
        """The namespace's KernelPool; the oldest, should there be several."""
        found = sorted(
            self._pools.items.values(),
            key=lambda one: (one.metadata.creation_timestamp or "", one.metadata.name),
        )
        return found[0] if found else None

    def took_pool(self, answer: bytes) -> None:
        """Show the KernelPool that the API answered with to a write of ours."""
        self._pools.put(msgspec.json.decode(answer, type=CustomObject))

    def quotas(self) -> list[QuotaObject]:
        """The namespace's quotas."""
        return list(self._quotas.items.values())

    async def changed(self, timeout: float) -> None:
        """Return at the next change of any pod, kernel or quota, or after ``timeout`` seconds."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=timeout)
        finally:
            self._waiters.discard(waiter)

    # -- writing ---------------------------------------------------------------------------

    def took(self, answer: bytes) -> Pod:
        """Show the pod that the API answered with to a write of ours."""
        obj = msgspec.json.decode(answer, type=PodObject)
        self._pods.put(obj)
        return pod_from_object(obj)

    async def patch(self, pod: Pod, change: dict[str, Any], *, sub: str = "") -> Pod:
        """Patch a pod if nobody but the kubelet has changed it since ``pod`` was seen.

        A merge patch (``pods/resize``: a strategic one) that says which version of the object it
        is for; the kubelet's changes of the status are taken in and the patch sent again.

        Raises
        ------
        Conflict
            Somebody else was faster, or ``pod`` was an old view.
        Gone
            It is not there any more.
        """
        path = self._api.path("pods", pod.name, sub)
        retried = False
        for _ in range(ATTEMPTS):
            obj = self.object(pod.name)
            now = None if obj is None else pod_from_object(obj)
            if obj is None or now is None or now.uid != pod.uid:
                if obj is not None or pod.name in self.pods:
                    raise Conflict(f"Pod {pod.name} is another one now.")
                raise Gone(f"Pod {pod.name} is gone.")
            if now.version != pod.version:
                if retried and _shows(obj, change):
                    return now  # our own earlier attempt, whose answer was lost
                raise Conflict(f"Pod {pod.name} changed meanwhile.")
            try:
                answer = await self._api.request(
                    "PATCH",
                    path,
                    body=_versioned(obj, change, sub),
                    content_type=STRATEGIC_PATCH if sub else MERGE_PATCH,
                )
            except ApiConflict as error:
                retried = retried or error.retried
                self.took(await self._read(pod.name))
                continue
            except ApiNotFound as error:
                if sub and not await self._exists(pod.name):
                    raise Gone(f"Pod {pod.name} is gone.") from None
                raise error if sub else Gone(f"Pod {pod.name} is gone.") from None
            return self.took(answer)
        raise Conflict(f"Pod {pod.name} changes all the time.")

    async def _read(self, name: str) -> bytes:
        try:
            return await self._api.request("GET", self._api.path("pods", name))
        except ApiNotFound:
            raise Gone(f"Pod {name} is gone.") from None

    async def _exists(self, name: str) -> bool:
        try:
            await self._read(name)
        except Gone:
            return False
        return True

    def forget(self, pod: Pod) -> None:
        """A pod is gone for good."""
        self._pods.drop(pod.name, pod.uid)

    def forget_kernel(self, kernel_id: str, uid: str) -> None:
        """A kernel's record is gone for good."""
        self._kernels.drop(kernel_id, uid)

    async def gone(self, pod: Pod, timeout: float) -> bool:
        """Whether a pod that was deleted is gone within ``timeout`` seconds."""
        clock = asyncio.get_running_loop().time
        until = clock() + timeout
        while (now := self.pods.get(pod.name)) is not None and now.uid == pod.uid:
            left = until - clock()
            if left <= 0:
                return False
            await self.changed(left)
        return True

    def took_kernel(self, answer: bytes) -> Kernel:
        """Show the kernel that the API answered with to a write of ours."""
        obj = msgspec.json.decode(answer, type=CustomObject)
        self._kernels.put(obj)
        return self._kernel(obj)

    # -- what the watches tell -------------------------------------------------------------

    def _on_pod(self, name: str, old: PodObject | None, new: PodObject | None) -> None:
        before = self.pods.get(name)
        after = None if new is None else pod_from_object(new)
        if after is None:
            self.pods.pop(name, None)
        else:
            self.pods[name] = after
        for pod, step in ((before, -1), (after, 1)):
            if pod is not None and pod.phase is PodPhase.WARM:
                self.warm[pod.template] += step
        self._wake()  # also for what our own struct does not show, such as a resize's condition
        if before == after:
            return
        self.follow(name)
        self._tell(base.Change(kind="pod", name=name, old=before, new=after))
        if _weight(before) != _weight(after):
            self._tell(base.Change(kind="capacity", name=""))

    def _on_kernel(self, name: str, old: CustomObject | None, new: CustomObject | None) -> None:
        before = self.kernels.get(name)
        after = None if new is None else self._kernel(new)
        if after is None:
            self.kernels.pop(name, None)
        else:
            self.kernels[name] = after
        self._wake()
        self._tell(base.Change(kind="kernel", name=name, old=before, new=after))

    def _kernel(self, obj: CustomObject) -> Kernel:
        template = self.templates.get(str(obj.spec.get("template", "")))
        default = template.resources.default() if template else UNSAID
        return kernel_from_object(obj, default)

    def _on_template(self, name: str, old: CustomObject | None, new: CustomObject | None) -> None:
        self.problems.pop(name, None)
        if new is None:
            self.templates.pop(name, None)
        else:
            where = f"KernelTemplate in {self._api.namespace}"
            try:
                self.templates[name] = template_from_object(name, new.spec, where)
            except ElasticError as error:
                self.problems[name] = error  # its last good form stays offered
        self.tell_templates()

    def _on_pool(self, name: str, old: CustomObject | None, new: CustomObject | None) -> None:
        if (old and old.spec) != (new and new.spec):
            self.tell_templates()  # targets come with templates
        left = old and old.status.get("holder") and new and not new.status.get("holder")
        if left or _annotations(old) != _annotations(new):
            self.tell_lease("pool")  # its keeper has left, or another is to keep it

    def _on_quota(self, name: str, old: QuotaObject | None, new: QuotaObject | None) -> None:
        if (old and old.status) != (new and new.status):
            self._wake()
            self._tell(base.Change(kind="capacity", name=""))

    def tell_templates(self) -> None:
        """What is wanted of templates may be other than it was."""
        self._tell(base.Change(kind="templates", name=""))

    def tell_lease(self, name: str) -> None:
        """A lease that is wanted here may be free now, or ours."""
        self._tell(base.Change(kind="lease", name=name))

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _tell(self, change: base.Change) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(change)
            except Exception:  # noqa: BLE001 - one bad listener must not silence the others
                self._log.exception("A listener to the cluster failed")


def _versioned(obj: PodObject, change: dict[str, Any], sub: str) -> dict[str, Any]:
    """A patch for exactly this version of the object; ours counts on, save for a resize."""
    meta = obj.metadata
    metadata = dict(change.get("metadata", {}))
    metadata |= {"resourceVersion": meta.resource_version, "uid": meta.uid}
    if not sub:
        number = meta.annotations.get(label("version"), "0")
        count = int(number) + 1 if number.isdigit() else 1
        metadata["annotations"] = {**metadata.get("annotations", {}), label("version"): str(count)}
    return {**change, "metadata": metadata}


def _shows(obj: PodObject, change: dict[str, Any]) -> bool:
    """Whether an object is as a patch of ours would have made it (labels tell)."""
    labels = change.get("metadata", {}).get("labels")
    return bool(labels) and all(obj.metadata.labels.get(k) == v for k, v in labels.items())


def _annotations(obj: CustomObject | None) -> Mapping[str, str]:
    return obj.metadata.annotations if obj is not None else {}


def _weight(pod: Pod | None) -> object:
    return None if pod is None else (pod.phase, pod.resources)
