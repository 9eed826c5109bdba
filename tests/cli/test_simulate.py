"""``jupyter elastic simulate``, as an admin calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jupyter_elastic.cli import main


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    file = tmp_path / "starts.csv"
    rows = "".join(f"{1.7e9 + 900 * n:.0f},{'ab'[n % 2]},me\n" for n in range(300))
    file.write_text("time,template,owner\n" + rows)
    return file


def test_shows_planners_beside_each_other(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawing = tmp_path / "plot.svg"
    assert main(["simulate", "--trace", str(trace), "--plot", str(drawing)]) == 0
    text = capsys.readouterr().out
    assert {"elastic", "ranking", "static", "little"} <= set(text.split())
    assert "HIT %" in text
    assert drawing.read_text().startswith("<svg")


def test_the_same_as_json(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["simulate", "--json", "--trace", str(trace), "--quota-pods", "20"]
    assert main(arguments) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == first
    assert first[0]["planner"] == "elastic"
    assert first[0]["guards_broken"] == 0


def test_says_what_is_wrong_with_a_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "--trace", str(tmp_path / "none.csv")]) == 1
    assert "none.csv" in capsys.readouterr().err
    bad = tmp_path / "bad.csv"
    bad.write_text("time,template\nsoon,a\n")
    assert main(["simulate", "--trace", str(bad)]) == 1
    assert "Line 2" in capsys.readouterr().err


def test_settings_that_make_no_sense_are_wrong_usage(trace: Path) -> None:
    for wrong in (["--share", "0"], ["--quota-pods", "0"], ["--patience", "1"]):
        with pytest.raises(SystemExit) as caught:
            main(["simulate", "--trace", str(trace), *wrong])
        assert caught.value.code == 2
