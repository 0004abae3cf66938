from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kbsync.core.model import SELECTED, Presence, Stamp, Status
from kbsync.engine import reconcile
from kbsync.engine.journal import DocumentEvent
from kbsync.engine.mirror import BoundMirror, Mirror
from kbsync.engine.status import (
    AS_LAST_READ,
    EMBEDDING_DOWN,
    HALT_WORDS,
    DocumentCounts,
    MirrorStatus,
    halt_words,
    is_fresh,
    mirror_status,
)
from kbsync.errors import Halted, Rejected, Unfit
from kbsync.once import run_once
from kbsync.source.read import UnreadableFile
from kbsync.state.files import FileRow
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore
from tests.engine.read_only_commands import explained, planned, state_of
from tests.engine.world import World
from tests.memory.behaviour import Behaviour, Failure, Fault
from tests.memory.variants import UpdatingMemory
from tests.share import long


def format_command(command: str) -> str:
    return f"kbsync {command} --here"


def read(status: MirrorStatus) -> Any:
    """Parse the output of `status --documents --json`."""
    return json.loads("".join(status.json_pieces()))


def status(world: World, use: Callable[[MirrorStatus], Any] = read) -> Any:
    """Call `use` with the status, documents included, within its transaction."""

    def work(tx: Tx) -> Any:
        record = tx.mirrors.named("docs")
        assert record is not None
        return use(
            mirror_status(tx, record, now=world.clock.wall(), documents=True, command_line=format_command)
        )

    with state_of(world) as state:
        return state.read(work)


def items(world: World) -> dict[str, dict[str, Any]]:
    return {item["path"]: item for item in status(world)["items"]}


@long
async def test_parts_of_status_add_up_to_its_json(world: World) -> None:
    world.write_many(3)
    world.write("link.md").with_name("other.md").symlink_to("nowhere")
    await world.once()
    report = status(world)
    assert [item["path"] for item in report.pop("items")] == [
        "f0.md",
        "f1.md",
        "f2.md",
        "link.md",
        "other.md",
    ]
    assert report == status(world, MirrorStatus.to_json)
    bare = MirrorStatus("docs", "/srv/docs", "local", DocumentCounts())
    assert read(bare) == bare.to_json()


async def test_excluded_files_are_not_listed_and_skipped_ones_have_a_reason(world: World) -> None:
    await world.mirrored(
        {"a.md": "hello", "out.md": "hello", ".kbsyncignore": "out.md\n", "empty.md": "", "image.png": "x"}
    )
    item = items(world)
    assert set(item) == {"a.md", "empty.md", "image.png"}
    assert item["empty.md"]["state"] == "skipped" and item["empty.md"]["reason"] == "empty"
    assert "png" in item["image.png"]["reason"]
    assert status(world)["documents"]["skipped"] == 2


async def test_failed_file_shows_the_targets_reason_and_the_version_still_served(tmp_path: Path) -> None:
    world = World(tmp_path, max_bytes=12)
    world.write("new.md", "never taken")
    for name in ("old.md", "grown.md"):
        world.write(name, "first")
    world.base.faults.append(Fault("put", error=lambda: Rejected("too ugly"), match="new.md", times=99))
    await world.once()
    before = items(world)
    world.base.behaviour = Behaviour(failures=[Failure("old.md", times=99, reason="no can do")])
    await world.mirrored({"old.md": "second", "grown.md": "much too large"})
    item = items(world)
    assert item["new.md"] == {
        "path": "new.md", "state": "failed", "document_id": None, "size": 11, "reason": "too ugly",
    }  # fmt: skip
    for name, words in (("old.md", "no can do; an outdated version"), ("grown.md", "over the limit of 12")):
        assert item[name]["state"] == "failed" and words in item[name]["reason"]
        assert item[name]["document_id"] == before[name]["document_id"] is not None
    assert "an outdated version is still searchable" in item["grown.md"]["reason"]


async def once_with_failures(world: World) -> dict[str, bool]:
    """Run a pass; return for each failed file whether its event says that a retry may succeed."""
    failures = dict[str, bool]()

    def note(event: DocumentEvent) -> None:
        if event.event == "document.failed":
            failures[event.path] = event.may_succeed

    async def work(run: Mirror) -> None:
        run.on_event = note
        await run_once(run)

    await world.doing(work)
    return failures


async def test_retry_is_offered_only_where_it_can_succeed_without_a_change(world: World) -> None:
    """The codes for which the embedded readers refuse a file: a retry helps none but a timeout."""
    hopeless = "encrypted damaged binary bomb no-picture too-large output memory crash unreadable unstorable"
    codes = [*hopeless.split(), "timeout", "other"]
    for code in codes:
        world.write(f"{code}.md", code)
        error = partial(Unfit, "no", code=code)
        world.base.faults.append(Fault("put", error=error, match=f"{code}.md", times=99))
    events = await once_with_failures(world)
    can_succeed = status(world, lambda mirror: {item.path: item.may_succeed for item in mirror.items or ()})
    assert can_succeed == events == {f"{code}.md": code in ("timeout", "other") for code in codes}
    assert set(status(world, lambda mirror: {item.state for item in mirror.items or ()})) == {Status.FAILED}


async def test_retry_is_offered_for_unreadable_files_but_not_for_large_ones(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.limits = replace(world.limits, max_bytes=12)
    world.write_many(2)
    world.write("large.md", "much too large")
    assert await once_with_failures(world) == {"large.md": False}
    world.write("f0.md", "new")
    with monkeypatch.context() as patch:
        patch.setattr(reconcile, "digest", lambda *_: UnreadableFile("permission denied"))
        assert await once_with_failures(world) == {"f0.md": True}
    can_succeed = status(world, lambda mirror: {item.path: item.may_succeed for item in mirror.items or ()})
    assert can_succeed == {"f0.md": True, "f1.md": False, "large.md": False}
    world.post_request("retry", paths=["f0.md"])
    await world.once()
    assert world.statuses() == {"ready": 2, "failed": 1}


async def test_unreadable_file_is_not_called_out_of_date(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows whether it changed."""
    await world.mirrored({"a.md": "hello"})
    os.utime(world.root / "a.md", (world.clock.wall(), world.clock.wall()))
    monkeypatch.setattr(reconcile, "digest", lambda *_: UnreadableFile("permission denied"))
    await world.once()
    reason = f"permission denied; {AS_LAST_READ}"
    assert items(world)["a.md"]["reason"] == reason
    assert [item.note for item in (await planned(world)).failed] == [reason]
    [*_, last] = world.read_state(lambda tx: tx.history.newest((world.run.id,), 0.0, 10))
    assert (last.event, last.reason) == ("failed", reason)
    answer = (await explained(world, "a.md")).answer
    assert answer == "The file is still searchable, as of the last time it was readable: permission denied."


def test_only_errors_of_the_embedding_service_blame_it_for_a_halt() -> None:
    assert halt_words("target-down", "embed: 127.0.0.1:1 refused the connection") == EMBEDDING_DOWN
    for reason, detail in (
        ("target-down", "list: no answer"),
        ("target-down", ""),
        ("quota", "embed: no money"),
    ):
        assert halt_words(reason, detail) == HALT_WORDS[reason]


async def test_unlistable_directory_is_a_failed_item(world: World) -> None:
    await world.mirrored({"sub/a.md": "hello"})
    reason = "cannot be listed: permission denied"
    world.change(lambda tx: tx.folders.record_problem(world.run.id, "sub", reason))
    report = status(world)
    assert report["documents"]["failed"] == 1
    assert report["items"][0] == {
        "path": "sub/", "state": "failed", "document_id": None, "size": None, "reason": reason,
    }  # fmt: skip
    world.change(lambda tx: tx.folders.record_problem(world.run.id, "", "cannot be listed"))
    assert status(world)["items"][0]["path"] == "./"


async def test_edit_under_a_broken_ignore_file_is_not_ready(world: World) -> None:
    async def check(bound: BoundMirror, *paths: str) -> None:
        await bound.reconciler.check(paths)
        await world.take_turns(bound, 20, 0.5)

    await world.mirrored({"sub/b.md": "old", "sub/c.md": "old"})
    async with world.start_mirror() as bound:
        world.write("sub/.kbsyncignore", "[bad\n")
        await check(bound, "sub/.kbsyncignore")
        assert items(world)["sub/b.md"]["state"] == "ready"
        world.write("sub/b.md", "edited")
        world.write("sub/new.md", "new")
        await check(bound, "sub/b.md", "sub/c.md", "sub/new.md")
        listed = items(world)
        assert (listed["sub/b.md"]["state"], bool(listed["sub/b.md"]["document_id"])) == ("failed", True)
        assert listed["sub/b.md"]["reason"] == f"{listed['sub/']['reason']}; {AS_LAST_READ}"
        assert listed["sub/c.md"]["state"] == "ready", "an event without a change"
        assert "sub/new.md" not in listed
        assert world.searchable_texts() == {"sub/b.md": "old", "sub/c.md": "old"}
        world.delete("sub/.kbsyncignore")
        await check(bound, "sub/.kbsyncignore")
        assert {item["state"] for item in items(world).values()} == {"ready"}
    assert world.searchable_texts() == world.on_disk()


async def test_stored_halt_comes_first_and_pending_files_refer_to_it(world: World) -> None:
    world.base.faults.append(Fault("put", error=lambda: Halted("credentials", "key refused"), times=99))
    await world.mirrored({"a.md": "hello"})
    report = status(world)
    assert report["halt"]["reason"] == "credentials" and report["halt"]["detail"] == "key refused"
    assert report["items"][0]["state"] == "pending" and report["items"][0]["reason"] == "key refused"


async def test_oldest_pending_file_gives_its_age(world: World) -> None:
    world.base.faults.append(Fault("put", error=lambda: Halted("quota", "full"), times=99))
    await world.mirrored({"a.md": "hello"})
    before = status(world)["oldest_pending_s"]
    world.clock.skew += 100
    assert status(world)["oldest_pending_s"] == pytest.approx(before + 100, abs=0.01)
    world.clock.skew -= 10_000
    assert status(world)["oldest_pending_s"] == 0.0  # a clock set back never makes it negative


async def test_documents_left_behind_are_noted(tmp_path: Path) -> None:
    world = World(tmp_path, UpdatingMemory)
    await world.mirrored({"a.md": "hello"})
    assert "note" not in status(world)
    world.base.recreate()
    await world.once()
    assert "1 document is still in the previous knowledge base" in status(world)["note"]


@long
def test_many_files_need_little_memory(tmp_path: Path) -> None:
    n = 5000
    store = StateStore(tmp_path / "state.db")

    def fill(tx: Tx) -> None:
        mirror = tx.mirrors.add("docs", "/srv/docs", "memory").id
        for i in range(n):
            stamp = Stamp(100, 1, 1, i)
            path = f"directory{i // 500}/file-{i}.md"
            tx.entries.put(
                mirror, FileRow(path, stamp, "aa" * 32, SELECTED, True, Presence.PRESENT, Status.READY, 0.0)
            )

    store.submit(fill).result()

    def measure(tx: Tx) -> tuple[int, int]:
        record = tx.mirrors.named("docs")
        assert record is not None
        tracemalloc.start()
        try:
            report = mirror_status(tx, record, now=0.0, documents=True, command_line=format_command)
            length = sum(len(piece) for piece in report.json_pieces())
            return length, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    length, peak = store.read_now(measure)
    store.close()
    assert length > 90 * n and peak < 20 * n


def test_freshness_considers_the_last_pass_and_pending_work() -> None:
    fresh = MirrorStatus("m", "/m", "local", DocumentCounts(ready=1), last_pass=1000.0)
    assert is_fresh(fresh, 60.0, 1050.0)
    assert not is_fresh(fresh, 60.0, 1061.0)
    assert not is_fresh(fresh, 60.0, 900.0)  # a clock that was set back proves nothing
    waiting = replace(fresh, documents=DocumentCounts(pending=1), oldest_pending_s=61.0)
    assert not is_fresh(waiting, 60.0, 1001.0)
    assert not is_fresh(MirrorStatus("m", "/m", "local", DocumentCounts()), 1e9, 0.0)


def test_troubleshooting_page_has_the_message_of_each_halt() -> None:
    page = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text()
    messages = [*HALT_WORDS.items(), ("target-down", EMBEDDING_DOWN)]
    assert [words for code, words in messages if f"| {words} (`{code}`) |" not in page] == []
