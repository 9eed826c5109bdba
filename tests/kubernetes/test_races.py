"""Races over pods and kernels: many servers at one moment, on a real API server.

The pods are of nodes that pretend, and their agents are stood in for here, so that many rounds are
quick: what is raced for are objects. All else is what servers run: launcher, takeover, adapter.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from jupyter_elastic.errors import Conflict, Gone, KernelExists, StartCancelled
from jupyter_elastic.kernels import takeover
from jupyter_elastic.kernels.takeover import Takeover
from jupyter_elastic.model import Kernel, Offer, Range, Template
from jupyter_elastic.resources import GIB, MIB, Resources

from ..testcluster.api import ApiFailure
from ..testcluster.api import until as eventually
from ..testcluster.nodes import FAKE_GPU, FAKE_SELECTOR, TOLERATION
from ..testcluster.world import Kube
from .clients import until
from .contestants import Contestant, Hand, contestant
from .desk import KERNELS, Desk, home_directory
from .world import install, options

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]

SERVERS, PODS, ROUNDS = 20, 10, 3
IDS = 12
"""Kernel ids that are raced for at one moment."""
SIZE = Resources(cpu=200, memory=256 * MIB)
LOG = logging.getLogger(__name__)


@pytest.fixture
def desk(kube: Kube) -> Iterator[Desk]:
    if kube.cluster is None:
        pytest.skip("only the tree's own cluster has nodes that pretend")
    install(kube)
    with kube.namespace() as namespace, home_directory() as home:
        yield Desk(kube, namespace, home)


class Stage:
    """The pods' stand-ins, and what all contestants have in common."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.hands: dict[str, Hand] = {}
        key, value = FAKE_SELECTOR.split("=")
        where = options(
            desk.kube,
            node_selector={key: value, "kubernetes.io/hostname": FAKE_GPU},
            tolerations=(TOLERATION,),
        )
        self.template = Template(
            name="race",
            display_name="Race",
            image=desk.kube.image,
            resources=Offer(
                cpu=Range(100, SIZE.cpu, 8000), memory=Range(64 * MIB, SIZE.memory, GIB)
            ),
            kubernetes=where,
        )

    async def server(self) -> Contestant:
        """One more server: a connection, a cache and a launcher of its own."""
        return await contestant(self.desk.namespace, self.desk.kubeconfig, self.hands)

    def kernel(self, kernel_id: str = "") -> Kernel:
        return Kernel(
            kernel_id=kernel_id or str(uuid.uuid4()),
            owner="ada",
            template=self.template.name,
            created=time.time(),
            resources=SIZE,
        )

    def live(self) -> dict[str, str]:
        """Kernel id by the name of each pod that is somebody's and is not being deleted."""
        found = {}
        for pod in self.desk.pods():
            kernel_id = pod["metadata"]["labels"].get("elastic.jupyter.org/kernel")
            if kernel_id and not pod["metadata"].get("deletionTimestamp"):
                found[pod["metadata"]["name"]] = kernel_id
        return found

    def records(self) -> dict[str, Any]:
        """The status of each Kernel object, by id."""
        return {one["metadata"]["name"]: one.get("status", {}) for one in self.desk.kernels()}

    def whole(self, ids: set[str]) -> bool:
        """Whether each kernel runs, with one live pod, which its record names."""
        live, records = self.live(), self.records()
        return (
            Counter(live.values()) == Counter(ids)
            and records.keys() == ids
            and all(one.get("phase") == "Running" for one in records.values())
            and all(live.get(one["pod"]) == name for name, one in records.items())
        )


async def servers(stage: Stage, count: int) -> list[Contestant]:
    return list(await asyncio.gather(*(stage.server() for _ in range(count))))


def test_twenty_servers_claim_ten_warm_pods_at_one_moment(desk: Desk) -> None:
    """In rounds: each kernel has one pod, each pod one kernel, and who finds none starts cold."""

    async def one_round(stage: Stage, crowd: list[Contestant]) -> None:
        keeper = crowd[0]
        await asyncio.gather(
            *(keeper.cluster.create_pod(stage.template) for _ in range(PODS - keeper.warm()))
        )
        await until(lambda: all(one.warm() == PODS for one in crowd), "all see ten warm pods")
        kernels = [stage.kernel() for _ in crowd]
        launched = await asyncio.gather(
            *(one.start(kernel, stage.template) for one, kernel in zip(crowd, kernels, strict=True))
        )
        ids = {one.kernel_id for one in kernels}
        assert {one.kernel.kernel_id for one in launched} == ids
        await settled(lambda: stage.whole(ids), "each kernel runs in a pod of its own")
        for name, kernel_id in stage.live().items():
            assert stage.hands[name].started == [kernel_id]
        how = Counter(one.kernel.start for one in launched)
        assert how["warm"] + how["cold"] == SERVERS
        assert 1 <= how["warm"] <= PODS
        await until(
            lambda: keeper.warm() == PODS - how["warm"], "what nobody claimed is warm still"
        )
        await asyncio.gather(
            *(one.launcher.running.stop(k) for one, k in zip(crowd, ids, strict=True))
        )
        await settled(lambda: not stage.live() and not stage.records(), "all ends with its kernel")

    async def scenario() -> None:
        stage = Stage(desk)
        crowd = await servers(stage, SERVERS)
        try:
            for _ in range(ROUNDS):
                await one_round(stage, crowd)
        finally:
            await asyncio.gather(*(one.close() for one in crowd))

    asyncio.run(scenario())
    check_ends(desk)


def test_starters_of_one_kernel_one_of_them_the_controller(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two servers and whoever keeps the pool, which takes every start for overdue."""
    monkeypatch.setattr(takeover, "LOOK", 0.05)

    async def race(stage: Stage, one: Contestant, other: Contestant) -> str:
        """Both start a kernel of one id, and for every second one somebody applies it as well."""
        kernel = stage.kernel()

        async def start(who: Contestant) -> None:
            await asyncio.sleep(random.uniform(0, 0.05))
            await who.start(kernel, stage.template)

        async def apply() -> None:
            await asyncio.to_thread(apply_kernel, desk, kernel)

        applied = [apply()] if random.random() < 0.5 else []
        results = await asyncio.gather(start(one), start(other), *applied, return_exceptions=True)
        lost = (KernelExists, Conflict, Gone, StartCancelled)
        assert all(one is None or isinstance(one, lost) for one in results), results
        return kernel.kernel_id

    async def scenario() -> None:
        stage = Stage(desk)
        one, other, keeper = crowd = await servers(stage, 3)
        overtaking = Takeover(
            keeper.cluster,
            keeper.launcher,
            SimpleNamespace(leading=True),  # type: ignore[arg-type]
            lambda name: stage.template,
            encrypt=False,
            require_curve=False,
            log=LOG,
            clock=lambda: time.time() + 3600,
        )
        overtaking.start()
        try:
            await asyncio.gather(
                *(keeper.cluster.create_pod(stage.template) for _ in range(IDS // 2))
            )
            await until(lambda: all(who.warm() == IDS // 2 for who in crowd), "some are warm")
            ids = set(await asyncio.gather(*(race(stage, one, other) for _ in range(IDS))))
            # Whatever the races came to, one that nobody but the controller can start.
            alone = stage.kernel()
            await asyncio.to_thread(apply_kernel, desk, alone)
            ids.add(alone.kernel_id)
            await settled(
                lambda: stage.whole(ids), "each kernel runs in one pod, which its record names"
            )
            for name, kernel_id in stage.live().items():
                assert stage.hands[name].started == [kernel_id]
            assert all(len(hand.started) <= 1 for hand in stage.hands.values())
            assert "Taken over" in str(stage.records()), "the controller had its part in it"
        finally:
            await overtaking.stop()
            await asyncio.gather(*(keeper.launcher.running.stop(k) for k in stage.records()))
            await asyncio.gather(*(who.close() for who in crowd))

    asyncio.run(scenario())
    check_ends(desk)


async def settled(condition: Callable[[], bool], what: str) -> None:
    """Wait for what the API server says, while servers work."""
    await asyncio.to_thread(eventually, what, condition)


def apply_kernel(desk: Desk, kernel: Kernel) -> None:
    """As ``kubectl apply`` does, which finds it there already or not."""
    body = {
        "apiVersion": "elastic.jupyter.org/v1alpha1",
        "kind": "Kernel",
        "metadata": {"name": kernel.kernel_id},
        "spec": {"owner": kernel.owner, "template": kernel.template},
    }
    try:
        desk.kube.admin.post(KERNELS.format(desk.namespace), body)
    except ApiFailure as error:
        if error.reason != "AlreadyExists":
            raise


def check_ends(desk: Desk) -> None:
    """No kernel and no pod of one is left, nor a Secret without its pod."""
    secrets = f"/api/v1/namespaces/{desk.namespace}/secrets"

    def names(found: list[Any]) -> set[str]:
        return {one["metadata"]["name"] for one in found}

    def clean() -> bool:
        pods = desk.pods()
        taken = [one for one in pods if "elastic.jupyter.org/kernel" in one["metadata"]["labels"]]
        orphans = names(desk.kube.admin.get(secrets)["items"]) - names(pods)
        return not (taken or orphans or desk.kernels())

    eventually("nothing is left", clean)
