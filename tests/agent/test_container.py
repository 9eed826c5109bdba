"""The agent as the first process of a container: it reaps, and tells why the pod ended."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jupyter_elastic.agent import processes
from jupyter_elastic.agent.cgroup import own_cgroup

from ..leftovers import kill_at_once
from .pod import AgentError, Pod, until

MakePod = Callable[..., Pod]


@pytest.fixture
def make(make_pod: MakePod, tmp_path: Path) -> Callable[[], Pod]:
    return lambda: make_pod(
        init=True, termination_log=str(tmp_path / "termination"), cgroup="own", enforce="cgroup"
    )


def said(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "termination").read_text())
    return found


def agent_of(pod: Pod) -> int:
    """The agent: the one child of the first process."""
    assert pod.process is not None
    [child] = processes.children(pod.process.pid)
    return child


def everything(pod: Pod) -> list[int]:
    found = (processes.stat(pid) for pid in processes.marked(pod.name))
    return [one.pid for one in found if one is not None and one.state not in "ZX"]


@pytest.mark.fault
def test_a_killed_agent_ends_the_pod_and_says_so(make: Callable[[], Pod], tmp_path: Path) -> None:
    pod = make()
    answer = pod.start(kernel_id="11111111-1111-4111-8111-111111111111")
    os.kill(agent_of(pod), signal.SIGKILL)
    assert pod.process is not None
    assert pod.process.wait(60) == 0  # the kubelet must not start the container again
    assert said(tmp_path)["reason"] == "AgentLost"
    assert processes.stat(answer["pid"]) is None
    assert not (pod.run_dir / "claim.json").exists()


def test_stopping_is_a_clean_end(make: Callable[[], Pod], tmp_path: Path) -> None:
    pod = make()
    pod.start()
    pod.call("stop", grace=1.0)
    assert pod.process is not None
    assert pod.process.wait(60) == 0
    assert said(tmp_path) == {"reason": "Stopped", "message": "The kernel was stopped."}


def test_the_kubelets_signal_reaches_the_agent(make: Callable[[], Pod], tmp_path: Path) -> None:
    pod = make()
    pod.start()
    assert pod.process is not None
    pod.process.send_signal(signal.SIGTERM)
    assert pod.process.wait(60) == 0
    assert said(tmp_path)["reason"] == "Terminated"


@pytest.mark.fault
def test_all_killed_at_once_and_started_again(make: Callable[[], Pod], tmp_path: Path) -> None:
    """As a container out of memory: nobody says a word, and the kernel comes back."""
    pod = make()
    answer = pod.start()
    pod.hang_up()
    assert pod.process is not None
    first = pod.process.pid
    kill_at_once(lambda: processes.tree(first))
    assert pod.process.wait(60) == -signal.SIGKILL
    until(lambda: everything(pod) == [], "nothing is left")
    assert not (tmp_path / "termination").exists()
    (pod.run_dir / "status.json").unlink()
    pod.launch()
    pod.wait_phase("claimed")
    until(lambda: pod.call("status")["alive"], "the kernel is back")
    assert pod.call("connection")["connection"] == answer["connection"]
    assert pod.call("status")["restarts"] == 1


def test_whoever_waits_hears_when_the_pod_is_warm(make_pod: MakePod) -> None:
    pod = make_pod(warm=False, preload=["json"])
    hello = pod.call("hello", wait=40.0)
    assert hello["phase"] == "warm"
    assert hello["overhead"] > 0
    assert hello["python"]


def test_the_run_directory_is_made(make_pod: MakePod, tmp_path: Path) -> None:
    run = tmp_path / "empty-dir" / "pod"
    pod = make_pod(warm=False, run_dir=str(run))
    pod.run_dir = run
    pod.wait_phase("warm")
    assert run.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("where", ["", "kubepods/pod1"])
def test_finding_a_containers_own_group(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "jupyter_elastic.agent.cgroup._own_paths",
        lambda: {"memory": f"/{where}", "cpu": f"/{where}", "": f"/{where}"},
    )
    assert own_cgroup(str(tmp_path)) is None
    one = tmp_path / "one"
    for name in ("memory", "cpu"):
        (one / name / where).mkdir(parents=True)
    (one / "memory" / where / "memory.usage_in_bytes").write_text("5\n")
    (one / "memory" / where / "memory.limit_in_bytes").write_text("100\n")
    (one / "cpu" / where / "cpu.cfs_quota_us").write_text("155000\n")
    (one / "cpu" / where / "cpu.cfs_period_us").write_text("100000\n")
    first = own_cgroup(str(one))
    assert first is not None
    assert (first.version, first.memory_limit(), first.cpu_limit()) == (1, 100, 1550)
    two = tmp_path / "two"
    (two / where).mkdir(parents=True)
    (two / "cgroup.controllers").write_text("cpu memory\n")
    (two / where / "memory.current").write_text("5\n")
    (two / where / "memory.max").write_text("200\n")
    (two / where / "cpu.max").write_text("max 100000\n")
    second = own_cgroup(str(two))
    assert second is not None
    assert (second.version, second.memory_limit(), second.cpu_limit()) == (2, 200, None)


def test_a_home_that_is_missing_is_made(make_pod: MakePod, tmp_path: Path) -> None:
    """As on a fresh volume; the kernel then has a profile and a history like any other."""
    home = tmp_path / "volume" / "home"
    env = {name: os.environ[name] for name in os.environ if not name.startswith(("PYTHON", "IPY"))}
    env["HOME"] = str(home)
    pod = make_pod(init=True, env=env)
    assert pod.call("hello")["warnings"] == []
    with pod.client(pod.start(cwd=None)["connection"]) as client:
        assert client.run("import os; os.getcwd()") == repr(str(home))
        assert client.run("get_ipython().ipython_dir") == repr(str(home / ".ipython"))
        home.rename(tmp_path / "gone")  # the next kernel is to have one as well
    with pod.client(pod.call("restart")["connection"]) as client:
        # IPython may complain, before or after, about its history.
        assert repr(str(home)) in client.run("import os; os.getcwd()")


def test_a_home_that_cannot_be_made_is_said_and_the_image_has_a_folder(
    make_pod: MakePod, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    home = str(tmp_path / "file" / "home")
    pod = make_pod(init=True, env={**os.environ, "HOME": home})
    [warning] = pod.call("hello")["warnings"]
    assert home in warning
    assert str(pod.cwd) in warning
    with pod.client(pod.start(cwd=None)["connection"]) as client:
        assert client.run("import os; os.getcwd()") == repr(str(pod.cwd))


def test_a_folder_that_was_asked_for_is_never_made(make_pod: MakePod, tmp_path: Path) -> None:
    pod = make_pod(init=True)
    with pytest.raises(AgentError) as failure:
        pod.start(cwd=str(tmp_path / "wished"))
    assert failure.value.reason == "BadWorkingDirectory"
    assert not (tmp_path / "wished").exists()
