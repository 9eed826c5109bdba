"""Install what we ship where there is no Node.js and no source tree, and use it.

Proves that `pip install` is the only step: the server extension and the Lab part are enabled,
`jupyter elastic doctor` finds nothing broken, a server lists the templates, and a kernel of
theirs starts and is gone after it was deleted. First for the wheel, then for the sdist.

usage: check_wheel.py DIST_DIRECTORY
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

TOKEN = "check-wheel"
NEEDED = (
    "jupyter_elastic/agent/__main__.py",
    "jupyter_elastic/api/openapi.yaml",
    "jupyter_elastic/cluster/kubernetes/crds/kernels.yaml",
    "jupyter_elastic/cluster/kubernetes/rbac/server-role.yaml",
    "share/jupyter/labextensions/jupyter_elastic/package.json",
    "share/jupyter/labextensions/jupyter_elastic/install.json",
    "etc/jupyter/jupyter_server_config.d/jupyter_elastic.json",
)
UNWANTED = ("tests/", "node_modules/", "ui-tests/", "benchmarks/", ".js.map")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PATIENCE = 60.0
"""Seconds that a server or a kernel may take to appear."""

T = TypeVar("T")


class Failed(Exception):
    """The check did not hold; the message says which."""


def only(directory: Path, pattern: str) -> Path:
    """The one file that matches."""
    found = list(directory.glob(pattern))
    if len(found) != 1:
        raise Failed(f"{directory} has {len(found)} files {pattern}, expected one")
    return found[0]


def check_content(wheel: Path) -> None:
    """The wheel carries all that runs and nothing that only we need."""
    names = zipfile.ZipFile(wheel).namelist()
    missing = [want for want in NEEDED if not any(name.endswith(want) for name in names)]
    extra = [name for name in names if any(mark in name for mark in UNWANTED)]
    if missing or extra:
        raise Failed(f"{wheel.name}: missing {missing}, should not have {extra[:5]}")
    print(f"ok: {wheel.name}, {wheel.stat().st_size / 1024:.0f} KiB, {len(names)} files")


class Bare:
    """A machine's worth of environment: one virtual environment, its PATH, an empty home."""

    def __init__(self, root: Path) -> None:
        self.bin = root / "venv" / "bin"
        home = root / "home"
        home.mkdir()
        venv.create(root / "venv", with_pip=True)
        keep = ("LANG", "LC_ALL", "SSL_CERT_FILE", "TMPDIR")
        pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        self.environment = {
            **{name: os.environ[name] for name in keep if name in os.environ},
            **pip,
            "PATH": str(self.bin),
            "HOME": str(home),
            "JUPYTER_RUNTIME_DIR": str(root / "run"),
        }
        self.home = home
        if shutil.which("node", path=self.environment["PATH"]):
            raise Failed("there is a node on the bare PATH")

    def run(self, *command: str) -> str:
        """Run a program of the environment; its output, or Failed with it."""
        done = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
        return COLOUR.sub("", done.stdout)


def wait_for(what: str, look: Callable[[], T | None]) -> T:
    """Look until there is something, for at most PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        time.sleep(0.2)
    raise Failed(f"no {what} within {PATIENCE:.0f} s")


class Server:
    """The REST interface of a running server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send a request; the decoded answer, or Failed with the server's words."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {TOKEN}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            words = error.read().decode(errors="replace")
            raise Failed(f"{method} {path}: {error.code} {words}") from error
        return json.loads(text) if text else None


@contextlib.contextmanager
def running_server(bare: Bare) -> Iterator[Server]:
    """A JupyterLab of the environment. It keeps no pool, so that it leaves nothing behind."""
    runtime = Path(bare.environment["JUPYTER_RUNTIME_DIR"])
    log = bare.home / "server.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [
                str(bare.bin / "jupyter"),
                "lab",
                "--no-browser",
                "--port=0",
                f"--IdentityProvider.token={TOKEN}",
                "--ElasticKernels.keep_pool=False",
                *(["--allow-root"] if os.getuid() == 0 else []),
            ],
            env=bare.environment,
            cwd=bare.home,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )

    def address() -> str | None:
        if process.poll() is not None:
            raise Failed(f"the server ended with {process.returncode}")
        for path in runtime.glob(f"jpserver-{process.pid}.json"):
            with contextlib.suppress(json.JSONDecodeError):  # being written
                return str(json.loads(path.read_text())["url"])
        return None

    try:
        yield Server(wait_for("server", address))
    except Failed as failed:
        raise Failed(f"{failed}\n--- server log\n{log.read_text()[-6000:]}") from failed
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def check_enabled(bare: Bare) -> None:
    """Both halves are on with no step but pip."""
    servers = bare.run("jupyter", "server", "extension", "list")
    if not re.search(r"jupyter_elastic enabled\n.*\n\s+jupyter_elastic \S+ OK\n", servers):
        raise Failed(f"the server extension is not enabled:\n{servers}")
    lab = bare.run("jupyter", "labextension", "list")
    line = next((line for line in lab.splitlines() if "jupyter_elastic" in line), "")
    if "enabled" not in line or "OK" not in line:
        raise Failed(f"the Lab part is not enabled:\n{lab}")
    print("ok: server extension and Lab part are enabled, without Node.js")


def check_kernel(bare: Bare) -> None:
    """A kernel of a template starts, runs and is gone after it was deleted."""
    with running_server(bare) as server:

        def opened() -> Any | None:
            try:
                return server.call("GET", "elastic/api/templates")
            except Failed as failed:
                if ": 503 " in str(failed):  # it looks at its cluster first, and says so
                    return None
                raise

        templates = wait_for("templates", opened)
        names = [template["name"] for template in templates["templates"]]
        if "elastic-python3" not in names:
            raise Failed(f"no template elastic-python3, only {names}: {templates['problems']}")
        kernel = server.call("POST", "elastic/api/kernels", {"template": "elastic-python3"})
        path = f"elastic/api/kernels/{kernel['kernel_id']}"

        def running() -> Any | None:
            now = server.call("GET", path)
            if now["phase"] in ("Failed", "Stopped"):
                raise Failed(f"the kernel is {now['phase']}: {now['message']}")
            return now if now["phase"] == "Running" else None

        actual = wait_for("running kernel", running)["actual"]
        server.call("DELETE", path)
        if left := server.call("GET", "elastic/api/kernels")["kernels"]:
            raise Failed(f"still there after DELETE: {left}")
        print(f"ok: a kernel of elastic-python3 ran with {actual} and is gone")


def main() -> int:
    """Check the wheel and the sdist in a directory; 1 when something does not hold."""
    dist = Path(sys.argv[1]).resolve()
    try:
        wheel, sdist = only(dist, "*.whl"), only(dist, "*.tar.gz")
        check_content(wheel)
        with tempfile.TemporaryDirectory(prefix="je-wheel-") as root:
            bare = Bare(Path(root))
            bare.run("python", "-m", "pip", "install", "--quiet", f"{wheel}[lab]")
            check_enabled(bare)
            print(bare.run("jupyter", "elastic", "doctor"))
            check_kernel(bare)
            bare.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", "jupyter_elastic")
            bare.run("python", "-m", "pip", "install", "--quiet", "--no-deps", str(sdist))
            check_enabled(bare)
            print(f"ok: {sdist.name} installs the same")
    except Failed as failed:
        print(f"FAILED: {failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
