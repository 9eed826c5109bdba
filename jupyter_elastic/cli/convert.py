"""``jupyter elastic convert``: from another operator's or a gateway's files to KernelTemplates.

Templates go to stdout as YAML; what could not be carried over goes to stderr, so that one can be
piped on while the other is read. Exit status 1: of something no template could be made at all.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import yaml

from ..errors import BadRequest
from .context import Context, RequiresNoService, printable

if TYPE_CHECKING:
    from ..cluster.kubernetes.convert import Conversion, Note, Source
    from .context import Subparsers

_ICONS = ("logo-svg.svg", "logo-64x64.png")
_SIZE_LIMIT = 4 * 2**20
"""Bytes of one file."""


def add_commands(commands: Subparsers, common: argparse.ArgumentParser) -> None:
    """Add ``convert``."""
    converting = commands.add_parser(
        "convert",
        parents=[common],
        help="print KernelTemplates made from JupyterKernelSpecs or a gateway's kernelspecs",
    )
    converting.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        help="YAML or JSON with JupyterKernelSpecs and JupyterKernelTemplates, a kernel.json, "
        "or the directory of a kernelspec or of many",
    )
    converting.add_argument(
        "--from-cluster", action="store_true", help="read the JupyterKernelSpecs of a namespace"
    )
    converting.add_argument("--kubeconfig", metavar="FILE", default="", help="how to reach it")
    converting.add_argument("--context", metavar="NAME", default="", help="of the kubeconfig")
    converting.add_argument("--namespace", metavar="NAME", default="", help="the namespace to read")
    converting.set_defaults(run=RequiresNoService(run), wrong_usage=_wrong_usage)


def _wrong_usage(arguments: argparse.Namespace) -> str:
    if bool(arguments.files) == arguments.from_cluster:
        return "convert needs either FILEs or --from-cluster"
    if not arguments.from_cluster and (
        arguments.kubeconfig or arguments.context or arguments.namespace
    ):
        return "--kubeconfig, --context and --namespace go with --from-cluster"
    return ""


async def run(context: Context) -> int:
    """Convert, print, and say what is missing."""
    from ..cluster.kubernetes.convert import convert  # Takes other commands' time to import.

    arguments = context.arguments
    if arguments.from_cluster:
        sources = await _from_cluster(arguments.kubeconfig, arguments.context, arguments.namespace)
    else:
        sources = [source for file in arguments.files for source in _from_path(Path(file))]
    made = convert(sources)
    if context.json:
        context.show_json(_report(made))
    else:
        documents = list(made.templates)
        if documents:
            yaml.safe_dump_all(documents, sys.stdout, sort_keys=False, allow_unicode=True)
        sys.stdout.flush()
    for note in made.notes:
        print(printable(_sentence(note)), file=sys.stderr)
    for note in made.failed:
        print(printable(f"Not converted: {_sentence(note)}"), file=sys.stderr)
    if not made.templates and not made.failed:
        print("There is nothing to convert.", file=sys.stderr)
    return 1 if made.failed or not made.templates else 0


def _report(made: Conversion) -> dict[str, Any]:
    return {
        "templates": list(made.templates),
        "notes": [msgspec.to_builtins(note) for note in made.notes],
        "failed": [msgspec.to_builtins(note) for note in made.failed],
    }


def _sentence(note: Note) -> str:
    subject = f"{note.object}: {note.field}" if note.field else note.object
    return f"{subject}: {note.message}."


# -- files -------------------------------------------------------------------------------------


def _from_path(path: Path) -> Iterator[Source]:
    """What a file or a directory holds.

    Raises
    ------
    BadRequest
        It cannot be read, or holds nothing of the kind.
    """
    if not path.is_dir():
        if path.name == "kernel.json":
            yield _kernelspec(path.absolute().parent, str(path))
        else:
            yield from _documents(path)
        return
    if (path / "kernel.json").is_file():
        yield _kernelspec(path.absolute(), str(path))
        return
    found = sorted(file.parent for file in path.glob("*/kernel.json"))
    if not found:
        raise BadRequest(
            f"{path} holds no kernel.json, and no directory of it does.",
            "Name the directory of a kernelspec, or files.",
        )
    for directory in found:
        yield _kernelspec(directory.absolute(), str(directory))


def _kernelspec(directory: Path, where: str) -> Source:
    from ..cluster.kubernetes.convert import Source

    icon = next((file for file in _ICONS if (directory / file).is_file()), None)
    files = sorted(
        str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file()
    )
    return Source(
        where=where,
        name=directory.name,
        data=_decoded(_text(directory / "kernel.json"), directory / "kernel.json")[0],
        files=tuple(file for file in files if file != "kernel.json"),
        icon=(icon, (directory / icon).read_bytes()) if icon else None,
    )


def _documents(path: Path) -> Iterator[Source]:
    from ..cluster.kubernetes.convert import Source

    for document in _decoded(_text(path), path):
        if document is not None:
            yield Source(where=str(path), name=path.stem, data=document)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_SIZE_LIMIT + 1)
        if len(raw) > _SIZE_LIMIT:
            raise BadRequest(f"{path} has more than {_SIZE_LIMIT} bytes.", "Name another file.")
        return raw.decode()
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}.", "Name a file.") from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"{path} is not UTF-8 text.", "Name another file.") from error


def _decoded(text: str, path: Path) -> list[Any]:
    try:
        if path.suffix == ".json":
            return [json.loads(text)]
        return list(yaml.safe_load_all(text))
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        what = " ".join(str(error).split())[:300]
        raise BadRequest(f"{path} cannot be read: {what}.", "Correct the file.") from error


# -- a cluster ---------------------------------------------------------------------------------


async def _from_cluster(kubeconfig: str, context: str, namespace: str) -> list[Source]:
    # The Kubernetes client is an extra that converting files must not need.
    from ..cluster.kubernetes.api import KubeApi
    from ..cluster.kubernetes.convert import OPERATOR_API, OPERATOR_PLURALS, Source
    from ..cluster.kubernetes.problems import ApiNotFound

    api = await KubeApi.connect(kubeconfig=kubeconfig, context=context, namespace=namespace)
    try:
        found, missing = [], 0
        for plural in OPERATOR_PLURALS:
            where = f"namespace {api.namespace}"
            path = f"/apis/{OPERATOR_API}/namespaces/{quote(api.namespace)}/{plural}"
            try:
                found.append(Source(where=where, data=json.loads(await api.request("GET", path))))
            except ApiNotFound:
                missing += 1
        if missing == len(OPERATOR_PLURALS):
            raise BadRequest(
                f"This cluster knows none of {', '.join(OPERATOR_PLURALS)} ({OPERATOR_API}).",
                "Choose another context, or name files.",
            )
        return found
    finally:
        await api.close()
