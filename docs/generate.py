"""Write ``docs/reference-config.md`` from the traits and the settings' schema.

``python docs/generate.py`` writes it; ``--check`` changes nothing and fails when the file is out
of date, or when something is nowhere named: a field of templates in ``docs/admins.md``, a field of
their pods in ``docs/kubernetes.md``, a reason of errors in either ``docs/troubleshooting.md`` or
``docs/admins.md``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from traitlets import Enum, HasTraits, TraitType, Union

import jupyter_elastic
from jupyter_elastic.errors import ElasticError
from jupyter_elastic.kernels.poolsettings import ElasticNamespaces, ElasticPool
from jupyter_elastic.kernels.settings import ElasticKernels, ElasticKubernetes, ElasticLocal
from jupyter_elastic.model import Template
from jupyter_elastic.podoptions import PodOptions
from jupyter_elastic.templates.objects import spelling

HERE = Path(__file__).parent
REFERENCE = HERE / "reference-config.md"
SCHEMA = HERE.parent / "schema" / "plugin.json"

HEAD = """\
# Configuration reference

Made by `python docs/generate.py` from the traits and from `schema/plugin.json`; do not edit it.
[admins.md](admins.md) and [kubernetes.md](kubernetes.md) explain what the options are for.

The options of the server stand in any configuration file that Jupyter Server reads, such as
`jupyter_server_config.py` or `jupyter_server_config.json`. On a command line they are written as
`--ElasticKernels.keep_pool=False`. `jupyter elastic` reads `jupyter_server_config`,
`jupyter_lab_config` and `jupyter_elastic_config`, in this order, and then the file given by
`--config`.
"""


def type_of(trait: TraitType[Any, Any]) -> str:
    """The trait's type in a word or two; for an enumeration, its values."""
    if isinstance(trait, Enum):
        return "one of " + ", ".join(f"`{value!r}`" for value in trait.values or ())
    if isinstance(trait, Union):
        return " or ".join(type(one).__name__ for one in trait.trait_types)
    return type(trait).__name__


def options(section: type[HasTraits]) -> Iterator[str]:
    """One class of traits as Markdown."""
    yield f"## {section.__name__}\n"
    yield f"{(section.__doc__ or '').strip()}\n"
    for name, trait in sorted(section.class_own_traits(config=True).items()):
        yield f"### `c.{section.__name__}.{name}`\n"
        dynamic = f"_default_{name}" in vars(section)
        default = "see below" if dynamic else f"`{trait.default_value_repr()}`"
        yield f"{type_of(trait)}; default: {default}\n"
        yield textwrap.fill(" ".join(str(trait.help).split()), 100) + "\n"


def settings() -> Iterator[str]:
    """The settings of the front end as Markdown."""
    yield "## Settings of the front end\n"
    yield (
        "JupyterLab: *Settings → Settings Editor → Elastic Kernels*; an admin's defaults go into\n"
        '`overrides.json` under `"jupyter_elastic:plugin"`.\n'
    )
    yield "| Setting | Type | Default | Meaning |\n|---|---|---|---|"
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    for name, found in schema["properties"].items():
        kind = " or ".join(f"`{one!r}`" for one in found.get("enum", ())) or found["type"]
        about = " ".join(found["description"].split())
        yield f"| `{name}` | {kind} | `{json.dumps(found['default'])}` | {about} |"
    yield ""


def reference() -> str:
    """The whole page."""
    sections = (ElasticKernels, ElasticPool, ElasticNamespaces, ElasticKubernetes, ElasticLocal)
    parts = [HEAD, *(line for section in sections for line in options(section)), *settings()]
    return "\n".join(parts).rstrip() + "\n"


def reasons(base: type[ElasticError] = ElasticError) -> Iterator[str]:
    """The reason of every error class there is."""
    for kind in base.__subclasses__():
        if "reason" in vars(kind):
            yield kind.reason
        yield from reasons(kind)


def wanted() -> Iterator[tuple[str, tuple[str, ...]]]:
    """What must be named, and the pages of which one must name it."""
    for module in pkgutil.walk_packages(jupyter_elastic.__path__, "jupyter_elastic."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in Template.__struct_fields__:
        yield name, ("admins.md",)
    for name in PodOptions.__struct_fields__:
        yield spelling(name), ("kubernetes.md",)
    for reason in sorted(set(reasons())):
        yield reason, ("troubleshooting.md", "admins.md")


def missing() -> Iterator[str]:
    """A sentence for everything that no page names."""
    texts = {path.name: path.read_text("utf-8") for path in HERE.glob("*.md")}
    for name, pages in wanted():
        if not any(f"`{name}`" in texts.get(page, "") for page in pages):
            yield f"docs/{pages[0]} does not name `{name}`"


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        REFERENCE.write_text(reference(), encoding="utf-8")
        return 0
    problems = list(missing())
    if not REFERENCE.exists() or REFERENCE.read_text("utf-8") != reference():
        problems.append("docs/reference-config.md is out of date: run python docs/generate.py")
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
