"""Starts that come at once share the warm pods, and none goes cold beside them."""

from __future__ import annotations

import asyncio
import random
from typing import cast

from msgspec.structs import replace

from jupyter_elastic.cluster.base import Cluster
from jupyter_elastic.errors import Conflict
from jupyter_elastic.kernels.claims import Claims
from jupyter_elastic.model import Kernel, Pod, PodPhase
from jupyter_elastic.resources import MIB, Resources
from jupyter_elastic.templates import parse_template

SIZE = Resources(cpu=100, memory=64 * MIB)
TEMPLATE = parse_template({"name": "work", "resources": {"cpu": "100m", "memory": "64Mi"}})


class View:
    """What a server sees of pods that several servers claim: what others do, it sees later."""

    def __init__(self, truth: dict[str, Pod]) -> None:
        self.truth = truth
        self.seen = dict(truth)
        self.conflicts = 0

    def pods(self) -> dict[str, Pod]:
        return self.seen

    async def claim_pod(self, pod: Pod, kernel: Kernel) -> Pod:
        await asyncio.sleep(0)
        now = self.truth[pod.name]
        if now.phase is not PodPhase.WARM:
            self.conflicts += 1
            raise Conflict(f"Pod {pod.name} is {now.phase.value}.")
        claimed = replace(now, phase=PodPhase.CLAIMED, kernel_id=kernel.kernel_id)
        self.truth[pod.name] = self.seen[pod.name] = claimed
        await asyncio.sleep(0)
        return claimed

    async def refresh_one(self, kind: str, name: str) -> None:
        await asyncio.sleep(0)
        self.seen[name] = self.truth[name]


def warm(number: int) -> dict[str, Pod]:
    """So many warm pods."""
    return {
        f"pod-{n}": Pod(
            name=f"pod-{n}",
            uid=str(n),
            template=TEMPLATE.name,
            template_hash=TEMPLATE.hash,
            phase=PodPhase.WARM,
            resources=SIZE,
            created=float(n),
        )
        for n in range(number)
    }


def kernel(name: str) -> Kernel:
    return Kernel(kernel_id=name, owner="ann", template="work", resources=SIZE, created=1.0)


async def claims(views: list[View], each: int) -> list[Pod | None]:
    """So many starts at once on each server."""
    servers = [Claims(cast("Cluster", view)) for view in views]
    return await asyncio.gather(
        *(
            server.claim(kernel(f"{at}-{n}"), TEMPLATE)
            for at, server in enumerate(servers)
            for n in range(each)
        )
    )


def test_starts_of_one_server_never_meet() -> None:
    view = View(warm(40))
    got = asyncio.run(claims([view], 40))
    assert len({pod.name for pod in got if pod is not None}) == 40
    assert view.conflicts == 0


def test_a_burst_on_three_servers_gets_warm_pods() -> None:
    truth = warm(300)
    got = asyncio.run(claims([View(truth) for _ in range(3)], 20))
    names = [pod.name for pod in got if pod is not None]
    assert len(names) == len(set(names)) == 60


def test_servers_that_have_met_keep_apart() -> None:
    """One start after the other on each of three, none of which ever hears of the others'."""

    async def work() -> int:
        truth = warm(300)
        views = [View(truth) for _ in range(3)]
        servers = [Claims(cast("Cluster", view)) for view in views]
        for n in range(60):
            for at, server in enumerate(servers):
                got = await server.claim(kernel(f"{at}-{n}"), TEMPLATE)
                assert got is not None, "cold beside warm pods"
        return sum(view.conflicts for view in views)

    random.seed(1)
    met = sum(asyncio.run(work()) for _ in range(5)) / 5
    assert met < 180 / 4, met


def test_a_pod_that_was_lost_is_not_tried_again_by_the_same_start() -> None:
    """Also where the view goes on to show it as warm."""

    class Stubborn(View):
        async def refresh_one(self, kind: str, name: str) -> None:
            await asyncio.sleep(0)

    truth = warm(3)
    view = Stubborn(truth)
    truth |= {name: replace(truth[name], phase=PodPhase.CLAIMED) for name in ("pod-0", "pod-1")}
    (got,) = asyncio.run(claims([view], 1))
    assert got is not None
    assert got.name == "pod-2"
    assert view.conflicts <= 2


def test_a_start_that_meets_nobody_takes_one_of_the_oldest() -> None:
    (got,) = asyncio.run(claims([View(warm(40))], 1))
    assert got is not None
    assert got.created < 4
