"""Starts to simulate with: made up from a seed, or read from files. Pure; files come as lines.

The generators are not fitted to anybody's figures. Each stands for a way of working that stresses a
planner differently, and every start that they give is counted.
"""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone

import msgspec

from ..errors import BadRequest

DAY, HOUR, MINUTE = 86400.0, 3600.0, 60.0
WEEK = 7 * DAY
MONDAY = 4 * DAY
"""A Monday, 0:00."""


class Start(msgspec.Struct, frozen=True):
    """Somebody starts a kernel of a template."""

    time: float
    template: str
    lasts: float
    """Seconds for which the kernel runs."""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A template in a simulation."""

    name: str
    warm: Mapping[str, int]
    """What a warm pod takes of the quota."""
    kernel: Mapping[str, int]
    """What a pod with a kernel takes."""
    refill: float = 40.0
    """Median seconds until a pod is warm; a cold start takes as long."""


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What is simulated: templates, a quota, starts in order of time."""

    name: str
    kinds: tuple[Kind, ...]
    quota: Mapping[str, int]
    starts: tuple[Start, ...]
    begin: float
    """Before it planners only learn."""
    end: float


def kind(name: str, *, cpu: int, memory: int, gpu: int = 0, refill: float = 40.0) -> Kind:
    """A template of so many cores, GiB and GPUs; a warm pod takes a tenth of a core, 128 MiB."""
    gpus = {"gpu": gpu} if gpu else {}
    return Kind(
        name=name,
        warm={"pods": 1, "cpu": 100, "memory": 128, **gpus},
        kernel={"pods": 1, "cpu": cpu * 1000, "memory": memory * 1024, **gpus},
        refill=refill,
    )


KINDS = (
    kind("python", cpu=1, memory=2),
    kind("pandas", cpu=1, memory=4),
    kind("r", cpu=1, memory=4),
    kind("large", cpu=4, memory=16),
    kind("torch", cpu=4, memory=16, gpu=1, refill=70.0),
    kind("julia", cpu=2, memory=4),
    kind("spark", cpu=2, memory=8, refill=60.0),
    kind("legacy", cpu=1, memory=2),
)
"""Eight templates, the most popular first."""


def _quota(pods: int, gpus: int) -> dict[str, int]:
    return {"pods": pods, "cpu": pods * 2000, "memory": pods * 6 * 1024, "gpu": gpus}


def _weights(count: int) -> list[float]:
    return [1 / (rank + 1) for rank in range(count)]


def _lasting(rng: random.Random, median: float) -> float:
    return min(12 * HOUR, rng.lognormvariate(math.log(median), 0.9))


def _daytime(hour: float) -> float:
    """How busy an office is: two humps and a lunch, next to nothing at night."""
    morning = math.exp(-(((hour - 10.0) / 1.6) ** 2))
    afternoon = 0.85 * math.exp(-(((hour - 14.8) / 2.0) ** 2))
    return 0.01 + morning + afternoon


_HOURS = tuple(_daytime((slot + 0.5) / 4) for slot in range(96))


def _office(
    rng: random.Random, weeks: int, a_day: float, *, weekend: float = 0.1, again: float = 0.2
) -> Iterator[Start]:
    """Independent users on a daily curve; some days are busier, some starts are soon repeated."""
    names, weights = [one.name for one in KINDS], _weights(len(KINDS))
    total = sum(_HOURS)
    first = a_day / (1 + again)
    for day in range(7 * weeks):
        busy = rng.lognormvariate(0, 0.15) * (weekend if day % 7 >= 5 else 1.0)
        for slot, height in enumerate(_HOURS):
            mean = first * busy * height / total
            for _ in range(_poisson(rng, mean)):
                time = MONDAY + day * DAY + (slot + rng.random()) * 900
                name = rng.choices(names, weights)[0]
                yield Start(time, name, _lasting(rng, 40 * MINUTE))
                if rng.random() < again:
                    soon = time + rng.uniform(20, 600)
                    yield Start(soon, name, _lasting(rng, 40 * MINUTE))


def _poisson(rng: random.Random, mean: float) -> int:
    limit, count, product = math.exp(-mean), 0, rng.random()
    while product > limit:
        product *= rng.random()
        count += 1
    return count


def office(seed: int, weeks: int = 5) -> World:
    """An office: some 950 starts on a working day."""
    rng = random.Random(f"office-{seed}")
    return _world("office", _office(rng, weeks, 950), _quota(400, 24), weeks)


def classes(seed: int, weeks: int = 5) -> World:
    """A university: a timetable of twelve classes a week, over some 250 other starts a day.

    A class starts within minutes, of one template, with those of its 15 to 45 students who come;
    one class in twenty is cancelled.
    """
    rng = random.Random(f"classes-{seed}")
    starts = list(_office(rng, weeks, 250))
    for _ in range(12):
        day, hour = rng.randrange(5), rng.choice([8.25, 9.0, 10.25, 11.0, 13.0, 14.25, 16.0])
        name = rng.choice(KINDS[:4]).name
        students = rng.randint(15, 45)
        for week in range(weeks):
            if rng.random() < 0.05:
                continue
            begins = MONDAY + week * WEEK + day * DAY + hour * HOUR
            for _ in range(students):
                if rng.random() < 0.85:
                    time = begins + rng.gauss(60, 120)
                    starts.append(Start(time, name, 75 * MINUTE + rng.uniform(0, 900)))
    return _world("classes", starts, _quota(400, 24), weeks)


def hackathon(seed: int, weeks: int = 5) -> World:
    """A company whose last week has two days of hackathon, which nothing announces.

    Three kick-offs of up to 60 starts within minutes, and some 50 an hour between them.
    """
    rng = random.Random(f"hackathon-{seed}")
    starts = list(_office(rng, weeks, 300))
    opens = MONDAY + (weeks - 1) * WEEK + rng.choice([1, 2, 3]) * DAY + 9 * HOUR
    names, weights = [one.name for one in KINDS[:5]], [3, 5, 1, 2, 2]
    for day in range(2):
        for _ in range(_poisson(rng, 50 * 10)):
            time = opens + day * DAY + rng.uniform(0, 10 * HOUR)
            starts.append(Start(time, rng.choices(names, weights)[0], _lasting(rng, HOUR)))
    for begins in (opens, opens + 5 * HOUR, opens + DAY):
        for _ in range(rng.randint(30, 60)):
            time = begins + rng.expovariate(1 / 240)
            starts.append(Start(time, rng.choices(names, weights)[0], _lasting(rng, HOUR)))
    return _world("hackathon", starts, _quota(400, 24), weeks)


def lab(seed: int, weeks: int = 5) -> World:
    """A small lab: some 40 starts a day, and a quota of 60 pods."""
    rng = random.Random(f"lab-{seed}")
    return _world("lab", _office(rng, weeks, 40, weekend=0.3), _quota(60, 4), weeks)


def _world(name: str, starts: Iterable[Start], quota: Mapping[str, int], weeks: int) -> World:
    end = MONDAY + weeks * WEEK
    begin = end - WEEK
    inside = sorted(
        (one for one in starts if MONDAY <= one.time < end),
        key=lambda one: (one.time, one.template),
    )
    return World(
        name=name, kinds=KINDS, quota=quota, starts=tuple(inside), begin=begin, end=end
    )  # fmt: skip


GENERATORS: Mapping[str, Callable[..., World]] = {
    "office": office,
    "classes": classes,
    "hackathon": hackathon,
    "lab": lab,
}


# -- from files ----------------------------------------------------------------------------


def read_csv(lines: Iterable[str], *, lasts: float = HOUR) -> list[Start]:
    """Starts from ``time,template[,owner][,seconds]`` with a header line.

    Times are seconds since the epoch or ISO 8601 (UTC where they name no zone); ``seconds`` is
    how long the kernel ran, ``lasts`` where it is not given. Other columns are ignored.

    Raises
    ------
    BadRequest
        A line cannot be used; it is named.
    """
    rows = csv.DictReader(lines)
    if not {"time", "template"} <= set(rows.fieldnames or ()):
        raise BadRequest(
            "The trace has no columns time and template.",
            'Its first line must be "time,template", with what else there is behind it.',
        )
    starts = []
    for number, row in enumerate(rows, 2):
        name, seconds = (row["template"] or "").strip(), (row.get("seconds") or "").strip()
        try:
            if not name:
                raise ValueError("there is no template")
            length = _positive(seconds) if seconds else lasts
            starts.append(Start(_time(row["time"] or ""), name, length))
        except ValueError as error:
            what = f"Line {number} of the trace cannot be used: {error}."
            raise BadRequest(what, "Correct it or leave it out.") from error
    return _ordered(starts)


def read_events(lines: Iterable[str], *, lasts: float = HOUR) -> list[Start]:
    """Starts from daily files of the events archive that the public binder federation publishes.

    One JSON object in each line, with ``timestamp``, ``provider`` and ``spec``; a repository
    without its branch is what a template is here. Launches that failed are left out.

    Raises
    ------
    BadRequest
        A line cannot be used; it is named.
    """
    starts = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
            if event.get("status", "success") != "success":
                continue
            name = f"{event['provider']}/{_repository(event['provider'], event['spec'])}"
            starts.append(Start(_time(str(event["timestamp"])), name, lasts))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"Line {number} of the events cannot be used: {type(error).__name__} {error}."
            raise BadRequest(what, "Give the archive's files as they are.") from error
    return _ordered(starts)


def _repository(provider: str, spec: str) -> str:
    """``owner/name`` of ``owner/name/branch``; other providers' specs as they are."""
    parts = spec.split("/")
    return "/".join(parts[:2]) if provider in ("GitHub", "Gist") and len(parts) > 2 else spec


def _time(text: str) -> float:
    text = text.strip()
    try:
        value = float(text)
    except ValueError:
        # Before Python 3.11 the final Z is not understood.
        found = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
        if found.tzinfo is None:
            found = found.replace(tzinfo=timezone.utc)
        return found.timestamp()
    if not 0 <= value < 1e11:
        raise ValueError(f"{text} is no time in seconds since 1970")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise ValueError(f"{text} is no number of seconds")
    return value


def _ordered(starts: list[Start]) -> list[Start]:
    if not starts:
        raise BadRequest("There are no starts in it.", "Give a trace with some.")
    return sorted(starts, key=lambda one: (one.time, one.template))


def world_of(
    starts: list[Start],
    *,
    name: str,
    pods: int,
    refill: float = 40.0,
    learn: float | None = None,
) -> World:
    """A simulation of read starts; planners learn from the first part of them.

    Parameters
    ----------
    pods
        The quota, in pods: a trace does not say what else kernels took.
    refill
        Median seconds until a pod is warm.
    learn
        Seconds of the trace that are only learnt from; None: the first half, four weeks at most.
    """
    first, last = starts[0].time, starts[-1].time
    span = last - first
    names = sorted({one.template for one in starts})
    one_pod = {"pods": 1}
    kinds = tuple(Kind(name=one, warm=one_pod, kernel=one_pod, refill=refill) for one in names)
    begin = first + (min(span / 2, 4 * WEEK) if learn is None else min(learn, span))
    return World(
        name=name,
        kinds=kinds,
        quota={"pods": pods},
        starts=tuple(starts),
        begin=begin,
        end=last + HOUR,
    )
