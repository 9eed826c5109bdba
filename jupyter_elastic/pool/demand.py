"""What is known about the starts of one template: the shape of its weeks, recent rates, refills.

No clock and no IO: times come in as seconds since the epoch, and the same calls leave the same
state. What is kept is small (some 8 KB in memory, a few as JSON) and fades: the last
:data:`WEEKS` weeks, in quarters of an hour. Of each quarter two counts are kept: the starts, and
how many came within one refill time, which is what a pool must hold to serve them all.
"""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

from .chance import MOST, again, tail

SLOT = 900.0
"""Seconds of one slot of the week."""
SLOTS = 672
"""Slots of a week, from Monday 0:00."""
WEEKS = 5
"""Weeks that are remembered, the running one not counted."""
FADE = 0.8
"""What a week weighs against the one after it."""
DOUBT = 2.0
"""Weeks without a start that are added to those seen: once is not yet a habit."""
SLOW, FAST = 900.0, 90.0
"""Seconds over which the two recent rates are averaged."""
REFILL = 45.0
"""Seconds until a new pod is warm, as long as none was seen."""
_REFILLS = 32
_DAY_SLOTS = 96
_MONDAY = 3 * 86400.0  # the epoch was a Thursday
_WEEK = SLOT * SLOTS
_UNSEEN = 255
_PRIOR_DISPERSION, _PRIOR_MASS = 2.0, 5.0
_HALVES = ((1, 1_000_000), (3, 2), (8, 1))
"""Slots to both sides over which means are taken, and what one of them counts at most there: else
a class would cast its shadow over the hours around it. Wider and wider, until ..."""
_ENOUGH = 8.0
"""... so many starts are among them."""
_LIKE = 0.3
"""What other working days (or the other day of the weekend) weigh against the same day."""
_KEEP_SCATTER = 0.9995  # per slot: what was seen three weeks ago weighs a third
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _decoded(code: int) -> int:
    return code if code < 128 else round(128 * 2 ** ((code - 128) / 16))


_COUNTS = tuple(_decoded(code) for code in range(_UNSEEN))
"""Counts as one byte: exact below 128, then within 3 %, up to 30,000."""


def _coded(count: int) -> int:
    if count < 128:
        return max(0, count)
    return min(_UNSEEN - 1, 128 + round(16 * math.log2(count / 128)))


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What to expect while one refill lasts. Lists hold the chance that the n-th pod is needed."""

    refill: float
    """Seconds until a pod is warm; nine of ten pods take no longer."""
    expected: float
    """Starts within that time: the most of what the weeks and the last quarter of an hour say."""
    dispersion: float
    weeks: int
    """Weeks in which this time of the week was seen."""
    when: str
    """This time of the week in words, such as ``Monday 9:00``."""
    burst_mean: float
    """Starts within that time by the last minute and a half alone."""
    busiest: int
    """Most starts within one refill time, at this time of the week."""
    usual: tuple[float, ...] = ()
    """By the average of the weeks."""
    peaks: tuple[float, ...] = ()
    """By what came at once at this time of earlier weeks."""
    recent: tuple[float, ...] = ()
    """By the last quarter of an hour."""
    burst: tuple[float, ...] = ()
    """By the last minute and a half, when that is out of the ordinary."""
    age: float = 0.0
    """Seconds since the template is watched."""
    starts: int = 0
    """All starts ever seen."""


class _Week:
    __slots__ = ("counts", "peaks")

    def __init__(self, counts: bytes | None = None, peaks: bytes | None = None) -> None:
        self.counts = bytearray(counts or bytes([_UNSEEN]) * SLOTS)
        self.peaks = bytearray(peaks or bytes(SLOTS))


class Demand:
    """The demand for one template.

    Call :meth:`observe` for every start, :meth:`refilled` for every pod that became warm, and
    :meth:`advance` now and then (a slot that passed without a call counts as quiet). Time that
    was not watched is skipped with :meth:`resume`. Clocks may jump: backwards by less than an hour
    counts as no time at all, by more as a corrected clock, forwards by weeks as time not watched.

    Parameters
    ----------
    born
        Since when starts are watched.
    offset
        Seconds to add to UTC for the time of day by which people live.
    """

    def __init__(self, born: float, *, offset: float = 0.0) -> None:
        self.born = self.last = _finite(born)
        self.offset = _finite(offset)
        self.hits = self.misses = 0
        self._slow = self._fast = 0.0
        self._refills: deque[float] = deque(maxlen=_REFILLS)
        self._refill = REFILL
        self._arrivals: deque[float] = deque(maxlen=MOST)
        self._weeks: dict[int, _Week] = {}
        self._count = self._peak = 0
        self._window, self._in_window, self._squares = 0, 0, 0.0
        self._scatter = self._mass = 0.0
        self._means: dict[int, float] = {}
        self._lists: dict[tuple[int, float], tuple[tuple[float, ...], tuple[float, ...]]] = {}

    # -- what happens ----------------------------------------------------------------------

    def observe(self, now: float, hit: bool) -> None:
        """A start came at ``now``, and found a warm pod or did not."""
        self.advance(now)
        now = self.last
        if hit:
            self.hits += 1
        else:
            self.misses += 1
        self._slow += 1 / SLOW
        self._fast += 1 / FAST
        self._arrivals.append(now)
        while self._arrivals[0] < now - self._refill:
            self._arrivals.popleft()
        self._count += 1
        self._peak = max(self._peak, len(self._arrivals))
        window = int(now // self._refill)
        if window != self._window:
            self._squares += self._in_window**2
            self._window, self._in_window = window, 0
        self._in_window += 1

    def refilled(self, seconds: float) -> None:
        """A pod became warm ``seconds`` after it was asked for."""
        if math.isfinite(seconds) and seconds >= 0:
            # Rounded up as it is kept, so that the next controller comes to the same targets.
            self._refills.append(math.ceil(10 * min(max(seconds, 1.0), 1800.0)) / 10)
            ordered = sorted(self._refills)
            # Rounded, so that a forecast need not be made anew for every pod.
            self._refill = float(math.ceil(ordered[int(0.9 * (len(ordered) - 1) + 0.5)]))

    def advance(self, now: float) -> None:
        """Note that time has passed, and that nobody started anything since the last call."""
        now = _finite(now, self.last)
        passed = now - self.last
        if passed <= 0:
            if passed < -3600:
                self._turn_back(now)
            return
        if passed > 2 * _WEEK:
            self.resume(now)
            return
        self._slow *= math.exp(-passed / SLOW)
        self._fast *= math.exp(-passed / FAST)
        slot, then = self._slot(self.last), self._slot(now)
        self.last = now
        if then > slot:
            self._close(slot)
            for quiet in range(slot + 1, then):
                self._close(quiet)

    def resume(self, now: float) -> None:
        """Go on at ``now``; what happened since the last call is not known."""
        passed = max(0.0, _finite(now, self.last) - self.last)
        self._slow *= math.exp(-passed / SLOW)
        self._fast *= math.exp(-passed / FAST)
        now = max(self.last, _finite(now, self.last))
        if self._slot(now) > self._slot(self.last):
            self._close(self._slot(self.last))  # what was seen of it is better than nothing
        self._arrivals.clear()
        self.last = now
        self._forget()

    def _turn_back(self, now: float) -> None:
        self.last = now
        self.born = min(self.born, now)
        self._arrivals.clear()
        self._begin_slot()
        self._forget()

    def _close(self, slot: int) -> None:
        """A slot is over: remember it, and how far it was from what was expected."""
        number, index = divmod(slot, SLOTS)
        squares = self._squares + self._in_window**2
        windows = SLOT / self._refill
        usual = self._mean(index, number) * self._refill / SLOT
        mean = max(usual, (usual + self._count / windows) / 2)
        off = squares - 2 * mean * self._count + windows * mean * mean
        self._scatter = self._scatter * _KEEP_SCATTER + max(0.0, off)
        self._mass = self._mass * _KEEP_SCATTER + windows * mean
        week = self._weeks.get(number)
        if week is None:
            week = self._weeks[number] = _Week()
            self._forget()
        week.counts[index] = _coded(self._count)
        week.peaks[index] = _coded(self._peak)
        self._begin_slot()
        self._means.clear()
        self._lists.clear()

    def _begin_slot(self) -> None:
        self._count = self._peak = 0
        self._window, self._in_window, self._squares = 0, 0, 0.0

    def _forget(self) -> None:
        """Drop weeks that are too old, or that lie ahead since the clock was set back."""
        number = self._slot(self.last) // SLOTS
        self._weeks = {n: w for n, w in self._weeks.items() if number - WEEKS <= n <= number}
        self._means.clear()
        self._lists.clear()

    def _slot(self, time: float) -> int:
        return int((time + self.offset + _MONDAY) // SLOT)

    # -- what to expect --------------------------------------------------------------------

    @property
    def refill(self) -> float:
        """Seconds until a new pod is warm; nine of ten were not slower."""
        return self._refill

    @property
    def last_start(self) -> float:
        """When it was last started; before that, since when it is watched."""
        return self._arrivals[-1] if self._arrivals else self.born

    @property
    def dispersion(self) -> float:
        """Variance by mean of the starts within one refill time, around what was expected."""
        found = (self._scatter + _PRIOR_DISPERSION * _PRIOR_MASS) / (self._mass + _PRIOR_MASS)
        return round(min(6.0, max(1.05, found)), 2)

    def forecast(self, now: float, least: float, *, ahead: float = 30.0) -> Forecast:
        """What to expect while one refill lasts, from ``now`` on. Changes nothing.

        Parameters
        ----------
        least
            Chance under which a pod is not worth mentioning: where the lists end.
        ahead
            Seconds to look further than one refill: until somebody asks again.
        """
        now = max(_finite(now, self.last), self.last)
        passed = now - self.last
        refill, dispersion = self._refill, self.dispersion
        slot, then = self._slot(now), self._slot(now + refill + ahead)
        usual, peaks = self._by_weeks(slot, least)
        mean, leading = self._mean(slot % SLOTS, slot // SLOTS), slot
        if then != slot:
            later, later_peaks = self._by_weeks(then, least)
            if max(len(later), len(later_peaks)) > max(len(usual), len(peaks)):
                leading = then
            usual, peaks = max(usual, later, key=len), max(peaks, later_peaks, key=len)
            mean = max(mean, self._mean(then % SLOTS, then // SLOTS))
        mean *= refill / SLOT
        slow = self._slow * math.exp(-passed / SLOW) * refill
        fast = self._fast * math.exp(-passed / FAST) * refill
        recent = (mean + slow) / 2
        expected = max(mean, recent)
        unusual = fast > expected + 2 * math.sqrt(dispersion * expected) and fast * FAST > refill
        seen = [week for _, week in self._seen(leading)]
        index = leading % SLOTS
        return Forecast(
            refill=refill,
            expected=expected,
            dispersion=dispersion,
            weeks=len(seen),
            burst_mean=fast,
            when=_words(index),
            busiest=max((_COUNTS[week.peaks[index]] for week in seen), default=0),
            usual=usual,
            peaks=peaks,
            recent=tuple(tail(recent, dispersion, least)) if slow > mean else (),
            burst=tuple(tail(fast, dispersion, least)) if unusual else (),
            age=max(0.0, now - self.born),
            starts=self.hits + self.misses,
        )

    def _seen(self, slot: int) -> Iterator[tuple[float, _Week]]:
        """Weeks that saw this slot, with what they weigh."""
        number, index = divmod(slot, SLOTS)
        for other, week in self._weeks.items():
            if other < number and week.counts[index] != _UNSEEN:
                yield FADE ** (number - other - 1), week

    def _mean(self, index: int, number: int) -> float:
        """Starts expected in a slot: of this time of the week, leaning on like days.

        The fewer starts there are, the further to both sides it looks: what is rare has no shape
        by quarters of an hour, only chance.
        """
        found = self._means.get(index)
        if found is None:
            day, time = divmod(index, _DAY_SLOTS)
            like = [d * _DAY_SLOTS + time for d in (range(5) if day < 5 else range(5, 7))]
            for half, most in _HALVES:
                total, weight = self._total(index, number, half, most)
                for other in like:
                    if other != index:
                        more, more_weight = self._total(other, number + 1, half, most)
                        total += _LIKE * more
                        weight += _LIKE * more_weight
                if total >= _ENOUGH:
                    break
            found = self._means[index] = total / weight if weight else 0.0
        return found

    def _total(self, index: int, number: int, half: int, most: int) -> tuple[float, float]:
        """Starts in a slot and ``half`` to both sides, over weeks before ``number``, and slots.

        No slot counts for more than ``most``.
        """
        total = weight = 0.0
        first, last = index - half, index + half + 1
        for other, week in self._weeks.items():
            if other < number:
                fade = FADE ** (number - other - 1)
                if first < 0 or last > SLOTS:
                    codes = bytes(week.counts[near % SLOTS] for near in range(first, last))
                else:
                    codes = bytes(week.counts[first:last])
                seen = len(codes) - codes.count(_UNSEEN)
                weight += seen * fade
                if seen and codes.count(0) < seen:
                    total += fade * sum(min(most, _COUNTS[c]) for c in codes if c != _UNSEEN)
        return total, weight

    def _by_weeks(self, slot: int, least: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Chances by the weeks' average, and by their peaks at this time."""
        key = (slot, least)
        found = self._lists.get(key)
        if found is None:
            index = slot % SLOTS
            refill = self._refill
            mean = self._mean(index, slot // SLOTS) * refill / SLOT
            usual = tuple(tail(mean, self.dispersion, least))
            seen = [(weight, _COUNTS[week.peaks[index]]) for weight, week in self._seen(slot)]
            found = usual, tuple(_peak_chances(seen, min(1.0, refill / SLOT), least))
            self._lists[key] = found
        return found

    # -- kept over restarts ----------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON, some KB at most."""
        return {
            "version": 1,
            "born": round(self.born, 3),
            "last": self.last,
            "starts": [self.hits, self.misses],
            "rates": [self._slow, self._fast],
            "refills": list(self._refills),
            "scatter": [self._scatter, self._mass],
            "slot": [self._count, self._peak],
            "weeks": {
                str(number): _packed(bytes(week.counts + week.peaks))
                for number, week in sorted(self._weeks.items())
            },
        }

    @classmethod
    def from_json(cls, data: object, *, now: float, offset: float = 0.0) -> Demand:
        """What :meth:`to_json` gave; parts that cannot be read are left out.

        The state is a help and not a record: one that is damaged must not stop the pool.
        """
        fields = data if isinstance(data, dict) and data.get("version") == 1 else {}
        demand = cls(_number(fields.get("born"), now), offset=offset)
        demand.last = max(demand.born, _number(fields.get("last"), now))
        demand.hits, demand.misses = (int(n) for n in _numbers(fields.get("starts"), 2))
        demand._slow, demand._fast = _numbers(fields.get("rates"), 2)
        for seconds in _numbers(fields.get("refills"), None):
            demand.refilled(seconds)
        demand._scatter, demand._mass = _numbers(fields.get("scatter"), 2)
        demand._count, demand._peak = (int(n) for n in _numbers(fields.get("slot"), 2))
        weeks = fields.get("weeks")
        for number, text in weeks.items() if isinstance(weeks, dict) else ():
            raw = _unpacked(text)
            if raw is not None and str(number).isdigit():
                demand._weeks[int(number)] = _Week(raw[:SLOTS], raw[SLOTS:])
        demand._forget()
        return demand


def _peak_chances(seen: list[tuple[float, int]], share: float, least: float) -> Iterator[float]:
    """The chance per refill time that the n-th pod is needed, by what earlier weeks saw at once.

    Whoever holds a pod through a slot in which it serves one start gets that start for as many
    refill times as the slot has: ``share`` is one refill time's part of a slot.
    """
    weight = sum(one for one, _ in seen) + DOUBT
    count = 1
    while count <= MOST:
        chance = share * sum(one * again(count, peak) for one, peak in seen) / weight
        if chance <= least:
            return
        yield chance
        count += 1


def _words(index: int) -> str:
    day, time = divmod(index, _DAY_SLOTS)
    return f"{_DAYS[day]} {time // 4}:{time % 4 * 15:02d}"


def _packed(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw, 9)).decode()


def _unpacked(text: object) -> bytes | None:
    try:
        raw = zlib.decompressobj().decompress(base64.b64decode(str(text)), 2 * SLOTS + 1)
    except (binascii.Error, ValueError, zlib.error):
        return None
    if len(raw) != 2 * SLOTS:
        return None
    return raw[:SLOTS] + raw[SLOTS:].replace(bytes([_UNSEEN]), b"\0")


def _finite(value: float, other: float = 0.0) -> float:
    return value if math.isfinite(value) else other


def _number(value: object, other: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return other
    return float(value) if abs(value) < 1e15 else other  # false for NaN


def _numbers(value: object, length: int | None) -> list[float]:
    """Numbers that are not negative; zeros for what is missing."""
    given = value if isinstance(value, list) else []
    found = [max(0.0, _number(one, 0.0)) for one in given]
    if length is None:
        return found
    return (found + [0.0] * length)[:length]
