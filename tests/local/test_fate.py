"""What becomes of a pod, as pure functions."""

from __future__ import annotations

import msgspec
import pytest

from jupyter_elastic.cluster.local import fate
from jupyter_elastic.cluster.local.process import Process
from jupyter_elastic.cluster.local.state import PodRecord, Status
from jupyter_elastic.model import AgentAddress, Kernel, KernelPhase, Pod, PodPhase
from jupyter_elastic.resources import MIB, Resources

ADDRESS = AgentAddress("tcp://127.0.0.1:5555", "key")
POD = Pod(
    name="p",
    uid="p",
    version="1",
    template="t",
    template_hash="h",
    created=0,
    resources=Resources(cpu=500, memory=256 * MIB),
)
WARM = Status(
    phase="warm", endpoint=ADDRESS.endpoint, public_key="key", overhead=7, warnings=("w",)
)


def record(**changes: object) -> PodRecord:
    pod = msgspec.structs.replace(POD, **changes)
    return PodRecord(pod=pod, process=Process(1, 2, "boot"), group=None, python="/opt/python")


def judge(
    one: PodRecord,
    status: Status | None,
    *,
    left: bool = False,
    this_boot: bool = True,
    log: str = "",
) -> Pod | None:
    return fate.judge(one, status, left=left, this_boot=this_boot, log=log)


def test_an_agent_that_is_up_makes_a_warm_pod() -> None:
    seen = fate.observe(POD, WARM, 12.0)
    assert seen is not None
    assert (seen.phase, seen.agent, seen.overhead) == (PodPhase.WARM, ADDRESS, 7)
    assert (seen.warm_since, seen.warnings) == (12.0, ("w",))
    assert fate.observe(seen, WARM, 13.0) is None


def test_a_pod_born_for_a_kernel_becomes_claimed() -> None:
    seen = fate.observe(msgspec.structs.replace(POD, kernel_id="k"), WARM, 12.0)
    assert seen is not None
    assert seen.phase is PodPhase.CLAIMED


@pytest.mark.parametrize(
    "status", [None, Status(phase="warming"), Status(phase="warm"), Status(phase="gone")]
)
def test_an_agent_that_is_not_up_changes_nothing(status: Status | None) -> None:
    assert fate.observe(POD, status, 1.0) is None


def test_what_the_agent_wrote_is_the_reason() -> None:
    culled = Status(phase="gone", reason="Culled", message="Idle for 1 h.")
    gone = judge(record(phase=PodPhase.CLAIMED, kernel_id="k", agent=ADDRESS), culled)
    assert gone is not None
    assert (gone.phase, gone.reason, gone.message) == (PodPhase.GONE, "Culled", "Idle for 1 h.")
    assert gone.agent is None


def test_all_killed_is_forgiven_once() -> None:
    claimed = record(phase=PodPhase.CLAIMED, kernel_id="k", agent=ADDRESS)
    status = Status(phase="claimed", usage={"memory": 100 * MIB, "memory_peak": 255 * MIB})
    assert judge(claimed, status) is None
    back = fate.brought_back(claimed.pod, status)
    assert (back.phase, back.restarts, back.agent) == (PodPhase.CLAIMED, 1, None)
    assert "255 MiB of 256 MiB" in back.message
    again = judge(msgspec.structs.replace(claimed, pod=back), status)
    assert again is not None
    assert (again.phase, again.reason) == (PodPhase.GONE, "ContainerKilled")
    assert "255 MiB of 256 MiB" in again.message


def test_a_warm_pod_is_not_brought_back() -> None:
    gone = judge(record(phase=PodPhase.WARM), WARM)
    assert gone is not None
    assert gone.reason == "AgentLost"


def test_processes_left_by_a_dead_agent_mean_that_it_was_lost() -> None:
    gone = judge(record(phase=PodPhase.CLAIMED, kernel_id="k"), Status(phase="claimed"), left=True)
    assert gone is not None
    assert gone.reason == "AgentLost"


def test_after_a_restart_of_the_machine_nothing_is_brought_back() -> None:
    gone = judge(record(phase=PodPhase.CLAIMED, kernel_id="k"), WARM, this_boot=False)
    assert gone is not None
    assert gone.reason == "MachineRestarted"


@pytest.mark.parametrize(
    ("log", "reason", "words"),
    [
        ("ModuleNotFoundError: No module named 'zmq'", "BadInterpreter", "has no pyzmq"),
        ("x\nNo module named ipykernel\n", "BadInterpreter", "has no ipykernel"),
        ("Killed by something", "AgentTimeout", "Killed by something"),
        ("", "AgentTimeout", "said nothing"),
    ],
)
def test_the_log_explains_an_agent_that_never_came_up(log: str, reason: str, words: str) -> None:
    gone = judge(record(), None, log=log)
    assert gone is not None
    assert gone.reason == reason
    assert words in gone.message
    if reason == "BadInterpreter":
        assert "/opt/python -m pip install" in gone.message


# -- lone clients ------------------------------------------------------------------------------

LONE = Kernel(
    kernel_id="k",
    owner="o",
    template="t",
    resources=POD.resources,
    phase=KernelPhase.RUNNING,
    pod="p",
    created=0.0,
    deadline=100.0,
    lone=True,
)


@pytest.mark.parametrize(
    ("reason", "lone", "dropped"),
    [
        ("ClientGone", True, True),
        ("Unclaimed", True, True),
        ("Idle", True, False),  # the client is there and is told
        ("ContainerKilled", True, False),
        ("Unclaimed", False, False),
    ],
)
def test_nobody_reads_why_when_the_client_is_gone(reason: str, lone: bool, dropped: bool) -> None:
    pod = msgspec.structs.replace(POD, phase=PodPhase.GONE, reason=reason, kernel_id="k")
    assert fate.unmourned(msgspec.structs.replace(LONE, lone=lone), pod) is dropped


@pytest.mark.parametrize(
    ("phase", "pod", "age", "now", "expected"),
    [
        (KernelPhase.RUNNING, PodPhase.CLAIMED, 9e9, 9e9, False),
        (KernelPhase.RUNNING, PodPhase.GONE, 59.0, 9e9, False),
        (KernelPhase.RUNNING, PodPhase.GONE, 61.0, 0.0, True),
        (KernelPhase.STARTING, PodPhase.CLAIMED, 9e9, 159.0, False),
        (KernelPhase.STARTING, PodPhase.CLAIMED, 0.0, 161.0, True),
        (KernelPhase.STARTING, None, 0.0, 159.0, False),
        (KernelPhase.STARTING, None, 0.0, 161.0, True),
        (KernelPhase.FAILED, None, 0.0, 161.0, True),
    ],
)
def test_what_a_lone_client_left_behind(
    phase: KernelPhase, pod: PodPhase | None, age: float, now: float, expected: bool
) -> None:
    kernel = msgspec.structs.replace(LONE, phase=phase)
    there = None if pod is None else msgspec.structs.replace(POD, phase=pod)
    assert fate.abandoned(kernel, there, age, now, 60.0) is expected
    servers = msgspec.structs.replace(kernel, lone=False)
    assert not fate.abandoned(servers, there, age, now, 60.0)
