"""A real Kubernetes for the tests in this folder; without one they are left out, or fail on CI.

:mod:`.choice` says which one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from ..testcluster import build
from ..testcluster import cluster as testcluster
from ..testcluster.world import Kube
from .choice import NoKubernetes, chosen, own_is_needed

no_programs = pytest.StashKey[str]()
"""Why the cluster's programs could not be built before the first test."""


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
    if reason := request.config.stash.get(no_programs, ""):
        unavailable(reason)
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(chosen())
        except NoKubernetes as error:
            unavailable(str(error))
        yield found
