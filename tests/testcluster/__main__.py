"""``python -m tests.testcluster build|up|down|status``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from . import build, cluster


def main() -> int:
    """Run one command; 1 with a sentence when it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m tests.testcluster", description=__doc__)
    parser.add_argument("command", choices=["build", "up", "down", "status"])
    parser.add_argument("--state", type=Path, default=cluster.STATE, help="default: %(default)s")
    options = parser.parse_args()
    chosen = cluster.Cluster(options.state)
    try:
        if options.command == "build":
            print(build.build())
        elif options.command == "up":
            chosen.up()
        elif options.command == "down":
            chosen.down()
        else:
            status = chosen.status()
            print(json.dumps(status, indent=1))
            return 0 if status["running"] else 1
    except (build.BuildFailed, cluster.UpFailed, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
