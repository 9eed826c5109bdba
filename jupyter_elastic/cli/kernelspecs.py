"""``jupyter elastic kernelspecs``: files for clients that have no server.

nbclient, papermill and ``jupyter console`` look only at kernelspec files. Each file carries the
whole template, so that such a client needs no configuration of ours.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_core.paths import jupyter_data_dir, jupyter_path

from .. import __version__
from ..errors import BadRequest, UnknownTemplate
from ..kernels.service import ElasticService
from ..model import Template
from ..templates import PROVISIONER, icon_for, kernelspec_for, standalone_config
from .context import Context, RequiresNoService

if TYPE_CHECKING:
    from .context import Subparsers

MARKER = "jupyter-elastic.json"
"""Lies in every directory that we wrote; what has none is never touched."""


def add_commands(commands: Subparsers, common: argparse.ArgumentParser) -> None:
    """Add ``kernelspecs`` and what can be done with them."""
    kernelspecs = commands.add_parser(
        "kernelspecs", help="kernelspec files for nbclient, papermill and jupyter console"
    )
    kernelspecs.set_defaults(explains=kernelspecs)
    actions = kernelspecs.add_subparsers(metavar="ACTION")

    installing = actions.add_parser("install", parents=[common], help="write them")
    installing.add_argument("names", metavar="TEMPLATE", nargs="*", help="only these")
    _add_places(installing)
    installing.set_defaults(run=install)

    removing = actions.add_parser("remove", parents=[common], help="remove what install wrote")
    removing.add_argument("names", metavar="TEMPLATE", nargs="*", help="only these")
    _add_places(removing)
    removing.set_defaults(run=RequiresNoService(remove))

    listing = actions.add_parser("list", parents=[common], help="list what install wrote")
    listing.set_defaults(run=RequiresNoService(show))


def _add_places(parser: argparse.ArgumentParser) -> None:
    places = parser.add_mutually_exclusive_group()
    places.add_argument("--user", action="store_true", help="for this user (default)")
    places.add_argument("--sys-prefix", action="store_true", help="in this Python environment")
    places.add_argument("--prefix", metavar="DIR", help="below DIR/share/jupyter")


def place_of(arguments: argparse.Namespace) -> Path:
    """The directory of kernelspecs that the options mean."""
    prefix = sys.prefix if arguments.sys_prefix else arguments.prefix
    if prefix:
        return Path(prefix).absolute() / "share" / "jupyter" / "kernels"
    return Path(jupyter_data_dir()) / "kernels"


def installed_in(place: Path) -> Iterator[Path]:
    """The directories there that we wrote."""
    if place.is_dir():
        yield from sorted(path.parent for path in place.glob(f"*/{MARKER}"))


async def install(context: Context, service: ElasticService) -> int:
    """Write a kernelspec for each template, or for those that are named."""
    names = context.arguments.names
    offered = service.templates.all()
    templates = [service.templates.get(name) for name in names] or list(offered.values())
    if not templates:
        raise UnknownTemplate("There is no template to install.", "See `jupyter elastic doctor`.")
    place = place_of(context.arguments)
    written = [str(write(service, template, place)) for template in templates]
    if context.json:
        context.show_json({"installed": written})
    for directory in written:
        context.say(f"Installed {directory}")
    return 0


def write(service: ElasticService, template: Template, place: Path) -> Path:
    """Write one kernelspec, whole or not at all. What we wrote before is replaced.

    Raises
    ------
    BadRequest
        The place cannot be written, or something that is not ours has this name.
    """
    target = place / template.name
    if target.exists() and not (target / MARKER).is_file():
        raise BadRequest(
            f"{target} exists and was not written by this command.",
            "Remove it, or give the template another name.",
        )
    config = standalone_config(template, str(Path(service.local.state_dir).absolute()))
    encrypted = service.settings.channel_encryption != "disabled"
    content = kernelspec_for(template, encryption=encrypted, config=config)
    icon = icon_for(template)
    icon_name = "logo-64x64.png" if icon.suffix.lower() == ".png" else "logo-svg.svg"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place, prefix=".elastic-") as scratch:
            fresh = Path(scratch) / "new"
            fresh.mkdir()
            _dump(fresh / MARKER, {"version": __version__, "template": template.name})
            _dump(fresh / "kernel.json", content)
            if place == Path(jupyter_data_dir()) / "kernels":
                # A template's environment may hold what other users should not read.
                (fresh / "kernel.json").chmod(0o600)
            shutil.copyfile(icon, fresh / icon_name)
            if target.exists():
                target.rename(Path(scratch) / "old")
            fresh.rename(target)
    except OSError as error:
        raise BadRequest(
            f"{error.filename or place} cannot be written: {error.strerror}.",
            "Choose another place with --user, --sys-prefix or --prefix.",
        ) from error
    return target


def _dump(file: Path, data: Any) -> None:
    file.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


async def remove(context: Context) -> int:
    """Remove what was installed in a place, or those of it that are named."""
    place, names = place_of(context.arguments), context.arguments.names
    there = {path.name: path for path in installed_in(place)}
    for name in names:
        if name not in there:
            raise UnknownTemplate(
                f"{place / name} was not written by `jupyter elastic kernelspecs install`.",
                f"There are: {', '.join(there) or 'none'}.",
            )
    removed = []
    for name in names or list(there):
        try:
            shutil.rmtree(there[name])
        except OSError as error:
            raise BadRequest(
                f"{there[name]} cannot be removed: {error.strerror}.", "Check its permissions."
            ) from error
        removed.append(str(there[name]))
        context.say(f"Removed {there[name]}")
    if context.json:
        context.show_json({"removed": removed})
    elif not removed:
        print(f"Nothing of ours is in {place}.")
    return 0


async def show(context: Context) -> int:
    """List what is installed anywhere that Jupyter looks."""
    rows = []
    for place in dict.fromkeys(jupyter_path("kernels")):
        for directory in installed_in(Path(place)):
            rows.append({"name": directory.name, "directory": str(directory), **_state(directory)})
    if context.json:
        context.show_json({"kernelspecs": rows})
        return 0
    table = [(row["name"], row["display_name"], row["directory"], row["note"]) for row in rows]
    context.show_table(("NAME", "DISPLAY NAME", "DIRECTORY", "NOTE"), table)
    return 0


def _state(directory: Path) -> dict[str, str]:
    """Display name, and what is wrong with the file, if anything."""
    try:
        content = json.loads((directory / "kernel.json").read_text(encoding="utf-8"))
        provisioner = content["metadata"]["kernel_provisioner"]
        name, ours = str(content["display_name"]), provisioner["provisioner_name"] == PROVISIONER
        interpreter = content["argv"][0]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        return {"display_name": "?", "note": f"broken: {error}"}
    note = "" if ours else "changed by hand: not elastic any more"
    if os.path.isabs(interpreter) and not os.path.exists(interpreter):
        note = f"{interpreter} does not exist any more"
    return {"display_name": name, "note": note}
