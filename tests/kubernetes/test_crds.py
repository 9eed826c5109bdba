"""Our resource definitions in a real API server: what it accepts, refuses and shows."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import yaml

from jupyter_elastic.cli import main
from jupyter_elastic.cluster.kubernetes import shipped
from jupyter_elastic.cluster.kubernetes.convert import OPERATOR_API
from jupyter_elastic.errors import BadTemplate
from jupyter_elastic.templates.objects import template_from_object

from ..testcluster.api import Api, ApiFailure, Object, until
from ..testcluster.world import Kube
from .world import DEFINITIONS, rules

API = "elastic.jupyter.org/v1alpha1"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
ARGV = ["R", "{connection_file}"]


@pytest.fixture(scope="module")
def definitions(kube: Kube) -> None:
    """Those of this tree: a cluster that runs on may have older ones."""
    for body in yaml.safe_load_all(shipped.definitions()):
        path = f"{DEFINITIONS}/{body['metadata']['name']}"
        present = kube.admin.find(path)
        if present is None:
            kube.admin.post(DEFINITIONS, body)
            continue
        body["metadata"]["resourceVersion"] = present["metadata"]["resourceVersion"]
        if (
            kube.admin.put(path, body)["metadata"]["generation"]
            == present["metadata"]["generation"]
        ):
            continue
        time.sleep(1)  # Nothing tells when a changed schema is in force.


@pytest.fixture(scope="module")
def shared(kube: Kube, definitions: None) -> Iterator[str]:
    """The path of our resources in a namespace that stays empty: for what is only tried."""
    with kube.namespace() as name:
        path = f"/apis/{API}/namespaces/{name}"
        for plural in ("kerneltemplates", "kernels"):
            until(plural, partial(kube.admin.find, f"{path}/{plural}"))
        yield path


@pytest.fixture
def place(kube: Kube, definitions: None) -> Iterator[str]:
    """The path of our resources in a fresh namespace."""
    with kube.namespace() as name:
        path = f"/apis/{API}/namespaces/{name}"
        for plural in ("kerneltemplates", "kernelpools", "kernels"):
            until(plural, partial(kube.admin.find, f"{path}/{plural}"))
        yield path


def template(name: str = "small", **spec: Any) -> Object:
    usual = {"image": "x", "resources": sizes()}
    return {
        "apiVersion": API,
        "kind": "KernelTemplate",
        "metadata": {"name": name},
        "spec": usual | spec,
    }


def sizes(gpu: Object | None = None, **cpu: Any) -> Object:
    found: Object = {"cpu": cpu or {"default": "500m"}, "memory": {"maximum": "2Gi"}}
    return found | ({"gpu": gpu} if gpu else {})


def kernel(name: str = "", **spec: Any) -> Object:
    return {
        "apiVersion": API,
        "kind": "Kernel",
        "metadata": {"name": name or str(uuid.uuid4())},
        "spec": {"owner": "ada", "template": "small"} | spec,
    }


TRY = "?dryRun=All&fieldValidation=Strict"


def refused(api: Api, path: str, body: Object) -> str:
    """What the API server says."""
    with pytest.raises(ApiFailure) as caught:
        api.post(path + TRY, body)
    assert caught.value.code in (400, 422), caught.value
    return caught.value.message


GOOD: list[Object] = [
    template(),
    template("a" * 63),
    template(argv=ARGV, language="R", interruptMode="message"),
    template(interpreter="/opt/conda/bin/python", preload=["numpy", "pandas"]),
    template(resources=sizes(minimum="0.5", default="500m", maximum=2)),
    template(resources=sizes(choices=["1", 2, "4000m"], default="2000m")),
    template(resources=sizes({"kinds": ["nvidia.com/gpu"], "maximum": 4})),
    template(
        resources=sizes({"kinds": ["a100"]}),
        pod={"gpus": {"a100": {"resource": "nvidia.com/gpu", "nodeSelector": {"gpu": "a100"}}}},
    ),
    template(icon="data:image/png;base64,AAAA", env={"A_1": "x"}, workingDirectory="/work"),
    template(
        idle={"cullAfter": 1.5}, pool={"size": 2, "ttl": 60}, metadata={"any": {"thing": [1]}}
    ),
    template(
        pod={
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}},
            "volumes": [{"name": "data", "hostPath": {"path": "/data"}}],
            "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
            "securityContext": {"supplementalGroups": [5]},
            "runAsUser": 0,
            "ownerVolume": {"claim": "home-{owner}", "mountPath": "/home/jovyan"},
            "rootDir": {"mountPath": "/srv"},
        }
    ),
    template(
        pod={
            "ownerVolume": {
                "claimTemplate": {"resources": {"requests": {"storage": "1Gi"}}},
                "mountPath": "/h",
                "subPath": "{owner}/work",
            }
        }
    ),
]


@pytest.mark.parametrize("good", GOOD, ids=lambda one: ",".join(one["spec"])[:60])
def test_good_templates_are_kept_whole_and_can_be_read(
    kube: Kube, shared: str, good: Object
) -> None:
    kept = kube.admin.post(f"{shared}/kerneltemplates{TRY}", good)
    assert kept["spec"] == good["spec"], "nothing was pruned"
    template_from_object(kept["metadata"]["name"], kept["spec"])


BAD: list[tuple[Object, str, str]] = [
    (template("a.b"), "metadata.name", "1 to 63 lower-case letters"),
    (template("a" * 64), "metadata.name", "1 to 63 lower-case letters"),
    (template(image=""), "spec.image", "at least 1 char"),
    (template(colour="red"), "spec.colour", "unknown field"),
    (template(displayName="  "), "spec.displayName", "must not be blank"),
    (template(interpreter="x", argv=ARGV, language="R"), "spec", "not both"),
    (template(argv=ARGV), "spec", "language is missing"),
    (template(argv=["R"], language="R"), "spec.argv", "no word of argv has {connection_file}"),
    (template(language="R"), "spec", "needs argv"),
    (template(argv=ARGV, language="R", preload=["x"]), "spec", "preload works only"),
    (template(icon="/etc/logo.svg"), "spec.icon", "data URL"),
    (template(env={"a-b": "x"}), "spec.env", "no digit first"),
    (template(workingDirectory="work"), "spec.workingDirectory", "absolute path"),
    (template(resources={"cpu": {}, "memory": {"default": 1}}), "spec.resources.cpu", "is empty"),
    (template(resources=sizes(minimum=4, maximum="2")), "spec.resources.cpu",
     "minimum 4 is over the maximum of 2"),
    (template(resources=sizes(minimum="600m", default="0.5")), "spec.resources.cpu",
     "default 0.5 is under the minimum of 600m"),
    (template(resources=sizes(default="2k", maximum="1999")), "spec.resources.cpu",
     "default 2k is over the maximum of 1999"),
    (template(resources=sizes(choices=["1", 2], default=3)), "spec.resources.cpu",
     "default 3 is none of the choices"),
    (template(resources=sizes(choices=["1", 2], maximum="1")), "spec.resources.cpu",
     "one of the choices is over the maximum"),
    (template(resources=sizes(choices=["1", 2], minimum="2")), "spec.resources.cpu",
     "one of the choices is under the minimum"),
    (template(resources=sizes(default="two")), "spec.resources.cpu.default", "no usable quantity"),
    (template(resources=sizes(default="-1")), "spec.resources.cpu.default", "no usable quantity"),
    (template(resources=sizes(choices=["x"])), "spec.resources.cpu.choices[0]",
     "no usable quantity"),
    (template(resources=sizes({"kinds": ["a100"]})), "spec", "key of pod.gpus"),
    (template(resources=sizes({"maximum": 1})), "spec.resources.gpu", "kinds is missing"),
    (template(resources=sizes({"kinds": ["a/b"], "default": 2})), "spec.resources.gpu",
     "default is over the maximum"),
    (template(pod={"labels": {"elastic.jupyter.org/phase": "warm"}}), "spec.pod.labels", "itself"),
    (template(pod={"annotations": {"app.kubernetes.io/managed-by": "x"}}), "spec.pod.annotations",
     "itself"),
    (template(pod={"volumes": [{"name": "elastic-run"}]}), "spec.pod.volumes", "choose another"),
    (template(pod={"volumeMounts": [{"name": "x", "mountPath": "/x"}]}), "spec.pod",
     "no volume in volumes"),
    (template(pod={"gpus": {"a": {"resource": "gpu"}}}), "spec.pod.gpus[a].resource", "slash"),
    (template(pod={"ownerVolume": {"mountPath": "/h"}}), "spec.pod.ownerVolume", "exactly one"),
    (template(pod={"ownerVolume": {"mountPath": "/h", "claim": "home"}}), "spec.pod.ownerVolume",
     "neither claim nor subPath has {owner}"),
    (template(pod={"ownerVolume": {"mountPath": "/h", "claim": "x", "subPath": "../{owner}"}}),
     "spec.pod.ownerVolume.subPath", "relative path"),
    (template(pod={"rootDir": {"mountPath": "srv"}}), "spec.pod.rootDir.mountPath", "absolute"),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "field", "words"), BAD, ids=[f"{b[1]}: {b[2]}" for b in BAD])
def test_bad_templates_are_refused_with_a_sentence(
    kube: Kube, shared: str, bad: Object, field: str, words: str
) -> None:
    message = refused(kube.admin, f"{shared}/kerneltemplates", bad)
    assert field in message
    assert words in message
    assert "no such key" not in message, "a rule failed instead of saying no"
    with pytest.raises(BadTemplate):
        # What the schema refuses is refused where there is no schema, in files.
        template_from_object(bad["metadata"]["name"], bad["spec"])


@pytest.mark.parametrize(
    ("bad", "field", "words"),
    [
        (kernel("my-kernel"), "metadata.name", "UUID"),
        (kernel(owner=""), "spec.owner", "at least 1 char"),
        (kernel(owner=None), "spec.owner", "Required"),
        (kernel(template=None), "spec.template", "Required"),
        (kernel(resources={"cpu": "much"}), "spec.resources.cpu", "no usable quantity"),
        (kernel(resources={"gpu": {"kind": "a"}}), "spec.resources.gpu.count", "Required"),
        (kernel(deadline="soon"), "spec.deadline", "date-time"),
    ],
)
def test_bad_kernels_are_refused_with_a_sentence(
    kube: Kube, shared: str, bad: Object, field: str, words: str
) -> None:
    message = refused(kube.admin, f"{shared}/kernels", bad)
    assert field in message
    assert words in message


def test_a_kernel_is_its_owners_for_ever_and_may_be_resized(kube: Kube, place: str) -> None:
    body = kernel(resources={"cpu": 1, "memory": "1Gi"})
    kube.admin.post(f"{place}/kernels", body)
    path = f"{place}/kernels/{body['metadata']['name']}"
    for field in ("owner", "template"):
        with pytest.raises(ApiFailure) as caught:
            kube.admin.patch(path, {"spec": {field: "other"}})
        assert caught.value.code == 422
        assert f"{field} cannot change: start another kernel" in caught.value.message
    changed = kube.admin.patch(path, {"spec": {"resources": {"cpu": "2"}, "name": "mine"}})
    assert changed["metadata"]["generation"] == 2
    assert changed["spec"]["resources"] == {"cpu": "2", "memory": "1Gi"}


def test_status_is_written_apart(kube: Kube, place: str) -> None:
    body = kernel() | {"status": {"phase": "Running"}}
    made = kube.admin.post(f"{place}/kernels", body)
    assert "status" not in made, "whoever creates a kernel cannot say how it stands"
    path = f"{place}/kernels/{body['metadata']['name']}"
    status = {"phase": "Running", "pod": "p", "actual": {"cpu": "1", "memory": "1Gi"}}
    kept = kube.admin.patch(f"{path}/status", {"status": status, "spec": {"name": "x"}})
    assert kept["status"] == status
    assert "name" not in kept["spec"]
    assert kept["metadata"]["generation"] == 1
    with pytest.raises(ApiFailure, match="Unsupported value"):
        kube.admin.patch(f"{path}/status", {"status": {"phase": "Busy"}})


def columns(api: Api, path: str, *, wide: bool = False) -> dict[str, Any]:
    """The one row of a list as ``kubectl get`` shows it."""
    asking = Api(api.kubeconfig)
    asking.headers["Accept"] = TABLE
    table = asking.get(path)
    [row] = table["rows"]
    shown = zip(table["columnDefinitions"], row["cells"], strict=True)
    return {column["name"]: cell for column, cell in shown if wide or not column["priority"]}


def test_what_kubectl_shows(kube: Kube, place: str) -> None:
    admin = kube.admin
    admin.post(f"{place}/kerneltemplates", template(displayName="Small", pool={"size": 2}))
    row = columns(admin, f"{place}/kerneltemplates")
    assert row.pop("Age")
    assert row == {
        "Name": "small",
        "Display": "Small",
        "Image": "x",
        "CPU": "500m",
        "Memory": None,
        "Pool": 2,
    }
    pool = {"apiVersion": API, "kind": "KernelPool", "metadata": {"name": "pool"}}
    admin.post(f"{place}/kernelpools", pool)
    status = {"warm": 1, "target": 2, "templates": [{"name": "small", "warm": 1, "target": 2}]}
    admin.patch(f"{place}/kernelpools/pool/status", {"status": status})
    row = columns(admin, f"{place}/kernelpools")
    assert (row["Warm"], row["Target"]) == (1, 2)
    body = kernel()
    admin.post(f"{place}/kernels", body)
    name = body["metadata"]["name"]
    status = {
        "phase": "Failed",
        "reason": "OutOfMemory",
        "pod": "p",
        "actual": {"cpu": "1500m", "memory": "1Gi"},
    }
    admin.patch(f"{place}/kernels/{name}/status", {"status": status})
    row = columns(admin, f"{place}/kernels", wide=True)
    assert row.pop("Age")
    assert row == {
        "Name": name,
        "Template": "small",
        "Owner": "ada",
        "Phase": "Failed",
        "Pod": "p",
        "CPU": "1500m",
        "Memory": "1Gi",
        "Reason": "OutOfMemory",
        "Title": None,
    }


def test_kernels_are_selected_by_owner_and_template(kube: Kube, place: str) -> None:
    for owner in ("ada", "bob", "ada"):
        kube.admin.post(f"{place}/kernels", kernel(owner=owner))
    found = kube.admin.get(f"{place}/kernels", fieldSelector="spec.owner=ada,spec.template=small")
    assert len(found["items"]) == 2


def test_short_names_and_category(kube: Kube, place: str) -> None:
    found = {one["name"]: one for one in kube.admin.get(f"/apis/{API}")["resources"]}
    names = {name: found[name]["shortNames"] for name in found if "/" not in name}
    assert names == {"kerneltemplates": ["ktpl"], "kernelpools": ["kpool"], "kernels": ["kern"]}
    assert all(found[name]["categories"] == ["elastic"] for name in names)


# -- roles -------------------------------------------------------------------------------------


def allowed(api: Api, namespace: str, verb: str, resource: str, group: str = "") -> bool:
    """Whether whoever asks may do this."""
    name, _, sub = resource.partition("/")
    what = {"namespace": namespace, "verb": verb, "resource": name, "group": group}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": what | ({"subresource": sub} if sub else {})},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer: bool = api.post(path, review)["status"]["allowed"]
    return answer


def test_what_a_server_may_and_may_not(kube: Kube, place: str) -> None:
    namespace = place.rpartition("/")[2]
    server = Api(kube.service_account(namespace, rules()))
    group = API.partition("/")[0]
    for verb, resource, of in [
        ("patch", "pods/resize", ""),
        ("create", "secrets", ""),
        ("watch", "kernels", group),
        ("patch", "kernels/status", group),
        ("create", "leases", "coordination.k8s.io"),
    ]:
        assert allowed(server, namespace, verb, resource, of), f"{verb} {resource}"
    for verb, resource, of in [
        ("list", "secrets", ""),
        ("create", "pods/exec", ""),
        ("create", "pods/portforward", ""),
        ("create", "kerneltemplates", group),
        ("create", "rolebindings", "rbac.authorization.k8s.io"),
    ]:
        assert not allowed(server, namespace, verb, resource, of), f"{verb} {resource}"
    assert not allowed(server, "kube-system", "list", "pods")
    with pytest.raises(ApiFailure, match="forbidden"):
        server.post(f"{place}/kerneltemplates", template())


def test_what_is_printed_can_be_applied(
    kube: Kube, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    namespace = place.rpartition("/")[2]
    assert main(["crds", "--rbac", "--network-policy", "--namespace", namespace, "--json"]) == 0
    for body in json.loads(capsys.readouterr().out)["items"]:
        plural = body["kind"].lower() + "s"
        plural = plural.replace("policys", "policies")
        version = body["apiVersion"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        inside = body["metadata"].get("namespace")
        assert inside in (None, namespace)
        where = f"{root}/namespaces/{namespace}" if inside else root
        path = f"{where}/{plural}/{body['metadata']['name']}"
        # As `kubectl apply --server-side`, which needs no history of the object.
        query = "fieldManager=test&force=true&dryRun=All&fieldValidation=Strict"
        kube.admin.patch(f"{path}?{query}", body, "application/apply-patch+yaml")


# -- convert -----------------------------------------------------------------------------------


def foreign_definition(kind: str) -> Object:
    group = OPERATOR_API.partition("/")[0]
    name = kind.lower()
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{name}s.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": f"{name}s", "singular": name},
            "versions": [
                {
                    "name": "v1alpha1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": anything},
                }
            ],
        },
    }


def test_convert_from_a_cluster(kube: Kube, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    namespace = place.rpartition("/")[2]
    words = ["convert", "--from-cluster", "--kubeconfig", str(kube.kubeconfig)]
    words += ["--namespace", namespace]
    assert main(words) == 1
    assert "knows none of jupyterkernelspecs" in capsys.readouterr().err
    kinds = ("JupyterKernelSpec", "JupyterKernelTemplate")
    made = [kube.admin.post(DEFINITIONS, foreign_definition(kind)) for kind in kinds]
    try:
        root = f"/apis/{OPERATOR_API}/namespaces/{namespace}"
        reference = {"namespace": namespace, "name": "pods"}
        spec = {"image": "x", "language": "Python", "template": reference}
        pods = {"template": {"spec": {"nodeSelector": {"disk": "ssd"}, "hostPID": True}}}
        for kind, name, body in zip(kinds, ("python", "pods"), (spec, pods), strict=True):
            path = f"{root}/{kind.lower()}s"
            until(kind, partial(kube.admin.find, path))
            foreign = {"apiVersion": OPERATOR_API, "kind": kind, "metadata": {"name": name}}
            kube.admin.post(path, foreign | {"spec": body})
        assert main([*words, "--json"]) == 0
        out, err = capsys.readouterr()
        assert f"JupyterKernelTemplate {namespace}/pods: spec.template.spec.hostPID" in err
        [converted] = json.loads(out)["templates"]
        assert converted["spec"]["pod"] == {"nodeSelector": {"disk": "ssd"}}
        kept = kube.admin.post(f"{place}/kerneltemplates", converted)
        assert kept["spec"] == converted["spec"]
    finally:
        for one in made:
            kube.admin.delete(f"{DEFINITIONS}/{one['metadata']['name']}")
