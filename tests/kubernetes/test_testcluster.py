"""The harness itself: what it asks for, one build at a time, and an end that leaves nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..testcluster import build, cgroups, cluster, needs
from ..testcluster.api import until
from ..testcluster.cluster import Cluster
from ..testcluster.keeper import mounts_below
from ..testcluster.supervisor import KERNEL
from ..testcluster.world import Kube
from .test_cluster import STAY, is_ready, pod, pods


def test_what_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "which", lambda program: None)
    monkeypatch.setattr(needs, "CNI_PLACES", ())
    said = "\n".join(needs.missing_for_up() + needs.missing_for_build())
    for package in needs.packages():
        assert f"apt install {package}" in said
    assert "containernetworking-plugins" in said


def test_only_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "Only root may start containers; run as root." in cluster.missing()


# -- builds --------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(build.CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(needs, "missing_for_build", list)
    return tmp_path


def test_a_failed_build_is_none(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(out: Path, say: build.Say) -> None:
        (out / "kubernetes").write_text("half")
        raise build.BuildFailed("no space left")

    monkeypatch.setattr(build, "_compile", breaks)
    with pytest.raises(build.BuildFailed):
        build.build()
    assert build.found() is None
    assert not [entry for entry in cache.iterdir() if entry.is_dir()]


def test_what_a_killed_build_left_is_none(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = build.target().with_name(build.target().name + ".part-killed")
    half.mkdir()
    assert build.found() is None
    monkeypatch.setattr(build, "_compile", lambda out, say: (out / "kubernetes").touch())
    assert (build.build() / "kubernetes").exists()
    assert not half.exists()


def test_two_builds_at_once_are_one(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds: list[Path] = []
    second_waits = threading.Event()

    def compile_once(out: Path, say: build.Say) -> None:
        builds.append(out)
        assert second_waits.wait(60)

    monkeypatch.setattr(build, "_compile", compile_once)
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(build.build(lambda said: heard(said))))
        for _ in range(2)
    ]

    def heard(said: str) -> None:
        if "waiting" in said:
            second_waits.set()

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert found == [build.target()] * 2


# -- up and down, on a second cluster beside that of the run -------------------------------------


@pytest.fixture
def second(kube: Kube) -> Iterator[Cluster]:
    if kube.cluster is None:
        pytest.skip("this run does not use a cluster of the tree")
    folder = Path(tempfile.mkdtemp(prefix="je-second-"))
    found = Cluster(folder / "state")
    yield found
    found.down()
    shutil.rmtree(folder, ignore_errors=True)


FOLDERS = [
    *map(Path, ("/opt/containerd", "/run/containerd", "/run/mount", "/run/netns")),
    *map(Path, ("/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods")),
]
"""What container runtimes and kubelets make where they run without a mount namespace."""


def words(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def shared() -> dict[str, object]:
    """What clusters and all others on the machine have in common."""
    kernel = [Path("/proc/sys", name) for name in KERNEL]
    return {
        "chains": [line for line in words("iptables-save") if "KUBE-" in line],
        "folders": [(place, sorted(place.rglob("*"))) for place in FOLDERS if place.exists()],
        "settings": [path.read_text() for path in kernel if path.exists()],
    }


def own(name: str, state: Path) -> dict[str, list[str]]:
    """What the machine has of one cluster."""
    processes = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return {
        "interfaces": [line for line in words("ip", "-br", "link") if line.startswith(name)],
        "routes": [line for line in words("ip", "route") if f"dev {name} " in f"{line} "],
        "groups": [str(one) for one in cgroups.roots(name) if one.exists()],
        "processes": [one.name for one in processes if str(state) in command_line(one)],
        "state": [str(path) for path in (state,) if path.exists()],
    }


def test_down_leaves_nothing(second: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    before = shared()
    second.up()
    name, state = second.addresses.name, second.state
    assert all(own(name, state).values())
    second.up()
    assert "runs already" in capsys.readouterr().out
    kube = Kube(second.kubeconfig, "", second)
    created = kube.admin.post(pods("default"), pod(kube, "one", STAY))
    kube.await_pod("default", "one", is_ready)
    [process] = kube.container_pids(created["metadata"]["uid"]) or []
    kube.close()
    assert mounts_below(state) == []
    assert shared() == before
    second.down()
    assert not any(own(name, state).values())
    assert shared() == before
    until("its pod's process ended", lambda: not Path(f"/proc/{process}").exists())


@pytest.mark.fault
def test_a_cluster_ends_with_the_killed_process_that_it_is_tied_to(second: Cluster) -> None:
    code = f"""
import os, pathlib, signal
from tests.testcluster.cluster import Cluster
Cluster(pathlib.Path({str(second.state)!r})).up(tied=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], cwd=cluster.ROOT, check=False)
    name, state = second.addresses.name, second.state
    until("nothing of it is left", lambda: not any(own(name, state).values()))
    assert not state.exists()
