"""``jupyter elastic pool``: the warm pods, and why there are as many as there are."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ..api.views import pool_view
from ..kernels.service import ElasticService
from ..model import PodPhase, PoolRow
from .context import Context

if TYPE_CHECKING:
    from .context import Subparsers


def add_commands(commands: Subparsers, common: argparse.ArgumentParser) -> None:
    """Add ``pool``."""
    pool = commands.add_parser("pool", parents=[common], help="the warm pods")
    pool.set_defaults(run=show)
    verbs = pool.add_subparsers(metavar="VERB")
    why = verbs.add_parser(
        "explain", parents=[common], help="why each target, what is waited for, what is paused"
    )
    why.add_argument("template", nargs="?", metavar="TEMPLATE", help="this one only")
    why.set_defaults(run=explain)


async def show(context: Context, service: ElasticService) -> int:
    """Show warm pods against targets, then the pods themselves."""
    data = pool_view(service, service.owner, await service.cluster.pool_report())
    if context.json:
        context.show_json(data)
        return 0
    header = ("TEMPLATE", "TARGET", "WARM", "WARMING", "CLAIMED", "MESSAGE")
    rows = [
        (row["template"], row["target"], row["warm"], row["warming"], row["claimed"],
         row.get("message", ""))
        for row in data["templates"]
    ]  # fmt: skip
    context.show_table(header, rows)
    if data["pods"]:
        print()
        pods = [
            (pod["name"], pod["template"], pod["phase"], pod["kernel_id"] or "-",
             "; ".join(pod["warnings"]) or pod["message"])
            for pod in data["pods"]
        ]  # fmt: skip
        context.show_table(("POD", "TEMPLATE", "PHASE", "KERNEL", "MESSAGE"), pods)
    return 0


async def explain(context: Context, service: ElasticService) -> int:
    """Show for each template what the controller last reported, beside what is there now."""
    wanted = context.arguments.template
    if wanted:
        service.template(wanted)  # raises what is told to who asks for one that is not offered
    report = {row.template: row for row in await service.cluster.pool_report()}
    now = time.time()
    entries = [
        _entry(service, name, report.get(name), now)
        for name in sorted(service.templates.all())
        if wanted in (None, name)
    ]
    if context.json:
        context.show_json({"templates": entries})
        return 0
    for entry in entries:
        for line in _lines(entry):
            context.say(line)
    return 0


def _entry(service: ElasticService, name: str, row: PoolRow | None, now: float) -> dict[str, Any]:
    """What is known of one template's pool, as JSON."""
    pods = [
        pod
        for pod in service.cluster.pods().values()
        if pod.template == name
        and pod.kernel_id is None
        and pod.phase in (PodPhase.WARM, PodPhase.WARMING)
    ]
    warming = [pod for pod in pods if pod.phase is PodPhase.WARMING]
    target = row.target if row else service.pool_targets().get(name, 0)
    return {
        "template": name,
        "target": target,
        "warm": len(pods) - len(warming),
        "warming": [
            {"pod": pod.name, "seconds": round(max(0.0, now - pod.created), 1)}
            for pod in sorted(warming, key=lambda pod: pod.created)
        ],
        "reason": row.reason if row else "",
        "message": row.message if row else "",
        "failures": row.failures if row else 0,
        "retry_at": row.retry_at if row and row.retry_at > now else None,
        "reported": row is not None,
    }


def _lines(entry: dict[str, Any]) -> Iterator[str]:
    yield f"{entry['template']}: {entry['warm']} warm, {entry['target']} wanted"
    if not entry["reported"]:
        yield "  No controller has told of it yet; is there a process that keeps the pool?"
    if entry["reason"]:
        yield f"  Why {entry['target']}: {entry['reason']}"
    for pod in entry["warming"]:
        yield f"  On its way: pod {pod['pod']}, for {pod['seconds']:.0f} s."
    if entry["message"]:
        yield f"  In the way: {entry['message']}"
    if entry["failures"]:
        yield f"  Failures one after the other: {entry['failures']}."
    if entry["retry_at"]:
        when = datetime.fromtimestamp(entry["retry_at"], timezone.utc).astimezone()
        yield f"  Tried again about {when:%H:%M:%S}, or as soon as there is room."
