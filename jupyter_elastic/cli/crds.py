"""``jupyter elastic crds``: what an admin applies to a cluster, on stdout."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING

import yaml

from .context import Context, RequiresNoService

if TYPE_CHECKING:
    from .context import Subparsers

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)


def add_commands(commands: Subparsers, common: argparse.ArgumentParser) -> None:
    """Add ``crds``."""
    crds = commands.add_parser(
        "crds",
        parents=[common],
        help="print the resource definitions for Kubernetes: ... | kubectl apply -f -",
    )
    crds.add_argument(
        "--rbac", action="store_true", help="also print the roles of servers and admins"
    )
    crds.add_argument(
        "--network-policy",
        action="store_true",
        help="also print the policy that only servers reach kernels",
    )
    crds.add_argument(
        "--disruption-budget",
        action="store_true",
        help="also print the budget that keeps kernels where nodes are emptied",
    )
    crds.add_argument(
        "--namespace",
        metavar="NAME",
        default="default",
        help="of roles and policy (%(default)s); the definitions have none",
    )
    crds.add_argument(
        "--controller-namespace",
        metavar="NAME",
        default="",
        help="with --network-policy: let a controller that is in another namespace reach kernels",
    )
    crds.set_defaults(run=RequiresNoService(show), wrong_usage=_wrong_usage)


def _wrong_usage(arguments: argparse.Namespace) -> str:
    for name in (arguments.namespace, arguments.controller_namespace):
        if name and not is_namespace(name):
            return f"{name!r} cannot be the name of a namespace"
    return ""


def is_namespace(name: str) -> bool:
    """Whether a namespace can have this name."""
    return _NAMESPACE.fullmatch(name) is not None


async def show(context: Context) -> int:
    """Print YAML as it is in the files; with ``--json`` a List of the same objects."""
    from ..cluster.kubernetes import shipped  # Its package takes other commands' time to import.

    arguments = context.arguments
    texts = [shipped.definitions()]
    if arguments.rbac:
        texts.append(shipped.roles(arguments.namespace))
    if arguments.network_policy:
        away = arguments.controller_namespace
        texts.append(shipped.network_policy(arguments.namespace, away))
    if arguments.disruption_budget:
        texts.append(shipped.disruption_budget(arguments.namespace))
    text = "---\n".join(texts)
    if context.json:
        items = list(yaml.safe_load_all(text))
        context.show_json({"apiVersion": "v1", "kind": "List", "items": items})
    else:
        sys.stdout.write(text)
    return 0
