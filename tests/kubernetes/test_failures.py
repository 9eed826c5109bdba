"""Starts that fail, on a real kubelet: the user learns cause and remedy, and nothing is left.

Told over REST by a real Jupyter server with a user's rights.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ..testcluster.api import until
from ..testcluster.world import Kube
from .registry import registry
from .served import RESOURCES, Served, own, served, server_on

SLOW = "import sys, time; print('reading the corpus', file=sys.stderr, flush=True); time.sleep(600)"
"""A module to be preloaded that takes longer than anybody waits."""
WORK = {"pool": 0, "resources": RESOURCES}
HASTY = "c.ElasticKernels.start_timeout = 7\nc.ElasticKernels.owner = 'hasty'\n"
LATER = "c.ElasticKernels.start_timeout = 25\nc.ElasticKernels.owner = 'later'\n"


@pytest.fixture(scope="module")
def server(kube: Kube) -> Iterator[Served]:
    with served(kube, offers={"work": WORK}) as running:
        yield running


@pytest.fixture(scope="module")
def impatient(server: Served) -> Iterator[Served]:
    home = server.home / "hasty"
    home.mkdir()
    with server_on(server.desk, HASTY, home=home) as running:
        yield running


@pytest.fixture
def slow(server: Served) -> Iterator[Served]:
    """One that waits long enough for an agent's first words, and not for its last."""
    home = server.home / "slow"
    home.mkdir()
    with server_on(server.desk, LATER, home=home) as running:
        yield running
        running.stop_all()
        running.assert_nothing_runs()


@pytest.fixture
def world(server: Served) -> Iterator[Served]:
    """The module's server; whatever a test did, nothing is left once its kernels are ended."""
    yield server
    server.stop_all()
    server.assert_nothing_runs()


@pytest.fixture
def hasty(impatient: Served) -> Iterator[Served]:
    """A second server, which gives up soon."""
    yield impatient
    impatient.stop_all()
    impatient.assert_nothing_runs()


# -- steps ------------------------------------------------------------------------------------


def test_a_cold_start_streams_dated_steps(world: Served) -> None:
    kernel_id = world.begin()
    told = world.follow(kernel_id)
    assert told[-1]["done"]
    assert told[-1]["phase"] == "Running"
    steps = told[-1]["steps"]
    # On a busy machine something may be in the way for a moment, and is told then.
    names = [step["name"] for step in steps if step["name"] != "blocked"]
    assert names == [
        "queued",
        "created",
        "scheduled",
        "image-pulled",
        "started",
        "agent-up",
        "kernel-up",
    ]
    assert [step["time"] for step in steps] == sorted(step["time"] for step in steps)
    assert all(step["message"] for step in steps)
    now = datetime.now(timezone.utc).timestamp()
    assert all(now - 3600 < step["time"] <= now + 1 for step in steps), "dated today"
    # It is a stream: the first message came before the last step was there.
    assert not told[0]["done"]
    view = world.elastic(kernel_id)
    assert view["start"] == "cold"
    assert world.execute(kernel_id, "6 * 7") == "42"


# -- what the API server refuses ----------------------------------------------------------------


def test_a_full_quota_is_told_with_its_figures(world: Served) -> None:
    desk = world.desk
    desk.kube.quota(desk.namespace, {"requests.memory": "1Gi"})
    try:
        view = world.failed(resources={"memory": "2Gi"})
    finally:
        desk.remove("resourcequotas/quota")
    assert view["reason"] == "QuotaFull"
    assert "2.2 GiB asked" in view["message"], view["message"]
    assert "of 1 GiB taken" in view["message"]
    assert "agent's share" in view["message"], "why it is more than was asked for"
    assert "Stop a kernel" in view["message"]
    assert [step["name"] for step in view["steps"]][-1] == "failed"


def test_a_limit_range_is_told_with_its_figures(world: Served) -> None:
    desk = world.desk
    desk.kube.limit_range(desk.namespace, {"type": "Container", "max": {"memory": "1Gi"}})
    until("the range holds", lambda: not desk.admits(memory="2Gi"))
    try:
        view = world.failed(resources={"memory": "4Gi"})
    finally:
        desk.remove("limitranges/limits")
    assert view["reason"] == "LimitRangeRefused"
    for words in ("at most 1 GiB", "4.2 GiB", "agent's share", "administrator"):
        assert words in view["message"], view["message"]


def test_pod_security_is_told(world: Served) -> None:
    own(world.desk.kube)  # whose pods mount the machine's folders
    with world.desk.enforcing("restricted"):
        view = world.failed()
    assert view["reason"] == "PodSecurityRefused"
    assert '"restricted:latest"' in view["message"]
    assert "hostPath" in view["message"], "the cause"
    # And nothing else: our own part of the pod meets the level.
    for word in ("allowPrivilegeEscalation", "capabilities", "runAsNonRoot", "seccompProfile"):
        assert word not in view["message"]
    assert "administrator" in view["message"]


@pytest.mark.parametrize(
    ("resource", "verb"), [("pods", "create"), ("secrets", "create"), ("configmaps", "create")]
)
def test_a_missing_right_is_named(world: Served, resource: str, verb: str) -> None:
    if resource == "configmaps":
        world.again()  # this server has made its ConfigMap already
    with world.without(resource, verb):
        view = world.failed()
    assert view["reason"] == "Forbidden"
    assert f"may not {verb} {resource}" in view["message"]
    assert f"`{verb}` on `{resource}`" in view["message"], "what to ask an administrator for"
    assert world.desk.namespace in view["message"]


# -- what the node cannot do ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason", "words", "remedy"),
    [
        ("absent", "ImageNotFound", "The registry has no image", "Correct the template's image"),
        ("private", "ImageForbidden", "does not let this cluster pull", "pull secret"),
    ],
)
def test_an_image_that_cannot_be_pulled_fails_soon(
    world: Served, name: str, reason: str, words: str, remedy: str
) -> None:
    """Long before the start's time is over, which is two minutes here."""
    cluster = own(world.desk.kube)
    with registry(cluster.components()["containerd"]) as host:
        image = f"{host}/team/{name}:1.4"
        pod = world.desk.pod_options(imagePullPolicy="IfNotPresent")
        with world.offered("lost", **{**WORK, "image": image, "pod": pod}):
            view = world.failed("lost", timeout=90)
    assert view["reason"] == reason, view["message"]
    assert image in view["message"]
    assert words in view["message"]
    assert remedy in view["message"]
    names = [step["name"] for step in view["steps"]]
    assert "scheduled" in names
    assert names[-1] == "failed"


def test_an_image_that_nodes_may_not_pull_is_told(world: Served) -> None:
    own(world.desk.kube)
    pod = world.desk.pod_options(imagePullPolicy="Never")
    with world.offered("lost", **{**WORK, "image": "localhost/nowhere:1", "pod": pod}):
        view = world.failed("lost", timeout=90)
    assert view["reason"] == "ImageNotFound"
    assert "localhost/nowhere:1" in view["message"]
    assert "image_pull_policy" in view["message"], "the remedy"


def test_more_than_any_node_has_is_told_while_it_waits(hasty: Served) -> None:
    kernel_id = hasty.begin(resources={"cpu": 1000})

    def blocked() -> str:
        steps = hasty.progress(kernel_id)["steps"]
        return next((one["message"] for one in steps if one["name"] == "blocked"), "")

    assert "1000 CPU" in hasty.until(blocked, "the user sees what is in the way")
    view = hasty.phase(kernel_id, "Failed")
    assert view["reason"] == "Unschedulable"
    assert "1000 CPU" in view["message"]
    assert view["pod"] is None
    hasty.until(lambda: not hasty.pods_of(kernel_id), "its pod is deleted")


def test_a_node_selector_that_matches_nothing_is_told(hasty: Served) -> None:
    pod = hasty.desk.pod_options(nodeSelector={"disk": "of-glass"})
    with hasty.offered("choosy", **{**WORK, "pod": pod}):
        view = hasty.failed("choosy")
    assert view["reason"] == "Unschedulable"
    assert "node selector" in view["message"], view["message"]


def test_of_pods_that_no_node_takes_the_pool_has_one_waiting(world: Served) -> None:
    desk = world.desk
    pod = desk.pod_options(nodeSelector={"disk": "of-glass"})

    def there() -> int:
        labels = [one["metadata"]["labels"] for one in desk.pods()]
        return sum(one.get("elastic.jupyter.org/template") == "choosy" for one in labels)

    def row() -> Any:
        rows = world.get("/elastic/api/pool")["templates"]
        return next(one for one in rows if one["template"] == "choosy")

    with world.offered("choosy", **{**WORK, "pool": 6, "pod": pod}):
        world.until(lambda: "node selector" in row().get("message", ""), "it is told why")
        world.until(lambda: there() == 1, "one waits, the others are given back")
        assert (row()["target"], row()["warm"]) == (6, 0)


# -- what the image lacks --------------------------------------------------------------------------


def test_an_image_without_python_is_told(world: Served) -> None:
    with world.offered("bare", **WORK, interpreter="/nonexistent/python3"):
        view = world.failed("bare")
        # Through Jupyter's own API it is the same sentence, and nothing is kept.
        reply = world.run(world.ask("POST", "/api/kernels", {"name": "bare"}))
        assert reply.status == 422, reply
        for words in ("/nonexistent/python3", "pyzmq and ipykernel"):
            assert words in reply.json["message"]
        assert world.get("/elastic/api/kernels")["kernels"] == []
    assert view["reason"] == "BadInterpreter"
    assert "/nonexistent/python3" in view["message"]
    assert "pyzmq and ipykernel" in view["message"]


def test_a_python_without_pyzmq_is_told(world: Served) -> None:
    own(world.desk.kube)
    plain = Path(sys.base_prefix, "bin", "python3")
    with world.offered("plain", **WORK, interpreter=str(plain)):
        view = world.failed("plain")
    assert view["reason"] == "BadInterpreter"
    assert "pyzmq" in view["message"]
    assert "pip install" in view["message"]


def test_an_agent_that_is_late_is_quoted(slow: Served) -> None:
    slow.desk.config_map("slow", {"corpus.py": SLOW})
    pod = slow.desk.pod_options()
    pod["volumes"] = [*pod["volumes"], {"name": "code", "configMap": {"name": "slow"}}]
    pod["volumeMounts"] = [*pod["volumeMounts"], {"name": "code", "mountPath": "/code"}]
    env = {"HOME": "/tmp", "PYTHONPATH": "/code"}
    more = {"pod": pod, "env": env, "preload": ["corpus"]}
    with slow.offered("slow", **{**WORK, **more}):
        view = slow.failed("slow", resources={"cpu": 1})
    assert view["reason"] == "AgentTimeout"
    assert "reading the corpus" in view["message"], view["message"]
    assert "preload" in view["message"]


def test_the_agents_code_that_somebody_deleted_comes_back(world: Served) -> None:
    world.start()
    maps = f"/api/v1/namespaces/{world.desk.namespace}/configmaps"
    for one in world.desk.kube.admin.get(maps)["items"]:
        if one["metadata"]["name"].startswith("jupyter-elastic-agent-"):
            world.desk.kube.admin.delete(f"{maps}/{one['metadata']['name']}")
    kernel_id = world.start()
    assert world.execute(kernel_id, "6 * 7") == "42"


# -- the pool ----------------------------------------------------------------------------------


def test_a_pool_of_a_broken_image_backs_off_and_says_so(world: Served) -> None:
    seen: set[str] = set()

    def row() -> str:
        for pod in world.desk.pods():
            if pod["metadata"]["labels"].get("elastic.jupyter.org/template") == "burning":
                seen.add(pod["metadata"]["uid"])
        rows = world.get("/elastic/api/pool")["templates"]
        return next((one.get("message", "") for one in rows if one["template"] == "burning"), "")

    with world.offered("burning", **{**WORK, "pool": 2}, interpreter="/nonexistent/python3"):
        message = world.until(row, "the pool says why")
        assert "/nonexistent/python3" in message
        first = len(seen)
        for _ in range(10):
            world.run(asyncio.sleep(0.5))
            row()
        # Unbounded, it would be a pod a second.
        assert len(seen) - first <= 4
    world.until(lambda: not world.desk.pods(), "no pod of a template that is no more")


def test_a_kernel_gets_the_quota_that_warm_pods_hold(world: Served) -> None:
    desk = world.desk
    with world.offered("pooled", **{**WORK, "pool": 2}):
        world.warm("pooled", 2)
        warm = {pod["metadata"]["name"] for pod in desk.pods()}
        # Two warm pods ask for 128 MiB each; a pod born for a kernel for 256 MiB more than that.
        desk.kube.quota(desk.namespace, {"requests.memory": "856Mi"})
        try:
            kernel_id = world.start("work", resources={"memory": "500Mi"})
            assert world.execute(kernel_id, "1 + 1") == "2"
            left = {pod["metadata"]["name"] for pod in desk.pods()}
            assert not warm <= left, "warm pods were given back"
            assert len(world.pods_of(kernel_id)) == 1
        finally:
            desk.remove("resourcequotas/quota")
