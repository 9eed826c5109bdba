"""What happens in a child of the zygote: it becomes a spare, and then (or at once) a kernel.

A *spare* is an ``IPKernelApp`` that has done everything but bind its sockets and run the user's
start-up files. It uses private parts of ipykernel: :func:`spare_possible` looks whether they are
there, and without them every kernel is initialised after its fork, by public means only.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from typing import Any, Callable, Dict, List, Optional

from . import identity
from .link import Link, Message

OOM_SCORE = 300
"""Raised for kernels, so that the kernel dies of its own memory, not the zygote or the agent."""

_LATE = (
    "init_connection_file",
    "write_connection_file",
    "init_heartbeat",
    "log_connection_info",
    "init_path",
    "init_gui_pylab",
    "init_extensions",
    "init_code",
)
_CHANNELS = ("shell", "stdin", "control", "iopub")  # in the order in which ipykernel binds


def spare_possible() -> bool:
    """Whether this ipykernel has the private parts that a spare relies on (6.29 to 7.x do)."""
    from ipykernel.kernelapp import IPKernelApp

    needed = (*_LATE, "_bind_socket", "init_sockets", "init_control", "init_iopub", "init_kernel")
    return all(callable(getattr(IPKernelApp, name, None)) for name in needed)


def become_child() -> None:
    """What every process for a kernel does first: own session, default signals, killed first."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        with open("/proc/self/oom_score_adj", encoding="ascii") as file:
            now = int(file.read())
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(min(1000, now + OOM_SCORE)))
    except OSError as error:
        sys.stderr.write(f"oom_score_adj not set: {error}\n")


def launcher_argv(connection_file: str) -> List[str]:
    """``sys.argv`` as a plain kernel has it."""
    launcher = sys.modules["ipykernel_launcher"].__file__
    return [str(launcher), "-f", connection_file]


class Spare:
    """An initialised kernel application that is not bound yet."""

    def __init__(self) -> None:
        from ipykernel.kernelapp import IPKernelApp

        self._unbound: List[Any] = []
        # 1: there is a parent, but none to die with (the agent sees to that).
        self.app: Any = IPKernelApp.instance(parent_handle=1)
        self.app.log.addFilter(_not_yet_encrypted)
        for name in _LATE:
            setattr(self.app, name, _nothing)
        self.app._bind_socket = self._note_socket
        self.app.initialize([])
        self.app.log.removeFilter(_not_yet_encrypted)
        _rehearse(self.app.shell)
        if len(self._unbound) != len(_CHANNELS):
            raise RuntimeError(f"this ipykernel bound {len(self._unbound)} sockets, not 4")
        self._config_files = identity.stamps(self._possible_config_files())

    def _note_socket(self, socket: Any, port: int) -> int:
        self._unbound.append(socket)
        return port

    def _possible_config_files(self) -> List[str]:
        app = self.app
        names = [*app.config_files, "ipython_config.py", app.config_file_name]
        stems = {os.path.splitext(name)[0] for name in names}
        return [
            os.path.join(directory, stem + extension)
            for directory in app.config_file_paths
            for stem in sorted(stems)
            for extension in (".py", ".json")
        ]

    def outdated(self) -> bool:
        """Whether a configuration file changed since it was read."""
        return identity.stamps(self._config_files) != self._config_files

    def bind(self, task: Message) -> None:
        """Take the kernel's name, keys and ports, and bind. Raises what binding raises."""
        app = self.app
        del app._bind_socket
        for name in _LATE:
            delattr(app, name)
        app.connection_file = task["connection_file"]
        app.load_connection_file()
        app.argv = ["-f", task["connection_file"]]
        shell, stdin, control, iopub = self._unbound
        serve = getattr(app, "_apply_curve_server_options", _nothing)
        connect = getattr(app, "_apply_curve_client_options", _nothing)

        def bind(socket: Any, port: int) -> None:
            serve(socket)
            app._bind_socket(socket, port)

        # zmq sockets belong to the thread that uses them.
        shell_thread = getattr(app, "shell_channel_thread", None)
        _run_in(shell_thread, lambda: bind(shell, app.shell_port))
        _run_in(app.control_thread, lambda: bind(control, app.control_port))
        _run_in(app.iopub_thread, lambda: bind(iopub, app.iopub_port))
        bind(stdin, app.stdin_port)
        import zmq

        if app.debug_shell_socket is not None:
            connect(app.debug_shell_socket)
            app.debug_shell_socket.connect(shell.getsockopt(zmq.LAST_ENDPOINT))
        app.init_heartbeat()
        app.log_connection_info()
        app.kernel.record_ports({f"{name}_port": port for name, port in app._ports.items()})

    def enter(self) -> None:
        """Run the user's start-up files and serve until the kernel ends."""
        app = self.app
        app.shell.init_environment()
        session = os.environ.get("JPY_SESSION_NAME")
        if session:
            app.shell.user_ns["__session__"] = session
        app.init_path()
        app.init_gui_pylab()
        app.init_extensions()
        app.init_code()
        sys.stdout.flush()
        sys.stderr.flush()
        app.start()


def _rehearse(shell: Any) -> None:
    """Build what IPython builds for a first cell: the tokenizer's patterns, and the formatters.

    Nothing runs, and nothing is left that a user could see.
    """
    shell.transform_cell("1 + 1\n")
    shell.display_formatter.format(2)


def _not_yet_encrypted(record: Any) -> bool:
    """Leave out the complaint about missing keys: a spare cannot have them yet."""
    return "without encryption" not in str(record.msg)


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _run_in(thread: Any, work: Callable[[], None]) -> None:
    """Run ``work`` on a thread's loop and wait; on this thread where there is none."""
    if thread is None:
        work()
        return
    done = threading.Event()
    failures: List[BaseException] = []

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - handed to the caller
            failures.append(error)
        finally:
            done.set()

    thread.io_loop.add_callback(run)
    if not done.wait(10):
        raise RuntimeError("a channel's thread did not answer within 10 s")
    if failures:
        raise failures[0]


def run_spare(link: Link, warm: Dict[str, str], package: str) -> None:
    """Become a spare, wait for a task, become its kernel. Does not return.

    With ``hold`` in the task, the last step waits for one more message.
    """
    try:
        spare = Spare()
    except Exception:  # noqa: BLE001 - whatever went wrong is told, and fork + initialise used
        link.send({"event": "spare-failed", "message": traceback.format_exc(limit=-3)})
        os._exit(1)
    link.send({"event": "spare-ready"})
    task = link.receive_one()
    if task is None:  # the zygote is gone
        os._exit(0)
    try:
        if spare.outdated():
            raise RuntimeError("a configuration file changed while the spare was warm")
        identity.assume(warm, task["env"], task["cwd"], launcher_argv(task["connection_file"]))
        spare.bind(task)
    except Exception:  # noqa: BLE001 - before any user code: the zygote forks anew instead
        link.send({"event": "refused", "message": traceback.format_exc(limit=-3)})
        os._exit(1)
    link.send({"event": "bound"})
    if task.get("hold") and link.receive_one() is None:  # it was let go of, or the zygote is gone
        os._exit(0)
    link.close()
    identity.forget_agent(package)
    _serve(spare.enter)


def run_fork(task: Message, warm: Dict[str, str], package: str) -> None:
    """Become a kernel by public means: set the scene, then ``IPKernelApp -f FILE``."""
    from ipykernel.kernelapp import IPKernelApp

    argv = launcher_argv(task["connection_file"])
    identity.assume(warm, task["env"], task["cwd"], argv)
    identity.forget_agent(package)

    def enter() -> None:
        app = IPKernelApp.instance(parent_handle=1)  # see Spare
        app.initialize(argv[1:])
        app.start()

    _serve(enter)


def _serve(enter: Callable[[], None]) -> None:
    """Run a kernel and leave as an interpreter would, ``atexit`` functions included."""
    code: Any = 0
    try:
        enter()
    except SystemExit as leave:
        code = leave.code
    except BaseException:  # noqa: BLE001 - the last thing this process does is to tell
        traceback.print_exc(file=sys.__stderr__)
        code = 1
    _finish(code)


def _finish(code: Any) -> None:
    if code is None:
        code = 0
    elif not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
        code = 1
    import atexit

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            continue  # closed already
    os._exit(code & 0xFF)


def run_exec(argv: List[str], env: Dict[str, str], cwd: str) -> None:
    """Become a fresh program. Returns only by an OSError."""
    os.chdir(cwd)
    os.execvpe(argv[0], argv, env)


def python_argv(connection_file: str) -> List[str]:
    """The command of a fresh Python kernel, with this interpreter's own options."""
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

    flags: List[str] = _args_from_interpreter_flags()
    return [sys.executable, *flags, "-m", "ipykernel_launcher", "-f", connection_file]


def redirect_input(descriptor: Optional[int] = None) -> None:
    """Standard input from nowhere, as Jupyter gives it to kernels."""
    null = os.open(os.devnull, os.O_RDONLY) if descriptor is None else descriptor
    os.dup2(null, 0)
    if null != 0:
        os.close(null)
