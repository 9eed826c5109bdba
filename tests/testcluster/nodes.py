"""The nodes: the real one with GPUs that it does not have, and any number that only pretend.

Pretending nodes are kwok's. They carry a taint, so only pods that tolerate it land there; such a
pod becomes Ready without a process.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

from .api import Api, ApiFailure, Object, until
from .certificates import NODE

GPU = "nvidia.com/gpu"
PRODUCT = "elastic.test/gpu-product"
FAKE_GPU = "fake-gpu"
TAINT = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
TOLERATION = {"key": "kwok.x-k8s.io/node", "operator": "Exists"}
FAKE_SELECTOR = "elastic.test/fake=true"


def ready(node: Object) -> bool:
    """Whether a node object says that it is Ready."""
    conditions = node.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def is_ready(admin: Api, name: str, since: datetime | None = None) -> bool:
    """Whether a node is there and Ready; with ``since``, and has said so from then on."""
    node = admin.find(f"/api/v1/nodes/{name}")
    if node is None or not ready(node):
        return False
    [condition] = [one for one in node["status"]["conditions"] if one["type"] == "Ready"]
    said = condition["lastHeartbeatTime"].replace("Z", "+00:00")
    return since is None or datetime.fromisoformat(said) >= since


def fake(name: str, capacity: dict[str, str], labels: dict[str, str] | None = None) -> Object:
    """A node that only pretends."""
    resources = {"cpu": "64", "memory": "512Gi", "pods": "1000", **capacity}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "elastic.test/fake": "true",
                **(labels or {}),
            },
        },
        "spec": {"taints": [TAINT]},
        "status": {"capacity": resources, "allocatable": resources},
    }


def prepare(admin: Api) -> None:
    """Give GPUs of two kinds: A100 at the real node, T4 at one that pretends."""
    give_gpus(admin)
    admin.post("/api/v1/nodes", fake(FAKE_GPU, {GPU: "4"}, {PRODUCT: "T4"}))


def give_gpus(admin: Api) -> None:
    """Let the real node have GPUs, as far as the scheduler and the kubelet can tell."""
    admin.patch(f"/api/v1/nodes/{NODE}", {"metadata": {"labels": {PRODUCT: "A100"}}})
    count: dict[str, Any] = {"capacity": {GPU: "4"}, "allocatable": {GPU: "4"}}
    admin.patch(f"/api/v1/nodes/{NODE}/status", {"status": count})


def add(admin: Api, count: int, prefix: str = "fake") -> list[str]:
    """Add nodes that pretend, and wait until they are Ready; their names."""
    names = [f"{prefix}-{number}" for number in range(count)]
    for name in names:
        try:
            admin.post("/api/v1/nodes", fake(name, {}))
        except ApiFailure as error:
            if error.reason != "AlreadyExists":
                raise
    for name in names:
        until(f"node {name}", partial(is_ready, admin, name))
    return names


def remove(admin: Api, names: list[str]) -> None:
    """Remove nodes; pods on them go by and by."""
    for name in names:
        admin.delete(f"/api/v1/nodes/{name}")
