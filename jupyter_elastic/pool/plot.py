"""Hit rate against idle pods, as SVG written by hand: nothing to install. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_COLORS = ("#1b6ac9", "#c4472b", "#d98c3a", "#5b8c3e", "#7a5aa6", "#55606e")
_WIDTH, _HEIGHT, _MARGIN = 360, 240, 46


def plot(rows: Sequence[Mapping[str, Any]]) -> str:
    """One panel for each world of :func:`.compare.summary`: a dot for each planner."""
    worlds = list(dict.fromkeys(row["world"] for row in rows))
    planners = list(dict.fromkeys(row["planner"] for row in rows))
    colors = {name: _COLORS[n % len(_COLORS)] for n, name in enumerate(planners)}
    parts = [
        _panel([row for row in rows if row["world"] == world], colors, index)
        for index, world in enumerate(worlds)
    ]
    height = _HEIGHT * ((len(worlds) + 1) // 2)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * _WIDTH}" height="{height}"'
        ' font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _panel(rows: Sequence[Mapping[str, Any]], colors: Mapping[str, str], index: int) -> str:
    left, top = index % 2 * _WIDTH, index // 2 * _HEIGHT
    inner_width, inner_height = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN
    most = max((row["idle"] for row in rows), default=0) or 1.0
    least = min((row["hit_rate"] for row in rows), default=0)
    floor = max(0.0, least - 0.02)
    parts = [
        f'<g transform="translate({left + _MARGIN},{top + _MARGIN})">',
        f'<text x="0" y="-14" font-size="13">{escape(str(rows[0]["world"]))}</text>',
        f'<path d="M0,0 V{inner_height} H{inner_width}" fill="none" stroke="#888"/>',
        '<text x="-4" y="4" text-anchor="end">100 %</text>',
        f'<text x="-4" y="{inner_height}" text-anchor="end">{floor * 100:.0f} %</text>',
        f'<text x="{inner_width}" y="{inner_height + 14}" text-anchor="end">'
        f"{most:.0f} idle pod-hours a day</text>",
    ]
    for row in rows:
        x = inner_width * row["idle"] / most
        y = inner_height * (1 - (row["hit_rate"] - floor) / (1 - floor or 1))
        color, name = colors[row["planner"]], escape(str(row["planner"]))
        end = ' text-anchor="end"' if x > inner_width * 0.6 else ""
        shift = -6 if end else 6
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>'
            f'<text x="{x + shift:.1f}" y="{y + 4:.1f}" fill="{color}"{end}>{name}</text>'
        )
    return "".join(parts) + "</g>"
