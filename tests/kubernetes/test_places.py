"""Where kernels run and what they see there: GPUs by kind, owners' volumes, folders, packages."""

from __future__ import annotations

import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..testcluster.certificates import NODE
from ..testcluster.nodes import FAKE_GPU, GPU, PRODUCT, TOLERATION
from ..testcluster.world import Kube
from .desk import Desk, home_directory
from .served import RESOURCES, Served, own, server_on
from .world import install

OWNER = "Ada L."
MINE, TEAM = "/home/owner", "/srv/team"


@pytest.fixture(scope="module")
def world(kube: Kube) -> Iterator[Served]:
    own(kube)  # whose node has this machine's folders, and says it has GPUs
    install(kube)
    with kube.namespace() as namespace, home_directory() as home:
        desk = Desk(kube, namespace, home)
        with server_on(desk, f"c.ElasticKernels.owner = {OWNER!r}\n") as running:
            yield running
            running.stop_all()
            running.assert_nothing_is_left()


# -- GPUs -----------------------------------------------------------------------------------------


def test_kernels_with_gpus_of_two_kinds_run_where_those_are(world: Served) -> None:
    kinds = {
        kind: {"resource": GPU, "nodeSelector": {PRODUCT: product}}
        for kind, product in (("a100", "A100"), ("t4", "T4"))
    }
    pod = world.desk.pod_options(gpus=kinds, tolerations=[TOLERATION])
    offer = {**RESOURCES, "gpu": {"kinds": ["a100", "t4"], "maximum": 2}}
    with world.offered("gpu", pool=0, resources=offer, pod=pod):
        real = world.begin("gpu", resources={"gpu": {"kind": "a100", "count": 2}})
        # Nothing runs on the other node, which only pretends; the pod is placed all the same.
        other = world.begin("gpu", resources={"gpu": {"kind": "t4", "count": 1}})
        view = world.phase(real, "Running", 100)
        assert view["actual"]["gpu"] == {"kind": "a100", "count": 2}
        assert world.execute(real, "6 * 7") == "42"
        assert placed(world, real) == (NODE, "2")
        assert placed(world, other) == (FAKE_GPU, "1")
        world.stop_all()


def placed(world: Served, kernel_id: str) -> tuple[str, str]:
    """Node and number of GPUs of a kernel's pod."""

    def look() -> Any:
        [pod] = world.pods_of(kernel_id)
        return pod["spec"].get("nodeName") and pod

    spec = world.until(look, "its pod is placed")["spec"]
    return spec["nodeName"], spec["containers"][0]["resources"]["limits"][GPU]


# -- folders --------------------------------------------------------------------------------------


def volume(desk: Desk, name: str, folder: Path) -> None:
    """A claim of this name, bound to a folder of this machine."""
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    admin, size = desk.kube.admin, {"storage": "1Gi"}
    modes = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    unique = f"{desk.namespace}-{name}"
    spec = {**modes, "capacity": size, "hostPath": {"path": str(folder)}}
    admin.post("/api/v1/persistentvolumes", {"metadata": {"name": unique}, "spec": spec})
    claim = {**modes, "resources": {"requests": size}, "volumeName": unique}
    path = f"/api/v1/namespaces/{desk.namespace}/persistentvolumeclaims"
    admin.post(path, {"metadata": {"name": name}, "spec": claim})


def wheel(folder: Path) -> None:
    """A package ``parcel`` to be installed from a folder."""
    info = "parcel-1.0.dist-info"
    files = {
        "parcel.py": "weight = 42\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / "parcel-1.0-py3-none-any.whl", "w") as file:
        for name, text in files.items():
            file.writestr(name, text)


@pytest.fixture(scope="module")
def owned(world: Served) -> Iterator[str]:
    """A kernel of a notebook in a folder, with its owner's volume as home."""
    desk = world.desk
    disk, work = desk.home / "disk", desk.home / "work"
    volume(desk, "homes", disk)
    work.chmod(0o777)
    world.home.chmod(0o755)
    pod = desk.pod_options()
    pod["volumes"] = [*pod["volumes"], {"name": "team", "hostPath": {"path": str(work)}}]
    pod["volumeMounts"] = [*pod["volumeMounts"], {"name": "team", "mountPath": TEAM}]
    pod["rootDir"] = {"mountPath": TEAM}
    pod["ownerVolume"] = {"claim": "homes", "subPath": "people/{owner}", "mountPath": MINE}
    env = {
        "HOME": MINE,
        # The Python behind the tests' own environment, whose packages it finds all the same.
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
    }
    python = str(Path(sys.base_prefix) / "bin" / "python3")
    with world.offered("owned", pool=0, resources=RESOURCES, pod=pod, env=env, interpreter=python):
        path = world.notebook("project/a.ipynb")
        body = world.session(path, {"name": "owned"})
        kernel_id = world.post("/api/sessions", body)["kernel"]["id"]
        world.phase(kernel_id, "Running", 100)
        yield kernel_id
        world.stop_all()
    desk.kube.admin.delete(f"/api/v1/persistentvolumes/{desk.namespace}-homes")


def test_an_owners_volume_starts_cold_and_says_why(world: Served, owned: str) -> None:
    assert world.elastic(owned)["start"] == "cold"
    said = [step["message"] for step in world.progress(owned)["steps"]]
    assert any("a volume of its owner" in message for message in said), said
    [folder] = (world.desk.home / "disk" / "people").iterdir()
    assert "ada" in folder.name
    (folder / "note").write_text("mine")
    assert world.execute(owned, f"open('{MINE}/note').read()") == "'mine'"


def test_a_kernel_runs_in_its_notebooks_folder(world: Served, owned: str) -> None:
    """By the mapping of the server's root to where the pod has it."""
    assert world.execute(owned, "import os; os.getcwd()") == f"'{TEAM}/project'"
    (world.home / "work" / "project" / "data.csv").write_text("a,b")
    assert world.execute(owned, "open('data.csv').read()") == "'a,b'"


def test_pip_installs_below_home_and_a_restart_keeps_it(world: Served, owned: str) -> None:
    [folder] = (world.desk.home / "disk" / "people").iterdir()
    folder.chmod(0o777)
    wheel(world.home / "work" / "project")
    run = "import subprocess, sys; subprocess.run([sys.executable, '-m', 'pip', 'install', "
    run += "'--no-index', 'parcel-1.0-py3-none-any.whl'], capture_output=True, text=True).stderr"
    said = world.execute(owned, run, 120)
    found = list(folder.glob(".local/lib/python*/site-packages/parcel.py"))
    assert len(found) == 1, said
    world.post(f"/api/kernels/{owned}/restart")
    assert world.execute(owned, "import parcel; parcel.weight") == "42"
