"""``jupyter elastic pool``: the warm pods."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..api.views import pool_view
from ..kernels.service import ElasticService
from .context import Context

if TYPE_CHECKING:
    from .context import Subparsers


def add_commands(commands: Subparsers, common: argparse.ArgumentParser) -> None:
    """Add ``pool``."""
    pool = commands.add_parser("pool", parents=[common], help="the warm pods")
    pool.set_defaults(run=show)


async def show(context: Context, service: ElasticService) -> int:
    """Show warm pods against targets, then the pods themselves."""
    data = pool_view(service, service.owner)
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
