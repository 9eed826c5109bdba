"""Figures of a series, tables for people and JSON for machines."""

from __future__ import annotations

import json
import platform
import statistics
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def figures(values: list[float]) -> dict[str, float]:
    """Median, 5th and 95th percentile, minimum and maximum (nearest rank)."""
    ordered = sorted(values)

    def rank(share: float) -> float:
        return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]

    return {
        "n": len(ordered),
        "median": statistics.median(ordered),
        "p5": rank(0.05),
        "p95": rank(0.95),
        "min": ordered[0],
        "max": ordered[-1],
    }


def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table; numbers with three digits after the point."""
    cells = [[f"{c:.3f}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    widths = [max(len(r[i]) for r in [columns, *cells]) for i in range(len(columns))]
    print(f"\n{title}")
    for row in [columns, ["-" * w for w in widths], *cells]:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())


def machine() -> dict[str, Any]:
    """What was measured on."""
    import os

    versions = {}
    for package in ("jupyter_elastic", "jupyter_server", "jupyter_client", "ipykernel", "pyzmq"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "source tree"
    return {
        "python": sys.version.split()[0],
        "kernel": platform.release(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions,
    }


def save(name: str, results: dict[str, Any], to: str | None) -> str:
    """The results as JSON, which are written to ``to`` if given."""
    text = json.dumps({"benchmark": name, "machine": machine(), **results}, indent=2)
    if to:
        Path(to).parent.mkdir(parents=True, exist_ok=True)
        Path(to).write_text(text + "\n")
    return text


def write(name: str, results: dict[str, Any], to: str | None) -> None:
    """Print the results as JSON, and write them to ``to`` if given."""
    print("\n" + save(name, results, to))
