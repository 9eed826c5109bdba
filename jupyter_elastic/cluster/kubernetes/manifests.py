"""What we write to Kubernetes: pods, secrets, config maps and owner references. Pure.

Built by typed construction, never from text templates, so that nothing that users set (names,
directories, environment) can become another field. What only a template's admin may set comes from
:class:`~jupyter_elastic.podoptions.PodOptions`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ...model import Kernel, Pod, Template
from ...podoptions import API_VERSION, GROUP, PodOptions
from ...resources import MIB, Gpu, Resources

MANAGED_BY = {"app.kubernetes.io/managed-by": "jupyter-elastic"}
OURS = ",".join(f"{key}={value}" for key, value in MANAGED_BY.items())
"""The label selector of what we make."""
CONTAINER = "kernel"

AGENT_PORT = 21000
KERNEL_PORTS = {
    "shell_port": 21001,
    "iopub_port": 21002,
    "stdin_port": 21003,
    "control_port": 21004,
    "hb_port": 21005,
}

WARM_REQUESTS = Resources(cpu=100, memory=128 * MIB)
"""What a warm pod asks its node for."""
WARM_MEMORY_LIMIT = 512 * MIB
"""The least memory a warm pod may use: importing what is preloaded must never fail."""
WARM_CPU_LIMIT = 2000
"""Millicores: warming up is short, and should be."""
COLD_OVERHEAD = 256 * MIB
"""Added at least to the memory of a pod born for a kernel, until its agent says what it needs."""
CPU_OVERHEAD = 50
"""Millicores of each limit that are the agent's."""
TERM_GRACE = 5
"""Seconds between a pod's deletion and SIGKILL; agents end sooner."""

RUN_DIR = "/elastic/run/pod"
_HASHED = re.compile(r"-[0-9a-f]{16}$")
_MOUNTS = (
    {"name": "elastic-agent", "mountPath": "/elastic/agent", "readOnly": True},
    {"name": "elastic-config", "mountPath": "/elastic/config", "readOnly": True},
    {"name": "elastic-run", "mountPath": "/elastic/run"},
)


def label(name: str) -> str:
    """One of our own labels or annotations."""
    return f"{GROUP}/{name}"


def owner_reference(
    kind: str, name: str, uid: str, api_version: str = API_VERSION
) -> dict[str, Any]:
    """Makes an object end with ``name``. Never blocking the owner's deletion."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
    }


def amounts(resources: Resources, overhead: int) -> dict[str, dict[str, str]]:
    """Requests and limits of a claimed pod: what was asked for, and the agent's overhead on top.

    Limits of CPU stand above requests, so that the pod is Burstable at every size: a pod's class
    may not change by a resize.
    """
    memory = str(resources.memory + overhead)
    return {
        "requests": {"cpu": f"{resources.cpu}m", "memory": memory},
        "limits": {"cpu": f"{resources.cpu + CPU_OVERHEAD}m", "memory": memory},
    }


def warm_amounts(template: Template) -> dict[str, dict[str, str]]:
    """Requests and limits of a warm pod: small, and enough for what is preloaded."""
    memory = max(WARM_MEMORY_LIMIT, template.resources.memory.default)
    return {
        "requests": {"cpu": f"{WARM_REQUESTS.cpu}m", "memory": str(WARM_REQUESTS.memory)},
        "limits": {"cpu": f"{WARM_CPU_LIMIT}m", "memory": str(memory)},
    }


def cold_overhead(template: Template, pods: Iterable[Pod]) -> int:
    """Bytes to add to the memory of a pod born for a kernel, until its agent says what it needs.

    A quarter more than the most that any pod of the same template needed: what is preloaded may be
    large, and there may be no room for more later.
    """
    same = [pod for pod in pods if pod.template_hash == template.hash and pod.warm_since]
    return max([COLD_OVERHEAD, *(pod.overhead * 5 // 4 for pod in same)])


def asked(resources: Resources) -> str:
    """Resources as the annotation ``asked`` keeps them."""
    return msgspec.json.encode(resources).decode()


def make_pod(
    name: str,
    template: Template,
    *,
    image: str,
    agent_map: str,
    agent_key: str,
    owner: dict[str, Any] | None = None,
    kernel: Kernel | None = None,
    overhead: int = COLD_OVERHEAD,
) -> dict[str, Any]:
    """A pod of ``template``: warm, or born for ``kernel``.

    Parameters
    ----------
    image
        Of the one container.
    agent_map
        Name of the ConfigMap with the agent's zipapp.
    agent_key
        The agent's public CurveZMQ key, for whoever dials.
    owner
        An owner reference: the pool, or the kernel it is born for.
    overhead
        Bytes for the agent, of a pod that is born for a kernel.
    """
    options = template.kubernetes or PodOptions()
    labels = {
        **options.labels,
        **MANAGED_BY,
        label("template"): template.name,
        label("hash"): template.hash,
        label("phase"): "warming",
    }
    annotations = {
        **options.annotations,
        label("version"): "1",
        label("agent-key"): agent_key,
    }
    if kernel is None:
        sizes = warm_amounts(template)
        gpu = template.resources.default().gpu
    else:
        sizes = amounts(kernel.resources, overhead)
        gpu = kernel.resources.gpu
        labels[label("kernel")] = kernel.kernel_id
        annotations[label("asked")] = asked(kernel.resources)
        annotations[label("overhead")] = str(overhead)
    node_selector = dict(options.node_selector)
    if gpu is not None and gpu.count:
        resource, selector = gpu_of(options, gpu)
        node_selector |= selector
        for part in sizes.values():
            part[resource] = str(gpu.count)
    volumes, mounts = _volumes(options, name, agent_map, kernel)
    metadata: dict[str, Any] = {"name": name, "labels": labels, "annotations": annotations}
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    container = {
        "name": CONTAINER,
        "image": image,
        "command": [
            template.interpreter or "python3",
            "/elastic/agent/agent.pyz",
            "/elastic/config/config.json",
        ],
        "env": [{"name": key, "value": value} for key, value in sorted(template.env.items())],
        "ports": [{"name": "agent", "containerPort": AGENT_PORT}],
        "resources": sizes,
        "resizePolicy": [
            {"resourceName": "cpu", "restartPolicy": "NotRequired"},
            {"resourceName": "memory", "restartPolicy": "NotRequired"},
        ],
        "terminationMessagePath": "/dev/termination-log",
        # The agent's own words where it left some; else the end of the log says what went wrong.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    if options.image_pull_policy:
        container["imagePullPolicy"] = options.image_pull_policy
    spec: dict[str, Any] = {
        "restartPolicy": "OnFailure",
        "terminationGracePeriodSeconds": TERM_GRACE,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": _security(options),
        "containers": [container],
        "volumes": volumes,
        "nodeSelector": node_selector,
        "tolerations": list(options.tolerations),
        "affinity": options.affinity,
        "topologySpreadConstraints": list(options.topology_spread) or _spread(template),
        "priorityClassName": options.priority_class,
        "runtimeClassName": options.runtime_class,
        "serviceAccountName": options.service_account,
        "imagePullSecrets": [{"name": secret} for secret in options.image_pull_secrets],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {key: value for key, value in spec.items() if value not in ("", [], {}, None)},
    }


def gpu_of(options: PodOptions, gpu: Gpu) -> tuple[str, Mapping[str, str]]:
    """The extended resource, and the node labels, that stand for a kind of GPU."""
    node = options.gpus.get(gpu.kind)
    return (gpu.kind, {}) if node is None else (node.resource, node.node_selector)


def _security(options: PodOptions) -> dict[str, Any]:
    """Of the pod: "restricted", less what the template's admin says otherwise."""
    context: dict[str, Any] = {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "runAsUser": options.run_as_user,
        "runAsGroup": options.run_as_group,
        "fsGroup": options.fs_group,
        **options.security_context,
    }
    return {key: value for key, value in context.items() if value is not None}


def _spread(template: Template) -> list[dict[str, Any]]:
    """Over the nodes, so that a resize finds room."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {label("template"): template.name}},
        }
    ]


def _volumes(
    options: PodOptions, name: str, agent_map: str, kernel: Kernel | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    config = [{"key": key, "path": key} for key in ("config.json", "keys.json")]
    volumes: list[dict[str, Any]] = [
        {"name": "elastic-agent", "configMap": {"name": agent_map}},
        {"name": "elastic-config", "secret": {"secretName": name, "items": config}},
        {"name": "elastic-run", "emptyDir": {}},
        *options.volumes,
    ]
    mounts: list[dict[str, Any]] = [*_MOUNTS, *options.volume_mounts]
    own = options.owner_volume
    if own is not None and kernel is not None:
        who = owner_slug(kernel.owner)
        claim = owner_claim(options, kernel.owner)
        volumes.append({"name": "elastic-owner", "persistentVolumeClaim": {"claimName": claim}})
        mount: dict[str, Any] = {"name": "elastic-owner", "mountPath": own.mount_path}
        if own.sub_path:
            mount["subPath"] = own.sub_path.replace("{owner}", who)
        mounts.append(mount)
    return volumes, mounts


def owner_slug(owner: str) -> str:
    """An owner in the letters of a Kubernetes name; different owners never share one.

    Nor can anybody choose a name that is the slug of another's.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", owner.lower()).strip("-")[:40]
    if slug == owner and not _HASHED.search(slug):
        return slug
    return f"{slug or 'owner'}-{hashlib.sha256(owner.encode()).hexdigest()[:16]}"


def owner_claim(options: PodOptions, owner: str) -> str:
    """The name of the PersistentVolumeClaim for an owner."""
    assert options.owner_volume is not None
    claim = options.owner_volume.claim or "elastic-{owner}"
    return claim.replace("{owner}", owner_slug(owner))


def make_claim(options: PodOptions, owner: str) -> dict[str, Any] | None:
    """The PersistentVolumeClaim to make for an owner; None: it must exist already."""
    own = options.owner_volume
    if own is None or own.claim_template is None:
        return None
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": owner_claim(options, owner), "labels": MANAGED_BY},
        "spec": own.claim_template,
    }


def make_config(
    name: str, template: Template, *, cold: Resources | None, warm_timeout: float
) -> dict[str, Any]:
    """The agent's configuration; see :mod:`jupyter_elastic.agent.config`."""
    return {
        "pod": name,
        "bind": f"tcp://*:{AGENT_PORT}",
        "run_dir": RUN_DIR,
        "keys": "/elastic/config/keys.json",
        "argv": list(template.argv) or None,
        "interrupt_mode": template.interrupt_mode,
        "language": template.language,
        "preload": list(template.preload),
        "cgroup": "own",
        "enforce": "cgroup",
        "memory": cold.memory if cold else 0,
        "cpu": cold.cpu if cold else 0,
        "warm_timeout": warm_timeout,
        "cpu_overhead": CPU_OVERHEAD,
        "init": True,
        "termination_log": "/dev/termination-log",
    }


def make_secret(
    pod: str,
    uid: str,
    config: Mapping[str, Any],
    keys: Mapping[str, Any],
    client: Mapping[str, Any],
) -> dict[str, Any]:
    """A pod's keys. The pod mounts all of it but ``client.json``; it ends with the pod."""
    data = {"config.json": config, "keys.json": keys, "client.json": client}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "immutable": True,
        "metadata": {
            "name": pod,
            "labels": MANAGED_BY,
            "ownerReferences": [owner_reference("Pod", pod, uid, "v1")],
        },
        "data": {
            key: base64.b64encode(json.dumps(value).encode()).decode()
            for key, value in data.items()
        },
    }


def make_agent_map(agent: bytes) -> dict[str, Any]:
    """The ConfigMap with the agent's zipapp, named by its content: one for each version."""
    digest = hashlib.sha256(agent).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "immutable": True,
        "metadata": {"name": f"jupyter-elastic-agent-{digest}", "labels": MANAGED_BY},
        "binaryData": {"agent.pyz": base64.b64encode(agent).decode()},
    }
