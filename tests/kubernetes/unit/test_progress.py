"""How far a pod has come, and what is in its way: each case that a cluster has words for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_elastic import errors
from jupyter_elastic.cluster.kubernetes.objects import EventObject, PodObject
from jupyter_elastic.cluster.kubernetes.obstacles import unschedulable
from jupyter_elastic.cluster.kubernetes.progress import Hindrance, hindrance, steps

from .objects import condition, event, pod, samples, waiting

AT = 1767225600.0
"""2026-01-01T00:00:00Z."""
SCHEDULED = {
    "type": "PodScheduled",
    "status": "True",
    "lastTransitionTime": "2026-01-01T00:00:01Z",
}


def warming(reason: str = "ContainerCreating", message: str = "", **changes: Any) -> PodObject:
    status = {"phase": "Pending", "conditions": [SCHEDULED], **changes.pop("status", {})}
    return pod("warming", container=waiting(reason, message), status=status, **changes)


def unscheduled(message: str, **changes: Any) -> PodObject:
    no = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": "2026-01-01T00:00:01Z",
    }
    return pod("warming", status={"conditions": [no], "containerStatuses": []}, **changes)


def found(obj: PodObject, *events: EventObject) -> Hindrance:
    it = hindrance(obj, events)
    assert it is not None
    assert it.error.message.endswith(".")
    assert it.error.remedy
    return it


# -- steps -------------------------------------------------------------------------------------


def test_a_start_that_works() -> None:
    running = {"running": {"startedAt": "2026-01-01T00:00:09Z"}}
    obj = pod("warming", container={"state": running}, status={"conditions": [SCHEDULED]})
    events = [
        event("Started", at="09"),
        event(
            "Pulled",
            'Successfully pulled image "img:1" in 5.25s (6s including waiting). Image size: '
            "104857600 bytes.",
            "08",
        ),
        event("Pulling", 'Pulling image "img:1"', "02"),
        event("Scheduled", at="01"),
    ]
    assert [(step.time - AT, step.name, step.message) for step in steps(obj, events)] == [
        (1, "scheduled", "A node has room for the pod."),
        (2, "image-pulling", "Pulling the image img:1."),
        (8, "image-pulled", "The image is pulled (5.2 s, 100 MiB)."),
        (9, "started", "The pod's container runs."),
    ]
    assert hindrance(obj, events) is None
    assert [step.name for step in steps(obj)] == ["scheduled", "started"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ('Container image "x" already present on machine', "The node has the image already."),
        ('Successfully pulled image "x" in 250ms (1s including waiting)', "pulled (0.2 s)."),
        ("Something new", "The image is pulled."),
    ],
)
def test_words_for_a_pulled_image(said: str, words: str) -> None:
    assert steps(warming(), [event("Pulled", said)])[-1].message.endswith(words)


def test_a_pull_that_failed_first_is_told_once() -> None:
    events = [
        event("Pulling", 'Pulling image "img:1"', "02"),
        event("Pulling", 'Pulling image "img:1"', "05"),
        event("Pulled", "Successfully pulled", "08"),
    ]
    names = [(step.name, step.time - AT) for step in steps(warming(), events)]
    assert names == [("scheduled", 1), ("image-pulling", 2), ("image-pulled", 8)]


def test_a_cluster_that_adds_a_node() -> None:
    obj = unscheduled("0/1 nodes are available: 1 Insufficient cpu.")
    seen = steps(obj, [event("TriggeredScaleUp", "pod triggered scale-up: [...]", "03")])
    assert [step.name for step in seen] == ["blocked", "node-coming"]


def test_what_is_in_the_way_is_the_last_step() -> None:
    obj = warming("ErrImagePull", "manifest unknown: not found")
    last = steps(obj, [event("Failed", "Error: ErrImagePull", "03", "Warning")])[-1]
    assert (last.name, last.time) == ("blocked", AT + 3)
    assert "The registry has no image img:1." in last.message


def test_nothing_known_is_no_trouble() -> None:
    assert steps(PodObject()) == ()
    assert hindrance(PodObject()) is None
    assert hindrance(warming()) is None


def test_a_pod_that_runs_is_in_no_trouble() -> None:
    old = event("FailedMount", 'secret "p" not found', kind="Warning")
    assert hindrance(pod("warm"), [old]) is None


# -- patience ----------------------------------------------------------------------------------


def test_how_long_to_wait_is_the_callers_decision() -> None:
    it = found(unscheduled("0/1 nodes are available: 1 Insufficient cpu."))
    assert it.severity == "waiting"
    assert it.since == AT + 1
    assert not it.is_hopeless(AT + 2)
    assert it.is_hopeless(AT + 2, patience=1)
    assert not it.is_hopeless(AT + 300)
    assert it.is_hopeless(AT + 301)
    assert not Hindrance(it.error, "waiting").is_hopeless(AT, patience=0)  # since when?
    assert Hindrance(it.error, "fatal").is_hopeless(0, patience=1e9)


FITS_NONE = (
    "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s). preemption: "
    "0/2 nodes are available: 2 Preemption is not helpful for scheduling."
)


def test_a_pod_that_fits_no_empty_node_is_not_waited_for_long() -> None:
    tried = event("FailedScheduling", FITS_NONE, kind="Warning")
    it = found(unscheduled(FITS_NONE), tried)
    assert not it.is_hopeless(AT + 40)
    assert it.is_hopeless(AT + 50)


@pytest.mark.parametrize("adds", ["TriggeredScaleUp", "Nominated"])
def test_a_node_that_comes_for_it_is_waited_for(adds: str) -> None:
    tried = event("FailedScheduling", FITS_NONE, kind="Warning")
    it = found(unscheduled(FITS_NONE), tried, event(adds, "a node comes"))
    assert not it.is_hopeless(AT + 290)


def test_without_events_nobody_knows_whether_a_node_comes() -> None:
    assert not found(unscheduled(FITS_NONE)).is_hopeless(AT + 290)


# -- nodes -------------------------------------------------------------------------------------

PREEMPTION = (
    " preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 "
    "Preemption is not helpful for scheduling."
)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "0/3 nodes are available: 1 Insufficient memory, 2 node(s) had untolerated taint "
            "{node-role.kubernetes.io/control-plane: }.",
            "No node has room for the pod, which needs 256 MiB of memory (of 3 nodes: 1 without "
            "enough memory, 2 closed by the taint node-role.kubernetes.io/control-plane).",
        ),
        (
            "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable, 1 Too many "
            "pods.",
            "which needs 1 CPU (of 3 nodes: 1 without enough CPU, 1 closed for new pods, 1 with as "
            "many pods as it may have).",
        ),
        (
            "0/3 nodes are available: 3 node(s) didn't match pod topology spread constraints.",
            "No node takes the pod (of 3 nodes: 3 with too many such pods).",
        ),
        (
            "0/3 nodes are available: 3 node(s) had volume node affinity conflict.",
            "(of 3 nodes: 3 ",
        ),
        ("0/3 nodes are available: 3 something new.", "(of 3 nodes: 3 something new)."),
        ("no nodes available to schedule pods", "(no nodes available to schedule pods)."),
        ("", "No node takes the pod."),
    ],
)
def test_no_node_takes_it(said: str, words: str) -> None:
    for message in (said, said + PREEMPTION if "available:" in said else said):
        it = found(unscheduled(message))
        assert isinstance(it.error, errors.Unschedulable)
        assert it.severity == "waiting"
        assert words in it.error.message


def test_too_few_gpus() -> None:
    sizes = {"requests": {"nvidia.com/gpu": "2"}, "limits": {"nvidia.com/gpu": "2"}}
    obj = unscheduled("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", resources=sizes)
    error = found(obj).error
    assert "needs 2 nvidia.com/gpu (of 1 nodes: 1 without enough nvidia.com/gpu)" in error.message
    assert "fewer GPUs" in error.remedy


def test_a_cluster_that_will_not_add_a_node() -> None:
    said = event("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached")
    it = found(unscheduled("0/1 nodes are available: 1 Insufficient cpu."), said)
    assert "and the cluster does not add one." in it.error.message


# -- images ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (
            'failed to resolve reference "docker.io/x/y:1": pull access denied, repository does '
            "not exist or may require authorization: server message: insufficient_scope: "
            "authorization failed",
            errors.ImageForbidden,
            "does not let this cluster pull the image img:1, or has no such image.",
        ),
        (
            "unexpected status from HEAD request to https://r/v2/x: 401 Unauthorized",
            errors.ImageForbidden,
            "does not let this cluster",
        ),
        ("no basic auth credentials", errors.ImageForbidden, "does not let this cluster"),
        ("manifest unknown", errors.ImageNotFound, "The registry has no image img:1."),
        (
            "no match for platform in manifest: not found",
            errors.ImageNotFound,
            "does not exist for the architecture",
        ),
    ],
)
@pytest.mark.parametrize("backoff", ["no", "itself", "event"])
def test_an_image_that_cannot_be_had(
    said: str, kind: type[errors.ElasticError], words: str, backoff: str
) -> None:
    events = [
        event("Failed", f'Failed to pull image "img:1": {said}', "03", "Warning"),
        event("Failed", "Error: ErrImagePull", "03", "Warning"),
    ]
    if backoff == "no":
        it = found(warming("ErrImagePull", said))
    elif backoff == "itself":
        message = f'Back-off pulling image "img:1": ErrImagePull: {said}'
        it = found(warming("ImagePullBackOff", message))
    else:  # kubelets before 1.32
        it = found(warming("ImagePullBackOff", 'Back-off pulling image "img:1"'), *events)
    assert type(it.error) is kind
    assert it.severity == "fatal"
    assert words in it.error.message


@pytest.mark.parametrize(
    "said",
    [
        "dial tcp: lookup registry.example on 10.0.0.1:53: no such host",
        "net/http: TLS handshake timeout",
        "x509: certificate signed by unknown authority",
        "unexpected status code [manifests 1]: 503 Service Unavailable",
        "toomanyrequests: You have reached your pull rate limit",
        "context deadline exceeded",
        "something new",
        "",
    ],
)
def test_a_registry_in_trouble_is_waited_for(said: str) -> None:
    it = found(warming("ErrImagePull", said))
    assert type(it.error) is errors.PodFailed
    assert it.severity == "waiting"
    assert "10.0.0.1" not in it.error.message


def test_words_in_an_images_name_are_not_a_cause() -> None:
    name = "denied/not-found:401"
    said = f'failed to pull "{name}": {name}: something new'
    assert found(warming("ErrImagePull", said, image=name)).severity == "waiting"


def test_a_long_message_is_quoted_in_part() -> None:
    said = "rpc error: code = Unknown desc = " + "failed to do this " * 40 + "a" * 64
    message = found(warming("ErrImagePull", said)).error.message
    assert len(message) < 250
    assert "a" * 64 not in message
    assert "rpc error" not in message


# -- containers --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["p", "jupyter-elastic-agent-0123456789abcdef"])
def test_what_is_made_with_the_pod_is_waited_for(name: str) -> None:
    kind = "secret" if name == "p" else "configmap"
    said = f'MountVolume.SetUp failed for volume "elastic-config" : {kind} "{name}" not found'
    it = found(warming(), event("FailedMount", said, "03", "Warning"))
    assert (it.severity, it.since, it.patience) == ("waiting", AT + 3, 30)
    assert it.error.message.endswith(f" {name}.")


def test_an_obstacle_that_was_overcome_is_none() -> None:
    said = event("FailedMount", 'secret "p" not found', "03", "Warning")
    assert hindrance(warming(), [said, event("Pulled", "", "04")]) is None
    assert hindrance(warming(), [event("Pulled", "", "04"), said]) is None


@pytest.mark.parametrize(
    ("reason", "said", "words"),
    [
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "v" : mount failed: exit status 32',
            "A volume of the pod cannot be mounted: mount failed: exit status 32.",
        ),
        (
            "FailedAttachVolume",
            'AttachVolume.Attach failed for volume "pvc-6c1d4b43-0000-4000-8000-000000000000" : '
            "volume is attached to another node",
            "cannot be mounted: AttachVolume.Attach failed for volume",
        ),
        (
            "FailedCreatePodSandBox",
            "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup "
            "network for sandbox: plugin type=bridge failed (add): no addresses left in the range",
            "The node cannot make the pod's sandbox: plugin type=bridge failed (add): no addresses",
        ),
    ],
)
def test_what_keeps_the_node_from_making_a_container(reason: str, said: str, words: str) -> None:
    it = found(warming(), event(reason, said, "03", "Warning"))
    assert type(it.error) is errors.PodFailed
    assert (it.severity, it.since) == ("waiting", AT + 3)
    assert words in it.error.message
    assert "6c1d4b43" not in it.error.message


@pytest.mark.parametrize(
    ("reason", "said", "severity", "words"),
    [
        (
            "CreateContainerConfigError",
            "container has runAsNonRoot and image has non-numeric user (me), cannot verify user "
            "is non-root",
            "fatal",
            "runs as root",
        ),
        ("CreateContainerConfigError", "something new", "waiting", "something new"),
        ("CreateContainerError", "context deadline exceeded", "waiting", "deadline exceeded"),
        (
            "RunContainerError",
            'failed to start: exec: "python3": executable file not found in $PATH: unknown',
            "fatal",
            "cannot run python3",
        ),
        ("CrashLoopBackOff", "back-off 10s", "fatal", "ended before it was up"),
    ],
)
def test_a_container_that_cannot_run(reason: str, said: str, severity: str, words: str) -> None:
    it = found(warming(reason, said))
    assert it.severity == severity
    assert words in it.error.message


def test_the_pods_end_is_certain() -> None:
    gone = pod(
        metadata={"deletionTimestamp": "2026-01-01T00:01:00Z"},
        status={"conditions": [condition("DisruptionTarget", "EvictionByEvictionAPI")]},
    )
    it = found(gone)
    assert (it.severity, type(it.error)) == ("fatal", errors.Evicted)
    deleted = pod("warming", metadata={"deletionTimestamp": "2026-01-01T00:01:00Z"})
    it = found(deleted)
    assert (it.severity, type(it.error)) == ("fatal", errors.AgentTimeout)  # as wait_pod promises


# -- whatever it says --------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        "0/3 nodes are available: ",
        "1 Insufficient cpu",
        ", ",
        ". ",
        "{a: b}",
        'exec: "',
        '"',
        ": ",
        "not found",
        "secret",
        "401",
        "500 ",
        "\n",
        "preemption:",
        "in 5s",
        " ",
        "\x00",
        "ü" * 50,
    ]
)
SAID = st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=40).map("".join))
REASONS = st.sampled_from(
    [
        "ErrImagePull",
        "ImagePullBackOff",
        "CreateContainerConfigError",
        "CrashLoopBackOff",
        "CreateContainerError",
        "RunContainerError",
        "ContainerCreating",
        "Other",
        "",
    ]
)
EVENTS = st.builds(
    event,
    st.sampled_from(["Failed", "FailedMount", "FailedCreatePodSandBox", "Pulling", "Pulled", "X"]),
    SAID,
    st.sampled_from(["01", "02"]),
    st.sampled_from(["Normal", "Warning"]),
)


@given(REASONS, SAID, st.lists(EVENTS, max_size=4), st.booleans())
def test_no_words_are_too_strange(
    reason: str, said: str, events: list[EventObject], placed: bool
) -> None:
    obj = warming(reason, said) if placed else unscheduled(said)
    told = steps(obj, events)
    assert all(step.message for step in told)
    it = hindrance(obj, events)
    if it is not None:
        assert len(it.error.message) < 1000 or not placed
        assert it.error.remedy


# -- a real cluster ----------------------------------------------------------------------------

IMAGES = samples("images")
SCHEDULING = samples("scheduling")
CONTAINERS = samples("containers")
NOT_FOUND, FORBIDDEN = errors.ImageNotFound, errors.ImageForbidden
REAL: list[tuple[str, dict[str, Any], type[errors.ElasticError], str, str]] = [
    ("none", IMAGES, NOT_FOUND, "fatal", "The registry has no image localhost:5000/none/x:1."),
    ("none-backoff", IMAGES, NOT_FOUND, "fatal", "The registry has no image"),
    ("noname", IMAGES, NOT_FOUND, "fatal", "The registry has no image"),
    ("private", IMAGES, FORBIDDEN, "fatal", "does not let this cluster pull the image"),
    ("private-backoff", IMAGES, FORBIDDEN, "fatal", "does not let this cluster pull the image"),
    ("denied", IMAGES, FORBIDDEN, "fatal", "does not let this cluster pull the image"),
    ("broken", IMAGES, errors.PodFailed, "waiting", "503 Service Unavailable"),
    ("busy", IMAGES, errors.PodFailed, "waiting", "429 Too Many Requests"),
    ("unreachable", IMAGES, errors.PodFailed, "waiting", "connection refused"),
    ("dns-backoff", IMAGES, errors.PodFailed, "waiting", "network is unreachable"),
    ("invalid", IMAGES, NOT_FOUND, "fatal", "The image's name 'Img::x' cannot be read."),
    ("never", IMAGES, NOT_FOUND, "fatal", "and may not pull it."),
    ("cpu", SCHEDULING, errors.Unschedulable, "waiting", "needs 100 CPU (of 2 nodes: 1 without"),
    ("memory", SCHEDULING, errors.Unschedulable, "waiting", "needs 1 TiB of memory (of 2 nodes"),
    ("both", SCHEDULING, errors.Unschedulable, "waiting", "needs 100 CPU and 1 TiB of memory"),
    ("gpu", SCHEDULING, errors.Unschedulable, "waiting", "needs 9 nvidia.com/gpu"),
    ("selector", SCHEDULING, errors.Unschedulable, "waiting", "1 of another kind, 1 closed by a"),
    ("claim", SCHEDULING, errors.Unschedulable, "waiting", "volume claim nope does not exist"),
    ("refused-cpu", SCHEDULING, errors.Unschedulable, "fatal", "5 CPU, where 0.89 of the node's 2"),
    ("refused-memory", SCHEDULING, errors.Unschedulable, "fatal", "where 22.4 GiB of the node's"),
    ("secret-env", CONTAINERS, errors.PodFailed, "fatal", "The secret db does not exist"),
    ("config-env", CONTAINERS, errors.PodFailed, "fatal", "The config map cfg does not exist"),
    ("secret-key", CONTAINERS, errors.PodFailed, "fatal", "The secret have has no key nokey."),
    ("secret-volume", CONTAINERS, errors.PodFailed, "fatal", "The secret db does not exist"),
    ("own-secret-volume", CONTAINERS, errors.PodFailed, "waiting", "waits for its secret own-"),
    ("key-volume", CONTAINERS, errors.PodFailed, "fatal", "A secret has no key nokey."),
    ("hostpath", CONTAINERS, errors.PodFailed, "waiting", "/nope/nope is not a directory"),
    ("as-root", CONTAINERS, errors.PodFailed, "fatal", "runs as root"),
    ("no-command", CONTAINERS, errors.BadInterpreter, "fatal", "cannot run python9 (executable"),
    ("no-command-loop", CONTAINERS, errors.BadInterpreter, "fatal", "cannot run python9"),
    ("no-command-path", CONTAINERS, errors.BadInterpreter, "fatal", "run /opt/nope/bin/python"),
    ("no-exec", CONTAINERS, errors.BadInterpreter, "fatal", "cannot run /etc (permission denied)"),
    ("no-cwd", CONTAINERS, errors.AgentFailed, "fatal", "mkdir /proc/nope: no such file"),
    ("no-zmq", CONTAINERS, errors.BadInterpreter, "fatal", "localhost/base:test has no pyzmq."),
    ("no-zmq-loop", CONTAINERS, errors.BadInterpreter, "fatal", "has no pyzmq."),
    ("crash", CONTAINERS, errors.AgentFailed, "fatal", "(exit code 3). Its last words: first\n"),
    ("crash-loop", CONTAINERS, errors.AgentFailed, "fatal", "(exit code 3). Its last words"),
]


def test_all_samples_are_expected() -> None:
    named = [(name, id(topic)) for name, topic, *_ in REAL]
    assert len(named) == len(set(named)) == len(IMAGES) + len(SCHEDULING) + len(CONTAINERS)


@pytest.mark.parametrize(("name", "topic", "kind", "severity", "words"), REAL)
def test_a_real_cluster(
    name: str,
    topic: dict[str, Any],
    kind: type[errors.ElasticError],
    severity: str,
    words: str,
) -> None:
    obj, events = topic[name]
    it = found(obj, *events)
    assert type(it.error) is kind
    assert it.severity == severity
    assert words in it.error.message
    told = steps(obj, events)
    assert [step.time for step in told] == sorted(step.time for step in told)
    assert all(step.time > AT for step in told)
    assert (told[-1].name, told[-1].message) == ("blocked", str(it.error))
    # Also where events are lost, which have the mounts' causes alone:
    without = hindrance(obj)
    if "volume" not in name and name != "hostpath":
        assert without is not None
        assert type(without.error) is kind
        assert without.severity == severity


def test_a_claim_without_a_volume_is_no_want_of_room() -> None:
    said = "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
    error = unschedulable(pod(), said)
    assert error.message == "A persistent volume claim that the pod mounts has no volume."
    assert "kubectl get pvc" in error.remedy
