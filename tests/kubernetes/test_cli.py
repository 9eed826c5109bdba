"""``jupyter elastic kernels`` on a real Kubernetes, from outside of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_elastic.cli import main

from ..testcluster.world import Kube
from .desk import Desk, home_directory
from .world import install, rules


@pytest.fixture
def desk(kube: Kube) -> Iterator[Desk]:
    install(kube)
    with kube.namespace() as namespace, home_directory() as home:
        yield Desk(kube, namespace, home)


def test_no_connection_file_is_left_that_leads_nowhere(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that is forwarded by the command is gone when the command ends."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    forwarding = [*rules(), *rules("port-forward-role")]
    laptop = desk.kube.service_account(desk.namespace, forwarding, name="laptop")
    config = tmp_path / "config.py"
    config.write_text(desk.config(access="auto", kubeconfig=str(laptop)))
    desk.offer(pool=0)
    words = ("--json", "--config", str(config))
    assert main(["kernels", "start", "work", *words]) == 0
    started = json.loads(capsys.readouterr().out)
    assert started["phase"] == "Running"
    assert started["connection_file"] is None
    assert not list(tmp_path.glob("runtime/kernel-*.json"))
    assert main(["kernels", "stop", started["kernel_id"][:8], *words]) == 0
    assert desk.kernels() == []
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
