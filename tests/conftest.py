"""What all tests share: a private Jupyter, a short state directory, and the leftover check.

Fixtures of one area live in that area's own ``conftest.py``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from .leftovers import BESIDE, RUN_MARKER, Leftovers, owns_machine

pytest_plugins = ["pytest_jupyter.jupyter_server"]


@pytest.fixture(scope="session", autouse=True)
def private_jupyter() -> Iterator[None]:
    """Keep the developer's own configuration, kernels and history out of the tests."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="je-") as home:
        for name in ("CONFIG", "DATA", "RUNTIME"):
            patch.setenv(f"JUPYTER_{name}_DIR", str(Path(home) / name.lower()))
        patch.setenv("IPYTHONDIR", str(Path(home) / "ipython"))
        patch.setenv("JUPYTER_PLATFORM_DIRS", "1")
        patch.delenv("JUPYTER_PATH", raising=False)
        patch.delenv("JUPYTERHUB_USER", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_leftovers() -> Iterator[None]:
    """Fail the run when pods that it started outlive it.

    Ended by force after they are reported, so that one bad run does not slow down the next one.
    """
    run = uuid.uuid4().hex
    os.environ[RUN_MARKER] = run
    leftovers = Leftovers(run, strict=owns_machine() and not os.environ.get(BESIDE))
    yield
    if found := leftovers.remaining():
        leftovers.end()
        pytest.fail("left over by the tests:\n" + "\n".join(found), pytrace=False)


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """A state directory of its own, with a path short enough for sockets, and 0700."""
    path = Path(tempfile.mkdtemp(prefix="je-state-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
