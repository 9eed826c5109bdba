"""``jupyter elastic controller`` and ``pool explain``: real processes on the local cluster."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.server import free_port
from jupyter_elastic.cli import main
from jupyter_elastic.cluster.local import LocalCluster
from jupyter_elastic.kernels.settings import ElasticLocal
from jupyter_elastic.model import PodPhase

CONFIG = """
c.ElasticLocal.state_dir = {state!r}
c.ElasticKernels.templates = {templates!r}
c.ElasticKernels.keep_pool = False
c.ElasticPool.metrics_owners = 3
"""
GOOD = {"name": "good", "display_name": "Good", "pool": {"size": 1}}
BAD = {"name": "bad", "display_name": "Bad", "interpreter": "/bin/false", "pool": {"size": 1}}


def until(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return found


class Controllers:
    """Controllers as processes of their own, on one state directory."""

    def __init__(self, directory: Path, state: Path) -> None:
        self.state = state
        self.config = directory / "config.py"
        self.config.write_text(CONFIG.format(state=str(state), templates=[GOOD, BAD]))
        self.running: list[tuple[subprocess.Popen[bytes], int]] = []

    def start(self) -> tuple[subprocess.Popen[bytes], int]:
        port = free_port()
        words = ["controller", "--config", str(self.config), "--port", str(port)]
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_elastic.cli", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.running.append((process, port))
        until(lambda: ask(port, "readyz")[0] == 200, "a controller that is ready")
        return process, port

    def change(self, work: Callable[[LocalCluster], Any]) -> Any:
        async def there() -> Any:
            cluster = LocalCluster(**ElasticLocal(state_dir=str(self.state)).options())
            await cluster.open()
            try:
                return await work(cluster)
            finally:
                await cluster.close()

        return asyncio.run(there())

    def empty(self) -> None:
        async def delete_all(cluster: LocalCluster) -> None:
            for name in list(cluster.pods()):
                await cluster.delete_pod(name)

        self.change(delete_all)

    def end(self) -> None:
        for process, _ in self.running:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.empty()


@pytest.fixture
def controllers(tmp_path: Path, state_dir: Path) -> Iterator[Controllers]:
    controllers = Controllers(tmp_path, state_dir)
    yield controllers
    controllers.end()


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def figure(port: int, name: str) -> float | None:
    lines = [line for line in ask(port, "metrics")[1].splitlines() if line.startswith(f"{name} ")]
    return float(lines[0].split()[-1]) if lines else None


LEADER = 'jupyter_elastic_pool_leader{lease="pool"}'
WARM = 'jupyter_elastic_pool_pods{phase="warm",template="good"}'


def test_controllers_take_over_from_each_other_and_tell_why(
    controllers: Controllers, capsys: pytest.CaptureFixture[str]
) -> None:
    first, one = controllers.start()
    until(lambda: figure(one, LEADER) == 1, "the first leads")
    until(lambda: figure(one, WARM) == 1, "a warm pod")
    assert figure(one, 'jupyter_elastic_pool_target_pods{template="good"}') == 1
    _, two = controllers.start()
    until(lambda: figure(two, LEADER) == 0, "the second stands by")
    assert figure(two, WARM) is None  # told by who keeps the pool, so that sums are right

    first.kill()
    first.wait()
    until(lambda: figure(two, LEADER) == 1, "the second takes over")
    controllers.empty()
    until(lambda: figure(two, WARM) == 1, "the pool filled again")

    def warm() -> set[str]:
        async def names(cluster: LocalCluster) -> set[str]:
            pods = cluster.pods().values()
            return {pod.name for pod in pods if pod.phase is PodPhase.WARM}

        found: set[str] = controllers.change(names)
        return found

    kept = warm()
    third, three = controllers.start()
    second = controllers.running[1][0]
    second.send_signal(signal.SIGTERM)
    assert second.wait(60) == 0
    until(lambda: figure(three, LEADER) == 1, "the third is handed over to")
    until(lambda: figure(three, WARM) == 1, "it tells of the warm pod")
    assert warm() == kept, "warm pods stay"
    assert ask(three, "healthz") == (200, "ok\n")

    def explained() -> Any:
        capsys.readouterr()
        assert main(["pool", "explain", "--json", "--config", str(controllers.config)]) == 0
        rows = json.loads(capsys.readouterr().out)["templates"]
        return (rows[1], rows[0]) if rows[0]["message"] and rows[0]["reported"] else None

    good, bad = until(explained, "a reason for the broken one")
    assert (good["template"], good["target"], good["warm"]) == ("good", 1, 1)
    assert good["reason"] == "A fixed number, as set or by default."
    assert not good["message"]
    assert bad["failures"] >= 1
    assert main(["pool", "explain", "bad", "--config", str(controllers.config)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("bad: 0 warm, 1 wanted\n")
    assert "In the way: " in said
    third.send_signal(signal.SIGINT)
    assert third.wait(60) == 0


def test_what_waiting_does_not_mend_ends_it(
    controllers: Controllers, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        words = ["controller", "--config", str(controllers.config), "--port", port]
        assert main(words) == 1
    assert "--port" in capsys.readouterr().err
    controllers.config.write_text("c.ElasticPool.create_rate = 0")
    assert main(["controller", "--config", str(controllers.config)]) == 1
    assert "create_rate" in capsys.readouterr().err


def test_explain_without_a_controller(
    controllers: Controllers, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pool", "explain", "--config", str(controllers.config)]) == 0
    assert "keeps the pool?" in capsys.readouterr().out
    assert main(["pool", "explain", "nonsense", "--config", str(controllers.config)]) == 1
    assert "nonsense" in capsys.readouterr().err
    assert os.listdir(controllers.state / "pods") == []
