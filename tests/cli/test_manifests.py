"""``jupyter elastic crds`` and ``convert``: what is printed where, without any cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from jupyter_elastic.cli import main
from jupyter_elastic.templates import TemplateStore

KERNEL_SPEC = """
apiVersion: kubeflow.tkestack.io/v1alpha1
kind: JupyterKernelSpec
metadata: {name: py}
spec: {language: Python, image: example/python, command: [kubeflow-launcher], color: red}
"""
KERNEL_JSON = {
    "language": "python",
    "display_name": "Python",
    "metadata": {
        "kernel_provisioner": {
            "provisioner_name": "kubernetes-provisioner",
            "config": {"image_name": "example/python"},
        }
    },
    "argv": ["python", "/x/scripts/launch_kubernetes.py"],
}


class Run:
    """What a command printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> None:
        capsys.readouterr()
        try:
            got = main(words)
        except SystemExit as exit:
            got = int(str(exit.code))
        self.out, self.err = capsys.readouterr()
        assert got == status, self.out + self.err
        assert "Traceback" not in self.out + self.err

    def documents(self) -> list[dict[str, Any]]:
        return list(yaml.safe_load_all(self.out))


def kinds(documents: list[dict[str, Any]]) -> set[str]:
    return {document["kind"] for document in documents}


# -- crds --------------------------------------------------------------------------------------


def test_definitions_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(capsys, "crds")
    assert [document["spec"]["names"]["kind"] for document in run.documents()] == [
        "KernelTemplate",
        "KernelPool",
        "Kernel",
    ]
    assert run.err == ""


def test_roles_and_policy_of_a_namespace(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("crds", "--rbac", "--network-policy", "--namespace", "lab")
    documents = Run(capsys, *words).documents()
    assert kinds(documents) == {
        "CustomResourceDefinition",
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "ClusterRole",
        "NetworkPolicy",
    }
    assert {document["metadata"].get("namespace") for document in documents} == {"lab", None}
    as_json = json.loads(Run(capsys, *words, "--json").out)
    assert as_json["kind"] == "List"
    assert as_json["items"] == documents


def test_a_namespace_is_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(capsys, "crds", "--rbac", "--namespace", "a: b", status=2)
    assert "namespace" in run.err
    assert run.out == ""


def test_neither_needs_the_kubernetes_client(tmp_path: Path) -> None:
    file = tmp_path / "specs.yaml"
    file.write_text(KERNEL_SPEC)
    code = f"""
import sys
sys.modules["kubernetes"] = sys.modules["aiohttp"] = None
from jupyter_elastic.cli import main
assert main(["crds", "--rbac"]) == 0
assert main(["convert", {str(file)!r}]) == 0
sys.exit(main(["convert", "--from-cluster"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "jupyter_elastic[kubernetes]" in done.stderr
    assert "Traceback" not in done.stderr


# -- controller --------------------------------------------------------------------------------


def controller(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, list[dict[str, Any]]]:
    """What ``controller --manifest`` prints, by kind."""
    found: dict[str, list[dict[str, Any]]] = {}
    words = ("controller", "--manifest", "--image", "img: [1]", "--namespace", "pools", *words)
    for document in Run(capsys, *words).documents():
        found.setdefault(document["kind"], []).append(document)
    return found


def command(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    [deployment] = found["Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "img: [1]"
    words: list[str] = container["command"]
    return words[words.index("8099") + 1 :]


def test_a_controller_for_the_whole_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    found = controller(capsys, "--selector", "a in (b, c),d!=e", "--by-quota", "--shards", "3")
    asked = ["--all-namespaces", "--selector", "a in (b, c),d!=e", "--by-quota", "--shards", "3"]
    assert command(found) == asked
    [binding] = found["ClusterRoleBinding"]
    assert binding["subjects"][0]["namespace"] == "pools"
    [role] = found["Role"]
    assert (role["metadata"]["namespace"], role["rules"][0]["resources"]) == ("pools", ["leases"])
    assert all(one["spec"]["replicas"] == 2 for one in found["Deployment"])


def test_a_controller_for_some_namespaces_has_no_rights_elsewhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = controller(capsys, "--namespaces", "a,b")
    assert command(found) == ["--namespaces", "a,b"]
    assert not {"ClusterRole", "ClusterRoleBinding"} & found.keys()
    places = [one["metadata"]["namespace"] for one in found["Role"]]
    assert places == [one["metadata"]["namespace"] for one in found["RoleBinding"]]
    assert sorted(places) == ["a", "b", "pools"]
    rules = [rule for role in found["Role"] for rule in role["rules"]]
    assert not any("namespaces" in rule["resources"] for rule in rules)
    assert {one["subjects"][0]["namespace"] for one in found["RoleBinding"]} == {"pools"}
    alone = controller(capsys)
    assert command(alone) == []
    assert {one["metadata"]["namespace"] for one in alone["Role"]} == {"pools"}, "its own"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--manifest",), "--image"),
        (("--namespaces", "a", "--all-namespaces"), "--namespaces"),
        (("--namespaces", "a,B c"), "'B c' cannot be"),
        (("--all-namespaces", "--shards", "0"), "shards"),
    ],
)
def test_what_a_controller_cannot_be_asked_for(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert said in Run(capsys, "controller", *words, status=2).err


def test_namespaces_are_of_kubernetes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "config.py"
    file.write_text("c.ElasticKernels.cluster = 'local'")
    run = Run(capsys, "controller", "--all-namespaces", "--config", str(file), status=1)
    assert "c.ElasticKernels.cluster = 'kubernetes'" in run.err


# -- convert -----------------------------------------------------------------------------------


def test_what_is_printed_can_be_offered(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "specs.yaml"
    file.write_text(KERNEL_SPEC)
    run = Run(capsys, "convert", str(file))
    assert kinds(run.documents()) == {"KernelTemplate"}
    assert "JupyterKernelSpec py: spec.color: there is nothing like it" in run.err
    made = tmp_path / "made.yaml"
    made.write_text(run.out)
    store = TemplateStore([str(made)])
    store.refresh()
    assert store.problems() == []
    assert list(store.all()) == ["py"]


def test_the_report_is_json_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "specs.yaml"
    file.write_text(KERNEL_SPEC)
    report = json.loads(Run(capsys, "convert", str(file), "--json").out)
    assert [template["metadata"]["name"] for template in report["templates"]] == ["py"]
    assert report["failed"] == []
    fields = {note["field"]: note["object"] for note in report["notes"]}
    assert fields["spec.color"] == "JupyterKernelSpec py"


def test_directories_of_kernelspecs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("py_one", "py-two"):
        directory = tmp_path / name
        (directory / "scripts").mkdir(parents=True)
        (directory / "kernel.json").write_text(json.dumps(KERNEL_JSON))
        (directory / "scripts" / "kernel-pod.yaml.j2").write_text("{{ x }}")
        (directory / "logo-svg.svg").write_text("<svg/>")
    run = Run(capsys, "convert", str(tmp_path))
    assert {document["metadata"]["name"] for document in run.documents()} == {"py-one", "py-two"}
    assert all("icon" in document["spec"] for document in run.documents())
    assert f"{tmp_path / 'py_one'}: name:" in run.err
    assert "kernel-pod.yaml.j2" in run.err
    one = Run(capsys, "convert", str(tmp_path / "py-two")).documents()
    same = Run(capsys, "convert", str(tmp_path / "py-two" / "kernel.json")).documents()
    assert one == same
    assert [document["metadata"]["name"] for document in one] == ["py-two"]


def test_what_cannot_be_converted_fails_and_the_rest_is_printed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "specs.yaml"
    scala = KERNEL_SPEC.replace("name: py", "name: scala").replace("Python,", "Scala,")
    file.write_text(f"{KERNEL_SPEC}---{scala}")
    run = Run(capsys, "convert", str(file), status=1)
    assert [document["metadata"]["name"] for document in run.documents()] == ["py"]
    assert "Not converted: JupyterKernelSpec scala: spec.command" in run.err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((), 2, "either FILEs or --from-cluster"),
        (("x.yaml", "--from-cluster"), 2, "either FILEs or --from-cluster"),
        (("x.yaml", "--namespace", "lab"), 2, "--from-cluster"),
        (("nowhere.yaml",), 1, "nowhere.yaml cannot be read: No such file"),
        (("broken.yaml",), 1, "broken.yaml cannot be read: while"),
        (("binary.yaml",), 1, "not UTF-8"),
        (("empty.yaml",), 1, "nothing to convert"),
        (("folder",), 1, "holds no kernel.json"),
    ],
)
def test_wrong_usage_and_files(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    status: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "folder").mkdir()
    run = Run(capsys, "convert", *words, status=status)
    assert said in run.err
    assert run.out == ""
