"""``python -m benchmarks.pool``: how the pool's planner does beside others, in simulated weeks.

Four generators of starts (an office, a university's classes, a hackathon that nothing announces, a
small lab), each with the report's seeds: the planners learn for four weeks and are measured in the
fifth. The seeds used while the planner was written are 1001 to 1010, and never in the report.
Every other planner is shown as it comes, and with its knob turned until it keeps as many pods idle
as ours. Nothing is timed, so it may run anywhere; the same tree always prints the same figures.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from jupyter_elastic.pool.compare import COLUMNS, OURS, RIVALS, Run, cells, compare, summary
from jupyter_elastic.pool.plot import plot
from jupyter_elastic.pool.targets import Settings
from jupyter_elastic.pool.traces import GENERATORS

from .stats import table, write

REPORT_SEEDS = (1, 2, 3, 4, 5)


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table of docs/pool.md."""
    head = (
        "| Starts | Planner | Hits % | ± | At equal idle % | Wait p95, p99 (s) | Idle pod-h/day |"
        " Of ranking's % | Pods/start |\n|---|---|---|---|---|---|---|---|---|\n"
    )
    lines = []
    for row in rows:
        one = cells(row)
        equal = one[4] if one[4] == "-" else f"{one[4]} ± {one[5]}"
        if row["equal_idle"] is not None and row["equal_idle"] < 0.9 * _ours(rows, row):
            equal += f" (no more than {one[6]} idle)"
        lines.append(
            f"| {one[0]} | {one[1]} | {one[2]} | {one[3]} | {equal} | {one[7]}, {one[8]} |"
            f" {one[9]} | {one[10]} | {one[12]} |\n"
        )
    return head + "".join(lines)


def _ours(rows: list[dict[str, Any]], like: dict[str, Any]) -> float:
    mine = [r["idle"] for r in rows if r["planner"] == OURS and r["world"] == like["world"]]
    return float(mine[0])


def main() -> None:
    """Run it and print the table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(REPORT_SEEDS))
    parser.add_argument("--worlds", nargs="+", choices=list(GENERATORS), default=list(GENERATORS))
    parser.add_argument("--weeks", type=int, default=5, help="the last one is measured")
    parser.add_argument("--steps", type=int, default=6, help="turns of the others' knobs; 0: none")
    parser.add_argument("--patience", type=float, default=Settings().patience)
    parser.add_argument("--plot", metavar="FILE", help="also draw it as SVG")
    parser.add_argument("--json", metavar="FILE", help="also write the results there")
    arguments = parser.parse_args()
    settings = Settings(patience=arguments.patience)
    began = time.process_time()
    runs: list[Run] = []
    for name in arguments.worlds:
        for seed in arguments.seeds:
            world = GENERATORS[name](seed, arguments.weeks)
            runs += compare(world, seed, settings, names=RIVALS, steps=arguments.steps)
            print(f"{name} {seed}: {time.process_time() - began:.0f} s", file=sys.stderr)
    rows = summary(runs)
    table("Planners in simulated weeks", list(COLUMNS), [list(cells(row)) for row in rows])
    print("\n" + markdown(rows))
    if arguments.plot:
        Path(arguments.plot).write_text(plot(rows), encoding="utf-8")
    write("pool", {"seeds": arguments.seeds, "rows": rows}, arguments.json)


if __name__ == "__main__":
    main()
