"""The end of clients that have no server: what they started ends with them, without a word."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.leftovers import POD_MARKER, pod_cgroups, pod_processes

from .conftest import end_all
from .console import console
from .test_clients import Desk
from .tools import config

NOISE = re.compile(r"Traceback|Task was destroyed|Exception ignored|never awaited|ResourceWarning")
HOLD = """
import atexit, sys, time
# A client that is still there when the interpreter is torn down complains, of any kernel.
atexit.register(lambda: globals().pop("kc", None))
from jupyter_client.manager import KernelManager
km = KernelManager(kernel_name="work")
km.start_kernel(**{options})
kc = km.client()
kc.start_channels()
kc.wait_for_ready(timeout=120)
print("up", flush=True)
{then}
"""
"""A client that starts a kernel and then does something else than to shut it down."""
RESTARTS = """
kc.execute("x = 1", reply=True, timeout=60)
km.restart_kernel({how})
kc.wait_for_ready(timeout=120)
reply = kc.execute("y = x", reply=True, timeout=60)
print(reply["content"]["ename"])
kc.stop_channels()
km.shutdown_kernel()
"""
ASYNC = """
import asyncio
from jupyter_client.manager import start_new_async_kernel
async def once():
    km, kc = await start_new_async_kernel(kernel_name="work")
    reply = await kc.execute("1 + 1", reply=True, timeout=60)
    print(reply["content"]["status"])
    kc.stop_channels()
    await km.shutdown_kernel()
asyncio.run(once())
asyncio.run(once())
"""
"""One client whose loops come and go."""


@pytest.fixture(scope="module")
def shell() -> Iterator[Desk]:
    """Kernelspecs that carry their templates; these are read from a file that is looked at."""
    with tempfile.TemporaryDirectory(prefix="je-lone-") as directory:
        home = Path(directory)
        (home / "config").mkdir()
        (home / "config" / "jupyter_server_config.py").write_text(
            config(pool=0, extra=f"c.ElasticLocal.state_dir = {str(home / 'state')!r}")
        )
        desk = Desk(home)
        desk.install(f"--prefix={home / 'prefix'}")
        try:
            yield desk
        finally:
            asyncio.run(end_all(home / "state"))


@pytest.fixture
def desk(shell: Desk) -> Iterator[Desk]:
    """Nothing may be left of any pod that the test saw."""
    before = pod_cgroups()
    yield shell
    until(lambda: pods(shell) == [], "no process of a pod")
    until(lambda: {one for one in pod_cgroups() - before if mine(one.name)} == set(), "no cgroup")
    until(lambda: shell.left() == [], "no record and no file")


def mine(pod: str) -> bool:
    """Whether a control group is of this module's template (other test runs have theirs)."""
    return pod in _SEEN


_SEEN: set[str] = set()


def pods(desk: Desk) -> list[str]:
    """The pods below the desk's state directory of which a process runs."""
    known = str(desk.home)
    found = [
        environment[POD_MARKER]
        for environment in pod_processes().values()
        if environment.get("JE_STATE", "").startswith(known)
    ]
    _SEEN.update(found)
    return found


def until(look: object, what: str, timeout: float = 60) -> None:
    """Wait, within a bound, until ``look`` returns something true."""
    assert callable(look)
    deadline = time.monotonic() + timeout
    while not look():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.05)


def script(desk: Desk, text: str, name: str = "script.py") -> str:
    """Write a file beside the notebook."""
    path = desk.home / "desk-work" / name
    path.write_text(text)
    return str(path)


def hold(desk: Desk, then: str, **options: object) -> subprocess.Popen[str]:
    """Start a client and wait until its kernel is up."""
    path = script(desk, HOLD.format(options=options, then=then))
    client = subprocess.Popen(
        [sys.executable, path],
        env=desk.environment,
        cwd=desk.home / "desk-work",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert client.stdout is not None
    line = client.stdout.readline()
    assert line == "up\n", line + client.stdout.read()
    assert pods(desk)
    return client


def finish(client: subprocess.Popen[str]) -> str:
    """Wait for a client's end; what it said since it was up."""
    assert client.stdout is not None
    watchdog = threading.Timer(120, client.kill)
    watchdog.start()
    said = client.stdout.read()  # communicate() would lose what readline() has read ahead
    client.wait()
    watchdog.cancel()
    return said


# -- clients that end by themselves ------------------------------------------------------------


def test_jupyter_run(desk: Desk) -> None:
    path = script(desk, f"import os; print('in', os.environ['{POD_MARKER}'])")
    done = desk.run("jupyter", "run", "--kernel", "work", path)
    assert done.returncode == 0, done.stdout
    assert "in work-" in done.stdout
    assert not NOISE.search(done.stdout), done.stdout


@pytest.mark.parametrize("command", [("execute",), ("nbconvert", "--execute", "--to=notebook")])
def test_notebooks(desk: Desk, command: tuple[str, ...]) -> None:
    pytest.importorskip("nbclient" if command[0] == "execute" else "nbconvert")
    desk.notebook("print(6 * 7)")
    done = desk.run("jupyter", *command, "--output=out.ipynb", "in.ipynb")
    assert done.returncode == 0, done.stdout
    assert desk.outputs() == ["42\n"]
    assert not NOISE.search(done.stdout), done.stdout


def test_console(desk: Desk) -> None:
    with console(desk.home / "desk-work", desk.environment, "--kernel=work") as terminal:
        terminal.read("In [1]")
        terminal.type("print(6 * 7)")
        terminal.read("42")
        assert pods(desk)
        terminal.type("exit")
        assert terminal.end() == 0
    assert not NOISE.search(terminal.text), terminal.text


def test_a_client_that_does_not_shut_its_kernel_down(desk: Desk) -> None:
    client = hold(desk, "")
    assert finish(client) == ""
    assert client.returncode == 0
    assert desk.left() == []  # at once: the client has done it itself


def test_a_client_that_fails(desk: Desk) -> None:
    said = finish(hold(desk, "raise ValueError('its own')"))
    assert said.count("Traceback") == 1, said
    assert said.endswith("ValueError: its own\n")


@pytest.mark.parametrize("order", ["before", "after"])
def test_exit_handlers_of_the_client(desk: Desk, order: str) -> None:
    """Registered before the start they run after ours, and find the kernel gone."""
    register = "import atexit; atexit.register(lambda: km.shutdown_kernel(now=True))"
    if order == "after":
        assert finish(hold(desk, register)) == ""
        return
    text = HOLD.format(options={}, then="").replace("km.start", f"{register}\nkm.start")
    assert run(desk, text).stdout == "up\n"


def run(desk: Desk, text: str) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    return subprocess.run(
        [sys.executable, script(desk, text)],
        env=desk.environment,
        cwd=desk.home / "desk-work",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )


def test_loops_that_come_and_go(desk: Desk) -> None:
    assert run(desk, ASYNC).stdout == "ok\nok\n"


@pytest.mark.parametrize("how", ["now=True", "now=False"])
def test_restart(desk: Desk, how: str) -> None:
    said = finish(hold(desk, RESTARTS.replace("{how}", how)))
    assert said == "NameError\n"


def test_nothing_is_looked_at_when_the_kernelspec_carries_the_template(desk: Desk) -> None:
    """Neither a controller nor a look at files, nor other templates."""
    then = """
from jupyter_elastic.kernels.lone import lone_thread
[service] = lone_thread()._services.values()
print(sorted(service.templates.all()), service.is_controller, service.templates._task)
km.shutdown_kernel()
"""
    configured = desk.home / "config" / "jupyter_server_config.py"
    kept = configured.read_text()
    folder = desk.home / "templates"
    folder.mkdir(exist_ok=True)
    (folder / "more.yaml").write_text("name: more\n")
    configured.write_text(f"{kept}c.ElasticKernels.templates = [{str(folder)!r}]\n")
    try:
        said = finish(hold(desk, then))
    finally:
        configured.write_text(kept)
    assert said == "['work'] False None\n"


# -- clients that are ended --------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_client_that_is_killed(desk: Desk, signum: signal.Signals) -> None:
    client = hold(desk, "time.sleep(600)")
    client.send_signal(signum)
    finish(client)
    until(lambda: pods(desk) == [], "no process of the pod")
    # Nobody was there to remove the record; whoever comes next does.
    [record] = (desk.home / "state" / "run").glob("*/status.json")
    status = json.loads(record.read_text())
    assert status["reason"] == "ClientGone"
    assert str(client.pid) in status["message"]
    listed(desk)


def test_a_client_that_is_killed_in_a_busy_cell(desk: Desk) -> None:
    client = hold(desk, "kc.execute('while True: pass'); time.sleep(600)")
    client.kill()
    finish(client)
    until(lambda: pods(desk) == [], "no process of the pod")
    listed(desk)


def listed(desk: Desk) -> None:
    """Look at the kernels, as whoever comes next does, until there is none."""

    def none() -> bool:
        found = desk.run("jupyter_elastic.cli", "kernels", "list", "--json")
        assert found.returncode == 0, found.stdout
        return bool(json.loads(found.stdout) == {"kernels": []})

    until(none, "no kernel is listed")


def test_a_kernel_that_is_to_be_independent_runs_on(desk: Desk) -> None:
    """As jupyter_client promises with ``independent=True``."""
    client = hold(desk, "print(km.kernel_id)", independent=True)
    kernel_id = finish(client).strip()
    assert pods(desk)
    stopped = desk.run("jupyter_elastic.cli", "kernels", "stop", kernel_id)
    assert stopped.returncode == 0, stopped.stdout
