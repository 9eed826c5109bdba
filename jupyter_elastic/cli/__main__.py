"""``python -m jupyter_elastic.cli``."""

from __future__ import annotations

import sys

from . import main

sys.exit(main())
