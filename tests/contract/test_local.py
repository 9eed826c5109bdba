"""The contract suite against the local cluster, with control groups and without."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jupyter_elastic.agent import processes
from jupyter_elastic.cluster import base
from jupyter_elastic.cluster.local import LocalCluster, cgroups
from jupyter_elastic.cluster.local.state import StateDir
from jupyter_elastic.model import Template
from jupyter_elastic.resources import Resources

from .suite import ClusterContract, World


class LocalWorld(World):
    def __init__(self, path: Path, cgroup: str) -> None:
        self.path = path
        self.cgroup = cgroup

    def make(self, capacity: Resources) -> base.Cluster:
        return LocalCluster(state_dir=self.path, capacity=capacity, cgroup=self.cgroup)

    def template(self, name: str = "contract") -> Template:
        return Template(
            name=name, display_name=name, interpreter=sys.executable, resources=self.offer()
        )

    def processes(self, pod: str) -> list[int]:
        found = (processes.stat(pid) for pid in processes.marked(pod))
        return [one.pid for one in found if one is not None and one.state not in "ZX"]

    def agent_of(self, pod: str) -> int:
        record = StateDir(self.path).pod(pod)
        assert record is not None
        return record.process.pid

    def kill(self, pids: list[int]) -> None:
        processes.kill(pids)

    def memory_limit(self, pod: str) -> int | None:
        record = StateDir(self.path).pod(pod)
        if record is None or record.group is None:
            return None
        return cgroups.memory_limit(record.group)


class TestLocal(ClusterContract):
    @pytest.fixture
    def world(self, state_dir: Path) -> World:
        return LocalWorld(state_dir, "auto")


class TestLocalWithoutControlGroups(ClusterContract):
    @pytest.fixture
    def world(self, state_dir: Path) -> World:
        return LocalWorld(state_dir, "off")
