from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.engine.forget import Belongings, StillThere, belongings, delete_left, forget, release
from kbsync.errors import KbsyncError, Rejected, Unavailable, Unsure
from kbsync.state.mirrors import BindingFact, MirrorFact
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore
from tests.engine.auditing import held_by_another_mirror
from tests.engine.read_only_commands import open_target, planned
from tests.engine.world import World
from tests.memory.behaviour import Fault


async def forgotten(world: World, claim: Callable[[Tx], None] = lambda tx: None) -> int:
    """Run `forget --delete-documents` and return the number of deletions. `claim`: a change to the state
    before.
    """
    with closing(StateStore(world.state / "state.db")) as store:
        await store.write(claim)
        record = await store.read(lambda tx: tx.mirrors.named("docs"))
        assert record is not None
        return await forget(store, record, open_target(world))


def owned_by_docs(world: World) -> Belongings:
    def work(tx: Tx) -> Belongings:
        record = tx.mirrors.named("docs")
        assert record is not None
        return belongings(tx, record)

    owned: Belongings = world.read_state(work)
    return owned


def remaining_rows(world: World) -> dict[str, int]:
    """Return the number of rows about mirrors, by table."""
    tables = (
        "mirror binding folder entry upload removal hold deletion_log tally serving inbox"
        " recipe_change forgotten forgotten_document meta"
    )

    def work(tx: Tx) -> dict[str, int]:
        db = tx.uploads._db
        counted = {t: db.execute(f"SELECT count(*) FROM {t}").get for t in tables.split()}
        return {table: n for table, n in counted.items() if n}

    row_counts: dict[str, int] = world.read_state(work)
    return row_counts


async def test_documents_are_counted_apart_from_those_in_a_base_used_before(world: World) -> None:
    world.base.add("theirs.md", b"x")
    await world.mirrored(4)
    owned = owned_by_docs(world)
    assert (owned.documents, owned.elsewhere, owned.unsure) == (4, [], 0)
    world.base.recreate()
    world.delete("f0.md")
    await world.once()
    owned = owned_by_docs(world)
    assert (owned.documents, [number for _, number in owned.elsewhere]) == (3, [4])


async def test_held_and_adopted_documents_are_counted_and_unproven_ones_are_not(world: World) -> None:
    world.base.add("f0.md", b"other bytes", path="f0.md", foreign=False)
    await world.mirrored(3)
    world.delete_many(3)
    await world.once()
    assert world.statuses() == {"held": 3}
    assert owned_by_docs(world).documents == 3


async def test_an_upload_without_an_answer_is_counted_as_unsure(world: World) -> None:
    world.limits = replace(world.limits, list_lag=5.0)
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=False))
    world.base.faults.append(Fault("list", error=lambda: Unavailable("busy"), nth=2, times=10_000))
    await world.mirrored(1)
    assert owned_by_docs(world).unsure == 1


async def test_exactly_our_documents_are_deleted(world: World) -> None:
    theirs = world.base.add("theirs.md", b"x").remote_id
    unproven = world.base.add("f0.md", b"other bytes", path="f0.md", foreign=False).remote_id
    await world.mirrored(4)
    assert await forgotten(world, lambda tx: tx.recipes.allow(world.run.id, ["r2"])) == 4
    assert set(world.base.documents) == {theirs, unproven}
    assert remaining_rows(world) == {}


async def test_more_documents_than_a_batch_are_deleted_in_batches(tmp_path: Path) -> None:
    world = World(tmp_path, batch=7)
    await world.mirrored(40)
    assert await forgotten(world) == 40
    deletes = [request for request in world.base.requests if request.op == "delete"]
    assert len(deletes) == 6 and world.base.documents == {}


async def test_another_mirror_keeps_its_rows_documents_and_facts(world: World) -> None:
    await world.mirrored(2)
    other = world.base.add("other/x.md", b"x", foreign=False).remote_id

    def claim(tx: Tx) -> None:
        held_by_another_mirror(tx, other)
        [record] = [record for record in tx.mirrors.all() if record.name != "docs"]
        tx.meta.set(MirrorFact.SETTINGS, record.id, "theirs")
        tx.meta.set(BindingFact.LAG, record.binding or 0, "7.0")

    await forgotten(world, claim)
    assert set(world.base.documents) == {other}
    assert remaining_rows(world) == {"mirror": 1, "binding": 1, "upload": 1, "serving": 1, "meta": 2}
    facts = world.read_state(lambda tx: list(tx.uploads._db.execute("SELECT value FROM meta ORDER BY key")))
    assert facts == [("7.0",), ("theirs",)]


async def test_what_cannot_be_deleted_keeps_the_mirror_and_says_so(world: World) -> None:
    await world.mirrored(5)
    kept_id = world.base.searchable("f2.md")[0].remote_id
    world.base.faults.append(Fault("delete", error=lambda: Rejected("locked"), match=kept_id, times=99))
    with pytest.raises(StillThere, match=r"1 document could not be deleted: f2\.md \(locked\); 4 were"):
        await forgotten(world)
    assert owned_by_docs(world).documents == 1
    await world.once()  # it continues: deleted documents are sent again
    assert world.searchable_texts() == world.on_disk()
    world.base.faults[:] = [Fault("delete", error=lambda: Unavailable("no route"), times=99)]
    with pytest.raises(StillThere, match="no route"):
        await forgotten(world)
    assert owned_by_docs(world).documents == 5
    world.base.faults.clear()
    assert await forgotten(world) == 5
    assert remaining_rows(world) == {} and world.base.documents == {}


async def test_what_was_deleted_before_a_kill_is_noticed_and_sent_again(tmp_path: Path) -> None:
    world = World(tmp_path, batch=4, concurrency=1)
    await world.mirrored(12)
    world.delete("f11.md")
    # The target deletes a batch, but nothing that follows is recorded.
    world.base.faults.append(Fault("delete", error=asyncio.CancelledError, effect=True))
    with pytest.raises(asyncio.CancelledError):
        await forgotten(world)
    assert 0 < len(world.base.documents) < 12
    sent = len([request for request in world.base.requests if request.op == "put"])
    left_count = len(world.base.documents)
    world.base.faults.clear()
    await world.ends_equal()
    assert len([request for request in world.base.requests if request.op == "put"]) - sent <= 12 - left_count


async def test_status_plan_and_summary_are_right_after_a_killed_forget(tmp_path: Path) -> None:
    world = World(tmp_path, batch=1, concurrency=2)
    await world.mirrored(12)
    # Three rounds of two documents each; nothing is recorded after the last.
    world.base.faults.append(Fault("delete", error=asyncio.CancelledError, effect=True, nth=5))
    with pytest.raises(asyncio.CancelledError):
        await forgotten(world)
    assert world.statuses() == {"ready": 6, "indexing": 2, "pending": 4}
    plan = await planned(world)
    assert (len(plan.upload), plan.unchanged) == (4, 6)
    sent = world.puts()
    await world.once()
    assert world.statuses() == {"ready": 12} and world.searchable_texts() == world.on_disk()
    assert 4 <= world.puts() - sent <= 6
    assert world.run.counts["uploaded"] == world.puts() - sent


async def test_killed_deletion_of_left_documents_keeps_what_was_deleted_before(tmp_path: Path) -> None:
    world = World(tmp_path, batch=2, concurrency=2)
    await world.mirrored(12)
    with closing(StateStore(world.state / "state.db")) as store:
        record = await store.read(lambda tx: tx.mirrors.named("docs"))
        assert record is not None
        await forget(store, record)
        [base] = await store.read(lambda tx: tx.forgotten.bases("docs"))
        # Three rounds of two requests each; nothing is recorded after the second round.
        world.base.faults.append(Fault("delete", error=asyncio.CancelledError, effect=True, nth=4))
        reports: list[int] = []
        with pytest.raises(asyncio.CancelledError):
            await delete_left(store, base, open_target(world), reports.append)
        [remaining] = await store.read(lambda tx: tx.forgotten.bases("docs"))
        assert (base.documents, remaining.documents, reports) == (12, 8, [4])
        world.base.faults.clear()
        await delete_left(store, remaining, open_target(world))
        assert await store.read(lambda tx: tx.forgotten.bases("docs")) == []
    assert world.base.documents == {}


async def test_ids_are_never_deleted_in_another_base(world: World) -> None:
    await world.mirrored(3)
    world.base.id = world.base.new_id()
    with pytest.raises(KbsyncError, match="aren't in the target's knowledge base"):
        await forgotten(world)
    assert len(world.base.documents) == 3 and owned_by_docs(world).documents == 3


KINDS = (
    *("audit", "audit-request", "base", "note", "pause", "polling", "resumed", "scans"),
    *("settings", "terms", "lag", "revision", "times", "writer"),
)
FACTS = [f"{kind}:1" for kind in KINDS]


async def test_documents_left_behind_are_never_deleted_in_a_base_with_an_equal_id(world: World) -> None:
    """Two servers may have the same ids, such as a server and a copy of it."""
    await world.mirrored(3)
    with closing(StateStore(world.state / "state.db")) as store:
        record = await store.read(lambda tx: tx.mirrors.named("docs"))
        assert record is not None and record.binding is not None
        number = record.binding
        own = await store.read(lambda tx: tx.mirrors.binding(number))
        assert own is not None
        other = replace(own, address="https://copy.example")
        await store.write(lambda tx: tx.forgotten.add("docs", other, ["kept"]))
        released = await release(store, record, own)
        assert released is not None and (released.base.address, released.documents) == (own.address, 3)


def test_these_are_all_facts_that_are_kept_by_mirror_or_binding() -> None:
    assert {*KINDS} == {*MirrorFact, *BindingFact}


async def test_a_later_mirror_and_binding_of_the_same_numbers_inherit_nothing(world: World) -> None:
    def set_facts(tx: Tx) -> None:
        sql = "INSERT OR REPLACE INTO meta(key, value) VALUES(?, '600')"
        tx.uploads._db.executemany(sql, ((key,) for key in FACTS))

    await world.mirrored(2)
    await forgotten(world, set_facts)
    assert remaining_rows(world) == {}
    async with world.start_mirror() as bound:
        assert (bound.mirror.id, bound.journal.binding.id) == (1, 1)
        assert bound.journal.timing.lag == 0.0 and bound.journal._times == ""
        rows = await bound.mirror.store.read(
            lambda tx: list(tx.uploads._db.execute("SELECT key FROM meta WHERE value = '600'"))
        )
        assert rows == []
