"""From other operators' objects and gateways' kernelspecs: what is carried over, what is said."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from jupyter_elastic.cluster.kubernetes.convert import Conversion, Source, convert
from jupyter_elastic.cluster.kubernetes.templates import template_from_object
from jupyter_elastic.resources import GIB

API = "kubeflow.tkestack.io/v1alpha1"
LAUNCHER = [
    "python",
    "/usr/local/share/jupyter/kernels/x/scripts/launch_kubernetes.py",
    "--RemoteProcessProxy.kernel-id",
    "{kernel_id}",
    "--RemoteProcessProxy.response-address",
    "{response_address}",
]
R_ARGV = ["R", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}"]


def kernel_spec(name: str = "py", namespace: str = "lab", **spec: Any) -> dict[str, Any]:
    usual = {"language": "Python", "image": "example/python", "command": LAUNCHER}
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    merged = {key: value for key, value in (usual | spec).items() if value is not None}
    return {"apiVersion": API, "kind": "JupyterKernelSpec", "metadata": metadata, "spec": merged}


def kernel_template(name: str = "pods", namespace: str = "lab", **pod: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {
        "apiVersion": API,
        "kind": "JupyterKernelTemplate",
        "metadata": metadata,
        "spec": {"template": {"spec": pod}},
    }


def of(*objects: dict[str, Any]) -> Conversion:
    made = convert([Source(where="file.yaml", data=one) for one in objects])
    for template in made.templates:
        template_from_object(template["metadata"]["name"], template["spec"])
    return made


def gateway_spec(name: str = "py", *, source: dict[str, Any] | None = None, **spec: Any) -> Any:
    proxy = {
        "class_name": "enterprise_gateway.services.processproxies.k8s.KubernetesProcessProxy",
        "config": {"image_name": "example/python"},
    }
    data = {
        "language": "python",
        "display_name": "Python",
        "metadata": {"process_proxy": proxy},
        "argv": LAUNCHER,
        **spec,
    }
    return convert([Source(where=f"/kernels/{name}", name=name, data=data, **(source or {}))])


def the_spec(made: Conversion) -> dict[str, Any]:
    assert made.failed == ()
    [template] = made.templates
    assert template["kind"] == "KernelTemplate"
    spec: dict[str, Any] = template["spec"]
    return spec


def said(made: Conversion) -> dict[str, str]:
    """What is said, by object and field."""
    return {f"{note.object}: {note.field}": note.message for note in (*made.notes, *made.failed)}


# -- elastic-jupyter-operator ------------------------------------------------------------------


def test_a_plain_kernelspec() -> None:
    made = of(
        kernel_spec(
            displayName="Python 3",
            className="enterprise_gateway.services.processproxies.k8s.KubernetesProcessProxy",
            env=[{"name": "A", "value": "$(B)/x"}, {"name": "EMPTY"}],
        )
    )
    assert the_spec(made) == {
        "displayName": "Python 3",
        "image": "example/python",
        "env": {"A": "$(B)/x", "EMPTY": ""},
        "resources": {
            "cpu": {"minimum": "100m", "default": "1", "maximum": "2"},
            "memory": {"minimum": "256Mi", "default": "2Gi", "maximum": "4Gi"},
        },
    }
    assert made.templates[0]["metadata"] == {"name": "py", "namespace": "lab"}
    assert set(said(made)) == {
        "JupyterKernelSpec lab/py: spec.command",
        "JupyterKernelSpec lab/py: spec.resources.cpu",
        "JupyterKernelSpec lab/py: spec.resources.memory",
    }


FULL_POD: dict[str, Any] = {
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "affinity": {"podAffinity": {}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    ],
    "priorityClassName": "high",
    "imagePullSecrets": [{"name": "registry"}],
    "runtimeClassName": "gvisor",
    "serviceAccountName": "kernel",
    "volumes": [{"name": "data", "hostPath": {"path": "/data"}}],
    "securityContext": {"runAsUser": 1000, "fsGroup": 100, "supplementalGroups": [5]},
    "containers": [
        {"name": "first", "image": "example/sidecar"},
        {
            "name": "kernel",
            "image": "example/other",
            "imagePullPolicy": "Always",
            "workingDir": "/work",
            "env": [{"name": "A", "value": "pod"}, {"name": "B", "value": "2"}],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "securityContext": {"runAsGroup": 7, "privileged": True},
            "resources": {
                "requests": {"cpu": "500m", "memory": "1Gi"},
                "limits": {"cpu": 2, "memory": "4Gi", "nvidia.com/gpu": "1"},
            },
        },
    ],
}


def test_all_of_a_pod_template_that_has_a_place() -> None:
    reference = {"name": "pods", "namespace": "lab"}
    spec = kernel_spec(template=reference, env=[{"name": "A", "value": "spec"}])
    made = of(spec, kernel_template(**FULL_POD))
    found = the_spec(made)
    assert found["image"] == "example/python"
    assert found["workingDirectory"] == "/work"
    assert found["env"] == {"A": "spec", "B": "2"}
    assert found["resources"] == {
        "cpu": {"minimum": "500m", "default": "2", "maximum": "2"},
        "memory": {"minimum": "1Gi", "default": "4Gi", "maximum": "4Gi"},
        "gpu": {"kinds": ["nvidia.com/gpu"], "default": 1, "maximum": 1},
    }
    kept = {key: FULL_POD[key] for key in FULL_POD if key not in ("securityContext", "containers")}
    assert found["pod"] == {
        **kept,
        "securityContext": {"supplementalGroups": [5]},
        "runAsUser": 1000,
        "runAsGroup": 7,
        "fsGroup": 100,
        "imagePullPolicy": "Always",
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    pod = "JupyterKernelTemplate lab/pods: spec.template.spec"
    notes = said(made)
    assert "example/other gives way" in notes[f"{pod}.containers[1].image"]
    assert "restricted" in notes[f"{pod}.containers[1].securityContext.privileged"]
    assert "one container" in notes[f"{pod}.containers[0]"]
    assert len(notes) == 4, "and the command"


@pytest.mark.parametrize(
    ("pod", "field"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"initContainers": [{"name": "x"}]}, "initContainers"),
        ({"restartPolicy": "Never"}, "restartPolicy"),
        ({"dnsPolicy": "None"}, "dnsPolicy"),
        ({"containers": [{"args": ["x"]}]}, "containers[0].args"),
        ({"containers": [{"livenessProbe": {"exec": {}}}]}, "containers[0].livenessProbe"),
        ({"containers": [{"envFrom": [{}]}]}, "containers[0].envFrom"),
        ({"containers": [{"lifecycle": {"x": 1}}]}, "containers[0].lifecycle"),
        (
            {"containers": [{"env": [{"name": "S", "valueFrom": {"secretKeyRef": {}}}]}]},
            "containers[0].env[0].valueFrom",
        ),
        (
            {"containers": [{"resources": {"limits": {"ephemeral-storage": "1Gi"}}}]},
            "containers[0].resources.limits.ephemeral-storage",
        ),
        (
            {"containers": [{"resources": {"limits": {"cpu": "many"}}}]},
            "containers[0].resources.limits.cpu",
        ),
        (
            {"containers": [{"resources": {"limits": {"example.org/fpga": 1}}}]},
            "containers[0].resources.limits.example.org/fpga",
        ),
    ],
)
def test_whatever_has_no_place_is_said(pod: dict[str, Any], field: str) -> None:
    made = of(kernel_spec(template={"name": "pods"}), kernel_template(**pod))
    the_spec(made)
    assert f"JupyterKernelTemplate lab/pods: spec.template.spec.{field}" in said(made)


def test_unknown_fields_are_said() -> None:
    made = of(kernel_spec(sidecars=[1]))
    the_spec(made)
    assert "JupyterKernelSpec lab/py: spec.sidecars" in said(made)


@pytest.mark.parametrize("namespace", ["lab", ""])
def test_a_manifest_need_not_say_its_namespace(namespace: str) -> None:
    reference = {"name": "pods", "namespace": "lab"}
    pods = kernel_template("pods", namespace, nodeSelector={"a": "b"})
    made = of(kernel_spec("py", "", template=reference), pods)
    assert the_spec(made)["pod"] == {"nodeSelector": {"a": "b"}}


def test_a_reference_that_leads_nowhere() -> None:
    made = of(kernel_spec(template={"name": "pods", "namespace": "other"}), kernel_template())
    the_spec(made)
    notes = said(made)
    assert "not among what was given" in notes["JupyterKernelSpec lab/py: spec.template"]
    assert "no JupyterKernelSpec uses it" in notes["JupyterKernelTemplate lab/pods: "]


def test_a_gateway_says_when_idle_kernels_end() -> None:
    gateway = {
        "apiVersion": API,
        "kind": "JupyterGateway",
        "metadata": {"name": "gateway", "namespace": "lab"},
        "spec": {"kernels": ["py"], "cullIdleTimeout": 3600, "defaultKernel": "py"},
    }
    made = of(kernel_spec(), kernel_spec("other"), gateway)
    assert [template["spec"].get("idle") for template in made.templates] == [
        {"cullAfter": 3600},
        None,
    ]
    assert "JupyterGateway lab/gateway: spec.defaultKernel" in said(made)


def test_a_list_as_kubectl_writes_it() -> None:
    data = {"apiVersion": "v1", "kind": "List", "items": [kernel_spec(), kernel_spec("other")]}
    assert len(of(data).templates) == 2
    bare = {key: value for key, value in kernel_spec().items() if key not in ("kind", "apiVersion")}
    data = {"apiVersion": API, "kind": "JupyterKernelSpecList", "items": [bare]}
    assert len(of(data).templates) == 1


@pytest.mark.parametrize(
    ("data", "field", "words"),
    [
        (kernel_spec(image=None), "spec.image", "a pod needs one"),
        (kernel_spec(language="scala"), "spec.command", "how the scala kernel itself is run"),
        (kernel_spec(env=[{"name": "a-b", "value": "x"}]), "", "'a-b'"),
        ({"apiVersion": API, "kind": "JupyterNotebook", "metadata": {"name": "x"}}, "", "server"),
        ({"apiVersion": "v1", "kind": "Pod"}, "", "Pod of v1"),
        ({"display_name": "x"}, "", "no argv"),
        ([1], "", "neither"),
    ],
)
def test_what_cannot_be_converted(data: Any, field: str, words: str) -> None:
    made = of(data)
    assert made.templates == ()
    [failed] = made.failed
    assert failed.field == field
    assert words in failed.message


def test_names_stay_different() -> None:
    made = of(kernel_spec("my_kernel", ""), kernel_spec("my-kernel", ""))
    assert [template["metadata"]["name"] for template in made.templates] == ["my-kernel"]
    [failed] = made.failed
    assert "already" in failed.message
    long = of(kernel_spec("a" * 80), kernel_spec("a" * 81))
    first, second = (template["metadata"]["name"] for template in long.templates)
    assert first != second


# -- what runs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "argv", "expected"),
    [
        ("python", LAUNCHER, {}),
        ("", [], {}),
        ("python", ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"], {}),
        (
            "python",
            ["/opt/conda/bin/python", "-m", "ipykernel", "-f", "{connection_file}"],
            {"interpreter": "/opt/conda/bin/python"},
        ),
        (
            "python",
            ["python", "-m", "mine", "-f", "{connection_file}"],
            {"language": "python", "argv": ["python", "-m", "mine", "-f", "{connection_file}"]},
        ),
        ("R", LAUNCHER, {"language": "R", "argv": R_ARGV}),
        ("julia", ["julia", "{connection_file}"],
         {"language": "julia", "argv": ["julia", "{connection_file}"]}),
    ],
)  # fmt: skip
def test_what_runs(language: str, argv: list[str], expected: dict[str, Any]) -> None:
    spec = the_spec(of(kernel_spec(language=language, command=argv)))
    found = {key: spec[key] for key in ("language", "interpreter", "argv") if key in spec}
    assert found == expected


def test_what_a_launcher_did_besides_is_said() -> None:
    words = [*LAUNCHER, "--RemoteProcessProxy.spark-context-initialization-mode", "lazy",
             "--kernel-class-name", "my.Kernel"]  # fmt: skip
    made = of(kernel_spec(command=words))
    messages = " ".join(note.message for note in made.notes)
    assert "Spark context (lazy)" in messages
    assert "my.Kernel" in messages


# -- kernelspecs of gateways -------------------------------------------------------------------


def test_a_kernelspec_of_enterprise_gateway() -> None:
    made = gateway_spec(
        env={
            "KERNEL_CPUS": "1",
            "KERNEL_CPUS_LIMIT": "4",
            "KERNEL_MEMORY": "2Gi",
            "KERNEL_GPUS_LIMIT": "2",
            "KERNEL_UID": "1000",
            "KERNEL_GID": "100",
            "KERNEL_WORKING_DIR": "/work",
            "KERNEL_SERVICE_ACCOUNT_NAME": "kernel",
            "KERNEL_VOLUMES": '[{"name": "nfs", "nfs": {"server": "a", "path": "/"}}]',
            "KERNEL_VOLUME_MOUNTS": "[{name: nfs, mountPath: /nfs}]",
            "MINE": "1",
        },
        interrupt_mode="message",
    )
    spec = the_spec(made)
    template = template_from_object("py", spec)
    assert (template.resources.cpu.minimum, template.resources.cpu.default) == (1000, 4000)
    assert template.resources.memory.maximum == 2 * GIB
    assert template.resources.gpu.kinds == ("nvidia.com/gpu",)
    assert template.interrupt_mode == "message"
    assert template.working_directory == "/work"
    assert template.env == {"MINE": "1"}
    assert spec["pod"] == {
        "runAsUser": 1000,
        "runAsGroup": 100,
        "serviceAccountName": "kernel",
        "volumes": [{"name": "nfs", "nfs": {"server": "a", "path": "/"}}],
        "volumeMounts": [{"name": "nfs", "mountPath": "/nfs"}],
    }
    assert set(said(made)) == {"/kernels/py: argv"}


def test_a_kernelspec_of_gateway_provisioners() -> None:
    entry = {"provisioner_name": "kubernetes-provisioner", "config": {"image_name": "example/py"}}
    metadata = {"kernel_provisioner": entry, "debugger": True, "supported_encryption": ["curve"]}
    spec = the_spec(gateway_spec(metadata=metadata))
    assert spec["image"] == "example/py"
    assert spec["metadata"] == {"debugger": True}


def test_the_older_place_of_process_proxy() -> None:
    proxy = {"class_name": "x.k8s.KubernetesProcessProxy", "config": {"image_name": "example/old"}}
    assert the_spec(gateway_spec(metadata={}, process_proxy=proxy))["image"] == "example/old"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"env": {"KERNEL_FOO": "1"}}, "env.KERNEL_FOO"),
        ({"env": {"KERNEL_NAMESPACE": "x"}}, "env.KERNEL_NAMESPACE"),
        ({"env": {"LAUNCH_OPTS": "-v"}}, "env.LAUNCH_OPTS"),
        ({"env": {"PATH": "/x:${PATH}"}}, "env.PATH"),
        ({"env": {"KERNEL_UID": "me"}}, "env.KERNEL_UID"),
        ({"env": {"KERNEL_VOLUMES": "{"}}, "env.KERNEL_VOLUMES"),
        ({"source": {"files": ("scripts/kernel-pod.yaml.j2",)}}, "scripts/kernel-pod.yaml.j2"),
        ({"source": {"icon": ("logo-64x64.png", bytes(60_000))}}, "logo-64x64.png"),
        ({"name": "python_kubernetes"}, "name"),
        ({"language": "R"}, "image"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_a_gateway_had_besides_is_said(more: dict[str, Any], field: str) -> None:
    name = more.pop("name", "py")
    made = gateway_spec(name, **more)
    the_spec(made)
    assert f"/kernels/{name}: {field}" in said(made)


def test_who_may_start_it_is_said() -> None:
    proxy = {
        "class_name": "x.k8s.KubernetesProcessProxy",
        "config": {"image_name": "x", "authorized_users": "ada", "port_range": "1..2"},
    }
    notes = said(gateway_spec(metadata={"process_proxy": proxy}))
    assert "everybody" in notes["/kernels/py: config.authorized_users"]
    assert "/kernels/py: config.port_range" in notes


def test_an_icon_comes_along() -> None:
    made = gateway_spec(source={"icon": ("logo-svg.svg", b"<svg/>")})
    icon = the_spec(made)["icon"]
    assert icon == "data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode()


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({}, "runs locally"),
        ({"process_proxy": {"class_name": "x.yarn.YarnClusterProcessProxy"}}, "Yarn"),
        ({"kernel_provisioner": {"provisioner_name": "elastic-provisioner"}}, "elastic"),
        ({"kernel_provisioner": {"provisioner_name": "kubernetes-provisioner"}}, "a pod needs one"),
    ],
)
def test_kernels_that_run_elsewhere(metadata: dict[str, Any], words: str) -> None:
    made = gateway_spec(metadata=metadata)
    [failed] = made.failed
    assert words in failed.message
    assert made.templates == ()


def test_a_name_that_jupyter_keeps_for_itself() -> None:
    """A template of this name would be a plain kernel beside the server."""
    made = of(kernel_spec("python"))
    assert made.templates[0]["metadata"]["name"] == "python-elastic"
    assert "notebooks that ask" in said(made)["JupyterKernelSpec lab/python: metadata.name"]
