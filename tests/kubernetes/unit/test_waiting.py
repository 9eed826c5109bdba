"""Steps are told in the order in which they happened, though events come late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from jupyter_elastic.cluster.kubernetes import waiting
from jupyter_elastic.cluster.kubernetes.fate import pod_from_object
from jupyter_elastic.cluster.kubernetes.objects import EventObject, PodObject
from jupyter_elastic.cluster.kubernetes.waiting import Waiting
from jupyter_elastic.model import Pod, PodPhase, Step

from .objects import event, pod

SCHEDULED = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"}
STARTED = {"state": {"running": {"startedAt": "2026-01-01T00:00:03Z"}}}
EVENTS = (event("Pulling", 'Pulling image "img:1"', "02"), event("Pulled", "Pulled", "03"))


class Pods:
    """A pod that changes whenever somebody waits for a change."""

    def __init__(self, *seen: PodObject) -> None:
        self._seen = list(seen)

    def pod(self, name: str) -> Pod | None:
        return pod_from_object(self._seen[0])

    def object(self, name: str) -> PodObject | None:
        return self._seen[0]

    async def changed(self, timeout: float) -> None:
        await asyncio.sleep(0)
        if len(self._seen) > 1:
            del self._seen[0]


class Api:
    """Answers with the next list of events; the last one again and again."""

    def __init__(self, *answers: tuple[EventObject, ...]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def path(self, resource: str) -> str:
        return resource

    async def request(self, *_: Any, **__: Any) -> bytes:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return msgspec.json.encode({"items": answer})


def shown(phase: str = "warming", **changes: Any) -> PodObject:
    return pod(phase, status={"conditions": [SCHEDULED]}, **changes)


async def told(api: Api, *seen: PodObject) -> list[str]:
    steps: list[Step] = []
    tell: Callable[[Step], None] = steps.append
    found: Any = api
    up = await Waiting(found, Pods(*seen)).up("p", 20, tell)
    assert up is not None
    assert up.phase is PodPhase.CLAIMED
    assert all(one.time for one in steps)
    return [one.name for one in steps]


RUNS, UP = shown(container=STARTED), shown("claimed", container=STARTED)
WHOLE = ["scheduled", "image-pulling", "image-pulled", "started"]


@pytest.mark.parametrize("late", [0, 1, 3])
async def test_the_images_step_comes_before_the_start(late: int) -> None:
    api = Api(*[()] * late, EVENTS)
    assert await told(api, RUNS, RUNS, RUNS, RUNS, RUNS, UP) == WHOLE


async def test_a_pod_that_is_up_tells_all_that_is_known() -> None:
    assert await told(Api(EVENTS), UP) == WHOLE
    api = Api(())
    assert await told(api, RUNS, UP) == ["scheduled", "started"]


async def test_events_that_never_come_hold_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "EVENTS_LATE", 0.0)
    api = Api(())
    assert await told(api, RUNS, RUNS, UP) == ["scheduled", "started"]
