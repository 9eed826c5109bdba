"""The contract suite, unchanged, against a real Kubernetes and with a server's rights only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jupyter_elastic.cluster.base import Cluster
from jupyter_elastic.model import Pod, PodPhase

from ..contract.suite import ClusterContract, World, until
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

    def test_other_servers_learn_why_a_pod_was_deleted(self, world: World) -> None:
        async def story(cluster: Cluster) -> None:
            other = world.make(world.capacity)
            await other.open()
            told = []
            pod = await world.warm(cluster)
            await until(lambda: pod.name in other.pods())
            other.subscribe(lambda change: told.append(change.new))
            await cluster.delete_pod(pod.name, "its kernel moved")
            await until(lambda: pod.name not in other.pods())
            ended = [one for one in told if isinstance(one, Pod) and one.phase is PodPhase.GONE]
            assert ended
            assert ended[0].message == "The pod was deleted: its kernel moved."
            await other.close()

        world.run(story)
