"""What a user asks is what the kernel gets, or a refusal with figures."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_elastic.errors import BadQuantity, BadRequest, ElasticError, NoGpu, OutOfRange
from jupyter_elastic.resources import GIB, Gpu, Resources
from jupyter_elastic.templates import parse_template, resolve_wish

TEMPLATE = parse_template(
    {
        "name": "x",
        "resources": {
            "cpu": {"minimum": "100m", "default": 1, "maximum": 4, "choices": ["100m", 1, 2, 4]},
            "memory": {"minimum": "1Gi", "default": "2Gi", "maximum": "8Gi"},
            "gpu": {"kinds": ["a100", "t4"], "maximum": 2},
        },
    }
)
PLAIN = parse_template({"name": "plain", "resources": {"cpu": 1, "memory": "1Gi"}})


def test_nothing_asked_gives_the_defaults() -> None:
    default = Resources(cpu=1000, memory=2 * GIB)
    assert resolve_wish(TEMPLATE, None) == resolve_wish(TEMPLATE, {}) == default


def test_what_is_asked_is_what_one_gets() -> None:
    wish = {"cpu": 2, "memory": "4Gi", "gpu": {"kind": "t4", "count": 2}}
    assert resolve_wish(TEMPLATE, wish) == Resources(cpu=2000, memory=4 * GIB, gpu=Gpu("t4", 2))


def test_a_change_keeps_what_it_does_not_name() -> None:
    base = Resources(cpu=4000, memory=8 * GIB, gpu=Gpu("t4", 1))
    changed = Resources(cpu=4000, memory=3 * GIB, gpu=Gpu("t4", 1))
    assert resolve_wish(TEMPLATE, {"memory": "3Gi"}, base) == changed
    assert resolve_wish(TEMPLATE, {"gpu": None}, base).gpu is None


def test_a_template_that_shrank_does_not_hinder_another_resource() -> None:
    base = Resources(cpu=1000, memory=64 * GIB)
    assert resolve_wish(TEMPLATE, {"cpu": 2}, base).memory == 64 * GIB


@pytest.mark.parametrize(
    ("wish", "error", "field", "sentence"),
    [
        ({"memory": "64Gi"}, OutOfRange, "memory",
         'memory: 64 GiB is over the maximum of 8 GiB that the template "x" offers.'),
        ({"memory": "1Mi"}, OutOfRange, "memory",
         'memory: 1 MiB is under the minimum of 1 GiB that the template "x" needs.'),
        ({"memory": 8 * GIB + 1}, OutOfRange, "memory", "8 GiB (8589934593 bytes) is over"),
        ({"cpu": "3"}, OutOfRange, "cpu", "Choose one of 100m CPU, 1 CPU, 2 CPU, 4 CPU."),
        ({"cpu": 5}, OutOfRange, "cpu", "5 CPU is over the maximum of 4 CPU"),
        ({"cpu": "two"}, BadQuantity, "cpu", "'two'"),
        ({"memory": "-1Gi"}, BadQuantity, "memory", "negative"),
        ({"memory": float("nan")}, BadQuantity, "memory", "nan"),
        ({"memory": "10E"}, BadQuantity, "memory", "larger than any machine"),
        ({"memory": True}, BadQuantity, "memory", "True"),
        ({"disk": "1Gi"}, BadRequest, "resources", "'disk'"),
        ([], BadRequest, "resources", "object"),
        ({"gpu": {"kind": "h100", "count": 1}}, NoGpu, "gpu.kind", "a100, t4"),
        ({"gpu": {"kind": "t4", "count": 3}}, OutOfRange, "gpu.count", "maximum of 2"),
        ({"gpu": {"kind": "t4", "count": -1}}, BadQuantity, "gpu.count", "negative"),
        ({"gpu": {"kind": "t4", "count": 1.5}}, BadQuantity, "gpu.count", "whole"),
        ({"gpu": {"kind": "t4", "count": True}}, BadQuantity, "gpu.count", "whole"),
        ({"gpu": {"kind": "t4"}}, BadRequest, "gpu", "kind and count"),
        ({"gpu": {"kind": 4, "count": 1}}, BadRequest, "gpu.kind", "string"),
        ({"gpu": "t4"}, BadRequest, "gpu", "object"),
    ],
)  # fmt: skip
def test_refusals_have_field_and_figures(
    wish: Any, error: type[ElasticError], field: str, sentence: str
) -> None:
    with pytest.raises(error) as caught:
        resolve_wish(TEMPLATE, wish)
    assert type(caught.value) is error
    assert caught.value.field == field
    assert sentence in str(caught.value)
    assert caught.value.remedy


def test_no_gpu_where_there_is_none() -> None:
    assert resolve_wish(PLAIN, {"gpu": {"kind": "t4", "count": 0}}).gpu is None
    with pytest.raises(NoGpu, match="offers no GPU"):
        resolve_wish(PLAIN, {"gpu": {"kind": "t4", "count": 1}})


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(deadline=None)
@given(
    ANYTHING
    | st.fixed_dictionaries({}, optional={"cpu": ANYTHING, "memory": ANYTHING, "gpu": ANYTHING})
)
def test_whatever_is_asked_the_result_lies_in_the_range(wish: Any) -> None:
    try:
        resources = resolve_wish(TEMPLATE, wish)
    except BadRequest:
        return
    offer = TEMPLATE.resources
    assert resources.cpu in offer.cpu.choices
    assert offer.memory.minimum <= resources.memory <= offer.memory.maximum
