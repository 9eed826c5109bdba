"""What an admin may set, as traitlets: ``c.ElasticKernels`` and a class for each cluster."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_runtime_dir
from traitlets import Bool, Enum, Float, Int, List, Unicode, Union, default
from traitlets.config import Configurable


class ElasticKernels(Configurable):
    """Templates, ownership and behaviour of elastic kernels, on any cluster."""

    templates: List[Any] = List(
        help="""What users may start: dicts, or paths or globs of YAML files (one template, or a
        list of them, per file), reloaded when they change. Empty: one template for each kernelspec
        on this machine.""",
    ).tag(config=True)

    cluster = Enum(
        ["local", "kubernetes"],
        default_value="local",
        help="Where pods run: `local` (this machine) or `kubernetes`.",
    ).tag(config=True)

    owner = Unicode(
        help="""To whom kernels started through this server belong. Servers of the same owner on
        the same cluster share their kernels. Default: $JUPYTERHUB_USER, else the name of the
        operating system's user.""",
    ).tag(config=True)

    owner_from = Enum(
        ["server", "identity"],
        default_value="server",
        help="""`server`: every kernel belongs to `owner`. `identity`: to the authenticated user
        of each request (a server shared by several people, with an identity provider). Then
        Jupyter's own API, too, shows and gives each user only what is theirs.""",
    ).tag(config=True)

    keep_pool = Bool(
        True, help="Whether this server may keep warm pods (be the pool's controller)."
    ).tag(config=True)

    refill_delay = Float(
        1.0,
        help="Seconds after a start before the pool is refilled, so as not to slow the first cell.",
    ).tag(config=True)

    stop_with_server = Bool(
        False,
        help="""End the owner's kernels when this server is stopped cleanly. By default they run
        on, and the next server finds them.""",
    ).tag(config=True)

    start_timeout = Float(
        120.0,
        help="Seconds a start may take, cold starts included, before it fails. The time that it "
        "waits for room does not count.",
    ).tag(config=True)

    queue_timeout = Float(
        600.0,
        help="""Seconds a start waits for room when the quota or the machine is full; then it
        fails. Those who wait get room in turn, one start of each owner after the other. Kernels
        that move to another pod, and requests to Jupyter's own API, which answers only when the
        kernel runs, wait `start_timeout` at most. 0: a start without room fails at once.""",
    ).tag(config=True)

    queue_per_owner = Int(
        20,
        help="""Starts of one owner that may wait for room; a further one is refused (429, with
        `Retry-After`). 0: any number.""",
    ).tag(config=True)

    channel_encryption = Enum(
        ["auto", "required", "preferred", "disabled"],
        default_value="auto",
        help="""CurveZMQ on the kernels' own channels, which needs ipykernel 7.3 beside the kernel
        and jupyter_client 8.9 here. `required`: kernels that cannot are refused. `preferred`:
        encrypted where possible. `auto`: `preferred` on the local cluster, whose channels do not
        leave the machine, and `required` on Kubernetes. With `preferred` or `disabled` there, what
        you type and see can be read by whoever can listen on the pods' network; messages are still
        signed. The control channel of the agent is always encrypted.""",
    ).tag(config=True)

    notebook_size_limit = Int(
        100 * 2**20,
        help="Bytes up to which a notebook is read for the resources in its metadata.",
    ).tag(config=True)

    @default("owner")
    def _default_owner(self) -> str:
        name = os.environ.get("JUPYTERHUB_USER")
        if name:
            return name
        try:
            return getpass.getuser()
        except (KeyError, OSError):  # a user id without a name, as in many containers
            return f"uid-{os.getuid()}"


class ElasticLocal(Configurable):
    """The local cluster: pods are process groups on this machine."""

    state_dir = Unicode(
        help="Directory of the records (0700). Default: `elastic` in Jupyter's runtime directory."
    ).tag(config=True)

    cpu = Union(
        [Unicode(), Float()],
        default_value="",
        help='CPU that all pods may have together ("6", "7500m"). Default: all cores, times '
        "`cpu_overcommit`.",
    ).tag(config=True)

    memory = Unicode(
        "",
        help='Memory that all pods may have together ("12Gi"). Default: the machine\'s, less a '
        "reserve.",
    ).tag(config=True)

    cpu_overcommit = Float(
        4.0, help="CPU promised to kernels per core that is there; CPU is compressible."
    ).tag(config=True)

    cgroup = Unicode(
        "auto",
        help="""Control groups for limits: `auto`, `off` (weaker means: affinity and a watchdog),
        or the path of a group that this server may write.""",
    ).tag(config=True)

    orphan_after = Float(
        300.0, help="Seconds after which warm pods end by themselves when no server keeps them."
    ).tag(config=True)

    @default("state_dir")
    def _default_state_dir(self) -> str:
        return str(Path(jupyter_runtime_dir()) / "elastic")

    def options(self) -> dict[str, Any]:
        """The keyword arguments of :class:`~jupyter_elastic.cluster.local.LocalCluster`."""
        from ..cluster.local.machine import capacity
        from ..resources import Resources, parse_cpu, parse_memory

        machine = capacity(self.cpu_overcommit)
        where = "c.ElasticLocal"
        cpu = parse_cpu(self.cpu, f"{where}.cpu") if self.cpu else machine.cpu
        memory = parse_memory(self.memory, f"{where}.memory") if self.memory else machine.memory
        return {
            "state_dir": Path(self.state_dir),
            "capacity": Resources(cpu=cpu, memory=memory),
            "cpu_overcommit": self.cpu_overcommit,
            "cgroup": self.cgroup,
            "orphan_after": self.orphan_after,
        }


class ElasticKubernetes(Configurable):
    """The Kubernetes cluster: pods are pods of one namespace."""

    namespace = Unicode(
        help="Namespace of pods and records. Default: the server's own in a cluster, else that of "
        "the kubeconfig's context."
    ).tag(config=True)

    kubeconfig = Unicode(
        help="Path of a kubeconfig. Default: the service account in a cluster, else $KUBECONFIG or "
        "~/.kube/config."
    ).tag(config=True)

    context = Unicode(help="Context of the kubeconfig. Default: its current one.").tag(config=True)

    access = Enum(
        ["auto", "direct", "port-forward"],
        default_value="auto",
        help="""How this server reaches pods: `direct` by their addresses (in the cluster),
        `port-forward` through the API server (from a laptop). `auto`: direct in a cluster.""",
    ).tag(config=True)

    image = Unicode(help="Image of templates that name none.").tag(config=True)

    env_allowed = List(
        Unicode(),
        default_value=["JPY_SESSION_NAME", "TZ"],
        help="Variables of the server's environment that kernels get; no others travel.",
    ).tag(config=True)

    root_dir = Unicode(
        help="The server's directory that a template's `kubernetes.root_dir` is the mount of. "
        "Default: the server's root_dir."
    ).tag(config=True)

    cpu = Unicode(
        "",
        help='CPU that all kernels of the namespace may have together ("200"). Default: as far '
        "as its ResourceQuota goes.",
    ).tag(config=True)

    memory = Unicode(
        "",
        help='Memory that all kernels of the namespace may have together ("500Gi"). Default: '
        "as far as its ResourceQuota goes.",
    ).tag(config=True)

    deferred_grace = Float(
        10.0,
        help="Seconds a resize may wait for its node to have room before it is taken back.",
    ).tag(config=True)

    requests_per_second = Float(
        100.0,
        min=1.0,
        help="Requests to the API server per second, on average. At once five times as many, so "
        "that a class that begins does not wait: a start takes about five.",
    ).tag(config=True)

    @default("root_dir")
    def _default_root_dir(self) -> str:
        return str(getattr(self.parent, "root_dir", "") or "")

    def options(self) -> dict[str, Any]:
        """Keyword arguments of :class:`~jupyter_elastic.cluster.kubernetes.KubernetesCluster`."""
        from ..resources import parse_cpu, parse_memory

        where = "c.ElasticKubernetes"
        return {
            "namespace": self.namespace,
            "kubeconfig": self.kubeconfig,
            "context": self.context,
            "access": self.access,
            "image": self.image,
            "env_allowed": frozenset(self.env_allowed),
            "root_dir": self.root_dir,
            "cpu": parse_cpu(self.cpu, f"{where}.cpu") if self.cpu else None,
            "memory": parse_memory(self.memory, f"{where}.memory") if self.memory else None,
            "deferred_grace": self.deferred_grace,
            "qps": self.requests_per_second,
        }
