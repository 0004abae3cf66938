from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import apsw
import pytest

from kbsync.contract.searching import Passage, Query
from kbsync.contract.target import Accepted, Body, Outgoing, TargetContext
from kbsync.errors import Halted, Rejected, StateError, TargetError, Unavailable, UsageError
from kbsync.index import pipeline
from kbsync.index.document import Chunk, Entry, Flavour, Parsed
from kbsync.index.embed import Encoder, Vectors
from kbsync.index.errors import storage_error
from kbsync.index.read import formats
from kbsync.index.sqlite.store import SqliteStore
from kbsync.targets.indexed import target as module
from kbsync.targets.local.config import LocalTargetConfig
from kbsync.targets.local.target import LocalTarget
from tests.share import long
from tests.targets.bodies import outgoing


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
    path = path or f"folder/{upload}.md"
    name = path.rpartition("/")[2]
    return outgoing(path, text, upload_id=upload, name=name, mtime=5.0, recipe="r", replaces=replaces)


def open_target(folder: Path, *, read_only: bool = False) -> LocalTarget:
    config = LocalTargetConfig(path=folder / "kb", max_bytes=10_000)
    return LocalTarget.open(config, TargetContext("m", folder, folder, read_only), parse)


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[LocalTarget]:
    target = open_target(tmp_path)
    yield target
    await target.aclose()


async def put(target: LocalTarget, *documents: Outgoing) -> list[str]:
    outcomes = await target.put(documents)
    assert all(isinstance(outcome, Accepted) and outcome.ready for outcome in outcomes)
    return [outcome.remote_id for outcome in outcomes if isinstance(outcome, Accepted)]


async def search(target: LocalTarget, text: str) -> set[str | None]:
    return {hit.path for hit in await target.search(Query(text))}


@long
def test_opening_and_reading_loads_no_heavy_modules(tmp_path: Path) -> None:
    code = """
import asyncio, sys
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from kbsync.contract.target import TargetContext
from kbsync.targets.local.config import LocalTargetConfig
folder = Path(sys.argv[1])
target = LocalTargetConfig().open(TargetContext("m", folder, folder))
target.recipe("a.md", {})
asyncio.run(target.base())
heavy = {"numpy", "tokenizers", "pypdfium2", "python_calamine", "structlog", "onnxruntime"}
print(sorted(heavy & set(sys.modules)))
"""
    completed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert completed.stdout.strip() == "[]"


async def test_each_document_has_its_own_outcome(
    target: LocalTarget, caplog: pytest.LogCaptureFixture
) -> None:
    texts = ["fine words", "rejected", " \n", "bug", "x" * 10_001, "torn", "full", "good words"]
    with caplog.at_level(logging.CRITICAL):
        outcomes = await target.put([document(number, text) for number, text in enumerate(texts, 1)])
    assert [type(outcome) for outcome in outcomes] == [
        *(Accepted, Rejected, Rejected, Rejected, Rejected, Unavailable, Halted, Accepted)
    ]
    assert [getattr(outcome, "code", "") for outcome in outcomes[1:6]] == [
        *("encrypted", "no-text", "unreadable", "too-large", "EIO")
    ]
    assert await search(target, "words") == {"folder/1.md", "folder/8.md"}


async def test_leftovers_of_a_killed_process_are_removed_by_the_next(
    target: LocalTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SCRUB_AFTER", 0.0)
    await put(target, document(1, "zqsecret words"), document(2, "other words"))
    await target.aclose()
    with contextlib.closing(apsw.Connection(str(tmp_path / "kb" / "index.db"))) as connection:
        connection.execute("UPDATE run SET document = NULL WHERE document = 1")
        connection.execute("DELETE FROM document WHERE id = 1")
    reopened = open_target(tmp_path)
    assert await search(reopened, "words") == {"folder/2.md"}
    assert (await reopened.base()).documents == 1
    async with asyncio.timeout(30):
        while any(b"zqsecret" in entry.read_bytes() for entry in (tmp_path / "kb").iterdir()):
            await asyncio.sleep(0.01)
    await reopened.aclose()


async def test_damaged_index_is_set_aside_and_recreated(target: LocalTarget, tmp_path: Path) -> None:
    await put(target, *(document(number, f"alpha {number} " * 200) for number in range(1, 30)))
    first = await target.base()
    assert isinstance(target._store, SqliteStore) and target._store._writer is not None
    target._store.purge()
    file = tmp_path / "kb" / "index.db"
    with file.open("r+b") as stream:
        stream.seek(8192)
        stream.write(os.urandom(file.stat().st_size - 8192))
    target._store._writer._connection.release_memory()
    with pytest.raises(Unavailable, match="damaged"):
        for number in range(1, 30):
            await target.put([document(100 + number, f"beta {number}", replaces=str(number))])
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
        (MemoryError(), "out-of-memory"),
        (ImportError("libgfortran.so.5: failed to map segment from shared object"), "out-of-memory"),
        (RuntimeError("can't start new thread"), "out-of-memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out-of-memory"),
        (Unavailable("embed: answered 500: cannot allocate memory"), None),
    ],
)
async def test_disk_errors_never_blame_a_document(
    target: LocalTarget, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str | None
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(target._store._writer, "put", fail)
    with pytest.raises(Halted if expected else Unavailable) as raised:
        await target.put([document(1, "alpha")])
    assert getattr(raised.value, "halt", None) == expected


def test_read_only_folder_of_a_service_is_explained_by_its_unit() -> None:
    error = storage_error(
        Path("/srv/kb"), OSError(errno.EROFS, "Read-only file system", "/srv/kb/index.lock")
    )
    assert "in a systemd unit, ReadWritePaths=/srv/kb" in str(error)


async def test_second_writer_is_refused_and_readers_take_no_lock_and_write_nothing(
    target: LocalTarget, tmp_path: Path
) -> None:
    with pytest.raises(StateError, match="in use"):
        open_target(tmp_path)
    (first,) = await put(target, document(1, "alpha words"))
    reading = open_target(tmp_path, read_only=True)
    assert await search(reading, "alpha") == {"folder/1.md"}
    await put(target, document(2, "beta words"))
    assert await search(reading, "beta words") == {"folder/1.md", "folder/2.md"}
    assert (await reading.explain(first)).chunks == 1
    calls: list[Callable[[], object]] = [
        lambda: reading.put([document(3, "x")]),
        lambda: reading.delete([first]),
        lambda: reading.rename(first, "p", "p", 1.0),
    ]
    for call in calls:
        with pytest.raises(Halted, match="was opened read-only"):
            await call()  # type: ignore[misc]
    await reading.aclose()


async def test_closing_twice_is_fine_and_later_calls_are_unavailable(tmp_path: Path) -> None:
    target = open_target(tmp_path)
    await put(target, document(1, "alpha"))
    await target.aclose()
    await target.aclose()
    with pytest.raises(Unavailable):
        await target.put([document(2, "beta")])
    assert (tmp_path / "kb" / "index.db-wal").stat().st_size == 0


async def test_documents_of_an_earlier_batch_are_stored_and_reported(
    target: LocalTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_MAX_CHARACTERS", 0)  # each document is a batch
    failed, stored = Unavailable("gone", code="lost", retry_after=3.0), target._store.put

    def put(entries: Sequence[Entry], encoder: Encoder) -> Sequence[int | TargetError]:
        if entries[0].upload_id == 2:
            raise failed
        return stored(entries, encoder)

    monkeypatch.setattr(target._store, "put", put)
    first, second, third = await target.put([document(number, f"walrus {number}") for number in (1, 2, 3)])
    assert isinstance(first, Accepted) and second is failed
    assert isinstance(third, Unavailable) and third.untried and third.retry_after == 3.0
    assert [listed.remote_id async for listed in target.list()] == [first.remote_id]


@pytest.fixture
async def reading(tmp_path: Path) -> AsyncIterator[LocalTarget]:
    """A target that reads its documents itself."""
    config = LocalTargetConfig(path=tmp_path / "kb")
    target = LocalTarget.open(config, TargetContext("m", tmp_path, tmp_path, False))
    yield target
    await target.aclose()


async def first(target: LocalTarget, text: str) -> tuple[str | None, Passage]:
    """Return the path of the best document and its best passage."""
    hit = next(iter(await target.search(Query(text))))
    return hit.path, hit.passages[0]


async def test_document_added_during_searches_is_found_by_meaning(reading: LocalTarget) -> None:
    await put(reading, document(1, "The bicycle has a flat tyre."), document(2, "Rain fell all day."))
    for _ in range(3):  # from the second on vectors are cached in memory
        assert "folder/3.md" not in await search(reading, "automobile")
    await put(reading, document(3, "A car with four doors."))
    assert (await first(reading, "automobile"))[0] == "folder/3.md"


LONG = "".join(f"The paragraph number {number} says {number * 7} things.\n\n" for number in range(600))


async def test_long_note_is_found_by_its_new_tag_and_not_by_the_old_one(reading: LocalTarget) -> None:
    [old] = await put(reading, document(1, f"---\ntags: quince\n---\n{LONG}", "a.md"))
    assert await search(reading, "quince") == {"a.md"}
    await put(reading, document(2, f"---\ntags: walnut\n---\n{LONG}", "a.md", replaces=old))
    assert (await search(reading, "walnut"), await search(reading, "quince")) == ({"a.md"}, set())


@pytest.mark.parametrize("title", ["---\ntitle: {}\n---\n", "# {}\n\n"])
async def test_new_title_reembeds_only_the_first_passage(
    reading: LocalTarget, monkeypatch: pytest.MonkeyPatch, title: str
) -> None:
    [old] = await put(reading, document(1, f"{title.format('Quince')}{LONG}", "a.md"))
    created, begin = list[str](), reading._encoder.begin

    def count(chunks: Sequence[Chunk]) -> Future[Vectors]:
        created.extend(chunk.text for chunk in chunks)
        return begin(chunks)

    monkeypatch.setattr(reading._encoder, "begin", count)
    await put(reading, document(2, f"{title.format('Walnut')}{LONG}", "a.md", replaces=old))
    assert (await search(reading, "walnut"), await search(reading, "quince")) == ({"a.md"}, set())
    assert len(created) == 1


RECIPES = {"a.md": "dc0a160b3b470331", "b.pdf": "73fb9f6b434d5cb5"}


def test_recipes_are_stable_and_a_new_reader_changes_only_its_formats(
    target: LocalTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recipes() -> dict[str, str]:
        return {path: target.recipe(path, {}) for path in RECIPES}

    assert recipes() == RECIPES
    monkeypatch.setattr("kbsync.index.words.TOKENISER", 4)
    assert recipes() == RECIPES, "words are renewed in the store"
    with monkeypatch.context() as pdf:
        pdf.setattr(formats, "READERS", formats.READERS | {"pdf": ("pdf", "read_pdf", "11")})
        assert [path for path, recipe in recipes().items() if recipe != RECIPES[path]] == ["b.pdf"]
    monkeypatch.setattr(formats, "MARKDOWN", "11")
    assert [path for path, recipe in recipes().items() if recipe != RECIPES[path]] == ["a.md"]


async def test_reread_document_with_equal_text_is_not_reembedded(
    reading: LocalTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    [old] = await put(reading, document(1, LONG, "a.md"))
    monkeypatch.setattr(reading._encoder, "begin", lambda chunks: pytest.fail(str(chunks)))
    reread = dataclasses.replace(document(2, LONG, "a.md", replaces=old), recipe="of another reader")
    await put(reading, reread)
    assert [listed.recipe async for listed in reading.list()] == ["of another reader"]


async def test_passage_line_follows_insertions_above(reading: LocalTarget) -> None:
    text = f"{LONG}The kestrel has its nest in the tower.\n"
    [old] = await put(reading, document(1, text, "a.md"))
    _, before = await first(reading, "kestrel nest")
    above = "A new line.\n" * 61
    await put(reading, document(2, above + text, "a.md", replaces=old))
    _, after = await first(reading, "kestrel nest")
    assert (after.text, after.line) == (before.text, (before.line or 0) + 61)
    assert (above + text).split("\n")[(after.line or 0) - 1] == after.text.split("\n")[0]


async def test_equal_texts_under_different_titles_have_different_meanings(reading: LocalTarget) -> None:
    body = "It comes on Friday and costs ninety."
    await put(reading, document(1, f"---\ntitle: Bicycle tyres\n---\n{body}"))
    await put(reading, document(2, f"---\ntitle: Espresso maker\n---\n{body}"))
    assert (await first(reading, "coffee"))[0] == "folder/2.md"
    assert (await first(reading, "wheels"))[0] == "folder/1.md"


async def test_base_that_cannot_be_closed_leaves_no_parser_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = LocalTarget.open(LocalTargetConfig(path=tmp_path / "kb"), TargetContext("m", tmp_path, tmp_path))
    await target.base()
    closed = list[str]()
    target._parser = SimpleNamespace(close=lambda: closed.append("parser"))  # type: ignore[assignment]
    close = target._store.close

    def close_and_fail() -> None:
        close()
        raise apsw.CorruptError("the disk failed")

    monkeypatch.setattr(target._store, "close", close_and_fail)
    with pytest.raises(apsw.CorruptError):
        await target.aclose()
    assert closed == ["parser"]
