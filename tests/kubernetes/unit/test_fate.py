"""What becomes of a pod, from the object alone."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from jupyter_elastic.cluster.kubernetes.ending import ending
from jupyter_elastic.cluster.kubernetes.facts import enforced
from jupyter_elastic.cluster.kubernetes.fate import pod_from_object
from jupyter_elastic.cluster.kubernetes.manifests import asked
from jupyter_elastic.cluster.kubernetes.objects import PodObject
from jupyter_elastic.errors import AgentTimeout, BadInterpreter
from jupyter_elastic.model import AgentAddress, PodPhase
from jupyter_elastic.resources import Gpu, Resources

from .objects import MIB, SIZE, condition, ended, pod, running, samples, waiting, word

LIMIT = "its memory limit: 192 MiB"
OOM: dict[str, Any] = {"exitCode": 137, "reason": "OOMKilled"}


def fate(obj: PodObject) -> tuple[PodPhase, str, str]:
    seen = pod_from_object(obj)
    if seen.phase is PodPhase.GONE:
        assert seen.agent is None
        assert seen.reason
        assert seen.message
    return seen.phase, seen.reason, seen.message


# -- reading -----------------------------------------------------------------------------------


def test_a_claimed_pod() -> None:
    seen = pod_from_object(pod(annotations={"warm-since": "1767225603.5", "warnings": '["slow"]'}))
    assert (seen.name, seen.uid, seen.version) == ("p", "u", "7.3.0")
    assert (seen.template, seen.template_hash, seen.kernel_id) == ("t", "h", "k")
    assert (seen.phase, seen.reason, seen.message) == (PodPhase.CLAIMED, "", "")
    assert (seen.created, seen.warm_since) == (1767225600.0, 1767225603.5)
    assert seen.resources == Resources(cpu=1000, memory=192 * MIB)
    assert seen.overhead == 64 * MIB
    assert seen.agent == AgentAddress("tcp://10.0.0.9:21000", "KEY", 0)
    assert (seen.restarts, seen.warnings) == (0, ("slow",))


@pytest.mark.parametrize("phase", ["warming", "warm"])
def test_a_pod_of_the_pool_counts_what_it_requests(phase: str) -> None:
    seen = pod_from_object(pod(phase))
    assert seen.phase == phase
    assert seen.kernel_id is None
    assert seen.resources == Resources(cpu=1000, memory=256 * MIB)


def test_a_pod_born_for_a_kernel_counts_what_was_asked_for() -> None:
    wish = Resources(cpu=500, memory=128 * MIB, gpu=Gpu("nvidia.com/gpu", 2))
    seen = pod_from_object(
        pod("warming", labels={"kernel": "k"}, annotations={"asked": asked(wish)})
    )
    assert (seen.phase, seen.kernel_id, seen.resources) == (PodPhase.WARMING, "k", wish)
    seen = pod_from_object(pod(annotations={"asked": asked(wish)}))
    assert seen.resources == Resources(cpu=1000, memory=192 * MIB, gpu=wish.gpu)


def test_what_is_enforced_may_differ_from_what_is_wanted() -> None:
    smaller = {"limits": {"cpu": "550m", "memory": "128Mi"}}
    obj = pod(container={"resources": smaller})
    assert pod_from_object(obj).resources == Resources(cpu=1000, memory=192 * MIB)
    assert enforced(obj) == Resources(cpu=500, memory=64 * MIB)
    assert enforced(pod(container={"resources": None})) == pod_from_object(obj).resources


@pytest.mark.parametrize(
    "nonsense",
    [
        {"overhead": "many", "warnings": "{", "warm-since": "today", "asked": "[]"},
        {"overhead": "-5", "warnings": '"x"', "warm-since": "nan", "asked": '{"cpu": "a"}'},
        {"overhead": "9" * 30, "warnings": "[1]", "warm-since": "inf", "asked": "\udcff"},
    ],
)
def test_annotations_that_somebody_spoilt_are_ignored(nonsense: dict[str, str]) -> None:
    seen = pod_from_object(pod(annotations=nonsense))
    assert (seen.overhead, seen.warnings, seen.warm_since) == (0, (), None)
    assert seen.resources == Resources(cpu=1000, memory=256 * MIB)


def test_an_object_with_nothing_in_it() -> None:
    seen = pod_from_object(PodObject())
    assert (seen.phase, seen.version) == (PodPhase.WARMING, "0.0.0")
    assert seen.resources == Resources(cpu=0, memory=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"container": waiting("ContainerCreating")},
        {"status": {"podIP": ""}},
        {"annotations": {"agent-key": ""}},
        {"metadata": {"deletionTimestamp": "2026-01-01T00:01:00Z"}},
    ],
)
def test_no_address_while_there_is_no_agent(changes: dict[str, Any]) -> None:
    assert pod_from_object(pod(**changes)).agent is None


def test_addresses_of_ipv6() -> None:
    seen = pod_from_object(pod(status={"podIP": "fd00::9"}))
    assert seen.agent is not None
    assert seen.agent.endpoint == "tcp://[fd00::9]:21000"


# -- everything in the pod was killed ----------------------------------------------------------


def test_all_killed_is_forgiven_once() -> None:
    down = pod(container=ended(**OOM))
    assert fate(down) == (PodPhase.CLAIMED, "", "")
    assert pod_from_object(down).agent is None

    back = pod_from_object(pod(container=running(1, OOM)))
    assert (back.phase, back.restarts, back.version) == (PodPhase.CLAIMED, 1, "7.3.1")
    assert back.agent == AgentAddress("tcp://10.0.0.9:21000", "KEY", 1)
    assert back.reason == "ContainerKilled"
    assert back.message == (
        f"Everything in the pod was killed (OOMKilled; {LIMIT}). "
        "The kernel was started again in the same pod."
    )


@pytest.mark.parametrize("reason", ["ContainerCreating", "RunContainerError", ""])
def test_on_its_way_back_it_is_not_gone(reason: str) -> None:
    coming = waiting(reason, restartCount=1, lastState={"terminated": OOM})
    assert fate(pod(container=coming))[0] is PodPhase.CLAIMED


def test_the_backoff_before_the_first_restart_is_not_the_end() -> None:
    first = waiting("CrashLoopBackOff", lastState={"terminated": OOM})
    assert fate(pod(container=first))[0] is PodPhase.CLAIMED


@pytest.mark.parametrize(
    "again",
    [
        ended(1, **OOM),
        waiting("CrashLoopBackOff", restartCount=1, lastState={"terminated": OOM}),
        running(2, OOM),
        waiting("ContainerCreating", restartCount=2, lastState={"terminated": OOM}),
    ],
)
def test_all_killed_again_is_the_end(again: dict[str, Any]) -> None:
    assert fate(pod(container=again)) == (
        PodPhase.GONE,
        "ContainerKilled",
        f"Everything in the pod was killed again (OOMKilled; {LIMIT}).",
    )


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"exitCode": 137, "reason": "Error"}, f"killed again ({LIMIT})."),
        ({"exitCode": 139, "reason": "Error"}, f"killed again (exit code 139; {LIMIT})."),
    ],
)
def test_how_it_was_killed(how: dict[str, Any], words: str) -> None:
    assert fate(pod(container=ended(1, **how)))[2].endswith(words)


@pytest.mark.parametrize(
    "killed",
    [
        ended(**OOM),
        running(1, OOM),
        waiting("CrashLoopBackOff", restartCount=1, lastState={"terminated": OOM}),
    ],
)
def test_a_warm_pod_is_not_brought_back(killed: dict[str, Any]) -> None:
    assert fate(pod("warm", container=killed)) == (
        PodPhase.GONE,
        "AgentLost",
        f"Everything in the warm pod was killed (OOMKilled; {LIMIT}).",
    )


# -- it ended before it was warm ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "reason", "words"),
    [
        (
            {"exitCode": 1, "message": "ModuleNotFoundError: No module named 'zmq'"},
            "BadInterpreter",
            "The image img:1 has no pyzmq. Build it with: python -m pip install",
        ),
        (
            {"exitCode": 1, "message": "No module named ipykernel"},
            "BadInterpreter",
            "has no ipykernel",
        ),
        (
            {
                "exitCode": 128,
                "reason": "StartError",
                "message": "failed to create containerd task: failed to create shim task: OCI "
                'runtime create failed: runc create failed: exec: "python9": executable file '
                "not found in $PATH: unknown",
            },
            "BadInterpreter",
            "The image img:1 cannot run python9 (executable file not found).",
        ),
        (
            {"exitCode": 2, "message": "a\nb\n"},
            "AgentFailed",
            "(exit code 2). Its last words: a\nb",
        ),
        ({"exitCode": 2}, "AgentFailed", "It said nothing. See the template's image"),
        ({"exitCode": 139}, "AgentFailed", "(killed by signal 11)"),
        (OOM, "AgentFailed", "out of memory before its agent was up (OOMKilled; its memory limit"),
        ({"exitCode": 0}, "AgentFailed", "exit code 0"),
    ],
)
def test_why_an_agent_never_came_up(how: dict[str, Any], reason: str, words: str) -> None:
    for container in (
        ended(**how),
        waiting("CrashLoopBackOff", "back-off 10s", lastState={"terminated": how}),
        running(1, {"exitCode": 0, **how}),
    ):
        obj = pod("warming", container=container)
        phase, why, message = fate(obj)
        assert (phase, why) == (PodPhase.GONE, reason)
        assert words in message
        end = ending(obj)
        assert end is not None
        assert isinstance(end.error, (AgentTimeout, BadInterpreter))


def test_a_long_log_is_cut_from_its_beginning() -> None:
    log = "\n".join(f"line {number} " + "x" * 90 for number in range(100))
    message = fate(pod("warming", container=ended(exitCode=1, message=log)))[2]
    assert "line 99" in message
    assert len(message) < 900


# -- it ended by itself ------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["warming", "warm", "claimed"])
@pytest.mark.parametrize(
    "reason",
    ["Stopped", "Idle", "MaxAge", "ClientGone", "NoController", "Unclaimed", "RestoreFailed"],
)
def test_what_the_agent_wrote_is_the_reason(phase: str, reason: str) -> None:
    left = ended(exitCode=0, reason="Completed", message=word(reason, "Because."))
    gone = pod(phase, container=left, status={"phase": "Succeeded"})
    assert fate(gone) == (PodPhase.GONE, reason, "Because.")
    # Also when the kubelet started the container again all the same:
    again = running(1, {"exitCode": 1, "message": word(reason, "Because.")})
    assert fate(pod(phase, container=again)) == (PodPhase.GONE, reason, "Because.")


@pytest.mark.parametrize(
    "message",
    ["{", '{"reason": 5}', '{"reason": "no reason"}', '{"message": "x"}', '["Idle"]', "Idle"],
)
def test_other_last_messages_are_only_words(message: str) -> None:
    left = ended(exitCode=0, reason="Completed", message=message)
    assert fate(pod(container=left, status={"phase": "Succeeded"}))[1] == "Ended"


def test_a_deletion_says_why() -> None:
    deleted = {"deletionTimestamp": "2026-01-01T00:01:00Z"}
    assert fate(pod(metadata=deleted)) == (PodPhase.GONE, "Deleted", "The pod was deleted.")
    why = {"reason": "Outdated", "message": "Its template changed."}
    told = (PodPhase.GONE, "Outdated", "Its template changed.")
    assert fate(pod("warm", metadata=deleted | {}, annotations=why)) == told
    # The agent saw SIGTERM, which is not why:
    left = ended(exitCode=0, message=word("Terminated", "The pod was told to end."))
    assert fate(pod(metadata=deleted, annotations=why, container=left)) == told
    # It had ended before:
    left = ended(exitCode=0, message=word("Idle", "For 1 h."))
    assert fate(pod(metadata=deleted, annotations=why, container=left))[1] == "Idle"


def test_the_label_alone_is_enough() -> None:
    assert fate(pod("gone", annotations={"reason": "Moved"}))[:2] == (PodPhase.GONE, "Moved")


def test_sigterm_without_a_reason() -> None:
    left = ended(exitCode=0, message=word("Terminated", "The pod was told to end."))
    assert fate(pod(container=left, status={"phase": "Succeeded"}))[1] == "Terminated"


# -- the cluster ended it ----------------------------------------------------------------------

DELETED = {"deletionTimestamp": "2026-01-01T00:01:00Z"}


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        (
            {
                "status": {
                    "phase": "Failed",
                    "reason": "Evicted",
                    "message": "The node was low on resource: memory. Threshold quantity: 100Mi, "
                    "available: 55260Ki. Container kernel was using 213016Ki, request is 64Mi, "
                    "has larger consumption of memory. ",
                }
            },
            "Evicted",
            "ran low on memory and evicted the kernel's pod, which used 208 MiB of 64 MiB reserved",
        ),
        (
            {"status": {"phase": "Failed", "reason": "Evicted", "message": "Usage of EmptyDir"}},
            "Evicted",
            "evicted the kernel's pod: Usage of EmptyDir.",
        ),
        (
            {
                "metadata": DELETED,
                "status": {"conditions": [condition("DisruptionTarget", "EvictionByEvictionAPI")]},
            },
            "Evicted",
            "emptied for maintenance",
        ),
        (
            {
                "metadata": DELETED,
                "status": {"conditions": [condition("DisruptionTarget", "PreemptionByScheduler")]},
            },
            "Preempted",
            "higher priority",
        ),
        ({"status": {"phase": "Failed", "reason": "Preempting"}}, "Preempted", "higher priority"),
        (
            {
                "metadata": DELETED,
                "status": {"conditions": [condition("DisruptionTarget", "DeletionByTaintManager")]},
            },
            "Evicted",
            "told to let its pods go",
        ),
        (
            {
                "metadata": DELETED,
                "status": {
                    "conditions": [
                        {"type": "Ready", "status": "False"},
                        condition("DisruptionTarget", "DeletionByTaintManager"),
                    ]
                },
            },
            "NodeLost",
            "does not answer any more",
        ),
        (
            {
                "status": {
                    "phase": "Failed",
                    "conditions": [condition("DisruptionTarget", "DeletionByPodGC")],
                }
            },
            "NodeLost",
            "does not exist any more",
        ),
        ({"status": {"phase": "Running", "reason": "NodeLost"}}, "NodeLost", "another node"),
        (
            {
                "status": {
                    "phase": "Failed",
                    "reason": "Terminated",
                    "message": "Pod was terminated in response to imminent node shutdown.",
                }
            },
            "NodeShutdown",
            "was shut down",
        ),
        (
            {
                "status": {
                    "phase": "Failed",
                    "conditions": [condition("DisruptionTarget", "TerminationByKubelet")],
                }
            },
            "NodeShutdown",
            "ended it",
        ),
        (
            {"status": {"phase": "Failed", "reason": "DeadlineExceeded"}},
            "PodFailed",
            "longest time",
        ),
        (
            {
                "status": {
                    "phase": "Failed",
                    "reason": "OutOfcpu",
                    "message": "Pod was rejected: Node didn't have enough resource: cpu, "
                    "requested: 1000, used: 1500, capacity: 2000",
                    "containerStatuses": [],
                }
            },
            "Unschedulable",
            "refused the kernel's pod: 1 CPU, where 0.5 of the node's 2 are free.",
        ),
        ({"status": {"phase": "Failed", "reason": "Odd", "message": "What?"}}, "Odd", "What?"),
        ({"status": {"phase": "Succeeded"}}, "Ended", "ended by itself"),
    ],
)
def test_the_cluster_ended_it(changes: dict[str, Any], reason: str, words: str) -> None:
    phase, why, message = fate(pod(**changes))
    assert (phase, why) == (PodPhase.GONE, reason)
    assert words in message


def test_an_eviction_that_was_only_announced_is_not_the_end() -> None:
    announced = [condition("DisruptionTarget", "EvictionByEvictionAPI")]
    assert fate(pod(status={"conditions": announced}))[0] is PodPhase.CLAIMED


def test_a_node_that_does_not_answer_is_waited_for() -> None:
    silent = {"conditions": [{"type": "Ready", "status": "False"}]}
    phase, reason, message = fate(pod(status=silent))
    assert (phase, reason) == (PodPhase.CLAIMED, "NodeUnreachable")
    assert "does not answer" in message
    # Nobody shall claim it meanwhile:
    assert fate(pod("warm", status=silent))[:2] == (PodPhase.WARMING, "NodeUnreachable")
    unready = {"conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}]}
    assert fate(pod(status=unready))[:2] == (PodPhase.CLAIMED, "")


def test_the_same_object_is_the_same_pod() -> None:
    raw: dict[str, Any] = json.loads(msgspec.json.encode(pod(container=running(1, OOM))))
    assert pod_from_object(msgspec.convert(raw, PodObject)) == pod_from_object(
        pod(container=running(1, OOM), resources=SIZE)
    )


REAL = samples("endings")


@pytest.mark.parametrize(
    ("name", "phase", "reason", "words"),
    [
        ("creating", PodPhase.CLAIMED, "", ""),
        ("running", PodPhase.CLAIMED, "", ""),
        ("killed", PodPhase.CLAIMED, "", ""),
        ("back", PodPhase.CLAIMED, "ContainerKilled", "(OOMKilled; its memory limit: 64 MiB)"),
        ("killed-again", PodPhase.GONE, "ContainerKilled", "killed again (OOMKilled; its memory"),
        ("killed-loop", PodPhase.GONE, "ContainerKilled", "killed again (OOMKilled; its memory"),
        ("warm-killed", PodPhase.GONE, "AgentLost", "Everything in the warm pod was killed"),
        ("warming-killed", PodPhase.GONE, "AgentFailed", "out of memory before its agent was up"),
        ("idle", PodPhase.GONE, "Idle", "No cell ran for 1 h."),
        ("deadline", PodPhase.GONE, "PodFailed", "longest time"),
        ("evicted", PodPhase.GONE, "Evicted", "emptied for maintenance"),
        ("preempted", PodPhase.GONE, "Preempted", "higher priority"),
        ("tainted", PodPhase.GONE, "Evicted", "by a taint"),
        ("silent", PodPhase.CLAIMED, "NodeUnreachable", "does not answer"),
        ("lost", PodPhase.GONE, "NodeLost", "does not answer any more"),
    ],
)
def test_a_real_cluster(name: str, phase: PodPhase, reason: str, words: str) -> None:
    seen = pod_from_object(REAL[name].pod)
    assert (seen.phase, seen.reason) == (phase, reason)
    assert words in seen.message


def test_every_real_ending_is_expected() -> None:
    assert len(REAL) == 15


def test_a_pod_that_no_node_takes_warms_on_and_says_so() -> None:
    def waits(status: str) -> PodObject:
        said = {
            "type": "PodScheduled",
            "status": status,
            "reason": "Unschedulable",
            "message": "0/2 nodes are available: 2 Insufficient cpu.",
        }
        return pod("", status={"phase": "Pending", "podIP": "", "conditions": [said]})

    phase, reason, message = fate(waits("False"))
    assert (phase, reason) == (PodPhase.WARMING, "Unschedulable")
    assert "2 without enough CPU" in message
    assert fate(waits("True"))[:2] == (PodPhase.WARMING, "")
