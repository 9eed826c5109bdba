"""Processes without a server offer what a server with the same configuration would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from traitlets.config import Config

from jupyter_elastic.kernels.standalone import installed_specs


def test_kernelspecs_that_an_admin_does_not_allow_are_not_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        folder = tmp_path / "kernels" / name
        folder.mkdir(parents=True)
        spec = {"argv": ["true", "{connection_file}"], "display_name": name, "language": "none"}
        (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert installed_specs(Config()).keys() >= {"one", "two"}
    config = Config({"KernelSpecManager": {"allowed_kernelspecs": {"two"}}})
    assert list(installed_specs(config)) == ["two"]
