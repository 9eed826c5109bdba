"""Run make targets and close with what they counted.

One after the other, except where lanes are given: ``a,b+c`` runs ``a`` and then ``b`` beside ``c``.
What phases of a lane print comes when they end.

A failing phase does not stop the ones after it: one run tells all that is wrong. Counts come
from the reports that the test runners write (JUnit XML of pytest and Playwright, JSON of jest);
a phase without a test runner counts as one check. The last line is ``total: N passed, N failed,
N skipped``.

usage: phases.py --make MAKE --reports DIRECTORY TARGET[,TARGET...][+TARGET...]...
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree


class Counts(NamedTuple):
    """How many tests of a phase ended in which way."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


class Phase(NamedTuple):
    """One make target that was run."""

    name: str
    ok: bool
    seconds: float
    counts: Counts
    note: str = ""


def read_junit(path: Path) -> Counts:
    """Counts of a JUnit file; an error outside a test's body (set-up, teardown) is a failure."""
    suites = list(ElementTree.parse(path).getroot().iter("testsuite"))
    total, bad, skipped = (
        sum(int(suite.get(key) or 0) for suite in suites for key in keys)
        for keys in (("tests",), ("failures", "errors"), ("skipped",))
    )
    return Counts(max(total - bad - skipped, 0), bad, skipped)


def read_jest(path: Path) -> Counts:
    """Counts of what ``jest --json`` writes."""
    result = json.loads(path.read_text(encoding="utf-8"))
    broken = result["numRuntimeErrorTestSuites"]
    return Counts(
        result["numPassedTests"],
        result["numFailedTests"] + broken,
        result["numPendingTests"] + result["numTodoTests"],
    )


def read_counts(reports: Path, name: str, ok: bool) -> tuple[Counts, str]:
    """What a phase counted, and why it was left out if it was."""
    left_out = reports / f"{name}.skipped"
    if ok and left_out.exists():
        return Counts(skipped=1), left_out.read_text(encoding="utf-8").strip()
    for path, read in ((f"{name}.xml", read_junit), (f"{name}.json", read_jest)):
        if (reports / path).exists():
            counts = read(reports / path)
            # A runner may fail beside its tests (a leak, a crash at the end): never hide that.
            return (counts if ok or counts.failed else counts._replace(failed=1)), ""
    return Counts(passed=int(ok), failed=int(not ok)), ""


def run_phase(make: list[str], reports: Path, name: str, *, beside: bool = False) -> Phase:
    """Run one target; its output goes where ours goes, ``beside`` others in one piece."""
    for old in reports.glob(f"{name}.*"):
        old.unlink()
    say(f"\n=== {name}{' (shown at its end)' if beside else ''}")
    begin = time.monotonic()
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((reports / f"{name}.log").open("wb")) if beside else None
        status = subprocess.run(
            [*make, "--no-print-directory", name],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log and subprocess.STDOUT,
        ).returncode
    seconds = time.monotonic() - begin
    ok = status == 0
    end = f"=== {name}: {'ok' if ok else f'FAILED ({status})'} in {seconds:.0f} s"
    shown = (reports / f"{name}.log").read_text(errors="replace") if beside else ""
    say(f"\n=== {name}\n{shown}{end}" if beside else end)
    counts, note = read_counts(reports, name, ok)
    return Phase(name, ok, seconds, counts, note)


def run_lane(make: list[str], reports: Path, lane: str, *, beside: bool) -> list[Phase]:
    """Run the targets of one lane, one after the other."""
    return [run_phase(make, reports, name, beside=beside) for name in lane.split(",")]


def run_lanes(make: list[str], reports: Path, lanes: list[str]) -> list[Phase]:
    """Run lanes at once; the phases in the order in which they were given."""
    beside = len(lanes) > 1
    with ThreadPoolExecutor(len(lanes)) as pool:
        running = [pool.submit(run_lane, make, reports, lane, beside=beside) for lane in lanes]
        return [phase for lane in running for phase in lane.result()]


def say(text: str) -> None:
    """Print it in one piece, whoever else prints."""
    with _saying:
        print(text, flush=True)


_saying = threading.Lock()


def main() -> int:
    """Run all phases; 0 when every one of them passed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--make", default="make")
    parser.add_argument("--reports", type=Path, default=Path("build/reports"))
    parser.add_argument("targets", nargs="+")
    options = parser.parse_args()
    options.reports.mkdir(parents=True, exist_ok=True)
    make = options.make.split()
    done = [
        phase
        for lanes in options.targets
        for phase in run_lanes(make, options.reports, lanes.split("+"))
    ]
    print("\n=== summary")
    for phase in done:
        state = f"{'ok' if phase.ok else 'FAILED':6} {phase.seconds:5.0f} s"
        print(f"{phase.name:15} {state}  {phase.counts}  {phase.note}".rstrip())
    counts = [phase.counts for phase in done]
    total = Counts(*(sum(each[field] for each in counts) for field in range(3)))
    print(f"total: {total}")
    return 0 if all(phase.ok for phase in done) else 1


if __name__ == "__main__":
    sys.exit(main())
