"""The templates that are offered: where they come from, and what happens when files change."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jupyter_elastic.errors import BadTemplate, UnknownTemplate
from jupyter_elastic.resources import GIB
from jupyter_elastic.templates import Machine, TemplateStore
from jupyter_elastic.templates import store as store_module
from jupyter_elastic.templates.files import read_file

MACHINE = Machine(cpu=4000, memory=16 * GIB)


def store_of(*sources: Any, **options: Any) -> TemplateStore:
    return TemplateStore(sources, machine=MACHINE, interval=0.02, **options)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


def test_dicts_and_files_together(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\nresources: {memory: 2Gi}\n")
    (tmp_path / "b.yml").write_text("- name: b1\n- name: b2\n")
    (tmp_path / "c.yaml").write_text("name: c1\n---\nname: c2\n---\n")
    (tmp_path / "notes.txt").write_text("not a template")
    store = store_of({"name": "inline"}, str(tmp_path))
    store.refresh()
    assert list(store.all()) == ["inline", "a", "b1", "b2", "c1", "c2"]
    assert store.get("a").resources.memory.maximum == 2 * GIB
    assert store.problems() == []


def test_globs_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a")
    store = store_of(
        str(tmp_path / "*.yaml"), str(tmp_path / "*.none"), str(tmp_path / "gone.yaml")
    )
    store.refresh()
    assert list(store.all()) == ["a"]
    [problem] = store.problems()
    assert "gone.yaml" in str(problem)
    assert "No such file" in str(problem)


def test_unknown_template_names_those_there_are() -> None:
    store = store_of({"name": "small"}, {"name": "large"})
    store.refresh()
    with pytest.raises(UnknownTemplate, match="large, small"):
        store.get("huge")


def test_one_broken_template_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: [unclosed")
    (tmp_path / "wrong.yaml").write_text("- name: fine\n- name: x\n  colour: red\n")
    store = store_of({"name": "Bad Name"}, {"name": "good"}, str(tmp_path))
    store.refresh()
    assert sorted(store.all()) == ["fine", "good"]
    texts = [str(problem) for problem in store.problems()]
    assert len(texts) == 3
    assert "ElasticKernels.templates[0]" in texts[0]
    assert "bad.yaml" in texts[1]
    assert "line 1" in texts[1]
    assert "wrong.yaml" in texts[2]
    assert "colour" in texts[2]


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe", b"just words", b"3", b"name: " + b"9" * 5000, b"[" * 5000, b"x" * 300_000,
     b"!!python/object/apply:os.getcwd []", b"name: &a [*a]"],
)  # fmt: skip
def test_any_file_is_at_worst_a_problem(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.yaml").write_bytes(content)
    store = store_of(str(tmp_path))
    store.refresh()
    assert store.all() == {}
    [problem] = store.problems()
    assert isinstance(problem, BadTemplate)
    assert "bad.yaml" in str(problem)


def test_an_empty_file_offers_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    store = store_of(str(tmp_path))
    store.refresh()
    assert (store.all(), store.problems()) == ({}, [])


def test_the_first_of_two_names_wins() -> None:
    store = store_of({"name": "a", "description": "first"}, {"name": "a"})
    store.refresh()
    assert store.get("a").description == "first"
    assert "another template" in str(store.problems()[0])


def test_changed_files_are_read_again_and_broken_ones_keep_their_last_good_form(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        file = tmp_path / "a.yaml"
        file.write_text("name: a\ndescription: one")
        calls: list[int] = []
        store = store_of(str(tmp_path / "*.yaml"))
        await store.open()
        dispose = store.subscribe(lambda: calls.append(1))
        try:
            file.write_text("name: a\ndescription: two, longer")
            await until(lambda: store.get("a").description == "two, longer")
            assert len(calls) == 1

            file.write_text("name: a\ndescripton: broken")
            await until(lambda: bool(store.problems()))
            assert store.get("a").description == "two, longer"
            assert 'Did you mean "description"?' in str(store.problems()[0])

            (tmp_path / "b.yaml").write_text("name: b")
            file.write_text("name: a\ndescription: mended")
            await until(lambda: "b" in store.all() and not store.problems())
            assert store.get("a").description == "mended"

            file.unlink()
            await until(lambda: "a" not in store.all())

            dispose()
            dispose()
            told = len(calls)
            (tmp_path / "b.yaml").unlink()
            await until(lambda: not store.all())
            assert len(calls) == told
        finally:
            await store.close()
            await store.close()

    asyncio.run(scenario())


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_seen(tmp_path: Path) -> None:
    async def scenario() -> None:
        file = tmp_path / "a.yaml"
        file.write_text("name: a")
        before = file.stat()
        store = store_of(str(file))
        await store.open()
        try:
            new = tmp_path / "new"
            new.write_text("name: b")
            os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
            new.replace(file)
            await until(lambda: "b" in store.all())
            assert set(store.all()) == {"b"}
            assert store.problems() == []
        finally:
            await store.close()

    asyncio.run(scenario())


def test_without_files_nothing_runs_in_the_background() -> None:
    async def scenario() -> None:
        store = store_of({"name": "a"})
        await store.open()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await store.close()

    asyncio.run(scenario())


SPEC = {"argv": ["/bin/kernel", "{connection_file}"], "display_name": "K", "language": "k"}


def found(*names: str) -> dict[str, Any]:
    return {name: {"resource_dir": "", "spec": SPEC} for name in names}


def test_slow_kernelspecs_do_not_hold_up_the_loop() -> None:
    """nb_conda_kernels runs a program of seconds; meanwhile a server must answer."""

    async def scenario() -> None:
        answered = threading.Event()

        def find() -> dict[str, Any]:
            # Returns only if the loop goes on while it is waited for.
            assert answered.wait(20), "the loop stood still"
            return found("k")

        store = store_of(find_specs=find)
        opening = asyncio.create_task(store.open())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, answered.set)
        await opening
        try:
            assert list(store.all()) == ["elastic-k"]
            assert store.problems() == []
        finally:
            await store.close()

    asyncio.run(scenario())


def test_changed_files_are_read_off_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        file = tmp_path / "a.yaml"
        file.write_text("name: a")
        threads: set[int] = set()

        def read(path: Path) -> list[Any]:
            threads.add(threading.get_ident())
            return read_file(path)

        monkeypatch.setattr(store_module, "read_file", read)
        store = store_of(str(file))
        await store.open()
        told: list[int] = []
        store.subscribe(lambda: told.append(threading.get_ident()))
        try:
            file.write_text("name: other")
            await until(lambda: "other" in store.all())
        finally:
            await store.close()
        assert threading.get_ident() not in threads
        assert told == [threading.get_ident()]

    asyncio.run(scenario())


def test_a_kernelspec_installed_later_becomes_a_template() -> None:
    async def scenario() -> None:
        specs = found("one")
        store = store_of(find_specs=lambda: dict(specs), specs_interval=0.02)
        await store.open()
        calls: list[int] = []
        store.subscribe(lambda: calls.append(1))
        try:
            assert list(store.all()) == ["elastic-one"]
            specs.update(found("two"))
            await until(lambda: "elastic-two" in store.all())
            del specs["one"]
            await until(lambda: list(store.all()) == ["elastic-two"])
            assert len(calls) == 2
        finally:
            await store.close()

    asyncio.run(scenario())


def test_kernelspecs_that_cannot_be_listed_keep_what_was_there() -> None:
    async def scenario() -> None:
        broken = True

        def find() -> dict[str, Any]:
            if broken:
                raise OSError("conda is gone")
            return found("k")

        store = store_of(find_specs=find, specs_interval=0.02)
        await store.open()
        try:
            assert store.all() == {}
            assert "conda is gone" in str(store.problems()[0])
            broken = False
            await until(lambda: "elastic-k" in store.all())
            assert store.problems() == []
            broken = True
            await until(lambda: bool(store.problems()))
            assert list(store.all()) == ["elastic-k"]
        finally:
            await store.close()

    asyncio.run(scenario())
