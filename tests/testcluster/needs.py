"""What the machine must have, each with the sentence that tells how to get it.

``python -m tests.testcluster.needs`` prints the Debian packages that are missing; that takes the
standard library only, so that ``.ci/run`` may ask before there is an environment.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

GO_AT_LEAST = (1, 21)
"""The first Go that fetches by itself the newer version that a module asks for."""

CNI_PLACES = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
SYSTEM_PLACES = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/go/bin")
"""Where programs may be that a user's PATH leaves out."""


class Need(NamedTuple):
    """A program, why the cluster wants it, and the Debian package that has it."""

    program: str
    purpose: str
    package: str


PROGRAMS = (
    Need("containerd", "runs the containers", "containerd"),
    Need("ctr", "loads the image into containerd", "containerd"),
    Need("runc", "starts the containers", "runc"),
    Need("iptables", "lets kube-proxy route services", "iptables"),
    Need("iptables-restore", "lets kube-proxy route services", "iptables"),
    Need("ip", "connects the cluster's network namespace", "iproute2"),
    Need("conntrack", "lets kube-proxy forget old connections", "conntrack"),
    Need("socat", "forwards ports into pods", "socat"),
    Need("mount", "gives the cluster directories of its own", "mount"),
    Need("nsenter", "enters the cluster's network namespace", "util-linux"),
    Need("unshare", "gives the cluster namespaces of its own", "util-linux"),
    Need("openssl", "makes the certificates", "openssl"),
)


def search_path() -> str:
    """``PATH`` with the system's own places."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_PLACES])


def which(program: str) -> str | None:
    """Where a program is, also when only root's PATH has it."""
    return shutil.which(program, path=search_path())


def cni_plugins() -> Path | None:
    """The folder of the container network plugins."""
    return next((place for place in CNI_PLACES if (place / "ptp").exists()), None)


def busybox() -> Path | None:
    """A busybox that needs no library: it is the only file of the image."""
    places = [Path(found)] if (found := which("busybox")) else []
    for place in [*places, Path("/bin/busybox.static")]:
        if place.exists() and b"/ld-linux" not in place.read_bytes()[:4096]:
            return place
    return None


def go_version() -> tuple[int, int] | None:
    """Version of Go, or None without one."""
    if (go := which("go")) is None:
        return None
    answer = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, cwd="/")
    found = re.match(r"go(\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2])) if found else None


def missing_for_build() -> list[str]:
    """One sentence for each thing that a build lacks."""
    version = go_version()
    if version is None or version < GO_AT_LEAST:
        found = "none" if version is None else "{}.{}".format(*version)
        return [
            "Go {}.{} or newer builds Kubernetes; found {} (Debian 13: apt install golang-go; "
            "older: golang-go of backports).".format(*GO_AT_LEAST, found)
        ]
    return []


def _rights() -> list[str]:
    """What root lacks, as in many containers."""
    if os.geteuid() != 0:
        return ["Only root may start containers; run as root."]
    lacks = []
    unshare = which("unshare")
    tries = [str(unshare), "--fork", "--pid", "--mount-proc", "--net", "--mount", "true"]
    if unshare is not None and subprocess.run(tries, capture_output=True).returncode:
        lacks.append("This root may not make namespaces (a container without CAP_SYS_ADMIN?).")
    if not os.access("/sys/fs/cgroup", os.W_OK):
        lacks.append("Control groups are read-only here (a container without --privileged?).")
    return lacks


def missing_for_up() -> list[str]:
    """One sentence for each thing that the running cluster lacks."""
    lacks = []
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        here = platform.platform()
        lacks.append(f"The cluster runs on Linux, x86_64 or aarch64; this is {here}.")
    lacks.extend(_rights())
    lacks.extend(
        f"{need.program} is missing: it {need.purpose} (Debian: apt install {need.package})."
        for need in PROGRAMS
        if which(need.program) is None
    )
    if cni_plugins() is None:
        lacks.append(
            "The container network plugins are missing: they connect the pods "
            "(Debian: apt install containernetworking-plugins)."
        )
    if busybox() is None:
        lacks.append(
            "A static busybox is missing: the image is made of it "
            "(Debian: apt install busybox-static)."
        )
    return lacks


def packages() -> list[str]:
    """The Debian packages that the machine lacks, for ``apt-get install``."""
    wanted = {need.package for need in PROGRAMS if which(need.program) is None}
    if cni_plugins() is None:
        wanted.add("containernetworking-plugins")
    if busybox() is None:
        wanted.add("busybox-static")
    if which("go") is None:
        wanted.add("golang-go")
    return sorted(wanted)


if __name__ == "__main__":
    print(*packages())
