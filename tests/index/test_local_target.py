from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import io
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import apsw
import pytest

from kbsync.contract.searching import Explains, Query
from kbsync.contract.target import Accepted, Body, DocState, Outgoing, Renames, Surroundings, Target
from kbsync.errors import Halted, Rejected, StateError, Unavailable, UsageError
from kbsync.index.document import Flavour, Parsed
from kbsync.index.sqlite.store import SqliteStore
from kbsync.targets.local import target as module
from kbsync.targets.local.target import LocalTarget


@dataclass(frozen=True)
class Embedding:
    type: str = "builtin"
    path: Path | None = None


@dataclass(frozen=True)
class Text:
    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)

    def open(self) -> io.BytesIO:
        return io.BytesIO(self.content)


def parse(path: str, body: Body) -> Parsed:
    text = body.open().read().decode()
    match text:
        case "rejected":
            raise Rejected("encrypted", code="encrypted")
        case "bug":
            raise KeyError("surprise")
        case "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        case "torn":
            raise OSError(errno.EIO, "Input/output error")
    return Parsed(text, Flavour.MARKDOWN)


def document(upload: int, text: str, path: str = "", replaces: str | None = None) -> Outgoing:
    content = text.encode()
    path = path or f"folder/{upload}.md"
    digest = hashlib.sha256(content).hexdigest()
    return Outgoing(
        upload, path, path.rpartition("/")[2], digest, len(content), 5.0, "r", Text(content), replaces
    )


def opened(folder: Path, *, read_only: bool = False) -> LocalTarget:
    surroundings = Surroundings("m", folder, folder, read_only)
    return LocalTarget.open(
        folder / "kb", embedding=Embedding(), max_bytes=10_000, surroundings=surroundings, parse=parse
    )


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[LocalTarget]:
    target = opened(tmp_path)
    yield target
    await target.aclose()


async def put(target: LocalTarget, *documents: Outgoing) -> list[str]:
    outcomes = await target.put(documents)
    assert all(isinstance(each, Accepted) and each.ready for each in outcomes)
    return [each.remote_id for each in outcomes if isinstance(each, Accepted)]


async def found(target: LocalTarget, text: str) -> set[str | None]:
    return {hit.path for hit in await target.search(Query(text))}


async def test_it_can_what_it_says(target: LocalTarget) -> None:
    for each in (Target, Renames, Explains):
        assert isinstance(target, each)
    assert target.updates_in_place and target.keeps_old_on_failure
    assert target.limits.marks
    assert (target.limits.list_lag, target.limits.max_bytes) == (0.0, 10_000)


def test_opening_and_looking_loads_nothing_heavy(tmp_path: Path) -> None:
    code = """
import asyncio, sys
from pathlib import Path
from types import SimpleNamespace
from kbsync.contract.target import Surroundings
from kbsync.targets.local.target import LocalTarget
folder = Path(sys.argv[1])
target = LocalTarget.open(folder / "kb", embedding=SimpleNamespace(type="builtin", path=None), max_bytes=1,
                          surroundings=Surroundings("m", folder, folder))
target.recipe("a.md", {})
asyncio.run(target.base())
heavy = {"numpy", "tokenizers", "safetensors", "kreuzberg", "structlog", "pathspec", "onnxruntime"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


async def test_outcomes_are_each_documents_own(target: LocalTarget, caplog: pytest.LogCaptureFixture) -> None:
    texts = ["fine words", "rejected", " \n", "bug", "x" * 10_001, "torn", "full", "good words"]
    with caplog.at_level(logging.CRITICAL):
        outcomes = await target.put([document(at, text) for at, text in enumerate(texts, 1)])
    assert [type(each) for each in outcomes] == [
        *(Accepted, Rejected, Rejected, Rejected, Rejected, Unavailable, Halted, Accepted)
    ]
    assert [getattr(each, "code", "") for each in outcomes[1:6]] == [
        *("encrypted", "no-text", "unreadable", "too-large", "EIO")
    ]
    assert await found(target, "words") == {"folder/1.md", "folder/8.md"}


async def test_a_replacement_that_fails_leaves_the_old_text(target: LocalTarget) -> None:
    (old,) = await put(target, document(1, "the first version"))
    (outcome,) = await target.put([document(2, "rejected", "folder/1.md", old)])
    assert isinstance(outcome, Rejected)
    assert await found(target, "first version") == {"folder/1.md"}
    (outcome,) = await target.put([document(3, "the second text", "folder/1.md", old)])
    assert outcome == Accepted("2", ready=True, replaced=True)
    states = await target.status([old, "2", "junk"])
    assert [each.state for each in states.values()] == [DocState.MISSING, DocState.READY, DocState.MISSING]
    assert (await target.explain("2")).text == "the second text"
    with pytest.raises(Rejected):
        await target.explain(old)


async def test_the_same_put_again_changes_nothing(target: LocalTarget) -> None:
    first = await put(target, document(1, "alpha"), document(2, "beta"))
    assert await put(target, document(1, "alpha"), document(2, "beta")) == first
    assert [row.upload_id async for row in target.list()] == [1, 2]


async def test_the_list_gives_back_what_was_sent(
    target: LocalTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE", 2)
    path = os.fsdecode(b"caf\xe9/\xff.md")
    sent = [document(at, f"text {at}", path if at == 3 else "") for at in range(1, 6)]
    await put(target, *sent)
    rows = [row async for row in target.list()]
    assert [(row.path, row.digest, row.upload_id, row.recipe, row.size) for row in rows] == [
        (each.path, each.digest, each.upload_id, each.recipe, each.size) for each in sent
    ]
    assert {row.state for row in rows} == {DocState.READY}
    assert (await target.base()).documents == 5


async def test_deleting_is_repeatable_and_leaves_no_trace(target: LocalTarget, tmp_path: Path) -> None:
    ids = await put(target, document(1, "zqsecret one"), document(2, "harmless"))
    for _ in range(2):
        assert await target.delete([ids[0], "77", "junk"]) == {ids[0]: None, "77": None, "junk": None}
    for file in (tmp_path / "kb").iterdir():
        assert b"zqsecret" not in file.read_bytes(), file
    assert await found(target, "harmless") == {"folder/2.md"}


async def test_replaced_text_leaves_the_files_by_itself(
    target: LocalTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SCRUB_AFTER", 0.0)
    (old,) = await put(target, document(1, "zqsecret"))
    await put(target, document(2, "other", replaces=old))
    async with asyncio.timeout(30):
        while any(b"zqsecret" in each.read_bytes() for each in (tmp_path / "kb").iterdir()):
            await asyncio.sleep(0.01)


async def test_what_a_killed_process_left_is_taken_out_by_the_next(
    target: LocalTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SCRUB_AFTER", 0.0)
    await put(target, document(1, "zqsecret words"), document(2, "other words"))
    await target.aclose()
    with contextlib.closing(apsw.Connection(str(tmp_path / "kb" / "index.db"))) as connection:
        connection.execute("UPDATE run SET document = NULL WHERE document = 1")
        connection.execute("DELETE FROM document WHERE id = 1")
    again = opened(tmp_path)
    assert await found(again, "words") == {"folder/2.md"}
    assert (await again.base()).documents == 1
    async with asyncio.timeout(30):
        while any(b"zqsecret" in each.read_bytes() for each in (tmp_path / "kb").iterdir()):
            await asyncio.sleep(0.01)
    await again.aclose()


async def test_a_rename_and_an_edit_embed_only_what_is_new(target: LocalTarget) -> None:
    made: list[str] = []
    begin = target._encoder.begin
    target._encoder.begin = lambda chunks: made.extend(chunks) or begin(chunks)  # type: ignore
    paragraphs = [f"Paragraph {at}. " + f"word{at} and some more of it. " * 12 for at in range(20)]
    (first,) = await put(target, document(1, "\n\n".join(paragraphs)))
    count = len(made)
    await target.rename(first, "elsewhere/name.md", "name.md", 9.0)
    await put(target, document(2, "\n\n".join(paragraphs), "elsewhere/name.md", first))
    assert len(made) == count > 10
    paragraphs[7] = paragraphs[7].replace("some", "any")
    await put(target, document(3, "\n\n".join(paragraphs), "elsewhere/name.md", "2"))
    assert len(made) == count + 1


async def test_puts_at_the_same_time_all_arrive(target: LocalTarget) -> None:
    batches = [[document(at * 10 + n, f"text {at} {n}") for n in range(10)] for at in range(6)]
    await asyncio.gather(*(put(target, *batch) for batch in batches))
    assert (await target.base()).documents == 60
    assert len({row.upload_id async for row in target.list()}) == 60


async def test_an_index_that_was_removed_is_made_anew(target: LocalTarget, tmp_path: Path) -> None:
    await put(target, document(1, "alpha"))
    first = await target.base()
    shutil.rmtree(tmp_path / "kb")
    with pytest.raises(Unavailable):
        await target.put([document(2, "beta")])
    second = await target.base()
    assert second.id != first.id
    assert second.documents == 0
    await put(target, document(2, "beta"))
    assert await found(target, "beta") == {"folder/2.md"}
    assert await target.base() == replace(second, documents=1)


async def test_a_damaged_index_is_put_aside_and_made_anew(target: LocalTarget, tmp_path: Path) -> None:
    await put(target, *(document(at, f"alpha {at} " * 200) for at in range(1, 30)))
    first = await target.base()
    assert isinstance(target._store, SqliteStore) and target._store._writer is not None
    target._store.purge()
    file = tmp_path / "kb" / "index.db"
    with file.open("r+b") as stream:
        stream.seek(8192)
        stream.write(os.urandom(file.stat().st_size - 8192))
    target._store._writer._connection.release_memory()
    with pytest.raises(Unavailable, match="damaged"):
        for at in range(1, 30):
            await target.put([document(100 + at, f"beta {at}", replaces=str(at))])
    assert (await target.base()).id != first.id
    await put(target, document(1, "alpha"))
    assert (tmp_path / "kb" / "index.db.damaged-1").exists()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (apsw.FullError("database or disk is full"), "disk-full"),
        (apsw.ReadOnlyError("attempt to write a readonly database"), "index-read-only"),
        (apsw.IOError("disk I/O error"), None),
        (OSError(errno.ENOSPC, "No space left on device"), "disk-full"),
        (UsageError("no weights; reinstall them"), "embedding"),
    ],
)
async def test_trouble_with_the_disk_never_blames_a_document(
    target: LocalTarget, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str | None
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(target._store._writer, "put", fail)
    with pytest.raises(Halted if expected else Unavailable) as raised:
        await target.put([document(1, "alpha")])
    assert getattr(raised.value, "halt", None) == expected


async def test_a_full_disk_leaves_the_old_version(target: LocalTarget) -> None:
    (old,) = await put(target, document(1, "alpha"))
    assert isinstance(target._store, SqliteStore) and target._store._writer is not None
    connection = target._store._writer._connection
    pages = connection.pragma("page_count")
    connection.pragma("max_page_count", pages + 3)
    with pytest.raises(Halted, match="no space") as raised:
        large = [document(3 + at, f"beta {at} " * 900) for at in range(30)]
        await target.put([document(2, "beta", replaces=old), *large])
    assert raised.value.halt == "disk-full"
    assert await found(target, "alpha") == {"folder/1.md"}
    connection.pragma("max_page_count", 10**9)
    await put(target, document(2, "beta", replaces=old))
    assert (await target.status([old]))[old].state is DocState.MISSING


async def test_a_second_target_on_the_folder_is_refused(target: LocalTarget, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="in use"):
        opened(tmp_path)


async def test_reading_only_takes_no_lock_and_writes_nothing(target: LocalTarget, tmp_path: Path) -> None:
    (first,) = await put(target, document(1, "alpha words"))
    reading = opened(tmp_path, read_only=True)
    assert await found(reading, "alpha") == {"folder/1.md"}
    await put(target, document(2, "beta words"))
    assert await found(reading, "beta words") == {"folder/1.md", "folder/2.md"}
    assert (await reading.explain(first)).chunks == 1
    calls: list[Callable[[], object]] = [
        lambda: reading.put([document(3, "x")]),
        lambda: reading.delete([first]),
        lambda: reading.rename(first, "p", "p", 1.0),
    ]
    for call in calls:
        with pytest.raises(Halted, match="reading only"):
            await call()  # type: ignore[misc]
    await reading.aclose()


def test_reading_before_anything_was_mirrored_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing has been mirrored yet"):
        opened(tmp_path, read_only=True)
    assert list(tmp_path.iterdir()) == []


async def test_the_recipe_is_of_the_kind_of_file_not_of_its_name(target: LocalTarget) -> None:
    recipe = target.recipe("a/b.md", {})
    assert recipe == target.recipe("other/c.MD", {}) == opened_recipe(target)
    assert (
        len({recipe, target.recipe("a/b.txt", {}), target.recipe("README", {}), target.recipe("LICENSE", {})})
        == 4
    )


def opened_recipe(target: LocalTarget) -> str:
    return LocalTarget.recipe(target, "z.md", {})


def test_a_new_model_is_a_new_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = opened(tmp_path)
    before = target.recipe("a.md", {})
    target._encoder._name = "another"
    assert target.recipe("a.md", {}) != before
    asyncio.run(target.aclose())


async def test_closing_twice_is_fine_and_later_calls_are_unavailable(tmp_path: Path) -> None:
    target = opened(tmp_path)
    await put(target, document(1, "alpha"))
    await target.aclose()
    await target.aclose()
    with pytest.raises(Unavailable):
        await target.put([document(2, "beta")])
    assert (tmp_path / "kb" / "index.db-wal").stat().st_size == 0
