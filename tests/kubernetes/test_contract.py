"""The contract suite, unchanged, against a real Kubernetes and with a server's rights only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..contract.suite import ClusterContract, World
from ..testcluster.world import Kube
from .world import KubernetesWorld, install


@pytest.fixture
def world(kube: Kube) -> Iterator[World]:
    if kube.cluster is None:
        pytest.skip("reads control groups and kills processes of the tree's own cluster")
    install(kube)
    with kube.namespace() as namespace:
        yield KubernetesWorld(kube, namespace)


class TestKubernetes(ClusterContract):
    @pytest.fixture
    def world(self, world: World) -> World:
        return world
