"""``jupyter elastic simulate``: what the pool would have done on starts of the past.

It needs no cluster and no server. The planner is the one that keeps the pool.
"""

from __future__ import annotations

import argparse
import glob
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadRequest
from ..pool import traces
from ..pool.compare import COLUMNS, RIVALS, cells, compare, summary
from ..pool.plot import plot
from ..pool.targets import Settings
from .context import Context, RequiresNoService

if TYPE_CHECKING:
    from .context import Subparsers

_DEFAULTS = Settings()


def add_commands(commands: Subparsers, common: argparse.ArgumentParser) -> None:
    """Add ``simulate``."""
    command = commands.add_parser(
        "simulate",
        parents=[common],
        help="what the pool would have done on a trace of starts, beside other planners",
    )
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--trace", metavar="FILE", help="CSV with the columns time,template[,owner][,seconds]"
    )
    source.add_argument(
        "--events",
        metavar="FILE",
        help="events of the public binder archive, JSON lines, also .gz; a pattern takes many",
    )
    source.add_argument("--made-up", choices=list(traces.GENERATORS), help="a generated trace")
    command.add_argument("--seed", type=int, default=1, help="of what is random (default: 1)")
    command.add_argument(
        "--quota-pods", type=int, default=400, help="the namespace's quota in pods (default: 400)"
    )
    command.add_argument(
        "--refill", type=float, default=40.0, help="median seconds until a pod is warm"
    )
    command.add_argument(
        "--learn-days", type=float, help="days only learnt from (default: half, 28 at most)"
    )
    command.add_argument(
        "--share", type=float, default=_DEFAULTS.share, help="part of the quota for warm pods"
    )
    command.add_argument(
        "--ceiling",
        type=float,
        default=_DEFAULTS.ceiling,
        help="part of the quota under which all pods together stay",
    )
    command.add_argument(
        "--patience",
        type=float,
        default=_DEFAULTS.patience,
        help="seconds within which a warm pod must be likely to be needed",
    )
    command.add_argument(
        "--equal-idle",
        action="store_true",
        help="also turn the other planners' knobs until they are as idle as ours",
    )
    command.add_argument("--plot", metavar="FILE", help="also draw it as SVG")
    command.set_defaults(run=RequiresNoService(run), wrong_usage=_wrong_usage)


def _wrong_usage(arguments: argparse.Namespace) -> str:
    if not 0 < arguments.share <= 1 or not 0 < arguments.ceiling <= 1:
        return "--share and --ceiling are parts of the quota, above 0 and up to 1"
    if arguments.quota_pods < 1 or not 0 < arguments.refill < 3600:
        return "--quota-pods must be at least 1, --refill between 0 and 3600 seconds"
    if not 60 <= arguments.patience <= 1e7:
        return "--patience must be between 60 and 10,000,000 seconds"
    return ""


async def run(context: Context) -> int:
    """Simulate, and show a row for each planner."""
    arguments = context.arguments
    settings = Settings(
        share=arguments.share, ceiling=arguments.ceiling, patience=arguments.patience
    )
    world = _world(arguments)
    runs = compare(
        world, arguments.seed, settings, names=RIVALS, steps=6 if arguments.equal_idle else 0
    )
    rows = [row for row in summary(runs) if row["world"] != "pooled"]
    if arguments.plot:
        try:
            Path(arguments.plot).write_text(plot(rows), encoding="utf-8")
        except OSError as error:
            what = f"{arguments.plot} could not be written: {error.strerror}."
            raise BadRequest(what, "Name a file that can be.") from error
    if context.json:
        context.show_json(rows)
    else:
        context.show_table(COLUMNS, [cells(row) for row in rows])
        days = (world.end - world.begin) / 86400
        context.say(f"{rows[0]['starts']} starts in {days:.1f} days, after what was learnt from.")
    return 0


def _world(arguments: argparse.Namespace) -> traces.World:
    if arguments.made_up:
        return traces.GENERATORS[arguments.made_up](arguments.seed)
    if arguments.trace:
        starts = traces.read_csv(_lines(arguments.trace))
    else:
        starts = traces.read_events(_lines(arguments.events))
    return traces.world_of(
        starts,
        name="trace",
        pods=arguments.quota_pods,
        refill=arguments.refill,
        learn=None if arguments.learn_days is None else arguments.learn_days * 86400,
    )


def _lines(pattern: str) -> Iterator[str]:
    """Lines of a file, or of all that a pattern matches."""
    for name in sorted(glob.glob(pattern)) or [pattern]:
        try:
            if name.endswith(".gz"):
                with gzip.open(name, "rt", encoding="utf-8") as packed:
                    yield from packed
            else:
                with open(name, encoding="utf-8-sig") as plain:
                    yield from plain
        except (OSError, UnicodeDecodeError) as error:
            what = f"{name} cannot be read: {error}."
            raise BadRequest(what, "Name a text file of this form.") from error
