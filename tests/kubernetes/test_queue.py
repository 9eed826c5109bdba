"""Starts that a full ResourceQuota has no room for wait in turn, whichever server they came to."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from ..testcluster.world import Kube
from .desk import Desk
from .served import RESOURCES, Served, served, server_on

WORK = {"pool": 0, "resources": RESOURCES}
BOB = "c.ElasticKernels.owner = 'bob'\n"
QUOTA = {"requests.memory": "600Mi"}
"""Room for one: a pod of 256 MiB is born with 512 MiB, and keeps what it needs of that."""


@pytest.fixture(scope="module")
def ada(kube: Kube) -> Iterator[Served]:
    with served(kube, offers={"work": WORK}) as running:
        yield running


@pytest.fixture(scope="module")
def bob(ada: Served) -> Iterator[Served]:
    home = ada.home / "bob"
    home.mkdir()
    with server_on(ada.desk, BOB, home=home) as running:
        yield running


def waits(world: Served, kernel_id: str) -> str:
    """The sentence of a start that waits; empty when it does not."""
    kernel = world.elastic(kernel_id)
    return kernel["message"] if kernel["reason"] == "WaitingForRoom" else ""


def test_a_full_quota_is_given_out_in_turn(ada: Served, bob: Served) -> None:
    desk = ada.desk
    desk.kube.quota(desk.namespace, QUOTA)
    try:
        running = ada.start()
        first = ada.begin()
        ada.until(lambda: "1st of 1" in waits(ada, first), "Ada waits")
        assert ada.elastic(first)["phase"] == "Queued"
        assert "of 600 MiB taken" in waits(ada, first), "with the quota's figures"
        second = ada.begin()
        ada.until(lambda: "2nd of 2" in waits(ada, second), "she waits twice")
        # Kubernetes dates records in whole seconds; within one the ids decide between owners.
        asked = ada.elastic(first)["created"]
        ada.until(lambda: time.time() > asked + 1.5, "the next second")
        theirs = bob.begin()
        bob.until(lambda: "2nd of 3" in waits(bob, theirs), "Bob comes before her second")

        ada.delete(f"/elastic/api/kernels/{running}")
        ada.phase(first, "Running", 100)
        ada.until(lambda: waits(ada, second), "she waits on")
        bob.until(lambda: waits(bob, theirs), "he waits on")
        ada.delete(f"/elastic/api/kernels/{first}")
        bob.phase(theirs, "Running", 100)
        ada.until(lambda: waits(ada, second), "she waits on")
        assert bob.execute(theirs, "6 * 7") == "42"
        bob.delete(f"/elastic/api/kernels/{theirs}")
        ada.phase(second, "Running", 100)
        ada.delete(f"/elastic/api/kernels/{second}")
    finally:
        desk.remove("resourcequotas/quota")
        ada.stop_all()
        bob.stop_all()
    ada.assert_nothing_runs()


@pytest.mark.parametrize(("name", "kind", "words"), [
    ("pods", "pods", "pods"), ("count/secrets", "secrets", "number of secrets"),
])  # fmt: skip
def test_a_start_waits_for_the_number_of_pods_as_well(
    ada: Served, name: str, kind: str, words: str
) -> None:
    desk = ada.desk
    path = f"/api/v1/namespaces/{desk.namespace}/{kind}"

    def there() -> int:
        return len(desk.kube.admin.get(path)["items"])

    ada.until(lambda: there() == len(others(desk, kind)), "what earlier kernels had is gone")
    most = there() + 1
    desk.kube.quota(desk.namespace, {name: str(most)})
    try:
        running = ada.start()
        second = ada.begin()
        said = f"{words}: 1 asked, {most} of {most} taken."
        ada.until(lambda: said in waits(ada, second), "it waits, and is told for what")
        ada.until(
            lambda: (
                ada.get("/elastic/api/capacity")["pods"] == {"total": most, "used": most, "free": 0}
            ),
            "the capacity says so",
        )
        ada.delete(f"/elastic/api/kernels/{running}")
        ada.phase(second, "Running", 60)
        assert ada.execute(second, "6 * 7") == "42"
    finally:
        desk.remove("resourcequotas/quota")
        ada.stop_all()
    ada.assert_nothing_runs()


def others(desk: Desk, kind: str) -> list[str]:
    """What is in the namespace and belongs to no kernel."""
    items = desk.kube.admin.get(f"/api/v1/namespaces/{desk.namespace}/{kind}")["items"]
    ours = {"app.kubernetes.io/managed-by": "jupyter-elastic"}
    return [
        one["metadata"]["name"]
        for one in items
        if not ours.items() <= one["metadata"].get("labels", {}).items()
    ]
