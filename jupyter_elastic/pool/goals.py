"""What the pool is to hold of a template, as the controller takes it. Pure.

Where a target comes from (a number of an admin, a prediction, what a guard leaves of either) is not
its business: a goal comes with a reason that people can read, and holds at once.
"""

from __future__ import annotations

import msgspec


class Goal(msgspec.Struct, frozen=True):
    """How many warm pods of a template are wanted, and why."""

    size: int | None
    """None: make none, and leave those there are."""
    reason: str
