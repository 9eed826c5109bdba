"""``python -m tests.server.runner PREFIX ENVIRONMENT COMMAND...``: activate, then exec."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    _, root, environment, *command = sys.argv
    os.environ["CONDA_PREFIX"] = environment
    os.environ["CONDA_ROOT"] = root
    os.execvp(command[0], command)
