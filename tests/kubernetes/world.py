"""Elastic kernels on the Kubernetes of this run: definitions, rights, templates, a side door."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import yaml

from jupyter_elastic.agent import processes
from jupyter_elastic.cluster import base
from jupyter_elastic.cluster import kubernetes as adapter
from jupyter_elastic.cluster.kubernetes import KubernetesCluster
from jupyter_elastic.model import Kernel, Pod, Template
from jupyter_elastic.podoptions import PodOptions
from jupyter_elastic.resources import Resources

from ..contract.suite import World
from ..testcluster.api import until
from ..testcluster.world import Kube

HERE = Path(adapter.__file__).parent
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def install(kube: Kube) -> None:
    """Have our resource definitions in the cluster, as they are now, and served. Idempotent."""
    for file in sorted((HERE / "crds").glob("*.yaml")):
        body = yaml.safe_load(file.read_text())
        path = f"{DEFINITIONS}/{body['metadata']['name']}"
        if kube.admin.find(path) is None:
            kube.admin.post(DEFINITIONS, body)
        else:
            kube.admin.patch(path, {"spec": body["spec"]})
        group, names = body["spec"]["group"], body["spec"]["names"]
        served = f"/apis/{group}/v1alpha1/{names['plural']}"
        until(f"{names['kind']} objects are served", partial(kube.admin.find, served))


def rules(name: str = "server-role") -> list[Any]:
    """The rules of a role that we ship."""
    found = yaml.safe_load_all((HERE / "rbac" / f"{name}.yaml").read_text())
    [role] = [one for one in found if one and one["kind"] == "Role"]
    rules: list[Any] = role["rules"]
    return rules


def access(kube: Kube) -> str:
    """How agents are reached: pods of the tree's own cluster can be, those of others may not."""
    return "direct" if kube.cluster is not None else "auto"


def server_rules(kube: Kube) -> list[Any]:
    """What a user's server needs here."""
    return rules() if access(kube) == "direct" else [*rules(), *rules("port-forward-role")]


def options(kube: Kube, **more: Any) -> PodOptions:
    """How pods run on the cluster of this run."""
    return PodOptions(
        **{
            "run_as_user": 1000,
            "volumes": tuple(kube.volumes),
            "volume_mounts": tuple(kube.mounts),
            **more,
        }
    )


class Noting(KubernetesCluster):
    """Notes the uid of each pod that it makes: the side door finds processes by it."""

    uids: dict[str, str]

    async def create_pod(self, template: Template, *, kernel: Kernel | None = None) -> Pod:
        pod = await super().create_pod(template, kernel=kernel)
        self.uids[pod.name] = pod.uid
        return pod


class KubernetesWorld(World):
    """A namespace of its own, seen with the rights of a user's server."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace
        self.kubeconfig = kube.service_account(namespace, server_rules(kube))
        self.uids: dict[str, str] = {}

    def make(self, capacity: Resources, **more: Any) -> base.Cluster:
        cluster = Noting(
            **{
                "namespace": self.namespace,
                "kubeconfig": str(self.kubeconfig),
                "access": access(self.kube),
                "cpu": capacity.cpu,
                "memory": capacity.memory,
                "qps": 500.0,
                **more,
            }
        )
        cluster.uids = self.uids
        return cluster

    def template(self, name: str = "contract", **more: Any) -> Template:
        return Template(
            **{
                "name": name,
                "display_name": name,
                "image": self.kube.image,
                "interpreter": self.kube.python,
                "env": {"HOME": "/tmp"},
                "resources": self.offer(),
                "kubernetes": options(self.kube),
                **more,
            }
        )

    def processes(self, pod: str) -> list[int]:
        pids = self.kube.container_pids(self.uids[pod]) or []
        found = (processes.stat(pid) for pid in pids)
        return [one.pid for one in found if one is not None and one.state not in "ZX"]

    def agent_of(self, pod: str) -> int:
        pids = self.processes(pod)
        found = [one for one in map(processes.stat, pids) if one is not None]
        [first] = [one for one in found if one.ppid not in pids]
        return min((one for one in found if one.ppid == first.pid), key=lambda one: one.start).pid

    def kill(self, pids: list[int]) -> None:
        processes.kill(pids)

    def memory_limit(self, pod: str) -> int | None:
        limits = self.kube.limits(self.uids[pod])
        return limits.memory if limits is not None else None
