"""A local cluster in a directory of its own, and the side door of the contract suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..contract.test_local import LocalWorld


@pytest.fixture
def world(state_dir: Path) -> LocalWorld:
    return LocalWorld(state_dir, "auto")
