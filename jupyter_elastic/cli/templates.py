"""``jupyter elastic templates``: what may be started."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..api.views import template_list_view
from ..kernels.service import ElasticService
from .context import Context

if TYPE_CHECKING:
    from .context import Subparsers


def add_commands(commands: Subparsers, common: argparse.ArgumentParser) -> None:
    """Add ``templates``."""
    templates = commands.add_parser("templates", parents=[common], help="what may be started")
    templates.set_defaults(run=show)


async def show(context: Context, service: ElasticService) -> int:
    """List the templates; what is wrong with others is told on stderr."""
    data = template_list_view(service, "/")
    if context.json:
        context.show_json(data)
        return 0
    rows = [
        (
            template["name"],
            template["display_name"],
            _range(template["resources"]["cpu"]),
            _range(template["resources"]["memory"]),
            _gpu(template["resources"]["gpu"]),
            f"{template['warm']}/{template['target']}",
        )
        for template in data["templates"]
    ]
    context.show_table(("NAME", "DISPLAY NAME", "CPU", "MEMORY", "GPU", "WARM"), rows)
    for problem in service.templates.problems():
        context.complain(problem)
    return 0


def _range(offered: dict[str, Any]) -> str:
    low, default, high = offered["minimum"], offered["default"], offered["maximum"]
    if low == high:
        return str(low)
    span = " ".join(offered["choices"]) or f"{low}..{high}"
    return f"{span} ({default})"


def _gpu(offered: dict[str, Any]) -> str:
    if not offered["kinds"]:
        return "-"
    return f"0..{offered['maximum']} x {'|'.join(offered['kinds'])}"
