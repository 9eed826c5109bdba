"""Settings that nobody reads: names of sections and options that are not quite ours.

traitlets says nothing of a section that no class has, and warns of an unknown option in words that
name a line of its own code. Here both become sentences, for the log and for ``doctor``.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from traitlets import HasTraits
from traitlets.config import Config

from .poolsettings import ElasticNamespaces, ElasticPool
from .provisioner import ElasticProvisioner
from .settings import ElasticKernels, ElasticKubernetes, ElasticLocal

SECTIONS: dict[str, type[HasTraits]] = {
    one.__name__: one
    for one in (
        ElasticKernels,
        ElasticPool,
        ElasticLocal,
        ElasticKubernetes,
        ElasticNamespaces,
        ElasticProvisioner,
    )
}
ALIKE = 0.8
"""How like one of ours a section must be to be taken for it: other packages have theirs."""


def misspelt_sections(config: Config) -> Iterator[str]:
    """A sentence for each section that is no class's, and almost one of ours."""
    for name in sorted(config):
        if name in SECTIONS:
            continue
        for meant in get_close_matches(name, SECTIONS, 1, ALIKE):
            yield f"c.{name} is the name of nothing, so it has no effect. Did you mean c.{meant}?"


def misspelt_options(config: Config) -> Iterator[str]:
    """A sentence for each option of ours that does not exist."""
    for section, kind in SECTIONS.items():
        known = kind.class_trait_names(config=True)
        for name in sorted(config.get(section, {})):
            if name not in known:
                meant = get_close_matches(name, known, 1)
                hint = f" Did you mean {meant[0]}?" if meant else ""
                yield f"c.{section}.{name} does not exist, so it has no effect.{hint}"
