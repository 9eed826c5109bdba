"""The leftover check must see what a leaking test leaves, and nothing of anybody else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.leftovers import POD_MARKER, RUN_MARKER, Leftovers, announced

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process that waits, with something added to its environment."""
    running: list[subprocess.Popen[str]] = []

    def start_waiting(**environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", "print('up', flush=True); input()"],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    yield start_waiting
    for process in running:
        process.kill()
        process.communicate()


def test_a_leaked_process_is_named_with_its_pod_and_ended(start: Start) -> None:
    leftovers = Leftovers("this-run", strict=lambda: False)
    process = start(**{POD_MARKER: "pod-7", RUN_MARKER: "this-run"})
    (line,) = leftovers.find()
    assert f"process {process.pid} of pod-7" in line
    leftovers.end()
    assert process.wait(60) == -9
    assert leftovers.find() == []


def test_pods_of_others_do_not_count(start: Start) -> None:
    leftovers = Leftovers("this-run", strict=lambda: False)
    start(**{POD_MARKER: "pod-8", RUN_MARKER: "another-run"})
    start(**{RUN_MARKER: "this-run"})
    assert leftovers.find() == []


def test_strict_counts_every_new_pod_but_not_those_before(start: Start) -> None:
    before = start(**{POD_MARKER: "pod-9", RUN_MARKER: "before"})
    leftovers = Leftovers("this-run", strict=lambda: True)
    after = start(**{POD_MARKER: "pod-10", RUN_MARKER: "unknown"})
    found = "\n".join(leftovers.find())
    assert f"process {after.pid} of pod-10" in found
    assert f"process {before.pid} " not in found


def test_of_two_runs_the_last_one_is_alone(tmp_path: Path) -> None:
    place = tmp_path / "runs"
    with announced(place) as alone:
        assert alone()
        with announced(place) as other:
            assert not alone()
            assert not other()
        assert alone()
