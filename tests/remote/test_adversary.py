"""Tests a knowledge base that others write into, empty and damage: kbsync reports, repairs or keeps it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from kbsync.core.names import Naming
from kbsync.engine.audit import PutOffError
from kbsync.engine.clock import end_tasks
from kbsync.errors import Halted
from tests.engine.auditing import audited, paths, start_audits
from tests.remote.world import RemoteWorld, sha_of_folder
from tests.share import enumerated, long

DAY = 86400.0


@pytest.fixture(params=["tagged", "plain"])
def named(world: RemoteWorld, request: pytest.FixtureRequest) -> RemoteWorld:
    world.settings = replace(world.settings, names=request.param)
    return world


def name_of(world: RemoteWorld, path: str) -> str:
    [document] = world.documents_of(path)
    return str(document["sent_name"])


# -- verify and its repair -------------------------------------------------------------------------------


@enumerated()
async def test_replaced_document_is_missing_and_its_replacement_stays(named: RemoteWorld) -> None:
    await named.mirrored(10)
    name = name_of(named, "f2.md")
    named.lose("f2.md")
    theirs = named.plant(name, "somebody else wrote this, and more of it")
    assert paths(await named.verify()) == {"missing": ["f2.md"]}
    await named.repair()
    second_check = await named.verify()
    assert second_check.ok
    assert second_check.foreign == 1
    assert named.keeps_foreign()
    assert theirs in {str(document["id"]) for document in named.documents()}
    assert named.bytes_by_path() == sha_of_folder(named)


@enumerated()
async def test_foreign_document_with_our_name_and_length_is_not_ours(named: RemoteWorld) -> None:
    await named.mirrored(10)
    named.plant(name_of(named, "f2.md"), "TEXT OF F2")  # as long as ours
    findings = await named.verify()
    assert findings.ok
    assert findings.foreign == 1
    await audited(named)
    assert named.keeps_foreign()


async def test_foreign_document_with_half_a_character_in_its_id_is_counted(world: RemoteWorld) -> None:
    await world.mirrored(2)
    world.plant("theirs.md", "by somebody else")
    broken = {"id": "id\ud83d", "name": "cut \ud83d.md"}
    world.play("fields", op="list", times=0, args={"name": "theirs.md", "set": broken})
    findings = await world.verify()
    assert findings.ok and findings.foreign == 1
    await audited(world)
    assert world.halted == ""


@enumerated()
async def test_just_deleted_document_is_not_orphaned_when_the_list_lags(named: RemoteWorld) -> None:
    await named.mirrored(20)
    named.turn(list_lag=0.9)
    named.delete_many(3)  # enough of them to be checked in the list
    await named.once()
    assert (await named.verify()).ok
    assert named.bytes_by_path() == sha_of_folder(named)


@enumerated()
async def test_identical_duplicate_is_reported_and_only_removed_by_repair(named: RemoteWorld) -> None:
    await named.mirrored(10)
    twin = named.plant(name_of(named, "f2.md"), "text of f2")
    findings = await named.verify()
    assert paths(findings) == {"duplicate": ["f2.md"]}
    assert "the same bytes" in findings.duplicate[0].why
    outcome = await audited(named)
    assert (outcome.duplicate, outcome.repaired) == (1, 0)
    assert named.keeps_foreign()
    named.foreign.discard(twin)
    await named.repair()
    assert (await named.verify()).ok
    assert named.bytes_by_path() == sha_of_folder(named)


@enumerated()
async def test_older_document_is_explained_and_left_alone_after_lost_state(named: RemoteWorld) -> None:
    await named.mirrored(10)
    named.lose_state()
    named.clock.now += 10
    await named.mirrored({"f2.md": "another text"})
    await named.repair()
    second_check = await named.verify()
    assert paths(second_check) == {"duplicate": ["f2.md"]}
    assert "leaves it alone" in second_check.duplicate[0].why
    assert len(named.bytes_by_path()["f2.md"]) == 2


@enumerated()
async def test_base_recreated_under_its_id_is_filled_by_a_repair(named: RemoteWorld) -> None:
    await named.mirrored(8)
    named.turn(base="emptied")
    await named.once()
    assert named.halted == "knowledge-base-emptied"
    assert named.request_count("upload") == 8
    assert len((await named.verify()).missing) == 8
    await named.repair()
    assert (await named.verify()).ok
    assert named.halted == ""
    assert named.bytes_by_path() == sha_of_folder(named)


MESSES: list[dict[str, Any]] = [
    {"page_cap": 3, "unstable_pages": True},
    {"page_cap": 3, "order": "shuffled"},
    {"total": "low", "page_cap": 3},
    {"ids": "number"},
    {"ids": "uuid"},
    {"names": "nfc"},
    {"names": "nfd"},
    {"names": "suffixed"},
    {"names": "mojibake"},
    {"names": "question_marks"},
    {"names": "basename"},
]


@long
@enumerated()
@pytest.mark.parametrize("switches", MESSES, ids=str)
async def test_disordered_list_causes_no_finding_and_hides_none(
    named: RemoteWorld, switches: dict[str, Any]
) -> None:
    named.turn(**switches)
    named.play("lost-answer", op="upload", times=2)
    named.write("caf\u00e9 手册/one.md", "one")
    await named.mirrored(9)
    assert len(named.effects("stored")) == 10
    assert (await named.verify()).ok
    outcome = await audited(named)
    assert (outcome.missing, outcome.duplicate, outcome.orphaned) == (0, 0, 0)
    named.lose("f4.md")
    findings = await named.verify()
    assert paths(findings) == {"missing": ["f4.md"]}
    assert "does not have it" in findings.missing[0].why
    assert (await audited(named)).repaired == 1
    assert named.bytes_by_path() == sha_of_folder(named)


# -- the audit of a daemon -------------------------------------------------------------------------------


@long
@enumerated()
async def test_audit_halts_on_a_base_emptied_and_filled_by_others(named: RemoteWorld) -> None:
    await named.mirrored(20)
    for n in range(8):
        named.lose(f"f{n}.md")
        named.plant(f"theirs-{n}.md", "others")
    async with start_audits(named) as auditing:
        assert not await auditing.try_once()
    assert named.halted == "knowledge-base-emptied"
    assert named.request_count("upload") == 20
    await named.repair()
    assert (await named.verify()).ok
    assert named.halted == ""
    assert named.bytes_by_path() == sha_of_folder(named)
    assert named.keeps_foreign()


def prepare_takeover(world: RemoteWorld, n: int) -> None:
    """Create files whose documents exist already: the first pass sends none of them."""
    naming = Naming("", "tagged")
    for i in range(n):
        text = f"text of f{i}"
        world.write(f"f{i}.md", text)
        name = naming.name(f"f{i}.md", sha256(text.encode()).hexdigest())
        world.app.put_foreign({"name": name, "text": text})


@long
@pytest.mark.parametrize(("per_minute", "gap"), [(0, 10.0), (20, 30.0)])
async def test_audit_requests_stay_within_their_budget_over_a_day(
    tmp_path: Path, per_minute: int, gap: float
) -> None:
    documents, period = 2000, DAY  # between audits
    async with RemoteWorld(tmp_path, requests_per_minute=per_minute).serving() as world:
        world.settings = replace(world.settings, deep_rescan=period)
        prepare_takeover(world, documents)
        await world.once()
        assert world.request_count("upload") == 0
        times: list[float] = []
        world.at_request = lambda boundary: times.append(world.clock.now) if "start" in boundary else None
        async with start_audits(world) as auditing:
            times.clear()
            task = asyncio.create_task(auditing.keep())
            await world.clock.sleep(period + 1200)
            await end_tasks([task])
        world.at_request = None
    gaps = [later - before for before, later in itertools.pairwise(times)]
    assert len(times) == -(-documents // 100) + (documents % 100 == 0)
    assert min(gaps) >= gap


async def test_recent_work_precedes_an_audit(world: RemoteWorld) -> None:
    await world.mirrored(10)
    world.turn(page_cap=3)
    times: list[tuple[float, str]] = []
    world.at_request = lambda boundary: times.append((world.clock.now, boundary))
    async with start_audits(world) as auditing:
        task = asyncio.create_task(auditing.audit())
        await world.clock.sleep(15)
        world.write("new.md")
        began = world.clock.now
        bound = world.run.bound
        assert bound is not None
        await bound.compare()
        await bound.reconciler.settle_due()
        bound.worker.wake()
        outcome = await task
    world.at_request = None
    sent = next(moment for moment, boundary in times if boundary.startswith("POST start"))
    assert sent - began < 5
    assert outcome.missing == 0


async def test_halt_stops_a_running_audit(world: RemoteWorld) -> None:
    await world.mirrored(10)
    world.turn(page_cap=3)
    async with start_audits(world) as auditing:
        listed = world.request_count("list")
        task = asyncio.create_task(auditing.audit())
        await world.clock.sleep(15)
        await world.run.halts.halt(Halted("quota", "no money"))
        with pytest.raises(PutOffError):
            await task
        await world.clock.sleep(60)
        assert world.request_count("list") == listed + 1


# -- our document is gone, and another one has its name and bytes
# ----------------------------------------------


@pytest.fixture
async def adopting(tmp_path: Path) -> AsyncIterator[RemoteWorld]:
    async with RemoteWorld(tmp_path, vectorize=(0.0, 0.0)).serving() as world:
        await world.mirrored(6)
        world.clock.now += 100
        yield world


def replaced(world: RemoteWorld, path: str, twins: int = 1) -> list[str]:
    """Delete a file's document as another user, add others with its name and bytes, and return their ids."""
    [ours] = world.documents_of(path)
    text = (world.root / path).read_text()
    planted = [world.plant(ours["sent_name"], text) for _ in range(twins)]
    world.app.put_foreign({"delete": str(ours["id"])})
    world.foreign.clear()
    world.clock.now += 100
    world.server.requests.clear()
    return planted


@pytest.mark.parametrize("twins", [1, 3])
async def test_one_repair_and_one_pass_adopt_a_duplicate_without_findings(
    adopting: RemoteWorld, twins: int
) -> None:
    planted = replaced(adopting, "f1.md", twins)
    await adopting.repair()
    await is_adopted(adopting, planted)


async def test_daemon_audit_adopts_the_duplicate_too(adopting: RemoteWorld) -> None:
    planted = replaced(adopting, "f1.md")
    outcome = await audited(adopting)
    assert (outcome.missing, outcome.duplicate) == (1, 0)
    await is_adopted(adopting, planted)


async def is_adopted(world: RemoteWorld, planted: list[str]) -> None:
    assert world.request_count("upload") == 0
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    assert str(world.documents_of("f1.md")[0]["id"]) in planted
    assert paths(await world.verify()) == {}
