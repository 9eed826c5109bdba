"""Control groups: version 1 for real where it may be written, version 2 on a directory tree."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_elastic.agent import processes
from jupyter_elastic.cluster.local import cgroups
from jupyter_elastic.cluster.local.cgroups import Group, Mounts
from jupyter_elastic.resources import MIB


@pytest.fixture
def real() -> Iterator[Group]:
    """A group of this machine, whatever version it has."""
    place, note = cgroups.find("auto")
    if place is None:
        pytest.skip(note)
    group = place.group(f"test-{uuid.uuid4().hex[:8]}")
    cgroups.make(group)
    yield group
    processes.kill(cgroups.pids(group))
    deadline = time.monotonic() + 60
    while not cgroups.remove(group):  # the system needs a moment after the last exit
        assert time.monotonic() < deadline, "the group stays busy"
        time.sleep(0.02)


def inside(group: Group, code: str) -> subprocess.Popen[bytes]:
    """A Python that joins the group first, as a zygote does."""
    join = "import os, sys\nfor f in sys.argv[1:]: open(f, 'w').write(str(os.getpid()))\n"
    command = [sys.executable, "-c", join + code, *group.join]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_memory_goes_up_and_down_with_swap(real: Group) -> None:
    for limit in (256 * MIB, 512 * MIB, 128 * MIB):
        cgroups.set_memory(real, limit)
        assert cgroups.memory_limit(real) == limit
        if real.version == 1:
            swap = Path(real.memory, "memory.memsw.limit_in_bytes")
            assert not swap.exists() or int(swap.read_text()) == limit
        else:
            assert Path(real.memory, "memory.swap.max").read_text().strip() == "0"


def test_cpu_is_written(real: Group) -> None:
    if real.cpu is None:
        pytest.skip("no CPU controller here")
    for millicores in (500, 2500, 1):
        cgroups.set_cpu(real, millicores)
        assert cpu_quota(real) == max(1000, millicores * 100)
    cgroups.set_cpu(real, None)
    assert cpu_quota(real) is None


def cpu_quota(group: Group) -> int | None:
    assert group.cpu is not None
    if group.version == 1:
        quota = int(Path(group.cpu, "cpu.cfs_quota_us").read_text())
        return quota if quota > 0 else None
    word = Path(group.cpu, "cpu.max").read_text().split()[0]
    return None if word == "max" else int(word)


def test_use_counts_memory_but_not_file_cache(real: Group, tmp_path: Path) -> None:
    code = (
        "x = bytearray(64 * 2**20)\n"
        f"open({str(tmp_path / 'big')!r}, 'wb').write(bytes(48 * 2**20))\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with inside(real, code) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        assert child.pid in cgroups.pids(real)
        use = cgroups.memory_use(real)
        assert 64 * MIB <= use < 104 * MIB
        child.kill()


def test_lowering_under_use_is_refused_and_undone(real: Group) -> None:
    if real.version == 2:
        pytest.skip("version 2 kills instead: the caller looks at the use first")
    cgroups.set_memory(real, 256 * MIB)
    code = "x = bytearray(100 * 2**20)\nprint('ready', flush=True); sys.stdin.read()"
    with inside(real, code) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        with pytest.raises(OSError) as refused:
            cgroups.set_memory(real, 32 * MIB)
        assert refused.value.errno == errno.EBUSY
        assert cgroups.memory_limit(real) == 256 * MIB
        assert child.poll() is None
        child.kill()


def test_going_over_the_limit_ends_the_process(real: Group) -> None:
    cgroups.set_memory(real, 48 * MIB)
    with inside(real, "x = bytearray(200 * 2**20)") as child:
        assert child.wait(60) == -9


def test_a_busy_group_stays(real: Group) -> None:
    with inside(real, "print('ready', flush=True); sys.stdin.read()") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        assert not cgroups.remove(real)
        child.kill()
    cgroups.make(real)


def test_a_group_that_is_gone(real: Group) -> None:
    assert cgroups.remove(real)
    assert cgroups.remove(real)
    assert cgroups.pids(real) == []
    cgroups.make(real)


# -- version 2, on a tree that only looks like one ----------------------------------------------


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A delegated group; making a group fills in the files that the system would."""

    def mkdir(path: Path) -> None:
        if path.exists():
            return
        path.mkdir()
        controllers = (path.parent / "cgroup.subtree_control").read_text().replace("+", "")
        (path / "cgroup.controllers").write_text(controllers)
        (path / "cgroup.type").write_text("domain")
        for name in ("cgroup.subtree_control", "cgroup.procs"):
            (path / name).write_text("")
        for name in ("memory.max", "memory.swap.max", "cpu.max", "cpu.weight"):
            (path / name).write_text("max")

    monkeypatch.setattr(cgroups, "_mkdir", mkdir)
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu memory pids")
    (tmp_path / "cgroup.type").write_text("domain")
    (tmp_path / "cgroup.subtree_control").write_text("")
    (tmp_path / "cgroup.procs").write_text("")
    return tmp_path


def test_v2_enables_controllers_all_the_way(tree: Path) -> None:
    place, note = cgroups.find(str(tree))
    assert note == ""
    assert place is not None
    assert place.version == 2
    assert (tree / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert (tree / cgroups.ROOT / "cgroup.subtree_control").read_text() == "+cpu +memory"
    group = place.group("pod")
    assert group.memory == group.cpu == str(tree / cgroups.ROOT / "pod")
    assert group.join == (f"{group.memory}/cgroup.procs",)
    cgroups.make(group)
    cgroups.set_memory(group, 256 * MIB)
    cgroups.set_cpu(group, 1500)
    assert Path(group.memory, "memory.max").read_text() == str(256 * MIB)
    assert Path(group.memory, "memory.swap.max").read_text() == "0"
    assert Path(group.memory, "cpu.max").read_text() == "150000 100000"
    cgroups.set_cpu(group, None)
    assert Path(group.memory, "cpu.max").read_text() == "max 100000"


def test_v2_moves_our_own_processes_into_a_leaf(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "cgroup.procs").write_text(str(os.getpid()))
    lists = iter([[os.getpid()], []])
    monkeypatch.setattr(cgroups, "_pids", lambda _files: next(lists))
    place, _ = cgroups.find(str(tree))
    assert place is not None
    assert (tree / cgroups.LEAF / "cgroup.procs").read_text() == str(os.getpid())


def test_v2_leaves_others_processes_alone(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "cgroup.procs").write_text(str(os.getpid()))
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    place, note = cgroups.find(str(tree))
    assert place is None
    assert "other users' processes" in note
    assert not (tree / cgroups.LEAF).exists()
    assert (tree / "cgroup.subtree_control").read_text() == ""


def test_v2_without_the_cpu_controller(tree: Path) -> None:
    (tree / "cgroup.controllers").write_text("memory pids")
    place, _ = cgroups.find(str(tree))
    assert place is not None
    assert place.cpu is None
    group = place.group("pod")
    cgroups.make(group)
    cgroups.set_cpu(group, 500)
    assert Path(group.memory, "cpu.max").read_text() == "max"


def test_v2_without_the_memory_controller(tree: Path) -> None:
    (tree / "cgroup.controllers").write_text("cpu pids")
    place, note = cgroups.find(str(tree))
    assert place is None
    assert "memory controller" in note


def test_v2_use_without_file_cache(tree: Path) -> None:
    place, _ = cgroups.find(str(tree))
    assert place is not None
    group = place.group("pod")
    cgroups.make(group)
    Path(group.memory, "memory.current").write_text("1000\n")
    Path(group.memory, "memory.stat").write_text("anon 500\ninactive_file 300\nactive_file 150\n")
    assert cgroups.memory_use(group) == 550


# -- where am I ---------------------------------------------------------------------------------


def proc(tmp_path: Path, mountinfo: str, own: str) -> Mounts:
    (tmp_path / "mountinfo").write_text(mountinfo)
    (tmp_path / "cgroup").write_text(own)
    return Mounts.read(tmp_path)


def test_a_systemd_machine(tmp_path: Path) -> None:
    point = tmp_path / "sys"
    own = point / "user.slice/app.scope"
    own.mkdir(parents=True)
    mounts = proc(
        tmp_path,
        f"30 23 0:26 / {point} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
        "24 1 8:1 / / rw - ext4 /dev/sda1 rw\n",
        "0::/user.slice/app.scope\n",
    )
    assert mounts.found == {"": (point, own)}


def test_a_container_with_version_1(tmp_path: Path) -> None:
    """The mount shows only the container's part of the hierarchy."""
    memory, cpu = tmp_path / "memory", tmp_path / "cpu,cpuacct"
    memory.mkdir()
    (cpu / "inner").mkdir(parents=True)
    mounts = proc(
        tmp_path,
        f"40 30 0:30 /docker/abc {memory} ro master:1 - cgroup cgroup rw,memory\n"
        f"41 30 0:31 /docker/abc {cpu} rw - cgroup cgroup rw,cpu,cpuacct\n",
        "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc/inner\n0::/\n",
    )
    assert mounts.found["memory"] == (memory, memory)
    assert mounts.found["cpu"] == mounts.found["cpuacct"] == (cpu, cpu / "inner")
    assert "" not in mounts.found


def test_the_surrounding_limits(tmp_path: Path) -> None:
    point = tmp_path / "sys"
    own = point / "a/b"
    own.mkdir(parents=True)
    (point / "a/memory.max").write_text(str(512 * MIB))
    (own / "memory.max").write_text("max\n")
    (point / "a/cpu.max").write_text("150000 100000\n")
    (own / "cpu.max").write_text("max 100000\n")
    mounts = Mounts({"": (point, own)})
    assert cgroups.surrounding(mounts) == (512 * MIB, 1500)
    assert cgroups.surrounding(Mounts({"": (point, point)})) == (None, None)


def test_switched_off_or_missing() -> None:
    assert cgroups.find("off") == (None, "Control groups are switched off by configuration.")
    place, note = cgroups.find("auto", Mounts({"pids": (Path("/x"), Path("/x"))}))
    assert place is None
    assert note == "This system has no control groups."
