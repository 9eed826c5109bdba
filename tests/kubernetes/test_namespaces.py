"""Controllers that keep the pools of many namespaces, with the rights that are printed for them."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.server import free_port
from jupyter_elastic.cluster.kubernetes import shipped
from jupyter_elastic.cluster.kubernetes.namespaces import KEPT_BY, LABEL
from jupyter_elastic.pool.shards import shard_of

from ..testcluster.api import ApiFailure
from ..testcluster.world import Kube
from .desk import KERNELS, Desk
from .world import access, install

POOLS = "/apis/elastic.jupyter.org/v1alpha1/namespaces/{}/kernelpools"
PLURALS = {
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
}
ACCOUNT = "jupyter-elastic-controller"


def until(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return found


# -- the manifests --------------------------------------------------------------------------------


def test_the_api_server_takes_what_is_printed(kube: Kube) -> None:
    """As ``kubectl apply --dry-run=server`` asks it to, where "restricted" is enforced."""
    install(kube)
    with kube.namespace(enforce="restricted") as namespace:
        texts = (
            shipped.controller(namespace, "registry.example/img:1", [], ["--all-namespaces"]),
            shipped.controller(namespace, "registry.example/img:1", [namespace], ["--shards", "2"]),
            shipped.network_policy(namespace, "elsewhere"),
        )
        for body in (one for text in texts for one in yaml.safe_load_all(text)):
            path = PLURALS[body["kind"]].format(namespace)
            kube.admin.post(f"{path}?dryRun=All&fieldValidation=Strict", body)
        [pod] = [one for one in yaml.safe_load_all(texts[0]) if one["kind"] == "Deployment"]
        template = pod["spec"]["template"]
        template["metadata"]["name"] = "controller"
        template["spec"]["serviceAccountName"] = "default"  # its own was not made
        path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
        kube.admin.post(path, {"apiVersion": "v1", "kind": "Pod", **template})


# -- what they do ---------------------------------------------------------------------------------


class Replica:
    """A controller as a process of its own."""

    def __init__(self, config: Path, *words: str) -> None:
        self.port = free_port()
        self._log = config.with_name(f"replica-{self.port}.log")
        command = ["controller", "--config", str(config), "--port", str(self.port), *words]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyter_elastic.cli", *command], stdout=log, stderr=log
            )

    def ask(self, path: str) -> str:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/{path}", timeout=30
            ) as answer:
                return str(answer.read().decode())
        except (urllib.error.HTTPError, OSError):
            return ""

    def leads(self) -> set[str]:
        """The namespaces whose pools it keeps."""
        lines = self.ask("metrics").splitlines()
        rows = [line for line in lines if line.startswith("jupyter_elastic_pool_leader{")]
        return {row.split('namespace="')[1].split('"')[0] for row in rows if row.endswith(" 1.0")}

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def log(self) -> str:
        return self._log.read_text()


class Landlord:
    """Namespaces with a template each, and controllers in one more."""

    def __init__(self, kube: Kube, stack: ExitStack, folder: Path) -> None:
        self.kube, self._stack, self._folder = kube, stack, folder
        self.home = stack.enter_context(kube.namespace())
        self.replicas: list[Replica] = []
        stack.callback(self.end)

    def end(self) -> None:
        for replica in self.replicas:
            replica.end()

    def namespace(self, *, in_another_shard_than: Desk | None = None) -> Desk:
        """One with a template; a name in the other of two shards is found by trying."""
        other = in_another_shard_than
        for _ in range(20):
            name = self._stack.enter_context(self.kube.namespace())
            if other is None or shard_of(name, 2) != shard_of(other.namespace, 2):
                break
        desk = Desk(self.kube, name, self._folder)
        desk.offer(pool=1)
        return desk

    def label(self, desk: Desk, value: str | None) -> None:
        labels = {"metadata": {"labels": {LABEL: value}}}
        self.kube.admin.patch(f"/api/v1/namespaces/{desk.namespace}", labels)

    def make_pool(self, desk: Desk) -> None:
        body = {"apiVersion": "elastic.jupyter.org/v1alpha1", "kind": "KernelPool"}
        path = POOLS.format(desk.namespace)
        self.kube.admin.post(path, {**body, "metadata": {"name": "mine"}})

    def apply_kernel(self, desk: Desk) -> None:
        """Write a record that nobody starts."""
        spec = {"template": "work", "owner": "ada", "resources": {"cpu": "1", "memory": "300Mi"}}
        body = {"apiVersion": "elastic.jupyter.org/v1alpha1", "kind": "Kernel", "spec": spec}
        meta = {"name": str(uuid.uuid4())}
        self.kube.admin.post(KERNELS.format(desk.namespace), {**body, "metadata": meta})

    def keeper(self, desk: Desk) -> str:
        """Who the namespace's KernelPool says keeps it."""
        pools = self.kube.admin.get(POOLS.format(desk.namespace))["items"]
        return "".join(one["metadata"].get("annotations", {}).get(KEPT_BY, "") for one in pools)

    def install(self, namespaces: list[str]) -> None:
        """The account and its rights, as they are printed."""
        for body in yaml.safe_load_all(shipped.controller(self.home, "img", namespaces, [])):
            if body["kind"] in ("Deployment", "ConfigMap"):
                continue
            path = PLURALS[body["kind"]].format(body["metadata"].get("namespace", ""))
            one = f"{path}/{body['metadata']['name']}"
            self.kube.admin.delete(one)
            self.kube.admin.post(path, body)
            self._stack.callback(self.kube.admin.delete, one)
        token = self.kube.token(self.home, ACCOUNT)
        self._config = self._folder / "config.py"
        self._config.write_text(
            "c.ElasticKernels.cluster = 'kubernetes'\n"
            f"c.ElasticKubernetes.kubeconfig = {str(token)!r}\n"
            f"c.ElasticKubernetes.namespace = {self.home!r}\n"
            f"c.ElasticKubernetes.access = {access(self.kube)!r}\n"
        )

    def start(self, *words: str) -> Replica:
        replica = Replica(self._config, *words)
        self.replicas.append(replica)
        return replica

    def until_warm(self, *desks: Desk) -> None:
        def all_are() -> bool:
            return all(warm(desk) for desk in desks)

        names = ", ".join(desk.namespace for desk in desks)
        self.until(all_are, f"warm pods in {names}")

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        try:
            return until(condition, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None

    def logs(self) -> str:
        return "\n".join(one.log() for one in self.replicas)

    def leader(self, desk: Desk) -> Replica:
        def look() -> list[Replica]:
            return [one for one in self.replicas if desk.namespace in one.leads()]

        found: list[Replica] = self.until(look, f"a leader of {desk.namespace}")
        [leader] = found
        return leader


def warm(desk: Desk) -> list[str]:
    phase = "elastic.jupyter.org/phase"
    return [
        pod["metadata"]["name"]
        for pod in desk.pods()
        if pod["metadata"].get("labels", {}).get(phase) == "warm"
        and "deletionTimestamp" not in pod["metadata"]
    ]


def running(desk: Desk) -> bool:
    return [one.get("status", {}).get("phase") for one in desk.kernels()] == ["Running"]


@pytest.fixture
def landlord(kube: Kube, tmp_path: Path) -> Iterator[Landlord]:
    if kube.cluster is None:
        pytest.skip("controllers outside of the cluster reach pods by their addresses only here")
    install(kube)
    with ExitStack() as stack:
        yield Landlord(kube, stack, tmp_path)


@pytest.mark.fault
@pytest.mark.timeout(600)
def test_pools_come_and_go_with_labels_and_survive_a_replica(landlord: Landlord) -> None:
    """Two replicas with the rights that are printed; the leader of one shard at least is killed."""
    one, by_pool, unmarked, refused = (landlord.namespace() for _ in range(4))
    two = landlord.namespace(in_another_shard_than=one)
    for desk in (one, two):
        landlord.label(desk, "enabled")
    for desk in (by_pool, refused):
        landlord.make_pool(desk)
    landlord.label(refused, "disabled")
    landlord.install([])
    words = ("--all-namespaces", "--shards", "2")
    landlord.start(*words), landlord.start(*words)

    landlord.until_warm(one, two, by_pool)
    assert unmarked.pods() == refused.pods() == []
    assert {landlord.keeper(desk) for desk in (one, two, by_pool)} == {landlord.home}
    assert {landlord.keeper(unmarked), landlord.keeper(refused)} == {""}

    landlord.until(
        lambda: all(replica.leads() for replica in landlord.replicas), "each has a shard"
    )
    assert landlord.leader(one) is not landlord.leader(two)
    killed = landlord.leader(one)
    killed.process.kill()
    [other] = [replica for replica in landlord.replicas if replica is not killed]
    landlord.until(lambda: len(other.leads()) == 3, "the other one keeps all of them")
    [lost] = warm(one)
    one.remove(f"pods/{lost}")
    landlord.until_warm(one)

    landlord.apply_kernel(two)
    landlord.until(lambda: running(two), "a kernel that was only applied runs")
    landlord.until_warm(two)

    landlord.label(one, None)
    landlord.label(unmarked, "enabled")
    landlord.until_warm(unmarked)
    landlord.until(lambda: not one.pods(), "its warm pods are given back")
    landlord.until(lambda: not landlord.keeper(one), "its pool is given up")
    landlord.until(lambda: one.namespace not in other.leads(), "it is looked after no more")
    landlord.until(lambda: len(warm(two)) == 1, "the other pool stays as it is")

    third = landlord.start(*words)
    landlord.until(lambda: third.ask("readyz"), "the third is ready")
    other.process.terminate()
    assert other.process.wait(60) == 0
    landlord.until(lambda: len(third.leads()) == 3, "it is handed over to")
    assert "Traceback" not in landlord.logs()
    assert "may not" not in landlord.logs(), landlord.logs()


def test_a_list_of_namespaces_needs_rights_in_these_only(landlord: Landlord) -> None:
    listed, other = landlord.namespace(), landlord.namespace()
    landlord.label(other, "enabled")
    landlord.install([listed.namespace])
    replica = landlord.start("--namespaces", listed.namespace)
    landlord.until_warm(listed)
    landlord.until(lambda: replica.leads() == {listed.namespace}, "it says so")
    assert other.pods() == []
    path = f"/api/v1/namespaces/{other.namespace}/pods"
    with pytest.raises(ApiFailure) as refusal:
        type(landlord.kube.admin)(landlord.kube.token(landlord.home, ACCOUNT)).get(path)
    assert refusal.value.code == 403
    assert "Traceback" not in landlord.logs()
