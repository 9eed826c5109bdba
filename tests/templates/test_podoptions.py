"""A template's pod options: kept whole, part of the hash, every mistake named by its path."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from jupyter_elastic.errors import BadTemplate
from jupyter_elastic.model import Template
from jupyter_elastic.podoptions import GpuNode, OwnerVolume, PodOptions
from jupyter_elastic.templates import dump_template, parse_template

FULL: dict[str, Any] = {
    "node_selector": {"disk": "ssd"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topology_spread": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "priority_class": "kernels",
    "image_pull_secrets": ["registry", {"name": "other"}],
    "image_pull_policy": "Always",
    "runtime_class": "gvisor",
    "service_account": "kernel",
    "labels": {"team": "research"},
    "annotations": {"example.org/note": "a: b"},
    "volumes": [{"name": "data", "hostPath": {"path": "/data"}}],
    "volume_mounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
    "security_context": {"supplementalGroups": [5]},
    "run_as_user": 0,
    "run_as_group": 100,
    "fs_group": 100,
    "gpus": {"a100": {"resource": "nvidia.com/gpu", "node_selector": {"gpu": "a100"}}},
    "owner_volume": {"claim": "home-{owner}", "mount_path": "/home/jovyan", "sub_path": "work"},
    "root_dir": {"mount_path": "/srv/notebooks"},
}


def parse(**options: Any) -> Template:
    return parse_template(
        {"name": "x", "image": "i", "resources": {"cpu": 1, "memory": 1}, "kubernetes": options}
    )


def test_all_options_survive_being_dumped() -> None:
    assert set(FULL) == set(PodOptions.__struct_fields__)
    template = parse(**FULL)
    options = template.kubernetes
    assert options is not None
    for name in PodOptions.__struct_fields__:
        assert getattr(options, name) not in (None, "", (), {}), name
    assert options.image_pull_secrets == ("registry", "other")
    assert options.gpus == {"a100": GpuNode("nvidia.com/gpu", {"gpu": "a100"})}
    assert options.owner_volume == OwnerVolume(
        mount_path="/home/jovyan", claim="home-{owner}", sub_path="work"
    )
    assert options.root_dir == "/srv/notebooks"
    assert options.run_as_user == 0
    assert parse_template(dump_template(template)) == template


def test_what_is_dumped_can_be_changed_without_changing_the_template() -> None:
    template = parse(**FULL)
    before = template.hash
    dump_template(template)["kubernetes"]["volumes"][0]["name"] = "other"
    assert template.hash == before


def test_a_template_without_options_has_the_hash_it_always_had() -> None:
    # Warm pods of a running server must not be thrown away by an upgrade.
    assert parse().kubernetes is None
    template = parse_template(
        {
            "name": "x",
            "interpreter": "/usr/bin/python3",
            "env": {"B": "2", "A": "1"},
            "preload": ["json"],
            "resources": {"cpu": 1, "memory": 1},
        }
    )
    assert template.hash == "843db0ee733baf37"


@pytest.mark.parametrize("name", sorted(FULL))
def test_every_option_is_part_of_the_hash(name: str) -> None:
    full, without = parse(**FULL).kubernetes, PodOptions()
    assert full is not None
    changed = msgspec.structs.replace(full, **{name: getattr(without, name)})
    template = parse(**FULL)
    assert msgspec.structs.replace(template, kubernetes=changed).hash != template.hash


def test_the_gpus_of_warm_pods_are_part_of_the_hash() -> None:
    """Else a pod without a GPU is claimed for a kernel that is to have one."""

    def offering(default: int, maximum: int = 2) -> str:
        gpu = {"kinds": ["nvidia.com/gpu"], "default": default, "maximum": maximum}
        sizes = {"cpu": 1, "memory": 1, "gpu": gpu}
        return parse_template({"name": "x", "image": "x", "resources": sizes}).hash

    assert len({offering(0), offering(1), offering(2)}) == 3
    assert offering(1, maximum=4) == offering(1)


def test_the_order_of_mappings_is_no_part_of_the_hash() -> None:
    one, other = {"a": "1", "b": "2"}, {"b": "2", "a": "1"}
    assert parse(node_selector=one).hash == parse(node_selector=other).hash


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"node_selektor": {}}, "node_selektor", 'Did you mean "node_selector"?'),
        ({"node_selector": {"disk": True}}, "node_selector.disk", "true or false"),
        ({"node_selector": {"-x": "y"}}, "node_selector", "'-x'"),
        ({"node_selector": {"x": "a b"}}, "node_selector.x", "label's value"),
        ({"tolerations": {"key": "x"}}, "tolerations", "list"),
        ({"tolerations": ["x"]}, "tolerations[0]", "mapping"),
        ({"affinity": {"x": float("nan")}}, "affinity", "JSON"),
        ({"priority_class": "Not A Name"}, "priority_class", "name of an object"),
        ({"priority_class": 3}, "priority_class", "string"),
        ({"image_pull_secrets": "x"}, "image_pull_secrets", "list"),
        ({"image_pull_secrets": [{"nam": "x"}]}, "image_pull_secrets[0].nam", '"name"'),
        ({"image_pull_policy": "Sometimes"}, "image_pull_policy", "Always, IfNotPresent, Never"),
        ({"labels": {"elastic.jupyter.org/phase": "warm"}}, "labels.elastic.jupyter.org/phase",
         "itself"),
        ({"labels": {"app.kubernetes.io/managed-by": "x"}}, "labels.app.kubernetes.io/managed-by",
         "itself"),
        ({"annotations": {"x": 1}}, "annotations.x", "string"),
        ({"volumes": [{"emptyDir": {}}]}, "volumes[0].name", "string"),
        ({"volumes": [{"name": "a"}, {"name": "a"}]}, "volumes[1].name", "another volume"),
        ({"volumes": [{"name": "elastic-run"}]}, "volumes[0].name", "another name"),
        ({"volume_mounts": [{"name": "a", "mountPath": "/a"}]}, "volume_mounts[0].name",
         "no volume 'a'"),
        ({"volumes": [{"name": "a"}], "volume_mounts": [{"name": "a", "mountPath": "a"}]},
         "volume_mounts[0].mountPath", "absolute"),
        ({"security_context": [1]}, "security_context", "mapping"),
        ({"run_as_user": -1}, "run_as_user", "-1"),
        ({"run_as_user": "root"}, "run_as_user", "whole number"),
        ({"gpus": {"a100": {}}}, "gpus.a100.resource", "string"),
        ({"gpus": {"a100": {"resource": "gpu"}}}, "gpus.a100.resource", "nvidia.com/gpu"),
        ({"gpus": ["a100"]}, "gpus", "mapping"),
        ({"owner_volume": {"mount_path": "/h"}}, "owner_volume", "exactly one"),
        ({"owner_volume": {"mount_path": "/h", "claim": "a-{owner}", "claim_template": {}}},
         "owner_volume", "exactly one"),
        ({"owner_volume": {"mount_path": "/h", "claim": "home"}}, "owner_volume.claim", "{owner}"),
        ({"owner_volume": {"mount_path": "/h", "claim": "home", "sub_path": "../{owner}"}},
         "owner_volume.sub_path", ".."),
        ({"owner_volume": {"claim": "x-{owner}"}}, "owner_volume.mount_path", "string"),
        ({"root_dir": "/srv"}, "root_dir", "mapping"),
        ({"root_dir": {"mount_path": "srv"}}, "root_dir.mount_path", "absolute"),
        ({"annotations": {f"a{i}": "x" * 10_000 for i in range(20)}}, "", "131072"),
    ],
)  # fmt: skip
def test_mistakes_are_named(options: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(BadTemplate) as caught:
        parse(**options)
    path = f"kubernetes.{field}" if field else "kubernetes"
    assert caught.value.field == path
    assert words in str(caught.value)
    assert caught.value.remedy


def test_one_claim_for_each_owner_needs_no_pattern() -> None:
    options = parse(owner_volume={"mount_path": "/h", "claim_template": {"a": 1}}).kubernetes
    assert options is not None
    assert options.owner_volume == OwnerVolume(mount_path="/h", claim_template={"a": 1})
