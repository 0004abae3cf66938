"""A list of pages in the folder: each entry is a document, and a list that is broken loses none."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.remote.test_links import PAGE, items, pages
from tests.remote.world import RemoteWorld

ENTRIES = [f"{PAGE}/{number}" for number in range(4)]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[RemoteWorld]:
    async with RemoteWorld(tmp_path, vectorize=(0.0, 0.0)).serving() as world:
        yield world


def listed(world: RemoteWorld, *entries: str, path: str = "web/urls.yaml") -> Path:
    return world.write(path, "".join(f"- {one}\n" for one in entries))


async def mirrored(world: RemoteWorld) -> None:
    world.write_many(8)
    listed(world, *ENTRIES)
    await world.once()
    assert pages(world) == ENTRIES


async def test_entries_come_and_go_one_by_one(world: RemoteWorld) -> None:
    await mirrored(world)
    listed(world, *ENTRIES[1:], f"{PAGE}/new")
    await world.once()
    assert pages(world) == [*ENTRIES[1:], f"{PAGE}/new"]
    assert world.asked("upload-url") == 5


async def test_an_untouched_entry_is_not_sent_again(world: RemoteWorld) -> None:
    await mirrored(world)
    file = listed(world, "# with a remark\n", *ENTRIES)
    os.utime(file, (1, 1))
    file.write_text("# with a remark\n" + "".join(f"- url: {one}\n" for one in ENTRIES))
    await world.once()
    assert world.asked("upload-url") == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- https://example.org/\n- url: [", "line 2"),
        ("- https://example.org/\n- ftp://example.org/", "line 2: url"),
        ("- https://example.org/\n- url: https://b.org/\n  nmae: b", "line 2: unknown key nmae"),
        ("- https://example.org/\n- https://example.org/", "line 2"),
        ("- https://example.org/\n- {url: https://a.org, refresh: 5}", "refresh"),
        ("- https://example.org/\n- {url: https://a.org, knowledge_type: 3.5}", "knowledge_type"),
        ("- https://example.org/\n- {url: https://a.org, knowledge_type: 6}", "line 2: knowledge_type: 6"),
        ("- https://example.org/\n- {url: https://a.org, sentence_size: 500}", "line 2: sentence_size"),
        ("- https://example.org/\n- {url: https://a.org, name: a/b}", "name"),
        ("urls: [https://example.org/]", "holds no list"),
        ("", "holds no list"),
    ],
)
async def test_a_broken_list_deletes_nothing_and_names_the_line(
    world: RemoteWorld, text: str, words: str
) -> None:
    await mirrored(world)
    world.write("web/urls.yaml", text)
    await world.once()
    assert pages(world) == ENTRIES
    assert words in items(world)["web/urls.yaml/"].reason
    listed(world, *ENTRIES[1:])
    await world.once()
    assert pages(world) == ENTRIES[1:]
    assert "web/urls.yaml/" not in items(world)


async def test_a_list_that_cannot_be_read_deletes_nothing(
    world: RemoteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mirrored(world)
    listed(world, *ENTRIES[2:])

    def broken(*_: object) -> bytes:
        raise OSError(errno.EIO, "input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("kbsync.source.lists.os.pread", broken)
        await world.once()
    assert pages(world) == ENTRIES
    assert "input/output error" in items(world)["web/urls.yaml/"].reason


async def test_a_list_that_is_gone_is_weighed_like_a_folder(world: RemoteWorld) -> None:
    listed(world, *(f"{PAGE}/{number}" for number in range(10)))
    world.write_many(10)
    await world.once()
    (world.root / "web/urls.yaml").unlink()
    await world.once()
    assert len(pages(world)) == 10
    assert world.statuses() == {"ready": 10, "held": 10}


async def test_a_list_that_is_still_being_written_is_waited_for(world: RemoteWorld) -> None:
    await mirrored(world)
    file = listed(world, *ENTRIES[2:])
    ahead = world.clock.wall() + 50.0  # no age proves it quiet
    os.utime(file, (ahead, ahead))
    async with world.running() as store:
        run = world.make_run(store)
        assert await run.begin()
        await run.compare()
        assert run.parts is not None
        assert "web/urls.yaml" in run.parts.reconciler.settling
        listed(world, *ENTRIES)
        os.utime(file, (ahead + 1, ahead + 1))
        await run.end()
    assert pages(world) == ENTRIES
    await world.once()
    assert pages(world) == ENTRIES
    assert world.asked("upload-url") == 4


async def test_another_name_of_an_entry_is_a_rename(world: RemoteWorld) -> None:
    await mirrored(world)
    listed(world, *ENTRIES[1:], f"{{url: {ENTRIES[0]}, name: first}}")
    await world.once()
    assert pages(world) == ENTRIES
    assert world.asked("upload-url") == 4
    assert "web/urls.yaml/first.url" in items(world)


async def test_settings_of_an_entry_reach_the_service(world: RemoteWorld) -> None:
    listed(world, f"{{url: {PAGE}, knowledge_type: 2, refresh: 1d}}")
    await world.once()
    assert [one["knowledge_type"] for one in world.documents()] == [2]


async def test_a_list_can_be_left_out_or_named_like_a_folder(world: RemoteWorld) -> None:
    listed(world, *ENTRIES)
    world.write("other/urls.yaml/notes.md", "a folder that is called so")
    world.plan = replace(world.plan, exclude=("web/urls.yaml",))
    await world.once()
    assert pages(world) == []
    assert world.statuses() == {"ready": 1}
    world.plan = replace(world.plan, exclude=(), include=("urls.yaml",))
    await world.once()
    assert pages(world) == ENTRIES


async def test_one_list_in_each_folder(world: RemoteWorld) -> None:
    listed(world, ENTRIES[0], path="urls.yaml")
    listed(world, ENTRIES[1], path="a/b/urls.yaml")
    await world.once()
    assert pages(world) == ENTRIES[:2]


async def test_a_list_is_no_directory_to_be_watched(world: RemoteWorld) -> None:
    """More directories than watches would look like a watch that is deaf."""
    listed(world, *ENTRIES)
    async with world.running() as store:
        run = world.make_run(store)
        assert await run.begin()
        summary = await run.compare()
        await run.end()
    assert summary is not None
    assert (summary.directories, summary.files) == (2, len(ENTRIES))
