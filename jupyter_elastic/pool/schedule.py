"""What admins know beforehand: "40 by Monday 9:00", for a class. Pure.

A schedule is a floor: prediction may want more, and the quota's guard alone may cut it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from ..errors import BadRequest
from .chance import MOST

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DAY = 86400.0
_UNITS = {"m": 60.0, "min": 60.0, "h": 3600.0}
_TEXT = re.compile(
    r"(?P<size>\d{1,4}) by (?P<days>[a-z]+(?:-[a-z]+|(?:,[a-z]+)+)?) "
    r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?: for (?P<hold>\d{1,4})(?P<unit>m|min|h))?",
    re.ASCII,
)
_REMEDY = (
    'Write it as "40 by Monday 9:00", "10 by Mon-Fri 8:30 for 2h" or "5 by daily 7:00 for 30m".'
)


class Floor(msgspec.Struct, frozen=True):
    """Pods that shall be warm at a time of some days of the week, and for how long they stay."""

    size: int
    days: tuple[int, ...]
    """0 is Monday."""
    at: float
    """Seconds after midnight."""
    hold: float = 1800.0
    """Seconds for which they are kept."""

    def words(self) -> str:
        """As an admin would say it."""
        names = ", ".join(_NAMES[day] for day in self.days)
        when = "every day" if len(self.days) == 7 else names
        return f"{self.size} by {when} {self.at // 3600:.0f}:{self.at % 3600 // 60:02.0f}"


def parse_floor(text: str) -> Floor:
    """``40 by Monday 9:00``, ``10 by Mon-Fri 8:30 for 2h``, ``5 by Sat,Sun 10:00 for 90m``.

    Without ``for`` they are kept for half an hour. At least the first three letters of a day are
    needed; ``daily`` means all of them.

    Raises
    ------
    BadRequest
        It cannot be read; the remedy shows how it is written.
    """
    match = _TEXT.fullmatch(" ".join(text.lower().split()))
    days = _days(match["days"]) if match else ()
    if match is None or not days:
        raise BadRequest(f'"{text[:60]}" is no entry of a schedule.', _REMEDY)
    size, hour, minute = int(match["size"]), int(match["hour"]), int(match["minute"])
    if not (hour < 24 and minute < 60 and size <= MOST):
        what = f'"{text[:60]}": hours go to 23, minutes to 59, pods to {MOST}.'
        raise BadRequest(what, _REMEDY)
    hold = int(match["hold"] or 30) * _UNITS[match["unit"] or "m"]
    return Floor(size, days, hour * 3600.0 + minute * 60.0, min(max(hold, 60.0), _DAY))


def _days(text: str) -> tuple[int, ...]:
    """Days of the week; empty when one of them is none."""
    if text == "daily":
        return tuple(range(7))
    first, dash, last = text.partition("-")
    if dash:
        start, end = _day(first), _day(last)
        if start is None or end is None:
            return ()
        return tuple(sorted((start + n) % 7 for n in range((end - start) % 7 + 1)))
    found = [_day(one) for one in text.split(",")]
    return tuple(sorted({day for day in found if day is not None})) if None not in found else ()


def _day(text: str) -> int | None:
    short = text[:3]
    if short not in _DAYS or not _NAMES[_DAYS.index(short)].lower().startswith(text):
        return None
    return _DAYS.index(short)


def floor_now(
    floors: Iterable[Floor], now: float, *, lead: float, offset: float = 0.0
) -> Floor | None:
    """The largest floor in force at ``now``; it is so from ``lead`` seconds before its time."""
    best: Floor | None = None
    local = now + offset + 3 * _DAY  # the epoch was a Thursday; this counts from a Monday
    for floor in floors:
        for day in floor.days:
            since = (local - day * _DAY - floor.at + lead) % (7 * _DAY)
            if since < floor.hold + lead and (best is None or floor.size > best.size):
                best = floor
    return best
