"""A home for real servers: directories that outlive one server, and nothing left in the end."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_elastic.cluster.local import LocalCluster
from jupyter_elastic.kernels.settings import ElasticLocal


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory for :func:`benchmarks.server.start_server`; its pods end with the test."""
    path = Path(tempfile.mkdtemp(prefix="je-home-"))
    try:
        yield path
    finally:
        asyncio.run(end_all(path / "state"))
        shutil.rmtree(path, ignore_errors=True)


async def end_all(state_dir: Path) -> None:
    """End every pod and kernel recorded in a state directory."""
    if not state_dir.is_dir():
        return
    cluster = LocalCluster(**ElasticLocal(state_dir=str(state_dir)).options())
    await cluster.open()
    try:
        for kernel_id in list(cluster.kernels()):
            await cluster.delete_kernel(kernel_id)
        for name in list(cluster.pods()):
            await cluster.delete_pod(name)
    finally:
        await cluster.close()
