"""Which Kubernetes the tests of this folder and of ``ui-tests`` run on.

In this order: the one that ``JUPYTER_ELASTIC_TEST_KUBECONFIG`` names, with pods of
``JUPYTER_ELASTIC_TEST_IMAGE``; the tree's own that runs already (``make cluster-up``); one that is
started for this run and ended with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..testcluster import cluster as testcluster
from ..testcluster.world import Kube

KUBECONFIG = "JUPYTER_ELASTIC_TEST_KUBECONFIG"
IMAGE = "JUPYTER_ELASTIC_TEST_IMAGE"


class NoKubernetes(Exception):
    """There is none, and none can be started here; the sentence says why."""


def own_is_needed() -> bool:
    """Whether a cluster has to be started for this run."""
    return not os.environ.get(KUBECONFIG) and not testcluster.Cluster().runs()


@contextlib.contextmanager
def chosen() -> Iterator[Kube]:
    """Give the Kubernetes of this run.

    Raises
    ------
    NoKubernetes
        Nothing was started.
    BuildFailed, UpFailed
        One could be started, but that failed.
    """
    if given := os.environ.get(KUBECONFIG):
        image = os.environ.get(IMAGE, "")
        if not image:
            raise NoKubernetes(
                f"{KUBECONFIG} is set, and {IMAGE} must name an image with Python then."
            )
        with opened(Kube(Path(given), image, None)) as kube:
            yield kube
        return
    cluster = testcluster.Cluster()
    if cluster.runs():
        with opened(Kube(cluster.kubeconfig, "", cluster)) as kube:
            yield kube
        return
    if lacks := testcluster.missing():
        raise NoKubernetes("no Kubernetes: " + " ".join(lacks))
    folder = Path(tempfile.mkdtemp(prefix="je-cluster-"))
    cluster = testcluster.Cluster(folder / "state")
    try:
        cluster.up(tied=True)
        with opened(Kube(cluster.kubeconfig, "", cluster)) as kube:
            yield kube
    finally:
        cluster.down()
        shutil.rmtree(folder, ignore_errors=True)  # the cluster may have removed it with itself


@contextlib.contextmanager
def opened(kube: Kube) -> Iterator[Kube]:
    """Give it, and close it at the end."""
    try:
        yield kube
    finally:
        kube.close()
