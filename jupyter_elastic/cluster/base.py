"""The port: the only door to infrastructure. Small; everything clever is written above it, once.

Two adapters implement it, :mod:`jupyter_elastic.cluster.local` (a pod is an agent and its
processes on this machine) and :mod:`jupyter_elastic.cluster.kubernetes`. ``tests/contract`` runs
the same suite against each.

Promises that hold for every adapter:

* Names and ids are unique for ever; a deleted pod or kernel never comes back.
* ``version`` changes with every write; writes that carry a stale one raise
  :class:`~jupyter_elastic.errors.Conflict` and change nothing.
* Deleting what is gone is no error. Deleting a kernel ends its pod and all its processes.
* Events arrive in order per object, on the loop that called :meth:`Cluster.open`, and
  :meth:`Cluster.pods` / :meth:`Cluster.kernels` already show what an event tells.
* No method blocks the loop for more than 50 ms.
* Failures are :class:`~jupyter_elastic.errors.ElasticError` subclasses, named per method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from ..errors import ElasticError
from ..model import Capacity, Enforcement, Kernel, Pod, PoolRow, Step, Template
from ..resources import Resources


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something in the cluster changed. ``new`` is None when the object is gone for good."""

    kind: Literal["pod", "kernel", "capacity", "templates", "lease"]
    """``lease``: one that we asked for may be free now; not every adapter can tell."""
    name: str
    """Pod name, kernel id or the lease's name; empty for capacity and templates."""
    old: Pod | Kernel | None = None
    new: Pod | Kernel | None = None


Listener = Callable[[Change], None]
"""Called on the loop; must not block; must not raise."""


class Agent(Protocol):
    """A conversation with one pod's agent; see :mod:`jupyter_elastic.agent.protocol`."""

    async def call(self, op: str, timeout: float = 10.0, **fields: Any) -> dict[str, Any]:
        """Send a request and return the reply's fields.

        Raises
        ------
        AgentUnreachable
            No answer within ``timeout`` seconds.
        ElasticError
            The agent refused; its reason and message are kept.
        """

    def on_event(self, listener: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Be told the agent's events (kernel-exited, kernel-restarted ...); returns a disposer."""

    def close(self) -> None:
        """End the conversation; the agent goes on."""


class Cluster(ABC):
    """Where pods run."""

    name: str
    """``local`` or ``kubernetes``."""

    inherits_environment: bool = False
    """Whether a kernel gets the server's environment, as a plain local kernel does."""

    env_allowed: frozenset[str] = frozenset()
    """Names of the server's variables that travel to kernels, where the whole does not."""

    takes_over: bool = False
    """Whether records may come from anywhere, so that a controller starts what nobody starts."""

    settles_later: bool = False
    """Whether a size may be accepted and yet not come into force (``resize_pod``)."""

    exposed: bool = False
    """Whether kernel channels cross a network: then they are encrypted, or the start refused."""

    lease_valid: float = 5.0
    """Seconds for which a lease that was got just now is certainly ours, if no more is heard."""

    lease_look: float = 5.0
    """Seconds between two tries to get a lease that somebody else has."""

    kernel_ip: str = "127.0.0.1"
    """Where a kernel binds its channels inside its pod."""

    kernel_ports: Mapping[str, int] | None = None
    """The ports it binds there, by their names in a connection file; None: any free ones."""

    # -- life ------------------------------------------------------------------------------

    @abstractmethod
    async def open(self) -> None:
        """Read the present state and begin to watch. Called once, before all else.

        Raises
        ------
        Unsupported
            This machine lacks something; the sentence names it.
        """

    @abstractmethod
    async def close(self) -> None:
        """Stop watching and release handles. Pods and kernels run on."""

    # -- reading: a cache kept fresh by the watch ------------------------------------------

    @abstractmethod
    def pods(self) -> Mapping[str, Pod]:
        """All pods by name, as last seen. Do not change the mapping."""

    @abstractmethod
    def kernels(self) -> Mapping[str, Kernel]:
        """All kernels by id, of every owner, as last seen. Do not change the mapping."""

    @abstractmethod
    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Be told every change from now on; returns a disposer."""

    @abstractmethod
    async def refresh(self) -> None:
        """Return once the cache shows everything written, by anyone, before this call."""

    async def refresh_one(self, kind: Literal["pod", "kernel"], name: str) -> None:
        """The same for one pod (by name) or kernel (by id), as after a conflict over it.

        It may be cheaper than :meth:`refresh`, and does not read the others.
        """
        await self.refresh()

    @abstractmethod
    async def capacity(self) -> Capacity:
        """The quota and what of it is taken by all pods."""

    @abstractmethod
    def enforcement(self) -> Enforcement:
        """By what means limits hold here."""

    @abstractmethod
    def gpu_kinds(self) -> tuple[str, ...]:
        """Kinds of GPU that exist here; empty when there are none."""

    def offered(self) -> tuple[Mapping[str, Template], Sequence[ElasticError]] | None:
        """Templates that are objects of the cluster, and what is wrong with others.

        A :class:`Change` of kind ``templates`` tells that they changed. None: templates come from
        configuration alone.
        """
        return None

    def pool_size(self, template: Template) -> int | None:
        """How many warm pods to keep of a template; None: make none, and leave those there are."""
        return template.pool.size

    def pool_predicts(self, template: Template) -> bool:
        """Whether :meth:`pool_size` is only the least that is kept of a template."""
        return template.pool.predict

    # -- what a kernel sees of the cluster -------------------------------------------------

    def why_cold(self, template: Template, kernel: Kernel) -> str:
        """Why no warm pod of ``template`` can serve ``kernel``, as a sentence; empty: one may."""
        return ""

    def working_directory(self, template: Template, path: str | None) -> str | None:
        """The directory inside the pod that is the server's ``path``; None: the pod's own."""
        return path

    async def reach(self, pod: Pod, connection: dict[str, Any]) -> dict[str, Any]:
        """A connection file's content as this process has to use it to reach the kernel.

        ``connection`` is what the agent says, in the pod's own terms. Idempotent; the way stays
        open until the pod is gone or the cluster closed.
        """
        return connection

    async def rejoined(self, pod: Pod) -> None:
        """Return once clients of a kernel that was started again in its pod are connected again.

        As far as this process knows of them, and within seconds. Whoever is told sooner that the
        kernel is back may ask it something whose outputs nobody of them receives.
        """
        return

    # -- pods ------------------------------------------------------------------------------

    @abstractmethod
    async def create_pod(self, template: Template, *, kernel: Kernel | None = None) -> Pod:
        """Create a pod, to be warm later. Returns at once with phase ``warming``.

        With ``kernel`` the pod is born for it (a cold start): sized for the kernel's resources,
        already bound to it, and never in the pool; it still passes through ``warming`` and
        becomes ``claimed`` when its agent is up.

        Raises
        ------
        QuotaFull
            No room, with the figures.
        BadInterpreter
            The template's interpreter does not exist or cannot run an agent.
        """

    @abstractmethod
    async def wait_pod(
        self, name: str, timeout: float, *, tell: Callable[[Step], None] | None = None
    ) -> Pod:
        """Return the pod once it is ``warm`` or ``claimed`` with an agent address.

        ``tell`` is called with each dated step on the way, where the cluster knows of any.

        Raises
        ------
        AgentTimeout
            Not in time, or it ended first; with the last lines of its log.
        BadInterpreter
            It ended because the interpreter lacks something; the remedy says what to install.
        ElasticError
            It will never be up, with cause and remedy.
        """

    @abstractmethod
    async def claim_pod(self, pod: Pod, kernel: Kernel) -> Pod:
        """Compare-and-swap ``warm -> claimed`` for ``kernel`` (invariant 1 of the design).

        Raises
        ------
        Conflict
            ``pod`` is not as given any more, or not warm. Nothing was changed.
        QuotaFull
            No room for the kernel's resources, with the figures. Nothing was changed: the pod
            stays warm.
        QuotaFull, NoGpu
            Where GPUs are given at claim: none is free, or there are none. Nothing was changed.
        """

    @abstractmethod
    async def resize_pod(
        self,
        pod: Pod,
        resources: Resources,
        *,
        wait: bool = True,
        tell: Callable[[str], None] | None = None,
    ) -> Pod:
        """Set the limits of a claimed pod, live. Returns the pod as enforced.

        CPU and memory only; GPUs are given at claim (locally) or at creation. Without ``wait`` it
        returns as soon as the size is accepted and counted, which may be before it is enforced:
        the same call with ``wait`` then tells how it went. Asking for the present size is no error.
        ``tell`` is called with a sentence whenever it has to wait for something.

        Raises
        ------
        QuotaFull
            No room for the growth, with the figures; limits stay as they were.
        ShrinkUnderUse
            Memory would be under current use, with the figures; limits stay as they were.
        ResizeUnsupported
            Other GPUs than the kernel has were asked for, or limits cannot be changed here.
        NoNodeFits
            The pod's node has no room for it; limits are as they were (not without ``wait``).
        Conflict, Gone
            The pod is not as given any more.
        """

    @abstractmethod
    async def delete_pod(self, name: str, reason: str = "", *, if_spare: bool = False) -> None:
        """End a pod with everything in it. Idempotent.

        With ``if_spare`` nothing happens to a pod that somebody has claimed, be it a moment ago.
        """

    @abstractmethod
    async def dial(self, pod: Pod) -> Agent:
        """Open an authenticated, encrypted conversation with the pod's agent.

        Raises
        ------
        Gone
            The pod has no agent any more.
        """

    @abstractmethod
    async def pod_log(self, name: str, lines: int = 50) -> str:
        """The last lines the pod's agent and zygote wrote; empty when there is none."""

    # -- kernels ---------------------------------------------------------------------------

    @abstractmethod
    async def create_kernel(self, kernel: Kernel) -> Kernel:
        """Record a kernel. Whoever's call returns may start it (invariant 2 of the design).

        Raises
        ------
        KernelExists
            The id is taken.
        """

    @abstractmethod
    async def update_kernel(self, kernel: Kernel) -> Kernel:
        """Write the record if its ``version`` is still the stored one; returns it re-versioned.

        Raises
        ------
        Conflict
            It changed since, or it is gone.
        """

    @abstractmethod
    async def delete_kernel(self, kernel_id: str) -> None:
        """Remove the record and end its pod with everything in it. Idempotent."""

    # -- controllers -----------------------------------------------------------------------

    @abstractmethod
    async def acquire_lease(self, name: str) -> bool:
        """Try to be, or stay, the one holder of ``name``. Call it again within 10 s to keep it.

        Also tells warm pods that a controller is there; without one they end by themselves.
        """

    @abstractmethod
    async def release_lease(self, name: str) -> None:
        """Let another take over at once. Idempotent."""

    async def report_pool(self, rows: Sequence[PoolRow]) -> None:  # noqa: B027 - few keep it
        """Keep how the pool stands where administrators look; called by who holds ``pool``."""

    async def keep_demand(self, text: str) -> None:  # noqa: B027 - a help, no duty
        """Keep what is known of the demand for the next who holds ``pool``; called by who does."""

    async def kept_demand(self) -> str:
        """What was kept last, by any process; empty when nothing was."""
        return ""

    async def pool_report(self) -> Sequence[PoolRow]:
        """What was reported last, by any process; empty when nothing was, or it is not kept."""
        return ()
