"""The pages for people: their links lead somewhere, and their examples are what they say."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from jupyter_elastic.cli import parser
from jupyter_elastic.templates.machine import Machine
from jupyter_elastic.templates.objects import KIND, read_template

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"\bjupyter elastic( [^`|>#\n\\]+)")
LINK = re.compile(r"\]\(([^)\s]*)\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as a forge makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        other = page.parent / file if file else page
        assert other.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(other), f"{page.name}: {target}"


def examples() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every template in YAML, as an object or as an entry of a list."""
    for page in PAGES:
        for language, text in FENCE.findall(page.read_text("utf-8")):
            if language != "yaml":
                continue
            for document in yaml.safe_load_all(text):
                for entry in document if isinstance(document, list) else [document]:
                    if entry.get("kind", KIND) == KIND:
                        yield page.name, entry


@pytest.mark.parametrize(("page", "entry"), list(examples()))
def test_a_template_in_the_docs_can_be_read(page: str, entry: dict[str, Any]) -> None:
    template = read_template(entry, page, Machine.here())
    assert template.resources.default()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_images_of_examples_are_nobodys(page: Path) -> None:
    for language, text in FENCE.findall(page.read_text("utf-8")):
        if language == "yaml":
            for image in re.findall(r"image: (\S+)", text):
                assert image.startswith("registry.example/"), f"{page.name}: {image}"


def commands() -> Iterator[tuple[str, str]]:
    """Every command of ours, in blocks as they are typed; in sentences it may lack arguments."""
    for page in PAGES:
        text = page.read_text("utf-8")
        for language, block in FENCE.findall(text):
            if language in ("sh", "console"):
                yield from ((page.name, words.strip()) for words in COMMAND.findall(block))
        for code in re.findall(r"`([^`]+)`", FENCE.sub("", text)):
            for words in COMMAND.findall(" ".join(code.split())):
                yield page.name, words.strip() if " -" in words else f"{words.strip()} --help"


@pytest.mark.parametrize(("page", "words"), sorted(set(commands())))
def test_a_command_in_the_docs_is_one(page: str, words: str) -> None:
    if words.endswith("--help"):
        with pytest.raises(SystemExit) as end:
            parser().parse_args(shlex.split(words))
        assert end.value.code == 0, f"{page}: {words}"
        return
    arguments = parser().parse_args(shlex.split(words))
    wrong = getattr(arguments, "wrong_usage", lambda _: "")(arguments)
    assert not wrong, f"{page}: {words}"
