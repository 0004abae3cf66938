"""Tests that kbsync searches for a lost upload by name, and reads the whole list only to prove it absent.

Whatever times ids contain: undocumented behaviour never causes a second upload.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from kbsync.core.model import Upload, UploadState
from kbsync.engine.mirror import BoundMirror
from kbsync.source.scan import ScanSummary
from kbsync.state.read_only import Tx
from kbsync_standin.faults import Fault
from kbsync_standin.messages import Request, Response
from tests.engine.world import save_unchecked
from tests.remote.world import RemoteWorld, sha_of_folder
from tests.services.rows import ROWS
from tests.share import enumerated, long

MANY = 5_000
WORDS = ["substring", "exact", "case_insensitive"]


async def in_a_crowd(world: RemoteWorld) -> None:
    """Mirror a few of our files next to many other documents."""
    await world.mirrored(6)
    for number in range(MANY):
        world.plant(f"theirs{number}.md", "something of theirs")
    world.clock.now += 10
    world.server.requests.clear()


@long
@enumerated()
@pytest.mark.parametrize("filter_form", WORDS)
async def test_upload_with_a_lost_answer_is_found_without_reading_the_whole_list(
    world: RemoteWorld, filter_form: str
) -> None:
    await in_a_crowd(world)
    world.turn(word=filter_form, order="oldest")
    world.play("lost-answer", op="upload")
    await world.mirrored({"f0.md": "changed"})
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    assert world.request_count("upload") == 1
    assert 1 <= world.request_count("list") <= 2


@long
@enumerated()
@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize("filter_form", [*WORDS, "tokenised", "ignored"])
async def test_filter_proves_nothing_about_documents_it_omits(
    world: RemoteWorld, filter_form: str, is_stored: bool
) -> None:
    """Only a complete list proves that a document is missing; then it is sent once more."""
    world.turn(word=filter_form, order="oldest", page_cap=10, names="suffixed", list_lag=0.9)
    await world.mirrored(30)
    world.server.requests.clear()
    world.play("lost-answer", op="upload", effect=is_stored)
    world.clock.now += 10
    await world.mirrored({"f0.md": "changed"})
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    assert world.request_count("upload") == (1 if is_stored else 2)


# -- a response that belongs to another request


@enumerated()
@pytest.mark.parametrize("service", sorted(ROWS.keys() - {"lightrag"}))  # its ids are the names that we send
async def test_response_with_the_document_of_another_file_is_not_believed(
    service: str, tmp_path: Path
) -> None:
    """A gateway may repeat a response: two files would have one document, and searches would miss one."""
    async with ROWS[service].world(tmp_path, concurrency=1).serving() as world:
        respond, responses = world.app.answer, list[Response]()

        def repeat_first(request: Request, fault: Fault | None) -> Response:
            if world.app.op(request) not in ("upload", "add"):
                return respond(request, fault)
            response = responses[0] if len(responses) == 1 else respond(request, fault)
            responses.append(response)
            return response

        await world.mirrored({"a.md": "alpha"})
        world.app.answer = repeat_first  # type: ignore[method-assign]
        await world.mirrored({"b.md": "beta"})
        await world.mirrored({"c.md": "gamma"})
        assert len(responses) == 3
        assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
        assert world.statuses() == {"ready": 3}


# -- ids with another time than the clock's
# -------------------------------------------------------------------

CLOCKS: list[dict[str, object]] = [
    {},
    {"ids": "other_epoch"},
    {"skewed_ids": False, "clock_skew": 200.0},
    {"skewed_ids": False, "clock_skew": -200.0},
]


@enumerated()
@pytest.mark.parametrize("clock", CLOCKS, ids=str)
async def test_lost_answer_creates_no_duplicate_whatever_the_id_times(
    world: RemoteWorld, clock: dict[str, object]
) -> None:
    world.turn(**clock)
    world.write_many(5)
    for path in ("f0", "f3"):
        world.play("lost-answer", op="upload", match=f"{path}*")
    with capture_logs() as lines:
        await world.once()
        world.write("f1.md", "changed")
        world.play("lost-answer", op="upload", match="f1*")
        await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)
    assert len(world.effects("stored")) == 6
    matching_lines = [line for line in lines if line["event"] == "times.differ"]
    assert len(matching_lines) == bool(clock), (
        "said, and said once; ids that agree with the clock are no news"
    )


# -- after a kill with many jobs in progress: few requests, and no search for documents with a known id
# ----------

POLLS = 6
"""After 1, 3, 7 and 15 s, and one or two for uploads that became unsure later."""


async def killed_while_sending(world: RemoteWorld, files: int, *, apart: float = 0.0) -> None:
    """Leave every upload without a known result; every eighth wasn't stored.

    They became unsure `apart` seconds one after the other.
    """
    await world.mirrored(files)
    async with world.running() as store:
        rows = await store.write(lambda tx: unsettled(tx, world, apart))
    for row in rows[::8]:
        world.app.put_foreign({"delete": row.remote_id})
    world.server.requests.clear()


def unsettled(tx: Tx, world: RemoteWorld, apart: float) -> list[Upload]:
    """Put the journal into the state that a kill leaves; return the original rows."""
    rows = tx.uploads.in_states(world.run.id, 1, (UploadState.SERVING,), limit=1000)
    now = world.clock.wall()
    for number, row in enumerate(rows):
        due_at = now + number * apart
        blank: dict[str, Any] = {"remote_id": None, "accepted_at": None, "checks": 0, "elapsed": 0.0}
        unsure = replace(row, state=UploadState.UNSURE, **blank)
        save_unchecked(tx.uploads, replace(unsure, sent_at=now, checked_at=now, due_at=due_at + 1.0))
    return rows


@long
async def test_one_list_serves_all_unsure_uploads(world: RemoteWorld) -> None:
    files, pages = 200, 4
    world.turn(page_cap=50)
    await killed_while_sending(world, files, apart=0.04)
    await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)
    assert world.request_count("upload") == files // 8
    assert world.request_count("list") + world.request_count("detail") <= POLLS * pages


@long
async def test_known_jobs_do_not_wait_for_the_folder_scan(
    world: RemoteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare, requests = BoundMirror.compare, list[int]()

    async def late(bound: BoundMirror) -> ScanSummary | None:
        await world.clock.sleep(60.0)
        requests.append(world.request_count("upload"))
        return await compare(bound)

    await killed_while_sending(world, 40)
    monkeypatch.setattr(BoundMirror, "compare", late)
    await world.once()
    assert requests == [5]
