"""The agent: lives in the pod, keeps an interpreter warm, and owns the kernel process.

It stands alone: standard library, zmq and (for Python kernels) ipykernel; nothing of the rest of
``jupyter_elastic``. It runs on Python 3.8 and newer, because it runs in users' images.

Three kinds of processes make a pod::

    agent (``host``)    control socket, kernel's life, limits, idle culling; no user code
      zygote            no threads, no zmq context: imports once, forks often, reaps
        spare           a kernel that is initialised but belongs to nobody yet
        kernel          the user's; its own session and process group
"""

from __future__ import annotations

__version__ = "0.1.0"
