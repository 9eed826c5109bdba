"""The test cluster itself: that it is a Kubernetes, and what the fixture ``kube`` promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from jupyter_elastic.resources import MIB

from ..testcluster.api import Api, ApiFailure, Object, until
from ..testcluster.nodes import FAKE_GPU, FAKE_SELECTOR, GPU, PRODUCT, TOLERATION
from ..testcluster.world import Kube, Rule


@pytest.fixture
def namespace(kube: Kube) -> Iterator[str]:
    with kube.namespace() as name:
        yield name


def pod(kube: Kube, name: str, script: str, **spec: Any) -> Object:
    """A pod as strict as pods of kernels are, which runs a Python script."""
    resources = {
        "requests": {"cpu": "10m", "memory": "64Mi"},
        "limits": {"cpu": "500m", "memory": "128Mi"},
    }
    container = {
        "name": "kernel",
        "image": kube.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [kube.python, "-c", script],
        "resources": resources,
        "volumeMounts": [*kube.mounts, {"name": "tmp", "mountPath": "/tmp"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "resizePolicy": [
            {"resourceName": resource, "restartPolicy": "NotRequired"}
            for resource in ("cpu", "memory")
        ],
    }
    return {
        "metadata": {"name": name},
        "spec": {
            "containers": [container],
            "volumes": [*kube.volumes, {"name": "tmp", "emptyDir": {}}],
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            **spec,
        },
    }


def pods(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def is_ready(found: Object) -> bool:
    conditions = found["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def resize(kube: Kube, namespace: str, name: str, cpu: str, memory: str) -> None:
    resources = {"limits": {"cpu": cpu, "memory": memory}, "requests": {"memory": memory}}
    kube.admin.patch(
        f"{pods(namespace)}/{name}/resize",
        {"spec": {"containers": [{"name": "kernel", "resources": resources}]}},
        "application/strategic-merge-patch+json",
    )


STAY = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
signal.pause()
"""


def test_nodes_are_ready(kube: Kube) -> None:
    listed = kube.admin.get("/api/v1/nodes")["items"]
    assert [is_ready(node) for node in listed] == [True] * len(listed) != []


def test_a_restricted_pod_runs_this_python(kube: Kube, namespace: str) -> None:
    script = """
import ipykernel, os, zmq
try:
    open("/proof", "w")
except OSError as error:
    print(error.strerror)
print(os.getuid(), zmq.Context().socket(zmq.REP).bind_to_random_port("tcp://*") > 0, flush=True)
"""
    kube.admin.post(pods(namespace), pod(kube, "one", script + STAY))
    kube.await_pod(namespace, "one", is_ready)
    until("its words", lambda: "True" in kube.log(namespace, "one"))
    assert kube.log(namespace, "one") == "Read-only file system\n1000 True\n"


def test_a_resize_reaches_the_kernel(kube: Kube, namespace: str) -> None:
    uid = kube.admin.post(pods(namespace), pod(kube, "one", STAY))["metadata"]["uid"]
    kube.await_pod(namespace, "one", is_ready)
    if kube.cluster is not None:
        assert kube.limits(uid) == (128 * MIB, 500)
        assert len(kube.container_pids(uid) or []) == 1
    resize(kube, namespace, "one", "1500m", "256Mi")
    wanted = {"cpu": "1500m", "memory": "256Mi"}
    after = kube.await_pod(namespace, "one", lambda now: given(now) == wanted)
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0
    if kube.cluster is not None:
        assert kube.limits(uid) == (256 * MIB, 1500)


def given(found: Object) -> Object:
    limits: Object = found["status"]["containerStatuses"][0]["resources"]["limits"]
    return limits


def needs_kwok(kube: Kube) -> None:
    if kube.cluster is None:
        pytest.skip("only the tree's own cluster has nodes that pretend")


def test_gpus_of_two_kinds_are_counted(kube: Kube, namespace: str) -> None:
    needs_kwok(kube)
    for product, node in (("A100", "node1"), ("T4", FAKE_GPU)):
        for name, count in ((f"{product.lower()}-most", "3"), (f"{product.lower()}-more", "2")):
            body = pod(kube, name, STAY, nodeSelector={PRODUCT: product}, tolerations=[TOLERATION])
            body["spec"]["containers"][0]["resources"]["limits"][GPU] = count
            kube.admin.post(pods(namespace), body)
        most = kube.await_pod(namespace, f"{product.lower()}-most", is_ready)
        assert most["spec"]["nodeName"] == node
        waits = kube.await_pod(
            namespace,
            f"{product.lower()}-more",
            lambda now: f"Insufficient {GPU}" in str(now["status"].get("conditions")),
        )
        assert waits["status"]["phase"] == "Pending"


def test_pods_pretend_and_take_a_resize(kube: Kube, namespace: str) -> None:
    needs_kwok(kube)
    with kube.fake_nodes(2) as names:
        key, value = FAKE_SELECTOR.split("=")
        chosen = {"nodeSelector": {key: value}, "tolerations": [TOLERATION]}
        kube.admin.post(pods(namespace), pod(kube, "one", STAY, **chosen))
        found = kube.await_pod(namespace, "one", is_ready)
        assert found["spec"]["nodeName"] in [*names, FAKE_GPU]
        started = found["status"]["containerStatuses"][0]["state"]
        resize(kube, namespace, "one", "2", "1Gi")
        wanted = {"cpu": "2", "memory": "1Gi"}
        found = kube.await_pod(namespace, "one", lambda now: given(now) == wanted)
        assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
        assert found["status"]["containerStatuses"][0]["state"] == started
    assert not {node["metadata"]["name"] for node in kube.admin.get("/api/v1/nodes")["items"]} & {
        *names
    }


def test_a_service_account_may_do_only_what_it_was_given(kube: Kube, namespace: str) -> None:
    rule = Rule(groups=("",), resources=("pods",), verbs=("list",))
    account = Api(kube.service_account(namespace, [rule]))
    assert account.get(pods(namespace))["items"] == []
    for path in (pods("default"), f"/api/v1/namespaces/{namespace}/secrets", "/api/v1/nodes"):
        with pytest.raises(ApiFailure) as refused:
            account.get(path)
        assert refused.value.code == 403
    with pytest.raises(ApiFailure, match="cannot create resource"):
        account.post(pods(namespace), pod(kube, "one", STAY))


def test_admission_refuses(kube: Kube, namespace: str) -> None:
    kube.quota(namespace, {"requests.memory": "100Mi"})
    kube.admin.post(pods(namespace), pod(kube, "one", STAY))
    with pytest.raises(ApiFailure, match="exceeded quota"):
        kube.admin.post(pods(namespace), pod(kube, "two", STAY))
    kube.quota(namespace, {"requests.memory": "1Gi"})
    kube.limit_range(namespace, {"type": "Container", "max": {"memory": "100Mi"}})
    most = {"limits": {"memory": "100Mi"}}
    until("the old quota is forgotten", lambda: kube.admits(namespace, most))
    more = {"limits": {"memory": "101Mi"}}
    until("the range holds", lambda: not kube.admits(namespace, more))
    with pytest.raises(ApiFailure, match="maximum memory usage per Container is 100Mi"):
        kube.admin.post(pods(namespace), pod(kube, "three", STAY))
    with kube.namespace(enforce="restricted") as strict:
        body = pod(kube, "one", STAY)
        body["spec"]["containers"][0]["securityContext"] = {"privileged": True}
        with pytest.raises(ApiFailure, match="violates PodSecurity"):
            kube.admin.post(pods(strict), body)


def test_a_killed_component_comes_back(kube: Kube, namespace: str) -> None:
    if kube.cluster is None:
        pytest.skip("only the tree's own cluster may be broken")
    kube.cluster.restart("scheduler")
    kube.admin.post(pods(namespace), pod(kube, "one", STAY))
    found = kube.await_pod(namespace, "one", is_ready)
    assert found["spec"]["nodeName"], "somebody scheduled it"
