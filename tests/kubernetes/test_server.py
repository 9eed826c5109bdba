"""A real Jupyter server whose kernels run on a real Kubernetes, with a user's rights only."""

from __future__ import annotations

import ast
import asyncio
import base64
import io
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tornado.httpclient import HTTPClientError

import jupyter_elastic
from jupyter_elastic.cluster.kubernetes.shipped import disruption_budget
from jupyter_elastic.resources import parse_cpu, parse_memory

from ..server.tools import eventually, kernel, start, warm
from ..server.upgrade import NEWER, begin, go_on, older
from ..testcluster.api import ApiFailure
from ..testcluster.world import Kube
from .desk import KERNELS, Desk, home_directory
from .world import install


@pytest.fixture
def desk(kube: Kube) -> Iterator[Desk]:
    install(kube)
    with kube.namespace() as namespace, home_directory() as home:
        yield Desk(kube, namespace, home)


def test_a_warm_start_a_resize_and_a_stop(desk: Desk) -> None:
    async def scenario() -> None:
        desk.offer()
        async with desk.server() as server:
            await warm(server)
            kernel_id = await start(server)
            view = await kernel(server, kernel_id)
            assert view["start"] == "warm"
            channel = await server.connect(kernel_id)
            assert await channel.execute("x = 6 * 7; x") == "42"
            await server.request(
                "PATCH", f"/elastic/api/kernels/{kernel_id}", {"resources": {"memory": "300Mi"}}
            )
            view = await kernel(server, kernel_id)
            assert view["actual"]["memory"] == "300Mi"
            assert await channel.execute("x") == "42"
            await server.request("DELETE", f"/api/kernels/{kernel_id}")
            assert desk.kernels() == []

    asyncio.run(scenario())


def packed() -> str:
    """The package as a zip archive in base64, for a pod whose image does not have it."""
    root = Path(jupyter_elastic.__file__).parent
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in root.rglob("*.py"):
            archive.write(path, path.relative_to(root.parent))
    return base64.b64encode(out.getvalue()).decode()


def test_a_pods_status_from_inside(desk: Desk) -> None:
    """``%elastic status`` where the package is in the image, and nothing else is needed."""

    async def scenario() -> None:
        desk.offer()
        async with desk.server() as server:
            kernel_id = await start(server)
            view = await kernel(server, kernel_id)
            channel = await server.connect(kernel_id)
            await channel.execute(
                f"import base64, sys\nraw = base64.b64decode('{packed()}')\n"
                "open('/tmp/je.zip', 'wb').write(raw)\nsys.path.append('/tmp/je.zip')\n"
                "%load_ext jupyter_elastic\n1"
            )

            async def told() -> dict[str, Any]:
                answer = await channel.execute("%elastic status --json")
                found: dict[str, Any] = ast.literal_eval(answer)
                return found

            async def settled() -> bool:
                now = await told()
                return bool(
                    now["memory"]["limit"] == parse_memory(view["resources"]["memory"])
                    and now["cpu"]["limit"] == parse_cpu(view["resources"]["cpu"]) / 1000
                )

            await eventually(settled, "the limits that were asked for")
            status = await told()
            assert (status["template"], status["pod"]) == ("work", view["pod"])
            assert 0 < status["memory"]["now"] < status["memory"]["limit"]
            assert status["limits_by"].startswith("cgroup-v")

    asyncio.run(scenario())


def test_a_home_on_a_fresh_volume(desk: Desk) -> None:
    """docs/kubernetes.md has such a template; its first kernel comes before anybody's files."""

    async def scenario() -> None:
        kube = desk.kube
        volumes = [*kube.volumes, {"name": "team", "emptyDir": {}}]
        mounts = [*kube.mounts, {"name": "team", "mountPath": "/srv/team"}]
        pod = desk.pod_options(
            volumes=volumes, volumeMounts=mounts, fsGroup=1000, rootDir={"mountPath": "/srv/team"}
        )
        desk.offer("team", env={"HOME": "/srv/team/home"}, pod=pod)
        async with desk.server() as server:
            made = await server.request("POST", "/api/kernels", {"name": "team"})
            channel = await server.connect(made["id"])
            assert await channel.execute("import os; os.getcwd()") == "'/srv/team'"
            assert await channel.execute("os.path.expanduser('~')") == "'/srv/team/home'"
            written = "open(os.path.expanduser('~/a'), 'w').write('kept')"
            assert await channel.execute(written) == "4"

    asyncio.run(scenario())


def apply_kernel(desk: Desk, **spec: object) -> str:
    """As ``kubectl apply`` of a Kernel."""
    kernel_id = str(uuid.uuid4())
    body = {
        "apiVersion": "elastic.jupyter.org/v1alpha1",
        "kind": "Kernel",
        "metadata": {"name": kernel_id},
        "spec": {"owner": "ada", "template": "work", **spec},
    }
    desk.kube.admin.post(KERNELS.format(desk.namespace), body)
    return kernel_id


def test_a_kernel_that_was_only_applied_is_started_and_can_be_attached(desk: Desk) -> None:
    async def scenario() -> None:
        desk.offer()
        async with desk.server("c.ElasticKernels.owner = 'ada'\n") as server:
            await warm(server)
            kernel_id = apply_kernel(desk, resources={"memory": "200Mi"})

            async def there() -> bool:
                kernels = await server.request("GET", "/api/kernels")
                return any(one["id"] == kernel_id for one in kernels)

            await eventually(there, "the kernel is adopted")
            channel = await server.connect(kernel_id)
            assert await channel.execute("1 + 1") == "2"

            async def sized() -> bool:
                actual = (await kernel(server, kernel_id))["actual"]
                return bool(actual and actual["memory"] == "200Mi")

            await eventually(sized, "the size that was applied")
            # As `kubectl delete kernel X`: everything ends.
            desk.kube.admin.delete(f"{KERNELS.format(desk.namespace)}/{kernel_id}")

            async def ended() -> bool:
                kernels = await server.request("GET", "/api/kernels")
                mine = [p for p in desk.pods() if kernel_id in str(p["metadata"]["labels"])]
                return bool(not kernels and not mine)

            await eventually(ended, "the kernel's pod ends with it")

    asyncio.run(scenario())


def test_a_kernel_that_was_applied_is_held_to_its_template(desk: Desk) -> None:
    async def scenario() -> None:
        desk.offer(pool=0)
        async with desk.server("c.ElasticKernels.owner = 'ada'\n"):
            too_much = apply_kernel(desk, resources={"memory": "65Gi"})
            unknown = apply_kernel(desk, template="nowhere")

            async def failed() -> bool:
                phases = {k["metadata"]["name"]: k.get("status", {}) for k in desk.kernels()}
                return bool(
                    phases[too_much].get("reason") == "OutOfRange"
                    and phases[unknown].get("reason") == "UnknownTemplate"
                )

            await eventually(failed, "both are refused")
            assert desk.pods() == []

    asyncio.run(scenario())


def test_the_pool_is_an_object_that_shows_and_steers_it(desk: Desk) -> None:
    pools = f"/apis/elastic.jupyter.org/v1alpha1/namespaces/{desk.namespace}/kernelpools"

    async def scenario() -> None:
        desk.offer(pool=1)
        async with desk.server() as server:
            await warm(server)
            [pool] = desk.kube.admin.get(pools)["items"]
            path = f"{pools}/{pool['metadata']['name']}"

            def status() -> dict[str, Any]:
                found: dict[str, Any] = desk.kube.admin.get(path).get("status", {})
                return found

            async def shown(**wanted: int) -> None:
                async def look() -> bool:
                    return all(status().get(key) == value for key, value in wanted.items())

                await eventually(look, f"the pool's status is {wanted}")

            await shown(warm=1, target=1)
            [row] = status()["templates"]
            assert row["reason"] == "A fixed number, as set or by default."
            [pod] = desk.pods()
            assert pod["metadata"]["ownerReferences"][0]["uid"] == pool["metadata"]["uid"]
            desk.kube.admin.patch(path, {"spec": {"sizes": {"work": 2}}})
            await shown(warm=2, target=2)
            desk.kube.admin.patch(path, {"spec": {"sizes": {"work": 0}}})
            await shown(warm=0, target=0)

            async def empty() -> bool:
                return desk.pods() == []

            await eventually(empty, "the pods are gone")
            desk.kube.admin.patch(path, {"spec": {"paused": True, "sizes": {"work": 5}}})

            async def paused() -> bool:
                return bool("paused" in str(status().get("templates")))

            await eventually(paused, "the pool says that it is paused")
            assert desk.pods() == []

    asyncio.run(scenario())


def test_a_server_that_leaves_hands_the_pool_over(desk: Desk) -> None:
    pools = f"/apis/elastic.jupyter.org/v1alpha1/namespaces/{desk.namespace}/kernelpools"

    def holder() -> str:
        [pool] = desk.kube.admin.get(pools)["items"]
        return str(pool.get("status", {}).get("holder", ""))

    async def scenario() -> None:
        desk.offer(pool=1)
        async with desk.server() as staying, desk.server() as leaving:
            await warm(leaving)
            servers = {f"-{staying.pid}-": staying, f"-{leaving.pid}-": leaving}

            async def keeper() -> str:
                return next((mark for mark in servers if mark in holder()), "")

            first = await eventually(keeper, "one of them keeps the pool")
            stops, stays = servers[first], next(s for m, s in servers.items() if m != first)
            await stops.stop()

            async def taken() -> bool:
                return f"-{stays.pid}-" in holder()

            await eventually(taken, "the other one keeps the pool")
            [spare] = desk.pods()
            kubectl_delete(desk, spare["metadata"]["name"])
            await warm(stays)

    asyncio.run(scenario())


def kubectl_delete(desk: Desk, name: str) -> None:
    desk.kube.admin.delete(f"/api/v1/namespaces/{desk.namespace}/pods/{name}")


def test_emptying_a_node_does_not_take_kernels_away(desk: Desk) -> None:
    """With the budget that we ship, pods of the pool may be evicted and kernels may not."""
    budgets = f"/apis/policy/v1/namespaces/{desk.namespace}/poddisruptionbudgets"
    desk.kube.admin.post(budgets, yaml.safe_load(disruption_budget(desk.namespace)))

    async def scenario() -> None:
        desk.offer(pool=1)
        async with desk.server() as server:
            await warm(server)
            kernel_id = await start(server)
            mine = (await kernel(server, kernel_id))["pod"]
            await warm(server)
            [spare] = [p["metadata"]["name"] for p in desk.pods() if p["metadata"]["name"] != mine]
            with pytest.raises(ApiFailure) as refused:
                desk.evict(mine)
            assert refused.value.code == 429
            desk.evict(spare)

            async def gone() -> bool:
                return spare not in {p["metadata"]["name"] for p in desk.pods()}

            await eventually(gone, "the pod of the pool is gone")

    asyncio.run(scenario())


ADMINISTRATOR = """
from jupyter_server.auth import Authorizer
class Administrators(Authorizer):
    def is_authorized(self, handler, user, action, resource):
        return resource in ("elastic", "elastic-others", "api")
c.ServerApp.authorizer_class = Administrators
c.ElasticKernels.owner = "grace"
"""


def test_an_administrator_lists_resizes_and_stops_the_kernels_of_others(desk: Desk) -> None:
    async def scenario() -> None:
        desk.offer()
        async with (
            desk.server("c.ElasticKernels.owner = 'ada'\n") as adas,
            desk.server(ADMINISTRATOR) as administrators,
        ):
            await warm(adas)
            kernel_id = await start(adas)
            channel = await adas.connect(kernel_id)
            assert await channel.execute("x = 6 * 7; x") == "42"
            with pytest.raises(HTTPClientError) as refused:
                await adas.request("GET", "/elastic/api/kernels?all=1")
            assert refused.value.code == 403

            async def seen() -> list[tuple[str, str]]:
                found = await administrators.request("GET", "/elastic/api/kernels?all=1")
                return [(one["kernel_id"], one["owner"]) for one in found["kernels"]]

            assert await eventually(seen, "the kernel is listed") == [(kernel_id, "ada")]
            assert (await administrators.request("GET", "/elastic/api/kernels"))["kernels"] == []
            place = f"/elastic/api/kernels/{kernel_id}"
            await administrators.request("PATCH", place, {"resources": {"memory": "300Mi"}})

            async def resized() -> bool:
                actual: dict[str, Any] = (await kernel(adas, kernel_id))["actual"]
                return bool(actual["memory"] == "300Mi")

            await eventually(resized, "the owner sees the size")
            assert await channel.execute("x") == "42"
            channel.close()
            await administrators.request("DELETE", place)

            async def gone() -> bool:
                return not await adas.request("GET", "/api/kernels")

            await eventually(gone, "the owner's server let go of it")
            assert desk.kernels() == []

    asyncio.run(scenario())


def test_kernels_of_the_previous_protocol_go_on_under_a_newer_server(desk: Desk) -> None:
    async def scenario() -> None:
        desk.offer()
        async with desk.server(older(desk.home / "older")) as server:
            kernel_id = await begin(server)
        async with desk.server(NEWER) as server:
            await go_on(server, kernel_id)
        maps = desk.kube.admin.get(f"/api/v1/namespaces/{desk.namespace}/configmaps")["items"]
        names = [one["metadata"]["name"] for one in maps]
        assert len([one for one in names if one.startswith("jupyter-elastic-agent-")]) == 2

    asyncio.run(scenario())
