"""What is written to Kubernetes from what users are called."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from jupyter_elastic.cluster.kubernetes.manifests import owner_slug

NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def test_plain_names_stay_readable() -> None:
    assert owner_slug("ada") == "ada"
    assert owner_slug("ada-lovelace") == "ada-lovelace"
    assert owner_slug("Ada").startswith("ada-")


def test_nobody_can_choose_the_name_that_another_one_gets() -> None:
    theirs = owner_slug("Ada")
    assert owner_slug(theirs) != theirs


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_owners_become_names_and_stay_apart(one: str, other: str) -> None:
    assert NAME.fullmatch(owner_slug(one))
    assert len(owner_slug(one)) <= 63
    assert (owner_slug(one) == owner_slug(other)) == (one == other)
