"""The command line, on the real local cluster: what it prints, what it leaves, how it exits."""

from __future__ import annotations

import argparse
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

from jupyter_elastic.cli import main
from jupyter_elastic.cli.context import Context
from jupyter_elastic.errors import BadRequest
from jupyter_elastic.kernels import lone

CONFIG = """
c.ElasticLocal.state_dir = {state!r}
c.ElasticKernels.owner = "tester"
c.ElasticKernels.templates = {templates!r}
"""
SMALL = {
    "name": "small",
    "display_name": "Small",
    "resources": {
        "cpu": {"minimum": "100m", "default": 1, "maximum": 4},
        "memory": {"minimum": "64Mi", "default": "256Mi", "maximum": "2Gi"},
    },
}


class Cli:
    """Runs commands on one state directory and keeps what they print."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str], state: Path) -> None:
        self.config = directory / "elastic_config.py"
        self.capsys = capsys
        self.state = state
        self.err = ""
        self.configure(SMALL)

    def configure(self, *templates: Any) -> None:
        self.config.write_text(CONFIG.format(state=str(self.state), templates=list(templates)))

    def run(self, *words: str, status: int = 0) -> str:
        self.capsys.readouterr()
        try:
            got = main([*words, "--config", str(self.config)])
        except SystemExit as exit:
            got = int(str(exit.code))
        out, self.err = self.capsys.readouterr()
        assert got == status, out + self.err
        assert "Traceback" not in out + self.err
        return out

    def json(self, *words: str, status: int = 0) -> Any:
        return json.loads(self.run(*words, "--json", status=status))

    def kernels(self) -> list[dict[str, Any]]:
        kernels: list[dict[str, Any]] = self.json("kernels", "list")["kernels"]
        return kernels


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], state_dir: Path) -> Iterator[Cli]:
    cli = Cli(tmp_path, capsys, state_dir)
    yield cli
    cli.configure(SMALL)
    cli.run("kernels", "stop", "--all")


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def ask(connection_file: str, code: str) -> str:
    """What a kernel prints."""
    client = BlockingKernelClient()
    client.load_connection_file(connection_file)
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        printed: list[str] = []
        client.execute_interactive(
            code, timeout=60, output_hook=lambda m: printed.append(m["content"].get("text", ""))
        )
        return "".join(printed)
    finally:
        client.stop_channels()


# -- looking -------------------------------------------------------------------------------


def test_templates_and_what_is_wrong_with_others(cli: Cli) -> None:
    cli.configure(SMALL, {"name": "bad", "colour": "red"})
    out = cli.run("templates")
    assert "small" in out
    assert "64Mi..2Gi (256Mi)" in out
    assert "colour" in cli.err
    data = cli.json("templates")
    assert [template["name"] for template in data["templates"]] == ["small"]
    assert data["problems"][0]["field"] == "colour"


def test_a_pool_that_nobody_keeps(cli: Cli) -> None:
    assert "small" in cli.run("pool")
    assert cli.json("pool")["controller"] is False


def test_nothing_to_list(cli: Cli) -> None:
    assert cli.run("kernels").splitlines()[0].startswith("ID")
    assert cli.kernels() == []


def test_a_name_with_control_characters_is_refused_and_starts_nothing(cli: Cli) -> None:
    cli.run("kernels", "start", "small", "--name", "a\x1b[2J", status=1)
    assert "U+001B" in cli.err
    assert cli.kernels() == []


def test_what_others_wrote_cannot_command_the_terminal(
    cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    context = Context(argparse.Namespace(json=False))
    context.show_table(("NAME", "MESSAGE"), [("a\x1b[2Jb", "one\r\ntwo\x9b31m\0"), ("Ü 核", "-")])
    context.say("a\x07b")
    context.complain(BadRequest("broken\x1b[31m in line 1\nand 2", "Mend it."))
    out, err = capsys.readouterr()
    assert out.splitlines()[1] == r"a\x1b[2Jb  one\r\ntwo\x9b31m\x00"
    assert out.splitlines()[2].startswith("Ü 核")
    assert out.splitlines()[3] == r"a\x07b"
    assert err == "broken\\x1b[31m in line 1\nand 2\nMend it.\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["kernels", "resize", "abc"], "--memory"),
        (["kernels", "stop"], "--all"),
        (["kernels", "stop", "abc", "--all"], "--all"),
        (["kernels", "start"], "TEMPLATE"),
        (["kernels", "--all-owners", "stop", "--all"], "--all-owners"),
        (["kernels", "list", "--all-owners", "--owner", "bob"], "--owner"),
        (["kernels", "--all-owners", "--owner", "bob"], "--owner"),
        (["nonsense"], "nonsense"),
        (["pool", "--config", "/nowhere/x.py"], "/nowhere/x.py"),
        (["kernelspecs", "install", "--user", "--sys-prefix"], "not allowed"),
    ],
)
def test_wrong_usage_is_status_2(
    capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(words)
    assert exit.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "named"),
    [([], ["templates", "kernels", "doctor"]), (["kernelspecs"], ["install", "remove"])],
)
def test_alone_it_says_what_there_is(
    capsys: pytest.CaptureFixture[str], words: list[str], named: list[str]
) -> None:
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert all(f"\n    {name} " in out for name in named)
    assert err == ""


@pytest.mark.parametrize(
    "text",
    ["c.ElasticKernels.start_timeout = 'soon'", "c.ElasticLocal.memory = 'much'", "c.x = = 3",
     "undefined_name", "raise RuntimeError('boom')"],
)  # fmt: skip
def test_a_broken_configuration_is_explained(cli: Cli, text: str) -> None:
    cli.config.write_text(text)
    cli.run("pool", status=1)
    assert cli.err.strip()
    doctor = cli.json("doctor", status=1)
    assert "broken" in [check["state"] for check in doctor["checks"] if check["name"] == "cluster"]
    cli.configure(SMALL)


@pytest.mark.usefixtures("enabled")
def test_a_misspelt_setting_is_told(cli: Cli) -> None:
    with cli.config.open("a") as config:
        config.write("c.ElasticKernel.start_timeout = 5\nc.ElasticLocal.state_dri = 'x'\n")
        config.write("c.ElasticSearch.start_timeout = 5\n")
    cli.run("pool")
    section, option = cli.err.splitlines()
    assert "c.ElasticKernel " in section
    assert "c.ElasticKernels?" in section
    assert "c.ElasticLocal.state_dri " in option
    assert "state_dir?" in option
    checks = cli.json("doctor")["checks"]
    assert cli.err == ""
    told = [check for check in checks if check["name"] == "configuration"]
    assert [(check["state"], check["message"]) for check in told] == [
        ("note", section),
        ("note", option),
    ]


def test_what_nobody_expected_is_told_without_a_traceback(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("boom")

    with monkeypatch.context() as patch:
        patch.setattr("jupyter_elastic.cli.pool.pool_view", fail)
        cli.run("pool", status=1)
        assert "RuntimeError: boom" in cli.err
        assert "--debug" in cli.err


# -- kernels -------------------------------------------------------------------------------


def test_a_kernel_from_start_to_stop(cli: Cli) -> None:
    started = cli.json("kernels", "start", "small", "--cpu", "500m", "--name", "mine")
    assert "kernel-up" in cli.err
    kernel_id, file = started["kernel_id"], started["connection_file"]
    assert started["resources"] == {"cpu": "500m", "memory": "256Mi", "gpu": None}
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    assert ask(file, "import os; print(6 * 7, os.getcwd())").split() == ["42", os.getcwd()]

    [listed] = cli.kernels()
    assert (listed["kernel_id"], listed["name"], listed["phase"]) == (kernel_id, "mine", "Running")
    assert kernel_id[:8] in cli.run("kernels")
    assert kernel_id in cli.run("pool")

    again = ("kernels", "start", "small", "--kernel-id", kernel_id)
    assert cli.json(*again, status=1)["reason"] == "KernelExists"

    resized = cli.json("kernels", "resize", kernel_id[:6], "--memory", "512Mi")
    assert resized["actual"]["memory"] == "512Mi"
    assert resized["resources"]["cpu"] == "500m"
    refused = cli.json("kernels", "resize", kernel_id[:6], "--memory", "4Gi", status=1)
    assert refused["reason"] == "OutOfRange"
    assert "4 GiB is over the maximum of 2 GiB" in cli.err
    assert ask(file, "print(1)") == "1\n"

    assert kernel_id in cli.run("kernels", "stop", kernel_id[:8])
    assert cli.kernels() == []
    assert not os.path.exists(file)
    cli.run("kernels", "stop", kernel_id, status=1)
    assert "no kernel" in cli.err


def test_a_start_in_the_background(cli: Cli) -> None:
    kernel_id = cli.json("kernels", "start", "small", "--no-wait", "--memory", "128Mi")["kernel_id"]
    until(lambda: [kernel["phase"] for kernel in cli.kernels()] == ["Running"])
    [kernel] = cli.kernels()
    assert kernel["kernel_id"] == kernel_id
    assert kernel["resources"]["memory"] == "128Mi"
    cli.run("kernels", "stop", "--all")
    assert cli.kernels() == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nothing"], "UnknownTemplate"),
        (["small", "--cpu", "two"], "BadQuantity"),
        (["small", "--memory=-1Gi"], "BadQuantity"),
        (["small", "--memory", "1Ti"], "OutOfRange"),
        (["small", "--gpu", "a100"], "NoGpu"),
        (["small", "--gpu", "a100=many"], "BadRequest"),
        (["small", "--kernel-id", "mine"], "BadRequest"),
    ],
)
@pytest.mark.parametrize("wait", ["--wait", "--no-wait"])
def test_a_refused_start_leaves_nothing(cli: Cli, words: list[str], reason: str, wait: str) -> None:
    assert cli.json("kernels", "start", *words, wait, status=1)["reason"] == reason
    assert len(cli.err.strip().splitlines()) == 2, "a sentence and a remedy"
    assert cli.kernels() == []


def test_a_failed_start_leaves_nothing(cli: Cli) -> None:
    cli.configure(SMALL | {"interpreter": "/nowhere/bin/python"})
    problem = cli.json("kernels", "start", "small", status=1)
    assert problem["reason"] == "BadInterpreter"
    assert "/nowhere/bin/python" in problem["title"]
    assert cli.kernels() == []
    assert cli.json("pool")["pods"] == []


def test_an_ambiguous_beginning_is_refused(cli: Cli) -> None:
    ids = [f"abc0000{i}-0000-4000-8000-000000000000" for i in range(2)]
    for kernel_id in ids:
        cli.run("kernels", "start", "small", "--kernel-id", kernel_id)
    cli.run("kernels", "stop", "abc", status=1)
    assert ids[0] in cli.err
    assert ids[1] in cli.err
    assert len(cli.kernels()) == 2
    cli.run("kernels", "stop", "ABC00000", ids[1])
    assert cli.kernels() == []


def test_somebody_elses_kernels_are_not_there(cli: Cli) -> None:
    kernel_id = cli.json("kernels", "start", "small")["kernel_id"]
    ours = cli.config.read_text()
    cli.config.write_text(ours.replace("tester", "other"))
    assert cli.kernels() == []
    cli.run("kernels", "stop", kernel_id, status=1)
    cli.run("kernels", "stop", "--all")
    cli.config.write_text(ours)
    assert [kernel["kernel_id"] for kernel in cli.kernels()] == [kernel_id]


@pytest.mark.parametrize("wait", ["--wait", "--no-wait"])
@pytest.mark.parametrize("before", [True, False], ids=["before the verb", "after it"])
def test_a_kernel_of_another_owner(cli: Cli, wait: str, before: bool) -> None:
    whose = ("--owner", "bob")
    verb = (*whose, "start") if before else ("start", *whose)
    kernel_id = cli.json("kernels", *verb, "small", wait)["kernel_id"]
    assert cli.kernels() == []

    def bobs() -> list[dict[str, Any]]:
        kernels: list[dict[str, Any]] = cli.json("kernels", *whose)["kernels"]
        return kernels

    until(lambda: [kernel["phase"] for kernel in bobs()] == ["Running"])
    assert [(kernel["kernel_id"], kernel["owner"]) for kernel in bobs()] == [(kernel_id, "bob")]
    cli.run("kernels", "resize", kernel_id[:6], "--memory", "300Mi", status=1)
    cli.run("kernels", "resize", kernel_id[:6], "--memory", "300Mi", *whose)
    for words in (("--all-owners",), ("list", "--all-owners"), ("--all-owners", "list")):
        header, line = cli.run("kernels", *words).splitlines()
        assert "OWNER" in header
        assert "bob" in line
    cli.run("kernels", "stop", "--all")
    assert bobs(), "not mine"
    cli.run("kernels", *whose, "stop", "--all")
    assert bobs() == []


# -- doctor --------------------------------------------------------------------------------


def checks_of(cli: Cli, status: int) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in cli.json("doctor", status=status)["checks"]}


@pytest.fixture
def enabled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The server extension is enabled, however these tests are run."""
    directory = tmp_path / "config"
    directory.mkdir()
    extensions = {"ServerApp": {"jpserver_extensions": {"jupyter_elastic": True}}}
    (directory / "jupyter_server_config.json").write_text(json.dumps(extensions))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(directory))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")


@pytest.mark.usefixtures("enabled")
def test_a_healthy_machine(cli: Cli) -> None:
    found = checks_of(cli, 0)
    assert found["template small"]["state"] == "ok"
    assert "ipykernel" in found["template small"]["message"]
    assert found["limits"]["state"] in ("ok", "note")
    assert found["server extension"]["state"] == "ok"
    with cli.config.open("a") as config:
        config.write("c.ElasticLocal.cpu = '2100m'\n")
    out = cli.run("doctor")
    assert "capacity: 0 of 2.1 CPU" in out  # of fewer cores it is said that they are shared
    assert "✓ encryption" in out
    assert "Nothing is broken." in out


@pytest.mark.usefixtures("enabled")
def test_what_is_broken_is_named_with_a_remedy(cli: Cli, tmp_path: Path) -> None:
    bare = tmp_path / "bare" / "bin" / "python"
    bare.parent.mkdir(parents=True)
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    bare.chmod(0o755)
    mute = tmp_path / "mute"
    mute.write_text("#!/bin/sh\necho oh dear >&2\nexit 3\n")
    mute.chmod(0o755)
    cli.configure(
        SMALL,
        SMALL | {"name": "gone", "interpreter": "/nowhere/bin/python"},
        SMALL | {"name": "bare", "interpreter": str(bare)},
        SMALL | {"name": "mute", "interpreter": str(mute)},
        SMALL | {"name": "tool", "argv": ["no-such-tool", "{connection_file}"], "language": "x"},
        {"name": "Wrong"},
    )
    found = checks_of(cli, 1)
    assert found["template small"]["state"] == "ok"
    for name in ("gone", "bare", "mute", "tool"):
        assert found[f"template {name}"]["state"] == "broken"
        assert found[f"template {name}"]["remedy"]
    assert "/nowhere/bin/python" in found["template gone"]["message"]
    assert found["template bare"]["remedy"] == f"{bare} -m pip install pyzmq"
    assert "oh dear" in found["template mute"]["message"]
    assert "no-such-tool" in found["template tool"]["message"]
    assert "'Wrong'" in found["templates"]["message"]
    assert "✗ template gone" in cli.run("doctor", status=1)


@pytest.mark.usefixtures("enabled")
def test_what_a_template_preloads_is_tried(cli: Cli, tmp_path: Path) -> None:
    """In the pod's environment; one that fails does not keep the pod from serving."""
    (tmp_path / "loud.py").write_text("print('hello')")
    (tmp_path / "fatal.py").write_text("import os\nos.write(2, b'dear me')\nos._exit(7)")
    environment = {"PYTHONPATH": str(tmp_path)}
    cli.configure(
        SMALL,
        SMALL | {"name": "fine", "preload": ["json", "loud"], "env": environment},
        SMALL | {"name": "weaker", "preload": ["json", "loud", "os.nothing"]},
    )
    found = checks_of(cli, 0)
    assert "preload small" not in found
    assert found["preload fine"]["state"] == "ok"
    assert found["preload fine"]["message"] == "json, loud"
    assert found["preload weaker"]["state"] == "note"
    for module in ("loud", "os.nothing"):
        assert f"{module} (ModuleNotFoundError: " in found["preload weaker"]["message"]
    assert "json" not in found["preload weaker"]["message"]
    assert found["preload weaker"]["remedy"]

    cli.configure(SMALL | {"preload": ["fatal"], "env": environment})
    found = checks_of(cli, 1)
    assert found["template small"]["state"] == "ok"
    assert found["preload small"]["state"] == "broken"
    assert "dear me (exit status 7)" in found["preload small"]["message"]


@pytest.mark.usefixtures("enabled")
def test_an_interpreter_is_tried_in_its_pods_environment(cli: Cli, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ntest -n "$LICENCE" && exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    template = SMALL | {"interpreter": str(python)}
    cli.configure(template | {"env": {"LICENCE": "paid"}})
    assert checks_of(cli, 0)["template small"]["state"] == "ok"
    cli.configure(template)
    assert checks_of(cli, 1)["template small"]["state"] == "broken"


def test_a_server_extension_that_is_disabled(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    extensions = {"ServerApp": {"jpserver_extensions": {"jupyter_elastic": False}}}
    (tmp_path / "jupyter_server_config.json").write_text(json.dumps(extensions))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    check = checks_of(cli, 1)["server extension"]
    assert (check["state"], "disabled" in check["message"]) == ("broken", True)


# -- kernelspecs ---------------------------------------------------------------------------


@pytest.fixture
def lone_client(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process is a client without a server meanwhile.

    What such a client has open is open until its process ends; this one goes on to other tests,
    and the state directory goes.
    """
    monkeypatch.setattr(lone, "_thread", None)
    yield
    lone.lone_thread().end()


@pytest.mark.usefixtures("lone_client")
def test_a_client_without_a_server_runs_an_installed_kernelspec(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share" / "jupyter"))
    assert "Installed" in cli.run("kernelspecs", "install", "--prefix", str(tmp_path))
    [row] = cli.json("kernelspecs", "list")["kernelspecs"]
    assert (row["name"], row["note"]) == ("small", "")
    manager, client = start_new_kernel(startup_timeout=120, kernel_name="small")
    try:
        pods = cli.json("pool")["pods"]
        assert [pod["phase"] for pod in pods] == ["claimed"], "it is one of ours"
        printed: list[str] = []
        client.execute_interactive(
            "print(6 * 7)",
            timeout=60,
            output_hook=lambda m: printed.append(m["content"].get("text", "")),
        )
        assert "".join(printed) == "42\n"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert cli.json("pool")["pods"] == []
    assert "Removed" in cli.run("kernelspecs", "remove", "--prefix", str(tmp_path))
    assert cli.json("kernelspecs", "list")["kernelspecs"] == []


def test_only_what_we_wrote_is_touched(cli: Cli, tmp_path: Path) -> None:
    place = tmp_path / "share" / "jupyter" / "kernels"
    foreign = place / "small"
    foreign.mkdir(parents=True)
    (foreign / "kernel.json").write_text("{}")
    where = ("--prefix", str(tmp_path))
    cli.run("kernelspecs", "install", *where, status=1)
    assert "was not written by this command" in cli.err
    cli.run("kernelspecs", "remove", *where)
    cli.run("kernelspecs", "remove", "small", *where, status=1)
    assert (foreign / "kernel.json").read_text() == "{}"
    assert [path.name for path in place.iterdir()] == ["small"], "no scratch is left"


def test_installing_again_replaces_what_we_wrote(cli: Cli, tmp_path: Path) -> None:
    where = ("--prefix", str(tmp_path))
    cli.run("kernelspecs", "install", *where)
    cli.configure(SMALL | {"display_name": "Renamed"}, SMALL | {"name": "other"})
    installed = cli.json("kernelspecs", "install", "small", *where)["installed"]
    [directory] = installed
    assert json.loads(Path(directory, "kernel.json").read_text())["display_name"] == "Renamed"
    assert not (Path(directory).parent / "other").exists()
    cli.run("kernelspecs", "install", "nothing", *where, status=1)
    assert "small" in cli.err


def test_the_users_own_file_is_private(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    [directory] = cli.json("kernelspecs", "install")["installed"]
    assert stat.S_IMODE(Path(directory, "kernel.json").stat().st_mode) == 0o600


def test_as_a_program(cli: Cli) -> None:
    """With its own process: the entry module, and a reader that hangs up early."""
    command = [sys.executable, "-m", "jupyter_elastic.cli", "templates", "--config"]
    done = subprocess.run([*command, str(cli.config)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert "small" in done.stdout
    assert done.stderr == ""
