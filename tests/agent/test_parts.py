"""Parts of the agent that need no pod."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from jupyter_elastic.agent import identity, idle, nvml, ports, words
from jupyter_elastic.agent.cgroup import Cgroup
from jupyter_elastic.agent.pack import build, pack
from jupyter_elastic.agent.task import substitute

MIB = 2**20


def test_the_zipapp_is_small_and_always_the_same(tmp_path: Path) -> None:
    assert build() == build()
    first = pack(tmp_path)
    before = first.stat().st_mtime_ns
    assert pack(tmp_path) == first
    assert first.stat().st_mtime_ns == before
    assert first.stat().st_size < 64 * 1024
    assert [one.name for one in tmp_path.iterdir()] == [first.name]
    names = zipfile.ZipFile(first).namelist()
    assert "__main__.py" in names
    assert not [name for name in names if name.endswith("pack.py")]


def test_a_damaged_zipapp_is_replaced(tmp_path: Path) -> None:
    path = pack(tmp_path)
    path.write_bytes(b"half")
    assert pack(tmp_path) == path
    assert path.read_bytes() == build()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MY_OWN", "spare"),
        ("PATH", "spare"),
        ("JPY_SESSION_NAME", "spare"),
        ("HOME", "fork"),
        ("IPYTHONDIR", "fork"),
        ("VIRTUAL_ENV", "fork"),
        ("PYTHONPATH", "exec"),
        ("LD_LIBRARY_PATH", "exec"),
        ("OMP_NUM_THREADS", "exec"),
        ("LANG", "exec"),
        ("LC_ALL", "exec"),
    ],
)
def test_what_an_environment_asks_for(name: str, expected: str) -> None:
    warm = {"HOME": "/h", "LANG": "C"}
    assert identity.way(warm, {**warm, name: "other"}) == expected
    assert identity.way({**warm, name: "other"}, warm) == expected
    assert identity.way({**warm, name: "same"}, {**warm, name: "same"}) == "spare"


def test_environment_is_whole_or_laid_over() -> None:
    base = {"A": "1", "B": "2", "JPY_PARENT_PID": "7"}
    task = {"env": {"B": "3", "JPY_PARENT_PID": "8"}, "kernel_id": "k", "gpu": ["u1", "u2"]}
    env, dropped = identity.make_environment(base, {**task, "inherit": False}, "p")
    own = {
        "JUPYTER_ELASTIC_POD": "p",
        "JUPYTER_ELASTIC_KERNEL_ID": "k",
        "CUDA_VISIBLE_DEVICES": "u1,u2",
    }
    assert env == {"B": "3", **own}
    assert dropped == ["JPY_PARENT_PID"]
    env, _ = identity.make_environment(base, {**task, "inherit": True}, "p")
    assert env == {"A": "1", "B": "3", **own}


def test_packages_installed_for_the_user_alone_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``pip install`` in an image whose site-packages may not be written, and then a restart."""
    folder = tmp_path / "lib" / "site-packages"
    monkeypatch.setattr("site.ENABLE_USER_SITE", True)
    monkeypatch.setattr("site.USER_SITE", str(folder))
    before = identity.installed()
    assert before[str(folder)] == 0
    folder.mkdir(parents=True)
    assert identity.installed() != before
    monkeypatch.setattr("site.ENABLE_USER_SITE", False)
    assert str(folder) not in identity.installed()


def test_cgroup_version_2(tmp_path: Path) -> None:
    files = {
        "memory.current": f"{300 * MIB}\n",
        "memory.stat": f"anon 1\ninactive_file {90 * MIB}\nactive_file {10 * MIB}\n",
        "memory.max": f"{512 * MIB}\n",
        "memory.peak": f"{400 * MIB}\n",
        "memory.events": "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\n",
        "cpu.max": "150000 100000\n",
        "cpu.stat": "usage_usec 2500000\nnr_throttled 3\nthrottled_usec 500000\n",
        "memory.pressure": "some avg10=1.50 avg60=0.00 avg300=0.00 total=5\nfull avg10=9.9\n",
        "cpu.pressure": "some avg10=20.00 avg60=0.00 avg300=0.00 total=5\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    group = Cgroup({"version": 2, "memory": str(tmp_path), "cpu": str(tmp_path)})
    assert group.memory_charged() == 300 * MIB
    assert group.memory_used() == 200 * MIB
    assert group.memory_limit() == 512 * MIB
    assert group.memory_peak() == 400 * MIB
    assert group.oom_kills() == 1
    assert group.cpu_limit() == 1500
    assert group.cpu_seconds() == 2.5
    assert group.throttled_seconds() == 0.5
    assert group.pressure() == {"memory": 1.5, "cpu": 20.0}
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert group.memory_limit() is None
    assert group.cpu_limit() is None


def test_cgroup_version_1_and_nothing(tmp_path: Path) -> None:
    files = {
        "memory.usage_in_bytes": "1000",
        "memory.stat": "inactive_file 1\ntotal_inactive_file 100\ntotal_active_file 200\n",
        "memory.limit_in_bytes": "9223372036854771712",
        "memory.max_usage_in_bytes": "2000",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
        "cpu.cfs_quota_us": "25000",
        "cpu.cfs_period_us": "100000",
        "cpu.stat": "nr_periods 1\nnr_throttled 1\nthrottled_time 1500000000\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    group = Cgroup({"version": 1, "memory": str(tmp_path), "cpu": str(tmp_path)})
    assert group.memory_used() == 700
    assert group.memory_limit() is None
    assert group.memory_peak() == 2000
    assert group.oom_kills() == 4
    assert group.cpu_limit() == 250
    assert group.throttled_seconds() == 1.5
    nothing = Cgroup({"version": 1, "memory": str(tmp_path / "no"), "cpu": ""})
    assert nothing.memory_used() is None
    assert nothing.oom_kills() == 0
    assert nothing.cpu_limit() is None
    assert nothing.pressure() is None


def test_idle_decisions() -> None:
    policy = idle.Policy(cull_after=100, max_age=1000)
    wait = idle.decide(policy, 150, 0, 100, busy=False, connected=True)
    assert wait == idle.Wait(50)
    assert idle.decide(policy, 150, 0, 100, busy=True, connected=True) == idle.Wait(50)
    # Busy is never idle, but one that nothing was heard of for so long is asked.
    assert idle.decide(policy, 500, 0, 100, busy=True, connected=True) == idle.Ask(500)
    culled = idle.decide(policy, 200, 0, 100, busy=False, connected=True)
    assert isinstance(culled, idle.Cull)
    assert culled.reason == "Idle"
    assert "100 seconds" in culled.message
    aged = idle.decide(policy, 1000, 0, 999, busy=True, connected=True)
    assert isinstance(aged, idle.Cull)
    assert aged.reason == "MaxAge"
    assert idle.decide(idle.Policy(), 1e9, 0, 0, busy=False, connected=False) == idle.Wait(None)
    shy = idle.Policy(cull_after=100, cull_connected=False)
    assert isinstance(idle.decide(shy, 900, 0, 0, busy=False, connected=True), idle.Wait)
    assert isinstance(idle.decide(shy, 900, 0, 0, busy=False, connected=False), idle.Cull)


def test_reserved_ports_can_be_listened_on_but_are_not_given_to_others() -> None:
    import socket

    held = ports.Ports("127.0.0.1", None)
    try:
        assert len(set(held.numbers.values())) == 5
        assert held.taken() is None
        port = held.numbers["hb_port"]
        kernel = socket.create_server(("127.0.0.1", port))
        assert held.taken() == "hb_port"
        assert ports.clients(port) == 0
        client = socket.create_connection(("127.0.0.1", port))
        assert ports.clients(port) == 1
        client.close()
        kernel.close()
        assert held.taken() is None
    finally:
        held.close()


def test_reasons_have_figures() -> None:
    end = words.make_exit(
        1.0, {"code": None, "signal": 9}, True, 512 * MIB, 511 * MIB, "irrelevant"
    )
    assert end["reason"] == "OutOfMemory"
    assert "limit of 512 MiB (peak 511 MiB)" in end["message"]
    end = words.make_exit(1.0, {"code": 3, "signal": None}, False, None, None, "Boom: no")
    assert end["reason"] == "Crashed"
    assert "exit code 3" in end["message"]
    assert "Boom: no" in end["message"]
    end = words.make_exit(1.0, {"code": None, "signal": 11}, False, None, None, "")
    assert (end["reason"], "SIGSEGV" in end["message"]) == ("Killed", True)
    assert words.make_exit(1.0, {"code": 0, "signal": None}, False, None, None, "")["reason"] == (
        "Exited"
    )


def test_braces_that_are_not_ours_stay() -> None:
    assert substitute("{connection_file}", {"connection_file": "/x"}) == "/x"
    assert substitute("awk '{print $1}'", {"connection_file": "/x"}) == "awk '{print $1}'"


FAKE_NVML = r"""
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } process_t;
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) { *h = (void *)(long)(i + 1); return 0; }
int nvmlDeviceGetUUID(void *h, char *s, unsigned n) {
    strcpy(s, h == (void *)1 ? "GPU-one" : "GPU-two"); return 0; }
int nvmlDeviceGetName(void *h, char *s, unsigned n) { strcpy(s, "Fake A1"); return 0; }
int nvmlDeviceGetMemoryInfo(void *h, memory_t *m) {
    m->total = 1000; m->used = 300; m->free = 700; return 0; }
int nvmlDeviceGetUtilizationRates(void *h, utilization_t *u) { u->gpu = 42; return 0; }
int nvmlDeviceGetComputeRunningProcesses_v3(void *h, unsigned *n, process_t *p) {
    p[0].pid = 7; p[0].used = 200; p[1].pid = 8; p[1].used = ~0ull; *n = 2; return 0; }
"""


def test_nvml_with_a_compiled_library(tmp_path: Path) -> None:
    import ctypes

    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    source = tmp_path / "nvml.c"
    source.write_text(FAKE_NVML)
    library = tmp_path / "libnvml.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    opened = nvml.open_library(ctypes.CDLL(str(library)))
    assert opened is not None
    assert opened.devices() == [
        nvml.Device(0, "GPU-one", "Fake A1", 1000),
        nvml.Device(1, "GPU-two", "Fake A1", 1000),
    ]
    assert opened.load(0) == nvml.Load(300, 42, {7: 200, 8: 0})
    opened.close()


def test_no_driver_no_devices() -> None:
    class Absent:
        def __getattr__(self, name: str) -> object:
            raise AttributeError(name)

    assert nvml.open_library(Absent()) is None
