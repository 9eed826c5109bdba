"""Builds the cluster's programs from Go modules, once for each set of versions.

``src/*/go.mod`` pins the versions and ``go.sum`` what they must contain; together with the code
there they name the folder in the cache, so a changed version is a new build.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from . import needs

SOURCE = Path(__file__).with_name("src")
CACHE_VARIABLE = "JUPYTER_ELASTIC_TESTCLUSTER_CACHE"
# Another recipe for the same sources is another build.
RECIPE = "1"

Say = Callable[[str], None]


class BuildFailed(Exception):
    """The programs could not be built; the text says what lacks, or ends with Go's own words."""


def cache() -> Path:
    """The folder of all builds."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "jupyter-elastic" / "testcluster"


def kubernetes_version() -> str:
    """For example ``v1.35.4``."""
    text = (SOURCE / "kubernetes" / "go.mod").read_text(encoding="utf-8")
    found = re.search(r"\bk8s\.io/kubernetes (v\S+)", text)
    assert found is not None, "go.mod no longer names k8s.io/kubernetes"
    return found[1]


def target() -> Path:
    """The folder of the build that these sources ask for, whether it exists or not."""
    digest = hashlib.sha256(f"{RECIPE} {platform.machine()}\n".encode())
    for path in sorted(path for path in SOURCE.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(SOURCE)}\n".encode() + path.read_bytes())
    return cache() / f"{kubernetes_version()}-{digest.hexdigest()[:12]}"


def found() -> Path | None:
    """The finished build, if there is one."""
    return place if (place := target()).is_dir() else None


def build(say: Say = print) -> Path:
    """The programs' folder; built if need be, in about seven minutes with no caches.

    Raises
    ------
    BuildFailed
    """
    if (done := found()) is not None:
        return done
    if lacks := needs.missing_for_build():
        raise BuildFailed(" ".join(lacks))
    place = target()
    with _alone(place.with_name(place.name + ".lock"), say):
        if (done := found()) is not None:
            return done
        for stale in place.parent.glob(place.name + ".part-*"):  # we are alone: nobody writes it
            shutil.rmtree(stale)
        part = Path(tempfile.mkdtemp(prefix=place.name + ".part-", dir=place.parent))
        try:
            _compile(part, say)
            part.rename(place)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    return place


@contextlib.contextmanager
def _alone(path: Path, say: Say) -> Iterator[None]:
    """Hold a lock file; a build that another one is doing is waited for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for the build that runs already")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _compile(out: Path, say: Say) -> None:
    version = kubernetes_version()
    major, minor = version[1:].split(".")[:2]
    package = "k8s.io/component-base/version"
    stamp = f"-X {package}.gitVersion={version} -X {package}.gitMajor={major}"
    stamp += f" -X {package}.gitMinor={minor}"
    say(f"building Kubernetes {version} (minutes, the first time)")
    _go("kubernetes", ["-trimpath", "-ldflags", f"-s -w {stamp}", "-o", str(out), "."])
    say("building kwok")
    _go("kwok", ["-ldflags", "-s -w", "-o", str(out), "sigs.k8s.io/kwok/cmd/kwok"])


def _go(module: str, arguments: list[str]) -> None:
    go = needs.which("go")
    assert go is not None  # build() looked
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly -buildvcs=false",
        "GOWORK": "off",
    }
    done = subprocess.run(
        [go, "build", *arguments],
        cwd=SOURCE / module,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-20:])
        raise BuildFailed(f"go build of {module} ended with {done.returncode}:\n{tail}")
