"""Tests a mirror in a vector store: unattached files, limits, money, duplicates, changes by others."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.accounts.account import account_of
from kbsync.contract.searching import Query
from kbsync.contract.target import Accepted, DocState
from kbsync.errors import Halted, NotOffered, Unavailable
from kbsync.targets.http import client
from kbsync_standin.openai import HOME_ID
from tests.crash.harness import Guillotine
from tests.remote.world import sha_of_folder
from tests.services.openai import OpenaiWorld
from tests.share import enumerated, long
from tests.targets.bodies import outgoing

HOURS = 7200.0


@long
async def test_unattached_file_is_deleted_later(world: OpenaiWorld) -> None:
    world.write("a.md", "some text")
    await world.crash(Guillotine(upon=["POST answer"]))  # uploaded, and not attached
    assert len(world.orphans()) == 1
    await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)
    world.clock.now += HOURS
    async with world.client() as target:
        assert len([row async for row in target.list()]) == 1
    assert world.orphans() == []
    assert world.bytes_by_path() == sha_of_folder(world)


@long
@pytest.mark.parametrize("is_changed", [False, True])
async def test_file_left_unattached_by_a_killed_pass_is_deleted_by_the_next(
    world: OpenaiWorld, is_changed: bool
) -> None:
    world.write("a.md", "some text")
    await world.crash(Guillotine(upon=["POST answer"]))
    world.clock.now += 10
    if is_changed:
        world.write("a.md", "another text")
    await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)
    assert world.orphans() == []


@long
@pytest.mark.parametrize("is_refused", [False, True])
async def test_file_still_waiting_to_be_attached_is_deleted_when_the_pass_ends(
    world: OpenaiWorld, is_refused: bool
) -> None:
    world.write("a.md", "some text")
    world.play("rate-limited", op="attach", times=0)
    if is_refused:
        world.play("status", op="delete-file", times=0, effect=False, args={"status": 503})
    assert (await world.once()).problem
    assert len(world.orphans()) == is_refused
    world.server.faults.clear()
    await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)


async def test_file_that_the_service_may_still_attach_is_not_deleted_at_the_end(world: OpenaiWorld) -> None:
    """Before it is attached, it is no document, so kbsync needn't look for one before a retry."""
    async with world.client() as target:
        for op, stored_count in (("upload", 0), ("attach", 1)):
            world.play("lost-answer", op=op, effect=False)
            [outcome] = await target.put([outgoing("a.md", b"some text")])
            assert isinstance(outcome, Unavailable)
            assert len(world.orphans()) == stored_count
    assert len(world.orphans()) == 1


async def test_file_that_the_service_may_still_attach_is_missing_only_after_a_while(
    world: OpenaiWorld,
) -> None:
    def take_time(event: str) -> None:
        world.clock.now += 20 * (event == "POST start")

    world.at_request = take_time
    world.play("lost-answer", op="attach", effect=False)
    async with world.client() as target:
        [accepted] = await target.put([outgoing("a.md", b"some text")])
        for state in (DocState.INDEXING, DocState.MISSING):
            assert (await target.status([accepted.remote_id]))[accepted.remote_id].state is state
            world.clock.now += HOURS


@long
async def test_foreign_files_and_files_of_other_stores_are_never_deleted(world: OpenaiWorld) -> None:
    await world.mirrored({"a.md": "some text"})
    theirs = [
        world.app.upload(name, b"theirs", "assistants").id
        for name in ("notes.md", "a~mfrggzdfmfrggzdf.md", "report.pdf")
    ]
    world.clock.now += HOURS
    async with world.running():
        assert [row async for row in world.make_target().list()]
    assert set(theirs) <= world.app.documents.keys()


async def test_attached_file_that_a_list_lacks_is_not_deleted(world: OpenaiWorld) -> None:
    await world.mirrored(10)
    world.clock.now += HOURS
    world.play("left-out", op="list", args={"name": "f0*"})
    async with world.client() as target:
        assert len([row async for row in target.list()]) == 9
    assert world.bytes_by_path() == sha_of_folder(world)


async def test_file_being_uploaded_is_not_deleted_when_our_clock_is_ahead(world: OpenaiWorld) -> None:
    world.clock.skew = HOURS
    async with world.client() as target:
        await target.base()
        world.play("late-answer", op="upload", args={"seconds": 1})
        upload = asyncio.create_task(target.put([outgoing("a.md", b"some text")]))
        while not world.orphans():
            await asyncio.sleep(0)
        assert [row async for row in target.list()] == []
        [outcome] = await upload
        assert isinstance(outcome, Accepted)


@long
async def test_file_with_a_lost_attach_response_is_not_remembered_forever(world: OpenaiWorld) -> None:
    async with world.client() as target:
        world.play("lost-answer", op="attach")
        [outcome] = await target.put([outgoing("a.md", b"some text")])
        assert isinstance(outcome, Accepted)
        world.clock.now += HOURS
        assert [row.remote_id async for row in target.list()] == [outcome.remote_id]
        assert target._attaching == {}


@long
async def test_read_only_target_deletes_no_unattached_files(world: OpenaiWorld) -> None:
    world.write("a.md", "some text")
    await world.crash(Guillotine(upon=["POST answer"]))
    world.clock.now += HOURS
    async with world.running():
        assert [row async for row in world.make_target(read_only=True).list()] == []
    assert len(world.orphans()) == 1


@long
@pytest.mark.parametrize("effect", [True, False])
async def test_lost_upload_is_looked_up_before_it_is_resent(world: OpenaiWorld, effect: bool) -> None:
    world.write("a.md", "some text")
    world.play("lost-answer", op="upload", effect=effect)
    await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)
    assert world.request_count("upload") == (1 if effect else 2)
    assert world.orphans() == []


OTHER_JSON = {"status": 200, "body": {"ok": True}}


@long
@pytest.mark.parametrize(
    ("fault", "attached_count"),
    [
        pytest.param({"kind": "rate-limited", "times": 3}, 4, id="it waits to be attached"),
        pytest.param({"kind": "lost-answer", "effect": True}, 1, id="the answer is lost"),
        pytest.param({"kind": "lost-answer", "effect": False}, 2, id="the request is lost"),
        pytest.param({"kind": "truncated-json", "effect": True}, 1, id="the answer is cut off"),
        pytest.param({"kind": "status", "args": OTHER_JSON, "effect": True}, 1, id="the answer is another"),
        pytest.param(
            {"kind": "status", "args": OTHER_JSON, "effect": False}, 2, id="another answer, no effect"
        ),
    ],
)
async def test_file_that_is_not_attached_at_once_is_not_sent_again(
    world: OpenaiWorld, fault: dict[str, Any], attached_count: int
) -> None:
    world.write("a.md", "some text")
    world.play(op="attach", **fault)
    await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)
    assert (world.request_count("upload"), world.request_count("attach")) == (1, attached_count)


async def test_refused_look_for_an_attached_file_does_not_blame_the_document(world: OpenaiWorld) -> None:
    world.write("a.md", "some text")
    world.play("lost-answer", op="attach", effect=False)
    world.play("error", op="status", effect=False, args={"status": 400, "message": "bad request"})
    await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)


@long
async def test_refused_document_leaves_no_file_behind(world: OpenaiWorld) -> None:
    world.write_many(2)
    world.play("error", op="attach", match="f0*", args={"message": "unsupported file"})
    await world.once()
    assert world.statuses() == {"ready": 1, "failed": 1}
    assert world.orphans() == []


async def test_document_that_a_firewall_refuses_once_is_stored_and_attached_again(world: OpenaiWorld) -> None:
    world.write("a.md", "some text")
    world.play("status", op="attach", effect=False, args={"status": 403})
    await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)
    assert world.orphans() == []


async def test_refused_document_is_not_sent_again_while_its_file_cannot_be_deleted(
    world: OpenaiWorld,
) -> None:
    world.write("a.md", "some text")
    world.play("error", op="attach", times=0, args={"message": "unsupported file"})
    world.play("status", op="delete-file", times=0, effect=False, args={"status": 503})
    await world.once()
    assert world.statuses() == {"failed": 1}
    assert world.request_count("upload") == 1


@long
@pytest.mark.parametrize(
    ("base", "words"), [("expired", "has expired"), ("deleted", "there is no vector store")]
)
async def test_missing_or_expired_store_is_reported(world: OpenaiWorld, base: str, words: str) -> None:
    await world.mirrored({"a.md": "some text"})
    world.turn(base=base)
    async with world.running():
        with pytest.raises(Halted) as caught:
            await world.make_target().base()
    assert caught.value.halt == "knowledge-base-missing"
    assert words in caught.value.reason and HOME_ID in caught.value.reason


@long
async def test_rename_sends_no_file_and_keeps_foreign_attributes(world: OpenaiWorld) -> None:
    long_path = "/".join(["folder" * 20] * 6) + "/a.md"  # in several attributes
    await world.mirrored({long_path: "some text"})
    [attached] = world.app.bases[HOME_ID].files.values()
    attached.attributes["team"] = "support"
    world.move(long_path, "deep/b.md")
    await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)
    assert world.request_count("upload") == 1
    assert attached.attributes["team"] == "support" and attached.attributes["path"] == "deep/b.md"


@pytest.mark.parametrize("body", [{}, [], {"id": "file-1", "attributes": {}}], ids=str)
async def test_rename_is_done_only_when_the_response_shows_the_new_path(
    world: OpenaiWorld, body: Any
) -> None:
    """Others, such as a gateway, may answer 200, too (promise 10)."""
    await world.mirrored({"a.md": "some text"})
    world.play("status", op="rename", effect=False, args={"status": 200, "body": body})
    world.move("a.md", "deep/b.md")
    await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)
    assert (world.request_count("rename"), world.request_count("upload")) == (2, 1)


async def test_rename_copies_no_mark_of_another_file(world: OpenaiWorld) -> None:
    """A cache may repeat a response about another file."""
    await world.mirrored({"a.md": "alpha", "z.md": "omega"})
    marks = {file.id: dict(file.attributes) for file in world.app.bases[HOME_ID].files.values()}
    [other] = world.documents_of("z.md")
    row = {"id": other["id"], "object": "vector_store.file", "attributes": marks[other["id"]]}
    world.play("status", op="status", effect=False, args={"status": 200, "body": row})
    world.move("a.md", "deep/b.md")
    await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)
    for file in world.app.bases[HOME_ID].files.values():
        assert file.attributes["kbsync"] == marks[file.id]["kbsync"]


@long
async def test_search_among_some_documents_is_filtered_by_the_service(world: OpenaiWorld) -> None:
    await world.mirrored(60)
    [remote_id] = [document["id"] for document in world.documents() if world.path_of(document) == "f7.md"]
    world.play("nothing-found", op="search")
    async with world.client() as target:
        assert list(await target.search(Query("text"))) == []
        hits = await target.search(Query("text", among=(remote_id,)))
    assert [hit.remote_id for hit in hits] == [remote_id]


@long
async def test_list_that_restarts_endlessly_is_rejected(world: OpenaiWorld) -> None:
    world.turn(dialect="ogx")
    await world.mirrored(3)
    page: dict[str, Any] = {"data": [{"id": "file-1"}], "has_more": True}
    world.play("status", op="list", times=0, args={"status": 200, "body": page})
    async with world.running():
        with pytest.raises(Exception, match="no new rows"):
            [row async for row in world.make_target().list()]


async def test_list_is_not_complete_if_the_last_file_of_a_page_was_deleted_meanwhile(
    world: OpenaiWorld,
) -> None:
    """The service may not find the next page then, but the store exists (promise 1)."""
    page: dict[str, Any] = {"data": [{"id": "file-1"}], "has_more": True}
    world.play("status", op="list", args={"status": 200, "body": page})
    world.play("error", op="list", args={"status": 404, "message": "No such File object: file-1"})
    async with world.running():
        with pytest.raises(Unavailable, match="No such File"):
            [row async for row in world.make_target().list()]


@long
async def test_slow_attaching_at_ogx_is_waited_for(world: OpenaiWorld) -> None:
    """The client gave up; the server continues, and doesn't show the file until it has finished."""
    world.turn(dialect="ogx")
    world.write("a.md", "some text")
    world.play("late-effect", op="attach", times=2, args={"after": 40})
    await world.once()
    assert world.request_count("upload") == 1
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)


@pytest.mark.parametrize("is_readable", [True, False])
async def test_slow_attaching_is_not_repeated(world: OpenaiWorld, is_readable: bool) -> None:
    """OGX would list the file twice, and never remove it."""

    def take_time(event: str) -> None:
        world.clock.now += 20 * (event == "POST start")

    world.at_request = take_time
    world.play("lost-answer", op="attach", effect=False)
    if not is_readable:
        world.play("status", op="status", times=3, effect=False, args={"status": 503})
    async with world.client() as target:
        [accepted] = await target.put([outgoing("a.md", b"some text")])
        assert isinstance(accepted, Accepted) and not accepted.ready


async def test_deletion_is_not_confirmed_by_a_gateway_or_by_a_missing_store(world: OpenaiWorld) -> None:
    await world.mirrored({"a.md": "some text"})
    [ours] = [document["id"] for document in world.documents()]
    world.play("status", op="delete", effect=False, args={"status": 200, "body": {}})
    async with world.client() as target:
        outcome = (await target.delete([ours]))[ours]
        assert isinstance(outcome, Unavailable)
        assert re.search(r"delete: \S+ answered 200 with an unexpected shape: \{\}", outcome.reason)
        world.turn(base="deleted")
        assert isinstance((await target.delete([ours]))[ours], Halted)
        with pytest.raises(Halted):
            await target.rename(ours, "b.md", "b.md", 0.0)


async def search(world: OpenaiWorld, question: str) -> set[str]:
    """Return the names of the documents that searches find."""
    async with world.running():
        hits = await world.make_target().search(Query(question))
    ids = {hit.remote_id for hit in hits}
    return {document["name"] for document in world.documents() if document["id"] in ids}


async def delete(world: OpenaiWorld, path: str) -> None:
    world.delete(path)
    await world.once()


@pytest.fixture
async def ogx(tmp_path: Path) -> AsyncIterator[OpenaiWorld]:
    async with OpenaiWorld(tmp_path, dialect="ogx", reembed_tries=1).serving() as world:
        yield world
        assert world.app.violations == []
        [store] = world.app.bases.values()
        assert set(store.holders.values()) <= store.files.keys(), "passages of a file that is gone"


@long
async def test_reexported_pdf_is_searchable_after_its_old_version_was_deleted(ogx: OpenaiWorld) -> None:
    """Its bytes changed, its text didn't."""
    await ogx.mirrored({"a.pdf": "%one\nthe kestrel hovers"})
    ogx.clock.now += 10
    await ogx.mirrored({"a.pdf": "%two\nthe kestrel hovers"})
    assert len(await search(ogx, "kestrel")) == 1
    assert ogx.bytes_by_path(searchable=True) == sha_of_folder(ogx)
    assert ogx.orphans() == []


@long
async def test_foreign_file_with_the_same_text_is_found_after_ours_was_deleted(ogx: OpenaiWorld) -> None:
    theirs = ogx.plant("theirs.md", "one and the same text", attributes={"team": "support"})
    await ogx.mirrored({"a.md": "one and the same text", "other.md": "another"})
    await delete(ogx, "a.md")
    assert await search(ogx, "same") == {"theirs.md"}
    [foreign] = [document for document in ogx.documents() if document["name"] == "theirs.md"]
    assert (foreign["id"], foreign["attributes"]) == (theirs, {"team": "support"})


@long
async def test_foreign_document_whose_file_was_deleted_is_searchable_after_ours_was_deleted(
    ogx: OpenaiWorld,
) -> None:
    theirs = ogx.plant("theirs.md", "one and the same text")
    await ogx.mirrored({"a.md": "one and the same text", "other.md": "another"})
    del ogx.app.documents[theirs]  # OGX keeps the document
    await delete(ogx, "a.md")
    [store] = ogx.app.bases.values()
    assert theirs in store.files and theirs in store.holders.values()
    assert ogx.bytes_by_path() == sha_of_folder(ogx)


@long
@pytest.mark.parametrize("is_killed", [False, True])
async def test_text_others_have_too_is_found_under_our_path(ogx: OpenaiWorld, is_killed: bool) -> None:
    await ogx.mirrored(dict.fromkeys(("a.md", "b.md"), "one and the same text"))
    ogx.plant("theirs.md", "one and the same text")
    ogx.delete("b.md")
    if is_killed:
        await ogx.crash(Guillotine(upon=["DELETE answer"]))
    await ogx.once()
    [ours] = ogx.documents_of("a.md")
    assert await search(ogx, "same") == {ours["name"]}


@long
@enumerated()
@pytest.mark.parametrize("op", ["text", "delete", "put-back", "delete-file"])
@pytest.mark.parametrize("kind", ["rate-limited", "shape", "lost-answer"])
async def test_twin_is_searchable_whatever_failed_in_a_deletion(ogx: OpenaiWorld, op: str, kind: str) -> None:
    theirs = ogx.plant("theirs.md", "one and the same text", attributes={"team": "support"})
    await ogx.mirrored(dict.fromkeys(("a.md", "b.md"), "one and the same text"))
    ogx.play(kind, op=op, times=7)
    await delete(ogx, "b.md")
    await ogx.ends_equal()
    assert len(await search(ogx, "same")) == 1
    assert {document["id"]: document["attributes"] for document in ogx.documents()}[theirs] == {
        "team": "support"
    }
    assert ogx.orphans() == []


@long
async def test_twin_is_restored_only_when_the_response_confirms_it(ogx: OpenaiWorld) -> None:
    """A gateway may answer 200, too; the twin would be missing from searches (promise 10)."""
    await ogx.mirrored(dict.fromkeys(("a.md", "b.md"), "one and the same text"))
    ogx.play("status", op="put-back", times=2, effect=False, args={"status": 200, "body": {}})
    await delete(ogx, "b.md")
    await ogx.ends_equal()
    assert len(await search(ogx, "same")) == 1


@long
@enumerated("step")
@pytest.mark.parametrize("step", range(1, 17))
async def test_kill_while_restoring_a_twin_is_repaired(ogx: OpenaiWorld, step: int) -> None:
    theirs = ogx.plant("theirs.md", "one and the same text")
    await ogx.mirrored(dict.fromkeys(("a.md", "b.md"), "one and the same text"))
    ogx.delete("b.md")
    await ogx.crash(Guillotine(stop_at=step))
    await ogx.ends_equal()
    assert len(ogx.documents()) == 2 and theirs in {document["id"] for document in ogx.documents()}
    assert len(await search(ogx, "same")) == 1
    assert ogx.orphans() == []


@long
async def test_kill_before_restoring_a_reexported_pdf_is_repaired(ogx: OpenaiWorld) -> None:
    """Its size differs from its old version's."""
    await ogx.mirrored({"a.pdf": "%one\nthe kestrel hovers"})
    ogx.clock.now += 10
    ogx.write("a.pdf", "%another\nthe kestrel hovers")
    await ogx.crash(Guillotine(upon=["DELETE answer"]))
    assert await search(ogx, "kestrel") == set()
    await ogx.once()
    assert len(await search(ogx, "kestrel")) == 1
    assert ogx.orphans() == []


@long
async def test_kill_before_restoring_a_twin_is_repaired_after_a_lost_state(ogx: OpenaiWorld) -> None:
    await ogx.mirrored(dict.fromkeys(("a.md", "b.md"), "one and the same text"))
    ogx.delete("b.md")
    await ogx.crash(Guillotine(upon=["DELETE answer"]))
    assert await search(ogx, "same") == set()
    ogx.lose_state()
    ogx.clock.now += HOURS
    await ogx.once()
    assert len(await search(ogx, "same")) == 1
    assert ogx.orphans() == []


async def test_our_document_stays_when_its_twin_is_too_long_to_restore(
    ogx: OpenaiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("a.md", "b.md"):
        ogx.write(path, "one and the same text " * 2000)
    await ogx.mirrored({"c.md": "another"})
    ids = {ogx.path_of(document): document["id"] for document in ogx.documents()}
    monkeypatch.setattr(client, "MAX_RESPONSE_BYTES", 20_000)
    async with ogx.running():
        outcomes = await ogx.make_target().delete([ids["b.md"], ids["c.md"]])
    assert isinstance(outcomes[ids["b.md"]], Unavailable) and outcomes[ids["c.md"]] is None
    assert len(await search(ogx, "same")) == 1
    assert {document["id"] for document in ogx.documents()} == {ids["a.md"], ids["b.md"]}


@long
async def test_text_added_while_its_twin_is_deleted_is_searchable(
    ogx: OpenaiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ogx.mirrored({"a.md": "one and the same text"})
    [old] = ogx.documents()
    async with ogx.client() as target:
        request, puts = target._client.request, list[asyncio.Task[Any]]()

        async def request_meanwhile(op: str, *args: Any, **more: Any) -> Any:
            if op == "delete" and not puts:
                puts.append(asyncio.create_task(target.put([outgoing("b.md", b"one and the same text")])))
                await asyncio.wait(puts, timeout=0.5)
            return await request(op, *args, **more)

        monkeypatch.setattr(target._client, "request", request_meanwhile)
        assert await target.delete([old["id"]]) == {old["id"]: None}
        [[new]] = await asyncio.gather(*puts)
    assert len(await search(ogx, "same")) == 1
    assert [document["id"] for document in ogx.documents()] == [new.remote_id]


@long
async def test_concurrent_deletions_share_one_list_request(ogx: OpenaiWorld) -> None:
    await ogx.mirrored(30)
    ids = [document["id"] for document in ogx.documents()]
    async with ogx.client() as target:
        await target.base()
        ogx.server.requests.clear()
        outcomes = await asyncio.gather(*(target.delete([document_id]) for document_id in ids))
    assert all(list(outcome.values()) == [None] for outcome in outcomes)
    assert ogx.request_count("list") <= 2
    assert ogx.documents() == [] == ogx.orphans()


async def test_address_without_its_version_is_reported(
    world: OpenaiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(world.config(), base_url=world.server.url)
    monkeypatch.setattr(world, "config", lambda: config)
    async with world.running():
        with pytest.raises(NotOffered, match="base_url"):
            await account_of(world.make_target()).bases.list_all()
        # The server knows no such path; the store may exist.
        with pytest.raises(NotOffered, match="base_url"):
            await world.make_target().base()
    world.app.violations.clear()


@long
async def test_list_much_shorter_than_the_stores_count_is_rejected(world: OpenaiWorld) -> None:
    await world.mirrored(10)
    async with world.client() as target:
        for match in ("*", "f[0-4]*"):
            world.play("left-out", op="list", args={"name": match})
            with pytest.raises(Unavailable, match="of 10"):
                [row async for row in target.list()]
        assert len([row async for row in target.list()]) == 10


async def test_abandoned_unattached_upload_is_deleted_by_the_same_process(world: OpenaiWorld) -> None:
    world.write("a.md", "some text")
    async with world.client() as target:
        world.play("rate-limited", op="attach", times=1)
        [outcome] = await target.put([outgoing("a.md", b"some text")])
        assert isinstance(outcome, Unavailable) and len(world.orphans()) == 1
        world.clock.now += 1800.0  # it may still be attached
        for orphans in (1, 0):
            assert [row async for row in target.list()] == []
            assert len(world.orphans()) == orphans
            world.clock.now += HOURS


@long
async def test_states_of_many_documents_come_from_the_list_and_absent_ones_are_missing(
    world: OpenaiWorld,
) -> None:
    await world.mirrored(20)
    ids = [document["id"] for document in world.documents()]
    before = world.request_count()
    async with world.running():
        states = await world.make_target().status([*ids, "file-unknown"])
    assert {status.state for key, status in states.items() if key != "file-unknown"} == {DocState.READY}
    assert states["file-unknown"].state is DocState.MISSING
    assert world.request_count() - before == 3  # the list, the document itself, the store


@enumerated()
@pytest.mark.parametrize("dialect", ["openai", "ogx"])
@pytest.mark.parametrize("deleted", [0, 1, 3])
async def test_store_is_deleted_with_its_files_even_after_an_interruption(
    tmp_path: Path, dialect: str, deleted: int
) -> None:
    async with OpenaiWorld(tmp_path, dialect=dialect).serving() as world:
        await world.mirrored(3)
        theirs = world.plant("theirs.md", "theirs")
        files = world.app.documents
        async with world.running():
            bases = account_of(world.make_target()).bases
            # The command is killed before it can delete the next file, or the store.
            op, skip = ("delete-file", deleted) if deleted < 3 else ("delete-base", 0)
            world.play("status", op=op, skip=skip, times=0, effect=False)
            with pytest.raises(Unavailable):
                await bases.delete(HOME_ID)
            world.server.faults.clear()
            assert len(files) == 4 - deleted
            await bases.delete(HOME_ID)
            with pytest.raises(Halted):
                await bases.get(HOME_ID)
        assert set(files) == {theirs}


TEXTS_AT_OGX = ("main.cs", "main.go", "index.php", "rake.rb", "data.json", "run.SH", "guide.md", "page.html")


@pytest.mark.parametrize("reader", ["pypdf", "auto"])
async def test_ogx_reads_all_text_formats_and_others_are_excluded(tmp_path: Path, reader: str) -> None:
    """It chooses its reader by the name of a file."""
    async with OpenaiWorld(tmp_path, dialect="ogx").serving() as world:
        world.turn(reader=reader)
        for name in TEXTS_AT_OGX:
            world.write(name, f"all about {name}")
        for name in ("letter.docx", "talk.pptx", "old.doc"):
            world.write(name, f"office {name}")
        await world.once()
        if reader == "pypdf":
            assert world.statuses() == {"ready": len(TEXTS_AT_OGX), "skipped": 3}
        else:
            assert world.statuses() == {"ready": len(TEXTS_AT_OGX) + 3}
        assert world.request_count("attach") == world.request_count("upload") == world.statuses()["ready"]
        world.clock.now += HOURS
        await world.mirrored({"main.go": "all new about main.go"})
        async with world.running():
            assert {row.path async for row in world.make_target().list()} >= set(TEXTS_AT_OGX)
        assert world.orphans() == []


async def test_ogx_search_shows_a_text_of_several_files_once(tmp_path: Path) -> None:
    async with OpenaiWorld(tmp_path, dialect="ogx").serving() as world:
        await world.mirrored(dict.fromkeys(("a.md", "b.md", "c.md"), "all about kestrels"))
        async with world.running():
            [hit] = await world.make_target().search(Query("kestrels"))
        assert len(hit.passages) == 1


@long
async def test_passages_of_equal_length_are_read_once_however_many_are_deleted(ogx: OpenaiWorld) -> None:
    await ogx.mirrored({f"f{number}.md": f"text {number}" for number in range(10, 50)})
    going = [document["id"] for document in ogx.documents()][:20]
    ogx.server.requests.clear()
    async with ogx.running():
        assert await ogx.make_target().delete(going) == dict.fromkeys(going)
    assert ogx.request_count("text") == 40 and ogx.request_count("put-back") == 0
