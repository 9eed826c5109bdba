"""A pooled kernel is what a plain ipykernel would have been: the same probes in both."""

from __future__ import annotations

import ast
import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.connect import write_connection_file

from benchmarks.server import free_port

from .pod import PYTHON, Client, Pod, until

MakePod = Callable[..., Pod]

PROBE = r"""
import sys, os, time, json, signal, threading, tempfile, warnings, locale, gc
import asyncio, logging, random, re, multiprocessing
import __main__
environment = dict(os.environ)
for name in ("JUPYTER_ELASTIC_POD", "JUPYTER_ELASTIC_KERNEL_ID"):
    environment.pop(name, None)
mask = os.umask(0); os.umask(mask)
ip = get_ipython()
found = dict(
    environment=environment,
    cwd=os.getcwd(),
    path=sys.path,
    argv=[os.path.basename(sys.argv[0]), sys.argv[1]],
    argv_file=os.path.exists(sys.argv[2]),
    orig_argv=getattr(sys, "orig_argv", [0])[1:-1][-3:],
    flags=str(sys.flags),
    executable=sys.executable,
    prefix=sys.prefix,
    main=[__main__.__name__, hasattr(__main__, "__file__"), str(__main__.__spec__)],
    namespace=sorted(n for n in globals() if not n.startswith(("_i", "_o"))),
    who=[n for n in ip.run_line_magic("who_ls", "") if n not in ("environment", "mask", "ip")],
    timezone=time.tzname,
    now=time.strftime("%H", time.localtime(0)),
    signals=[str(signal.getsignal(s)).split(" at ")[0] for s in (1, 2, 10, 13, 15, 17)],
    blocked=[int(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    umask=mask,
    stdin=os.read(0, 1) == b"",
    leads_session=os.getsid(0) == os.getpid() == os.getpgid(0),
    locale=[locale.setlocale(locale.LC_ALL), sys.getfilesystemencoding()],
    encodings=[sys.stdout.encoding, sys.stderr.encoding],
    filters=[str(f) for f in warnings.filters],
    loggers=[logging.getLogger().level, [type(h).__name__ for h in logging.getLogger().handlers]],
    main_thread=threading.current_thread() is threading.main_thread(),
    threads=sorted(re.sub(r"-\d+", "", t.name) for t in threading.enumerate()),
    loop=type(asyncio.get_running_loop()).__name__ if sys.version_info >= (3, 7) else "",
    tempdir=tempfile.gettempdir(),
    gc=[gc.isenabled(), gc.get_threshold()],
    switch=sys.getswitchinterval(),
    recursion=sys.getrecursionlimit(),
    profile=ip.profile,
    profile_dir=ip.profile_dir.location,
    app=type(ip.parent.parent).__name__,
    parent_poller=str(ip.parent.parent.poller),
    ports=sorted(ip.parent.parent._ports),
    connection_dir=os.path.basename(ip.parent.parent.connection_file).split(".")[-1],
    started_by_profile=globals().get("from_startup"),
    by_exec_lines=globals().get("from_exec_lines"),
    by_config=ip.ast_node_interactivity,
    by_extension=sorted(ip.extension_manager.loaded),
    excepthook=str(sys.excepthook).split(" at ")[0],
    displayhook=type(sys.displayhook).__name__,
    pager=os.environ.get("PAGER"),
    backend=os.environ.get("MPLBACKEND"),
    start_method=multiprocessing.get_start_method(),
    own=[n for n in sys.modules if "elastic" in n],
    faults=__import__("faulthandler").is_enabled(),
    history=ip.history_manager.enabled,
    session_name=globals().get("__session__"),
    soft_limits=[__import__("resource").getrlimit(i) for i in range(10)],
)
print("PROBE" + json.dumps(found, default=str))
"""
# What must differ: two processes, two connection files.
DIFFERS = {"orig_argv"}


class Plain:
    """``python -m ipykernel_launcher`` as Jupyter starts it."""

    def __init__(self, directory: Path, env: dict[str, str], cwd: Path) -> None:
        names = ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port")
        ports: dict[str, Any] = {name: free_port() for name in names}
        path, written = write_connection_file(str(directory / "plain.json"), key=b"plain", **ports)
        info: dict[str, Any] = {**written}
        self.process = subprocess.Popen(
            [PYTHON, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", path],
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        info["key"] = "plain"
        port = info["shell_port"]
        try:
            until(lambda: listens(port), "a plain kernel")
            self.client = Client(info)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def close(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def probe(client: Client) -> dict[str, Any]:
    output = client.run(PROBE)
    found: dict[str, Any] = json.loads(output.partition("PROBE")[2])
    return found


def configure(home: Path) -> None:
    """A user's IPython directory with everything in it that a kernel reads."""
    profile = home / ".ipython" / "profile_default"
    (profile / "startup").mkdir(parents=True)
    (profile / "startup" / "10-first.py").write_text("from_startup = __name__ + ' 1'")
    (profile / "startup" / "20-second.ipy").write_text("%env FROM_STARTUP=x")
    (profile / "ipython_config.py").write_text(
        "c.InteractiveShell.ast_node_interactivity = 'all'\n"
        "c.InteractiveShellApp.exec_lines = ['from_exec_lines = 7']\n"
    )
    (profile / "ipython_kernel_config.py").write_text(
        "c.InteractiveShellApp.extensions = ['autoreload']\n"
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    directory = tmp_path / "home"
    directory.mkdir()
    configure(directory)
    return directory


@pytest.fixture
def env(home: Path) -> dict[str, str]:
    keep = ("PATH", "LANG", "LC_ALL")
    return {
        **{name: os.environ[name] for name in keep if name in os.environ},
        "HOME": str(home),
        "TZ": "Asia/Tokyo",
    }


@pytest.fixture
def plain(tmp_path: Path, home: Path, env: dict[str, str]) -> Iterator[dict[str, Any]]:
    kernel = Plain(tmp_path, claim_env(env), home)
    try:
        yield probe(kernel.client)
    finally:
        kernel.close()


def claim_env(env: dict[str, str]) -> dict[str, str]:
    """What differs between warming and claim without need of a new process."""
    return {**env, "TZ": "America/New_York", "MY_OWN": "yes", "JPY_SESSION_NAME": "a/b.ipynb"}


@pytest.mark.parametrize("how", ["spare", "fork", "exec", "restart"])
def test_same_as_plain(
    how: str, make_pod: MakePod, home: Path, env: dict[str, str], plain: dict[str, Any]
) -> None:
    warm = dict(env)
    if how == "fork":
        warm["HOME"] = str(home.parent)
    if how == "exec":
        warm["PYTHON_NOT_AS_CLAIMED"] = "1"
    pod = make_pod(env=warm)
    # What a Jupyter server adds, and must never reach a kernel that is to outlive it.
    wanted = {**claim_env(env), "JPY_PARENT_PID": str(os.getpid())}
    reply = pod.start(env=wanted, cwd=str(home))
    if how == "restart":
        reply = pod.call("restart")
    else:
        assert reply["how"] == how
    with pod.client(reply["connection"]) as client:
        pooled = probe(client)
    for name in plain:
        if name not in DIFFERS:
            assert pooled[name] == plain[name], name
    assert plain["started_by_profile"] == "__main__ 1"
    assert plain["by_exec_lines"] == 7
    assert plain["by_config"] == "all"


def test_configuration_changed_while_warm_is_read(
    make_pod: MakePod, home: Path, env: dict[str, str]
) -> None:
    pod = make_pod(env=env)
    profile = home / ".ipython" / "profile_default"
    (profile / "ipython_config.py").write_text(
        "c.InteractiveShell.ast_node_interactivity = 'none'\n"
    )
    reply = pod.start(env=env)
    with pod.client(reply["connection"]) as client:
        assert client.run("print(get_ipython().ast_node_interactivity)") == "none"


def test_kernels_of_one_zygote_are_not_twins(make_pod: MakePod, env: dict[str, str]) -> None:
    pod = make_pod(env=env, preload=["random", "uuid", "tempfile", "multiprocessing", "numpy"])
    code = (
        "import random, tempfile, uuid, multiprocessing as m\n"
        "seen = [random.random(), uuid.uuid4().hex, tempfile.mktemp(),"
        " bytes(m.current_process().authkey).hex(),"
        " get_ipython().history_manager.session_number]\n"
        "try:\n    import numpy\n    seen.append(float(numpy.random.rand()))\n"
        "except ImportError: pass\n"
        "print(seen)"
    )
    reply = pod.start(env=env)
    with pod.client(reply["connection"]) as client:
        first = ast.literal_eval(client.run(code))
    pod.call("restart")
    with pod.client(reply["connection"]) as client:
        second = ast.literal_eval(client.run(code))
    assert len(first) == len(second) >= 5
    for one, other in zip(first, second, strict=True):
        assert one != other


def test_descriptors_do_not_leak(make_pod: MakePod, env: dict[str, str], tmp_path: Path) -> None:
    code = (
        "import os\n"
        "found = []\n"
        "for fd in sorted(map(int, os.listdir('/proc/self/fd'))):\n"
        "    try: found.append(os.readlink(f'/proc/self/fd/{fd}').split(':')[0])\n"
        "    except OSError: pass\n"
        "print(sorted(found))"
    )
    pod = make_pod(env=env)
    reply = pod.start(env=env)
    with pod.client(reply["connection"]) as client:
        pooled = ast.literal_eval(client.run(code))
    kernel = Plain(tmp_path, env, tmp_path)
    try:
        plain = ast.literal_eval(kernel.client.run(code))
    finally:
        kernel.close()
    assert pooled.count("anon_inode") == plain.count("anon_inode")
    # The agent itself listens to the kernel's iopub channel.
    assert pooled.count("socket") <= plain.count("socket") + 1
    # The pooled kernel's standard error is a pipe to the agent, kept also by ipykernel.
    assert pooled.count("pipe") <= plain.count("pipe") + 4
    assert not [one for one in pooled if one.endswith((".pyz", "config.json", "keys.json"))]


def test_input_completion_widgets_and_pools(make_pod: MakePod) -> None:
    pod = make_pod()
    reply = pod.start()
    with pod.client(reply["connection"]) as client:
        assert client.run("print('hi ' + input('who? '))", answer="you").endswith("hi you")
        client.run("import os\nsome_name = 1")
        client.kernel.complete("some_na")
        message = client.kernel.get_shell_msg(timeout=60)
        while message["msg_type"] != "complete_reply":
            message = client.kernel.get_shell_msg(timeout=60)
        assert "some_name" in message["content"]["matches"]
        client.run("from comm import create_comm\nc = create_comm(target_name='x')")
        for method in ("fork", "spawn", "forkserver"):
            code = (
                "import multiprocessing as m\n"
                f"with m.get_context('{method}').Pool(2) as pool:\n"
                "    print(pool.map(abs, [-1, -2]))"
            )
            assert client.run(code, timeout=60).endswith("[1, 2]")
        assert client.run("import subprocess\nsubprocess.run(['echo', 'x']).returncode").endswith(
            "0"
        )
        assert client.run("!echo from the shell") == "from the shell"
        assert "2" in client.run("import threading\nprint(2)")


def test_debugger_stops_at_a_breakpoint(make_pod: MakePod) -> None:
    pod = make_pod()
    reply = pod.start()
    with pod.client(reply["connection"]) as client:
        kernel = client.kernel
        sequence = iter(range(1, 100))

        def ask(command: str, **arguments: Any) -> dict[str, Any]:
            content = {
                "type": "request",
                "seq": next(sequence),
                "command": command,
                "arguments": arguments,
            }
            message = kernel.session.msg("debug_request", content)
            kernel.control_channel.send(message)
            answer = kernel.get_control_msg(timeout=60)
            while answer["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                answer = kernel.get_control_msg(timeout=60)
            body: dict[str, Any] = answer["content"]
            return body

        assert ask("initialize", clientID="t", adapterID="", pathFormat="path")["success"]
        assert ask("attach")["success"]
        code = "a = 1\nb = a + 1\nb"
        path = ask("dumpCell", code=code)["body"]["sourcePath"]
        points = ask(
            "setBreakpoints", breakpoints=[{"line": 2}], source={"path": path}, sourceModified=False
        )
        assert points["body"]["breakpoints"][0]["verified"]
        assert ask("configurationDone")["success"]
        request = kernel.execute(code)

        def stopped() -> dict[str, Any] | None:
            message = kernel.get_iopub_msg(timeout=60)
            content: dict[str, Any] = message["content"]
            return content if content.get("event") == "stopped" else None

        thread = until(stopped, "the breakpoint")["body"]["threadId"]
        frames = ask("stackTrace", threadId=thread)["body"]["stackFrames"]
        assert frames[0]["line"] == 2
        ask("continue", threadId=thread)
        answer = kernel.get_shell_msg(timeout=60)
        while answer["parent_header"].get("msg_id") != request:
            answer = kernel.get_shell_msg(timeout=60)
        assert answer["content"]["status"] == "ok"
        ask("disconnect", restart=False, terminateDebuggee=False)


def test_subshells_work_in_a_spare(make_pod: MakePod) -> None:
    pod = make_pod()
    reply = pod.start()
    with pod.client(reply["connection"]) as client:
        kernel = client.kernel
        message = kernel.session.msg("create_subshell_request", {})
        kernel.control_channel.send(message)
        if not kernel.control_channel.msg_ready():
            try:
                answer = kernel.get_control_msg(timeout=10)
            except Exception:  # noqa: BLE001 - queue.Empty: ipykernel 6 does not answer
                pytest.skip("this ipykernel has no subshells")
        assert answer["content"]["status"] == "ok"
        kernel.execute("import time; time.sleep(1000)")
        request = kernel.session.msg("execute_request", {"code": "6*7", "silent": False})
        request["header"]["subshell_id"] = answer["content"]["subshell_id"]
        kernel.shell_channel.send(request)
        found = kernel.get_shell_msg(timeout=60)
        while found["parent_header"].get("msg_id") != request["header"]["msg_id"]:
            found = kernel.get_shell_msg(timeout=60)
        assert found["content"]["status"] == "ok"
        # Another request's end does not make a busy kernel idle.
        assert pod.call("status")["execution_state"] == "busy"
