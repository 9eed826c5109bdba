"""A Jupyter server whose kernels run on the Kubernetes of this run, as its users see it: REST."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from benchmarks.server import Server, start_server
from jupyter_elastic.agent import processes

from ..leftovers import kill_at_once
from ..server.world import Reply, World
from ..testcluster import cgroups
from ..testcluster.api import until
from ..testcluster.cluster import Cluster
from ..testcluster.world import Kube
from .desk import Desk, home_directory
from .world import install

RESOURCES: dict[str, Any] = {
    "cpu": {"minimum": "100m", "default": "250m", "maximum": "2000"},
    "memory": {"minimum": "64Mi", "default": "256Mi", "maximum": "64Gi"},
}
"""What templates offer that leave others room on the one node."""
ROLES = "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles"


def own(kube: Kube) -> Cluster:
    """The tree's own cluster, whose pods run this machine's Pythons; skips where it is another."""
    if kube.cluster is None:
        pytest.skip("needs the tree's own cluster, with its pods on this machine")
    return kube.cluster


class Served(World):
    """One server on a desk, and how to look behind it; see :func:`served`."""

    def __init__(self, desk: Desk, loop: asyncio.AbstractEventLoop, server: Server) -> None:
        super().__init__(desk.home, loop, server, "")
        self.desk = desk

    # -- kernels as their user sees them -----------------------------------------------------

    def start(self, template: str = "work", timeout: float = 100, **body: Any) -> str:
        """Start a kernel; its id once it runs."""
        kernel_id = self.begin(template, **body)
        self.phase(kernel_id, "Running", timeout)
        return kernel_id

    def begin(self, template: str = "work", **body: Any) -> str:
        """Ask for a kernel; its id at once."""
        answer = self.post("/elastic/api/kernels", {"template": template, **body})
        return str(answer["kernel_id"])

    def failed(self, template: str = "work", timeout: float = 100, **body: Any) -> Any:
        """The view of a kernel that does not start, with its steps under ``steps``.

        It has left no pod behind, and is removed.
        """
        kernel_id = self.begin(template, **body)
        view = self.phase(kernel_id, "Failed", timeout)
        view["steps"] = self.progress(kernel_id)["steps"]
        assert view["pod"] is None
        self.until(lambda: not self.pods_of(kernel_id), "its pod is deleted")
        self.delete(f"/elastic/api/kernels/{kernel_id}")
        return view

    def progress(self, kernel_id: str) -> Any:
        """The steps of a start, as they are now."""
        return self.get(f"/elastic/api/kernels/{kernel_id}/progress")

    def follow(self, kernel_id: str, timeout: float = 120) -> list[Any]:
        """All that the stream of a start's progress says until it ends."""
        pieces: list[bytes] = []

        async def work() -> None:
            await AsyncHTTPClient().fetch(
                HTTPRequest(
                    f"{self.server.url}/elastic/api/kernels/{kernel_id}/progress",
                    headers={**self.server.headers, "Accept": "text/event-stream"},
                    streaming_callback=pieces.append,
                    request_timeout=timeout,
                )
            )

        self.run(work(), timeout)
        lines = b"".join(pieces).decode().splitlines()
        return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]

    def resize(self, kernel_id: str, timeout: float = 120, **resources: Any) -> Any:
        """PATCH; the kernel afterwards."""
        body = {"resources": resources}
        request = self.server.request("PATCH", f"/elastic/api/kernels/{kernel_id}", body)
        return self.run(request, timeout)

    def problem(self, method: str, path: str, body: Any = None, timeout: float = 120) -> Any:
        """The problem that a request is answered with, complete, whatever its status."""
        reply = self.run(self.ask(method, path, body), timeout)
        assert reply.status >= 400, reply
        assert reply.kind == "application/problem+json", reply
        problem = reply.json
        assert problem["status"] == reply.status
        for part in ("type", "title", "detail", "reason", "remedy"):
            assert problem[part], (part, problem)
        return problem

    def find(self, path: str) -> Any:
        """The JSON found there; None when there is nothing."""
        reply = self.run(self.ask("GET", path))
        return reply.json if reply.status == 200 else None

    def meanwhile(self, method: str, path: str, body: Any = None) -> asyncio.Task[Reply]:
        """Send a request and go on; :meth:`answer` waits for it."""
        return self.loop.create_task(self.ask(method, path, body))

    def answer(self, request: asyncio.Task[Reply], timeout: float = 120) -> Reply:
        """What a request was answered with in the end."""

        async def wait() -> Reply:
            return await request

        return self.run(wait(), timeout)

    def refuses(self, kernel_id: str, **resources: Any) -> Any:
        """The problem that a resize is answered with; it is in the record as well."""
        path = f"/elastic/api/kernels/{kernel_id}"
        problem = self.problem("PATCH", path, {"resources": resources})
        resize = self.elastic(kernel_id)["resize"]
        assert (resize["state"], resize["reason"]) == ("Refused", problem["reason"])
        assert resize["message"] == problem["detail"]
        return problem

    @contextlib.contextmanager
    def offered(self, name: str, **spec: Any) -> Iterator[None]:
        """Offer a template meanwhile; see :func:`.desk.template_spec`."""
        self.desk.offer(name, **spec)
        try:
            path = f"/elastic/api/templates/{name}"
            self.until(lambda: self.find(path), f"template {name} is offered")
            yield
        finally:
            self.desk.withdraw(name)

    @contextlib.contextmanager
    def emptied(self, template: str) -> Iterator[None]:
        """Keep no warm pods of a template meanwhile."""

        def keep(size: int) -> None:
            self.desk.change(template, {"pool": {"size": size}})

        before = self.desk.spec(template)["pool"]["size"]
        keep(0)
        try:
            self.until(lambda: not self._warm(template), f"no warm pod of {template}")
            yield
        finally:
            keep(before)

    def _warm(self, template: str) -> int:
        rows = self.get("/elastic/api/pool")["templates"]
        [row] = [one for one in rows if one["template"] == template]
        return int(row["warm"] + row["warming"])

    # -- what is behind ----------------------------------------------------------------------

    def pods_of(self, kernel_id: str) -> list[Any]:
        """The pods of a kernel, without those that are being deleted."""
        return [
            pod
            for pod in self.desk.pods()
            if pod["metadata"]["labels"].get("elastic.jupyter.org/kernel") == kernel_id
            and not pod["metadata"].get("deletionTimestamp")
        ]

    def pod_of(self, kernel_id: str) -> Any:
        """The one pod of a kernel that runs."""
        return self.desk.pod(self.elastic(kernel_id)["pod"])

    def inside(self, kernel_id: str) -> list[int]:
        """Process ids, as the machine counts them, of what runs in a kernel's container."""
        pids = self.desk.kube.container_pids(self.pod_of(kernel_id)["metadata"]["uid"]) or []
        found = (processes.stat(pid) for pid in pids)
        return [one.pid for one in found if one is not None and one.state not in "ZX"]

    def kill_all(self, kernel_id: str) -> None:
        """SIGKILL to all that runs in a kernel's container, at one moment."""
        kill_at_once(lambda: self.inside(kernel_id))

    def agent_of(self, kernel_id: str) -> int:
        """The agent's process: the oldest child of the container's first."""
        pids = self.inside(kernel_id)
        found = [one for one in map(processes.stat, pids) if one is not None]
        [first] = [one for one in found if one.ppid not in pids]
        return min((one for one in found if one.ppid == first.pid), key=lambda one: one.start).pid

    @contextlib.contextmanager
    def without(self, resource: str, *verbs: str) -> Iterator[None]:
        """Take rights on a core resource from the server meanwhile."""
        role = self.desk.kubeconfig.stem.rpartition("-")[0]
        admin, path = self.desk.kube.admin, f"{ROLES.format(self.desk.namespace)}/{role}"
        before = admin.get(path)["rules"]
        after = []
        for rule in before:
            if resource not in rule["resources"] or "" not in rule["apiGroups"]:
                after.append(rule)
                continue
            others = [one for one in rule["resources"] if one != resource]
            left = [one for one in rule["verbs"] if one not in verbs]
            after += [{**rule, "resources": others}] if others else []
            after += [{**rule, "resources": [resource], "verbs": left}] if left else []

        def allow(rules: list[Any], allowed: bool) -> None:
            admin.patch(path, {"rules": rules})
            for verb in verbs:
                holds = partial(self._may, verb, resource, role)
                until(f"{verb} {resource}: {allowed}", lambda: holds() is allowed)  # noqa: B023

        allow(after, False)
        try:
            yield
        finally:
            allow(before, True)

    def _may(self, verb: str, resource: str, account: str) -> bool:
        """Whether the server's account may do this."""
        resource, _, sub = resource.partition("/")
        attributes = {
            "namespace": self.desk.namespace,
            "verb": verb,
            "resource": resource,
            "subresource": sub,
        }
        answer = self.desk.kube.admin.post(
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            {
                "spec": {
                    "user": f"system:serviceaccount:{self.desk.namespace}:{account}",
                    "resourceAttributes": attributes,
                }
            },
        )
        return bool(answer["status"]["allowed"])

    # -- between tests -----------------------------------------------------------------------

    def assert_nothing_runs(self) -> None:
        """No kernel is known or recorded, and no pod is anybody's; warm ones may be there."""
        assert self.get("/elastic/api/kernels")["kernels"] == []
        assert self.get("/api/kernels") == []
        assert self.get("/api/sessions") == []
        assert self.desk.kernels() == []

        def only_the_pools() -> bool:
            labels = [pod["metadata"]["labels"] for pod in self.desk.pods()]
            return not any("elastic.jupyter.org/kernel" in one for one in labels)

        self.until(only_the_pools, "no pod but those of the pool")

    def assert_nothing_is_left(self) -> None:
        """As :meth:`assert_nothing_runs`; nor is there a Secret or a control group of no pod."""
        self.assert_nothing_runs()
        secrets = f"/api/v1/namespaces/{self.desk.namespace}/secrets"
        admin, cluster = self.desk.kube.admin, self.desk.kube.cluster

        def orphans() -> set[str]:
            of = {one["metadata"]["name"] for one in admin.get(secrets)["items"]}
            return of - {pod["metadata"]["name"] for pod in self.desk.pods()}

        self.until(lambda: not orphans(), "no Secret without its pod")
        if cluster is None:
            return

        def groups() -> set[str]:
            of = cgroups.pods(cluster.addresses.name)
            return of - {pod["metadata"]["uid"] for pod in admin.get("/api/v1/pods")["items"]}

        self.until(lambda: not groups(), "no control group without its pod")

    def again(self, extra: str = "", signum: int = signal.SIGTERM, **settings: Any) -> None:
        """End the server and start another on the same directory and namespace."""
        config = self.desk.config(**settings) + extra

        async def work() -> Server:
            await self.server.stop(signum)
            return await start_server(self.home, config)

        self.server = self.run(work(), 240)


@contextlib.contextmanager
def served(
    kube: Kube,
    extra: str = "",
    *,
    offers: dict[str, dict[str, Any]] | None = None,
    enforce: str = "privileged",
    prepare: Callable[[Desk], None] = lambda desk: None,
    environment: dict[str, str] | None = None,
    **settings: Any,
) -> Iterator[Served]:
    """Start a server in a namespace of its own; in the end both are gone.

    Parameters
    ----------
    extra
        Python for its configuration.
    offers
        Specs of KernelTemplate objects by name; see :func:`.desk.template_spec`.
    enforce
        The namespace's Pod Security level.
    prepare
        Called with the desk before the server starts.
    environment
        Of the server, besides that of the tests.
    settings
        Traits of ``c.ElasticKubernetes``.
    """
    install(kube)
    with kube.namespace(enforce) as namespace, home_directory() as home:
        desk = Desk(kube, namespace, home)
        for name, more in (offers or {}).items():
            desk.offer(name, **more)
        prepare(desk)
        with server_on(desk, extra, environment=environment, **settings) as running:
            yield running


@contextlib.contextmanager
def server_on(
    desk: Desk,
    extra: str = "",
    *,
    home: Path | None = None,
    environment: dict[str, str] | None = None,
    **settings: Any,
) -> Iterator[Served]:
    """Start a server on a desk; its kernels run on after it."""
    loop = asyncio.new_event_loop()
    config = desk.config(**settings) + extra
    running: Served | None = None
    try:
        server = loop.run_until_complete(
            start_server(home or desk.home, config, **(environment or {}))
        )
        running = Served(desk, loop, server)
        yield running
    finally:
        if running is not None:
            loop.run_until_complete(running.server.stop())
        loop.close()
