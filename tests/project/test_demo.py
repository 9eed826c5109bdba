"""The demo notebook runs on an elastic kernel by clients that have no server.

With a server and a browser it is run by ui-tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

DEMO = Path(__file__).parents[2] / "demo" / "demo.ipynb"
POD_CELL = "import os; print(os.environ['JUPYTER_ELASTIC_POD'])"
CLIENTS = {
    "nbclient": ["-m", "jupyter", "execute", "--output=out.ipynb", "demo.ipynb"],
    "papermill": ["-m", "papermill", "--no-progress-bar", "demo.ipynb", "out.ipynb"],
}


def run(arguments: list[str], environment: dict[str, str], cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("client", CLIENTS)
def test_the_demo_runs_on_an_elastic_kernel(client: str, tmp_path: Path, state_dir: Path) -> None:
    environment = {
        **os.environ,
        "JUPYTER_PATH": str(tmp_path / "share" / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(state_dir),
    }
    install = ["kernelspecs", "install", "elastic-python3", f"--prefix={tmp_path}"]
    run(["-m", "jupyter_elastic.cli", *install], environment, tmp_path)
    notebook = nbformat.read(DEMO, as_version=4)
    assert notebook.metadata.kernelspec.name == "elastic-python3"
    notebook.cells.append(nbformat.v4.new_code_cell(POD_CELL, id="pod"))
    nbformat.write(notebook, tmp_path / "demo.ipynb")

    run(CLIENTS[client], environment, tmp_path)

    assert (tmp_path / "readings.csv").stat().st_size >= 50_000_000
    done = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    outputs: dict[str, Any] = {
        cell.id: cell.outputs for cell in done.cells if cell.cell_type == "code"
    }
    assert outputs["pod"][0].text.startswith("elastic-python3-")
    assert any("image/png" in output.get("data", {}) for output in outputs["plot"])
    widget = "application/vnd.jupyter.widget-view+json"
    assert any(widget in output.get("data", {}) for output in outputs["widget"])
    assert "still here: 3,200,000 readings" in "".join(output.text for output in outputs["limit"])
