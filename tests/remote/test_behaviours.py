"""Tests that folder and base end up equal for each behaviour that a service's documents leave open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.remote.world import RemoteWorld, sha_of_folder
from tests.share import enumerated

SWITCHES: list[dict[str, Any]] = [
    {"page_cap": 1},
    {"page_cap": 2, "page_beyond": "repeats"},
    {"order": "oldest", "page_cap": 2},
    {"order": "shuffled", "page_cap": 3},
    {"unstable_pages": True, "page_cap": 2},
    {"total": "high"},
    {"total": "low", "page_cap": 2},
    {"total": "zero"},
    {"total": "string"},
    {"total": "missing", "page_cap": 2},
    {"empty_list": "null"},
    {"empty_list": "missing"},
    {"ids": "number"},
    {"ids": "short"},
    {"ids": "uuid"},
    {"sparse": "missing"},
    {"sparse": "null"},
    {"extra_fields": True},
    {"stat_form": "string"},
    {"stat_form": "float"},
    {"deleted_detail": "code", "unknown_delete": "code"},
    {"deleted_detail": "null", "unknown_delete": "null"},
    {"unknown_delete": "ok"},
    {"clock_skew": 7200.0},
    {"clock_skew": -7200.0},
    {"clock_skew": 7200.0, "skewed_ids": False},
    {"list_lag": 8.0},
    {"detail_lag": 8.0},
    {"list_lag": 8.0, "detail_lag": 8.0, "page_cap": 2},
    {"stale_stat": 5.0, "keeps_fail_info": True},
    {"sentence_size": "string"},
    {"equal_names": "refuse"},
    {"equal_names": "replace"},
    {"not_offered": ["capacity"]},
    {"not_offered": ["reembed", "reslice"]},
    {"not_offered": ["retrieve"]},
    {"not_offered": ["url"]},
    {"word": "ignored"},
    {"names": "nfc"},
    {"names": "nfd"},
    {"names": "suffixed"},
    {"names": "basename"},
    {"names": "mojibake"},
]


def name_of(switches: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in switches.items())


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[RemoteWorld]:
    async with RemoteWorld(tmp_path, give_up=60.0).serving() as world:
        yield world


@enumerated()
@pytest.mark.parametrize("switches", SWITCHES, ids=name_of)
async def test_folder_and_base_end_up_equal(world: RemoteWorld, switches: dict[str, Any]) -> None:
    world.turn(**switches)
    for name in ("kept.md", "changed.md", "gone.md", "renamed.md", "caf\u00e9 手册.md"):
        world.write(name, f"the first text of {name}: kept changed gone renamed")
    await world.once()
    world.plant("guide.md", "somebody else's")
    assert world.bytes_by_path() == sha_of_folder(world)
    world.clock.now += 10
    world.write("changed.md", "another text, changed")
    world.write("new.md", "a new file whose answer is lost")
    world.move("renamed.md", "sub/renamed.md")
    world.delete("gone.md")
    world.play("lost-answer", op="upload", match="new*")
    world.play("fails", op="upload", match="changed*", args={"runs": 1})
    await run_until_equal(world)
    uploads = world.request_count("upload")
    world.lose_state()
    await run_until_equal(world)
    assert world.request_count("upload") == uploads
    assert world.keeps_foreign()


async def run_until_equal(world: RemoteWorld) -> None:
    for _ in range(4):
        await world.once()
        if world.statuses() == {"ready": 5} and world.bytes_by_path() == sha_of_folder(world):
            return
        world.clock.now += 90
    pytest.fail(f"{world.run.halt} {world.statuses()}\n{world.bytes_by_path()}\n{sha_of_folder(world)}")
