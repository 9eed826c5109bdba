"""The state directory: permissions, lock, what cannot be read, and logs that stay small."""

from __future__ import annotations

import errno
import logging
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jupyter_elastic.cluster.local import state as module
from jupyter_elastic.cluster.local.state import StateDir, StateUnavailable, next_version
from jupyter_elastic.errors import BadRequest, Unsupported
from jupyter_elastic.model import Kernel
from jupyter_elastic.resources import Resources


def kernel(kernel_id: str = "k1") -> Kernel:
    return Kernel(
        kernel_id=kernel_id,
        owner="o",
        template="t",
        created=1.0,
        resources=Resources(cpu=1, memory=1),
    )


@pytest.fixture
def state(state_dir: Path) -> StateDir:
    found = StateDir(state_dir / "state")
    found.prepare()
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_its_owner_may_look(state: StateDir) -> None:
    assert mode(state.path) == 0o700
    with state.locked():
        state.put_kernel(kernel())
    state.beat()
    for path in state.path.rglob("*"):
        assert mode(path) & 0o077 == 0, path


def test_a_directory_that_was_open_is_closed(state_dir: Path) -> None:
    path = state_dir / "open"
    path.mkdir(mode=0o755)
    StateDir(path).prepare()
    assert mode(path) == 0o700


def test_somebody_elses_directory_is_refused(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(Unsupported, match="belongs to user id"):
        StateDir(state_dir).prepare()


def test_a_place_that_cannot_be_used_says_why(state_dir: Path) -> None:
    (state_dir / "file").write_text("")
    with pytest.raises(StateUnavailable, match="file"):
        StateDir(state_dir / "file" / "below").prepare()


def test_a_full_disk_changes_nothing(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    with state.locked():
        state.put_kernel(kernel())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StateUnavailable) as refused, state.locked():
        state.put_kernel(kernel("k2"))
    assert "Make room" in refused.value.remedy
    monkeypatch.undo()
    assert set(state.all_kernels()) == {"k1"}
    assert not list(state.path.glob(".new-*"))
    with state.locked():  # the lock was let go
        state.put_kernel(kernel("k2"))


def test_the_lock_excludes_threads(state: StateDir) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with state.locked():
                inside += 1
                most = max(most, inside)
                time.sleep(0)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_stopped_process_that_holds_the_lock(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'w');"
        "fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(state.path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        monkeypatch.setattr(module, "LOCK_PATIENCE", 0.05)
        with pytest.raises(StateUnavailable, match="stayed locked"), state.locked():
            pass
        holder.kill()
    with state.locked():
        pass


def test_what_cannot_be_read_is_said_once_and_set_aside(
    state: StateDir, caplog: pytest.LogCaptureFixture
) -> None:
    with state.locked():
        state.put_kernel(kernel())
    (state.kernels / "bad.json").write_text("{")
    (state.pods / "worse.json").write_text('{"pod": 1}')
    with caplog.at_level(logging.ERROR):
        assert set(state.all_kernels()) == {"k1"}
        assert set(state.all_kernels()) == {"k1"}
    assert len(caplog.records) == 1  # said once, not every quarter of a second
    with state.locked():
        assert sorted(state.set_aside()) == ["bad.json", "worse.json"]
        assert state.set_aside() == []
    assert set(state.all_kernels()) == {"k1"}
    assert not state.has_kernel("bad")  # its id is free again
    assert (state.kernels / "bad.json.broken").read_text() == "{"
    assert (state.pods / "worse.json.broken").exists()


def test_what_a_dead_writer_left_is_removed(state: StateDir) -> None:
    old, new = state.path / ".new-old", state.path / ".new-new"
    for path in (old, new):
        path.write_text("half of it")
    os.utime(old, (1, 1))
    state.drop_unfinished(60)
    assert new.exists()  # its writer may be at work
    assert not old.exists()


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a" * 200, "a\0b"])
def test_names_stay_inside(state: StateDir, name: str) -> None:
    with pytest.raises(BadRequest):
        state.has_kernel(name)
    with pytest.raises(BadRequest):
        state.run_dir(name)


def test_versions_only_grow() -> None:
    version = next_version()
    for _ in range(100):
        after = next_version(version)
        assert int(after) > int(version)
        version = after
    assert int(next_version(str(10**20))) > 10**20


def test_a_log_stays_bounded_and_keeps_its_end(state: StateDir) -> None:
    run = state.run_dir("pod")
    run.mkdir()
    with open(run / "log", "ab", buffering=0) as writer:
        for i in range(3000):
            writer.write(b"line %d\n" % i)
        state.trim_log("pod", 8000)
        assert (run / "log").stat().st_size <= 4000
        assert state.log_tail("pod", 2) == "line 2998\nline 2999"
        writer.write(b"after\n")  # an appending writer goes on at the new end
    assert state.log_tail("pod", 2) == "line 2999\nafter"
    assert (run / "log").read_bytes().startswith(b"line ")
    state.trim_log("no-such-pod", 10)
    assert state.log_tail("no-such-pod", 5) == ""
