"""What the doctor makes of a Kubernetes, as far as no cluster is needed to tell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jupyter_elastic.cli import kubechecks, rights
from jupyter_elastic.cli.rights import Right
from jupyter_elastic.cluster.kubernetes import shipped
from jupyter_elastic.model import UNLIMITED, Capacity, Template
from jupyter_elastic.resources import Resources
from jupyter_elastic.templates import parse_template

ROLE = kubechecks.SERVER_ROLE


def template(**more: Any) -> Template:
    fields = {"name": "work", "image": "registry.example/work", "resources": SIZES, **more}
    return parse_template(fields, where="test")


SIZES = {"cpu": "1", "memory": "1Gi"}


def needed() -> list[Right]:
    return rights.rights_of(shipped.roles("lab"), ROLE)


def test_the_role_that_we_ship_is_what_is_asked_for() -> None:
    found = needed()
    assert Right("", "pods/resize", "patch") in found
    assert Right("elastic.jupyter.org", "kernels/status", "patch") in found
    assert len(found) == len(set(found)) > 30
    forwarding = rights.rights_of(shipped.roles("lab"), kubechecks.PORT_FORWARD_ROLE)
    assert list(map(str, forwarding)) == ["get pods/portforward", "create pods/portforward"]


def test_what_is_missing_is_named() -> None:
    lacking = [
        Right("", "pods/resize", "patch"),
        Right("elastic.jupyter.org", "kernels/status", "patch"),
        Right("", "persistentvolumeclaims", "create"),
    ]
    check = rights.report(needed(), lacking, ROLE, "lab")
    assert check.state == "broken"
    assert check.message == (
        "Of the role jupyter-elastic-server, this is not allowed in namespace lab:"
        " patch pods/resize, patch kernels.elastic.jupyter.org/status."
    )
    assert "--namespace lab" in check.remedy


def test_what_is_seldom_needed_is_only_noted() -> None:
    check = rights.report(needed(), [Right("", "persistentvolumeclaims", "create")], ROLE, "lab")
    assert check.state == "note"
    assert "ownerVolume.claimTemplate" in check.message
    memory = Right("", "configmaps", "patch", "jupyter-elastic-demand")
    assert memory in needed()
    check = rights.report(needed(), [memory], ROLE, "lab")
    assert check.state == "note"
    assert "patch configmaps jupyter-elastic-demand" in check.message
    assert "learnt of the demand is forgotten" in check.message
    assert f"bind the role {ROLE}" in check.remedy
    others = Right("", "configmaps", "create")
    assert rights.report(needed(), [memory, others], ROLE, "lab").state == "broken"
    assert rights.report(needed(), [], ROLE, "lab").state == "ok"


def test_definitions_that_are_missing() -> None:
    assert kubechecks.definitions([*kubechecks.PLURALS, "kernels/status"]).state == "ok"
    assert "kernelpools" in kubechecks.definitions(["kernels", "kerneltemplates"]).message
    check = kubechecks.definitions([])
    assert check.state == "broken"
    assert "jupyter elastic crds" in check.remedy


def test_a_server_that_cannot_resize() -> None:
    assert kubechecks.resizing(["pods", "pods/resize"], "v1.35.4").state == "ok"
    older = kubechecks.resizing(["pods", "pods/resize"], "v1.33.2-x.1")
    assert older.state == "note"
    assert "cannot lower memory" in older.message
    check = kubechecks.resizing(["pods", "pods/log"], "v1.31.0")
    assert check.state == "note", "kernels start, cold"
    assert "v1.31.0" in check.message


@pytest.mark.parametrize(
    ("setting", "in_cluster", "state", "said"),
    [
        ("auto", True, "ok", "direct"),
        ("auto", False, "ok", "port-forward"),
        ("port-forward", True, "ok", "port-forward"),
        ("direct", True, "ok", "direct"),
        ("direct", False, "note", "direct"),
    ],
)
def test_ways_to_pods(setting: str, in_cluster: bool, state: str, said: str) -> None:
    check = kubechecks.access(setting, in_cluster)
    assert check.state == state
    assert check.message.startswith(said)


def test_how_much_room_there_is() -> None:
    used = Resources(cpu=1500, memory=2**30)
    nobody = Resources(cpu=UNLIMITED, memory=UNLIMITED)
    assert "neither a ResourceQuota" in kubechecks.room(Capacity(total=nobody, used=used)).message
    some = Resources(cpu=8000, memory=UNLIMITED)
    assert kubechecks.room(Capacity(total=some, used=used)).message == (
        "1.5 of 8 CPU and 1 GiB taken"
    )


def test_templates_of_which_no_pod_can_be_made() -> None:
    [check] = kubechecks.templates({}, "")
    assert (check.state, check.name) == ("broken", "templates")
    offered = {
        "work": template(),
        "bare": template(name="bare", image=None),
        "gpu": template(name="gpu", resources={**SIZES, "gpu": {"kinds": ["a100"]}}),
    }
    found = {check.name: check for check in kubechecks.templates(offered, "")}
    assert {name: check.state for name, check in found.items()} == {
        "template work": "ok",
        "template bare": "broken",
        "template gpu": "broken",
    }
    assert "a100" in found["template gpu"].message
    states = [
        c.state for c in kubechecks.templates({"bare": offered["bare"]}, "registry.example/x")
    ]
    assert states == ["ok"]


def test_warm_pods_that_nobody_can_claim() -> None:
    volume = {"claim": "home-{owner}", "mount_path": "/home/owner"}
    made = template(kubernetes={"owner_volume": volume}, pool={"size": 2})
    [check] = kubechecks.templates({"work": made}, "")
    assert check.state == "note"
    assert "2 warm" in check.message


def test_channels_that_must_be_encrypted_and_cannot() -> None:
    [check] = kubechecks.encryption("auto", True, {}, here=True)
    assert check.state == "ok"
    [check] = kubechecks.encryption("auto", True, {}, here=False)
    assert check.state == "broken"
    argv = ["R", "{connection_file}"]
    offered = {"r": template(name="r", argv=argv, language="R"), "work": template()}
    _, check = kubechecks.encryption("required", True, offered, here=True)
    assert check.state == "broken"
    assert check.message.startswith("Of r no kernel")


@pytest.mark.parametrize("setting", ["preferred", "disabled"])
def test_what_open_channels_cost_is_said(setting: str) -> None:
    [check] = kubechecks.encryption(setting, False, {}, here=True)
    assert check.state == "note"
    assert "listen" in check.message
    assert setting in check.message


def test_without_the_client_package(tmp_path: Path) -> None:
    """In a process of its own: what was imported once cannot be taken away."""
    config = tmp_path / "config.py"
    config.write_text("c.ElasticKernels.cluster = 'kubernetes'\n")
    code = f"""
import sys
sys.modules["kubernetes"] = sys.modules["aiohttp"] = None
import jupyter_elastic.cli.kubechecks as kubechecks
there = kubechecks.version_of
kubechecks.version_of = lambda name: None if name in ("kubernetes", "aiohttp") else there(name)
from jupyter_elastic.cli import main
sys.exit(main(["doctor", "--json", "--config", {str(config)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["client"]["state"] == "broken"
    assert checks["client"]["remedy"] == 'pip install "jupyter_elastic[kubernetes]"'
    assert "state directory" not in checks, "nothing of this machine is looked at"
    assert "limits" not in checks


def test_without_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("kubernetes")
    config = tmp_path / "config.py"
    config.write_text(
        "c.ElasticKernels.cluster = 'kubernetes'\n"
        "c.ElasticKubernetes.kubeconfig = '/nowhere/kubeconfig'\n"
    )
    command = [sys.executable, "-m", "jupyter_elastic.cli", "doctor", "--json", "--config"]
    done = subprocess.run([*command, str(config)], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert "/nowhere/kubeconfig" in checks["cluster"]["message"]
