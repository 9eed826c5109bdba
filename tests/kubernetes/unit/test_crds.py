"""The manifests that we ship, without a cluster: sound schemas that fit what the code writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from openapi_schema_validator import OAS30Validator

from jupyter_elastic.cluster.kubernetes import records, shipped
from jupyter_elastic.model import (
    GpuRange,
    IdlePolicy,
    Kernel,
    KernelPhase,
    Offer,
    PoolPolicy,
    Range,
    Resize,
    SessionRef,
    Step,
    Template,
)
from jupyter_elastic.podoptions import GpuNode, OwnerVolume, PodOptions
from jupyter_elastic.resources import Gpu, Resources
from jupyter_elastic.templates.objects import spelling

CRDS = {crd["spec"]["names"]["kind"]: crd for crd in yaml.safe_load_all(shipped.definitions())}
KINDS = ("KernelTemplate", "KernelPool", "Kernel")


def schema(kind: str) -> dict[str, Any]:
    [version] = CRDS[kind]["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return found


def nodes(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema in a schema, with its path."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(node.get(name), Mapping):
            yield from nodes(node[name], f"{path}[{name}]")


def wrong(kind: str, obj: Mapping[str, Any]) -> list[str]:
    """What the schema (not its rules) does not like."""

    def usual(node: Any) -> Any:
        """As validators outside Kubernetes understand it: closed, and quantities of two types."""
        if isinstance(node, list):
            return [usual(one) for one in node]
        if not isinstance(node, dict):
            return node
        made = {key: usual(value) for key, value in node.items() if not key.startswith("x-")}
        if node.get("x-kubernetes-int-or-string"):
            made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
        if "properties" in node and not node.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
        return made

    plain = usual(schema(kind))
    plain["properties"]["metadata"] = {"type": "object"}
    return [
        f"{error.json_path}: {error.message}" for error in OAS30Validator(plain).iter_errors(obj)
    ]


# -- the definitions ---------------------------------------------------------------------------


def test_there_are_three() -> None:
    assert tuple(CRDS) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_names(kind: str) -> None:
    crd = CRDS[kind]
    spec = crd["spec"]
    assert spec["group"] == "elastic.jupyter.org"
    assert crd["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"
    assert spec["names"]["plural"] == spec["names"]["singular"] + "s"
    assert spec["names"]["categories"] == ["elastic"]
    assert spec["scope"] == "Namespaced"
    [version] = spec["versions"]
    assert version["name"] == "v1alpha1"
    assert version["served"]
    assert version["storage"]
    assert version["subresources"] == {"status": {}}


@pytest.mark.parametrize("kind", KINDS)
def test_schemas_are_structural_and_bounded(kind: str) -> None:
    for path, node in nodes(schema(kind)):
        where = f"{kind}{path}"
        either = node.get("x-kubernetes-int-or-string")
        assert either or "type" in node, where
        assert set(node) & {"anyOf", "oneOf", "allOf", "not", "$ref"} == set(), where
        if "additionalProperties" in node:
            assert "properties" not in node, where
            assert "maxProperties" in node, where
        if node.get("type") == "array":
            assert node["maxItems"] > 0, where
            assert "x-kubernetes-list-type" in node, where
        known = path.endswith((".apiVersion", ".kind")) or path == ".metadata.name"
        if (node.get("type") == "string" or either) and not known:
            assert set(node) & {"maxLength", "enum", "format"}, where


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_says_what_is_wrong(kind: str) -> None:
    for path, node in nodes(schema(kind)):
        for rule in node.get("x-kubernetes-validations", ()):
            assert rule["message"], f"{kind}{path}: {rule['rule']}"
            assert "\n" not in rule["message"]


@pytest.mark.parametrize("kind", KINDS)
def test_columns_show_what_the_schema_has(kind: str) -> None:
    paths = {path for path, _node in nodes(schema(kind))} | {".metadata.creationTimestamp"}
    [version] = CRDS[kind]["spec"]["versions"]
    for column in version["additionalPrinterColumns"]:
        assert column["jsonPath"] in paths, column["name"]


# -- what the code writes and reads fits -------------------------------------------------------

STRUCTS: list[tuple[str, type[msgspec.Struct], set[str]]] = [
    ("", Template, {"name"}),
    (".resources", Offer, set()),
    (".resources.cpu", Range, set()),
    (".resources.memory", Range, set()),
    (".resources.gpu", GpuRange, set()),
    (".idle", IdlePolicy, set()),
    (".pool", PoolPolicy, set()),
    (".pod", PodOptions, set()),
    (".pod.gpus[additionalProperties]", GpuNode, set()),
    (".pod.ownerVolume", OwnerVolume, set()),
]


@pytest.mark.parametrize(("path", "struct", "elsewhere"), STRUCTS)
def test_a_template_and_its_object_have_the_same_fields(
    path: str, struct: type[msgspec.Struct], elsewhere: set[str]
) -> None:
    found = dict(nodes(schema("KernelTemplate")["properties"]["spec"]))[path]
    wanted = {spelling(name) for name in struct.__struct_fields__ if name not in elsewhere}
    assert set(found["properties"]) == wanted


def kernel(**more: Any) -> Kernel:
    return Kernel(
        **{
            "kernel_id": "6f9619ff-8b86-4011-b42d-00cf4fc964ff",
            "owner": "ada",
            "template": "small",
            "resources": Resources(cpu=1500, memory=2**30),
            "created": 1_767_225_600.25,
            **more,
        }
    )


@pytest.mark.parametrize("phase", KernelPhase)
def test_records_fit_whatever_they_hold(phase: KernelPhase) -> None:
    full = kernel(
        name="x" * 500,
        path="y" * 9000,
        resources=Resources(cpu=1500, memory=2**30, gpu=Gpu("nvidia.com/gpu", 2)),
        actual=Resources(cpu=1, memory=1),
        phase=phase,
        reason="r" * 5000,
        message="m" * 50_000,
        pod="pod-1",
        start="warm",
        deadline=1_767_225_660.5,
        lone=True,
        restarts=3,
        turn=7,
        resize=Resize(state="Refused", reason="r" * 5000, message="m" * 50_000, time=1.0),
        steps=tuple(Step(float(i), "n" * 100, "m" * 9000) for i in range(300)),
        sessions=tuple(SessionRef(id=str(i), path="p") for i in range(300)),
    )
    for one in (kernel(phase=phase), full):
        made = records.make_kernel(one) | {"status": records.status_of(one, 3)}
        assert wrong("Kernel", _without_null(made)) == []


def _without_null(data: Any) -> Any:
    """As the API server stores it."""
    if isinstance(data, list):
        return [_without_null(one) for one in data]
    if not isinstance(data, dict):
        return data
    return {key: _without_null(value) for key, value in data.items() if value is not None}


@pytest.mark.parametrize(
    ("kind", "obj", "words"),
    [
        ("Kernel", {"spec": {"owner": "ada", "template": "small"}}, ""),
        ("Kernel", {"spec": {"owner": "ada"}}, "'template' is a required"),
        ("Kernel", {"spec": {"owner": "", "template": "x"}}, "$.spec.owner"),
        ("Kernel", {"spec": {"owner": "a", "template": "x"}, "status": {"phase": "Busy"}}, "Busy"),
        ("KernelPool", {}, ""),
        ("KernelPool", {"spec": {"paused": True, "sizes": {"small": 2}}}, ""),
        ("KernelPool", {"spec": {"sizes": {"small": -1}}}, "-1"),
        ("KernelTemplate", {"spec": {"image": "x"}}, "'resources' is a required"),
        ("KernelTemplate", {"spec": {"image": "x", "resources": {"cpu": {"maximum": 1.5}}}}, "1.5"),
    ],
)
def test_objects(kind: str, obj: dict[str, Any], words: str) -> None:
    found = wrong(kind, obj)
    assert bool(found) == bool(words)
    assert words in " ".join(found)


# -- roles and the network policy --------------------------------------------------------------


def objects(text: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text))


def test_roles_are_the_least_that_is_needed() -> None:
    rules = [rule for one in objects(shipped.roles("lab")) for rule in one.get("rules", ())]
    allowed = {
        (resource, verb)
        for rule in rules
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert "*" not in str(rules)
    assert not {("secrets", "list"), ("secrets", "watch"), ("secrets", "delete")} & allowed
    assert not any(resource in ("pods/exec", "pods/attach") for resource, _verb in allowed)
    server = next(one for one in objects(shipped.roles("lab")) if one["kind"] == "Role")
    its = {(name, verb) for rule in server["rules"] for name in rule["resources"]
           for verb in rule["verbs"]}  # fmt: skip
    assert {verb for name, verb in its if name == "kerneltemplates"} == {"get", "list", "watch"}
    assert not any(name == "pods/portforward" for name, _verb in its)


def test_the_namespace_is_everywhere_or_nowhere() -> None:
    for text in (shipped.roles("lab"), shipped.network_policy("lab")):
        assert "namespace: default" not in text
        for one in objects(text):
            inside = one["metadata"].get("namespace")
            assert inside == (None if one["kind"] == "ClusterRole" else "lab")
            for subject in one.get("subjects", ()):
                assert subject["namespace"] == "lab"


def test_only_servers_reach_the_ports_of_kernels() -> None:
    [policy] = objects(shipped.network_policy("lab"))
    [rule] = policy["spec"]["ingress"]
    [port] = rule["ports"]
    assert (port["port"], port["endPort"]) == (21000, 21005)
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    assert policy["spec"]["podSelector"]["matchLabels"] == {
        "app.kubernetes.io/managed-by": "jupyter-elastic"
    }


def test_no_manifest_is_forgotten() -> None:
    root = Path(shipped.__file__).parent
    files = [*root.glob("crds/*.yaml"), *root.glob("rbac/*.yaml")]
    printed = shipped.definitions() + shipped.roles("default")
    printed += shipped.network_policy("default") + shipped.disruption_budget("default")
    assert len(files) == 8
    for file in files:
        assert file.read_text() in printed
