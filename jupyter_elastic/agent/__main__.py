"""Entry point: ``python agent.pyz CONFIG.json`` (also ``python -m jupyter_elastic.agent``)."""

from __future__ import annotations

import sys


def main() -> int:
    """Run an agent, or (``--zygote FD CONFIG``, internal) the zygote of one."""
    if len(sys.argv) == 2 and not sys.argv[1].startswith("-"):
        from . import boot

        boot.thaw()
        return boot.run_agent(sys.argv[1])
    if len(sys.argv) == 4 and sys.argv[1] == "--zygote":
        from . import boot

        return boot.run_zygote(int(sys.argv[2]), sys.argv[3])
    sys.stderr.write("usage: python agent.pyz CONFIG.json\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
