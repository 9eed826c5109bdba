"""The lowest versions that pyproject.toml allows, as pip constraints, and whether they are there.

They are written in one place only, pyproject.toml, and read from the metadata of the installed
package; ``make test-lowest`` installs exactly these. The test tools' own bounds are left out:
they say with what we test, not what users may have.

usage: lower_bounds.py                     print the constraints
       lower_bounds.py --check PYTHON      fail unless that environment has them
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib.metadata import requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

EXTRAS = ("", "lab", "kubernetes")
"""What users install: the package itself, JupyterLab, and the client of a cluster."""


def lower_bounds(declared: list[str]) -> dict[str, Version]:
    """Name and lowest version of everything that users install with the package.

    Raises
    ------
    ValueError
        A dependency has no lower bound: then nobody could say what is tested.
    """
    bounds: dict[str, Version] = {}
    for requirement in map(Requirement, declared):
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in EXTRAS):
            continue
        lowest = [Version(one.version) for one in requirement.specifier if one.operator == ">="]
        if len(lowest) != 1:
            raise ValueError(f"{requirement}: write exactly one lower bound (>=)")
        bounds[canonicalize_name(requirement.name)] = lowest[0]
    return bounds


def installed(python: str) -> dict[str, Version]:
    """What the environment of this interpreter has."""
    listing = subprocess.run(
        [python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"],
        check=True,
        capture_output=True,
        text=True,
    )
    return {
        canonicalize_name(package["name"]): Version(package["version"])
        for package in json.loads(listing.stdout)
    }


def main() -> int:
    """Print the constraints, or compare them with an environment; 1 when it differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", metavar="PYTHON")
    options = parser.parse_args()
    bounds = lower_bounds(requires("jupyter_elastic") or [])
    if options.check is None:
        for name, version in sorted(bounds.items()):
            print(f"{name}=={version}")
        return 0
    there = installed(options.check)
    wrong = sorted(name for name, lowest in bounds.items() if there.get(name) != lowest)
    for name in wrong:
        print(f"{name}: {there.get(name, 'missing')}, not {bounds[name]}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
