"""Writes the only image: busybox, for pods that mount the rest from the machine."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path
from typing import Any

NAME = "localhost/elastic-base:test"
USER = 1000
FOLDERS = (
    *("bin", "dev", "etc", "home", "home/elastic", "lib", "lib64", "opt", "proc"),
    *("root", "run", "sys", "tmp", "usr", "var", "work"),
)
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nelastic:x:1000:1000::/home/elastic:/bin/sh\n",
    "etc/group": "root:x:0:\nelastic:x:1000:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def _add(tar: tarfile.TarInfo, archive: tarfile.TarFile, data: bytes) -> None:
    tar.size = len(data)
    archive.addfile(tar, io.BytesIO(data))


def _layer(busybox: Path) -> bytes:
    """The root filesystem. Folders are open to all: mounts below them must be reachable."""
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for folder in FOLDERS:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            if folder == "home/elastic":
                entry.uid = entry.gid = USER
            archive.addfile(entry)
        program = tarfile.TarInfo("bin/busybox")
        program.mode = 0o755
        _add(program, archive, busybox.read_bytes())
        for applet in applets.stdout.split():
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(link)
        for name, text in FILES.items():
            _add(tarfile.TarInfo(name), archive, text.encode())
    return out.getvalue()


def write(path: Path, busybox: Path) -> None:
    """Write an OCI image archive that ``ctr images import`` reads."""
    blobs: dict[str, bytes] = {}

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    plain = _layer(busybox)
    config = {
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Cmd": ["/bin/sleep", "2147483647"], "Env": ["PATH=/bin:/usr/bin"]},
        "rootfs": {
            "type": "layers",
            "diff_ids": ["sha256:" + hashlib.sha256(plain).hexdigest()],
        },
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": [blob(gzip.compress(plain, 1, mtime=0), "layer.v1.tar+gzip")],
    }
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                **blob(json.dumps(manifest).encode(), "manifest.v1+json"),
                "annotations": {"io.containerd.image.name": NAME},
            }
        ],
    }
    with tarfile.open(path, "w") as archive:
        _add(tarfile.TarInfo("oci-layout"), archive, b'{"imageLayoutVersion":"1.0.0"}')
        _add(tarfile.TarInfo("index.json"), archive, json.dumps(index).encode())
        for digest, data in blobs.items():
            _add(tarfile.TarInfo(f"blobs/sha256/{digest}"), archive, data)
