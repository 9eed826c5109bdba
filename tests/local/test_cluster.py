"""What the local cluster promises beyond the contract."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jupyter_elastic import errors
from jupyter_elastic.agent import processes
from jupyter_elastic.cluster.base import Cluster
from jupyter_elastic.cluster.local import (
    LocalCluster,
    birth,
    cgroups,
    keeper,
    ledger,
    process,
    watch,
)
from jupyter_elastic.cluster.local.machine import Device
from jupyter_elastic.cluster.local.process import Process
from jupyter_elastic.cluster.local.state import StateDir
from jupyter_elastic.model import Kernel, Pod, PodPhase
from jupyter_elastic.resources import MIB, Gpu, Resources

from ..contract.suite import SIZE, execute, until
from ..contract.test_local import LocalWorld


class Configured(LocalWorld):
    """A world whose clusters have further options."""

    def __init__(self, path: Path, cgroup: str = "auto", **options: Any) -> None:
        super().__init__(path, cgroup)
        self.options = options

    def make(self, capacity: Resources) -> LocalCluster:
        return LocalCluster(
            state_dir=self.path, capacity=capacity, cgroup=self.cgroup, **self.options
        )


def files(path: Path) -> set[str]:
    """What lies in the pods', kernels' and run directories."""
    return {
        str(one.relative_to(path))
        for directory in ("pods", "kernels", "run")
        for one in (path / directory).rglob("*")
    }


def groups_of(pod: str) -> list[Path]:
    place, _ = cgroups.find("auto")
    if place is None:
        return []
    return [Path(one) for one in place.group(pod).directories if Path(one).exists()]


# -- quota and leftovers ------------------------------------------------------------------------


def test_thirty_starts_at_once_with_room_for_ten(world: LocalWorld) -> None:
    capacity = Resources(cpu=100_000, memory=10 * SIZE.memory)

    async def story(cluster: Cluster) -> None:
        most = 0

        def look(_change: object) -> None:
            nonlocal most
            most = max(most, sum(pod.resources.memory for pod in cluster.pods().values()))

        cluster.subscribe(look)
        other = world.make(capacity)
        await other.open()
        kernels = [await cluster.create_kernel(world.kernel()) for _ in range(30)]

        async def start(i: int, kernel: Kernel) -> Pod:
            return await (cluster, other)[i % 2].create_pod(world.template(), kernel=kernel)

        results = await asyncio.gather(
            *(start(i, kernel) for i, kernel in enumerate(kernels)), return_exceptions=True
        )
        await cluster.refresh()
        made = [one for one in results if isinstance(one, Pod)]
        refused = [one for one in results if isinstance(one, errors.QuotaFull)]
        assert (len(made), len(refused)) == (10, 20)
        assert "192 MiB of memory were asked for, 0 KiB of 1.9 GiB are free" in str(refused[0])
        for kernel in kernels:
            await other.delete_kernel(kernel.kernel_id)
        await cluster.refresh()
        assert most == capacity.memory
        assert (await cluster.capacity()).used == Resources(cpu=0, memory=0)
        assert files(world.path) == set()
        for pod in made:
            assert world.processes(pod.name) == []
            assert groups_of(pod.name) == []
        await other.close()

    world.run(story, capacity)


def test_nothing_is_left_of_a_kernel_that_left_processes(world: LocalWorld) -> None:
    """Daemons, also with another session and an empty environment, end with the pod."""

    async def story(cluster: Cluster) -> None:
        pod, kernel = await world.claimed(cluster)
        answer = await world.start(cluster, pod, kernel)
        note = world.path / "pids"
        await execute(
            answer["connection"],
            "import subprocess, sys\n"
            "for env in (None, {}):\n"
            "    for new in (False, True):\n"
            "        p = subprocess.Popen(['/bin/sleep', '300'], env=env, start_new_session=new)\n"
            f"        open({str(note)!r}, 'a').write(f'{{p.pid}}\\n')\n",
        )
        pids = [int(word) for word in note.read_text().split()]
        assert len(pids) == 4
        await cluster.delete_kernel(kernel.kernel_id)
        for pid in pids:
            left = processes.stat(pid)
            assert left is None or left.state in "ZX"
        assert groups_of(pod.name) == []
        assert files(world.path) == set()

    world.run(story)


def test_gpus_are_given_at_claim_and_taken_back(state_dir: Path) -> None:
    devices = [Device("GPU-a", "nvidia-h200"), Device("GPU-b", "nvidia-h200")]
    world = Configured(state_dir, devices=devices)
    wish = msgspec.structs.replace(SIZE, gpu=Gpu("nvidia-h200", 1))

    async def story(cluster: Cluster) -> None:
        assert cluster.gpu_kinds() == ("nvidia-h200",)
        pod, kernel = await world.claimed(cluster, wish)
        assert pod.gpu_ids == ("GPU-a",)
        assert pod.resources == wish
        cold = await cluster.create_kernel(world.kernel(wish))
        second = await cluster.create_pod(world.template(), kernel=cold)
        assert second.gpu_ids == ("GPU-b",)
        warm = await world.warm(cluster)
        third = await cluster.create_kernel(world.kernel(wish))
        with pytest.raises(errors.QuotaFull, match="0 of 2 are free"):
            await cluster.claim_pod(warm, third)
        assert cluster.pods()[warm.name] == warm
        assert (await cluster.capacity()).gpus_used == {"nvidia-h200": 2}
        with pytest.raises(errors.ResizeUnsupported):
            await cluster.resize_pod(pod, SIZE)
        await cluster.delete_kernel(kernel.kernel_id)
        claimed = await cluster.claim_pod(warm, third)
        assert claimed.gpu_ids == ("GPU-a",)

    world.run(story)


def test_a_refused_claim_spends_no_warm_pod(world: LocalWorld) -> None:
    async def story(cluster: Cluster) -> None:
        warm = await world.warm(cluster)
        size = Resources(cpu=SIZE.cpu, memory=3 * SIZE.memory)
        kernel = await cluster.create_kernel(world.kernel(size))
        with pytest.raises(errors.QuotaFull, match="576 MiB of memory were asked for, 384 MiB of"):
            await cluster.claim_pod(warm, kernel)
        await cluster.refresh()
        assert cluster.pods()[warm.name] == warm
        fitting = await cluster.create_kernel(world.kernel())
        assert (await cluster.claim_pod(warm, fitting)).phase is PodPhase.CLAIMED

    world.run(story, Resources(cpu=4000, memory=2 * SIZE.memory))


# -- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["set_cpu", "put_pod"])
@pytest.mark.parametrize("memory", [128, 512])
def test_a_resize_that_fails_half_way_leaves_the_limits(
    world: LocalWorld, monkeypatch: pytest.MonkeyPatch, failing: str, memory: int
) -> None:
    async def story(cluster: Cluster) -> None:
        pod, _ = await world.claimed(cluster)
        group = StateDir(world.path).all_pods()[pod.name].group
        if group is None:
            pytest.skip("no control groups here")
        limits = cgroups.memory_limit(group), cgroups.cpu_limit(group)
        assert limits[0] == SIZE.memory + pod.overhead
        owner: Any = cgroups if failing == "set_cpu" else StateDir
        real = getattr(owner, failing)

        def fails_once(*words: Any) -> None:
            monkeypatch.setattr(owner, failing, real)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(owner, failing, fails_once)
        with pytest.raises(errors.ElasticError):
            await cluster.resize_pod(pod, Resources(cpu=2000, memory=memory * MIB))
        assert (cgroups.memory_limit(group), cgroups.cpu_limit(group)) == limits
        await cluster.refresh()
        assert cluster.pods()[pod.name].resources == SIZE
        pod = await cluster.resize_pod(
            cluster.pods()[pod.name], Resources(cpu=2000, memory=512 * MIB)
        )
        assert cgroups.memory_limit(group) == 512 * MIB + pod.overhead

    world.run(story)


def test_an_agent_whose_answer_was_lost_is_told_the_former_limits(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = LocalWorld(state_dir, "off")

    async def story(cluster: Cluster) -> None:
        pod, _ = await world.claimed(cluster)
        agent = await cluster.dial(pod)
        real, told = agent.call, []

        async def half_deaf(op: str, timeout: float = 10, **fields: Any) -> dict[str, Any]:
            answer = await real(op, timeout, **fields)
            if op == "limits":
                told.append((fields["cpu"], fields["memory"]))
                if len(told) == 1:
                    raise errors.AgentUnreachable("the answer was lost")
            return answer

        monkeypatch.setattr(agent, "call", half_deaf)
        with pytest.raises(errors.AgentUnreachable):
            await cluster.resize_pod(pod, Resources(cpu=500, memory=512 * MIB))
        assert told == [(500, 512 * MIB), (SIZE.cpu, SIZE.memory)]
        assert cluster.pods()[pod.name].resources == SIZE

    world.run(story)


def test_limits_without_control_groups_are_declared_and_hold(state_dir: Path) -> None:
    world = LocalWorld(state_dir, "off")

    async def story(cluster: Cluster) -> None:
        enforcement = cluster.enforcement()
        assert (enforcement.memory, enforcement.cpu) == ("watchdog", "affinity")
        assert "switched off" in enforcement.note
        pod, kernel = await world.claimed(cluster, Resources(cpu=1000, memory=256 * MIB))
        await world.start(cluster, pod, kernel)
        agent = await cluster.dial(pod)
        pid = (await agent.call("status"))["pid"]
        await until(lambda: len(os.sched_getaffinity(pid)) == 1)
        events: list[dict[str, Any]] = []
        agent.on_event(events.append)
        pod = await cluster.resize_pod(pod, Resources(cpu=8000, memory=256 * MIB))
        await until(lambda: os.sched_getaffinity(pid) == os.sched_getaffinity(0))
        answer = await agent.call("connection")
        greedy = "x = []\nwhile True: x.append(bytearray(2**22))"
        cell = asyncio.ensure_future(execute(answer["connection"], greedy))
        await until(lambda: any(one["event"] == "kernel-exited" for one in events))
        cell.cancel()
        await asyncio.gather(cell, return_exceptions=True)
        over = next(one for one in events if one["event"] == "kernel-exited")["exit"]
        assert over["reason"] == "OutOfMemory"
        assert over["limit"] == 256 * MIB

    world.run(story)


def test_an_agent_that_cannot_be_told_undoes_a_watchdogs_resize(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = LocalWorld(state_dir, "off")

    async def story(cluster: Cluster) -> None:
        pod, _ = await world.claimed(cluster)
        agent = await cluster.dial(pod)

        async def deaf(op: str, timeout: float = 10, **_: Any) -> dict[str, Any]:
            raise errors.AgentUnreachable("deaf")

        monkeypatch.setattr(agent, "call", deaf)
        with pytest.raises(errors.AgentUnreachable):
            await cluster.resize_pod(pod, Resources(cpu=500, memory=512 * MIB))
        assert cluster.pods()[pod.name].resources == SIZE
        assert (await cluster.capacity()).used == SIZE

    world.run(story)


def test_a_warm_pod_may_use_enough_to_preload(world: LocalWorld) -> None:
    async def story(cluster: Cluster) -> None:
        pod = await world.warm(cluster)
        assert pod.resources == birth.WARM_SIZE
        limit = world.memory_limit(pod.name)
        assert limit is None or limit >= birth.WARM_MEMORY_LIMIT

    world.run(story)


# -- interpreters -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path / "missing" / "python", "does not exist"),
        (lambda path: path, "may not be executed"),
    ],
)
def test_an_interpreter_that_cannot_be(
    world: LocalWorld, tmp_path: Path, make: Callable[[Path], Path], words: str
) -> None:
    template = msgspec.structs.replace(world.template(), interpreter=str(make(tmp_path)))

    async def story(cluster: Cluster) -> None:
        with pytest.raises(errors.BadInterpreter, match=words):
            await cluster.create_pod(template)
        assert not cluster.pods()
        assert files(world.path) == set()

    world.run(story)


def test_an_interpreter_that_is_no_program(world: LocalWorld, tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    template = msgspec.structs.replace(world.template(), interpreter=str(broken))

    async def story(cluster: Cluster) -> None:
        with pytest.raises(errors.BadInterpreter, match="could not be run"):
            await cluster.create_pod(template)
        assert files(world.path) == set()

    world.run(story)


def test_an_interpreter_without_pyzmq(world: LocalWorld, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    python = str(tmp_path / "bare" / "bin" / "python")
    template = msgspec.structs.replace(world.template(), interpreter=python)

    async def story(cluster: Cluster) -> None:
        pod = await cluster.create_pod(template)
        with pytest.raises(errors.BadInterpreter, match="has no pyzmq") as refused:
            await cluster.wait_pod(pod.name, 120)
        assert f"{python} -m pip install pyzmq ipykernel" in str(refused.value)
        await until(lambda: pod.name not in cluster.pods())
        with pytest.raises(errors.BadInterpreter):  # also for those who ask later
            await cluster.wait_pod(pod.name, 120)
        assert files(world.path) == set()

    world.run(story)


def test_a_cold_start_that_fails_keeps_its_reason(world: LocalWorld, tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho the disk is on fire >&2\nexit 3\n")
    script.chmod(0o755)
    template = msgspec.structs.replace(world.template(), interpreter=str(script))

    async def story(cluster: Cluster) -> None:
        kernel = await cluster.create_kernel(world.kernel())
        pod = await cluster.create_pod(template, kernel=kernel)
        with pytest.raises(errors.AgentTimeout, match="the disk is on fire"):
            await cluster.wait_pod(pod.name, 120)
        await until(lambda: not (world.path / "run" / pod.name).exists())
        assert "on fire" in cluster.pods()[pod.name].message  # until somebody has read it
        assert (await cluster.capacity()).used.memory == 0
        await cluster.delete_kernel(kernel.kernel_id)
        assert files(world.path) == set()

    world.run(story)


# -- servers come and go ------------------------------------------------------------------------

SERVER = """
import asyncio, sys
from pathlib import Path
import msgspec
from jupyter_elastic.cluster.local import LocalCluster
from jupyter_elastic.model import Kernel, Template

async def main():
    cluster = LocalCluster(state_dir=Path(sys.argv[1]), cgroup=sys.argv[2])
    await cluster.open()
    template = msgspec.json.decode(sys.argv[3], type=Template)
    pod = await cluster.create_pod(template)
    pod = await cluster.wait_pod(pod.name, 120)
    kernel = msgspec.json.decode(sys.argv[4], type=Kernel)
    kernel = await cluster.create_kernel(kernel)
    pod = await cluster.claim_pod(pod, kernel)
    pod = await cluster.resize_pod(pod, kernel.resources)
    print(pod.name, flush=True)
    await asyncio.sleep(300)

asyncio.run(main())
"""


def test_a_killed_server_leaves_its_kernels_to_others(world: LocalWorld) -> None:
    async def story(cluster: Cluster) -> None:
        kernel = world.kernel()
        server = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            SERVER,
            str(world.path),
            world.cgroup,
            msgspec.json.encode(world.template()).decode(),
            msgspec.json.encode(kernel).decode(),
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert server.stdout is not None
        name = (await server.stdout.readline()).decode().strip()
        server.kill()
        await server.wait()
        await cluster.refresh()
        pod = cluster.pods()[name]
        assert (pod.phase, pod.kernel_id) == (PodPhase.CLAIMED, kernel.kernel_id)
        answer = await world.start(cluster, pod, kernel)
        await execute(answer["connection"], "x = 1")
        world.kill([world.agent_of(name)])  # not a child of ours: noticed all the same
        await until(lambda: cluster.pods()[name].phase is PodPhase.GONE)

    world.run(story)


def test_warm_pods_end_when_no_controller_is_there(state_dir: Path) -> None:
    world = Configured(state_dir, orphan_after=5.0)

    async def story(cluster: Cluster) -> None:
        async def control() -> None:
            while True:
                assert await cluster.acquire_lease("pool")
                await asyncio.sleep(0.2)

        controller = asyncio.create_task(control())
        pod = await world.warm(cluster)
        controller.cancel()
        await until(lambda: pod.name not in cluster.pods())
        assert world.processes(pod.name) == []
        assert files(world.path) == set()

    world.run(story)


def test_a_pod_without_its_kernels_record_ends(
    world: LocalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that died between deleting the record and ending the pod."""

    async def story(cluster: Cluster) -> None:
        pod, kernel = await world.claimed(cluster)
        (world.path / "kernels" / f"{kernel.kernel_id}.json").unlink()
        await cluster.close()
        monkeypatch.setattr(ledger, "UNOWNED_AFTER", 0.0)
        await cluster.open()
        await until(lambda: not cluster.pods())
        # The record goes last: by now nothing else is left of it.
        assert world.processes(pod.name) == []
        assert files(world.path) == set()
        assert cluster.kernels() == {}

    world.run(story)


def test_a_run_directory_nobody_knows_is_removed(
    world: LocalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that died between making a pod's files and recording it."""

    async def story(cluster: Cluster) -> None:
        pod = await world.warm(cluster)
        await cluster.close()
        (world.path / "pods" / f"{pod.name}.json").unlink()
        monkeypatch.setattr(ledger, "UNOWNED_AFTER", 0.0)
        await cluster.open()
        await until(lambda: not files(world.path))
        assert world.processes(pod.name) == []
        assert groups_of(pod.name) == []

    world.run(story)


def test_a_pod_and_a_kernel_with_broken_records_leave_nothing_running(
    world: LocalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(cluster: Cluster) -> None:
        pod, kernel = await world.claimed(cluster)
        await cluster.close()
        monkeypatch.setattr(ledger, "UNOWNED_AFTER", 0.0)
        broken = {f"pods/{pod.name}.json", f"kernels/{kernel.kernel_id}.json"}
        for name in broken:
            (world.path / name).write_text("{")
        await cluster.open()
        await until(lambda: files(world.path) == {f"{name}.broken" for name in broken})
        assert world.processes(pod.name) == []
        assert groups_of(pod.name) == []
        again = await cluster.create_kernel(kernel)  # its id is free
        assert set(cluster.kernels()) == {again.kernel_id}

    world.run(story)


def test_two_servers_settle_one_pod(world: LocalWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slower one must not take the pod's next processes for leftovers of the last ones."""
    monkeypatch.setattr(keeper, "WITNESS", 0.2)
    real = process.members
    calls = 0

    def slow(name: str, agent: Process | None, group: cgroups.Group | None) -> list[int]:
        nonlocal calls
        calls += 1
        if calls % 2:
            time.sleep(1.0)  # one of the two looks only when the other is done
        return real(name, agent, group)

    async def story(cluster: Cluster) -> None:
        other = world.make(world.capacity)
        await other.open()
        pod, kernel = await world.claimed(cluster)
        await world.start(cluster, pod, kernel)
        monkeypatch.setattr(process, "members", slow)
        world.kill_all(pod.name)
        await until(lambda: other.pods()[pod.name].restarts == 1)
        back = await other.wait_pod(pod.name, 120)
        keepers = [one._keeper for one in (cluster, other) if isinstance(one, LocalCluster)]
        await until(lambda: not any(one._settling for one in keepers))
        agent = world.agent_of(pod.name)
        assert (await (await other.dial(back)).call("hello"))["kernel_id"] == kernel.kernel_id
        await other.refresh()
        assert other.pods()[pod.name] == back
        assert world.agent_of(pod.name) == agent
        await other.close()

    world.run(story)


def test_without_pidfd_ends_are_noticed_by_polling(
    world: LocalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")

    async def story(cluster: Cluster) -> None:
        pod, _ = await world.claimed(cluster)
        world.kill([world.agent_of(pod.name)])
        await until(lambda: cluster.pods()[pod.name].phase is PodPhase.GONE)
        assert cluster.pods()[pod.name].reason == "AgentLost"
        await until(lambda: not world.processes(pod.name))

    world.run(story)


def test_a_dead_agent_without_a_witness(world: LocalWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The zygote hangs instead of writing down what happened: the pod is lost, and ended."""
    monkeypatch.setattr(keeper, "WITNESS", 0.3)

    async def story(cluster: Cluster) -> None:
        pod, _ = await world.claimed(cluster)
        agent = world.agent_of(pod.name)
        processes.kill(world.processes(pod.name), signal.SIGSTOP)
        processes.kill([agent])
        await until(lambda: cluster.pods()[pod.name].phase is PodPhase.GONE)
        assert cluster.pods()[pod.name].reason == "AgentLost"
        await until(lambda: not world.processes(pod.name))

    world.run(story)


def test_after_a_restart_of_the_machine(world: LocalWorld) -> None:
    async def story(cluster: Cluster) -> None:
        pod, kernel = await world.claimed(cluster)
        await cluster.close()
        world.kill_all(pod.name)
        state = StateDir(world.path)
        record = state.pod(pod.name)
        assert record is not None
        other_boot = msgspec.structs.replace(record.process, boot="another")
        state.put_pod(msgspec.structs.replace(record, process=other_boot))
        await cluster.open()
        await until(lambda: cluster.pods()[pod.name].phase is PodPhase.GONE)
        assert cluster.pods()[pod.name].reason == "MachineRestarted"
        assert kernel.kernel_id in cluster.kernels()

    world.run(story)


def test_logs_are_trimmed(world: LocalWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SWEEP", 0.05)
    monkeypatch.setattr(watch, "LOG_MOST", 10_000)

    async def story(cluster: Cluster) -> None:
        pod = await world.warm(cluster)
        log = world.path / "run" / pod.name / "log"
        log.write_bytes(b"word\n" * 20_000)
        await until(lambda: log.stat().st_size < 10_000)
        assert (await cluster.pod_log(pod.name, 2)).splitlines()[-1] == "word"

    world.run(story)


# -- secrets, platforms, faults ------------------------------------------------------------------


def test_no_secret_is_in_arguments_or_environment(world: LocalWorld) -> None:
    async def story(cluster: Cluster) -> None:
        pod = await world.warm(cluster)
        run = world.path / "run" / pod.name
        keys = msgspec.json.decode((run / "keys.json").read_bytes())
        client = msgspec.json.decode((run / "client.json").read_bytes())
        secrets = [keys["secret_key"].encode(), client["secret_key"].encode()]
        for pid in world.processes(pod.name):
            for name in ("cmdline", "environ"):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                    text = Path(f"/proc/{pid}/{name}").read_bytes()
                    assert not any(secret in text for secret in secrets)
        for path in run.iterdir():
            with contextlib.suppress(FileNotFoundError):  # what was written has its name by now
                assert path.stat().st_mode & 0o077 == 0

    world.run(story)


def test_a_stranger_is_not_heard(world: LocalWorld, tmp_path: Path) -> None:
    """Knowing address and public key is not enough: the client's own key must be known."""
    import zmq

    async def story(cluster: Cluster) -> None:
        pod = await world.warm(cluster)
        public, secret = zmq.curve_keypair()
        keys = {"public_key": public.decode(), "secret_key": secret.decode()}
        (world.path / "run" / pod.name / "client.json").write_bytes(msgspec.json.encode(keys))
        agent = await cluster.dial(pod)
        with pytest.raises(errors.AgentUnreachable):
            await agent.call("status", timeout=0.5)

    world.run(story)


def test_other_systems_are_told_what_is_missing(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(errors.Unsupported, match=r"needs Linux .* this is darwin"):
        asyncio.run(LocalCluster(state_dir=state_dir).open())


def test_a_listener_that_fails_disturbs_nobody(world: LocalWorld) -> None:
    async def story(cluster: Cluster) -> None:
        seen: list[str] = []

        def bad(_change: object) -> None:
            raise RuntimeError("bad listener")

        cluster.subscribe(bad)
        cluster.subscribe(lambda change: seen.append(change.name))
        kernel = await cluster.create_kernel(world.kernel())
        assert seen == [kernel.kernel_id]

    world.run(story)


def test_a_cancelled_caller_leaves_a_true_cache(world: LocalWorld) -> None:
    async def story(cluster: Cluster) -> None:
        task = asyncio.create_task(cluster.create_pod(world.template()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await cluster.refresh()  # the thread may do what was asked of it only now
        names = {one.stem for one in (world.path / "pods").glob("*.json")}
        assert set(cluster.pods()) == names
        now = time.time()
        assert all(pod.created <= now for pod in cluster.pods().values())

    world.run(story)
