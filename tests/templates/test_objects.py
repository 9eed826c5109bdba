"""Templates as KernelTemplate objects: equal to others, mistakes named as the object has them."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from jupyter_elastic.errors import BadTemplate
from jupyter_elastic.model import Template
from jupyter_elastic.resources import GIB
from jupyter_elastic.templates import (
    TemplateStore,
    dump_template,
    icon_for,
    parse_template,
)
from jupyter_elastic.templates.objects import read_template, template_from_object

SPEC: dict[str, Any] = {
    "image": "example/python",
    "resources": {"cpu": {"default": "500m"}, "memory": {"maximum": "2Gi"}},
}
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
ICON = "data:image/svg+xml;base64," + base64.b64encode(SVG).decode()


def manifest(name: str = "small", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "elastic.jupyter.org/v1alpha1",
        "kind": "KernelTemplate",
        "metadata": {"name": name, "namespace": "lab", "uid": "1"},
        "spec": SPEC | spec,
        "status": {},
    }


def test_least_that_makes_an_object() -> None:
    template = template_from_object("small", SPEC)
    assert template.name == template.display_name == "small"
    assert template.interpreter == "python3", "the image's own"
    assert template.resources.cpu.default == 500
    assert template.resources.memory.maximum == 2 * GIB
    assert template.kubernetes is None


def test_an_object_is_the_same_template_as_a_mapping() -> None:
    spec = {
        "displayName": "R, big",
        "language": "R",
        "argv": ["R", "{connection_file}"],
        "interruptMode": "message",
        "workingDirectory": "/work",
        "env": {"MY_own_VAR": "1"},
        "idle": {"cullAfter": 60, "maxAge": 600, "cullConnected": False},
        "pool": {"size": 2, "ttl": 60},
        "metadata": {"some_key": {"other_key": 1}},
        "pod": {
            "priorityClassName": "high",
            "runtimeClassName": "gvisor",
            "serviceAccountName": "kernel",
            "topologySpreadConstraints": [{"maxSkew": 1}],
            "imagePullSecrets": [{"name": "registry"}],
            "volumes": [{"name": "data", "hostPath": {"path": "/data"}}],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "runAsUser": 1000,
            "gpus": {"my_gpu": {"resource": "a/b", "nodeSelector": {"x": "y"}}},
            "ownerVolume": {"claimTemplate": {"storageClassName": "s"}, "mountPath": "/h"},
            "rootDir": {"mountPath": "/srv"},
        },
    }
    plain = {
        "name": "big",
        **SPEC,
        "display_name": "R, big",
        "language": "R",
        "argv": ["R", "{connection_file}"],
        "interrupt_mode": "message",
        "working_directory": "/work",
        "env": {"MY_own_VAR": "1"},
        "idle": {"cull_after": 60, "max_age": 600, "cull_connected": False},
        "pool": {"size": 2, "ttl": 60},
        "metadata": {"some_key": {"other_key": 1}},
        "kubernetes": {
            "priority_class": "high",
            "runtime_class": "gvisor",
            "service_account": "kernel",
            "topology_spread": [{"maxSkew": 1}],
            "image_pull_secrets": ["registry"],
            "volumes": [{"name": "data", "hostPath": {"path": "/data"}}],
            "volume_mounts": [{"name": "data", "mountPath": "/data"}],
            "run_as_user": 1000,
            "gpus": {"my_gpu": {"resource": "a/b", "node_selector": {"x": "y"}}},
            "owner_volume": {"claim_template": {"storageClassName": "s"}, "mount_path": "/h"},
            "root_dir": {"mount_path": "/srv"},
        },
    }
    assert template_from_object("big", SPEC | spec) == parse_template(plain)


@pytest.mark.parametrize(
    ("name", "spec", "field", "words"),
    [
        ("a.b", {}, "metadata.name", "'a.b'"),
        ("x" * 64, {}, "metadata.name", "63"),
        ("small", {"name": "other"}, "spec.name", "metadata.name"),
        ("small", {"image": None}, "spec.image", "missing"),
        ("small", {"resources": None}, "spec.resources", "missing"),
        ("small", {"display_name": "x"}, "spec.display_name", 'Did you mean "displayName"?'),
        ("small", {"kubernetes": {}}, "spec.kubernetes", "no field"),
        ("small", {"idle": {"cullAfter": -1}}, "spec.idle.cullAfter", "-1"),
        ("small", {"workingDirectory": "x"}, "spec.workingDirectory", "absolute"),
        ("small", {"env": {"a-b": "x"}}, "spec.env", "'a-b'"),
        ("small", {"env": {"my_var": ["x"]}}, "spec.env.my_var", "string"),
        ("small", {"resources": {"cpu": {"default": "two"}, "memory": 1}},
         "spec.resources.cpu.default", "'two'"),
        ("small", {"resources": {"cpu": {"defualt": 1}, "memory": 1}},
         "spec.resources.cpu.defualt", '"default"'),
        ("small", {"pod": {"volumeMounts": [{"name": "x", "mountPath": "/x"}]}},
         "spec.pod.volumeMounts[0].name", "'x'"),
        ("small", {"pod": {"priorityClassName": "A B"}}, "spec.pod.priorityClassName", "'A B'"),
        ("small", {"pod": {"priorityClass": "a"}}, "spec.pod.priorityClass", "priorityClassName"),
        ("small", {"pod": {"ownerVolume": {"claim": "x-{owner}", "mountPath": "h"}}},
         "spec.pod.ownerVolume.mountPath", "absolute"),
        ("small", {"resources": {"cpu": 1, "memory": 1, "gpu": {"kinds": ["a100"]}}},
         "spec.resources.gpu.kinds[0]", "spec.pod.gpus"),
        ("small", {"icon": "/etc/logo.svg"}, "spec.icon", "data URL"),
        ("small", {"icon": "data:image/gif;base64,AAAA"}, "spec.icon", "image/png"),
        ("small", {"icon": "data:image/png;base64,?"}, "spec.icon", "base64"),
    ],
)  # fmt: skip
def test_mistakes_are_named_as_the_object_has_them(
    name: str, spec: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(BadTemplate) as caught:
        template_from_object(name, SPEC | spec, "namespace lab")
    assert caught.value.field == field
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"namespace lab: {name[:80]}: {field}: ")
    assert caught.value.remedy


def test_a_kind_of_gpu_is_a_resource_or_is_described() -> None:
    gpu = {"cpu": {"maximum": 1}, "memory": {"maximum": 1}, "gpu": {"kinds": ["nvidia.com/gpu"]}}
    assert template_from_object("x", SPEC | {"resources": gpu}).resources.gpu.maximum == 1
    gpu["gpu"] = {"kinds": ["a100"]}
    pod = {"gpus": {"a100": {"resource": "nvidia.com/gpu"}}}
    assert template_from_object("x", SPEC | {"resources": gpu, "pod": pod}).kubernetes


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (manifest() | {"kind": "Pod"}, "kind"),
        (manifest() | {"apiVersion": "elastic.jupyter.org/v9"}, "kind"),
        (manifest() | {"metadata": None}, "metadata.name"),
        (manifest() | {"spec": ["x"]}, "spec"),
        ({"name": "x", "kind": "KernelTemplate"}, "kind"),
    ],
)
def test_other_objects_are_no_templates(data: dict[str, Any], field: str) -> None:
    with pytest.raises(BadTemplate) as caught:
        read_template(data, "lab.yaml")
    assert caught.value.field == field


def test_files_may_hold_objects_beside_mappings(tmp_path: Path) -> None:
    plain = {"name": "plain", "resources": {"cpu": 1, "memory": 1}}
    listed = {"apiVersion": "v1", "kind": "List", "items": [manifest("c"), manifest("d")]}
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all([manifest("a"), plain, listed]))
    store = TemplateStore([str(tmp_path), manifest("b")])
    store.refresh()
    assert store.problems() == []
    assert sorted(store.all()) == ["a", "b", "c", "d", "plain"]


def test_an_icon_may_be_a_data_url() -> None:
    template = template_from_object("small", SPEC | {"icon": ICON})
    assert template.icon == ICON
    file = icon_for(template)
    assert file.suffix == ".svg"
    assert file.read_bytes() == SVG
    assert icon_for(template) == file, "written once"
    again = parse_template(dump_template(template))
    assert isinstance(again, Template)
    assert again == template


def test_an_icon_is_written_again_after_somebody_cleaned_up() -> None:
    template = template_from_object("small", SPEC | {"icon": ICON})
    shutil.rmtree(icon_for(template).parent)
    assert icon_for(template).read_bytes() == SVG
