"""Templates: what an admin offers, where it comes from, and how clients see it.

* :func:`parse_template`, :func:`dump_template` - one template from a mapping, and back
* :class:`TemplateStore` - all of them, kept fresh
* :func:`resolve_wish` - what a user asks, checked against what a template offers
* :func:`kernelspec_for`, :func:`icon_for` - a template as a kernelspec
* :class:`Machine` - from what defaults are derived
"""

from __future__ import annotations

from .icon import icon_for
from .kernelspec import PROVISIONER, kernelspec_for, parameters_schema, standalone_config
from .machine import Machine
from .parse import dump_range, dump_template, parse_template
from .store import TemplateStore
from .wish import resolve_wish

__all__ = [
    "PROVISIONER",
    "Machine",
    "TemplateStore",
    "dump_range",
    "dump_template",
    "icon_for",
    "kernelspec_for",
    "parameters_schema",
    "parse_template",
    "resolve_wish",
    "standalone_config",
]
