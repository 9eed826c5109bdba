"""The closing line of `make test` must never tell a failed run as a passed one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PHASES = Path(__file__).parents[2] / "scripts" / "phases.py"

JUNIT = """<testsuites><testsuite name="a" tests="5" failures="1" errors="1" skipped="1"/>
<testsuite name="b" tests="2" failures="0" errors="0" skipped="0"/></testsuites>"""
JEST = {
    "numPassedTests": 3,
    "numFailedTests": 0,
    "numPendingTests": 1,
    "numTodoTests": 0,
    "numRuntimeErrorTestSuites": 1,
}


def run_phases(directory: Path, makefile: str, *targets: str) -> tuple[int, list[str]]:
    """Exit status and lines of a run over a Makefile of our own."""
    directory.joinpath("Makefile").write_text(makefile)
    done = subprocess.run(
        [sys.executable, str(PHASES), "--reports", "reports", *targets],
        cwd=directory,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout.splitlines()


def test_a_failing_phase_does_not_hide_the_next_and_fails_the_run(tmp_path: Path) -> None:
    makefile = "good:\n\t@echo fine\nbad:\n\t@false\n"
    status, lines = run_phases(tmp_path, makefile, "bad", "good")
    assert status == 1
    assert "fine" in lines
    assert lines[-1] == "total: 1 passed, 1 failed, 0 skipped"


def test_counts_are_those_of_the_reports(tmp_path: Path) -> None:
    tmp_path.joinpath("junit").write_text(JUNIT)
    tmp_path.joinpath("jest").write_text(json.dumps(JEST))
    makefile = (
        "python:\n\t@cp junit reports/python.xml; false\n"
        "frontend:\n\t@cp jest reports/frontend.json; false\n"
        "none:\n\t@echo 'no Chromium' > reports/none.skipped\n"
    )
    status, lines = run_phases(tmp_path, makefile, "python", "frontend", "none")
    assert status == 1
    assert lines[-1] == "total: 7 passed, 3 failed, 3 skipped"
    assert lines[-2].endswith("no Chromium")


def test_a_runner_that_fails_beside_its_tests_is_a_failure(tmp_path: Path) -> None:
    report = '<testsuite tests="2" failures="0" errors="0" skipped="0"/>'
    makefile = f"leaky:\n\t@echo '{report}' > reports/leaky.xml; exit 3\n"
    status, lines = run_phases(tmp_path, makefile, "leaky")
    assert status == 1
    assert lines[-1] == "total: 2 passed, 1 failed, 0 skipped"


def test_a_report_of_an_earlier_run_does_not_count(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    reports.mkdir()
    reports.joinpath("stale.xml").write_text(JUNIT)
    status, lines = run_phases(tmp_path, "stale:\n\t@true\n", "stale")
    assert status == 0
    assert lines[-1] == "total: 1 passed, 0 failed, 0 skipped"


def test_lanes_run_at_once_and_each_phase_is_told_in_one_piece(tmp_path: Path) -> None:
    # Each of the two ends only when it has seen the other one.
    meet = "for i in $$(seq 500); do [ -e {other} ] && break; sleep 0.05; done; [ -e {other} ]"
    recipe = "{name}:\n\t@touch {name}; echo one of {name}; " + meet + "; echo two of {name}\n"
    makefile = (
        recipe.format(name="left", other="right")
        + recipe.format(name="right", other="left")
        + "bad:\n\t@echo this fails; false\n"
        + "last:\n\t@echo alone\n"
    )
    status, lines = run_phases(tmp_path, makefile, "left,bad+right", "last")
    assert status == 1
    for name in ("left", "right"):
        first = lines.index(f"one of {name}")
        assert lines[first - 1] == f"=== {name}"
        assert lines[first + 1] == f"two of {name}"
        assert lines[first + 2].startswith(f"=== {name}: ok in ")
    assert "this fails" in lines
    assert "alone" in lines
    assert [line.split()[0] for line in lines[-5:-1]] == ["left", "bad", "right", "last"]
    assert lines[-1] == "total: 3 passed, 1 failed, 0 skipped"


def a_report(*outcomes: str) -> str:
    """A JUnit report of tests that end so, in one line."""
    cases = "".join(
        f'<testcase classname="a" name="t{number}">{f"<{outcome}/>" if outcome else ""}</testcase>'
        for number, outcome in enumerate(outcomes)
    )
    counts = f'tests="{len(outcomes)}" failures="{outcomes.count("failure")}"'
    return f'<testsuite {counts} errors="{outcomes.count("error")}" skipped="0">{cases}</testsuite>'


def a_phase(name: str, first: str, then: str, *, status: int = 0) -> str:
    """One that fails with the report ``first``, and once more with ``then`` and ``status``."""
    return (
        f"{name}:\n"
        f"\t@if [ -z '$(TESTS)' ]; then echo '{first}' > reports/{name}.xml; exit 1; fi; "
        f"echo tried again: $(TESTS); echo '{then}' > reports/{name}.xml; exit {status}\n"
    )


def test_what_passes_only_when_run_again_is_told(tmp_path: Path) -> None:
    makefile = a_phase("racy", a_report("", "failure"), a_report("")) + "good:\n\t@true\n"
    status, lines = run_phases(tmp_path, makefile, "racy+good")
    assert status == 0
    assert "tried again: --last-failed" in lines
    assert lines[-2:] == [
        "FAILS AT TIMES, passed when run again: racy: a: t1",
        "total: 3 passed, 0 failed, 0 skipped",
    ]


def test_what_fails_again_has_failed(tmp_path: Path) -> None:
    makefile = a_phase("bad", a_report("", "failure"), a_report("failure"), status=1)
    status, lines = run_phases(tmp_path, makefile, "bad")
    assert status == 1
    assert "tried again: --last-failed" in lines
    assert lines[-1] == "total: 1 passed, 1 failed, 0 skipped"


@pytest.mark.parametrize(
    "first",
    [
        a_report("failure", "failure", "failure"),  # no accident
        a_report("", "error"),  # what a run leaves behind is told so
        a_report("failure", "error"),
        a_report(""),  # a runner that fails beside its tests
    ],
)
def test_much_or_something_else_is_not_run_again(tmp_path: Path, first: str) -> None:
    status, lines = run_phases(tmp_path, a_phase("bad", first, a_report("")), "bad")
    assert status == 1
    assert not any("again" in line for line in lines)


def test_nothing_is_run_again_beside_something_that_failed_otherwise(tmp_path: Path) -> None:
    makefile = a_phase("racy", a_report("failure"), a_report("")) + "lint:\n\t@false\n"
    status, lines = run_phases(tmp_path, makefile, "racy", "lint")
    assert status == 1
    assert not any("again" in line for line in lines)
