"""What all tests share: a private Jupyter, a short state directory, and the leftover check.

Fixtures of one area live in that area's own ``conftest.py``.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from .leftovers import RUN_MARKER, Leftovers, announced

REWRITTEN = (
    "agent.pod",
    "api.memory",
    "contract.suite",
    "kubernetes",
    "pool.model_cluster",
    "server",
    "testcluster",
)
"""Modules that are no tests and assert: their failures show values, too."""
pytest.register_assert_rewrite(*(f"tests.{name}" for name in REWRITTEN))

pytest_plugins = ["pytest_jupyter.jupyter_server"]

LEFTOVER_GRACE = 30.0
"""Seconds that pods deleted by the last test may still need to vanish."""


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
    with announced() as alone:
        own_machine = os.environ.get("CI") == "true"
        leftovers = Leftovers(run, strict=lambda: own_machine and alone())
        yield
        deadline = time.monotonic() + LEFTOVER_GRACE
        while (found := leftovers.find()) and time.monotonic() < deadline:
            time.sleep(0.2)
        if found:
            leftovers.end()
    if found:
        pytest.fail("left over by the tests:\n" + "\n".join(found), pytrace=False)


@pytest.fixture(autouse=True)
def same_log_level() -> Iterator[None]:
    """The command line sets it for its process, which here is that of all tests."""
    logger = logging.getLogger("jupyter_elastic")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """A state directory of its own, with a path short enough for sockets, and 0700."""
    path = Path(tempfile.mkdtemp(prefix="je-state-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
