"""Make the zipapp that travels into pods. Server side; standard library only."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Union

NAME = "jupyter_elastic_agent"
"""The package's name inside the zipapp; its modules import one another relatively."""

_MAIN = f"import sys\nfrom {NAME}.__main__ import main\nsys.exit(main())\n"
_LEFT_OUT = {"pack.py"}
_EPOCH = (1980, 1, 1, 0, 0, 0)


def build() -> bytes:
    """The zipapp's bytes; the same sources give the same bytes everywhere."""
    here = Path(__file__).parent
    files = {"__main__.py": _MAIN.encode()}
    for source in sorted(here.glob("*.py")):
        if source.name not in _LEFT_OUT:
            files[f"{NAME}/{source.name}"] = source.read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in sorted(files.items()):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    return buffer.getvalue()


def pack(directory: Union[str, "os.PathLike[str]"]) -> Path:
    """Write ``agent-<sha>.pyz`` into ``directory`` unless it is there; return its path.

    Atomic and safe to run in several processes at once. The name follows from the content, so
    that a running pod's zipapp is never replaced under it.
    """
    data = build()
    path = Path(directory) / f"agent-{hashlib.sha256(data).hexdigest()[:16]}.pyz"
    if path.exists() and path.stat().st_size == len(data):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=str(path.parent), prefix=".agent-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    return path
