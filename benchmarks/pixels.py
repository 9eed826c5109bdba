"""``python -m benchmarks.pixels``: from a change in the local cluster to pixels in the panel.

A real JupyterLab in a real Chromium, with the panel open. A kernel is renamed over REST, through
the page's own server or through another one on the same cluster; measured is the time from before
the request until the frame that shows the new name is drawn, the request included. Then 500
kernels are listed (50 of them drawn, or all). "All" adds up the script, style and layout that one
such change leads to: its event, the readings that follow, and each update of what is drawn. The
"longest task" is the longest that the page was busy without a break meanwhile, traced, which costs
something itself. "Nothing" is what the page does by itself in the same time. The size of the
bundle is that of the files in ``labextension``, gzipped.

Needs what ``make test-ui`` installs.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from .stats import figures, table, write

ROOT = Path(__file__).parents[1]
STATIC = ROOT / "jupyter_elastic" / "labextension" / "static"


def main() -> int:
    """Measure and print; 1 when the browser could not be driven."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pixels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=40, help="default: %(default)s")
    parser.add_argument("--json", help="also write the results there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="elastic-pixels-") as folder:
        found = measured(Path(folder) / "found.json", options.runs)
    if found is None:
        return 1
    series = {name: figures(values) for name, values in found.items()}
    table(
        "Milliseconds: from the request to the frame; of 500 kernels, the work of one change",
        ["series", "n", "p50", "p95", "max"],
        [[name, int(f["n"]), f["median"], f["p95"], f["max"]] for name, f in series.items()],
    )
    sizes = bundle()
    table(
        "JavaScript, bytes gzipped",
        ["file", "size", "loaded"],
        [[name, size, "at once" if first else "when needed"] for name, size, first in sizes],
    )
    bundled = [{"file": name, "gzip": size, "at_once": first} for name, size, first in sizes]
    write("pixels", {"milliseconds": series, "bundle": bundled}, options.json)
    return 0


def measured(out: Path, runs: int) -> dict[str, list[float]] | None:
    """Let Playwright measure; None, after its own words, when it fails."""
    bin_ = Path(sys.executable).parent
    done = subprocess.run(
        ["node_modules/.bin/playwright", "test", "--config=playwright.bench.config.ts"],
        cwd=ROOT / "ui-tests",
        env={
            **os.environ,
            "PATH": f"{bin_}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "ELASTIC_BENCH_OUT": str(out),
            "ELASTIC_BENCH_RUNS": str(runs),
        },
        check=False,
    )
    if done.returncode:
        return None
    found: dict[str, list[float]] = json.loads(out.read_text())
    return found


def bundle() -> list[tuple[str, int, bool]]:
    """Our scripts: name without its hash, bytes gzipped, whether Lab loads it when it starts."""
    rows = []
    for file in sorted(STATIC.glob("*.js")):
        name = re.sub(r"\.[0-9a-f]{8,}(?=\.js$)", "", file.name)
        size = len(gzip.compress(file.read_bytes(), 9))
        rows.append((name, size, not name.startswith("lazy")))
    return rows


if __name__ == "__main__":
    sys.exit(main())
