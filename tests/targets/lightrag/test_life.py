"""Tests mirrors at LightRAG: each text once, one job at a time, names that prove everything."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kbsync.accounts.account import Answerer, Question, account_of
from kbsync.accounts.lightrag import SERVER_ID
from kbsync.contract.searching import Query
from kbsync.contract.target import Accepted, DocState
from kbsync.core.model import SERVING
from kbsync.errors import Halted, Rejected, Unavailable
from kbsync.targets.lightrag.shapes import document_id
from kbsync.targets.lightrag.target import RECENT
from kbsync_standin.faults import Fault
from tests.remote.world import sha_of_folder
from tests.services.lightrag import LightragWorld, ServedLightrag
from tests.share import enumerated, long


async def test_renamed_file_is_deleted_under_its_old_name_before_it_is_uploaded(world: LightragWorld) -> None:
    await world.mirrored({"guides/a.md": "about kestrels"})
    [old] = world.documents_of("guides/a.md")
    world.move("guides/a.md", "b.md")
    await world.once()
    [new] = world.documents_of("b.md")
    assert [entry["name"] for entry in world.effects("stored")] == [old["sent_name"], new["sent_name"]]
    effects = [(entry["effect"], entry["name"]) for entry in world.app.journal()]
    assert effects.index(("deleted", old["sent_name"])) < effects.index(("stored", new["sent_name"]))
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)


@long
async def test_files_that_exchange_names_become_searchable_again(world: LightragWorld) -> None:
    """Each text exists already under the other name, so one of the documents is deleted first."""
    world.write_many(8)
    await world.mirrored({"a.md": "about kestrels", "b.md": "about herons"})
    world.move("a.md", "c.md")
    world.move("b.md", "a.md")
    world.move("c.md", "b.md")
    await world.ends_equal()
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)


async def test_one_of_two_equal_files_fails_naming_the_other(world: LightragWorld) -> None:
    await world.mirrored({"a.md": "about kestrels"})
    [first] = world.documents_of("a.md")
    await world.mirrored({"copy.md": "about kestrels"})
    assert world.statuses() == {"failed": 1, "ready": 1}
    [failed] = [row for row in world.rows() if row.path == "copy.md" and row.reason]
    assert first["sent_name"] in failed.reason


@long
async def test_copy_replaces_the_first_when_that_is_deleted(world: LightragWorld) -> None:
    world.write_many(8)
    await world.mirrored({"a.md": "about kestrels", "copy.md": "about kestrels"})
    [ready] = [path for path in ("a.md", "copy.md") if world.bytes_by_path(searchable=True).get(path)]
    world.delete(ready)
    for _ in range(3):
        world.clock.now += 100
        world.post_request("retry")
        await world.once()
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)


@long
async def test_file_renamed_during_a_lost_state_is_searchable_by_its_new_name(world: LightragWorld) -> None:
    world.write_many(3)
    await world.mirrored({"a.md": "about kestrels"})
    world.lose_state()
    world.move("a.md", "b.md")
    await world.once()
    assert world.statuses() == {"ready": 4}
    assert world.bytes_by_path(searchable=True) == world.bytes_by_path() == sha_of_folder(world)


async def test_text_is_resent_only_when_the_failed_document_is_deleted(world: LightragWorld) -> None:
    await world.mirrored({"a.md": "about kestrels"})
    world.lose_state()
    world.move("a.md", "b.md")
    world.play("busy", op="delete", match="b~*", times=2)
    await world.once()
    assert world.bytes_by_path(searchable=True) == world.bytes_by_path() == sha_of_folder(world)
    assert len(world.effects("stored")) == 3


@long
async def test_busy_server_is_not_reported_as_an_outage(world: LightragWorld) -> None:
    """A pass ends anyway, because only a running kbsync can wait for as long as the server needs."""
    world.write_many(8)
    await world.mirrored({"a.md": "about kestrels"})
    world.delete("a.md")
    world.play("busy", op="delete", times=0)
    shown = list[str]()
    world.watch(["delete"], lambda _: shown.append(world.halted))
    end = await world.once()
    assert "Pipeline is busy" in end.problem
    assert len(shown) > 5 and set(shown) == {""} and world.halted == ""
    world.server.faults.clear()
    await world.ends_equal()


@long
async def test_renamed_file_with_a_failed_document_is_found_after_a_lost_state(world: LightragWorld) -> None:
    world.write("a.md", "about kestrels")
    world.play("fails", op="upload", times=0)
    await world.once()
    assert world.statuses() == {"failed": 1}
    world.server.faults.clear()
    world.lose_state()
    world.move("a.md", "b.md")
    await world.once()
    assert world.bytes_by_path(searchable=True) == world.bytes_by_path() == sha_of_folder(world)


@long
async def test_refused_key_of_the_servers_model_halts_and_blames_no_document(
    world: LightragWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = "C[1/1]: chunk-e1: Error code: 401 - {'error': {'message': 'Incorrect API key provided: sk-***'}}"
    monkeypatch.setattr("kbsync_standin.lightrag.storage.FAILED", error)
    world.play("fails", op="upload", times=0)
    await world.mirrored(3)
    assert world.halted == "target-rejects" and world.run.halt is not None
    assert "Incorrect API key provided" in world.run.halt.detail
    assert "failed" not in world.statuses()
    world.server.faults.clear()
    for _ in range(3):
        world.clock.now += 90
        await world.once()
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    assert world.halted == ""


@long
async def test_file_that_the_server_cannot_queue_fails_with_its_reason(world: LightragWorld) -> None:
    """The server records the failure under an id that doesn't follow from the name."""
    world.write_many(2)
    world.write("a.md", "about kestrels")
    world.play("not-queued", op="upload", match="a~*", times=0)
    await world.once()
    assert world.statuses() == {"failed": 1, "ready": 2}
    [failed] = [row for row in world.rows() if row.path == "a.md" and row.code]
    assert failed.reason == "Failed to enqueue file for parser: connection to server was lost"
    assert len(world.app.documents) == 3  # the records of earlier tries are gone
    world.server.faults.clear()
    world.clock.now += 100
    world.post_request("retry")
    await world.once()
    assert world.bytes_by_path(searchable=True) == world.bytes_by_path() == sha_of_folder(world)
    assert (await world.verify()).ok


@long
async def test_record_of_a_file_that_could_not_be_queued_is_deleted_with_the_file(
    world: LightragWorld,
) -> None:
    world.write_many(8)
    world.write("a.md", "about kestrels")
    world.play("not-queued", op="upload", match="a~*", times=0)
    await world.once()
    world.delete("a.md")
    world.clock.now += 100
    await world.once()
    assert world.app.documents.keys() == {document_id(row["sent_name"]) for row in world.documents()}
    assert world.bytes_by_path() == sha_of_folder(world)
    assert (await world.verify()).ok


async def test_record_of_a_failed_upload_is_its_name_unless_a_document_has_that(
    served_world: ServedLightrag,
) -> None:
    name = served_world.document("a.md", "kestrel").name
    record = served_world.app.store(name, b"kestrel", "not-queued").id
    [row] = await served_world.rows()
    assert (row.remote_id, row.name, document_id(record)) == (name, name, record)
    assert (await served_world.target.status([name]))[name].state is DocState.FAILED
    served_world.app.store(name, b"kestrel")
    await served_world.pass_time(10)
    assert {row.remote_id for row in await served_world.rows()} == {name, record}
    assert (await served_world.target.status([name]))[name].state is DocState.READY
    assert await served_world.target.delete([record, name]) == {record: None, name: None}
    assert await served_world.rows() == []


async def test_text_far_down_the_list_is_named_when_it_blocks_another(served_world: ServedLightrag) -> None:
    [first] = await served_world.make_ready(served_world.document("a.md", "kestrel"))
    for number in range(RECENT + 1):
        served_world.app.put_foreign({"name": f"their-{number}.md", "text": f"ibis {number}"})
    await served_world.pass_time(10)
    [repeated] = await served_world.target.put([served_world.document("b.md", "kestrel")])
    assert isinstance(repeated, Accepted)
    await served_world.pass_time(10)
    [mirror_status] = (await served_world.target.status([repeated.remote_id])).values()
    assert (mirror_status.state, mirror_status.twin) == (DocState.FAILED, first)
    assert first in mirror_status.reason


@long
async def test_deletion_during_indexing_waits_for_the_server(world: LightragWorld) -> None:
    await world.mirrored(8)
    world.app.set_behaviour({"vectorize": [20, 20]})
    world.delete("f0.md")
    await world.mirrored({"new.md": "takes long"})
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)


@long
async def test_continuous_edits_do_not_keep_old_versions_searchable_forever(world: LightragWorld) -> None:
    """The server deletes nothing while it is indexing, and would always have something to index."""
    world.turn(vectorize=(4.0, 4.0))
    await world.mirrored(20)
    async with world.start_mirror() as bound:
        for number in range(90):
            world.write(f"f{number % 20}.md", f"version {number}")
            await bound.compare()
            await world.clock.sleep(2.0)
        assert len(world.documents()) < 2 * 20
    await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)
    assert len(world.effects("stored")) == 20 + 90, "each version is uploaded once"


async def test_upload_during_foreign_deletions_is_only_delayed(world: LightragWorld) -> None:
    world.play("clearing", op="upload", times=3)
    await world.mirrored({"a.md": "about kestrels"})
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    assert len(world.effects("stored")) == 1


async def test_upload_waits_until_the_server_has_deleted(served_world: ServedLightrag) -> None:
    """The server would refuse the upload after receiving all of it."""
    [remote_id] = await served_world.make_ready(served_world.document("a.md", "kestrel"))
    served_world.app.set_behaviour({"deleting": 2.0})
    served_world.server.requests.clear()
    deletion = asyncio.create_task(served_world.target.delete([remote_id]))
    while not served_world.server.requests.by_op["delete"]:
        await asyncio.sleep(0)
    [outcome] = await served_world.target.put([served_world.document("b.md", "heron")])
    assert isinstance(outcome, Accepted)
    assert served_world.server.requests.by_op["upload"] == 1
    assert await deletion == {remote_id: None}


async def test_two_calls_may_delete_one_document(served_world: ServedLightrag) -> None:
    [remote_id] = await served_world.make_ready(served_world.document("a.md", "kestrel"))
    outcomes = await asyncio.gather(*(served_world.target.delete([remote_id]) for _ in range(3)))
    assert list(outcomes) == [{remote_id: None}] * 3
    assert served_world.server.requests.by_op["delete"] == 2
    assert served_world.app.violations == []


@long
async def test_renamed_file_with_a_refused_new_name_is_found_under_the_old_one(world: LightragWorld) -> None:
    await world.mirrored({"a.md": "about kestrels"})
    world.move("a.md", "b.md")
    world.play("refused", op="upload", match="b*", times=0)
    await world.once()
    assert world.statuses() == {"failed": 1}
    world.clock.now += 10
    assert list(world.bytes_by_path(searchable=True)) == ["a.md"]
    world.server.faults.clear()
    world.post_request("retry")
    await world.ends_equal()


def seeming(world: LightragWorld) -> list[str | None]:
    """Return paths whose document serves according to the state, but doesn't exist."""
    stored_names = {document["sent_name"] for document in world.documents()}
    return [row.path for row in world.rows(*SERVING) if row.remote_id not in stored_names]


@long
async def test_renamed_file_refused_under_every_name_fails_and_is_not_reported_present(
    world: LightragWorld,
) -> None:
    await world.mirrored({"a.md": "about kestrels"})
    world.move("a.md", "b.md")
    world.play("refused", op="upload", times=2)
    await world.once()
    [failed] = [row for row in world.rows() if row.path == "b.md" and row.reason]
    assert "the server also refused the old name" in failed.reason
    assert world.statuses() == {"failed": 1}
    assert seeming(world) == []
    world.post_request("retry")
    await world.ends_equal()


async def test_renamed_file_is_restored_after_a_busy_server_refused_it(world: LightragWorld) -> None:
    await world.mirrored({"a.md": "about kestrels"})
    world.move("a.md", "b.md")
    world.play("refused", op="upload", match="b*", times=0)
    world.play("clearing", op="upload", match="a*", times=2)
    await world.once()
    assert world.statuses() == {"failed": 1}
    assert list(world.bytes_by_path()) == ["a.md"]
    assert seeming(world) == []


@long
@enumerated()
@pytest.mark.parametrize("kind", ["clearing", "status"])
async def test_no_document_is_reported_present_while_a_renamed_file_is_refused(
    world: LightragWorld, kind: str
) -> None:
    world.write_many(3)
    await world.mirrored({"a.md": "about kestrels"})
    world.move("a.md", "b.md")
    world.play(kind, op="upload", times=0, effect=False)
    end = await world.once(budget=10.0)
    assert not end.complete
    assert world.statuses() == {"ready": 3, "pending": 1}
    assert seeming(world) == []
    world.server.faults.clear()
    world.clock.now += 100
    for _ in range(2):
        await world.once()
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)


async def test_refused_key_during_a_rename_halts(served_world: ServedLightrag) -> None:
    [old] = await served_world.make_ready(served_world.document("a.md", "kestrel"))
    served_world.server.faults.add(Fault("unauthorized", op="delete"))
    [outcome] = await served_world.target.put([served_world.document("b.md", "kestrel", replaces=old)])
    assert isinstance(outcome, Halted)


@pytest.mark.parametrize("kind", ["refused", "clearing"])
async def test_refused_upload_that_replaces_nothing_is_sent_once(
    served_world: ServedLightrag, kind: str
) -> None:
    """Only after a deletion does kbsync send a file under its old name, or report its document as gone."""
    served_world.server.faults.add(Fault(kind, op="upload", times=0))
    [outcome] = await served_world.target.put([served_world.document("b.md", "kestrel")])
    assert isinstance(outcome, Rejected | Unavailable)
    assert not outcome.has_removed
    assert served_world.server.requests.by_op["upload"] == 1


async def test_document_under_the_old_name_is_not_reported_as_gone(served_world: ServedLightrag) -> None:
    """Somebody, such as another kbsync, was faster to upload it again."""
    [old] = await served_world.make_ready(served_world.document("a.md", "kestrel"))
    served_world.server.faults.add(Fault("refused", op="upload"))
    stored = {"detail": "Document storage already contains 'a.md'."}
    served_world.server.faults.add(Fault("status", op="upload", args={"status": 409, "body": stored}))
    [outcome] = await served_world.target.put([served_world.document("b.md", "kestrel", replaces=old)])
    assert isinstance(outcome, Rejected)
    assert not outcome.has_removed and "old name" not in outcome.reason


async def test_long_deletion_is_resumed_later(served_world: ServedLightrag) -> None:
    [remote_id] = await served_world.make_ready(served_world.document("a.md", "kestrel"))
    served_world.server.faults.add(Fault("slow", op="delete"))
    [outcome] = (await served_world.target.delete([remote_id])).values()
    assert isinstance(outcome, Unavailable)
    await served_world.pass_time(100)
    assert await served_world.target.delete([remote_id]) == {remote_id: None}


async def test_documents_that_survive_deletion_are_no_success(served_world: ServedLightrag) -> None:
    [remote_id] = await served_world.make_ready(served_world.document("a.md", "kestrel"))
    served_world.server.faults.add(Fault("keeps-document", op="delete"))
    served_world.server.faults.add(Fault("miscounts", op="deletion"))
    [outcome] = (await served_world.target.delete([remote_id])).values()
    assert isinstance(outcome, Unavailable)
    assert outcome.code == "still-there"


@pytest.mark.parametrize(
    ("message", "is_done"),
    [
        ("Deletion completed: 1 successful, 0 failed", True),
        ("Deletion completed: 0 successful, 1 failed", False),
        ("Deletion completed: 11 successful, 0 failed", False),
        ("Deleting document 1/1: doc-1", False),
        (None, False),
    ],
)
async def test_list_is_read_unless_the_server_says_that_it_deleted_all(
    served_world: ServedLightrag, message: Any, is_done: bool
) -> None:
    [remote_id] = await served_world.make_ready(served_world.document("a.md", "kestrel"))
    body = {"busy": True, "destructive_busy": False, "latest_message": message}
    served_world.server.faults.add(Fault("status", op="deletion", args={"status": 200, "body": body}))
    served_world.server.requests.clear()
    assert await served_world.target.delete([remote_id]) == {remote_id: None}
    assert (served_world.server.requests.by_op["list"] == 0) is is_done


async def test_record_of_a_refused_upload_is_not_a_document(served_world: ServedLightrag) -> None:
    documents = served_world.app.documents
    refused = documents.pop(served_world.app.put_foreign({"name": "a.md", "text": "kestrel"})["id"])
    refused.id = f"dup-{'a' * 32}"
    documents[refused.id] = refused
    assert await served_world.rows() == []


async def test_upload_under_an_existing_name_is_that_document(served_world: ServedLightrag) -> None:
    document = served_world.document("a.md", "kestrel")
    [remote_id] = await served_world.make_ready(document)
    [repeated] = await served_world.target.put([document])
    assert repeated == Accepted(remote_id)
    assert len(await served_world.rows()) == 1


async def test_foreign_document_id_is_used_when_not_derived_from_its_name(
    served_world: ServedLightrag,
) -> None:
    documents = served_world.app.documents
    old_id = served_world.app.put_foreign({"name": "theirs.md", "text": "kestrel"})["id"]
    new_id = f"doc-{'0' * 32}"
    documents[new_id] = documents.pop(old_id)
    documents[new_id].id = new_id
    [row] = await served_world.rows()
    assert (row.remote_id, row.name) == (new_id, "theirs.md")
    assert document_id(new_id) == new_id
    assert (await served_world.target.status([new_id]))[new_id].state is DocState.READY


async def test_one_letter_search_finds_nothing_without_a_request(served_world: ServedLightrag) -> None:
    served_world.server.requests.clear()
    assert await served_world.target.search(Query("ai")) == ()
    assert await served_world.target.search(Query("隼")) == ()
    assert not served_world.server.requests.by_op.get("search")


async def test_failed_search_is_not_an_empty_one(served_world: ServedLightrag) -> None:
    served_world.server.faults.add(Fault("search-failed", op="search", times=0))
    with pytest.raises(Unavailable):
        await served_world.target.search(Query("kestrel"))


@pytest.mark.parametrize(("name", "data"), [("a.png", b"x"), ("a.md", b""), ("a.md", b"x" * 2_000)])
async def test_request_the_server_would_refuse_is_not_sent(
    served_world: ServedLightrag, name: str, data: bytes
) -> None:
    served_world.settings = {"max_bytes": 1_000}
    await served_world.reopen()
    [outcome] = await served_world.target.put([served_world.document(name, data)])
    assert isinstance(outcome, Rejected)
    assert not served_world.server.requests.by_op


@pytest.mark.parametrize("tells_progress", [True, False])
async def test_answer_is_complete_with_its_last_line_or_on_servers_without_one(
    served_world: ServedLightrag, tells_progress: bool
) -> None:
    served_world.app.set_behaviour({"tells_progress": tells_progress})
    await served_world.make_ready(served_world.document("a.md", "kestrels hover in the wind"))
    answers = account_of(served_world.target).answers
    question = Question("what do kestrels do", Answerer(application=SERVER_ID))

    async def ask() -> str:
        pieces = [piece async for piece in answers.answer(question)]
        return "".join(piece for piece in pieces if isinstance(piece, str))

    assert await ask() == "kestrels hover in the wind"
    error = {"end": "error", "error": {"detail": "overloaded"}}
    served_world.server.faults.add(Fault("stream", op="ask", args=error))
    with pytest.raises(Unavailable, match=r"is incomplete \(overloaded\)"):
        await ask()
    served_world.server.faults.add(Fault("stream", op="ask", args={"end": "nothing"}))
    if tells_progress:
        with pytest.raises(Unavailable, match="is incomplete"):
            await ask()
    else:
        assert (await ask()).startswith("kestrels")


@long
async def test_long_first_pass_ends_with_every_file_searchable(tmp_path: Path) -> None:
    async with LightragWorld(tmp_path, vectorize=(60.0, 7200.0)).serving() as world:
        await world.mirrored(40)
        assert world.statuses() == {"ready": 40}
        assert len(world.effects("stored")) == 40
