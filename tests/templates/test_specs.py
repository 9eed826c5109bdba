"""With nothing configured, each kernelspec of the machine becomes a template."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

from jupyter_elastic.resources import GIB
from jupyter_elastic.templates import (
    Machine,
    TemplateStore,
    icon_for,
    kernelspec_for,
    parse_template,
    resolve_wish,
    standalone_config,
)

MACHINE = Machine(cpu=4000, memory=16 * GIB, gpus={"a100": 2})
PYTHON = ["-m", "ipykernel_launcher", "-f", "{connection_file}"]


def spec(*argv: str, **fields: Any) -> dict[str, Any]:
    content = {"argv": list(argv), "display_name": "Name", "language": "python"} | fields
    return {"resource_dir": "/specs/x", "spec": content}


def store_of(**specs: dict[str, Any]) -> TemplateStore:
    store = TemplateStore((), find_specs=lambda: specs, machine=MACHINE)
    store.refresh()
    return store


def test_the_default_python_is_pooled_and_others_are_not() -> None:
    store = store_of(
        python3=spec("python", *PYTHON, display_name="Python 3 (ipykernel)"),
        other=spec("/opt/env/bin/python", "-Xfrozen_modules=off", *PYTHON),
    )
    ours, other = store.get("elastic-python3"), store.get("elastic-other")
    assert ours.display_name == "Python 3 (ipykernel), elastic"
    assert (ours.interpreter, ours.argv, ours.pool.size) == (sys.executable, (), 1)
    assert (other.interpreter, other.argv, other.pool.size) == ("/opt/env/bin/python", (), 0)
    assert ours.resources.gpu.kinds == ("a100",)
    assert ours.resources.gpu.maximum == 2
    assert ours.resources.default().gpu is None


@pytest.mark.parametrize(
    "argv",
    [
        ["/opt/python", "-m", "nb_conda_kernels.runner", "/opt", "{connection_file}"],
        ["/opt/python", *PYTHON, "--IPKernelApp.extra=1"],
        ["/opt/python", "-O", *PYTHON],
        ["conda", "run", "python", *PYTHON],
    ],
)
def test_what_is_not_plain_ipykernel_runs_by_its_argv(argv: list[str]) -> None:
    template = store_of(x=spec(*argv)).get("elastic-x")
    assert template.interpreter is None
    assert template.argv == tuple(argv)


def test_other_languages_keep_all_that_their_kernelspec_says(monkeypatch: Any) -> None:
    monkeypatch.setenv("SOME_HOME", "/home/some")
    template = store_of(
        ir=spec(
            "R", "-e", "x('{resource_dir}')", "{connection_file}",
            language="R", interrupt_mode="message", metadata={"team": "a"},
            env={"LIBS": "${SOME_HOME}/lib:$UNSET_NAME"},
        )
    ).get("elastic-ir")  # fmt: skip
    assert template.language == "R"
    assert template.argv[2] == "x('/specs/x')"
    assert template.interrupt_mode == "message"
    assert template.env == {"LIBS": "/home/some/lib:$UNSET_NAME"}
    assert template.metadata == {"team": "a"}


def test_kernels_that_run_elsewhere_and_our_own_are_left_out() -> None:
    def provisioned(name: str) -> dict[str, Any]:
        metadata = {"kernel_provisioner": {"provisioner_name": name}}
        return spec("python", *PYTHON, metadata=metadata)

    store = store_of(
        ours=provisioned("elastic-provisioner"),
        remote=provisioned("remote-provisioner"),
        here=provisioned("local-provisioner"),
    )
    assert list(store.all()) == ["elastic-here"]


def test_names_are_made_usable_and_stay_apart() -> None:
    names = ["Conda env:Base", "conda-env-base", "python3.11", "x" * 100, "é"]
    store = store_of(**{name: spec("python", *PYTHON) for name in names})
    assert store.problems() == []
    assert len(store.all()) == len(names)
    assert {"elastic-python3-11", "elastic-conda-env-base"} <= set(store.all())


def test_a_broken_kernelspec_is_a_problem_of_its_own() -> None:
    store = store_of(good=spec("python", *PYTHON), bad=spec("tool"))
    assert list(store.all()) == ["elastic-good"]
    assert 'kernelspec "bad"' in str(store.problems()[0])


def test_the_kernelspecs_of_this_machine_work() -> None:
    store = TemplateStore((), find_specs=KernelSpecManager().get_all_specs)
    store.refresh()
    assert store.problems() == []
    assert store.get("elastic-python3").icon is not None


def test_a_kernelspec_that_clients_understand(tmp_path: Path) -> None:
    template = parse_template(
        {
            "name": "small",
            "description": "A small one",
            "resources": {
                "cpu": {"minimum": "500m", "maximum": 2},
                "memory": {"choices": ["1Gi", "2Gi"]},
                "gpu": {"kinds": ["a100"], "maximum": 2},
            },
            "env": {"TOKEN": "x"},
            "metadata": {"team": "a", "kernel_provisioner": {"provisioner_name": "evil"}},
        }
    )
    content = kernelspec_for(template, encryption=True)
    loaded = KernelSpec(**content)
    metadata = loaded.metadata
    assert metadata["kernel_provisioner"] == {
        "provisioner_name": "elastic-provisioner",
        "config": {"template": "small"},
    }
    assert loaded.argv[0] == sys.executable
    assert loaded.env == {}, "the pod's environment is no business of the client"
    assert metadata["team"] == "a"
    assert metadata["debugger"] is True
    assert metadata["description"] == "A small one"
    assert metadata["supported_encryption"] == ["curve"]
    assert "supported_encryption" not in kernelspec_for(template)["metadata"]

    properties = metadata["parameters"]["properties"]
    assert (properties["cpu"]["minimum"], properties["cpu"]["maximum"]) == (0.5, 2.0)
    assert properties["memory"]["enum"] == ["1Gi", "2Gi"]
    assert properties["gpu"]["properties"]["kind"]["enum"] == ["a100"]
    defaults = {name: entry["default"] for name, entry in properties.items()}
    assert resolve_wish(template, defaults) == template.resources.default()


def test_clients_without_a_server_get_the_whole_template() -> None:
    template = parse_template({"name": "small", "resources": {"cpu": 1, "memory": "1Gi"}})
    content = kernelspec_for(template, config=standalone_config(template, "/state"))
    config = content["metadata"]["kernel_provisioner"]["config"]
    assert config["template"] == "small"
    assert config["state_dir"] == "/state"
    assert parse_template(config["definition"]) == template


def test_every_template_has_an_icon(tmp_path: Path) -> None:
    own = tmp_path / "own.svg"
    own.write_text("<svg/>")
    fields = {"resources": {"cpu": 1, "memory": "1Gi"}}
    with_own = parse_template({"name": "a", "icon": str(own), **fields})
    other = parse_template(
        {"name": "b", "argv": ["x", "{connection_file}"], "language": "x", **fields}
    )
    assert icon_for(with_own) == own
    own.unlink()
    icons = {icon_for(with_own), icon_for(other)}
    assert len(icons) == 2
    for icon in icons:
        assert icon.read_text().startswith("<svg")
