"""The client of the Kubernetes API on a real API server and kubelet.

Faults that a real server cannot be made to show are in ``unit/``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Iterator
from pathlib import Path

import pytest
import yaml

import jupyter_elastic
from jupyter_elastic import errors
from jupyter_elastic.cluster.kubernetes import problems
from jupyter_elastic.cluster.kubernetes.api import MERGE_PATCH, KubeApi

from ..testcluster.api import Object
from ..testcluster.world import Kube, Rule
from .clients import client, pod

STRATEGIC = "application/strategic-merge-patch+json"


@pytest.fixture
def namespace(kube: Kube) -> Iterator[str]:
    with kube.namespace() as name:
        yield name


# -- refusals, in the words of this Kubernetes ---------------------------------------------------


async def refusal(asked: Awaitable[object]) -> errors.ElasticError:
    with pytest.raises(errors.ElasticError) as caught:
        await asked
    return caught.value


async def test_quota(kube: Kube, namespace: str) -> None:
    hard = {"limits.memory": "256Mi", "requests.cpu": "2", "pods": "2"}
    kube.quota(namespace, hard)
    async with client(kube.kubeconfig, namespace) as api:
        pods = api.path("pods")
        full = await refusal(api.request("POST", pods, body=pod(kube, "a", memory="1Gi")))
        assert isinstance(full, problems.ApiQuotaFull)
        assert full.quota == "quota"
        assert "memory limits: 1 GiB asked, 0 of 256 MiB taken." in full.message
        await api.request("POST", pods, body=pod(kube, "a"))
        larger = await refusal(resize(api, "a", memory="512Mi"))
        assert isinstance(larger, problems.ApiQuotaFull)
        assert "448 MiB more asked, 64 MiB of 256 MiB taken." in larger.message
        bare = pod(kube, "bare")
        del bare["spec"]["containers"][0]["resources"]
        lacking = await refusal(api.request("POST", pods, body=bare))
        assert isinstance(lacking, errors.InvalidObject)
        assert "must specify" in lacking.message


def resize(api: KubeApi, name: str, **limits: str) -> Awaitable[bytes]:
    body = {"spec": {"containers": [{"name": "kernel", "resources": {"limits": limits}}]}}
    return api.request("PATCH", api.path("pods", name, "resize"), body=body, content_type=STRATEGIC)


async def test_limit_range(kube: Kube, namespace: str) -> None:
    async with client(kube.kubeconfig, namespace) as api:
        await api.request("POST", api.path("pods"), body=pod(kube, "before"))
        kube.limit_range(
            namespace,
            {
                "type": "Container",
                "max": {"memory": "128Mi", "cpu": "500m"},
                "min": {"memory": "48Mi"},
                "maxLimitRequestRatio": {"cpu": "4"},
            },
        )
        await until_refused(api, pod(kube, "a", "", "1Gi"))
        refused = await refusal(
            api.request("POST", api.path("pods"), body=pod(kube, "a", "", "1Gi"))
        )
        assert isinstance(refused, errors.LimitRangeRefused)
        for words in (
            "at most 128 MiB of memory per container, and 1 GiB is the limit asked",
            "at least 48 MiB of memory per container, and 32 MiB is the request asked",
            "at most 0.5 CPU per container, and 1 is the limit asked",
            "at most 4 times the request of CPU per container, and 100 is asked",
        ):
            assert words in refused.message
        assert isinstance(
            await refusal(resize(api, "before", memory="1Gi")), errors.LimitRangeRefused
        )


async def until_refused(api: KubeApi, body: Object) -> None:
    """The API server hears of a LimitRange by a watch of its own."""
    for _ in range(600):
        try:
            await api.request("POST", api.path("pods"), body=body, query={"dryRun": "All"})
        except errors.LimitRangeRefused:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the LimitRange does not hold")


async def test_pod_security(kube: Kube) -> None:
    with kube.namespace("restricted") as namespace:
        async with client(kube.kubeconfig, namespace) as api:
            refused = await refusal(api.request("POST", api.path("pods"), body=pod(kube, "a")))
    assert isinstance(refused, errors.PodSecurityRefused)
    assert "runAsNonRoot != true" in refused.message
    assert '"restricted:latest"' in refused.message


async def test_permissions(kube: Kube, namespace: str) -> None:
    account = kube.service_account(namespace, [Rule(("",), ("pods",), ("get",))])
    async with client(account) as api:
        assert api.namespace == namespace
        group = "elastic.jupyter.org/v1alpha1"
        for asked, verb, resource in (
            (resize(api, "a", memory="1Gi"), "patch", "pods/resize"),
            (api.request("GET", api.path("pods")), "list", "pods"),
            (api.watch(api.path("pods"), {}).__anext__(), "watch", "pods"),
            (api.request("GET", "/api/v1/nodes"), "list", "nodes"),
            (
                api.request("POST", api.path("kernels", api=group), body={}),
                "create",
                "kernels.elastic.jupyter.org",
            ),
            (
                api.websocket(api.path("pods", "a", "portforward"), {"ports": "1"}, []),
                "create",
                "pods/portforward",
            ),
        ):
            refused = await refusal(asked)
            assert isinstance(refused, errors.Forbidden)
            assert f"`{verb}`" in refused.remedy
            assert f"`{resource}`" in refused.remedy
        missing = await refusal(api.request("GET", api.path("pods", "nobody")))
        assert isinstance(missing, problems.ApiNotFound)


async def test_conflicts_and_what_is_not_valid(kube: Kube, namespace: str) -> None:
    async with client(kube.kubeconfig, namespace) as api:
        body = pod(kube, "a")
        made = json.loads(await api.request("POST", api.path("pods"), body=body))["metadata"]
        path = api.path("pods", "a")

        def patch(**metadata: str) -> Awaitable[bytes]:
            return api.request("PATCH", path, body={"metadata": metadata}, content_type=MERGE_PATCH)

        stale = await refusal(patch(resourceVersion="1"))
        assert isinstance(stale, problems.ApiConflict)
        assert not stale.exists
        another = await refusal(patch(uid="0", resourceVersion=made["resourceVersion"]))
        assert isinstance(another, errors.Conflict)
        taken = await refusal(
            api.request("POST", api.path("pods"), body=body, exists=errors.KernelExists)
        )
        assert isinstance(taken, errors.KernelExists)
        wrong = {"preconditions": {"uid": "0"}}
        assert isinstance(await refusal(api.request("DELETE", path, body=wrong)), errors.Conflict)
        for sizes, words in (
            ({"nvidia.com/gpu": "1"}, "only cpu and memory resources are mutable"),
            ({"memory": "32Mi", "cpu": "10m"}, "Pod QOS Class may not change"),
        ):
            refused = await refusal(resize(api, "a", **sizes))
            assert isinstance(refused, errors.InvalidObject)
            assert words in refused.message
        bad = pod(kube, "Bad_Name", priorityClassName="none-such")
        assert (
            "none-such" in (await refusal(api.request("POST", api.path("pods"), body=bad))).message
        )
        invalid = await refusal(api.request("POST", api.path("pods"), body=pod(kube, "Bad_Name")))
        assert isinstance(invalid, errors.InvalidObject)
        assert invalid.field == "metadata.name"


async def test_what_this_cluster_does_not_have(kube: Kube, namespace: str) -> None:
    async with client(kube.kubeconfig, namespace) as api:
        for path in (api.path("pods", "a", "no-such"), api.path("things", api="example.org/v1")):
            assert isinstance(await refusal(api.request("GET", path)), problems.ApiNotFound)
        group = "elastic.jupyter.org/v1alpha99"
        missing = await refusal(api.request("GET", api.path("kernels", api=group)))
        assert isinstance(missing, errors.CrdsMissing)
    async with client(kube.kubeconfig, "none-such") as api:
        refused = await refusal(api.request("POST", api.path("pods"), body=pod(kube, "a")))
        assert refused.message == "Namespace none-such does not exist."


async def test_credentials_and_certificates(kube: Kube, namespace: str, tmp_path: Path) -> None:
    account = kube.service_account(namespace, [Rule(("",), ("pods",), ("list",))])
    text = account.read_text()
    [user] = yaml.safe_load(text)["users"]
    token = user["user"]["token"]
    changed = tmp_path / "changed"
    changed.write_text(text.replace(token, "x" + token))
    async with client(changed) as api:
        assert isinstance(
            await refusal(api.request("GET", api.path("pods"))), problems.Unauthorized
        )
        # Somebody logs in again.
        changed.write_text(text)
        assert b"PodList" in await api.request("GET", api.path("pods"))
    config = yaml.safe_load(text)
    config["clusters"][0]["cluster"].pop("certificate-authority-data", None)
    config["clusters"][0]["cluster"].pop("certificate-authority", None)
    changed.write_text(json.dumps(config))
    async with client(changed) as api:
        untrusted = await refusal(api.request("GET", api.path("pods")))
        assert isinstance(untrusted, errors.ApiUnreachable)
        assert "cannot be trusted" in untrusted.message


async def test_in_a_pod(kube: Kube, namespace: str) -> None:
    if kube.cluster is None:
        pytest.skip("needs the machine's folders in a pod")
    kube.service_account(namespace, [Rule(("",), ("pods",), ("list",))], name="inside")
    home = str(Path(jupyter_elastic.__file__).parents[1])
    script = f"""
import asyncio, json, sys
sys.path.insert(0, {home!r})
from jupyter_elastic.cluster.kubernetes.api import KubeApi
async def main():
    api = await KubeApi.connect()
    found = json.loads(await api.request("GET", api.path("pods")))
    print(json.dumps([api.in_cluster, api.namespace, found["kind"]]))
    await api.close()
asyncio.run(main())
"""
    body = pod(kube, "inside", script, "256Mi")
    body["spec"] |= {
        "automountServiceAccountToken": True,
        "serviceAccountName": "inside",
        "restartPolicy": "Never",
        "volumes": [*kube.volumes, {"name": "home", "hostPath": {"path": home}}],
    }
    mounts = [*kube.mounts, {"name": "home", "mountPath": home, "readOnly": True}]
    body["spec"]["containers"][0]["volumeMounts"] = mounts
    kube.admin.post(f"/api/v1/namespaces/{namespace}/pods", body)
    done = {"Succeeded", "Failed"}
    kube.await_pod(namespace, "inside", lambda one: one["status"]["phase"] in done)
    lines = kube.log(namespace, "inside").splitlines()
    assert json.loads(lines[-1]) == [True, namespace, "PodList"], lines
