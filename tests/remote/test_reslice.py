"""How documents are sliced: it is said with the upload, and another way of slicing is another upload."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.core.model import UploadState
from tests.remote.world import RemoteWorld

FILES = 6


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[RemoteWorld]:
    async with RemoteWorld(tmp_path, reembed_tries=1).serving() as world:
        await world.mirrored(FILES)
        world.clock.now += 100
        world.server.requests.clear()
        yield world


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
    recipes = {row.recipe.split(":")[0] for row in world.rows(UploadState.SERVING) if "/" in (row.path or "")}
    assert recipes == {f"k{n}" for n in number.values()}


async def test_another_way_of_slicing_is_another_upload(world: RemoteWorld) -> None:
    settings = {"f0.md": {"knowledge_type": 2}}
    world.settings = replace(
        world.settings, document_settings=lambda path: settings.get(path, {}), fingerprint="other"
    )
    await world.once()
    assert world.statuses() == {"ready": FILES}
    assert {one["knowledge_type"] for one in world.documents()} == {1, 2}
    assert world.asked("reslice") == 0 and world.asked("upload") == 1 and world.asked("delete") == 1
