"""Run make targets and close with what they counted.

One after the other, except where lanes are given: ``a,b+c`` runs ``a`` and then ``b`` beside ``c``.
What phases of a lane print comes when they end.

A failing phase does not stop the ones after it: one run tells all that is wrong. Counts come
from the reports that the test runners write (JUnit XML of pytest and Playwright, JSON of jest);
a phase without a test runner counts as one check. The last line is ``total: N passed, N failed,
N skipped``.

Where no more than two tests of a whole run failed, and nothing else did, these are run once more,
alone. What passes then is not hidden: it is listed before the total as a test that fails at times,
which is a bug to be mended. What fails again has failed.

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

FEW = 2
"""Failed tests of a whole run that are run once more; when there are more, it is no accident."""


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


def read_failed(path: Path) -> list[str]:
    """The tests of a JUnit file that failed; none where anything but a test's body did.

    What a run leaves behind is such an error: running a test again would hide it.
    """
    if not path.exists():
        return []
    cases = list(ElementTree.parse(path).getroot().iter("testcase"))
    if any(case.find("error") is not None for case in cases):
        return []
    failed = [case for case in cases if case.find("failure") is not None]
    return [f"{case.get('classname')}: {case.get('name')}" for case in failed]


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


def run_again(make: list[str], reports: Path, done: list[Phase]) -> tuple[list[Phase], list[str]]:
    """Run once more what failed, if it is little; the phases as they are then, and what passed."""
    failed = {
        phase.name: read_failed(reports / f"{phase.name}.xml") for phase in done if not phase.ok
    }
    if not all(failed.values()) or not 0 < sum(map(len, failed.values())) <= FEW:
        return done, []
    phases, mended = [], []
    for phase in done:
        names = failed.get(phase.name, [])
        if names:
            say(f"\n{phase.name} once more, only what failed: {'; '.join(names)}")
            again = run_phase([*make, "TESTS=--last-failed"], reports, phase.name)
            seconds = phase.seconds + again.seconds
            if again.ok and again.counts.passed == len(names):
                counts = phase.counts._replace(passed=phase.counts.passed + len(names), failed=0)
                phase = phase._replace(ok=True, counts=counts)
                mended += [f"{phase.name}: {name}" for name in names]
            phase = phase._replace(seconds=seconds)
        phases.append(phase)
    return phases, mended


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
    done, mended = run_again(make, options.reports, done)
    print("\n=== summary")
    for phase in done:
        state = f"{'ok' if phase.ok else 'FAILED':6} {phase.seconds:5.0f} s"
        print(f"{phase.name:15} {state}  {phase.counts}  {phase.note}".rstrip())
    for name in mended:
        print(f"FAILS AT TIMES, passed when run again: {name}")
    counts = [phase.counts for phase in done]
    total = Counts(*(sum(each[field] for each in counts) for field in range(3)))
    print(f"total: {total}")
    return 0 if all(phase.ok for phase in done) else 1


if __name__ == "__main__":
    sys.exit(main())
