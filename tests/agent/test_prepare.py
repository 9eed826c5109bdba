"""A spare that is bound ahead of its start: nothing of the user's runs before that."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .pod import AgentError, Pod, until

MakePod = Callable[..., Pod]


def begun(pod: Pod) -> Path:
    """A file that the user's start-up files make."""
    startup = pod.directory / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True, exist_ok=True)
    mark = pod.directory / "begun"
    (startup / "00.py").write_text(f"open({str(mark)!r}, 'a').write('x')\n")
    return mark


def agent_pid(pod: Pod) -> int:
    assert pod.process is not None
    return pod.process.pid


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


@pytest.fixture
def pod(make_pod: MakePod) -> Pod:
    return make_pod()


def test_nothing_of_the_users_runs_before_the_start(pod: Pod) -> None:
    mark = begun(pod)
    request = pod.request()
    assert pod.call("prepare", **request)["prepared"]
    assert pod.call("prepare", **request)["prepared"], "again is no harm"
    assert not (pod.run_dir / "claim.json").exists(), "a pod killed now would be warm again"
    assert not mark.exists()
    reply = pod.call("start", **request)
    assert reply["how"] == "spare"
    with pod.client(reply["connection"]) as client:
        assert client.run("6 * 7") == "42"
    assert mark.read_text() == "x"
    assert pod.call("start", **request)["pid"] == reply["pid"]
    assert pod.call("restart", env=None, cwd=None, grace=1)["pid"] != reply["pid"]
    assert mark.read_text() == "xx"


def test_a_start_that_differs_gets_a_kernel_of_its_own(pod: Pod) -> None:
    mark = begun(pod)
    request = pod.request()
    assert pod.call("prepare", **request)["prepared"]
    reply = pod.call("start", **{**request, "key": "another"})
    assert reply["connection"]["key"] == "another"
    with pod.client(reply["connection"]) as client:
        assert client.run("6 * 7") == "42"
    assert mark.read_text() == "x"


def test_another_kernels_start_is_refused(pod: Pod) -> None:
    assert pod.call("prepare", **pod.request())["prepared"]
    with pytest.raises(AgentError) as failure:
        pod.start()
    assert failure.value.reason == "Claimed"


def test_where_no_spare_serves_the_start_makes_a_kernel(make_pod: MakePod) -> None:
    pod = make_pod()
    request = pod.request(env={**pod.env, "PYTHON_NOT_AS_WARM": "1"})
    assert not pod.call("prepare", **request)["prepared"]
    reply = pod.call("start", **request)
    assert reply["how"] == "exec"
    with pod.client(reply["connection"]) as client:
        assert client.run("6 * 7") == "42"


@pytest.mark.parametrize("whose", ["spare", "zygote"])
def test_a_process_killed_while_it_is_held_is_replaced(pod: Pod, whose: str) -> None:
    mark = begun(pod)
    request = pod.request()
    assert pod.call("prepare", **request)["prepared"]
    (zygote,) = children(agent_pid(pod))
    (spare,) = children(zygote)
    os.kill(spare if whose == "spare" else zygote, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{spare}").exists(), "the held process is gone")
    reply: dict[str, Any] = pod.call("start", **request)
    assert reply["pid"] != spare
    with pod.client(reply["connection"]) as client:
        assert client.run("6 * 7") == "42"
    assert mark.read_text() == "x"


def test_a_pod_is_stopped_while_its_kernel_is_held(pod: Pod) -> None:
    assert pod.call("prepare", **pod.request())["prepared"]
    pod.call("stop", grace=5)
    assert pod.process is not None
    assert pod.process.wait(60) == 0
