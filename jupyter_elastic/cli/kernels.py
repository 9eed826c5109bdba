"""``jupyter elastic kernels``: list, start, resize and stop my kernels."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..api.views import kernel_view
from ..errors import BadRequest, ElasticError, UnknownKernel
from ..kernels.service import ElasticService
from ..model import Kernel
from .context import Context, shown_gpu
from .start import remove_connection, start, wish_of

if TYPE_CHECKING:
    from .context import Subparsers


def add_commands(commands: Subparsers, common: argparse.ArgumentParser) -> None:
    """Add ``kernels`` and what can be done with them; alone it lists them."""
    kernels = commands.add_parser("kernels", parents=[common], help="my kernels")
    _add_owner(kernels)
    _add_all_owners(kernels)
    kernels.set_defaults(run=show, wrong_usage=_whose_kernels)
    actions = kernels.add_subparsers(metavar="ACTION")

    # The options of the parent come again, without a default: what was given there stays.
    again = _without_defaults()
    _add_owner(again)
    listing = actions.add_parser("list", parents=[again], help="list them (what is done alone)")
    _add_all_owners(listing, default=argparse.SUPPRESS)
    listing.set_defaults(run=show)

    starting = actions.add_parser("start", parents=[again], help="start one")
    starting.add_argument("template", metavar="TEMPLATE")
    _add_sizes(starting)
    starting.add_argument("--gpu", metavar="KIND[=COUNT]", help="GPUs of one kind")
    starting.add_argument("--name", default="", help="what to call it")
    starting.add_argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="return when the kernel answers (default), or as soon as its start began",
    )
    starting.add_argument("--kernel-id", metavar="UUID", help="the id it shall have")
    starting.set_defaults(run=start, wrong_usage=_everybodys)

    resizing = actions.add_parser("resize", parents=[again], help="change a running one")
    resizing.add_argument("kernel", metavar="ID", help="the id, or its beginning")
    _add_sizes(resizing)
    resizing.add_argument("--gpu", metavar="KIND=COUNT", help="only with --replace")
    resizing.add_argument(
        "--replace",
        action="store_true",
        help="give it another pod of that size; its variables are lost",
    )
    resizing.set_defaults(run=resize, wrong_usage=_nothing_to_change)

    stopping = actions.add_parser("stop", parents=[again], help="end some, or cancel their start")
    stopping.add_argument("kernels", metavar="ID", nargs="*", help="ids, or their beginnings")
    stopping.add_argument("--all", action="store_true", help="all of mine")
    stopping.set_defaults(run=stop, wrong_usage=_which_kernels)


def _add_owner(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--owner", metavar="NAME", help="whose kernels, where you look after those of others"
    )


def _add_all_owners(parser: argparse.ArgumentParser, **options: Any) -> None:
    parser.add_argument(
        "--all-owners", action="store_true", help="list everybody's kernels", **options
    )


def _add_sizes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cpu", metavar="CORES", help='such as "2" or "500m"')
    parser.add_argument("--memory", metavar="SIZE", help='such as "4Gi" or "512Mi"')


def _without_defaults() -> argparse.ArgumentParser:
    again = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    again.add_argument("--json", action="store_true", help="print JSON instead of a table")
    again.add_argument("--config", metavar="FILE", help="also read this configuration file")
    again.add_argument("--debug", action="store_true", help="show log messages and tracebacks")
    return again


def _whose_kernels(arguments: argparse.Namespace) -> str:
    if arguments.all_owners and arguments.owner:
        return "--owner and --all-owners exclude each other"
    return ""


def _everybodys(arguments: argparse.Namespace) -> str:
    if arguments.all_owners:
        return "--all-owners only lists; name one owner with --owner"
    return ""


def _nothing_to_change(arguments: argparse.Namespace) -> str:
    if wrong := _everybodys(arguments):
        return wrong
    if arguments.cpu is None and arguments.memory is None and arguments.gpu is None:
        return "nothing to change was given; add --cpu, --memory or both"
    return ""


def _which_kernels(arguments: argparse.Namespace) -> str:
    if wrong := _everybodys(arguments):
        return wrong
    if bool(arguments.kernels) == arguments.all:
        return "name the ids of kernels, or write --all"
    return ""


async def show(context: Context, service: ElasticService) -> int:
    """List my kernels, newest first."""
    everybody = bool(context.arguments.all_owners)
    owner = None if everybody else service.owner
    views = [kernel_view(service, kernel) for kernel in service.kernels_of(owner)]
    if context.json:
        context.show_json({"kernels": views})
        return 0
    rows = [
        (
            view["kernel_id"][:8],
            view["template"],
            view["phase"],
            view["resources"]["cpu"],
            view["resources"]["memory"],
            shown_gpu(view["resources"]["gpu"]),
            view["name"] or view["path"] or "-",
            *([view["owner"]] if everybody else []),
            view["message"],
        )
        for view in views
    ]
    whose = ["OWNER"] if everybody else []
    header = ("ID", "TEMPLATE", "PHASE", "CPU", "MEMORY", "GPU", "NAME", *whose, "MESSAGE")
    context.show_table(header, rows)
    return 0


def find(service: ElasticService, text: str) -> Kernel:
    """The kernel whose id is, or begins with, ``text``.

    Raises
    ------
    UnknownKernel
        None of mine.
    BadRequest
        More than one.
    """
    wanted = text.lower().strip()
    mine = service.kernels_of(service.owner)
    found = [kernel for kernel in mine if kernel.kernel_id.startswith(wanted)] if wanted else []
    if not found:
        raise UnknownKernel(f"You have no kernel {text[:60]!r}.")
    if len(found) > 1:
        ids = ", ".join(kernel.kernel_id for kernel in found[:5])
        raise BadRequest(f"{text!r} is the beginning of {len(found)} ids: {ids}.", "Write more.")
    return found[0]


async def resize(context: Context, service: ElasticService) -> int:
    """Change CPU and memory of a running kernel, or all it has by another pod."""
    arguments = context.arguments
    kernel = find(service, arguments.kernel)
    kernel = await service.change_kernel(
        kernel.kernel_id, wish=wish_of(arguments), replace_pod=arguments.replace
    )
    if context.json:
        context.show_json(kernel_view(service, kernel))
    else:
        print(f"Kernel {kernel.kernel_id}: {kernel.actual or kernel.resources}")
    return 0


async def stop(context: Context, service: ElasticService) -> int:
    """End kernels; one that cannot be ended does not keep the others."""
    arguments = context.arguments
    if arguments.all:
        kernels = service.kernels_of(service.owner)
    else:
        found = [find(service, text) for text in arguments.kernels]
        kernels = list({kernel.kernel_id: kernel for kernel in found}.values())
    stopped, failed = [], False
    for kernel in kernels:
        try:
            await service.stop_kernel(kernel.kernel_id)
        except ElasticError as error:
            context.complain(error)
            failed = True
            continue
        remove_connection(kernel.kernel_id)
        stopped.append(kernel.kernel_id)
        context.say(f"Stopped {kernel.kernel_id}")
    if context.json:
        context.show_json({"stopped": stopped})
    return 1 if failed else 0
