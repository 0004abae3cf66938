"""How documents are sliced: it is said with the upload, and another way of slicing is another upload."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.core.model import UploadState
from kbsync.state.read_only import Tx
from tests.remote.world import RemoteWorld

FILES = 6


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[RemoteWorld]:
    async with RemoteWorld(tmp_path, reembed_tries=1).serving() as world:
        world.write_many(FILES)
        await world.once()
        world.clock.now += 100
        world.server.requests.clear()
        yield world


def set_to(world: RemoteWorld, *only: str, **settings: Any) -> None:
    world.settings = replace(
        world.settings,
        document_settings=lambda path: settings if not only or path in only else {},
        fingerprint=f"{settings} {only}",
    )


def types(world: RemoteWorld) -> set[int]:
    return {one["knowledge_type"] for one in world.documents()}


def serving(world: RemoteWorld) -> list[tuple[str, str, str]]:
    """(path, remote id, recipe) of what the state says serves."""

    def look(tx: Tx) -> list[tuple[str, str, str]]:
        record = tx.mirrors.named("docs")
        assert record is not None and record.binding is not None
        rows = tx.uploads.in_states(record.id, record.binding, (UploadState.SERVING,))
        return [(row.path or "", row.remote_id or "", row.recipe) for row in rows]

    found: list[tuple[str, str, str]] = world.look_up(look)
    return found


RULES: dict[str, dict[str, Any]] = {
    "one.md": {"knowledge_type": 1},
    "two.docx": {"knowledge_type": 2},
    "three.csv": {"knowledge_type": 3},
    "five.txt": {"knowledge_type": 5, "custom_separator": ["##"], "sentence_size": 20},
    "six.pdf": {"knowledge_type": 6, "parse_image": True},
    "seven.xlsx": {"knowledge_type": 7},
}


async def test_every_way_of_slicing_reaches_the_vendor(world: RemoteWorld) -> None:
    for path in RULES:
        world.write(f"rules/{path}", f"text of {path}")
    world.settings = replace(
        world.settings, document_settings=lambda path: RULES.get(path.removeprefix("rules/"), {})
    )
    await world.once()
    found = {one["sent_name"].split("~")[0]: one["knowledge_type"] for one in world.documents()}
    number = {path.split(".")[0]: rule["knowledge_type"] for path, rule in RULES.items()}
    assert {name.removeprefix("rules__"): n for name, n in found.items() if "__" in name} == number
    assert {recipe.split(":")[0] for path, _, recipe in serving(world) if "/" in path} == {
        f"k{n}" for n in number.values()
    }


async def test_another_way_of_slicing_is_another_upload(world: RemoteWorld) -> None:
    set_to(world, "f0.md", knowledge_type=2)
    await world.once()
    assert world.statuses() == {"ready": FILES} and types(world) == {1, 2}
    assert world.asked("reslice") == 0 and world.asked("upload") == 1 and world.asked("delete") == 1
