"""Fixtures: real pods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .pod import Pod


@pytest.fixture
def make_pod(tmp_path: Path) -> Iterator[Callable[..., Pod]]:
    """Launches warm pods; ends them afterwards."""
    pods: list[Pod] = []

    def make(warm: bool = True, **config: Any) -> Pod:
        pod = Pod(tmp_path / f"pod{len(pods)}", **config)
        pods.append(pod)
        pod.launch()
        if warm:
            pod.wait_phase("warm")
            pod.call("hello", events=True)
        return pod

    yield make
    for pod in pods:
        pod.close()
