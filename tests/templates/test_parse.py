"""Templates from mappings: what may be left out, and that every mistake is named by its path."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_elastic.errors import BadTemplate
from jupyter_elastic.model import PoolPolicy, Range
from jupyter_elastic.resources import GIB, MIB
from jupyter_elastic.templates import Machine, dump_template, parse_template

MACHINE = Machine(cpu=8000, memory=32 * GIB, gpus={"a100": 2})
SMALL: dict[str, Any] = {"name": "small", "resources": {"cpu": 1, "memory": "1Gi"}}


def small(**fields: Any) -> dict[str, Any]:
    return SMALL | fields


def test_least_that_makes_a_template() -> None:
    template = parse_template(SMALL)
    assert template.display_name == "small"
    assert template.interpreter == sys.executable
    assert template.argv == ()
    assert template.resources.cpu == Range(minimum=1000, default=1000, maximum=1000)
    assert template.resources.memory == Range(minimum=GIB, default=GIB, maximum=GIB)
    assert template.pool == PoolPolicy(size=0)


def test_all_fields_survive_being_dumped(tmp_path: Path) -> None:
    icon = tmp_path / "icon.svg"
    icon.write_text("<svg/>")
    template = parse_template(
        {
            "name": "big-r",
            "display_name": "R, big",
            "description": "For the annual report",
            "icon": str(icon),
            "language": "R",
            "argv": ["R", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}"],
            "interrupt_mode": "message",
            "env": {"OMP_NUM_THREADS": 4},
            "working_directory": "/tmp",
            "resources": {
                "cpu": {"choices": ["1", "2"], "default": 2},
                "memory": {"minimum": "512Mi", "maximum": "8Gi"},
                "gpu": {"kinds": ["a100"], "maximum": 2},
            },
            "idle": {"cull_after": 600, "max_age": 86400.5, "cull_connected": False},
            "pool": {"size": 2, "ttl": 900},
            "metadata": {"team": ["a", {"b": None}]},
        }
    )
    assert template.env == {"OMP_NUM_THREADS": "4"}
    assert parse_template(dump_template(template)) == template
    assert parse_template(dump_template(parse_template(SMALL))) == parse_template(SMALL)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"maximum": "8Gi"}, (128 * MIB, 8 * GIB, 8 * GIB)),
        ({"minimum": "1Gi", "maximum": "8Gi"}, (GIB, GIB, 8 * GIB)),
        ({"minimum": "1Gi"}, (GIB, GIB, GIB)),
        ({"default": "2Gi"}, (128 * MIB, 2 * GIB, 2 * GIB)),
        ({"default": "64Mi", "maximum": "1Gi"}, (64 * MIB, 64 * MIB, GIB)),
        ({"choices": ["4Gi", "2Gi"]}, (2 * GIB, 4 * GIB, 4 * GIB)),
        ({"choices": ["4Gi", "2Gi"], "default": "2Gi"}, (2 * GIB, 2 * GIB, 4 * GIB)),
        ("3Gi", (3 * GIB, 3 * GIB, 3 * GIB)),
    ],
)
def test_parts_of_a_range_derive_from_each_other(
    given: object, expected: tuple[int, int, int]
) -> None:
    offered = parse_template({"name": "x", "resources": {"cpu": 1, "memory": given}}).resources
    memory = offered.memory
    assert (memory.minimum, memory.default, memory.maximum) == expected
    assert list(memory.choices) == sorted(memory.choices)


def test_the_machine_fills_in_what_is_not_said() -> None:
    offer = parse_template({"name": "x"}, machine=MACHINE).resources
    assert offer.cpu == Range(minimum=100, default=4000, maximum=8000)
    assert offer.memory == Range(minimum=128 * MIB, default=4 * GIB, maximum=int(28.75 * GIB))
    assert offer.gpu.kinds == (), "GPUs are offered only by who says so"


@settings(deadline=None)
@given(st.integers(1, 2**20), st.integers(1, 2**50))
def test_every_machine_has_a_sound_offer(cpu: int, memory: int) -> None:
    offer = Machine(cpu=cpu, memory=memory).offer()
    for offered in (offer.cpu, offer.memory):
        assert 0 < offered.minimum <= offered.default <= offered.maximum


@pytest.mark.parametrize(
    ("data", "field", "words"),
    [
        ({}, "name", "missing"),
        (small(name="Big"), "name", "'Big'"),
        (small(name="a" * 64), "name", "63"),
        (small(name="-a"), "name", "usable"),
        (small(name=3), "name", "string"),
        (small(colour="red"), "colour", "no field"),
        (small(preloads=["x"]), "preloads", 'Did you mean "preload"?'),
        (small(resources={"cpu": 1, "memory": {"defualt": 1}}), "resources.memory.defualt",
         'Did you mean "default"?'),
        (small(resources={"cpu": 1}), "resources.memory", "missing"),
        (small(resources={"cpu": "two", "memory": 1}), "resources.cpu", "'two'"),
        (small(resources={"cpu": 1, "memory": {"default": "-1Gi"}}), "resources.memory.default",
         "-1Gi"),
        (small(resources={"cpu": 1, "memory": {"default": "9Gi", "maximum": "8Gi"}}),
         "resources.memory.default", "9Gi is not within 128Mi to 8Gi"),
        (small(resources={"cpu": {"minimum": 4, "maximum": 2}, "memory": 1}),
         "resources.cpu.minimum", "over the maximum of 2"),
        (small(resources={"cpu": {"maximum": 2, "choices": [1, 3]}, "memory": 1}),
         "resources.cpu.choices[1]", "3 is not within 1 to 2"),
        (small(resources={"cpu": {"choices": [1, 3], "default": 2}, "memory": 1}),
         "resources.cpu.default", "none of the choices 1, 3"),
        (small(resources={"cpu": {"choices": 3}, "memory": 1}), "resources.cpu.choices", "list"),
        (small(resources={"cpu": {}, "memory": 1}), "resources.cpu", "empty"),
        (small(resources=[1]), "resources", "mapping"),
        (small(resources={"cpu": 1, "memory": 1, "gpu": {"maximum": 1}}), "resources.gpu.kinds",
         "missing"),
        (small(resources={"cpu": 1, "memory": 1, "gpu": {"kinds": ["a"], "default": 2}}),
         "resources.gpu.default", "2 is over the maximum of 1"),
        (small(argv=["bash"], language="bash"), "argv", "{connection_file}"),
        (small(argv=["bash", "{connection_file}"]), "language", "missing"),
        (small(argv=["x", "{connection_file}"], interpreter="/bin/x", language="x"), "interpreter",
         "together with argv"),
        (small(argv=[]), "argv", "at least one"),
        (small(argv="bash"), "argv", "list"),
        (small(language="R"), "language", "argv"),
        (small(interpreter="venv/bin/python"), "interpreter", "absolute"),
        (small(preload=["pandas", "os; evil"]), "preload[1]", "name of a module"),
        (small(preload=["1x"]), "preload[0]", "name of a module"),
        (small(preload="pandas"), "preload", "list"),
        (small(env={"A=B": "x"}), "env", "'A=B'"),
        (small(env={"A": ["x"]}), "env.A", "string"),
        (small(env={"A": "x\0y"}), "env.A", "null character"),
        (small(working_directory="here"), "working_directory", "absolute"),
        (small(interrupt_mode="shout"), "interrupt_mode", "shout"),
        (small(icon="/nowhere/icon.svg"), "icon", "No such file"),
        (small(icon="/nowhere/icon.gif"), "icon", ".svg"),
        (small(pool={"size": -1}), "pool.size", "-1"),
        (small(pool={"size": 1.5}), "pool.size", "whole"),
        (small(pool=3), "pool", "mapping"),
        (small(idle={"cull_after": float("nan")}), "idle.cull_after", "nan"),
        (small(idle={"cull_connected": "yes"}), "idle.cull_connected", "true or false"),
        (small(metadata={"a": float("inf")}), "metadata", "JSON"),
        (small(metadata={"a": "x" * 100_000}), "metadata", "65536"),
    ],
)  # fmt: skip
def test_mistakes_are_named(data: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(BadTemplate) as caught:
        parse_template(data, "lab.yaml")
    error = caught.value
    assert error.field == field
    assert words in str(error)
    assert str(error).startswith("lab.yaml: ")
    assert error.remedy


def test_a_template_must_be_a_mapping() -> None:
    with pytest.raises(BadTemplate, match="mapping"):
        parse_template(["name"], "lab.yaml")  # type: ignore[arg-type]


def test_an_icon_must_be_small(tmp_path: Path) -> None:
    icon = tmp_path / "icon.png"
    icon.write_bytes(bytes(300_000))
    with pytest.raises(BadTemplate, match="300000 bytes"):
        parse_template(small(icon=str(icon)))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*dump_template(parse_template(SMALL)), "argv", "env", "preload", "icon"]),
        PLAIN,
    )
)
def test_garbage_is_refused_with_a_sentence(data: dict[str, Any]) -> None:
    try:
        template = parse_template(SMALL | data, machine=MACHINE)
    except BadTemplate:
        return
    assert parse_template(dump_template(template)) == template


def test_a_name_that_jupyter_keeps_for_itself() -> None:
    """A kernel of this name would be a plain one beside the server."""
    with pytest.raises(BadTemplate, match="server's own Python") as caught:
        parse_template({"name": "python", "resources": {"cpu": 1, "memory": "1Gi"}})
    assert caught.value.field == "name"
