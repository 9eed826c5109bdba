"""The folder that ``HOME`` names."""

from __future__ import annotations

import os
from typing import Mapping


def make_home(env: Mapping[str, str]) -> str:
    """Make the folder that ``HOME`` names where there is none. Returns why not, or nothing.

    On a fresh volume nobody else would, and much of Python writes below it.
    """
    home = env.get("HOME") or ""
    if not os.path.isabs(home) or os.path.isdir(home):
        return ""
    try:
        os.makedirs(home, exist_ok=True)
    except OSError as error:
        return f"HOME is {home}, which is no directory and cannot be made ({error.strerror})."
    return ""
