"""``elastic-provisioner``: what jupyter_client calls to run an elastic kernel.

In a Jupyter server it is a thin adapter: the record was written and the kernel registered by the
kernel manager mixin before it is asked for anything. For a lone client (nbclient, papermill,
``jupyter console --kernel``), which finds the kernelspec that ``jupyter elastic kernelspecs
install`` wrote, it opens the cluster itself, and the kernel ends with the client.

Contract: ``jupyter_client.provisioning.provisioner_base``. ``poll`` never reports a kernel dead
because the cluster could not be asked: that would make a restarter destroy it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import zmq
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from traitlets import Dict, Unicode

from ..agent import protocol
from ..errors import Conflict, ElasticError, Gone, NotRunning, UnknownKernel
from ..model import KernelPhase, PodPhase
from ..resources import Resources
from ..templates import parse_template
from .lone import lone_thread
from .startargs import StartArgs, environment

if TYPE_CHECKING:
    from .service import ElasticService

_T = TypeVar("_T")

LONE_CULL_AFTER = 3600.0
"""Seconds after which an idle kernel of a lone client ends, should the client forget it."""


class ElasticProvisioner(KernelProvisionerBase):
    """Runs one elastic kernel; see the module."""

    template = Unicode(help="Name of the template.").tag(config=True)
    definition = Dict(
        help="The whole template, for clients that have no server's configuration."
    ).tag(config=True)
    state_dir = Unicode(help="The local cluster's state directory, for lone clients.").tag(
        config=True
    )

    parent: Any  # the kernel manager, always given by jupyter_client's factory
    _running = False
    _lone = False
    _exit: int | None = None

    # -- the service behind it -------------------------------------------------------------

    async def _with_service(self, work: Callable[[ElasticService], Coroutine[Any, Any, _T]]) -> _T:
        """Do ``work`` where the service lives: in a server here, else on a thread of its own."""
        from .service import ElasticService
        from .standalone import with_lone_service

        manager = getattr(self.parent, "parent", None)
        service = getattr(manager, "elastic", None)
        self._lone = not isinstance(service, ElasticService)
        if isinstance(service, ElasticService):
            return await work(service)
        return await with_lone_service(self.state_dir, bool(self.definition), work)

    def _over(self) -> bool:
        """Whether the client is ending, and its kernels have been ended already."""
        return self._lone and lone_thread().over

    # -- start -----------------------------------------------------------------------------

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Complete the launch's arguments; nothing is started yet."""
        kwargs.pop("extra_arguments", None)
        kwargs.pop("transport_encryption", None)
        # jupyter_client insists on a command; what runs is the agent's affair.
        return await super().pre_launch(cmd=["elastic", self.template], **kwargs)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Start the kernel, or start it again in its pod after a stock restart."""
        return await self._with_service(lambda service: self._launch(service, kwargs))

    async def _launch(self, service: ElasticService, kwargs: dict[str, Any]) -> dict[str, Any]:
        env = environment(kwargs.get("env") or os.environ)
        # As for a plain kernel: relative to, or simply, the directory of this process.
        cwd = os.path.abspath(kwargs.get("cwd") or os.getcwd())
        if self._running or self._exit is not None:
            connection = await self._restart_in_place(service, env, cwd)
            if connection is not None:
                return self._started(connection)
        args = StartArgs(
            **self._identity(service),
            env=env,
            cwd=cwd,
        )
        if self._lone:
            if self.definition:
                where = f"kernelspec {self.template}"
                service.templates.offer(parse_template(dict(self.definition), where=where))
            args.on_death = "report"
            args.cull_after = LONE_CULL_AFTER
            if not kwargs.get("independent"):
                args.client = lone_thread().client
                lone_thread().keep(self.kernel_id, service)
            kernel = await service.record_lone(self.kernel_id, self.template, kwargs.get("elastic"))
        else:
            kernel = service.launcher.records.kernel(self.kernel_id)
        template = service.template(kernel.template)
        try:
            patience = getattr(self.parent, "elastic_patience", None)
            launched = await service.launcher.launch(kernel, template, args, patience=patience)
        except ElasticError:
            if self._lone:  # nobody is there who would look at a Failed kernel
                await self._end(service)
            raise
        return self._started(launched.connection)

    async def relaunch(
        self, env: dict[str, str], cwd: str | None, *, resources: Resources | None = None
    ) -> dict[str, Any]:
        """A new pod, of another size if one is given, for the same kernel.

        Returns the new connection.
        """
        return await self._with_service(
            lambda service: self._relaunch(service, env, cwd, resources)
        )

    async def _relaunch(
        self,
        service: ElasticService,
        env: dict[str, str],
        cwd: str | None,
        resources: Resources | None,
    ) -> dict[str, Any]:
        kernel = service.launcher.records.kernel(self.kernel_id)
        args = StartArgs(
            **self._identity(service),
            env=environment(env),
            cwd=cwd,
        )
        template = service.template(kernel.template)
        launched = await service.launcher.relaunch(kernel, template, args, resources=resources)
        return self._started(launched.connection)

    async def _restart_in_place(
        self, service: ElasticService, env: dict[str, str], cwd: str
    ) -> dict[str, Any] | None:
        try:
            return await service.launcher.running.restart(self.kernel_id, grace=0, env=env, cwd=cwd)
        except (Gone, NotRunning, UnknownKernel):
            # The pod went with the kernel; begin anew under the same id.
            await service.launcher.running.stop(self.kernel_id)
            return None

    def _identity(self, service: ElasticService) -> dict[str, Any]:
        """What is the same for every process of this kernel."""
        return {
            "key": self.parent.session.key.decode(),
            "inherit": not service.cluster.inherits_environment,
            "curve": self._curve(service),
            "require_curve": service.requires_encryption,
        }

    def _curve(self, service: ElasticService) -> dict[str, str] | None:
        """A key pair for the kernel's channels, kept over restarts, where the client can use it."""
        manager = self.parent
        if service.settings.channel_encryption == "disabled" or not zmq.has("curve"):
            return None
        if not hasattr(type(manager), "curve_publickey"):  # jupyter_client before 8.9
            return None
        if manager.curve_publickey is not None and manager.curve_secretkey is not None:
            public, secret = manager.curve_publickey, manager.curve_secretkey
        else:
            public, secret = zmq.curve_keypair()
        return {"publickey": public.decode(), "secretkey": secret.decode()}

    def _started(self, connection: dict[str, Any]) -> dict[str, Any]:
        self._running, self._exit = True, None
        info: Any = as_connection_info(connection)
        self.connection_info = info
        if "curve_publickey" not in connection and hasattr(type(self.parent), "curve_publickey"):
            # load_connection_info never clears keys that an earlier kernel had.
            self.parent.curve_publickey = self.parent.curve_secretkey = None
        return dict(info)

    def adopt(self, connection: dict[str, Any]) -> dict[str, Any]:
        """Take over a kernel that runs already."""
        return self._started(connection)

    # -- while it runs ---------------------------------------------------------------------

    @property
    def has_process(self) -> bool:
        """Whether there is a kernel to speak of."""
        return self._running

    async def poll(self) -> int | None:
        """None while the kernel lives, or nobody can tell; else an exit status."""
        if not self._running or self._over():
            return 0 if self._exit is None else self._exit
        return await self._with_service(self._poll)

    async def _poll(self, service: ElasticService) -> int | None:
        kernel = service.cluster.kernels().get(self.kernel_id)
        if kernel is None:
            return 0
        if kernel.phase is KernelPhase.FAILED:
            return 1
        if not self._lone:
            return None
        return await self._poll_lone(service)

    async def _poll_lone(self, service: ElasticService) -> int | None:
        kernel = service.launcher.records.kernel(self.kernel_id)
        pod = service.cluster.pods().get(kernel.pod or "")
        if pod is None or pod.phase is PodPhase.GONE:
            self._exit = 1
            if pod is not None:
                await service.fail(self.kernel_id, pod.reason, pod.message)
            return 1
        try:
            agent = await service.launcher.running.agent_of(self.kernel_id)
            status = await agent.call("status", timeout=5)
        except ElasticError as error:
            self.log.debug("The agent of kernel %s did not answer: %s", self.kernel_id, error)
            return None
        if status.get("alive", True):
            return None
        ended = status.get("exit") or {}
        if ended.get("reason") == protocol.OUT_OF_MEMORY:
            message = str(ended.get("message", ""))
            self.log.error("%s", message)
            await service.fail(self.kernel_id, protocol.OUT_OF_MEMORY, message)
        code, signum = ended.get("code"), ended.get("signal")
        self._exit = code if code is not None else -(signum or 0)
        return self._exit

    async def wait(self) -> int | None:
        """Wait until the kernel is no more; callers bound it."""
        while True:
            code = await self.poll()
            if code is not None:
                break
            await asyncio.sleep(0.05)
        self._running = False
        self._exit = code
        return code

    async def send_signal(self, signum: int) -> None:
        """Send a signal to the kernel's whole process group; 0 only asks whether it is there."""
        if signum == 0 or not self._running or self._over():
            return
        await self._with_service(lambda service: self._signal(service, signum))

    async def _signal(self, service: ElasticService, signum: int) -> None:
        try:
            agent = await service.launcher.running.agent_of(self.kernel_id)
            await agent.call("signal", signum=int(signum))
        except (Gone, UnknownKernel, NotRunning):
            self.log.debug("Kernel %s is gone; no signal sent.", self.kernel_id)

    async def kill(self, restart: bool = False) -> None:
        """SIGKILL. The pod stays until :meth:`cleanup`: an immediate restart comes this way."""
        await self.send_signal(signal.SIGKILL)

    async def terminate(self, restart: bool = False) -> None:
        """SIGTERM."""
        await self.send_signal(signal.SIGTERM)

    async def cleanup(self, restart: bool = False) -> None:
        """Give the pod back, unless the kernel is about to be started again in it."""
        if restart:
            return
        over, self._running = self._over(), False
        if not over:
            await self._with_service(self._end)

    async def _end(self, service: ElasticService) -> None:
        try:
            await service.launcher.running.stop(self.kernel_id)
            if self._lone:
                lone_thread().let_go(self.kernel_id)
        except Conflict as error:
            self.log.warning("Kernel %s could not be removed yet: %s", self.kernel_id, error)

    # -- for managers that persist ---------------------------------------------------------

    async def get_provisioner_info(self) -> dict[str, Any]:
        """What another process needs to load this provisioner."""
        info = await super().get_provisioner_info()
        return {**info, "template": self.template, "state_dir": self.state_dir}

    async def load_provisioner_info(self, provisioner_info: dict[str, Any]) -> None:
        """The counterpart of :meth:`get_provisioner_info`."""
        await super().load_provisioner_info(provisioner_info)
        self.template = provisioner_info.get("template", self.template)
        self.state_dir = provisioner_info.get("state_dir", self.state_dir)
        self._running = True


def as_connection_info(connection: dict[str, Any]) -> dict[str, Any]:
    """A connection file's content in the types jupyter_client keeps: the key as bytes."""
    info = dict(connection)
    key = info.get("key", "")
    info["key"] = key.encode() if isinstance(key, str) else key
    info.setdefault("transport", "tcp")
    info.setdefault("signature_scheme", "hmac-sha256")
    return info
