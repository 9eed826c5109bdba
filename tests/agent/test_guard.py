"""Limits, culling, heartbeat, hostile peers: what a pod must stand and what it must end."""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from .pod import AgentError, Pod, until

MakePod = Callable[..., Pod]
MIB = 2**20


def memory_group() -> Path | None:
    """This process's own v1 memory group, if groups may be made below it."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            directory = Path("/sys/fs/cgroup/memory") / path.lstrip("/")
            if os.access(directory, os.W_OK):
                return directory
    return None


@pytest.fixture
def group() -> Iterator[Path]:
    parent = memory_group()
    if parent is None:
        pytest.skip("no writable v1 memory group here")
    directory = parent / f"test-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    yield directory

    def remove() -> bool:
        try:
            directory.rmdir()
        except OSError:
            return False
        return True

    until(remove, "an empty group")


EAT = "x = bytearray(400 * 2**20)\nfor i in range(0, len(x), 4096): x[i] = 1"


def test_out_of_memory_in_a_real_cgroup(group: Path, make_pod: MakePod) -> None:
    config = {"version": 1, "memory": str(group), "cpu": "", "join": [str(group / "cgroup.procs")]}
    pod = make_pod(cgroup=config, enforce="cgroup")
    overhead = pod.call("hello")["overhead"]
    limit = 128 * MIB
    (group / "memory.limit_in_bytes").write_text(str(overhead + limit))
    reply = pod.start(memory=limit)
    with pod.client(reply["connection"]) as client:
        assert client.run("x = bytearray(40 * 2**20)\nfor i in range(0, len(x), 4096): x[i] = 1\n1")
        usage = pod.call("usage")
        assert usage["memory_limit"] == pytest.approx(limit, abs=4096)
        assert 20 * MIB < usage["memory"] < 100 * MIB
        assert usage["processes"] == 1
        assert usage["oom_kills"] == 0
        assert pod.call("check_shrink", memory=16 * MIB)["fits"] is False
        assert pod.call("check_shrink", memory=limit)["fits"] is True
        client.kernel.execute(EAT)
        end = pod.event("kernel-exited")["exit"]
    assert end["reason"] == "OutOfMemory"
    assert end["limit"] == pytest.approx(limit, abs=4096)
    assert 0.8 * limit < end["peak"] <= end["limit"]
    assert "128 MiB" in end["message"]
    pod.event("kernel-restarted")
    assert pod.call("usage")["oom_kills"] == 1
    # The same cell passes after a raise.
    (group / "memory.limit_in_bytes").write_text(str(overhead + 600 * MIB))
    pod.call("limits", memory=600 * MIB, cpu=0)
    with pod.client(reply["connection"]) as client:
        client.run(EAT)
        assert pod.call("usage")["memory"] > 380 * MIB


def test_watchdog_holds_memory(make_pod: MakePod) -> None:
    pod = make_pod()
    reply = pod.start(memory=100 * MIB, cpu=1000)
    with pod.client(reply["connection"]) as client:
        assert client.run("import os; len(os.sched_getaffinity(0))") == "1"
        # Fast enough to be ended while it grows, slow enough to be looked at.
        client.kernel.execute(
            "import time\nx = []\nwhile True:\n    x.append(os.urandom(4 * 2**20))\n"
            "    time.sleep(0.01)"
        )
        end = pod.event("kernel-exited")["exit"]
    assert end["reason"] == "OutOfMemory"
    assert end["limit"] == 100 * MIB
    assert end["peak"] > 100 * MIB
    assert "100 MiB" in end["message"]
    pod.event("kernel-restarted")
    pod.call("limits", memory=400 * MIB, cpu=2000)
    with pod.client(reply["connection"]) as client:
        client.run("x = bytearray(200 * 2**20)\nfor i in range(0, len(x), 4096): x[i] = 1")
        wanted = min(2, len(os.sched_getaffinity(0)))
        assert client.run("import os; len(os.sched_getaffinity(0))") == str(wanted)
        usage = pod.call("usage")
        assert 180 * MIB < usage["memory"] < 260 * MIB
        assert usage["memory_limit"] == 400 * MIB
        assert usage["cpu_limit"] == 2000
        assert usage["cpu_seconds"] > 0


def test_memory_of_children_counts(make_pod: MakePod) -> None:
    pod = make_pod()
    reply = pod.start(memory=300 * MIB)
    code = "import time; x = bytearray(150 * 2**20); print('up', flush=True); time.sleep(1000)"
    with pod.client(reply["connection"]) as client:
        client.run(
            "import subprocess, sys\n"
            f"p = subprocess.Popen([sys.executable, '-c', {code!r}], stdout=subprocess.PIPE,"
            " start_new_session=True)\np.stdout.readline()"
        )
        until(lambda: pod.call("usage")["memory"] > 140 * MIB, "the child's memory")
        assert pod.call("usage")["processes"] == 2


BRIEFLY = {"cull_after": 3.0, "max_age": 0, "cull_connected": True}
"""An idle kernel ends soon, and yet not before a busy machine has let a client connect."""


def test_idle_kernel_is_culled_busy_is_not(make_pod: MakePod) -> None:
    pod = make_pod()
    reply = pod.start(idle=BRIEFLY)
    with pod.client(reply["connection"]) as client:
        client.run("import time; time.sleep(4)")  # busy for longer than the idle time
        pod.call("keepalive")
        event = pod.event("culled")
    assert event["reason"] == "Idle"
    assert pod.process is not None
    assert pod.process.wait(60) == 0
    status = pod.status_file()
    assert (status["phase"], status["reason"]) == ("gone", "Idle")
    assert "idle" in status["message"]


LOST = """
kernel = get_ipython().kernel
parent = {"header": {"msg_id": "lost", "msg_type": "execute_request", "session": "somebody"}}
kernel.session.send(
    kernel.iopub_socket, "status", {"execution_state": "busy"}, parent=parent,
    ident=kernel._topic("status"),
)
"""


def test_a_lost_idle_does_not_keep_a_kernel_for_ever(make_pod: MakePod) -> None:
    pod = make_pod()
    reply = pod.start(idle=BRIEFLY)
    with pod.client(reply["connection"]) as client:
        client.run(LOST)
        until(lambda: pod.call("status")["execution_state"] == "busy", "busy")
    assert pod.event("culled")["reason"] == "Idle"


def test_a_lost_idle_does_not_make_a_busy_kernel_idle(make_pod: MakePod) -> None:
    pod = make_pod()
    reply = pod.start(idle=BRIEFLY)
    with pod.client(reply["connection"]) as client:
        client.run(LOST + "import asyncio; await asyncio.sleep(4)")  # leaves the loop free
        assert client.run("import time; time.sleep(4); 7") == "7"
        assert pod.call("status")["alive"]
    assert pod.event("culled")["reason"] == "Idle"


def test_maximum_age(make_pod: MakePod) -> None:
    pod = make_pod()
    pod.start(idle={"cull_after": 0, "max_age": 1.0, "cull_connected": True})
    assert pod.event("culled")["reason"] == "MaxAge"
    assert pod.process is not None
    assert pod.process.wait(60) == 0
    assert pod.status_file()["reason"] == "MaxAge"


def test_warm_pod_ends_without_a_controller(make_pod: MakePod, tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    pod = make_pod(warm=False, heartbeat={"path": str(beat), "timeout": 5.0})
    assert pod.process is not None

    def warm() -> bool:
        beat.touch()
        return pod.status_file().get("phase") == "warm"

    until(warm, "warm")
    end = time.monotonic() + 6
    while time.monotonic() < end:  # longer than the time-out: beats keep it
        beat.touch()
        assert pod.process.poll() is None
        time.sleep(0.2)
    assert pod.process.wait(60) == 0
    assert pod.status_file()["reason"] == "NoController"


def test_unclaimed_cold_pod_ends_claimed_one_does_not(make_pod: MakePod) -> None:
    lonely = make_pod(warm=False, warm_timeout=1.0)
    claimed = make_pod(warm=False, warm_timeout=12.0)
    begun = time.monotonic()
    claimed.start()
    assert lonely.process is not None
    assert claimed.process is not None
    assert lonely.process.wait(60) == 0
    assert lonely.status_file()["reason"] == "Unclaimed"
    until(lambda: time.monotonic() > begun + 12.5, "the time-out")
    assert claimed.process.poll() is None


def test_connected_kernel_may_be_kept(make_pod: MakePod) -> None:
    pod = make_pod()
    idle = {"cull_after": 4.0, "max_age": 0, "cull_connected": False}
    reply = pod.start(idle=idle)
    with pod.client(reply["connection"]) as client:
        client.run("1")
        last = pod.call("status")["last_activity"]
        until(lambda: time.time() > last + 4.5, "the idle time")
        assert pod.call("status")["alive"]
    other = make_pod()
    other.start(idle={**idle, "cull_after": 0.5})
    assert other.event("culled")["reason"] == "Idle"  # nobody is connected to this one


def put(file: Path, text: str) -> None:
    """Write it so that whoever reads sees the old text or the new one, as of a real group."""
    new = file.with_name(f".{file.name}")
    new.write_text(text)
    new.replace(file)


def test_version_2_kernel_is_ended_before_the_system_does(
    make_pod: MakePod, tmp_path: Path
) -> None:
    group = tmp_path / "group"
    group.mkdir()
    (group / "memory.current").write_text(str(60 * MIB))
    (group / "memory.stat").write_text("inactive_file 0\nactive_file 0\n")
    (group / "memory.events").write_text("oom 0\noom_kill 0\n")
    (group / "memory.peak").write_text(str(600 * MIB))
    config = {"version": 2, "memory": str(group), "cpu": str(group), "join": []}
    pod = make_pod(cgroup=config, enforce="cgroup")
    overhead = pod.call("hello")["overhead"]
    (group / "memory.max").write_text(str(overhead + 500 * MIB))
    reply = pod.start()
    # Nearly all, but most of it is file cache, which the system drops by itself.
    put(group / "memory.stat", f"inactive_file {300 * MIB}\n")
    put(group / "memory.current", str(overhead + 499 * MIB))
    with pod.client(reply["connection"]) as client:
        assert client.run("import time; time.sleep(0.5); 1") == "1"
        client.kernel.execute("import time; time.sleep(1000)")
        put(group / "memory.stat", "inactive_file 0\n")
        end = pod.event("kernel-exited")["exit"]
        put(group / "memory.current", str(60 * MIB))
    assert end["reason"] == "OutOfMemory"
    assert end["limit"] == 500 * MIB
    assert end["peak"] == 500 * MIB
    pod.event("kernel-restarted")


def test_only_known_clients_may_speak(make_pod: MakePod) -> None:
    pod = make_pod()
    stranger = pod.dial(*zmq.curve_keypair())
    stranger.send(b'{"v": 1, "id": "x", "op": "hello"}')
    plain = pod.context.socket(zmq.DEALER)
    plain.linger = 0
    plain.connect(pod.status_file()["endpoint"])
    plain.send(b'{"v": 1, "id": "x", "op": "hello"}')
    assert pod.call("hello")["ok"]
    assert not stranger.poll(500)
    assert not plain.poll(100)
    stranger.close()
    plain.close()


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "BadRequest"),
        (b"\xff\x00", "BadRequest"),
        (b"[]", "BadRequest"),
        (b"[" * 100000, "BadRequest"),
        (b'{"v": 1, "id": "i"}', "BadRequest"),
        (b'{"v": 99, "id": "i", "op": "hello"}', "UnsupportedVersion"),
        (b'{"id": "i", "op": "hello"}', "UnsupportedVersion"),
        (b'{"v": 1, "id": "i", "op": "no_such"}', "UnknownOperation"),
        (b'{"v": 1, "id": "i", "op": "__class__"}', "UnknownOperation"),
        (b'{"v": 1, "id": "i", "op": "start"}', "BadRequest"),
        (b'{"v": 1, "id": "i", "op": "start", "kernel_id": [], "key": {}}', "BadRequest"),
        (b'{"v": 1, "id": "i", "op": "signal"}', "BadRequest"),
        (b'{"v": 1, "id": "i", "op": "signal", "signum": 999}', "BadRequest"),
        (b'{"v": 1, "id": "i", "op": "signal", "signum": 2}', "NotRunning"),
        (b'{"v": 1, "id": "i", "op": "limits", "memory": -1, "cpu": 0}', "BadRequest"),
        (b'{"v": 1, "id": "i", "op": "limits", "memory": 1e400, "cpu": 0}', "BadRequest"),
        (b'{"v": 1, "id": "i", "op": "stop", "grace": "long"}', "BadRequest"),
        (b'{"v": 1, "id": "i", "op": "restart"}', "NotRunning"),
        (b'{"v": 1, "id": "i", "op": "connection"}', "NotRunning"),
    ],
)
def test_malformed_requests_are_answered(shared: Pod, frame: bytes, reason: str) -> None:
    shared.socket.send(frame)
    reply = shared.receive(60)
    assert reply is not None
    assert (reply["ok"], reply["reason"]) == (False, reason)
    assert reply["message"]
    assert shared.call("hello")["phase"] == "warm"


def test_several_frames_and_too_big_ones_are_dropped(shared: Pod) -> None:
    shared.socket.send_multipart([b"a", b"b", b"c"])
    assert shared.call("hello")["ok"]
    other = shared.dial()
    other.send(b" " * (5 * MIB))
    assert not other.poll(500)
    other.close()
    assert shared.call("hello")["ok"]


def test_many_requests_at_once(shared: Pod) -> None:
    for number in range(50):
        shared.socket.send(json.dumps({"v": 1, "id": str(number), "op": "status"}).encode())
    answers: set[str] = set()
    while len(answers) < 50:
        reply = shared.receive(60)
        assert reply is not None
        answers.add(reply["id"])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    pod = Pod(tmp_path_factory.mktemp("shared"))
    with pod:
        pod.wait_phase("warm")
        yield pod


def test_other_languages_by_argv(make_pod: MakePod) -> None:
    pytest.importorskip("bash_kernel")
    pod = make_pod(
        argv=[sys.executable, "-m", "bash_kernel", "-f", "{connection_file}"],
        language="bash",
    )
    assert pod.call("hello")["ipykernel"] is None
    reply = pod.start(env={**pod.env, "WHO": "me"})
    assert reply["how"] == "exec"
    with pod.client(reply["connection"]) as client:
        assert client.run("echo $WHO in $PWD") == f"me in {pod.directory}"
        client.kernel.execute("sleep 100")
        until(lambda: pod.call("status")["execution_state"] == "busy", "busy")
    again = pod.call("restart")
    assert again["connection"] == reply["connection"]
    with pod.client(again["connection"]) as client:
        assert client.run("echo back") == "back"


def test_argv_that_does_not_exist_fails_the_start(make_pod: MakePod) -> None:
    pod = make_pod(argv=["/no/such/kernel", "{connection_file}"], language="x")
    with pytest.raises(AgentError) as failure:
        pod.start()
    assert failure.value.reason == "StartFailed"
    assert "No such file" in failure.value.message
