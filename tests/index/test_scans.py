"""Scanned pages: recognized while the target is idle, cached by digest, deleted with their document."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from kbsync.contract.searching import Query
from kbsync.contract.target import Accepted, Body, DocState, Outgoing, TargetContext
from kbsync.errors import Rejected, Unavailable
from kbsync.index import scans as scans_module
from kbsync.index.document import Parsed
from kbsync.index.read.pdf import Line
from kbsync.index.read.scans import ScanReader
from kbsync.index.scans import Recognize, with_pages
from kbsync.targets.indexed import target as module
from kbsync.targets.local.config import LocalTargetConfig
from kbsync.targets.local.target import LocalTarget
from tests.index import samples
from tests.index.test_index import traces
from tests.share import enumerated, long
from tests.targets.bodies import outgoing

SECONDS = 20.0


def parse(_path: str, body: Body) -> Parsed:
    """Parse JSON that lists the texts of its pages; pages without text are scanned."""
    pages = json.loads(body.open().read())
    text, starts = "", []
    for page in pages:
        text += "\n\n" if text and page else ""
        starts.append(len(text))
        text += page
    scanned = tuple(number for number, page in enumerate(pages, 1) if not page)
    return Parsed(text, page_starts=tuple(starts), scanned_pages=scanned)


class Recognizer:
    """Reads "page N of PATH" on each page; `gate` delays it."""

    def __init__(self) -> None:
        self.read = list[int]()
        self.gate = threading.Event()
        self.gate.set()
        self.words = "quokka page {} of {}"

    def __call__(self, path: str, _body: Body, page: int) -> str:
        assert self.gate.wait(SECONDS)
        self.read.append(page)
        if not self.words:
            raise Rejected("no text found", code="no-text")
        return self.words.format(page, path)


class ScannedFolder:
    """A folder and its index, opened several times in turn."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.recognizer = folder, Recognizer()
        self.target: LocalTarget
        (folder / "docs").mkdir()

    async def open(self, recognize: Recognize | None) -> LocalTarget:
        context = TargetContext("m", self.folder, self.folder / "spool", folder=self.folder / "docs")
        config = LocalTargetConfig(path=self.folder / "kb")
        self.target = LocalTarget.open(config, context, parse, recognize)
        await self.target.base()
        return self.target

    def document(
        self, upload: int, *pages: str, path: str = "a.pdf", replaces: str | None = None
    ) -> Outgoing:
        content = json.dumps(pages)
        (self.folder / "docs" / path).write_text(content)
        return outgoing(path, content, upload_id=upload, replaces=replaces)

    async def put(self, document: Outgoing) -> Accepted:
        [outcome] = await self.target.put([document])
        assert isinstance(outcome, Accepted), outcome
        return outcome

    async def state(self, remote_id: str) -> DocState:
        return (await self.target.status([remote_id]))[remote_id].state

    async def wait_until_indexed(self, remote_id: str) -> DocState:
        async with asyncio.timeout(SECONDS):
            while (state := await self.state(remote_id)) is DocState.INDEXING:
                await asyncio.sleep(0.01)
        return state

    async def hits(self, question: str) -> list[tuple[str, int | None]]:
        return [(hit.remote_id, hit.passages[0].page) for hit in await self.target.search(Query(question))]


@pytest.fixture
async def scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScannedFolder]:
    monkeypatch.setattr(module, "SCRUB_AFTER", 0.0)
    monkeypatch.setattr(scans_module, "is_installed", lambda: False)  # whatever is installed here
    scanned = ScannedFolder(tmp_path)
    await scanned.open(scanned.recognizer)
    yield scanned
    scanned.recognizer.gate.set()
    await scanned.target.aclose()


async def test_scanned_page_is_found_with_its_number_beside_text_pages(scanned: ScannedFolder) -> None:
    scanned.recognizer.gate.clear()
    accepted = await scanned.put(scanned.document(1, "walnut first. " * 200, "", "walnut third. " * 200))
    assert not accepted.ready
    assert await scanned.hits("walnut first"), "what has text is found at once"
    assert [listed.state async for listed in scanned.target.list()] == [DocState.INDEXING]
    scanned.recognizer.gate.set()
    assert await scanned.wait_until_indexed(accepted.remote_id) is DocState.READY
    assert await scanned.hits("quokka") == [(accepted.remote_id, 2)]
    assert scanned.recognizer.read == [2]


async def test_old_version_is_searchable_until_the_scanned_one_is_read(scanned: ScannedFolder) -> None:
    old = await scanned.put(scanned.document(1, "walnut old"))
    scanned.recognizer.gate.clear()
    new = await scanned.put(scanned.document(2, "", replaces=old.remote_id))
    assert (new.ready, new.replaced) == (False, False)
    assert [remote_id for remote_id, _ in await scanned.hits("walnut")] == [old.remote_id]
    scanned.recognizer.gate.set()
    assert await scanned.wait_until_indexed(new.remote_id) is DocState.READY
    assert [remote_id for remote_id, _ in await scanned.hits("quokka")] == [new.remote_id]
    assert await scanned.hits("walnut") == []


async def test_recognized_pages_are_reused_after_a_kill_and_for_a_new_recipe(scanned: ScannedFolder) -> None:
    recognizer, reached = scanned.recognizer, threading.Event()

    def killed_at_third(path: str, body: Body, page: int) -> str:
        if page < 3:
            return recognizer(path, body, page)
        reached.set()
        raise Unavailable("killed")

    await scanned.target.aclose()
    await scanned.open(killed_at_third)
    accepted = await scanned.put(scanned.document(1, "", "", ""))
    assert await asyncio.to_thread(reached.wait, SECONDS)
    await scanned.target.aclose()
    await scanned.open(recognizer)
    assert await scanned.wait_until_indexed(accepted.remote_id) is DocState.READY
    assert recognizer.read == [1, 2, 3]
    repeated = await scanned.put(scanned.document(2, "", "", "", replaces=accepted.remote_id))
    assert (repeated.ready, recognizer.read) == (True, [1, 2, 3])
    assert [page for _, page in await scanned.hits("quokka")] == [1]


async def test_scans_are_refused_until_the_ocr_extra_is_installed(scanned: ScannedFolder) -> None:
    await scanned.target.aclose()
    await scanned.open(None)
    [refused] = await scanned.target.put([scanned.document(1, "", path="scan.pdf")])
    assert isinstance(refused, Rejected)
    assert refused.code == "scanned"
    mixed = await scanned.put(scanned.document(2, "walnut", ""))
    text = await scanned.put(scanned.document(3, "kestrel", path="text.pdf"))
    assert (mixed.ready, text.ready, await scanned.target.partly_read()) == (True, True, [])
    assert not scanned.target.reads_scans
    await scanned.target.aclose()
    await scanned.open(scanned.recognizer)
    assert (scanned.target.reads_scans, await scanned.target.partly_read()) == (True, [mixed.remote_id])
    new = await scanned.put(scanned.document(4, "walnut", "", replaces=mixed.remote_id))
    assert await scanned.wait_until_indexed(new.remote_id) is DocState.READY
    assert [remote_id for remote_id, _ in await scanned.hits("walnut quokka")] == [new.remote_id]
    assert await scanned.target.partly_read() == []
    await scanned.target.aclose()
    await scanned.open(None)
    assert await scanned.state(new.remote_id) is DocState.READY, "what was read stays"
    assert (await scanned.put(scanned.document(5, "walnut", "", replaces=new.remote_id))).ready
    assert await scanned.hits("quokka")


@long
@pytest.mark.parametrize("is_read", [True, False])
async def test_recognized_text_is_deleted_with_its_document(scanned: ScannedFolder, is_read: bool) -> None:
    accepted = await scanned.put(scanned.document(1, "", ""))
    if is_read:
        await scanned.wait_until_indexed(accepted.remote_id)
    async with asyncio.timeout(SECONDS):
        while not traces(scanned.folder, "quokka"):
            await asyncio.sleep(0.01)
    await scanned.target.delete([accepted.remote_id])
    async with asyncio.timeout(SECONDS):
        while traces(scanned.folder, "quokka"):
            await asyncio.sleep(0.01)
    assert await scanned.state(accepted.remote_id) is DocState.MISSING


@long
async def test_recognized_pages_stay_while_another_document_has_the_same_bytes(
    scanned: ScannedFolder,
) -> None:
    first = await scanned.put(scanned.document(1, ""))
    assert await scanned.wait_until_indexed(first.remote_id) is DocState.READY
    two = await scanned.put(scanned.document(2, "", path="b.pdf"))
    await scanned.target.delete([first.remote_id])
    assert (await scanned.put(scanned.document(3, "", path="c.pdf"))).ready
    assert (two.ready, scanned.recognizer.read) == (True, [1])


async def test_scan_without_any_text_fails(scanned: ScannedFolder) -> None:
    scanned.recognizer.words = ""
    accepted = await scanned.put(scanned.document(1, ""))
    assert await scanned.wait_until_indexed(accepted.remote_id) is DocState.FAILED
    status = (await scanned.target.status([accepted.remote_id]))[accepted.remote_id]
    assert (status.code, status.is_final) == ("no-text", True)


async def test_file_changed_or_deleted_during_recognition_is_abandoned(scanned: ScannedFolder) -> None:
    scanned.recognizer.gate.clear()
    accepted = await scanned.put(scanned.document(1, "", ""))
    (scanned.folder / "docs" / "a.pdf").unlink()
    scanned.recognizer.gate.set()
    assert await scanned.wait_until_indexed(accepted.remote_id) is DocState.FAILED


@long
async def test_other_documents_have_priority(scanned: ScannedFolder) -> None:
    scanned.target._puts += 1  # as if one were in progress
    accepted = await scanned.put(scanned.document(1, ""))
    await asyncio.sleep(0.3)
    assert scanned.recognizer.read == []
    scanned.target._puts -= 1
    assert await scanned.wait_until_indexed(accepted.remote_id) is DocState.READY


def test_recognized_text_is_placed_on_its_page() -> None:
    parsed = Parsed("one\n\nthree", page_starts=(0, 5, 5))
    completed = with_pages(parsed, {2: "two", 4: "four", 5: ""})
    assert completed.text == "one\n\ntwo\n\nthree\n\nfour"
    assert [completed.text[start:].split("\n")[0] for start in completed.page_starts[:4]] == [
        "one",
        "two",
        "three",
        "four",
    ]


def line(text: str, left: float, top: float, width: float = 100.0) -> Line:
    return Line(text, left, left + width, -top - 10, 10.0)


LAYOUTS: list[tuple[list[Line], str]] = [
    ([line("one", 0, 0), line("two", 0, 14), line("far", 0, 60)], "one two\n\nfar"),
    ([line("a", 0, 0), line("x", 200, 0), line("b", 0, 14), line("y", 200, 14)], "a b\n\nx y"),
    ([line("left", 0, 0), line("right", 105, 1)], "left right"),
    ([line("人工", 0, 0), line("智能", 0, 14)], "人工智能"),
    ([line("recog-", 0, 0), line("nition", 0, 14)], "recognition"),
    ([line("# not a heading", 0, 0)], "\\# not a heading"),
]


@enumerated()
@pytest.mark.parametrize(("lines", "text"), LAYOUTS)
def test_lines_become_paragraphs_of_their_column(lines: list[Line], text: str) -> None:
    assert ScanReader(lambda _: lines).read_page(samples.sample("scanned.pdf"), 1).text == text


@long
def test_repeated_page_is_recognized_once() -> None:
    read = list[object]()

    def recognize(picture: object) -> list[Line]:
        read.append(picture)
        return [line("one", 0, 0)]

    reader = ScanReader(recognize)
    assert {reader.read_page(samples.sample("scanned.pdf"), 1).text for _ in range(3)} == {"one"}
    assert len(read) == 1


@pytest.mark.parametrize("damage", ["junk", "torn", "empty"])
async def test_damaged_file_of_recognized_pages_is_replaced(scanned: ScannedFolder, damage: str) -> None:
    accepted = await scanned.put(scanned.document(1, "walnut first", ""))
    await scanned.put(scanned.document(2, "walnut note", path="b.md"))
    assert await scanned.wait_until_indexed(accepted.remote_id) is DocState.READY
    await scanned.target.aclose()
    file = scanned.folder / "kb" / "scans.db"
    file.write_bytes({"junk": b"junk" * 4096, "torn": file.read_bytes()[:8192], "empty": b""}[damage])
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    context = TargetContext("m", scanned.folder, scanned.folder / "spool", read_only=True)
    scanned.target = LocalTarget.open(LocalTargetConfig(path=scanned.folder / "kb"), context)
    await scanned.target.base()
    assert len(await scanned.hits("walnut")) == 2, "a search neither fails nor repairs it"
    assert await scanned.target.partly_read() == [], "neither does an audit"
    await scanned.target.aclose()
    reopened = await scanned.open(scanned.recognizer)
    assert len(await scanned.hits("walnut")) == 2
    assert await reopened.partly_read() == [accepted.remote_id], "nobody knows whether its pages were read"
    again = await scanned.put(scanned.document(3, "walnut first", "", replaces=accepted.remote_id))
    assert await scanned.wait_until_indexed(again.remote_id) is DocState.READY
    assert await scanned.hits("quokka") == [(again.remote_id, 2)]
    assert await reopened.partly_read() == []


async def test_document_is_ready_only_after_its_old_version_was_forgotten(
    scanned: ScannedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await scanned.put(scanned.document(1, "walnut old"))
    scanned.recognizer.gate.clear()
    new = await scanned.put(scanned.document(2, "", replaces=old.remote_id))
    scans = scanned.target._scans
    assert scans is not None
    forget, pending = scans.forget, list[bool]()

    def record_and_forget(documents: Iterable[int]) -> None:
        pending.append(scans.is_pending(2))
        forget(documents)

    monkeypatch.setattr(scans, "forget", record_and_forget)
    scanned.recognizer.gate.set()
    assert await scanned.wait_until_indexed(new.remote_id) is DocState.READY
    assert pending == [True]


async def test_pages_are_recognized_although_their_file_was_busy(
    scanned: ScannedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = scanned.target._scans
    assert scans is not None
    monkeypatch.setattr(scans_module, "_PAUSE_AFTER_ERROR", 0.0)
    find_next, errors = scans._next, [Unavailable("the disk failed")]

    def next_or_error() -> Any:
        if errors and threading.current_thread().name == "kbsync-scans":
            raise errors.pop()
        return find_next()

    monkeypatch.setattr(scans, "_next", next_or_error)
    accepted = await scanned.put(scanned.document(1, ""))
    assert await scanned.wait_until_indexed(accepted.remote_id) is DocState.READY
