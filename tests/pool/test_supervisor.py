"""One thing for each name that is wanted: opened, tried again, closed; none waits for another."""

from __future__ import annotations

import logging
import random
from asyncio import sleep
from collections import Counter, defaultdict

from jupyter_elastic.errors import ApiUnreachable
from jupyter_elastic.kernels.supervisor import AT_ONCE, FIRST_PAUSE, LONGEST_PAUSE, Supervisor

from .virtual_time import VirtualLoop, run

LOG = logging.getLogger("test")


class Stage:
    """What may be kept, and what became of it."""

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self.opening = self.most = 0
        self.open: dict[str, Kept] = {}
        self.story: dict[str, list[str]] = defaultdict(list)
        self.made_badly: set[str] = set()
        self.supervisor = Supervisor(self._make, LOG, random.Random(1))

    def _make(self, name: str) -> Kept:
        if name in self.made_badly:
            raise RuntimeError("a bug")
        return Kept(self, name)


class Kept:
    def __init__(self, stage: Stage, name: str) -> None:
        self._stage, self._name = stage, name

    async def open(self) -> None:
        stage = self._stage
        stage.opening += 1
        stage.most = max(stage.most, stage.opening)
        await sleep(0.1)
        stage.opening -= 1
        if stage.failures[self._name]:
            stage.failures[self._name] -= 1
            stage.story[self._name].append("failed")
            raise ApiUnreachable("no answer")
        stage.open[self._name] = self
        stage.story[self._name].append("open")

    def want(self, wanted: bool) -> None:
        self._stage.story[self._name].append("wanted" if wanted else "leaving")

    async def close(self) -> None:
        await sleep(0.5)
        self._stage.open.pop(self._name, None)
        self._stage.story[self._name].append("closed")


def test_hundreds_are_opened_few_at_a_time_and_all_closed() -> None:
    async def work(_: VirtualLoop) -> None:
        stage = Stage()
        names = dict.fromkeys((f"n{i}" for i in range(200)), True)
        stage.supervisor.want(names)
        assert stage.supervisor.untried() == 200
        await sleep(10)
        assert stage.supervisor.untried() == 0
        assert set(stage.open) == set(stage.supervisor.keepers) == set(names)
        assert stage.most <= AT_ONCE
        await stage.supervisor.close()
        assert not stage.open
        assert all(story == ["open", "wanted", "closed"] for story in stage.story.values())

    run(work)


def test_one_that_cannot_be_opened_is_tried_again_and_nobody_waits_for_it() -> None:
    async def work(loop: VirtualLoop) -> None:
        stage = Stage()
        stage.failures["bad"] = 5
        stage.supervisor.want({"bad": True, "good": True})
        await sleep(1)
        assert set(stage.open) == {"good"}
        assert stage.supervisor.untried() == 0, "who waits for all to be tried need not wait for it"
        await sleep(2 * FIRST_PAUSE * 2**5)
        assert set(stage.open) == {"bad", "good"}
        assert stage.story["bad"] == ["failed"] * 5 + ["open", "wanted"]
        await stage.supervisor.close()

    run(work)


def test_one_that_is_wanted_no_more_before_it_could_be_opened_is_given_up() -> None:
    async def work(_: VirtualLoop) -> None:
        stage = Stage()
        stage.failures["bad"] = 1000
        stage.supervisor.want({"bad": True})
        await sleep(100)
        stage.supervisor.want({})
        await sleep(1)
        assert stage.story["bad"][-1] == "closed"
        tries = len(stage.story["bad"])
        await sleep(10 * LONGEST_PAUSE)
        assert len(stage.story["bad"]) == tries

    run(work)


def test_one_that_comes_back_while_it_is_closed_is_opened_anew() -> None:
    async def work(_: VirtualLoop) -> None:
        stage = Stage()
        stage.supervisor.want({"a": True})
        await sleep(1)
        stage.supervisor.want({"a": False})
        await sleep(0.1)
        stage.supervisor.want({})
        await sleep(0.1)
        stage.supervisor.want({"a": True})
        await sleep(5)
        assert stage.story["a"] == ["open", "wanted", "leaving", "closed", "open", "wanted"]
        await stage.supervisor.close()

    run(work)


def test_a_bug_in_one_does_not_end_the_others_and_does_not_spin() -> None:
    async def work(_: VirtualLoop) -> None:
        stage = Stage()
        stage.made_badly.add("bug")
        stage.supervisor.want({"bug": True, "good": True})
        await sleep(1)
        assert set(stage.open) == {"good"}
        stage.made_badly.clear()
        await sleep(2 * LONGEST_PAUSE)
        assert set(stage.open) == {"bug", "good"}
        await stage.supervisor.close()

    run(work)
