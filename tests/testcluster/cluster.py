"""The cluster as a whole: up, down, and where everything is."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from . import build, certificates, cgroups, components, image, needs, network, nodes
from .addresses import Addresses
from .api import Api, ApiFailure, TimedOut, until
from .certificates import NODE
from .keeper import Process, children, clean, mounts_below

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / "build" / "testcluster"
LONGEST = 70
"""Of the state directory's path: the kubelet makes sockets in it, whose paths are short."""

Say = build.Say


class Ended(Exception):
    """The cluster's first process ended by itself."""


class UpFailed(Exception):
    """The cluster could not be started; the text says why."""


def missing() -> list[str]:
    """One sentence for each thing that a cluster lacks here; empty when one can be had."""
    lacks = needs.missing_for_up()
    return lacks if build.found() is not None else lacks + needs.missing_for_build()


class Cluster:
    """A cluster in a state directory, whether it runs or not."""

    def __init__(self, state: Path = STATE) -> None:
        self.state = state.resolve()
        self.kubeconfig = self.state / "admin.conf"
        self._keeper: subprocess.Popen[bytes] | None = None

    # -- what is there ---------------------------------------------------------------------------

    def _process(self, name: str) -> Process | None:
        """The keeper or the supervisor, if it runs."""
        try:
            recorded = json.loads((self.state / "processes.json").read_text())[name]
        except (OSError, ValueError):
            return None
        process = None if recorded is None else Process(*recorded)
        return process if process is not None and process.runs() else None

    def runs(self) -> bool:
        """Whether it was started to the end, and has not ended since."""
        return (self.state / "up").exists() and self._process("inner") is not None

    @property
    def addresses(self) -> Addresses:
        """Its addresses; it must have been started."""
        return Addresses(int((self.state / "slot").read_text()))

    @property
    def admin(self) -> Api:
        """The API, as one who may do everything."""
        return Api(self.kubeconfig)

    def components(self) -> dict[str, int]:
        """Process id, on the machine, of each component that runs; killed, it is started again."""
        inner = self._process("inner")
        plan = json.loads((self.state / "run.json").read_text())
        commands = {" ".join(one["command"]): str(one["name"]) for one in plan}
        found = {}
        for pid in children(inner.pid) if inner is not None else []:
            with contextlib.suppress(OSError):
                raw = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0")
                if name := commands.get(raw.replace(b"\0", b" ").decode()):
                    found[name] = pid
        return found

    def restart(self, name: str) -> None:
        """Kill a component, and wait until the supervisor has started it again."""
        with self.without(name):
            pass

    @contextlib.contextmanager
    def without(self, name: str) -> Iterator[None]:
        """Have a component dead meanwhile: killed, and started again only at the end.

        The node may be deleted while its kubelet is dead: it is there again afterwards.
        """
        inner, dead = self._process("inner"), Process.of(self.components()[name])
        assert inner is not None
        assert dead is not None
        inner.kill(signal.SIGSTOP)  # the supervisor would start it again
        try:
            dead.kill(signal.SIGKILL)
            assert dead.wait(10), f"{name} cannot be killed"
            yield
        finally:
            since = datetime.now(timezone.utc).replace(microsecond=0)
            inner.kill(signal.SIGCONT)
            until(f"{name} again", lambda: self.components().get(name, dead.pid) != dead.pid)
            if name == "apiserver":
                until("the API server", lambda: self.admin.text("/readyz"))
            if name == "kubelet":  # a new one forgets what it has no driver for
                until("the node", lambda: nodes.is_ready(self.admin, NODE, since))
                nodes.give_gpus(self.admin)

    def container(self, pod_uid: str, container: str = "kernel") -> dict[str, Path] | None:
        """Control groups of a container of the real node, by controller; None when it has none."""
        pods = self.admin.get("/api/v1/pods", fieldSelector=f"spec.nodeName={NODE}")["items"]
        for pod in pods:
            if pod["metadata"]["uid"] == pod_uid:
                for status in pod["status"].get("containerStatuses", []):
                    if status["name"] == container and (known := status.get("containerID")):
                        return cgroups.of_container(self.addresses.name, pod_uid, known)
        return None

    def log_tails(self, lines: int = 8) -> str:
        """The end of each log, for a report of what went wrong."""
        tails = []
        for path in sorted((self.state / "log").glob("*.log")):
            text = path.read_text(errors="replace").splitlines()[-lines:]
            tails.append("\n".join([f"-- {path.name}", *text]))
        return "\n".join(tails)

    # -- up --------------------------------------------------------------------------------------

    def up(self, say: Say = print, *, tied: bool = False) -> None:
        """Start it; what runs already is left as it is.

        Parameters
        ----------
        tied
            It ends with the calling process, however that ends.

        Raises
        ------
        UpFailed
        BuildFailed
        """
        with self._alone():
            if self.runs():
                say(f"runs already: {self.kubeconfig}")
                return
            if lacks := missing():
                raise UpFailed(" ".join(lacks))
            if len(str(self.state)) > LONGEST:
                raise UpFailed(f"{self.state} is too long a path for the kubelet's sockets")
            if self.state.is_relative_to("/run"):
                raise UpFailed(f"{self.state} cannot be used: the cluster has a /run of its own")
            binaries = build.build(say)
            self._down()
            try:
                self._start(binaries, tied)
                self._await_ready(say)
            except (OSError, TimedOut, Ended, ApiFailure, network.NoSlot) as error:
                tails = self.log_tails()
                self._down()
                raise UpFailed(f"{error}\n{tails}") from error
            except BaseException:
                self._down()
                raise

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One ``up`` or ``down`` at a time, by a lock on the folder of the state directory."""
        self.state.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.state.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _start(self, binaries: Path, tied: bool) -> None:
        (self.state / "log").mkdir(parents=True)
        environment = {"PATH": needs.search_path(), "HOME": str(self.state), "LANG": "C.UTF-8"}
        with (self.state / "log" / "keeper.log").open("wb") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, "-m", "tests.testcluster.keeper", str(self.state)]
                + (["--tied"] if tied else []),
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE if tied else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._until("the namespaces", (self.state / "isolated").exists)
        inner = self._process("inner")
        if inner is None:
            raise OSError("the supervisor ended at once")
        addresses = network.connect(inner.pid)
        (self.state / "slot").write_text(str(addresses.slot))
        cgroups.make(addresses.name)
        certificates.make(self.state / "pki", addresses)
        for user in ("admin", "kubelet"):
            certificates.kubeconfig(
                self.state / f"{user}.conf", self.state / "pki", user, addresses
            )
        components.write_configuration(self.state, addresses)
        plan = components.specification(binaries, self.state, addresses)
        part = self.state / "run.json.part"
        part.write_text(json.dumps(plan, indent=1))
        part.rename(self.state / "run.json")

    def _await_ready(self, say: Say) -> None:
        self._load_image()
        admin = self.admin
        self._until("the API server", lambda: admin.text("/readyz"))
        self._until("the node", lambda: nodes.is_ready(admin, NODE))
        nodes.prepare(admin)
        self._until("the pretending node", lambda: nodes.is_ready(admin, nodes.FAKE_GPU))
        (self.state / "up").touch()
        say(f"up: KUBECONFIG={self.kubeconfig}")

    def _load_image(self) -> None:
        """Into containerd, by its socket in the cluster's own ``/run``."""
        inner, busybox = self._process("inner"), needs.busybox()
        nsenter, ctr = needs.which("nsenter"), needs.which("ctr")
        if inner is None or busybox is None or nsenter is None or ctr is None:
            raise OSError("the supervisor ended")
        image.write(self.state / "image.tar", busybox)
        enter = [nsenter, "--target", str(inner.pid), "--mount", ctr, "--namespace", "k8s.io"]

        def load() -> bool:
            done = subprocess.run(
                [*enter, "images", "import", str(self.state / "image.tar")],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise OSError(done.stderr.strip())
            return True

        self._until("containerd", load)

    def _until(self, what: str, condition: Callable[[], Any]) -> None:
        """Wait for a step of ``up``, as long as there is hope."""

        def step() -> Any:
            if self._keeper is None or self._keeper.poll() is not None:
                raise Ended(f"the cluster ended before {what} was there")
            return condition()

        until(what, step)

    # -- down ------------------------------------------------------------------------------------

    def down(self) -> None:
        """End everything and remove the state directory.

        Raises
        ------
        OSError
            Something could not be removed; it is named.
        """
        with self._alone():
            self._down()

    def _down(self) -> None:
        for name, number in (("keeper", signal.SIGTERM), ("inner", signal.SIGKILL)):
            if (process := self._process(name)) is not None:
                process.kill(number)
                if not process.wait(60):
                    process.kill(signal.SIGKILL)
                    process.wait(10)
        if self._keeper is not None:
            if self._keeper.stdin is not None:
                self._keeper.stdin.close()
            self._keeper.wait(30)
            self._keeper = None
        left = clean(self.state) + [f"mount {place}" for place in mounts_below(self.state)]
        if left:
            raise OSError("left behind: " + ", ".join(left))
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.state)

    def status(self) -> dict[str, Any]:
        """What ``status`` prints."""
        if not self.runs():
            return {"state": str(self.state), "running": False}
        listed = self.admin.get("/api/v1/nodes")["items"]
        return {
            "state": str(self.state),
            "running": True,
            "version": self.admin.get("/version")["gitVersion"],
            "kubeconfig": str(self.kubeconfig),
            "image": image.NAME,
            "server": self.addresses.server,
            "components": self.components(),
            "nodes": {one["metadata"]["name"]: nodes.ready(one) for one in listed},
        }
