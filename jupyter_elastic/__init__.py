"""Pooled, resizable kernels for JupyterLab and Jupyter Server.

Nothing heavy is imported here: the front end's build and every ``jupyter`` command import this.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("jupyter_elastic")
except PackageNotFoundError:  # a source tree on sys.path, not installed
    __version__ = "0+unknown"


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "jupyter_elastic"}]


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from .extension import ElasticExtension

    return [{"module": "jupyter_elastic", "app": ElasticExtension}]


def load_ipython_extension(ipython: Any) -> None:
    """``%load_ext jupyter_elastic`` in a notebook: adds the magic ``%elastic``."""
    from .magics import ElasticMagics

    ipython.register_magics(ElasticMagics)
