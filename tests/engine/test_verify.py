from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.core.model import Presence, UploadState
from kbsync.engine import audit
from kbsync.engine.verify import repair_request
from kbsync.errors import Rejected, Unavailable
from kbsync.source.hints import Hint, HintKind
from tests.crash.harness import Guillotine
from tests.engine.auditing import held_by_another_mirror, paths, verified
from tests.engine.machine import Obstacles
from tests.engine.world import World
from tests.memory.behaviour import Fault
from tests.memory.target import MemoryTarget
from tests.memory.variants import UpdatingMemory
from tests.share import enumerated, long


async def repair(world: World) -> dict[str, Any]:
    """Request the repairs of `verify --repair`, and let a pass carry them out."""
    request = repair_request(await verified(world))
    world.post_request("repair", **request)
    await world.once()
    return request


def twin(world: World, path: str, data: bytes) -> str:
    """Add a second document under one of our paths, as an earlier state would have left it."""
    return world.base.add(path, data, path=path, upload_id=7, foreign=False).remote_id


def fails(world: World, op: str, *, match: str = "f0.md") -> None:
    world.base.faults.append(Fault(op, error=lambda: Rejected("no can do"), match=match, times=99))


def refuse_change(world: World) -> None:
    fails(world, "put")
    world.write("f0.md", "new")


def refuse_new(world: World) -> None:
    fails(world, "put", match="new.md")
    world.write("new.md")


def refuse_deletion(world: World) -> None:
    fails(world, "delete", match=world.base.searchable("f0.md")[0].remote_id)
    world.write("f0.md", "new")


def delay(world: World) -> None:
    world.base.faults.append(Fault("put", error=lambda: Unavailable("busy"), times=10_000))
    world.write("f0.md", "new")


def edit_add_and_move(world: World) -> None:
    world.write("f0.md", "changed")
    world.write("new.md")
    world.move("f1.md", "moved.md")


CHANGED = ["f0.md", "moved.md", "new.md"]


@enumerated()
@pytest.mark.parametrize(
    ("change", "is_passed", "expected", "foreign", "why"),
    [
        (edit_add_and_move, False, {"stale": CHANGED}, 0, ""),
        (lambda world: world.write("f0.md", "text of f0"), False, {}, 0, ""),
        (lambda w: w.write(".kbsyncignore", "f3.md\n"), False, {"orphaned": ["f3.md"]}, 0, "longer selected"),
        (lambda world: world.base.add("f0.md", b"not ours either"), False, {}, 1, ""),
        (lambda world: twin(world, "f0.md", b"x"), False, {"duplicate": ["f0.md"]}, 0, "leaves it alone"),
        (delay, True, {}, 0, ""),  # pending
        (refuse_change, True, {"stale": ["f0.md"]}, 0, "no can do"),
        (refuse_new, True, {}, 0, ""),  # never searchable
        (refuse_deletion, True, {"duplicate": ["f0.md"]}, 0, "no can do"),
    ],
)
async def test_verify_findings_after_each_kind_of_change(
    world: World, change: Any, is_passed: bool, expected: dict[str, list[str]], foreign: int, why: str
) -> None:
    await world.mirrored(10)
    change(world)
    if is_passed:
        await world.once()
    findings = await verified(world)
    assert (paths(findings), findings.foreign, findings.ok) == (expected, foreign, not expected)
    assert all(why in finding.why for finding in (*findings.stale, *findings.orphaned, *findings.duplicate))


async def test_document_whose_replacement_is_not_recorded_yet_is_not_missing(world: World) -> None:
    world.target_type = UpdatingMemory
    world.base.behaviour.updates_make_new_ids = True
    await world.mirrored(3)
    world.write("f0.md", "new")
    await world.crash(Guillotine(upon=["put answer"]))
    assert world.searchable_texts()["f0.md"] == "new"
    assert (await verified(world)).ok
    await world.once()
    assert (await verified(world)).ok


async def test_document_of_a_deleted_file_is_orphaned_and_its_deletion_may_be_held(world: World) -> None:
    await world.mirrored(10)
    world.delete_many(6)
    findings = await verified(world)
    assert paths(findings) == {"orphaned": [f"f{i}.md" for i in range(6)]}
    request = repair_request(findings)
    assert request["strays"] == []  # no searchable document is deleted beyond the limits
    await repair(world)
    assert world.statuses() == {"ready": 4, "held": 6}
    assert (await verified(world)).ok  # held: the user has to approve it


async def test_documents_of_another_mirror_are_not_foreign(world: World) -> None:
    await world.mirrored(2)
    other = world.base.add("other/x.md", b"another prefix", foreign=False).remote_id
    world.change(lambda tx: held_by_another_mirror(tx, other))
    findings = await verified(world)
    assert findings.ok and findings.foreign == 0


# -- state lost ----------------------------------------------------------------------------------------


async def test_leftover_in_an_embedded_base_is_always_ours(tmp_path: Path) -> None:
    world = World(tmp_path, embedded=True)
    await world.mirrored(3)
    second, lonely = twin(world, "f0.md", b"x"), twin(world, "no-file.md", b"y")  # no row knows them
    findings = await verified(world)
    assert paths(findings) == {"orphaned": ["no-file.md"], "duplicate": ["f0.md"]}
    assert findings.foreign == 0
    strays = (await repair(world))["strays"]
    assert {stray["remote_id"] for stray in strays} == {second, lonely}
    keys = {"remote_id", "path", "name", "digest", "size", "upload", "recipe", "is_ready"}
    assert all(set(stray) == keys for stray in strays)
    assert world.searchable_texts() == world.on_disk()


async def test_document_without_a_file_is_deleted_after_a_lost_state(world: World) -> None:
    await world.mirrored(3)
    world.lose_state()
    world.delete("f0.md")
    await world.mirrored({"f1.md": "changed meanwhile"})
    assert world.searchable_texts() == world.on_disk() and len(world.base.documents) == 2


async def test_nothing_is_wrong_before_the_pass_that_adopts(tmp_path: Path) -> None:
    world = World(tmp_path, embedded=True)
    await world.mirrored(3)
    world.lose_state()
    assert paths(await verified(world)) == {}


async def test_files_are_stale_and_documents_foreign_without_any_state(world: World) -> None:
    world.write_many(2)
    world.base.add("theirs.md", b"x")
    findings = await verified(world)
    assert paths(findings) == {"stale": ["f0.md", "f1.md"]} and findings.foreign == 1
    assert list(world.state.iterdir()) == []


async def test_late_upload_is_recognized_by_its_mark(world: World) -> None:
    await world.mirrored(2)
    lost = replace(world.row_of("f0.md"), state=UploadState.DROPPED, remote_id=None)
    number = world.change(lambda tx: tx.uploads.add(lost).id)
    late = world.base.add("f0.md", b"text of f0", path="f0.md", upload_id=number, foreign=False)
    findings = await verified(world)
    assert paths(findings) == {"duplicate": ["f0.md"]}
    assert [stray["remote_id"] for stray in repair_request(findings)["strays"]] == [late.remote_id]


@long
@pytest.mark.parametrize(("age", "later"), [(0, 0), (100, 20)], ids=["at once", "old, and weeks later"])
async def test_reappeared_document_with_an_ended_row_is_removed(world: World, age: int, later: int) -> None:
    """Its row proves it ours for a month after its end, however old it is."""
    await world.mirrored(3)
    old = world.base.searchable("f0.md")[0]
    world.clock.now += age * 86400.0
    await world.mirrored({"f0.md": "new"})
    world.clock.now += later * 86400.0
    await world.once()
    world.base._documents[old.remote_id] = old
    assert paths(await verified(world)) == {"duplicate": ["f0.md"]}
    assert [stray["remote_id"] for stray in (await repair(world))["strays"]] == [old.remote_id]
    assert world.searchable_texts() == world.on_disk()


@long
async def test_document_that_survived_its_deletion_is_found_while_its_file_fails(tmp_path: Path) -> None:
    """A service such as LightRAG refuses the same text again because of that document."""
    world = World(tmp_path, list_lag=1.0)
    await world.mirrored(3)
    old = world.base.searchable("f0.md")[0]
    world.delete("f0.md")
    await world.once()
    world.base._documents[old.remote_id] = old
    fails(world, "put")
    await world.mirrored({"f0.md": "text of f0"})
    world.clock.now += 60.0
    assert paths(await verified(world)) == {"duplicate": ["f0.md"]}
    await repair(world)
    assert world.base.searchable("f0.md") == []


@long
@pytest.mark.parametrize(("days", "is_kept"), [(20, True), (40, False)])
async def test_row_of_a_deleted_document_is_removed_after_a_month(
    world: World, days: int, is_kept: bool
) -> None:
    await world.mirrored(3)
    remote_id = world.row_of("f0.md").remote_id
    world.clock.now += 100 * 86400.0
    world.delete("f0.md")
    await world.once()
    world.clock.now += days * 86400.0
    await world.once()
    assert bool(world.read_state(lambda tx: tx.uploads.by_remote(1, remote_id))) is is_kept


async def test_copy_with_our_mark_is_removed_when_its_file_is_gone(world: World) -> None:
    await world.mirrored(3)
    number = world.row_of("f0.md").id
    world.delete("f0.md")
    await world.once()
    copy = world.base.add("f0.md", b"text of f0", path="f0.md", upload_id=number, foreign=False)
    assert paths(await verified(world)) == {"orphaned": ["f0.md"]}
    assert [stray["remote_id"] for stray in (await repair(world))["strays"]] == [copy.remote_id]
    assert world.searchable_texts() == world.on_disk()
    assert (await verified(world)).ok


# -- during other work -----------------------------------------------------------------------------------


def serve_another(world: World) -> None:
    late = world.base.add("late.md", b"late", foreign=False).remote_id
    world.write("late.md", "late")
    new = replace(world.row_of("f0.md"), path="late.md", label="late.md", remote_id=late)
    world.change(lambda tx: tx.uploads.add(new))


def end_the_row(world: World) -> None:
    row = replace(world.row_of("f0.md"), state=UploadState.GONE)
    world.change(lambda tx: tx.uploads.save(row))


def lose_the_newest(world: World) -> None:
    world.base.lose(list(world.base.documents)[-1])


@pytest.mark.parametrize(
    ("before", "moment", "meddle"),
    [
        (lambda world: None, "list", serve_another),
        (lambda world: world.base.lose(world.row_of("f0.md").remote_id), "status", end_the_row),
        (lambda world: twin(world, "gone.md", b"x"), "list", lose_the_newest),
    ],
)
async def test_documents_ending_or_starting_during_the_audit_are_not_findings(
    tmp_path: Path, before: Any, moment: str, meddle: Any
) -> None:
    world = World(tmp_path, embedded=True)
    await world.mirrored(3)
    before(world)

    class Meddling(MemoryTarget):
        async def list(self) -> Any:
            async for row in super().list():
                yield row
            if moment == "list":
                meddle(world)

        async def status(self, ids: Any) -> Any:
            if moment == "status":
                meddle(world)
            return await super().status(ids)

    findings = await verified(world, Meddling(world.base, limits=world.limits, clock=world.clock.wall))
    assert (findings.missing, findings.orphaned, findings.duplicate, findings.foreign) == ((), (), (), 0)


async def test_document_in_flight_is_neither_foreign_nor_a_leftover(world: World) -> None:
    await world.mirrored(2)
    sending = replace(
        world.row_of("f0.md"), path="g.md", label="g.md", state=UploadState.SENDING, remote_id=None
    )
    number = world.change(lambda tx: tx.uploads.add(sending).id)
    world.base.add("g.md", b"text of f0", path="g.md", upload_id=number, foreign=False)
    findings = await verified(world)
    assert findings.foreign == 0 and findings.duplicate == () and findings.orphaned == ()


async def test_changes_of_the_last_seconds_are_left_to_a_running_kbsync(world: World) -> None:
    world.clock.epoch -= 1000  # the files' own wall clock
    await world.mirrored(10)
    world.settings = replace(world.settings, settle=60.0)
    world.write("f0.md", "changed")
    world.delete("f1.md")
    assert paths(await verified(world)) == {"stale": ["f0.md"], "orphaned": ["f1.md"]}
    assert (await verified(world, watched=True)).ok
    world.clock.now += 120
    assert paths(await verified(world, watched=True)) == {"stale": ["f0.md"], "orphaned": ["f1.md"]}


async def test_missing_root_halts_verify_and_reports_no_orphans(world: World) -> None:
    await world.mirrored(3)
    world.base.lose(world.base.searchable("f0.md")[0].remote_id)
    world.root.rename(world.root.parent / "away")
    findings = await verified(world)
    assert paths(findings) == {"missing": ["f0.md"]}
    assert findings.halt is not None and findings.halt.reason == "folder-missing" and not findings.ok


async def test_interrupted_list_is_no_audit(world: World) -> None:
    await world.mirrored(3)
    world.base.faults.append(Fault("list", error=lambda: Unavailable("reset"), rows=1))
    with pytest.raises(Unavailable):
        await verified(world)


async def test_more_documents_than_a_page_are_audited(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PAGE", 20)
    await world.mirrored(45)
    for remote_id in list(world.base.documents)[::10]:
        world.base.lose(remote_id)
    assert len((await verified(world)).missing) == 5


async def test_ids_of_a_deleted_base_do_not_match_the_next_one(world: World) -> None:
    await world.mirrored(2)
    world.base.lose(world.base.searchable("f0.md")[0].remote_id)
    twin(world, "f1.md", b"text of f1")
    request = repair_request(await verified(world))
    world.base.recreate()
    await world.once()
    ids = [world.base.searchable(path)[0].remote_id for path in ("f0.md", "f1.md")]
    request["missing"] = ids[:1]  # bases that number their documents begin with 1 again
    request["strays"] = [stray | {"remote_id": ids[1], "upload": None} for stray in request["strays"]]
    puts, deletes = world.puts(), world.requests("delete")
    world.post_request("repair", **request)
    await world.once()
    assert (world.puts(), world.requests("delete")) == (puts, deletes)
    assert world.searchable_texts() == world.on_disk()


async def test_file_that_could_not_be_checked_once_is_resent_when_its_document_is_lost(world: World) -> None:
    world.write("d/a.md", "text of a")
    await world.mirrored(3)
    obstacles = Obstacles()
    obstacles.blocked_paths.add(str(world.root / "d"))
    with obstacles.standing():
        async with world.start_mirror() as bound:
            await bound.reconciler.take_hints([Hint("d/a.md", HintKind.FILE)])
    await world.once()
    world.base.remove(world.row_of("d/a.md").remote_id)
    assert paths(await verified(world)) == {"missing": ["d/a.md"]}
    await repair(world)
    assert world.searchable_texts() == world.on_disk()
    assert world.statuses() == {"ready": 4}


async def test_file_that_could_not_be_checked_once_is_deleted_once_it_is_missing(world: World) -> None:
    world.write("d/a.md", "text of a")
    await world.mirrored(6)
    world.change(lambda tx: tx.entries.set_presence(world.run.id, "d/a.md", Presence.UNKNOWN))
    world.delete("d/a.md")
    await world.ends_equal()
