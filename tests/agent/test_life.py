"""Start, restart, signals, death and end of a kernel in a real pod."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from benchmarks.server import free_port

from .pod import AgentError, Pod, until

MakePod = Callable[..., Pod]


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_start_from_the_spare_and_repeat(make_pod: MakePod) -> None:
    pod = make_pod()
    hello = pod.call("hello")
    assert (hello["phase"], hello["kernel_id"], hello["pod"]) == ("warm", None, pod.name)
    assert hello["overhead"] == pod.status_file()["overhead"] > 2**20
    kernel_id = str(uuid.uuid4())
    first = pod.start(kernel_id=kernel_id)
    assert first["how"] == "spare"
    again = pod.start(kernel_id=kernel_id)
    assert (again["pid"], again["connection"]) == (first["pid"], first["connection"])
    with pytest.raises(AgentError) as failure:
        pod.start()
    assert failure.value.reason == "Claimed"
    with pod.client(first["connection"]) as client:
        assert client.run("6 * 7") == "42"
    status = pod.status_file()
    assert (status["phase"], status["kernel_id"]) == ("claimed", kernel_id)
    file = pod.run_dir / "connection.json"
    assert json.loads(file.read_text()) == first["connection"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert (pod.run_dir / "claim.json").stat().st_mode & 0o777 == 0o600
    assert pod.call("connection")["connection"] == first["connection"]


@pytest.mark.parametrize("how", ["spare", "fork", "exec"])
def test_each_way_answers_and_restarts_on_the_same_ports(make_pod: MakePod, how: str) -> None:
    pod = make_pod()
    env = dict(pod.env)
    if how == "fork":
        env["XDG_STATE_HOME"] = str(pod.directory)
    if how == "exec":
        env["PYTHON_NOT_AS_WARM"] = "1"
    first = pod.start(env=env)
    assert first["how"] == how
    with pod.client(first["connection"]) as client:
        # A child in a session of its own, which holds the kernel's sockets.
        child = int(
            client.run(
                "import os, time\n"
                "pid = os.fork()\n"
                "if pid == 0:\n"
                "    os.setsid()\n"
                "    time.sleep(1000)\n"
                "pid"
            )
        )
        assert not gone(child)
    second = pod.call("restart")
    assert gone(child)
    assert second["connection"] == first["connection"]
    assert second["pid"] != first["pid"]
    with pod.client(second["connection"]) as client:
        assert client.run("'pid' in globals()") == "False"
    assert pod.call("status")["restarts"] == 0


def test_the_next_spare_serves_the_next_restart(make_pod: MakePod) -> None:
    pod = make_pod()
    reply = pod.start()
    with pod.client(reply["connection"]) as client:
        client.run("1")
    zygote = pod.call("status")["pid"]

    def spares() -> bool:
        parent = int(Path(f"/proc/{zygote}/stat").read_text().rpartition(")")[2].split()[1])
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return len(children) == 2

    until(spares, "a second spare")
    # It is there, and gets ready; until then a restart is served otherwise.
    until(lambda: pod.call("restart")["how"] == "spare", "a restart by a spare")


def test_given_ports_are_used_and_a_taken_one_is_named(make_pod: MakePod) -> None:
    pod = make_pod()
    listener = socket.create_server(("127.0.0.1", 0))
    numbers: set[int] = set()
    while len(numbers) < 5:
        numbers.add(free_port())
    names = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
    ports = dict(zip(names, numbers, strict=True))
    kernel_id = str(uuid.uuid4())
    taken = {**ports, "hb_port": listener.getsockname()[1]}
    with pytest.raises(AgentError) as failure:
        pod.start(kernel_id=kernel_id, ports=taken)
    assert failure.value.reason == "StartFailed"
    assert "hb_port" in failure.value.message
    listener.close()
    reply = pod.start(kernel_id=kernel_id, ports=ports)
    assert {name: reply["connection"][name] for name in names} == ports


def test_curve_encrypts_all_channels(make_pod: MakePod) -> None:
    pod = make_pod()
    if not pod.call("hello")["curve"]:
        pytest.skip("this ipykernel cannot encrypt")
    public, secret = (key.decode() for key in zmq.curve_keypair())
    reply = pod.start(curve={"publickey": public, "secretkey": secret})
    assert reply["how"] == "spare"
    assert reply["connection"]["curve_publickey"] == public
    with pod.client(reply["connection"]) as client:
        assert client.run("1 + 1") == "2"
        client.kernel.hb_channel.unpause()
        assert until(client.kernel.hb_channel.is_beating, "heartbeat")
    reply = pod.call("restart")
    with pod.client(reply["connection"]) as client:
        assert client.run("2 + 2") == "4"


def test_interrupt_reaches_the_cell_and_its_children(make_pod: MakePod) -> None:
    pod = make_pod()
    reply = pod.start()
    with pod.client(reply["connection"]) as client:
        client.kernel.execute("import time\nprint('now', flush=True)\ntime.sleep(100)")
        until(lambda: pod.call("status")["execution_state"] == "busy", "busy")
        while client.kernel.get_iopub_msg(timeout=60)["msg_type"] != "stream":
            pass
        pod.call("signal", signum=signal.SIGINT)
        answer = client.kernel.get_shell_msg(timeout=60)
        while answer["msg_type"] != "execute_reply":
            answer = client.kernel.get_shell_msg(timeout=60)
        assert answer["content"]["ename"] == "KeyboardInterrupt"
        assert client.run("1") == "1"
    until(lambda: pod.call("status")["execution_state"] == "idle", "idle")


def test_a_kernel_that_dies_comes_back_in_place(make_pod: MakePod) -> None:
    pod = make_pod()
    reply = pod.start()
    with pod.client(reply["connection"]) as client:
        client.kernel.execute("import os; os.kill(os.getpid(), 9)")
        event = pod.event("kernel-exited")
        assert event["restarting"] is True
        assert (event["exit"]["reason"], event["exit"]["signal"]) == ("Killed", 9)
        assert "SIGKILL" in event["exit"]["message"]
        back = pod.event("kernel-restarted")
    assert back["connection"] == reply["connection"]
    assert back["restarts"] == 1
    status = pod.call("status")
    assert status["alive"]
    assert status["pid"] != reply["pid"]
    assert status["restarts"] == 1
    with pod.client(reply["connection"]) as client:
        assert client.run("3") == "3"


def test_a_kernel_that_keeps_dying_stays_dead(make_pod: MakePod) -> None:
    pod = make_pod()
    pod.start()
    for death in range(6):
        pod.call("signal", signum=signal.SIGSEGV)
        event = pod.event("kernel-exited")
        assert event["restarting"] is (death < 5)
        if death < 5:
            pod.event("kernel-restarted")
    assert "6 times" in event["exit"]["message"]
    assert pod.call("status")["execution_state"] == "dead"
    # A person may still restart it.
    assert pod.call("restart")["pid"]


def test_restart_in_a_folder_that_is_gone_leaves_the_kernel_alone(make_pod: MakePod) -> None:
    pod = make_pod()
    folder = pod.directory / "work"
    folder.mkdir()
    reply = pod.start(cwd=str(folder))
    with pod.client(reply["connection"]) as client:
        client.run("x = 5")
        folder.rmdir()
        for fields, reason in (
            ({}, "BadWorkingDirectory"),
            ({"cwd": "/does/not/exist"}, "BadWorkingDirectory"),
            ({"cwd": 3}, "BadRequest"),
            ({"cwd": str(pod.directory), "env": {"A=B": "c"}}, "BadRequest"),
        ):
            with pytest.raises(AgentError) as failure:
                pod.call("restart", **fields)
            assert failure.value.reason == reason
        assert client.run("x") == "5"
    assert pod.call("status")["pid"] == reply["pid"]
    # What was refused was not kept either.
    folder.mkdir()
    with pod.client(pod.call("restart")["connection"]) as client:
        assert client.run("import os; os.getcwd()") == repr(str(folder))


def test_restart_that_fails_leaves_no_kernel_that_looks_alive(make_pod: MakePod) -> None:
    pod = make_pod()
    kernel_id = str(uuid.uuid4())
    pod.start(kernel_id=kernel_id)
    # Python ends with this in its environment before it runs anything.
    broken = {**pod.env, "PYTHONHOME": "/does/not/exist"}
    with pytest.raises(AgentError) as failure:
        pod.call("restart", env=broken)
    assert failure.value.reason == "StartFailed"
    event = pod.event("kernel-exited")
    assert event["restarting"] is False
    assert event["exit"]["reason"] == "StartFailed"
    assert "before it answered" in event["exit"]["message"]
    status = pod.call("status")
    assert (status["alive"], status["execution_state"], status["pid"]) == (False, "dead", None)
    assert status["exit"] == event["exit"] == pod.status_file()["exit"]
    reply = pod.call("restart", env=pod.env)  # a person may mend it
    assert pod.call("status")["exit"] is None
    with pod.client(reply["connection"]) as client:
        assert client.run("1") == "1"


def test_report_leaves_it_dead_with_the_reason(make_pod: MakePod) -> None:
    pod = make_pod()
    reply = pod.start(on_death="report")
    with pod.client(reply["connection"]) as client:
        client.kernel.execute("import os; os._exit(3)")
        event = pod.event("kernel-exited")
    assert event["restarting"] is False
    assert (event["exit"]["reason"], event["exit"]["code"]) == ("Crashed", 3)
    status = pod.call("status")
    assert (status["alive"], status["execution_state"]) == (False, "dead")
    assert pod.status_file()["exit"]["reason"] == "Crashed"


@pytest.mark.parametrize("how", ["quit", "shutdown"])
def test_a_kernel_that_ends_itself_comes_back_in_place(make_pod: MakePod, how: str) -> None:
    pod = make_pod()
    reply = pod.start()
    with pod.client(reply["connection"]) as client:
        if how == "quit":
            client.kernel.execute("quit()")
        else:
            client.kernel.shutdown(restart=False)
        event = pod.event("kernel-exited")
    assert event["restarting"] is True
    assert (event["exit"]["reason"], event["exit"]["code"]) == ("Exited", 0)
    assert "ended itself" in event["exit"]["message"]
    assert "variables are lost" in event["exit"]["message"]
    back = pod.event("kernel-restarted")
    assert (back["connection"], back["restarts"]) == (reply["connection"], 1)
    with pod.client(reply["connection"]) as client:
        assert client.run("3") == "3"
    status = pod.call("status")
    assert (status["alive"], status["restarts"], status["exit"]["reason"]) == (True, 1, "Exited")


def test_a_kernel_that_ends_itself_stays_dead_where_only_reports_are_wanted(
    make_pod: MakePod,
) -> None:
    pod = make_pod()
    reply = pod.start(on_death="report")
    with pod.client(reply["connection"]) as client:
        client.kernel.execute("quit()")
        event = pod.event("kernel-exited")
    assert event["restarting"] is False
    assert (event["exit"]["reason"], event["exit"]["code"]) == ("Exited", 0)
    status = pod.call("status")
    assert (status["alive"], status["execution_state"]) == (False, "dead")


def test_stop_ends_everything_with_status_zero(make_pod: MakePod) -> None:
    pod = make_pod()
    reply = pod.start()
    with pod.client(reply["connection"]) as client:
        child = int(
            client.run(
                "import subprocess\n"
                "p = subprocess.Popen(['sleep', '1000'], start_new_session=True); p.pid"
            )
        )
    pod.call("stop", grace=0.5)
    assert pod.process is not None
    assert pod.process.wait(60) == 0
    assert gone(child)
    assert gone(reply["pid"])
    status = pod.status_file()
    assert (status["phase"], status["reason"]) == ("gone", "Stopped")
    assert not (pod.run_dir / "claim.json").exists()


def test_agent_killed_ends_all_and_says_so(make_pod: MakePod) -> None:
    pod = make_pod()
    reply = pod.start()
    with pod.client(reply["connection"]) as client:
        child = int(
            client.run(
                "import subprocess\n"
                "p = subprocess.Popen(['sh', '-c', 'setsid sleep 1000 & echo $!'],"
                " stdout=subprocess.PIPE)\nint(p.stdout.readline())"
            )
        )
    assert pod.process is not None
    pod.process.kill()
    pod.process.wait()
    status = pod.wait_phase("gone")
    assert status["reason"] == "AgentLost"
    assert "killed" in status["message"]
    assert gone(reply["pid"])
    assert gone(child)


def kill_all(pod: Pod, kernel: int) -> None:
    """Kill every process of the pod at once, as the system does when a container's memory ends."""
    assert pod.process is not None
    stat = Path(f"/proc/{kernel}/stat").read_text()
    zygote = int(stat.rpartition(")")[2].split()[1])
    children = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
    os.kill(zygote, signal.SIGSTOP)  # or it would still write the agent's death
    pod.process.kill()
    for pid in (zygote, *map(int, children)):
        os.kill(pid, signal.SIGKILL)
    pod.process.wait()
    until(lambda: gone(kernel), "the kernel's end")
    pod.hang_up()


def test_all_killed_then_restored_on_the_same_ports(make_pod: MakePod) -> None:
    pod = make_pod()
    reply = pod.start()
    kill_all(pod, reply["pid"])
    assert pod.status_file()["phase"] == "claimed"  # nobody was left to write
    old = pod.status_file()["pid"]
    pod.launch()
    until(lambda: pod.status_file()["pid"] != old, "the new agent")
    until(lambda: pod.call("status")["alive"], "the kernel")
    status = pod.call("status")
    assert status["restarts"] == 1
    assert pod.call("connection")["connection"] == reply["connection"]
    assert pod.call("hello")["overhead"] > 0
    with pod.client(reply["connection"]) as client:
        assert client.run("5") == "5"


def test_maximum_age_counts_from_the_first_claim_also_when_restored(make_pod: MakePod) -> None:
    pod = make_pod()
    reply = pod.start(idle={"cull_after": 0, "max_age": 3600, "cull_connected": True})
    kill_all(pod, reply["pid"])
    file = pod.run_dir / "claim.json"
    claim = json.loads(file.read_text())
    assert 0 <= time.time() - claim["claimed"] < 600
    claim["claimed"] -= 3600  # an hour ago, for the new agent
    file.write_text(json.dumps(claim))
    pod.launch()
    assert pod.process is not None
    assert pod.process.wait(60) == 0
    assert pod.status_file()["reason"] == "MaxAge"


def test_zygote_killed_while_claimed_is_replaced(make_pod: MakePod) -> None:
    pod = make_pod()
    reply = pod.start()
    stat = Path(f"/proc/{reply['pid']}/stat").read_text()
    os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)
    assert pod.event("kernel-exited")["restarting"] is True
    assert pod.event("kernel-restarted")["connection"] == reply["connection"]
    assert gone(reply["pid"])
    with pod.client(reply["connection"]) as client:
        assert client.run("5") == "5"


def test_zygote_killed_while_warm_ends_the_pod(make_pod: MakePod) -> None:
    pod = make_pod()
    assert pod.process is not None
    children = Path(f"/proc/{pod.process.pid}/task/{pod.process.pid}/children").read_text()
    os.kill(int(children.split()[0]), signal.SIGKILL)
    assert pod.process.wait(60) == 1
    assert pod.status_file()["reason"] == "ZygoteLost"


def test_start_failures_say_why(make_pod: MakePod) -> None:
    pod = make_pod()
    kernel_id = str(uuid.uuid4())
    with pytest.raises(AgentError) as failure:
        pod.start(kernel_id=kernel_id, cwd="/does/not/exist")
    assert failure.value.reason == "BadWorkingDirectory"
    assert "/does/not/exist" in failure.value.message
    for fields in ({"env": {"A=B": "c"}}, {"env": {"A": 1}}, {"on_death": "x"}, {"key": 3}):
        with pytest.raises(AgentError) as failure:
            pod.start(kernel_id=kernel_id, **fields)
        assert failure.value.reason == "BadRequest"
    assert pod.start(kernel_id=kernel_id)["pid"]  # the pod still serves


def test_start_while_still_warming_waits(make_pod: MakePod) -> None:
    pod = make_pod(warm=False)
    reply = pod.start()
    with pod.client(reply["connection"]) as client:
        assert client.run("1") == "1"
    assert pod.call("hello")["phase"] == "claimed"


def test_preload_that_fails_is_a_warning(make_pod: MakePod, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "bad_one.py").write_text("raise RuntimeError('no such luck')")
    (site / "bad_two.py").write_text("raise SystemExit('bye')")
    (site / "good.py").write_text("x = 5")
    pod = make_pod(
        env={**os.environ, "PYTHONPATH": str(site)},
        preload=["bad_one", "not_there_at_all", "bad_two", "good"],
    )
    hello = pod.call("hello")
    words = " ".join(hello["warnings"])
    assert len(hello["warnings"]) == 3
    assert "RuntimeError: no such luck" in words
    assert "not_there_at_all" in words
    assert "SystemExit" in words
    assert pod.status_file()["warnings"] == hello["warnings"]
    reply = pod.start()
    assert reply["how"] == "spare"
    with pod.client(reply["connection"]) as client:
        assert client.run("import sys; 'good' in sys.modules, 'bad_one' in sys.modules") == (
            "(True, False)"
        )


def test_install_after_warming_is_seen(make_pod: MakePod, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "fickle.py").write_text("version = 1")
    pod = make_pod(env={**os.environ, "PYTHONPATH": str(site)}, preload=["fickle"])
    reply = pod.start()
    with pod.client(reply["connection"]) as client:
        assert client.run("import fickle; fickle.version") == "1"
    (site / "fickle.py").write_text("version = 22")
    (site / "fickle-22.dist-info").mkdir()
    reply = pod.call("restart")
    assert reply["how"] == "exec"
    with pod.client(reply["connection"]) as client:
        assert client.run("import fickle; fickle.version") == "22"
