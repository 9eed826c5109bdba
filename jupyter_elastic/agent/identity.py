"""Who a kernel is: environment, directory, keys; and what a warmed-up process must shed for it.

A kernel born of a warm process must be what a plain ``python -m ipykernel_launcher`` would have
been. Some of what makes it up can be set after the fact (:func:`assume`); some is read once, by
IPython's initialisation (then a fork must be initialised anew) or by the interpreter and its
libraries (then nothing but a fresh process will do): :func:`way` decides.
"""

from __future__ import annotations

import gc
import os
import site
import sys
import time
from typing import Any, Dict, Iterable, List, Mapping, Tuple

SPARE, FORK, EXEC = "spare", "fork", "exec"

# Read once, while the interpreter or a C library starts, before any of our code can run.
_PROCESS = (
    "PYTHON",
    "LD_",
    "LC_",
    "LANG",
    "OMP_",
    "KMP_",
    "GOMP_",
    "MKL_",
    "OPENBLAS_",
    "GOTO_",
    "BLIS_",
    "VECLIB_",
    "NUMEXPR_",
    "MALLOC_",
    "GLIBC_",
    "ARROW_",
    "CONDA_",
)
# Read by IPython, ipykernel, debugpy and jupyter_core when a kernel is initialised.
_INITIALISE = (
    "HOME",
    "IPYTHON",
    "JUPYTER_CONFIG",
    "JUPYTER_DATA",
    "JUPYTER_PATH",
    "JUPYTER_PLATFORM",
    "JUPYTER_PREFER",
    "JUPYTER_NO",
    "XDG_",
    "VIRTUAL_ENV",
    "PYDEVD",
    "DEBUGPY",
    "TMPDIR",
    "TRAITLETS",
)
# Set by the interpreter or a launcher without a meaning for what runs in it.
_UNIMPORTANT = ("PYTHON_EGG_CACHE", "LD_PRELOAD_ADDED", "CONDA_PROMPT_MODIFIER", "CONDA_SHLVL")
# A kernel watches the process named here and dies with it; ours must outlive every server.
NEVER = ("JPY_PARENT_PID", "JPY_INTERRUPT_EVENT")


def way(warm: Mapping[str, str], env: Mapping[str, str]) -> str:
    """How to make a kernel with ``env`` out of a process warmed up with ``warm``."""
    differing = [
        name
        for name in set(warm) | set(env)
        if warm.get(name) != env.get(name) and name not in _UNIMPORTANT
    ]
    if any(name.startswith(_PROCESS) for name in differing):
        return EXEC
    # matplotlib may be among the preloaded modules, and reads this when imported.
    if "MPLBACKEND" in differing and "matplotlib" in sys.modules:
        return EXEC
    if any(name.startswith(_INITIALISE) for name in differing):
        return FORK
    return SPARE


def installed() -> Dict[str, int]:
    """A fingerprint of what is installed: it changes when packages come, go or are upgraded.

    After ``pip install -U`` a restart must import the new version, not what was preloaded. Only
    folders that something was loaded from count: a project's folder on the path may change.
    """
    # The innermost first: an environment may lie within a project's folder.
    folders = sorted((path for path in set(sys.path) if path), key=len, reverse=True)
    loaded = set()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file:
            folder = next((path for path in folders if file.startswith(path + os.sep)), None)
            if folder is not None:
                loaded.add(folder)
    # Where pip installs that may not write elsewhere. It is on the path only if it was there when
    # the interpreter started, so what is installed into a new one needs a fresh process.
    user = site.USER_SITE if site.ENABLE_USER_SITE else None
    if user and user not in sys.path:
        loaded.add(user)
    return stamps(sorted(loaded))


def stamps(paths: Iterable[str]) -> Dict[str, int]:
    """Path -> time of change in ns, 0 where there is nothing."""
    found = {}
    for path in paths:
        try:
            found[path] = os.stat(path).st_mtime_ns
        except OSError:
            found[path] = 0
    return found


def replace_environment(env: Mapping[str, str]) -> None:
    """Make ``env`` the whole environment, also for C code."""
    for name in set(os.environ) - set(env):
        del os.environ[name]
    os.environ.update(env)
    time.tzset()


def assume(warm: Mapping[str, str], env: Mapping[str, str], cwd: str, argv: List[str]) -> None:
    """Become the process that the kernel's environment, directory and command line describe.

    Variables that imports have set since the process was ``warm`` (pydevd does) stay set, as
    they would have been set in a fresh process.

    Raises
    ------
    OSError
        The directory cannot be entered.
    """
    imported = {name: value for name, value in os.environ.items() if warm.get(name) != value}
    replace_environment({**imported, **env})
    os.chdir(cwd)
    sys.argv = list(argv)
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = [sys.executable, "-m", "ipykernel_launcher", *argv[1:]]
    shed(cwd)


def shed(cwd: str) -> None:
    """Forget what must differ between processes but was inherited by the fork."""
    modules = sys.modules
    if "numpy.random" in modules:
        modules["numpy.random"].seed()  # Python's own ``random`` reseeds itself after a fork
    if "tempfile" in modules:
        modules["tempfile"].tempdir = None  # type: ignore[attr-defined]
    if "multiprocessing.process" in modules:
        process = modules["multiprocessing.process"]
        process.ORIGINAL_DIR = cwd  # type: ignore[attr-defined]
        key = process.AuthenticationString(os.urandom(32))
        process.current_process().authkey = key
        getattr(process.current_process(), "_config", {}).pop("tempdir", None)
    if "uuid" in modules:
        modules["uuid"]._last_timestamp = None  # type: ignore[attr-defined]
    gc.collect(0)


def forget_agent(package: str) -> None:
    """Take the agent's own modules out of ``sys.modules``: they are none of the kernel's."""
    for name in [one for one in sys.modules if one == package or one.startswith(package + ".")]:
        del sys.modules[name]


def make_environment(
    base: Mapping[str, str], task: Mapping[str, Any], pod: str
) -> Tuple[Dict[str, str], List[str]]:
    """The environment of a kernel, and the names that were refused because they never apply.

    ``inherit`` true lays ``env`` over the agent's own environment; false makes ``env`` the whole
    of it. The pod's own variables are added in both cases.
    """
    given: Mapping[str, str] = task["env"]
    env = {**base, **given} if task.get("inherit") else dict(given)
    dropped = [name for name in NEVER if env.pop(name, None) is not None]
    env["JUPYTER_ELASTIC_POD"] = pod
    env["JUPYTER_ELASTIC_KERNEL_ID"] = str(task["kernel_id"])
    if task.get("gpu"):
        env["CUDA_VISIBLE_DEVICES"] = ",".join(task["gpu"])
    return env, dropped
