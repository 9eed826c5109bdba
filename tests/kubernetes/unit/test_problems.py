"""What the API refuses, as errors; the sentences are those that Kubernetes 1.35 was seen to use."""

from __future__ import annotations

from typing import Any

import pytest

from jupyter_elastic import errors
from jupyter_elastic.cluster.kubernetes import problems
from jupyter_elastic.cluster.kubernetes.problems import api_error, explain
from jupyter_elastic.cluster.kubernetes.target import Target, target
from jupyter_elastic.errors import ElasticError


def refused(
    code: int,
    message: str = "",
    verb: str = "create",
    resource: str = "pods",
    name: str = "",
    *,
    reason: str = "Forbidden",
    details: Any = None,
    group: str = "",
    **more: Any,
) -> ElasticError:
    status = {"message": message, "reason": reason, "details": details}
    error = explain(code, status, verb, resource, name, group=group, namespace="team", **more)
    answer = api_error(error)
    if answer is None:
        assert isinstance(error, errors.KernelExists)
    else:
        assert answer.code == code
    assert error.message.endswith((".", "!"))
    assert error.remedy.endswith((".", "!"))
    return error


# -- what a request is about -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "query", "is_"),
    [
        ("GET", "/api/v1/namespaces/n/pods", {}, ("list", "pods", "", "n", "")),
        ("GET", "/api/v1/namespaces/n/pods", {"watch": "1"}, ("watch", "pods", "", "n", "")),
        ("GET", "/api/v1/namespaces/n/pods/a/log", {}, ("get", "pods/log", "", "n", "a")),
        ("PATCH", "/api/v1/namespaces/n/pods/a/resize", {}, ("patch", "pods/resize", "", "n", "a")),
        ("DELETE", "/api/v1/namespaces/n/pods", {}, ("deletecollection", "pods", "", "n", "")),
        ("DELETE", "/api/v1/nodes/a", {}, ("delete", "nodes", "", "", "a")),
        ("POST", "/apis/g/v1/namespaces/n/kernels", {}, ("create", "kernels", "g", "n", "")),
        ("PUT", "/apis/g/v1/namespaces/n/leases/l", {}, ("update", "leases", "g", "n", "l")),
        ("GET", "/api/v1/namespaces/n", {}, ("get", "namespaces", "", "", "n")),
        ("GET", "/version", {}, ("get", "/version", "", "", "")),
    ],
)
def test_a_request_in_the_words_of_rbac(
    method: str, path: str, query: dict[str, str], is_: tuple[str, ...]
) -> None:
    verb, resource, group, namespace, name = is_
    assert target(method, path, query) == Target(
        verb=verb, resource=resource, group=group, namespace=namespace, name=name
    )


# -- quota and limits --------------------------------------------------------------------------


def test_a_full_quota_with_figures_people_can_read() -> None:
    error = refused(
        403,
        'pods "a" is forbidden: exceeded quota: team-a, requested: count/pods=1,'
        "limits.cpu=1500m,limits.memory=2Gi,pods=1,requests.nvidia.com/gpu=1,"
        " used: count/pods=5,limits.cpu=7,limits.memory=7680Mi,pods=5,requests.nvidia.com/gpu=0,"
        " limited: count/pods=5,limits.cpu=8,limits.memory=8Gi,pods=5,requests.nvidia.com/gpu=0",
    )
    assert isinstance(error, problems.ApiQuotaFull)
    assert (error.reason, error.status, error.retry) == ("QuotaFull", 429, True)
    assert error.message == (
        'Quota "team-a" of namespace team has no room.'
        " number of pods: 1 asked, 5 of 5 taken;"
        " CPU limits: 1.5 asked, 7 of 8 taken;"
        " memory limits: 2 GiB asked, 7.5 GiB of 8 GiB taken;"
        " pods: 1 asked, 5 of 5 taken;"
        " nvidia.com/gpu: 1 asked, 0 of 0 taken."
        " Memory includes the agent's share."
    )
    assert error.quota == "team-a"
    assert error.requested["limits.memory"] == "2Gi"
    assert error.used["limits.memory"] == "7680Mi"
    assert error.limited["limits.memory"] == "8Gi"


@pytest.mark.parametrize(("asked", "hopeless"), [("3Gi", True), ("2Gi", False)])
def test_more_than_the_whole_quota_is_known_to_be_in_vain(asked: str, hopeless: bool) -> None:
    error = refused(
        403,
        'pods "a" is forbidden: exceeded quota: q,'
        f" requested: requests.cpu=1,requests.memory={asked},"
        " used: requests.cpu=7,requests.memory=1Gi, limited: requests.cpu=8,requests.memory=2Gi",
    )
    assert isinstance(error, problems.ApiQuotaFull)
    assert error.is_hopeless == hopeless


def test_a_resize_asks_the_quota_for_the_difference() -> None:
    error = refused(
        403,
        'pods "a" is forbidden: exceeded quota: quota, requested: limits.memory=960Mi,'
        " used: limits.memory=64Mi, limited: limits.memory=256Mi",
        "patch",
        "pods/resize",
        "a",
    )
    assert "memory limits: 960 MiB more asked, 64 MiB of 256 MiB taken." in error.message


@pytest.mark.parametrize(
    ("message", "kind", "says"),
    [
        (
            "failed quota: quota: must specify limits.memory for: c; requests.cpu for: c",
            errors.InvalidObject,
            "must specify limits.memory for: c; requests.cpu for: c.",
        ),
        ("insufficient quota to consume: requests.x/gpu", errors.QuotaFull, "requests.x/gpu"),
        (
            "insufficient quota to match these scopes: [{PriorityClass In [high]}]",
            errors.QuotaFull,
            "PriorityClass",
        ),
        ("status unknown for quota: new, resources: pods", problems.ApiBusy, '"new"'),
    ],
)
def test_other_words_of_the_quota(message: str, kind: type[ElasticError], says: str) -> None:
    error = refused(403, f'pods "a" is forbidden: {message}')
    assert isinstance(error, kind)
    assert says in error.message
    assert "team" in error.message


def test_a_limit_range_with_figures_people_can_read() -> None:
    error = refused(
        403,
        'pods "lr" is forbidden: [maximum cpu usage per Container is 500m, but limit is 1,'
        " maximum memory usage per Container is 1Gi, but limit is 2Gi, cpu max limit to request"
        " ratio per Container is 4, but provided ratio is 10.000000]",
    )
    assert isinstance(error, errors.LimitRangeRefused)
    assert error.message == (
        "The namespace's LimitRange allows"
        " at most 0.5 CPU per container, and 1 is the limit asked;"
        " at most 1 GiB of memory per container, and 2 GiB is the limit asked;"
        " a limit at most 4 times the request of CPU per container, and 10 is asked"
        " (the agent's share included)."
    )


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (
            "minimum memory usage per Container is 32Mi, but request is 16Mi",
            "at least 32 MiB of memory per container, and 16 MiB is the request asked",
        ),
        (
            "maximum cpu usage per Pod is 1500m.  No limit is specified",
            "at most 1.5 CPU per pod, and no limit is set",
        ),
        (
            "memory max limit to request ratio per Pod is 2, but no request is specified or request"
            " is 0",
            "2 times the request of memory per pod, and no request is specified",
        ),
    ],
)
def test_other_words_of_a_limit_range(message: str, says: str) -> None:
    for code in (403, 422):
        error = refused(code, f'pods "a" is forbidden: {message}')
        assert isinstance(error, errors.LimitRangeRefused)
        assert says in error.message


# -- permission and policy ---------------------------------------------------------------------

_WHO = "system:serviceaccount:team:lab"


@pytest.mark.parametrize(
    ("message", "says", "ask"),
    [
        (
            f'pods "b" is forbidden: User "{_WHO}" cannot patch resource "pods/resize" in API group'
            ' "" in the namespace "team"',
            "may not patch pods/resize in namespace team",
            "the verb `patch` on `pods/resize` in a Role",
        ),
        (
            f'kernels.elastic.jupyter.org is forbidden: User "{_WHO}" cannot create resource'
            ' "kernels/status" in API group "elastic.jupyter.org" in the namespace "team"'
            ": RBAC: role.rbac.authorization.k8s.io not found",
            "may not create kernels/status in namespace team",
            "the verb `create` on `kernels.elastic.jupyter.org/status` in a Role",
        ),
        (
            f'nodes is forbidden: User "{_WHO}" cannot list resource "nodes" in API group "" at the'
            " cluster scope",
            "may not list nodes at cluster scope",
            "the verb `list` on `nodes` in a ClusterRole",
        ),
        (
            f'forbidden: User "{_WHO}" cannot get path "/metrics"',
            "may not get path /metrics",
            "`nonResourceURLs: /metrics`",
        ),
    ],
)
def test_a_missing_permission_names_verb_and_resource(message: str, says: str, ask: str) -> None:
    error = refused(403, message, "patch", "pods/resize", "b")
    assert isinstance(error, errors.Forbidden)
    assert says in error.message
    assert _WHO in error.message
    assert ask in error.remedy
    assert "jupyter elastic crds --rbac" in error.remedy


def test_a_proxy_that_forbids_without_the_apis_words() -> None:
    error = refused(403, "<html>no</html>", "get", "pods", "a", reason="")
    assert isinstance(error, errors.Forbidden)
    assert "`get` on `pods`" in error.remedy


def test_unknown_credentials() -> None:
    error = refused(401, "Unauthorized", "list", reason="Unauthorized")
    assert isinstance(error, errors.Forbidden)
    assert error.reason == "Unauthorized"


def test_pod_security_says_what_is_violated() -> None:
    what = (
        'allowPrivilegeEscalation != false (container "kernel" must set'
        " securityContext.allowPrivilegeEscalation=false), seccompProfile (pod or container"
        ' "kernel" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'
    )
    error = refused(403, f'pods "x" is forbidden: violates PodSecurity "restricted:latest": {what}')
    assert isinstance(error, errors.PodSecurityRefused)
    assert '"restricted:latest"' in error.message
    assert what in error.message


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (400, 'admission webhook "no-gpu.example" denied the request: ask first'),
        (403, 'admission webhook "no-gpu.example" denied the request: ask first'),
        (
            422,
            "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'no-gpu.example' with binding"
            " 'all' denied request: ask first",
        ),
    ],
)
def test_a_policy_of_the_cluster_is_named_with_its_words(code: int, message: str) -> None:
    error = refused(code, message)
    assert isinstance(error, errors.Forbidden)
    assert "no-gpu.example" in error.message
    assert error.message.endswith("ask first.")


@pytest.mark.parametrize(
    "message",
    [
        "no PriorityClass with name high was found",
        'error looking up service account team/nope: serviceaccount "nope" not found',
    ],
)
def test_what_admission_misses_is_said_in_its_words(message: str) -> None:
    error = refused(403, f'pods "x" is forbidden: {message}', details={"name": "x", "kind": "pods"})
    assert isinstance(error, errors.Forbidden)
    assert error.message == f"Kubernetes refuses to create pods: {message}."


def test_a_namespace_that_is_being_deleted() -> None:
    error = refused(
        403,
        'pods "x" is forbidden: unable to create new content in namespace team because it is being'
        " terminated",
        details={"name": "x", "kind": "pods", "causes": [{"reason": "NamespaceTerminating"}]},
    )
    assert "Namespace team is being deleted" in error.message


# -- not there, there already, not valid -------------------------------------------------------


def test_what_is_not_there() -> None:
    details = {"name": "nope", "kind": "pods"}
    for verb, resource in (("get", "pods"), ("patch", "pods/resize")):
        error = refused(
            404, 'pods "nope" not found', verb, resource, "nope", reason="NotFound", details=details
        )
        assert isinstance(error, problems.ApiNotFound)
        assert isinstance(error, errors.Gone)
        assert error.message == "There is no pod nope."


@pytest.mark.parametrize("resource", ["kernels", "kernels/status"])
@pytest.mark.parametrize("name", ["", "k"])
def test_our_resources_are_not_installed(resource: str, name: str) -> None:
    error = refused(
        404, "404 page not found", "get", resource, name, reason="", group="elastic.jupyter.org"
    )
    assert isinstance(error, errors.CrdsMissing)
    assert "kernels.elastic.jupyter.org" in error.message
    assert "jupyter elastic crds | kubectl apply -f -" in error.remedy


def test_one_of_our_objects_that_is_not_there_is_no_missing_definition() -> None:
    details = {"name": "k", "kind": "kernels", "group": "elastic.jupyter.org"}
    error = refused(
        404,
        'kernels.elastic.jupyter.org "k" not found',
        "get",
        "kernels",
        "k",
        reason="NotFound",
        details=details,
        group="elastic.jupyter.org",
    )
    assert isinstance(error, problems.ApiNotFound)


def test_a_namespace_that_does_not_exist() -> None:
    details = {"name": "team", "kind": "namespaces"}
    error = refused(404, 'namespaces "team" not found', reason="NotFound", details=details)
    assert error.message == "Namespace team does not exist."


def test_a_cluster_without_some_resource() -> None:
    message = "the server could not find the requested resource"
    error = refused(404, message, "patch", "pods/resize", "a", reason="NotFound", details={})
    # Not Gone: the pod is there, and lives on.
    assert isinstance(error, errors.ResizeUnsupported)
    assert "does not know pods/resize" in error.message
    error = refused(404, message, "get", "pods/elsewhere", "a", reason="NotFound", details={})
    assert isinstance(error, problems.ApiNotFound)
    assert "has no pods/elsewhere" in error.message


def test_a_name_that_is_taken() -> None:
    details = {"name": "k", "kind": "kernels"}
    words = ('kernels "k" already exists', "create", "kernels")
    error = refused(409, *words, reason="AlreadyExists", details=details)
    assert isinstance(error, problems.ApiConflict)
    assert error.exists
    assert error.message == "kernel k exists already."
    error = refused(
        409, *words, reason="AlreadyExists", details=details, exists=errors.KernelExists
    )
    assert isinstance(error, errors.KernelExists)


def test_somebody_wrote_first() -> None:
    message = (
        'Operation cannot be fulfilled on pods "b": the object has been modified; please apply your'
        " changes to the latest version and try again"
    )
    error = refused(409, message, "patch", "pods", "b", reason="Conflict")
    assert isinstance(error, errors.Conflict)
    assert isinstance(error, problems.ApiConflict)
    assert not error.exists
    # Also where the caller is told of names that are taken.
    error = refused(
        409, message, "patch", "pods", "b", reason="Conflict", exists=errors.KernelExists
    )
    assert isinstance(error, errors.Conflict)


def invalid(name: str, *causes: tuple[str, str], **more: Any) -> ElasticError:
    details = {
        "name": name,
        "kind": "Pod",
        "causes": [{"reason": "FieldValueInvalid", "field": f, "message": m} for f, m in causes],
    }
    message = f'Pod "{name}" is invalid: {causes[0][0]}: {causes[0][1]}' if causes else ""
    return refused(422, message, reason="Invalid", details=details, **more)


def test_another_object_of_that_name_is_a_conflict() -> None:
    error = invalid(
        "b",
        ("metadata.uid", 'Invalid value: "0": field is immutable'),
        verb="patch",
        resource="pods",
    )
    assert isinstance(error, errors.Conflict)


def test_what_is_not_valid_names_the_fields() -> None:
    error = invalid(
        "Bad_Name",
        (
            "metadata.name",
            'Invalid value: "Bad_Name": must consist of lower case alphanumeric characters (e.g.'
            " 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ),
        ("spec.containers[0].image", "Required value"),
        ("spec.containers[0].image", "Required value"),
    )
    assert isinstance(error, errors.InvalidObject)
    assert error.field == "metadata.name"
    assert error.message == (
        'Kubernetes does not accept pod Bad_Name: metadata.name: Invalid value: "Bad_Name": must'
        " consist of lower case alphanumeric characters (e.g. 'example.com');"
        " spec.containers[0].image: Required value."
    )


@pytest.mark.parametrize(
    "words",
    [
        "only cpu and memory resources are mutable",
        "Pod QOS Class may not change as a result of resizing",
        "Pod running on node without support for resize",
    ],
)
def test_what_cannot_be_resized_keeps_kubernetes_words(words: str) -> None:
    error = invalid("b", ("spec", f"Forbidden: {words}"), verb="patch", resource="pods/resize")
    assert isinstance(error, errors.InvalidObject)
    assert words in error.message


# -- trouble -----------------------------------------------------------------------------------


def test_a_version_that_is_no_longer_kept() -> None:
    message = "The resourceVersion for the provided list is too old."
    error = refused(410, message, "list", reason="Expired")
    assert isinstance(error, problems.ResourceExpired)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (502, ""),
        (503, "ServiceUnavailable"),
        (504, "Timeout"),
    ],
)
def test_an_api_in_trouble(code: int, reason: str) -> None:
    error = refused(code, "please wait", reason=reason, details={"retryAfterSeconds": 4})
    assert isinstance(error, problems.ApiBusy)
    assert (error.retry, error.retry_after) == (True, 4.0)
    assert "please wait" in error.message
    assert "nothing is lost" in error.remedy
    assert api_error(refused(code, retry_after=9.0, reason=reason)).retry_after == 9  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "status", [{}, {"message": None, "details": []}, {"details": {"causes": 3}}]
)
@pytest.mark.parametrize("code", [301, 400, 401, 403, 404, 409, 410, 418, 422, 429, 500, 503])
def test_answers_that_say_nothing(code: int, status: dict[str, Any]) -> None:
    error = explain(code, status, "patch", "pods", "a", namespace="team")
    assert error.message
    assert error.remedy
    answer = api_error(error)
    assert answer is not None
    assert answer.code == code
