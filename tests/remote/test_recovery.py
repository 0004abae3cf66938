"""A start after a kill with many jobs under way: few requests, and what is known need not be found anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.core.model import Upload, UploadState
from kbsync.engine.mirror import BoundMirror
from kbsync.source.scan import ScanSummary
from kbsync.state.read_only import Tx
from tests.engine.world import save_unchecked
from tests.remote.world import RemoteWorld, sha_of_folder

LOOKS = 6
"""After 1, 3, 7 and 15 s, and one or two for what became unsure later than the others."""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[RemoteWorld]:
    async with RemoteWorld(tmp_path, vectorize=(0.0, 0.0)).serving() as world:
        yield world


async def killed_while_sending(world: RemoteWorld, files: int, *, apart: float = 0.0) -> None:
    """Nobody knows what became of any document; every eighth is not there.

    They became unsure `apart` seconds one after the other.
    """
    await world.mirrored(files)
    async with world.running() as store:
        rows = await store.write(lambda tx: unsettled(tx, world, apart))
    for row in rows[::8]:
        world.app.put_foreign({"delete": row.remote_id})
    world.server.requests.clear()


def unsettled(tx: Tx, world: RemoteWorld, apart: float) -> list[Upload]:
    """The journal as a kill leaves it; returns the rows as they were."""
    rows = tx.uploads.in_states(world.run.mirror, 1, (UploadState.SERVING,), limit=1000)
    now = world.clock.wall()
    for number, row in enumerate(rows):
        at = now + number * apart
        blank: dict[str, Any] = {"remote_id": None, "accepted_at": None, "looks": 0, "elapsed": 0.0}
        unsure = replace(row, state=UploadState.UNSURE, **blank)
        save_unchecked(tx.uploads, replace(unsure, sent_at=now, looked_at=now, next_look_at=at + 1.0))
    return rows


async def test_one_list_serves_all_unsure_uploads(world: RemoteWorld) -> None:
    files, pages = 200, 4
    world.turn(page_cap=50)
    await killed_while_sending(world, files, apart=0.04)
    await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)
    assert world.asked("upload") == files // 8
    assert world.asked("list") + world.asked("detail") <= LOOKS * pages


async def test_known_jobs_do_not_wait_for_the_folder_to_be_compared(
    world: RemoteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare, asked = BoundMirror.compare, list[int]()

    async def late(bound: BoundMirror, *, deep: bool = False) -> ScanSummary | None:
        await world.clock.sleep(60.0)
        asked.append(world.asked("upload"))
        return await compare(bound, deep=deep)

    await killed_while_sending(world, 40)
    monkeypatch.setattr(BoundMirror, "compare", late)
    await world.once()
    assert asked == [5]
