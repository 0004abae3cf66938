"""What only shows with the embedded target: its folder renamed, lost, damaged; formats that have no text."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from kbsync import once
from kbsync.config.model import Config, MirrorConfig
from kbsync.contract.searching import Query
from kbsync.installation import Installation
from kbsync.once import OnceEnd
from kbsync.state.store import StateStore
from kbsync.targets.local.target import LocalTarget


class FolderAndState:
    def __init__(self, tmp_path: Path) -> None:
        self.folder, self.state = tmp_path / "docs", tmp_path / "state"
        self.folder.mkdir()
        self.state.mkdir()
        self.name = "docs"
        for i in range(6):
            (self.folder / f"f{i}.md").write_text(f"# Title {i}\n\nThe text of number{i}.\n")

    @property
    def installation(self) -> Installation:
        mirror = MirrorConfig(name=self.name, folder=self.folder, settle=0.1)
        return Installation(Config(mirrors=(mirror,)), self.state)

    def once(self) -> OnceEnd:
        return asyncio.run(once.once(self.installation))

    def search(self, text: str) -> list[str | None]:
        async def find() -> list[str | None]:
            target = self.installation.target(self.installation.mirrors[0], read_only=True)
            assert isinstance(target, LocalTarget)
            try:
                return [hit.path for hit in await target.search(Query(text, top_k=3))]
            finally:
                await target.aclose()

        return asyncio.run(find())

    def statuses(self) -> dict[str, int]:
        store = StateStore(self.state / "state.db")
        record = store.read_now(lambda tx: tx.mirrors.all()[0])
        tally = store.read_now(lambda tx: tx.mirrors.tally(record.id))
        store.close()
        return {status.word: n for status, n in tally.items() if n}


@pytest.fixture
def place(tmp_path: Path) -> FolderAndState:
    place = FolderAndState(tmp_path)
    place.once()
    return place


def uploaded(end: OnceEnd) -> int:
    return sum(run.counts.uploaded + run.counts.replaced for run in end.runs.values())


def test_a_renamed_mirror_uploads_nothing_and_is_searched_under_its_new_name(place: FolderAndState) -> None:
    place.name = "handbook"
    assert uploaded(place.once()) == 0
    assert place.search("number3")[0] == "f3.md"
    assert [p.name for p in (place.state / "kb").iterdir()] == ["handbook"]


def test_a_moved_folder_with_equal_content_uploads_nothing(place: FolderAndState) -> None:
    moved = place.folder.with_name("moved")
    shutil.copytree(place.folder, moved)
    shutil.rmtree(place.folder)
    place.folder = moved
    assert uploaded(place.once()) == 0
    assert place.search("number3")[0] == "f3.md"


def test_a_lost_index_is_rebuilt_at_once(place: FolderAndState) -> None:
    shutil.rmtree(place.state / "kb")
    end = place.once()
    assert uploaded(end) == 6
    assert place.search("number3")[0] == "f3.md"
    assert place.statuses() == {"ready": 6}


def test_a_damaged_index_is_rebuilt_at_once(place: FolderAndState) -> None:
    index = place.state / "kb" / "docs" / "index.db"
    raw = bytearray(index.read_bytes())
    raw[4096:] = b"\xa5" * (len(raw) - 4096)
    index.write_bytes(raw)
    for suffix in ("-wal", "-shm"):
        index.with_name(index.name + suffix).unlink()
    place.once()
    assert place.search("number3")[0] == "f3.md"
    assert place.statuses() == {"ready": 6}
    assert list(index.parent.glob("*.damaged-*"))
    (place.folder / "f5.md").unlink()
    place.once()
    assert not list(index.parent.glob("*.damaged-*"))  # it may hold what was deleted
