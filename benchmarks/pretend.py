"""``python -m benchmarks.pretend``: ``jupyter elastic`` for pods that only pretend (kwok).

No agent runs in them, so one is said to have answered as soon as the pod has an address. All else,
and every request, is as it always is.
"""

from __future__ import annotations

import sys
from typing import Any

from jupyter_elastic.cli import main
from jupyter_elastic.cluster.kubernetes.births import Births
from jupyter_elastic.model import Pod
from jupyter_elastic.resources import MIB


async def _greet(self: Births, pod: Pod) -> dict[str, Any] | None:
    return {"phase": "warm", "overhead": 64 * MIB, "warnings": []}


if __name__ == "__main__":
    Births._greet = _greet  # type: ignore[method-assign]
    sys.exit(main())
