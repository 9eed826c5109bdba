"""``jupyter elastic``: templates, kernels, pool, doctor and more; without a running server.

Exit status: 0 done, 1 refused or failed (a sentence and a remedy on stderr), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence

from .. import __version__
from ..errors import ElasticError
from . import (
    controller,
    convert,
    crds,
    doctor,
    kernels,
    kernelspecs,
    pool,
    simulate,
    templates,
)
from .context import Context, RequiresNoService

FAILED = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    top = parser()
    arguments = top.parse_args(argv)
    if arguments.run is None:
        arguments.explains.print_help()
        return 0
    wrong = _wrong_usage(arguments)
    if wrong:
        top.error(wrong)  # Exits with status 2, as argparse itself does.
    context = Context(arguments)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("jupyter_elastic").setLevel(
        logging.DEBUG if arguments.debug else logging.ERROR
    )
    try:
        return asyncio.run(_run(context))
    except ElasticError as error:
        context.complain(error)
        if arguments.debug:
            raise
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; do not complain while closing it either.
        sys.stdout = None
        return FAILED
    except Exception as error:
        if arguments.debug:
            raise
        print(f"This failed unexpectedly: {type(error).__name__}: {error}", file=sys.stderr)
        print("Run it again with --debug to see where.", file=sys.stderr)
    return FAILED


async def _run(context: Context) -> int:
    command = context.arguments.run
    if isinstance(command, RequiresNoService):
        return await command.run(context)
    async with context.open_service() as service:
        service.owner = getattr(context.arguments, "owner", None) or service.owner
        status: int = await command(context, service)
        return status


def _wrong_usage(arguments: argparse.Namespace) -> str:
    """What argparse cannot see for itself; empty when all is well."""
    if arguments.config and not os.path.isfile(arguments.config):
        return f"there is no configuration file {arguments.config}"
    look = getattr(arguments, "wrong_usage", None)
    return str(look(arguments)) if look else ""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON instead of a table")
    common.add_argument(
        "--config", metavar="FILE", help="also read this configuration file (Python or JSON)"
    )
    common.add_argument("--debug", action="store_true", help="show log messages and tracebacks")

    top = argparse.ArgumentParser(
        prog="jupyter elastic",
        description="Pooled, resizable kernels: look at them and change them without a server.",
    )
    top.add_argument("--version", action="version", version=__version__)
    top.set_defaults(run=None, explains=top)
    commands = top.add_subparsers(metavar="COMMAND")
    modules = (
        templates, kernels, pool, simulate, controller, doctor, kernelspecs, crds, convert
    )  # fmt: skip
    for module in modules:
        module.add_commands(commands, common)
    return top
