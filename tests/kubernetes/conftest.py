"""A real Kubernetes for the tests in this folder; without one they are left out, or fail on CI.

Which one, in this order: the one that ``JUPYTER_ELASTIC_TEST_KUBECONFIG`` names, with pods of
``JUPYTER_ELASTIC_TEST_IMAGE``; the tree's own that runs already (``make cluster-up``); one that is
started for this run and ended with it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..testcluster import build
from ..testcluster import cluster as testcluster
from ..testcluster.world import Kube

KUBECONFIG = "JUPYTER_ELASTIC_TEST_KUBECONFIG"
IMAGE = "JUPYTER_ELASTIC_TEST_IMAGE"

no_programs = pytest.StashKey[str]()
"""Why the cluster's programs could not be built before the first test."""


def own_is_needed() -> bool:
    """Whether a cluster has to be started for this run."""
    return not os.environ.get(KUBECONFIG) and not testcluster.Cluster().runs()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a cluster, so that ``-m "not kubernetes"`` leaves it out."""
    for item in items:
        if "kube" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kubernetes)


def pytest_runtestloop(session: pytest.Session) -> None:
    """Build the cluster's programs before the first test: no test's timeout includes it."""
    wanted = any("kube" in getattr(item, "fixturenames", ()) for item in session.items)
    if session.config.option.collectonly or not wanted or not own_is_needed():
        return
    if testcluster.missing():
        return  # the fixture says it
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    assert reporter is not None
    try:
        build.build(reporter.write_line)
    except build.BuildFailed as error:
        session.config.stash[no_programs] = str(error)


def unavailable(reason: str) -> None:
    """No Kubernetes here: on CI that is a failure."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def kube(request: pytest.FixtureRequest) -> Iterator[Kube]:
    """The Kubernetes of this run."""
    if chosen := os.environ.get(KUBECONFIG):
        image = os.environ.get(IMAGE, "")
        if not image:
            unavailable(f"{KUBECONFIG} is set, and {IMAGE} must name an image with Python then.")
        yield from opened(Kube(Path(chosen), image, None))
        return
    cluster = testcluster.Cluster()
    if cluster.runs():
        yield from opened(Kube(cluster.kubeconfig, "", cluster))
        return
    if lacks := testcluster.missing():
        unavailable("no Kubernetes: " + " ".join(lacks))
    if reason := request.config.stash.get(no_programs, ""):
        unavailable(reason)
    folder = Path(tempfile.mkdtemp(prefix="je-cluster-"))
    cluster = testcluster.Cluster(folder / "state")
    try:
        cluster.up(tied=True)
        yield from opened(Kube(cluster.kubeconfig, "", cluster))
    finally:
        cluster.down()
        shutil.rmtree(folder, ignore_errors=True)  # the cluster may have removed it with itself


def opened(kube: Kube) -> Iterator[Kube]:
    """Give it, and close it at the end."""
    try:
        yield kube
    finally:
        kube.close()
