"""The server's kernel manager: elastic kernels beside plain ones, under the same ids and API.

An elastic kernel is in the mapping before the first await of its start, whatever
``use_pending_kernels`` says: otherwise a session that attaches meanwhile would silently get a
second, local kernel. Deleting it cancels the start. It leaves the mapping when its record does.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from jupyter_client.ioloop.manager import AsyncIOLoopKernelManager
from jupyter_client.kernelspec import NoSuchKernel
from jupyter_server._tz import utcnow
from jupyter_server.prometheus.metrics import KERNEL_CURRENTLY_RUNNING_TOTAL
from jupyter_server.utils import ensure_async
from tornado.web import HTTPError
from traitlets.utils.importstring import import_item

from ..errors import ElasticError, Forbidden, KernelExists, StartCancelled, StartFailed
from ..model import Kernel, KernelPhase, Template
from ..resources import Resources
from ..templates import PROVISIONER
from .actions import ActionsMixin
from .adoption import AdoptionMixin
from .compose import compose, dotted_name
from .kernelmanager import ElasticKernelManagerMixin
from .problems import ElasticHTTPError, as_http
from .service import ElasticService, check_kernel_id
from .whose import NOBODY, asker_of, trusted
from .wishes import Origin, current_origin, read_origin, wished_resources

_drafted: ContextVar[tuple[Kernel, bool] | None] = ContextVar("elastic_drafted", default=None)
"""The record that :meth:`ElasticMappingMixin.start_elastic` is starting, and whether it waits."""


class ElasticMappingMixin(ActionsMixin, AdoptionMixin):
    """In front of ``AsyncMappingKernelManager``, and behind what is configured instead of it."""

    if TYPE_CHECKING:
        log: Any
        parent: Any
        kernel_manager_class: str
        kernel_spec_manager: Any
        default_kernel_name: str
        _kernels: dict[str, Any]
        _kernel_connections: dict[str, int]
        _kernel_ports: dict[str, Any]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._elastic_starts: dict[str, asyncio.Task[None]] = {}
        chosen = import_item(self.kernel_manager_class)
        made = compose(ElasticKernelManagerMixin, chosen, behind=AsyncIOLoopKernelManager)
        self.kernel_manager_class = dotted_name(made)
        self._init_adoption()
        if self.elastic is not None:
            self.elastic.host = self

    @property
    def elastic(self) -> ElasticService | None:
        """The service, when this manager belongs to a server with the extension."""
        return getattr(self.parent, "elastic_service", None)

    def elastic_template(self, kernel_name: str | None) -> Template | None:
        """The template that a kernel name means, or None for a plain kernelspec."""
        if self.elastic is None:
            return None
        return self.elastic.templates.all().get(kernel_name or self.default_kernel_name)

    # -- Host: what the service asks -------------------------------------------------------

    def is_attached(self, kernel_id: str) -> bool:
        """Whether this manager holds the elastic kernel."""
        return self._elastic_km(kernel_id) is not None

    def activity_of(self, kernel_id: str) -> tuple[str, float | None]:
        """Execution state and last activity of an attached kernel."""
        km = self._kernels[kernel_id]
        when = getattr(km, "last_activity", None)
        return getattr(km, "execution_state", "unknown"), when.timestamp() if when else None

    async def stop_elastic(self, kernel_id: str) -> None:
        """End an attached kernel or cancel its start."""
        with trusted():
            await self.shutdown_kernel(kernel_id)

    async def replace_elastic(self, kernel_id: str, resources: Resources) -> None:
        """Give an attached kernel a new pod of another size; its variables are lost.

        Raises
        ------
        ElasticError
            There is none; the kernel is Failed with the reason.
        """
        with trusted():
            await self._replace_elastic(kernel_id, resources)

    async def _replace_elastic(self, kernel_id: str, resources: Resources) -> None:
        km = self._kernels[kernel_id]
        await self._attached(kernel_id)  # else its start would go on beside the move
        try:
            await km.move_kernel(resources)
        except ElasticError as error:
            if kernel_id in self._kernels and self._record_failed_of(kernel_id):
                self.show_dead(km, str(error))
            raise
        await self._connected(km, kernel_id)
        km.elastic_reason = f"The kernel was moved to another pod with {resources}, as asked."
        self._came_back(km, kernel_id)

    def _record_failed_of(self, kernel_id: str) -> bool:
        assert self.elastic is not None
        kernel = self.elastic.cluster.kernels().get(kernel_id)
        return kernel is not None and kernel.phase is KernelPhase.FAILED

    async def start_elastic(self, kernel: Kernel, *, wait: bool) -> Kernel:
        """Start a kernel that was asked for through our API, by way of :meth:`start_kernel`.

        That way what a subclass does around it (refuse, count, log) holds here as well.

        Raises
        ------
        ElasticError
            As :meth:`_begin_start`.
        """
        if kernel.kernel_id in self._kernels:
            raise KernelExists(f"There is a kernel {kernel.kernel_id} already.")
        token = _drafted.set((kernel, wait))
        try:
            with trusted():
                await self.start_kernel(
                    kernel_name=kernel.template,
                    kernel_id=kernel.kernel_id,
                    path=kernel.path or None,
                )
        except ElasticHTTPError as error:
            raise error.error from error
        finally:
            _drafted.reset(token)
        assert self.elastic is not None
        return self.elastic.cluster.kernels().get(kernel.kernel_id, kernel)

    async def _begin_start(self, kernel: Kernel, *, wait: bool, cwd: str | None, env: Any) -> None:
        """Register, record and start; with ``wait`` return when the kernel answers.

        A start that fails with ``wait`` leaves nothing behind; without, the kernel stays as
        Failed, with its reason, until it is stopped or restarted.

        Raises
        ------
        ElasticError
            KernelExists; with ``wait`` also what the start failed with.
        """
        assert self.elastic is not None
        kernel_id = kernel.kernel_id
        if kernel_id in self._kernels:
            raise KernelExists(f"There is a kernel {kernel_id} already.")
        if cwd is None:
            # Without a path, at the root of the server's files: where a notebook there would run.
            cwd = str(self.cwd_for_path(kernel.path, env=env or {}))  # type: ignore[attr-defined]
        km, _, _ = self.pre_start_kernel(kernel.template, {"kernel_id": kernel_id})  # type: ignore[attr-defined]
        if wait:  # whoever asked hears nothing until it runs
            km.elastic_patience = self.elastic.settings.start_timeout
        self._register(kernel_id, km, kernel.owner)
        try:
            kernel = await self.elastic.launcher.record(kernel)
        except BaseException:
            self._unregister(kernel_id)
            raise
        with trusted():
            start = asyncio.create_task(
                self._run_start(km, kernel, {"kernel_id": kernel_id, "cwd": cwd, "env": env})
            )
        self._elastic_starts[kernel_id] = start
        start.add_done_callback(_retrieve)
        if not wait:
            return
        try:
            await self.elastic_started(kernel_id)
        except ElasticError:
            self._unregister(kernel_id)
            await self.elastic.launcher.running.stop(kernel_id)
            raise

    async def elastic_started(self, kernel_id: str) -> None:
        """Return when the start of the kernel has ended; raises what it failed with."""
        start = self._elastic_starts.get(kernel_id)
        if start is None:
            return
        try:
            await asyncio.shield(start)
        except asyncio.CancelledError:
            if start.cancelled():
                raise StartCancelled(f"Kernel {kernel_id} was deleted while it started.") from None
            raise

    async def _run_start(self, km: Any, kernel: Kernel, kwargs: dict[str, Any]) -> None:
        if kwargs["env"] is None:
            del kwargs["env"]
        kernel_id, launched = kernel.kernel_id, False
        try:
            await km.start_kernel(**kwargs)
            launched = True
            km.use_connection(km.provisioner.connection_info)
            await self._connected_first(km, kernel_id)
            self.log.info("Elastic kernel started: %s", kernel_id)
        except Exception as raised:
            error = raised
            if not isinstance(error, ElasticError):
                # The kernel runs, but this server cannot use it: as bad as no kernel.
                self.log.exception("Elastic kernel %s could not be connected to", kernel_id)
                error = StartFailed(
                    f"This server could not connect to the kernel ({type(raised).__name__}).",
                    "Look into the server's log.",
                )
                launched = True
            if launched:  # else its launcher has recorded why
                assert self.elastic is not None
                await self.elastic.launcher.give_up(kernel_id, error)
            km.execution_state = "dead"
            km.reason = km.elastic_reason = str(error)
            self.log.warning("Elastic kernel %s did not start: %s", kernel_id, error)
            if self.elastic is None or kernel_id not in self.elastic.cluster.kernels():
                self._unregister(kernel_id)  # deleted by somebody else: nothing to show
            raise error from None
        finally:
            self._elastic_starts.pop(kernel_id, None)

    def _starts_here(self) -> set[str]:
        """Kernels that this server is starting, moving or stopping."""
        busy = {kid for kid in self._kernels if (km := self._elastic_km(kid)) and km.elastic_busy}
        return busy | set(self._elastic_starts)

    # -- the mapping -----------------------------------------------------------------------

    def _elastic_km(self, kernel_id: str) -> Any:
        km = self._kernels.get(kernel_id)
        return km if getattr(km, "elastic", None) is not None else None

    def _register(self, kernel_id: str, km: Any, owner: str) -> None:
        km.elastic = self.elastic
        km.elastic_owner = owner
        km.kernel_id = kernel_id
        km.execution_state, km.reason, km.last_activity = "starting", "", utcnow()
        km._activity_stream = None
        self._kernels[kernel_id] = km
        self._kernel_connections[kernel_id] = 0
        KERNEL_CURRENTLY_RUNNING_TOTAL.labels(type=km.kernel_name).inc()

    def _unregister(self, kernel_id: str) -> Any:
        """Forget a kernel; it may run on."""
        km = self._elastic_km(kernel_id)
        if km is None:
            return None
        self.stop_watching_activity(kernel_id)  # type: ignore[attr-defined]
        self.stop_buffering(kernel_id)  # type: ignore[attr-defined]
        self._unlisten(kernel_id)
        self._kernels.pop(kernel_id, None)
        self._kernel_connections.pop(kernel_id, None)
        self._kernel_ports.pop(kernel_id, None)
        KERNEL_CURRENTLY_RUNNING_TOTAL.labels(type=km.kernel_name).dec()
        return km

    # -- whose -----------------------------------------------------------------------------

    def elastic_sees(self, kernel_id: str, *, own: bool = False) -> bool:
        """Whether a kernel is there for whoever asks; ``own``: as one of their own."""
        asker = asker_of(self.elastic)
        km = self._kernels.get(kernel_id)
        if asker is None or km is None:
            return km is not None
        return asker.sees(getattr(km, "elastic_owner", NOBODY), own=own)

    @property
    def elastic_is_limited(self) -> bool:
        """Whether whoever asks may see only some of the kernels."""
        return asker_of(self.elastic) is not None

    def __contains__(self, kernel_id: str) -> bool:
        """Whether there is such a kernel, for whoever asks."""
        there: bool = super().__contains__(kernel_id)  # type: ignore[misc]
        return there and (not self.elastic_is_limited or self.elastic_sees(kernel_id))

    def _check_kernel_id(self, kernel_id: str) -> None:
        """404 for what does not exist; 503, which clients retry, while that is not known yet.

        Every method that is given a kernel's id begins with this, also that of its channels.
        """
        looked_for = kernel_id in self._elastic_later and not self.elastic_is_limited
        if kernel_id not in self._kernels and (looked_for or not self.elastic_is_ready):
            raise HTTPError(503, "Kernels that run already are being looked for; try again.")
        super()._check_kernel_id(kernel_id)

    # -- jupyter_server's API --------------------------------------------------------------

    async def start_kernel(
        self, *, kernel_id: str | None = None, path: str | None = None, **kwargs: Any
    ) -> str:
        """Start a kernel, elastic if its name is a template's, and return its id."""
        template = self.elastic_template(kwargs.get("kernel_name"))
        if template is None:
            self._refuse_former(kwargs.get("kernel_name"))
        known = kernel_id is not None and kernel_id in self._kernels
        if known and not self.elastic_sees(str(kernel_id)):
            raise as_http(KernelExists(f"There is a kernel {kernel_id} already."))
        if template is None or known:
            return await self._start_plain(kernel_id, path, **kwargs)
        await self.elastic_ready()
        try:
            return await self._start_by_name(template, kernel_id, path, kwargs.get("env"))
        except ElasticError as error:
            raise as_http(error) from error

    async def _start_plain(self, kernel_id: str | None, path: str | None, **kwargs: Any) -> str:
        """Start a plain kernel, or attach to the kernel of that id; it is the requester's."""
        try:
            owner = self._owner() if self.elastic is not None else NOBODY
        except Forbidden:
            owner = NOBODY
        with trusted():  # nobody's until its id is known; Jupyter's culler begins here as well
            started: str = await super().start_kernel(  # type: ignore[misc]
                kernel_id=kernel_id, path=path, **kwargs
            )
        km = self._kernels.get(started)
        if km is not None and not hasattr(km, "elastic_owner"):
            km.elastic_owner = owner
        return started

    def _refuse_former(self, kernel_name: str | None) -> None:
        """A kernelspec file may outlive its template; without one there is nothing to start."""
        if self.elastic is None:
            return
        try:
            spec = self.kernel_spec_manager.get_kernel_spec(kernel_name or self.default_kernel_name)
        except NoSuchKernel:
            return  # jupyter_server says it in its own words
        provisioner = spec.metadata.get("kernel_provisioner") or {}
        if provisioner.get("provisioner_name") != PROVISIONER:
            return
        try:
            self.elastic.template(str((provisioner.get("config") or {}).get("template", "")))
        except ElasticError as error:
            raise as_http(error) from error

    async def _start_by_name(
        self, template: Template, kernel_id: str | None, path: str | None, env: Any
    ) -> str:
        assert self.elastic is not None
        drafted, wait = _drafted.get() or (None, not getattr(self, "use_pending_kernels", False))
        if drafted is not None and drafted.kernel_id == kernel_id:
            kernel = drafted
        else:
            if kernel_id is not None and await self._attach_by_id(kernel_id):
                return kernel_id
            kernel = await self._draft(template, kernel_id, path)
        cwd = None if path is None else str(self.cwd_for_path(path, env=env or {}))  # type: ignore[attr-defined]
        await self._begin_start(kernel, wait=wait, cwd=cwd, env=env)
        return kernel.kernel_id

    async def _attach_by_id(self, kernel_id: str) -> bool:
        """Whether the id is that of a kernel of the owner, which another server started."""
        assert self.elastic is not None
        check_kernel_id(kernel_id)
        known = self.elastic.cluster.kernels().get(kernel_id)
        if known is None or known.phase is not KernelPhase.RUNNING:
            return False
        if not self.elastic.is_mine(known) or known.owner != self._owner():
            raise KernelExists(f"There is a kernel {kernel_id} already.")
        await self.adopt(known)
        return True

    async def _draft(self, template: Template, kernel_id: str | None, path: str | None) -> Kernel:
        """The record of a kernel for ``path``, with what the notebook there asks for."""
        assert self.elastic is not None
        origin = current_origin.get()
        if origin is None and path and path.endswith(".ipynb"):
            origin = await self._origin_of(path)
        resources, note = wished_resources(template, origin)
        if note:
            self.log.warning("%s", note)
        return self.elastic.draft(
            template.name,
            resources,
            owner=self._owner(),
            path=origin.path if origin else "",
            kernel_id=kernel_id,
        )

    async def _origin_of(self, path: str) -> Origin:
        assert self.elastic is not None
        contents = getattr(self.parent, "contents_manager", None)
        limit = self.elastic.settings.notebook_size_limit
        return await read_origin(contents, path, size_limit=limit, log=self.log)

    def _owner(self) -> str:
        """The owner of a kernel started by the request that is being handled."""
        assert self.elastic is not None
        if self.elastic.settings.owner_from == "server":
            return self.elastic.owner
        from jupyter_server.base.call_context import CallContext

        handler = CallContext.get(CallContext.JUPYTER_HANDLER)
        if handler is None:
            raise Forbidden("No request says whose kernel this should be.")
        return self.elastic.owner_of(handler.current_user)

    async def shutdown_kernel(
        self, kernel_id: str, now: bool = False, restart: bool = False
    ) -> None:
        """Shut a kernel down, or cancel its start."""
        km = self._elastic_km(kernel_id)
        if km is None or restart:
            await super().shutdown_kernel(kernel_id, now=now, restart=restart)  # type: ignore[misc]
            return
        self._check_kernel_id(kernel_id)
        with trusted():
            await self._shutdown_elastic(km, kernel_id, now)

    async def _shutdown_elastic(self, km: Any, kernel_id: str, now: bool) -> None:
        start = self._elastic_starts.get(kernel_id)
        if start is not None and not start.done():
            start.cancel()
            with contextlib.suppress(asyncio.CancelledError, ElasticError):
                await start
        km.elastic_busy = True
        self._unregister(kernel_id)
        self._ending.add(kernel_id)
        try:
            await km.shutdown_kernel(now=now)
        finally:
            self._ending.discard(kernel_id)
        self.log.info("Elastic kernel ended: %s", kernel_id)

    async def shutdown_all(self, now: bool = False) -> None:
        """At the server's end: plain kernels end, elastic ones run on unless configured."""
        with trusted():
            await self.close_elastic(now=now)
            await ensure_async(super().shutdown_all(now=now))  # type: ignore[misc]

    async def close_elastic(self, now: bool = False) -> None:
        """Let go of elastic kernels, or end them where ``stop_with_server`` is set. Idempotent.

        Kernels that are still starting are cancelled: half a start is of no use to anybody.
        """
        await self.close_adoption()
        elastic = [kid for kid in list(self._kernels) if self._elastic_km(kid) is not None]
        stop = self.elastic is not None and self.elastic.settings.stop_with_server
        ending = elastic if stop else [kid for kid in elastic if kid in self._elastic_starts]
        await asyncio.gather(*(self.shutdown_kernel(kid, now=now) for kid in ending))
        left = [kid for kid in elastic if kid not in ending]
        for kernel_id in left:
            self._unregister(kernel_id)
        if left:
            self.log.info("%d elastic kernel(s) run on without this server.", len(left))

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """Jupyter's culler leaves elastic kernels to their agents, which know better."""
        if self._elastic_km(kernel_id) is None:
            await super().cull_kernel_if_idle(kernel_id)  # type: ignore[misc]


def _retrieve(task: asyncio.Task[None]) -> None:
    """A start that nobody waits for has logged and recorded its failure already."""
    if not task.cancelled():
        task.exception()
