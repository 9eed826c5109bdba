"""What the process of a kernel is started with, and how an agent is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..cluster.base import Cluster
from ..model import Kernel, Pod, Template


class StartArgs(msgspec.Struct, kw_only=True):
    """What a kernel process is given, besides its resources. Kept in memory only."""

    key: str
    """The HMAC key of the kernel's messages."""
    env: dict[str, str]
    inherit: bool = False
    """Whether ``env`` comes on top of the pod's own environment, or is the whole of it."""
    cwd: str | None = None
    curve: dict[str, str] | None = None
    """``{publickey, secretkey}`` (Z85) to encrypt the kernel's channels, where it can."""
    require_curve: bool = False
    """Refuse a kernel whose channels would not be encrypted."""
    on_death: str = "restart"
    """``restart``: the agent brings a kernel that dies back. ``report``: it stays dead."""
    cull_after: float | None = None
    """Overrides the template's idle time (lone clients, which nobody else cleans up after)."""
    client: dict[str, int] | None = None
    """``{pid, start_ticks}`` of a process of this machine; the kernel ends when it is gone."""


def start_fields(
    cluster: Cluster, pod: Pod, kernel: Kernel, template: Template, args: StartArgs
) -> dict[str, Any]:
    """The fields of the request that has an agent start the kernel in its pod."""
    idle = template.idle
    ports = cluster.kernel_ports
    cull_after = idle.cull_after if args.cull_after is None else args.cull_after
    return {
        "kernel_id": kernel.kernel_id,
        "key": args.key,
        "signature_scheme": "hmac-sha256",
        "curve": args.curve,
        "env": {**_env_for(cluster, args.env), **template.env},
        "inherit": args.inherit,
        "cwd": cluster.working_directory(template, args.cwd) or template.working_directory,
        "ip": cluster.kernel_ip,
        "ports": None if ports is None else dict(ports),
        "memory": kernel.resources.memory,
        "cpu": kernel.resources.cpu,
        "idle": {
            "cull_after": cull_after,
            "max_age": idle.max_age,
            "cull_connected": idle.cull_connected,
        },
        "on_death": args.on_death,
        "kernel_name": template.name,
        "argv_context": {},
        "gpu": list(pod.gpu_ids),
        # A process of this machine is none of a pod elsewhere.
        "client": args.client if cluster.inherits_environment else None,
    }


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """The server's environment as a plain kernel would inherit it, less what names the process.

    Nothing is kept from kernels that the operating system lets them read anyway: locally, kernel
    and server are processes of one user.
    """
    return {name: value for name, value in base.items() if name not in _PROCESS_OWN}


def _env_for(cluster: Cluster, env: Mapping[str, str]) -> dict[str, str]:
    """What of this process's environment goes with a kernel."""
    if cluster.inherits_environment:
        return dict(env)
    return {name: env[name] for name in cluster.env_allowed if name in env}


_PROCESS_OWN = frozenset({"JPY_PARENT_PID", "JUPYTER_ELASTIC_POD", "_"})
