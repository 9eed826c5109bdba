"""Quantities: every spelling Kubernetes knows is read exactly, and nothing else is read at all."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_elastic.errors import BadQuantity
from jupyter_elastic.resources import (
    Gpu,
    Resources,
    format_cpu,
    format_memory,
    parse_cpu,
    parse_memory,
    show_memory,
)

MILLICORES = st.integers(1, 2**63 // 1000 - 1)
SIZES = st.integers(1, 2**63 - 1)
SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {
    f"{letter}i": 2 ** (10 * power) for power, letter in enumerate("KMGT", 1)
}


@settings(deadline=None)
@given(MILLICORES)
def test_cpu_survives_being_written_and_read(millicores: int) -> None:
    assert parse_cpu(format_cpu(millicores)) == millicores


@settings(deadline=None)
@given(SIZES)
def test_memory_survives_being_written_and_read(size: int) -> None:
    assert parse_memory(format_memory(size)) == size


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 999_999), st.sampled_from(sorted(SUFFIXES)))
def test_fractions_are_exact_and_round_up(whole: int, fraction: int, suffix: str) -> None:
    text = f"{whole}.{fraction:06}{suffix}"
    exact = (Decimal(whole) + Decimal(fraction).scaleb(-6)) * SUFFIXES[suffix]
    if exact == 0:
        with pytest.raises(BadQuantity):
            parse_memory(text)
    else:
        assert parse_memory(text) == math.ceil(exact)


@settings(deadline=None)
@given(
    st.text(max_size=80)
    | st.from_regex(r"[+-]?[0-9.]{0,40}([eE][+-]?[0-9]{0,4}|[a-zA-Z]{0,3})", fullmatch=True)
    | st.floats()
    | st.integers()
    | st.booleans()
    | st.none()
    | st.lists(st.integers())
    | st.binary(max_size=10)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)
def test_garbage_is_refused_and_nothing_else_happens(value: object) -> None:
    for parse in (parse_cpu, parse_memory):
        refusal = None
        try:
            result = parse(value, "resources.cpu")
        except BadQuantity as error:
            refusal = error
        if refusal is None:
            assert isinstance(result, int)
            assert 0 < result < 2**63
        else:
            assert refusal.field == "resources.cpu"
            assert refusal.remedy
            assert len(str(refusal)) < 300


@pytest.mark.parametrize(
    "value", ["two", "-1Gi", "NaN", math.nan, math.inf, "1e30", 10**30, "10" * 40, "", " ", "0",
              "1 Gi", "1gi", "1GB", "0x10", "٣", "1_000", True, None]
)  # fmt: skip
def test_these_are_no_sizes_of_memory(value: object) -> None:
    with pytest.raises(BadQuantity):
        parse_memory(value)


@pytest.mark.parametrize(
    ("text", "millicores"),
    [("1500m", 1500), ("1.5", 1500), (2, 2000), (0.25, 250), ("0.0001", 1), ("1e1", 10_000),
     (" 2 ", 2000)],
)  # fmt: skip
def test_cpu_spellings(text: object, millicores: int) -> None:
    assert parse_cpu(text) == millicores


@pytest.mark.parametrize(
    ("text", "size"),
    [("2Gi", 2**31), ("500M", 500_000_000), (1048576, 2**20), ("1.5Ki", 1536), ("1e3", 1000)],
)
def test_memory_spellings(text: object, size: int) -> None:
    assert parse_memory(text) == size


@settings(deadline=None)
@given(MILLICORES, SIZES, st.none() | st.builds(Gpu, st.text(min_size=1), st.integers(1, 64)))
def test_what_is_shown_can_be_asked_for_again(cpu: int, memory: int, gpu: Gpu | None) -> None:
    shown = Resources(cpu=cpu, memory=memory, gpu=gpu).to_json()
    assert parse_cpu(shown["cpu"]) == cpu
    assert parse_memory(shown["memory"]) == memory
    assert shown["gpu"] == (gpu and {"kind": gpu.kind, "count": gpu.count})


def test_sentences_are_short() -> None:
    resources = Resources(cpu=1500, memory=3 * 2**29, gpu=Gpu("a100", 2))
    assert str(resources) == "1500m CPU, 1.5 GiB, 2 x a100"
    assert show_memory(512 * 2**20) == "512 MiB"
