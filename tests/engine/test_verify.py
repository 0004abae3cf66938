from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.core.model import UploadState
from kbsync.engine.plan import CommandContext
from kbsync.engine.verify import Verification, repair_request, verify_mirror
from kbsync.errors import Rejected, Unavailable
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore
from tests.engine.read_only_commands import open_target, state_of
from tests.engine.world import World
from tests.memory.behaviour import Behaviour, Failure, Fault
from tests.memory.target import MemoryTarget
from tests.memory.variants import AbleMemory, UpdatingMemory


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def verified(
    world: World, *, watched: bool = False, target: MemoryTarget | None = None
) -> Verification:
    with state_of(world) as state:
        return await verify_mirror(
            world.settings,
            target or open_target(world),
            state,
            world.clock,
            CommandContext(world.configured, at_work=watched),
        )


async def repair(world: World) -> dict[str, Any]:
    """Ask for what `verify --repair` asks for, and let a pass carry it out."""
    wanted = repair_request(await verified(world))
    world.tell("repair", **wanted)
    await world.once()
    return wanted


def paths(verification: Verification) -> dict[str, list[str]]:
    """What was found, without empty lists."""
    kinds = ("missing", "stale", "orphaned", "duplicate")
    return {kind: found for kind in kinds if (found := verification.to_json()[kind])}


@pytest.mark.parametrize("target", [MemoryTarget, UpdatingMemory, AbleMemory])
async def test_a_whole_mirror_is_ok(tmp_path: Path, target: type[MemoryTarget]) -> None:
    world = World(tmp_path, target)
    world.write_many(5)
    world.write("image.png", "x")
    await world.once()
    assert (await verified(world)).to_json() == {
        "name": "docs", "ok": True, "missing": [], "stale": [], "orphaned": [], "duplicate": [], "foreign": 0,
    }  # fmt: skip


async def test_a_base_that_lost_most_documents_can_be_verified_and_repaired(world: World) -> None:
    world.write_many(10)
    await world.once()
    for remote_id in list(world.base.documents)[:7]:
        world.base.lose(remote_id)
    assert len((await verified(world)).missing) == 7


async def test_a_changed_file_is_stale_until_something_is_pending(world: World) -> None:
    world.write_many(3)
    await world.once()
    world.write("f0.md", "changed")
    world.write("new.md")
    world.move("f1.md", "moved.md")
    assert paths(await verified(world)) == {"stale": ["f0.md", "moved.md", "new.md"]}
    world.base.faults.append(Fault("put", error=lambda: Unavailable("busy"), times=10_000))
    await world.once()
    assert (await verified(world)).stale == ()


async def test_touched_files_with_equal_bytes_are_not_stale(world: World) -> None:
    path = world.write("a.md", "same")
    await world.once()
    path.write_text("same")
    assert (await verified(world)).ok


async def test_a_stale_file_is_looked_at_again_by_a_repair(world: World) -> None:
    world.write_many(3)
    await world.once()
    world.write("f0.md", "changed")
    assert (await repair(world))["stale"] == ["f0.md"]
    assert world.served() == world.on_disk()


async def test_a_refused_change_is_stale_while_its_old_version_serves(world: World) -> None:
    world.write("a.md", "old")
    await world.once()
    world.base.behaviour = Behaviour(failures=[Failure("a.md", times=99, reason="no can do")])
    world.write("a.md", "new")
    await world.once()
    found = await verified(world)
    assert paths(found) == {"stale": ["a.md"]} and "no can do" in found.stale[0].why


async def test_a_failure_that_never_served_is_no_finding(world: World) -> None:
    world.base.faults.append(Fault("put", error=lambda: Rejected("too ugly"), match="a.md", times=99))
    world.write("a.md")
    await world.once()
    assert (await verified(world)).ok


async def test_the_document_of_a_deleted_file_is_orphaned_and_goes_through_the_brake(world: World) -> None:
    world.write_many(10)
    await world.once()
    world.delete_many(6)
    found = await verified(world)
    assert paths(found) == {"orphaned": [f"f{i}.md" for i in range(6)]}
    wanted = repair_request(found)
    assert wanted["strays"] == []  # nothing that serves is deleted past the brake
    await repair(world)
    assert world.statuses() == {"ready": 4, "held": 6}
    assert (await verified(world)).ok  # held: a person was asked


async def test_a_deselected_file_leaves_an_orphan(world: World) -> None:
    world.write_many(10)
    await world.once()
    world.write(".kbsyncignore", "f3.md\n")
    found = await verified(world)
    assert paths(found) == {"orphaned": ["f3.md"]} and "no longer selected" in found.orphaned[0].why


async def test_others_documents_are_counted_and_nothing_else(world: World) -> None:
    world.write_many(2)
    world.base.add("theirs.md", b"not ours")
    world.base.add("f0.md", b"not ours either")
    await world.once()
    found = await verified(world)
    assert found.ok and found.foreign == 2
    assert not repair_request(found)


async def test_another_mirrors_documents_are_not_foreign(world: World) -> None:
    world.write_many(2)
    await world.once()
    other = world.base.add("other/x.md", b"another prefix", foreign=False)

    def claim(tx: Tx) -> None:
        mine = tx.mirrors.named("docs")
        assert mine is not None and mine.binding is not None
        row = tx.uploads.in_states(mine.id, mine.binding, (UploadState.SERVING,))[0]
        there = tx.mirrors.add("other", "/srv/other", "memory")
        base = tx.mirrors.binding(mine.binding)
        assert base is not None
        binding = tx.mirrors.bind_to(there.id, base.target, base.address, base.base, "other/")
        tx.uploads.add(replace(row, mirror=there.id, binding=binding, path="x.md", remote_id=other.remote_id))

    world.change(claim)
    found = await verified(world)
    assert found.ok and found.foreign == 0


# -- state lost ----------------------------------------------------------------------------------------


def twin(world: World, path: str, data: bytes) -> str:
    """A second document under a path of ours, as an earlier state would have left it."""
    return world.base.add(path, data, path=path, upload_id=7, foreign=False).remote_id


async def test_a_leftover_with_other_bytes_is_a_duplicate_and_left_alone(world: World) -> None:
    left = twin(world, "f0.md", b"older text")
    world.write_many(3)
    await world.once()
    found = await verified(world)
    assert paths(found) == {"duplicate": ["f0.md"]} and "left alone" in found.duplicate[0].why
    assert not repair_request(found)
    await repair(world)
    assert left in world.base.documents


async def test_in_an_embedded_base_a_leftover_can_only_be_ours(tmp_path: Path) -> None:
    world = World(tmp_path, embedded=True)
    left = twin(world, "f0.md", b"older text")
    world.write_many(3)
    await world.once()
    assert [stray["remote_id"] for stray in repair_request(await verified(world))["strays"]] == [left]
    await repair(world)
    assert world.served() == world.on_disk()


async def test_a_leftover_without_a_file_is_orphaned(world: World) -> None:
    twin(world, "gone.md", b"text")
    world.write_many(3)
    await world.once()
    found = await verified(world)
    assert paths(found) == {"orphaned": ["gone.md"]} and not repair_request(found)


async def test_before_the_pass_that_adopts_nothing_is_wrong(tmp_path: Path) -> None:
    world = World(tmp_path, embedded=True)
    world.write_many(3)
    await world.once()
    world.lose_state()
    assert paths(await verified(world)) == {}


async def test_without_any_state_files_are_stale_and_documents_foreign(world: World) -> None:
    world.write_many(2)
    world.base.add("theirs.md", b"x")
    found = await verified(world)
    assert paths(found) == {"stale": ["f0.md", "f1.md"]} and found.foreign == 1
    assert list(world.state.iterdir()) == []


async def test_a_document_no_row_knows_is_a_stray_of_an_embedded_base(tmp_path: Path) -> None:
    world = World(tmp_path, embedded=True)
    world.write_many(3)
    await world.once()
    second, lonely = twin(world, "f0.md", b"x"), twin(world, "no-file.md", b"y")
    found = await verified(world)
    assert paths(found) == {"orphaned": ["no-file.md"], "duplicate": ["f0.md"]} and found.foreign == 0
    wanted = repair_request(found)
    assert {stray["remote_id"] for stray in wanted["strays"]} == {second, lonely}
    told = wanted["strays"][0]
    assert set(told) == {"remote_id", "path", "name", "digest", "size", "upload", "recipe", "is_ready"}


async def test_elsewhere_a_document_no_row_knows_is_foreign(world: World) -> None:
    world.write_many(3)
    await world.once()
    twin(world, "f0.md", b"x")
    found = await verified(world)
    assert found.ok and found.foreign == 1


async def test_a_late_upload_is_known_by_its_mark(world: World) -> None:
    world.write_many(2)
    await world.once()
    row = world.look_up(lambda tx: tx.uploads.at(world.run.mirror, 1, "f0.md"))[0]
    lost = replace(row, state=UploadState.DROPPED, remote_id=None)

    def add(tx: Tx) -> int:
        return tx.uploads.add(lost).id

    number = world.change(add)
    late = world.base.add("f0.md", b"text of f0", path="f0.md", upload_id=number, foreign=False)
    found = await verified(world)
    assert paths(found) == {"duplicate": ["f0.md"]}
    assert [stray["remote_id"] for stray in repair_request(found)["strays"]] == [late.remote_id]


async def test_a_document_that_came_back_after_its_row_ended_is_removed(world: World) -> None:
    world.write_many(3)
    await world.once()
    old = world.base.served("f0.md")[0]
    world.write("f0.md", "new")
    await world.once()
    world.base._documents[old.remote_id] = old
    found = await verified(world)
    assert paths(found) == {"duplicate": ["f0.md"]}
    assert [stray["remote_id"] for stray in repair_request(found)["strays"]] == [old.remote_id]
    await repair(world)
    assert world.served() == world.on_disk()


async def test_a_refused_deletion_is_reported_with_the_targets_words(world: World) -> None:
    world.write_many(3)
    await world.once()
    world.base.faults.append(Fault("delete", error=lambda: Rejected("locked by an admin"), times=10_000))
    world.write("f0.md", "new")
    await world.once()
    found = await verified(world)
    assert paths(found) == {"duplicate": ["f0.md"]} and "locked by an admin" in found.duplicate[0].why


# -- while things go on ----------------------------------------------------------------------------------


class Meddling(MemoryTarget):
    """Does something while the list is read."""

    meddle: Callable[[str], None] = staticmethod(lambda moment: None)

    async def list(self) -> Any:
        self.meddle("before")
        async for row in super().list():
            yield row
        self.meddle("after")

    async def status(self, ids: Any) -> Any:
        self.meddle("status")
        return await super().status(ids)


async def meddled(world: World, meddle: Callable[[str], None], *, watched: bool = False) -> Verification:
    target = Meddling(world.base, limits=world.limits, clock=world.clock.wall)
    target.meddle = meddle  # type: ignore[method-assign]
    return await verified(world, watched=watched, target=target)


async def test_a_document_added_after_the_list_is_not_missing(world: World) -> None:
    world.write_many(3)
    await world.once()

    def meddle(moment: str) -> None:
        if moment == "after":
            late = world.base.add("late.md", b"late", foreign=False)
            world.change(lambda tx: serve_also(tx, world, late.remote_id))
            world.write("late.md", "late")

    found = await meddled(world, meddle)
    assert found.missing == () and found.duplicate == () and found.foreign == 0


def serve_also(tx: Tx, world: World, remote_id: str) -> None:
    row = tx.uploads.at(world.run.mirror, 1, "f0.md")[0]
    tx.uploads.add(replace(row, path="late.md", label="late.md", remote_id=remote_id))


async def test_a_document_deleted_during_the_audit_is_not_missing(world: World) -> None:
    world.write_many(3)
    await world.once()
    gone = world.base.served("f0.md")[0].remote_id
    world.base.lose(gone)

    def meddle(moment: str) -> None:
        if moment == "status":
            world.change(lambda tx: end(tx, world, "f0.md"))

    found = await meddled(world, meddle)
    assert found.missing == ()


def end(tx: Tx, world: World, path: str) -> None:
    row = tx.uploads.at(world.run.mirror, 1, path)[0]
    tx.uploads.save(replace(row, state=UploadState.GONE))


async def test_a_stray_that_is_deleted_during_the_audit_is_not_reported(tmp_path: Path) -> None:
    world = World(tmp_path, embedded=True)
    world.write_many(3)
    await world.once()
    stray = twin(world, "gone.md", b"x")

    def meddle(moment: str) -> None:
        if moment == "after":
            world.base.lose(stray)

    assert (await meddled(world, meddle)).ok


async def test_a_document_in_flight_is_neither_foreign_nor_a_stray(world: World) -> None:
    world.write_many(2)
    await world.once()
    row = world.look_up(lambda tx: tx.uploads.at(world.run.mirror, 1, "f0.md"))[0]

    store = StateStore(world.state / "state.db")
    sending = replace(row, path="g.md", label="g.md", state=UploadState.SENDING, remote_id=None)
    number = store.submit(lambda tx: tx.uploads.add(sending).id).result()
    store.close()
    world.base.add("g.md", b"text of f0", path="g.md", upload_id=number, foreign=False)
    found = await verified(world)
    assert found.foreign == 0 and found.duplicate == () and found.orphaned == ()


async def test_what_changed_seconds_ago_is_the_business_of_a_running_kbsync(world: World) -> None:
    world.clock.started -= 1000  # the wall clock of the files themselves
    world.write_many(10)
    await world.once()
    world.settings = replace(world.settings, settle=60.0)
    world.write("f0.md", "changed")
    world.delete("f1.md")
    assert paths(await verified(world)) == {"stale": ["f0.md"], "orphaned": ["f1.md"]}
    assert (await verified(world, watched=True)).ok
    world.clock.now += 120
    assert paths(await verified(world, watched=True)) == {"stale": ["f0.md"], "orphaned": ["f1.md"]}


async def test_a_missing_root_halts_the_comparison_and_reports_no_orphans(world: World) -> None:
    world.write_many(3)
    await world.once()
    world.base.lose(world.base.served("f0.md")[0].remote_id)
    world.root.rename(world.root.parent / "away")
    found = await verified(world)
    assert paths(found) == {"missing": ["f0.md"]}
    assert found.halt is not None and found.halt.reason == "folder-missing" and not found.ok


async def test_a_list_that_breaks_off_is_no_audit(world: World) -> None:
    world.write_many(3)
    await world.once()
    world.base.faults.append(Fault("list", error=lambda: Unavailable("reset"), rows=1))
    with pytest.raises(Unavailable):
        await verified(world)


async def test_names_that_are_not_utf8_are_audited(world: World) -> None:
    name = os.fsdecode(b"caf\xe9.md")
    world.write(name, "one")
    await world.once()
    assert (await verified(world)).ok
    world.write(name, "two")
    assert [one.path for one in (await verified(world)).stale] == [name]


async def test_more_documents_than_a_page_are_audited(world: World) -> None:
    world.write_many(450)
    await world.once()
    for remote_id in list(world.base.documents)[::100]:
        world.base.lose(remote_id)
    assert len((await verified(world)).missing) == 5
