"""The state directory: the one truth of the local cluster, shared by all servers of one user.

Layout (0700)::

    lock                     flock held during every change
    heartbeat                touched by whoever holds a lease; warm pods end when it grows old
    leases/<name>            flock held by the holder
    pods/<name>.json         PodRecord
    kernels/<id>.json        Kernel
    *.json.broken            a record that could not be read, set aside; its pod's processes end
    run/<pod>/               the pod's own: agent, config.json, keys.json, client.json, log,
                             status.json and claim.json (written by the agent)

Every file is replaced atomically. Nothing here blocks for long save :meth:`StateDir.locked`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import random
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec

from ...errors import BadRequest, ElasticError, Unsupported
from ...model import Kernel, Pod, PoolRow
from .cgroups import Group
from .process import Process

_LOG = logging.getLogger(__name__)

LOCK_PATIENCE = 10.0
"""Seconds to wait for the lock; its holders need milliseconds."""

_NEW = ".new-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,120}", re.ASCII)
_T = TypeVar("_T")


class StateUnavailable(ElasticError):
    """The state directory cannot be used now: full, not writable, or locked."""

    reason: ClassVar[str] = "StateUnavailable"
    status: ClassVar[int] = 503
    retry: ClassVar[bool] = True
    remedy = "Check space and permissions of the state directory, then try again."


class PodRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A pod and what only this adapter needs to know of it."""

    pod: Pod
    process: Process
    """The agent."""
    group: Group | None
    """None: limits are held by the agent itself (watchdog)."""
    python: str
    """The interpreter the agent runs with."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The agent's ``status.json``; unknown fields are ignored."""

    phase: str
    endpoint: str | None = None
    public_key: str | None = None
    overhead: int = 0
    warnings: tuple[str, ...] = ()
    reason: str | None = None
    message: str | None = None
    usage: dict[str, Any] | None = None


def next_version(old: str = "") -> str:
    """A version that follows ``old``, and never one that any object here had before."""
    return str(max(int(old or 0) + 1, time.time_ns()))


class StateDir:
    """Files and the lock. Knows nothing of what the records mean."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pods = path / "pods"
        self.kernels = path / "kernels"
        self.runs = path / "run"
        self.leases = path / "leases"
        self.heartbeat = path / "heartbeat"
        self.pool = path / "pool.json"
        self.demand = path / "demand.json"
        self._broken: set[str] = set()

    def prepare(self) -> None:
        """Make the directory, or take the one there is.

        Raises
        ------
        Unsupported
            It belongs to somebody else.
        StateUnavailable
            It cannot be made or written.
        """
        with self._errors():
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.path.stat()
            if status.st_uid != os.geteuid():
                raise Unsupported(
                    f"The state directory {self.path} belongs to user id {status.st_uid}, not to"
                    f" {os.geteuid()}.",
                    "Choose another state directory: each user needs one of their own.",
                )
            if status.st_mode & 0o077:
                self.path.chmod(0o700)
            for directory in (self.pods, self.kernels, self.runs, self.leases):
                directory.mkdir(mode=0o700, exist_ok=True)

    # -- the lock --------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock that every change needs. Blocks: only for threads.

        Raises
        ------
        StateUnavailable
            Another process kept it for over :data:`LOCK_PATIENCE` seconds, or a file system
            error happened inside.
        """
        with self._errors():
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self.path / "lock", flags, 0o600)
            try:
                self._wait_for_lock(descriptor)
                try:
                    yield
                finally:
                    # Explicitly: a process just being started may share the descriptor.
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
            finally:
                os.close(descriptor)

    def _wait_for_lock(self, descriptor: int) -> None:
        until = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise StateUnavailable(
                        f"The state directory {self.path} stayed locked for"
                        f" {LOCK_PATIENCE:g} s by another process.",
                        "See whether another Jupyter server of yours is stopped or hangs.",
                    ) from None
                time.sleep(random.uniform(0.0005, 0.004))

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise StateUnavailable(
                f"The state directory {self.path} cannot be used: {error}.",
                "Make room on that file system, then try again." if full else "",
            ) from error

    def try_lease(self, name: str) -> int | None:
        """A descriptor that holds the lease while it is open; None: somebody has it."""
        with self._errors():
            path = self.leases / _checked(name)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def beat(self) -> None:
        """Tell warm pods that a controller is there."""
        with self._errors():
            self.heartbeat.touch(mode=0o600)
            os.utime(self.heartbeat)

    def put_pool(self, rows: list[PoolRow]) -> None:
        """Write how the pool stands, for whoever looks. Only by the holder of a lease."""
        with self._errors():
            self._write(self.pool, rows)

    def put_demand(self, text: str) -> None:
        """Write what is known of the demand. Only by the holder of a lease."""
        with self._errors():
            self._write(self.demand, text)

    def demand_text(self) -> str:
        """What was written last; empty when nothing was that can be read."""
        return self._read(self.demand, str) or ""

    def pool_rows(self) -> list[PoolRow]:
        """What was written last; empty when nothing was that can be read."""
        return self._read(self.pool, list[PoolRow]) or []

    # -- records ---------------------------------------------------------------------------

    def pod(self, name: str) -> PodRecord | None:
        """One pod's record as it is now, or None."""
        return self._read(self.pods / f"{_checked(name)}.json", PodRecord)

    def kernel(self, kernel_id: str) -> Kernel | None:
        """One kernel's record as it is now, or None."""
        return self._read(self.kernels / f"{_checked(kernel_id)}.json", Kernel)

    def all_pods(self) -> dict[str, PodRecord]:
        """All pods' records."""
        return self._read_all(self.pods, PodRecord)

    def all_kernels(self) -> dict[str, Kernel]:
        """All kernels' records."""
        return self._read_all(self.kernels, Kernel)

    def put_pod(self, record: PodRecord) -> None:
        """Write a pod's record. Only under the lock."""
        self._write(self.pods / f"{_checked(record.pod.name)}.json", record)

    def put_kernel(self, kernel: Kernel) -> None:
        """Write a kernel's record. Only under the lock."""
        self._write(self.kernels / f"{_checked(kernel.kernel_id)}.json", kernel)

    def drop_pod(self, name: str) -> None:
        """Remove a pod's record. Only under the lock. Idempotent."""
        (self.pods / f"{_checked(name)}.json").unlink(missing_ok=True)

    def drop_kernel(self, kernel_id: str) -> bool:
        """Remove a kernel's record; whether it was there. Only under the lock."""
        try:
            (self.kernels / f"{_checked(kernel_id)}.json").unlink()
        except FileNotFoundError:
            return False
        return True

    def has_kernel(self, kernel_id: str) -> bool:
        """Whether a record exists, readable or not."""
        return (self.kernels / f"{_checked(kernel_id)}.json").exists()

    def pod_age(self, name: str) -> float:
        """Seconds since a pod's record was last written; 0 when there is none."""
        try:
            written = (self.pods / f"{_checked(name)}.json").stat().st_mtime
        except FileNotFoundError:
            return 0.0
        return time.time() - written

    def _read(self, path: Path, kind: type[_T]) -> _T | None:
        try:
            body = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.MsgspecError as error:
            # By somebody's hand or a much newer version: say so once.
            if str(path) not in self._broken:
                self._broken.add(str(path))
                _LOG.error("%s cannot be read: %s", path, error)
            return None

    def set_aside(self) -> list[str]:
        """Rename records that cannot be read to ``*.broken``; returns the names of the files.

        Nobody would count, show or end them, and their ids would stay taken for ever. They are
        kept for whoever wants to mend them by hand. Only under the lock.
        """
        aside = []
        for directory, kind in ((self.pods, PodRecord), (self.kernels, Kernel)):
            for name in os.listdir(directory):
                path = directory / name
                if name.endswith(".json") and self._read(path, kind) is None and path.is_file():
                    path.replace(directory / f"{name}.broken")
                    self._broken.discard(str(path))
                    _LOG.error("%s was set aside as %s.broken.", path, name)
                    aside.append(name)
        return aside

    def drop_unfinished(self, age: float) -> None:
        """Remove files older than ``age`` seconds whose writer died before it put them in place."""
        for path in self.path.glob(f"{_NEW}*"):
            with contextlib.suppress(FileNotFoundError):  # put in place just now
                if time.time() - path.stat().st_mtime > age:
                    path.unlink()

    def _read_all(self, directory: Path, kind: type[_T]) -> dict[str, _T]:
        found = {}
        with self._errors():
            names = os.listdir(directory)
        for name in names:
            if name.endswith(".json") and (one := self._read(directory / name, kind)) is not None:
                found[name.removesuffix(".json")] = one
        return found

    def _write(self, path: Path, value: object) -> None:
        write_atomically(path, msgspec.json.encode(value), self.path)

    # -- run directories -------------------------------------------------------------------

    def run_dir(self, pod: str) -> Path:
        """Where a pod's own files are."""
        return self.runs / _checked(pod)

    def status(self, pod: str) -> Status | None:
        """What the pod's agent last wrote of itself; None before it has."""
        return self._read(self.run_dir(pod) / "status.json", Status)

    def log_tail(self, pod: str, lines: int, most: int = 64 * 1024) -> str:
        """The last lines of the pod's log."""
        try:
            with open(self.run_dir(pod) / "log", "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - most))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:]) if lines > 0 else ""

    def trim_log(self, pod: str, most: int) -> None:
        """Keep the last half of ``most`` bytes of a log that has grown over ``most``.

        Its writers append, so that they go on at the new end; what they write during the cut
        may be lost.
        """
        try:
            with open(self.run_dir(pod) / "log", "r+b") as file:
                size = file.seek(0, os.SEEK_END)
                if size <= most:
                    return
                file.seek(size - most // 2)
                rest = file.read(most // 2)
                file.truncate(0)
                file.seek(0)
                file.write(rest[rest.find(b"\n") + 1 :])
        except FileNotFoundError:
            return

    def drop_run(self, pod: str) -> None:
        """Remove a pod's directory. Idempotent; safe beside another that does the same."""
        path = self.run_dir(pod)
        for _ in range(3):  # a last write of a dying process may land between list and rmdir
            shutil.rmtree(path, ignore_errors=True)
            if not path.exists():
                return
        _LOG.error("The directory %s could not be removed.", path)

    # -- watching --------------------------------------------------------------------------

    def signature(self, live: list[str]) -> dict[str, int]:
        """Changes when a record or a file of one of the ``live`` pods does. A few stat calls.

        All writes replace files, and that changes their directory's time.
        """
        found = {}
        for key, path in (
            ("", self.pods),
            (" ", self.kernels),
            *((name, self.runs / name) for name in live),
        ):
            try:
                found[key] = os.stat(path).st_mtime_ns
            except FileNotFoundError:
                found[key] = 0
        return found


def write_atomically(path: Path, body: bytes, scratch: Path) -> None:
    """Replace ``path``; nobody ever sees half of it. ``scratch`` lies on the same file system."""
    temporary = scratch / f"{_NEW}{uuid.uuid4().hex}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _checked(name: str) -> str:
    """A name that is safe as a file's; kernel ids and pod names always are."""
    if not _NAME.fullmatch(name):
        raise BadRequest(f"{name[:40]!r} cannot be the name of a pod, kernel or lease.")
    return name
