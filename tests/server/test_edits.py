"""Sizes that somebody writes into a kernel's record: when they are acted on."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from msgspec.structs import replace

from jupyter_elastic.cluster.base import Change
from jupyter_elastic.kernels.edits import Edits, changes, wish_of
from jupyter_elastic.model import Kernel, KernelPhase, Resize
from jupyter_elastic.resources import GIB, Gpu, Resources

SMALL, BIG = Resources(cpu=1000, memory=GIB), Resources(cpu=1000, memory=8 * GIB)
RUNNING = Kernel(
    kernel_id="k",
    owner="ada",
    template="work",
    resources=SMALL,
    actual=SMALL,
    phase=KernelPhase.RUNNING,
    created=1.0,
)


def seen(edits: Edits, old: Kernel, new: Kernel | None) -> bool:
    return edits.see(Change(kind="kernel", name="k", old=old, new=new))


def ended(kernel: Kernel, state: Literal["InProgress", "Done", "Refused"], **more: Any) -> Kernel:
    return replace(kernel, resize=Resize(state=state, time=2.0), **more)


def test_an_edit_is_tried_once() -> None:
    edits = Edits()
    assert edits.take(RUNNING) is None
    edited = replace(RUNNING, resources=BIG)
    assert seen(edits, RUNNING, edited)
    assert edits.take(edited) == BIG
    assert edits.take(edited) is None, "it is under way"
    refused = ended(edited, "Refused")
    assert not seen(edits, edited, refused)
    assert edits.take(refused) is None
    other = replace(refused, resources=replace(BIG, memory=4 * GIB))
    assert seen(edits, refused, other)
    assert edits.take(other) == other.resources
    assert seen(edits, other, refused)
    assert edits.take(refused) == BIG, "who edits again wants it tried again"


def test_an_edit_during_a_resize_waits_for_its_end() -> None:
    edits = Edits()
    begun = ended(RUNNING, "InProgress")
    edited = replace(begun, resources=BIG)
    assert seen(edits, begun, edited)
    assert edits.take(edited) is None
    done = ended(edited, "Refused")
    assert seen(edits, edited, done), "there is something to do now"
    assert edits.take(done) == BIG


def test_what_a_resize_itself_writes_is_no_wish() -> None:
    edits = Edits()
    begun = ended(RUNNING, "InProgress")
    half = replace(begun, resources=BIG)
    assert seen(edits, begun, half)
    assert edits.take(half) is None
    done = ended(half, "Done", actual=BIG)
    seen(edits, half, done)
    assert edits.take(done) is None


def test_one_who_has_seen_no_edit_acts_unless_it_was_refused() -> None:
    edited = replace(RUNNING, resources=BIG)
    assert Edits().take(edited) == BIG
    assert Edits().take(ended(edited, "Done")) == BIG
    assert Edits().take(ended(edited, "Refused")) is None


def test_what_could_not_even_be_recorded_is_tried_again() -> None:
    edits = Edits()
    refused = ended(replace(RUNNING, resources=BIG), "Refused")
    seen(edits, RUNNING, refused)
    assert edits.take(refused) == BIG
    edits.again("k")
    assert edits.take(refused) == BIG
    assert not seen(edits, refused, None)
    assert edits.take(refused) is None, "nothing is kept of a kernel that is gone"


@pytest.mark.parametrize("phase", [p for p in KernelPhase if p is not KernelPhase.RUNNING])
def test_only_a_running_kernel_is_resized(phase: KernelPhase) -> None:
    assert wish_of(replace(RUNNING, resources=BIG, phase=phase), edited=True) is None


def test_only_what_is_changed_is_asked_for() -> None:
    assert changes(SMALL, BIG) == {"memory": "8Gi"}
    assert changes(SMALL, replace(SMALL, gpu=Gpu("a100", 0))) == {}, "a count of 0 means none"
    assert changes(SMALL, replace(SMALL, gpu=Gpu("a100", 1))) == {
        "gpu": {"kind": "a100", "count": 1}
    }
