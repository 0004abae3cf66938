"""Tests the mirror at Open WebUI: copies, folders, others' files, and files that never finish."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import replace

import pytest

from kbsync.contract.searching import Query
from kbsync.contract.target import DocState
from kbsync.engine.explain import PathExplanation, explain_path
from kbsync.errors import DocumentBusy, Halted, Rejected, Unavailable
from kbsync.state.read_only import Tx
from kbsync.targets.http import client
from kbsync_standin.openwebui import HOME_ID
from kbsync_standin.rules import Refused
from tests.crash.harness import Guillotine
from tests.engine.auditing import audited, paths
from tests.engine.read_only_commands import state_of
from tests.remote.world import sha_of_folder
from tests.services.openwebui import OpenWebuiWorld
from tests.share import enumerated, long
from tests.targets.bodies import outgoing


async def explained(world: OpenWebuiWorld, path: str) -> str:
    """Return the output of `kbsync explain`."""
    with state_of(world) as state:

        async def read(work: Callable[[Tx], PathExplanation]) -> PathExplanation:
            return state.read(work)

        async with world.client(read_only=True) as target:
            return (await explain_path(world.settings, target, read, world.clock, path)).answer


async def search(world: OpenWebuiWorld, text: str) -> set[str]:
    """Return the names of files with this word in a passage."""
    async with world.client() as target:
        hits = await target.search(Query(text, top_k=50))
    names = {document["id"]: document["path"] for document in world.documents()}
    return {names[hit.remote_id] for hit in hits}


def is_mirrored(world: OpenWebuiWorld) -> bool:
    return world.bytes_by_path(searchable=True) == sha_of_folder(world)


@long
@pytest.mark.parametrize("op", ["move", "rename", "cleanup"])
async def test_change_is_done_only_when_the_response_confirms_it(world: OpenWebuiWorld, op: str) -> None:
    """Others, such as a gateway, may answer 200, too (promise 10)."""
    await world.mirrored({"a.md": "alpha", "b.md": "beta"})
    world.play("status", op=op, times=2, effect=False, args={"status": 200, "body": {}})
    world.move("a.md", "deep/c.md")
    world.delete("b.md")
    await world.once()
    assert is_mirrored(world)


@long
async def test_file_outside_of_the_base_is_deleted_only_when_the_response_confirms_it(
    world: OpenWebuiWorld,
) -> None:
    """It would stay on the server without a row that says so (promise 10)."""
    world.play("fails", op="upload", args={"runs": 0})
    world.play("status", op="delete", effect=False, args={"status": 200, "body": {}})
    async with world.client() as target:
        [stored] = await target.put([outgoing("a.md", "text")])
        world.clock.now += 10
        outcome = (await target.delete([stored.remote_id]))[stored.remote_id]
        assert isinstance(outcome, Unavailable)
        assert re.search(r"delete: \S+ answered 200 with an unexpected shape: \{\}", outcome.reason)
        assert await target.delete([stored.remote_id]) == {stored.remote_id: None}
    assert list(world.app.present()) == []


@long
async def test_state_of_another_file_does_not_count(world: OpenWebuiWorld) -> None:
    """The failure of another file would make kbsync upload this one again."""
    world.turn(vectorize=(5.0, 5.0))
    async with world.client() as target:
        [ours] = await target.put([outgoing("a.md", "text")])
        world.play("status", op="newest", times=0, effect=False, args={"status": 200, "body": []})
        world.play("odd-status", op="state", args={"value": "failed"})
        theirs = {"id": "another", "data": {"status": "failed", "error": "damaged"}}
        world.play("status", op="status", effect=False, args={"status": 200, "body": theirs})
        state = (await target.status([ours.remote_id]))[ours.remote_id]
        assert (state.state, state.code) == (DocState.UNKNOWN, "shape")


# -- copies ------------------------------------------------------------------------------------------------


@long
@pytest.mark.parametrize("looks_late", [True, False])
async def test_simultaneous_copies_are_all_searchable(world: OpenWebuiWorld, looks_late: bool) -> None:
    """The server lets several in at once, and would remove them together."""
    world.turn(looks_late=looks_late)
    await world.mirrored({f"copy{number}.md": "all about kestrels" for number in range(6)})
    assert world.statuses() == {"ready": 6}
    assert len(await search(world, "kestrels")) == 6
    world.clock.now += 10
    world.delete("copy0.md")
    await world.once()
    assert is_mirrored(world)
    assert await search(world, "kestrels") == {f"copy{number}.md" for number in range(1, 6)}


@long
async def test_copy_stays_searchable_when_the_other_changes_or_is_deleted(world: OpenWebuiWorld) -> None:
    for name in ("a.md", "b.md", "c.md"):
        await world.mirrored({name: "all about kestrels"})
    world.clock.now += 10
    world.write("a.md", "all about herons")
    world.delete("b.md")
    await world.once()
    assert is_mirrored(world)
    assert await search(world, "kestrels") == {"c.md"}


@long
async def test_foreign_document_with_the_same_text_stays_when_ours_is_deleted(world: OpenWebuiWorld) -> None:
    theirs = world.plant("theirs.md", "all about kestrels")
    await world.mirrored({"sub/ours.md": "all about kestrels", "other.md": "something else"})
    assert world.statuses() == {"ready": 2}
    world.clock.now += 10
    world.delete("sub/ours.md")
    await world.once()
    assert world.keeps_foreign()
    assert await search(world, "kestrels") == {"theirs.md"}
    assert theirs in world.foreign


# -- folders and names -------------------------------------------------------------------------------------


async def test_prefix_is_its_own_folder(world: OpenWebuiWorld) -> None:
    world.settings = replace(world.settings, prefix="handbook/")
    await world.mirrored({"guides/intro.md": "text"})
    assert {document["path"] for document in world.documents()} == {"handbook/guides/intro.md"}
    world.lose_state()
    await world.once()
    assert world.request_count("upload") == 1


@enumerated()
@pytest.mark.parametrize("prefix", ["handbook//", "a//b/", "//"])
async def test_empty_parts_of_a_prefix_are_no_folders(world: OpenWebuiWorld, prefix: str) -> None:
    world.settings = replace(world.settings, prefix=prefix)
    for turn in range(2):
        await world.mirrored({f"guides/{turn}.md": f"text {turn}"})
    assert world.request_count("make-folder") == len([*filter(None, prefix.split("/")), "guides"])
    world.lose_state()
    await world.once()
    assert world.request_count("upload") == 2


async def test_unsendable_name_still_encodes_its_path(world: OpenWebuiWorld) -> None:
    name = 'say "so"\n100%.md'
    await world.mirrored({name: "text"})
    [stored] = world.documents()
    assert stored["name"] == "say _so__100%.md"
    async with world.client() as target:
        assert [row.path async for row in target.list()] == [name]
        with pytest.raises(Rejected):
            await target.rename(stored["id"], 'no "so".md', 'no "so".md', 0.0)


@enumerated()
@pytest.mark.parametrize(
    ("name", "uploads"),
    [("sub/b.md", 1), ('say "so".md', 2), ("back\\slash.md", 2), ("line\nend.md", 2), ('sub"dir"/a.md', 2)],
)
async def test_renamed_file_is_sent_again_only_if_the_name_is_unsendable_and_known_after_a_lost_state(
    world: OpenWebuiWorld, name: str, uploads: int
) -> None:
    await world.mirrored({"a.md": "text"})
    world.clock.now += 10
    world.move("a.md", name)
    await world.once()
    assert world.statuses() == {"ready": 1}
    assert len(world.documents()) == 1
    async with world.client() as target:
        assert [row.path async for row in target.list()] == [name]
    world.lose_state()
    await world.once()
    assert world.request_count("upload") == uploads


async def test_folder_removed_by_others_is_recreated(world: OpenWebuiWorld) -> None:
    await world.mirrored({"sub/a.md": "text"})
    async with world.client() as target:
        await target.put([outgoing("sub/b.md", "more")])
        base = next(iter(world.app.bases.values()))
        base.folders.clear()
        with pytest.raises(Rejected):
            await target.rename(world.documents()[0]["id"], "sub/c.md", "sub/c.md", 0.0)
        await target.rename(world.documents()[0]["id"], "sub/c.md", "sub/c.md", 0.0)
    assert "sub/c.md" in {document["path"] for document in world.documents()}


async def test_folder_is_created_only_once(world: OpenWebuiWorld) -> None:
    """The server accepts the same name twice in a folder."""
    async with world.client() as target:
        world.play("lost-answer", op="make-folder")
        [outcome] = await target.put([outgoing("sub/a.md", "alpha")])
        assert isinstance(outcome, Unavailable)
        await asyncio.gather(*(target.put([outgoing(f"sub/deep/{name}.md", name)]) for name in "bcd"))
    assert sorted(name for name, _ in world.app.bases[HOME_ID].folders.values()) == ["deep", "sub"]
    assert len(world.documents()) == 3


async def test_key_that_may_not_create_folders_halts_the_mirror(world: OpenWebuiWorld) -> None:
    refusal = {"detail": "You do not have permission to access this resource."}
    world.play("status", op="make-folder", effect=False, args={"status": 400, "body": refusal})
    async with world.client() as target:
        [outcome] = await target.put([outgoing("sub/a.md", "text")])
    assert isinstance(outcome, Halted) and outcome.halt == "credentials"


async def test_refused_key_ends_the_other_polls(world: OpenWebuiWorld) -> None:
    """So none of them changes a file after the mirror has halted."""
    async with world.client() as target:
        ids = [f"00000000-0000-4000-8000-{number:012}" for number in range(40)]
        world.play("unauthorized", op="state", times=1)
        with pytest.raises(Halted):
            await target.status(ids)
        assert target._client.gate.in_flight == 0
        assert world.request_count("state") <= target._config.concurrency


# -- existing files
# --------------------------------------------------------------------------------------------


async def test_matching_foreign_document_is_adopted(world: OpenWebuiWorld) -> None:
    """They send no mark; the server has the digest, and the folder has the path."""
    world.plant("intro.md", "text", folder="guides")
    world.plant("old.md", "an older text")
    world.foreign.clear()
    await world.mirrored({"guides/intro.md": "text", "old.md": "a newer text"})
    assert world.statuses() == {"ready": 2}
    assert world.request_count("upload") == 1
    assert [document["sha256"] for document in world.documents() if document["name"] == "intro.md"] == [
        hashlib.sha256(b"text").hexdigest()
    ]
    assert len(world.documents()) == 3  # other bytes prove nothing, so the file stays


async def test_uploads_of_others_before_the_first_pass_are_foreign(world: OpenWebuiWorld) -> None:
    world.plant("theirs.md", "by somebody else")
    world.plant("old.md", "an older text")
    await world.mirrored({"old.md": "a newer text"})
    findings = await world.verify()
    assert (paths(findings), findings.foreign) == ({}, 2)
    outcome = await audited(world)
    assert (outcome.orphaned, outcome.duplicate, outcome.foreign) == (0, 0, 2)


async def test_nothing_is_removed_with_deletions_never(world: OpenWebuiWorld) -> None:
    await world.mirrored({"a.md": "text", "b.md": "more"})
    limits = replace(world.settings.deletions, never=True)
    world.settings = replace(world.settings, deletions=limits)
    world.clock.now += 10
    world.delete("a.md")
    await world.once()
    assert (world.request_count("cleanup"), world.request_count("delete")) == (0, 0)
    assert {document["path"] for document in world.documents()} == {"a.md", "b.md"}


# -- files that never finish, and responses that prove nothing
# -------------------------------------------------


async def test_file_that_the_server_left_out_of_the_base_is_linked_instead_of_uploaded_again(
    world: OpenWebuiWorld,
) -> None:
    world.play("unlinked", op="upload")
    await world.mirrored({"a.md": "text"})
    assert is_mirrored(world)
    assert (world.request_count("upload"), world.request_count("link")) == (1, 1)
    assert len(list(world.app.present())) == 1


async def test_file_left_out_of_the_base_is_listed_but_not_linked_at_once(world: OpenWebuiWorld) -> None:
    """The server may be about to link it."""
    world.play("unlinked", op="upload")
    async with world.client() as target:
        [stored] = await target.put([outgoing("a.md", "text")])
        world.clock.now += 10
        assert [row.remote_id async for row in target.list()] == [stored.remote_id]
        assert (await target.status([stored.remote_id]))[stored.remote_id].state is DocState.INDEXING
    assert world.request_count("link") == 0


async def test_document_is_not_missing_because_its_state_is_unknown_or_others_changed_later(
    world: OpenWebuiWorld,
) -> None:
    """It would be uploaded again."""
    await world.mirrored({"a.md": "text"})
    [ours] = world.documents()
    world.clock.now += 10
    for number in range(120):
        world.plant(f"{number}.md", f"text {number}")
    world.turn(vectorize=(50.0, 50.0))
    async with world.client() as target:
        [pending] = await target.put([outgoing("b.md", "more")])
        world.play("status", op="newest", times=0, effect=False, args={"status": 200, "body": []})
        world.play("odd-status", op="state", match="b.md", args={"value": "SURPRISE"})
        states = await target.status([ours["id"], pending.remote_id])
    assert (states[ours["id"]].state, states[pending.remote_id].state) == (DocState.READY, DocState.UNKNOWN)


@long
@enumerated()
@pytest.mark.parametrize("behind", [0.0, 7200.0])
async def test_file_left_behind_by_a_server_restart_is_sent_again(
    world: OpenWebuiWorld, behind: float
) -> None:
    """The old file is deleted, even if our clock is behind the server's."""
    world.clock.skew = -behind
    world.target_settings["give_up"] = 60.0
    world.play("stuck", op="upload")
    await world.mirrored({"a.md": "text"})
    world.clock.now += 600
    await world.once()
    assert world.statuses() == {"ready": 1}
    assert is_mirrored(world)
    assert len(world.documents()) == 1


async def test_empty_list_is_believed_only_when_confirmed(world: OpenWebuiWorld) -> None:
    await world.mirrored({"a.md": "text"})
    world.play("empty-list", op="list", times=0)
    async with world.client() as target:
        with pytest.raises(Unavailable):
            [row async for row in target.list()]
        world.server.faults.clear()
        assert [row.state async for row in target.list()] == [DocState.READY]


@long
async def test_file_is_not_deleted_while_being_indexed(world: OpenWebuiWorld) -> None:
    """Its passages would be added to the base afterwards, and nothing could remove them."""
    world.turn(vectorize=(5.0, 5.0))
    async with world.client() as target:
        [accepted] = await target.put([outgoing("a.md", "kestrels")])
        assert await target.delete([accepted.remote_id]) == {accepted.remote_id: None}
    assert await search(world, "kestrels") == set()
    world.turn(vectorize=(50.0, 50.0))
    async with world.client() as target:
        [accepted] = await target.put([outgoing("b.md", "herons")])
        outcome = (await target.delete([accepted.remote_id]))[accepted.remote_id]
        assert isinstance(outcome, DocumentBusy)
        world.play("odd-status", op="state", times=1, args={"value": "SURPRISE"})
        outcome = (await target.delete([accepted.remote_id]))[accepted.remote_id]
        assert isinstance(outcome, Unavailable), "a word that nobody knows is taken for an end"


@long
async def test_list_whose_last_page_repeats_ends(world: OpenWebuiWorld) -> None:
    """Its count may be wrong, too."""
    world.play("unlinked", op="upload")
    async with world.client() as target:
        [stored] = await target.put([outgoing("a.md", "text")])
        world.clock.now += 10
        body = {"items": [{"id": "another", "filename": "a.md"}], "total": 1000}
        world.play("status", op="list", times=60, effect=False, args={"status": 200, "body": body})
        newest = [{"id": f"other{number}", "filename": "other.md"} for number in range(100)]
        world.play("status", op="newest", times=60, effect=False, args={"status": 200, "body": newest})
        state = (await target.status([stored.remote_id]))[stored.remote_id]
        assert state.state is DocState.INDEXING
    assert world.request_count("list") + world.request_count("newest") < 10


async def test_html_page_is_not_a_response(world: OpenWebuiWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.server.app = world.app
    async with world.running():
        config = replace(world.config(), base_url=f"{world.server.url}/api")
        monkeypatch.setattr(world, "config", lambda: config)
        async with aclosing(world.make_target()) as target:
            with pytest.raises(Unavailable, match="without a path such as /api"):
                await target.base()


@long
async def test_text_too_large_for_a_response_affects_only_its_document(world: OpenWebuiWorld) -> None:
    """Requests for many files carry no texts; a single text is read only if nothing else decides."""
    world.turn(vectorize=(5.0, 5.0))
    async with world.client() as target:
        large = "all about kestrels " * 1_900_000
        outcomes = await target.put([outgoing("large.md", large), outgoing("small.md", "herons")])
        ids = [outcome.remote_id for outcome in outcomes]
        waiting = await target.status(ids)
        assert {status.state for status in waiting.values()} == {DocState.INDEXING}
        assert {row.remote_id for row in [row async for row in target.list()]} == set(ids)
        world.clock.now += 10
        [copy] = await target.put([outgoing("copy.md", large)])
        world.clock.now += 10
        status_report = await target.status([*ids, copy.remote_id])
        assert [status_report[remote_id].state for remote_id in (*ids, copy.remote_id)] == [
            DocState.READY,
            DocState.READY,
            DocState.UNKNOWN,
        ]
        assert set((await target.delete([*ids, copy.remote_id])).values()) == {None}


async def test_pending_files_are_listed_for_their_base_and_for_a_limited_time(world: OpenWebuiWorld) -> None:
    world.turn(vectorize=(5.0, 5.0))
    async with world.client() as target:
        [ours] = await target.put([outgoing("a.md", "text")])
        other = world.app.add_base("Other", "")
        world.app.store("b.md", b"text", "text/plain", {"knowledge_id": other.id})
        assert [row.remote_id async for row in target.list()] == [ours.remote_id]
        world.clock.now += 10  # it ends between the two requests
        row = {
            "id": ours.remote_id,
            "data": {"status": "pending"},
            "meta": {"data": {"knowledge_id": HOME_ID}},
        }
        world.play("status", op="newest", effect=False, args={"status": 200, "body": [row]})
        assert [row.remote_id async for row in target.list()] == [ours.remote_id]
        world.app.store("copy.md", b"text", "text/plain", {"knowledge_id": HOME_ID})
        world.clock.now += 10  # the server refuses it; somebody else may send it again
        assert [row.remote_id async for row in target.list()] == [ours.remote_id]


@long
async def test_document_whose_reindexing_failed_is_not_reported_searchable(world: OpenWebuiWorld) -> None:
    """The server forgets its hash, and keeps its link and its old passages."""
    await world.mirrored({"a.md": "all about kestrels"})
    [file] = world.app.documents.values()
    file.fails = 1
    async with world.client() as target:
        with suppress(Refused):
            for _ in world.app.update(file, "all about herons"):
                pass
        status = (await target.status([file.id]))[file.id]
        assert (status.state, status.code) == (DocState.FAILED, "failed")
        assert "Internal Server Error" in status.reason
        assert [row.state async for row in target.list()] == [DocState.INDEXING]
    assert await search(world, "kestrels") == {"a.md"}


GIVE_UP = 120.0
"""Seconds; work that began less than half of this ago is left alone."""


async def uploaded_copy(world: OpenWebuiWorld) -> str:
    """Upload a copy of a mirrored file, which the server refuses for its text, and return its id."""
    world.target_settings["give_up"] = GIVE_UP
    await world.mirrored({"a.md": "all about kestrels"})
    async with world.client() as target:
        [copy] = await target.put([outgoing("b.md", "all about kestrels")])
    world.clock.now += 10
    return str(copy.remote_id)


async def state_at_a_new_process(world: OpenWebuiWorld, remote_id: str) -> DocState:
    async with world.client() as target:
        status = (await target.status([remote_id]))[remote_id]
        assert isinstance(status.state, DocState)
        return status.state


async def test_document_whose_reindexing_by_others_was_interrupted_is_finished_as_it_is(
    world: OpenWebuiWorld,
) -> None:
    await world.mirrored({"a.md": "all about kestrels"})
    world.target_settings["give_up"] = GIVE_UP
    [file] = world.app.documents.values()
    edit = world.app.update(file, "all about herons")
    next(edit)
    next(edit)  # indexed for the file itself, and not for the base
    world.clock.now += GIVE_UP / 3
    assert await state_at_a_new_process(world, file.id) is DocState.INDEXING
    async with world.client() as target:  # its passages would be added to the base afterwards
        assert isinstance((await target.delete([file.id]))[file.id], Unavailable)
    assert world.request_count("update") == 0
    world.clock.now += GIVE_UP
    await state_at_a_new_process(world, file.id)
    world.clock.now += 10
    assert await state_at_a_new_process(world, file.id) is DocState.READY
    assert file.extracted == "all about herons"


async def test_file_that_was_never_linked_can_be_deleted_after_a_while(world: OpenWebuiWorld) -> None:
    world.target_settings["give_up"] = GIVE_UP
    world.play("unlinked", op="upload")
    async with world.client() as target:
        [stored] = await target.put([outgoing("a.md", "text")])
        world.clock.now += 10
        assert isinstance((await target.delete([stored.remote_id]))[stored.remote_id], DocumentBusy)
        world.clock.now += GIVE_UP
        assert await target.delete([stored.remote_id]) == {stored.remote_id: None}
    assert list(world.app.present()) == []


@long
@enumerated()
@pytest.mark.parametrize("op", ["update", "link"])
@pytest.mark.parametrize("kind", ["lost-answer", "goes-on"])
async def test_work_with_a_lost_answer_is_not_repeated(world: OpenWebuiWorld, op: str, kind: str) -> None:
    """Each poll is from another process: only the server's responses show the work in progress."""
    copy = await uploaded_copy(world)
    async with world.client(read_only=True) as target:
        await target.status([copy])
        assert copy in {row.remote_id async for row in target.list()}
    assert world.request_count("update") == 0, "a command that only reads has changed the file"
    world.play(kind, op=op)
    for _ in range(5):
        assert await state_at_a_new_process(world, copy) in (DocState.INDEXING, DocState.READY)
        world.clock.now += 8
    assert world.request_count(op) == 1
    world.clock.now += GIVE_UP
    await state_at_a_new_process(world, copy)
    world.clock.now += 1
    assert await state_at_a_new_process(world, copy) is DocState.READY
    assert await search(world, "kestrels") == {"a.md", "b.md"}


@long
@pytest.mark.parametrize("op", ["update", "link"])
async def test_work_interrupted_by_a_server_restart_is_started_again(world: OpenWebuiWorld, op: str) -> None:
    copy = await uploaded_copy(world)
    world.play("goes-on", op=op, args={"seconds": 0})
    for seconds in (1, GIVE_UP / 2 - 10, 20, 1):
        await state_at_a_new_process(world, copy)
        world.clock.now += seconds
    assert await state_at_a_new_process(world, copy) is DocState.READY
    assert world.request_count("upload") == 2
    assert await search(world, "kestrels") == {"a.md", "b.md"}


@long
@pytest.mark.parametrize("end", ["kbsync", "server"])
async def test_pass_does_not_wait_for_a_postponed_copy_and_says_how_long_it_takes(
    world: OpenWebuiWorld, end: str
) -> None:
    """Either is killed while a copy is indexed, which restarts only after 15 minutes."""
    await world.mirrored({"a.md": "all about kestrels"})
    world.clock.now += 100
    world.write("b.md", "all about kestrels")
    if end == "kbsync":
        guillotine = Guillotine(upon=["POST answer"] * 2)  # uploaded, changed, not linked
        await world.crash(guillotine)
        assert guillotine.fallen
    else:
        world.play("goes-on", op="update", args={"seconds": 0})
    began = world.clock.now
    trouble = (await world.once()).problem
    assert world.clock.now - began < 120
    assert re.fullmatch(r"b\.md: indexing was interrupted, .* kbsync will repeat it in 1[0-9] min", trouble)
    assert world.statuses() == {"ready": 1, "indexing": 1}
    assert re.search(
        r"indexing the document for \d+ s: .*repeat it in 1\d min; run `kbsync --once",
        await explained(world, "b.md"),
    )
    world.clock.now += 15 * 60
    assert not (await world.once()).problem
    assert world.statuses() == {"ready": 2}
    assert await search(world, "kestrels") == {"a.md", "b.md"}


@long
async def test_twin_is_ready_only_when_its_old_passages_are_gone(world: OpenWebuiWorld) -> None:
    """It is reindexed first for itself, then for the base: one hash is visible before the other."""
    world.target_settings["give_up"] = GIVE_UP
    for name in ("a.md", "b.md"):
        async with world.client() as target:
            await target.put([outgoing(name, "all about kestrels")])
    world.clock.now += 10
    world.play("goes-on", op="update")
    first, twin = world.app.documents
    states = list[DocState]()
    for _ in range(6):
        states.append(await state_at_a_new_process(world, twin))
        world.clock.now += 9
    assert states == [DocState.INDEXING] * 5 + [DocState.READY]
    assert await state_at_a_new_process(world, first) is DocState.READY
    assert await search(world, "kestrels") == {"a.md", "b.md"}


@pytest.mark.parametrize("polled", [["b.md"], ["b.md", "a.md"], ["a.md", "b.md"]])
async def test_twin_polled_too_early_is_recognized(world: OpenWebuiWorld, polled: list[str]) -> None:
    """The first list lacks it, whichever of the two is polled first."""
    world.turn(vectorize=(2.0, 2.0))
    ids = dict[str, str]()
    for name in ("a.md", "b.md"):
        async with world.client() as target:
            [accepted] = await target.put([outgoing(name, "all about kestrels")])
        ids[name] = accepted.remote_id
        world.clock.now += 1
    world.clock.now += 10
    world.play("left-out", op="list")
    states = [await state_at_a_new_process(world, ids[name]) for name in (*polled, *polled[-1:] * 2)]
    assert states[-1] is DocState.READY
    assert await search(world, "kestrels") == {"a.md", "b.md"}


@pytest.mark.parametrize("goes", [0, 1])
async def test_one_of_two_accidental_equal_texts_can_be_deleted(world: OpenWebuiWorld, goes: int) -> None:
    for name in ("a.md", "b.md"):
        async with world.client() as target:
            await target.put([outgoing(name, "all about kestrels")])
    world.clock.now += 10
    [*ids] = world.app.documents
    async with world.client() as target:
        world.play("lost-answer", op="update", times=2, effect=False)
        assert isinstance((await target.delete([ids[goes]]))[ids[goes]], Unavailable)
        assert await target.delete([ids[goes]]) == {ids[goes]: None}
        assert (await target.status([ids[1 - goes]]))[ids[1 - goes]].state is DocState.READY
    assert await search(world, "kestrels") == {["b.md", "a.md"][goes]}


async def test_text_too_large_to_be_made_different_blocks_no_other_deletion(
    world: OpenWebuiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = []
    for name, text in (("a.md", "kestrels " * 5000), ("b.md", "kestrels " * 5000), ("c.md", "herons")):
        async with world.client() as target:
            [stored] = await target.put([outgoing(name, text)])
        ids.append(stored.remote_id)
    world.clock.now += 10
    monkeypatch.setattr(client, "MAX_RESPONSE_BYTES", 20_000)
    async with world.client() as target:
        outcomes = await target.delete([ids[0], ids[2]])
    assert isinstance(outcomes[ids[0]], Unavailable) and "20,000 bytes" in outcomes[ids[0]].reason
    assert outcomes[ids[2]] is None
    assert {document["path"] for document in world.documents()} == {"a.md", "b.md"}


@pytest.mark.parametrize("is_polled", [False, True])
async def test_foreign_file_that_accidentally_has_the_same_text_is_untouched(
    world: OpenWebuiWorld, is_polled: bool
) -> None:
    """Of two equal texts, only ours is changed (promise 6), whichever came first."""
    async with world.client() as target:
        [ours] = await target.put([outgoing("a.md", "all about kestrels")])
        theirs = world.app.store("theirs.md", b"all about kestrels", "text/plain", {"knowledge_id": HOME_ID})
        world.clock.now += 10
        if is_polled:
            await target.status([ours.remote_id])
        assert await target.delete([ours.remote_id]) == {ours.remote_id: None}
    assert await search(world, "kestrels") == {"theirs.md"}
    assert theirs.extracted == "all about kestrels"


@long
@pytest.mark.parametrize("op", ["update", "link"])
async def test_file_is_not_deleted_while_it_is_being_processed(world: OpenWebuiWorld, op: str) -> None:
    copy = await uploaded_copy(world)
    world.play("goes-on", op=op)
    await state_at_a_new_process(world, copy)
    for seconds in (25, GIVE_UP):
        async with world.client() as target:
            await target.delete([copy])
        world.clock.now += seconds
    async with world.client() as target:
        assert await target.delete([copy]) == {copy: None}
    assert [document.is_deleted for document in world.app.documents.values()] == [False, True]
    assert await search(world, "kestrels") == {"a.md"}


@pytest.mark.parametrize("deleted", [7, "two", None])
async def test_malformed_second_response_confirms_no_empty_list(
    world: OpenWebuiWorld, deleted: object
) -> None:
    body = {"deleted": deleted, "directory_map": {}}
    world.play("status", op="folders", times=0, args={"status": 200, "body": body})
    async with world.client() as target:
        with pytest.raises(Unavailable):
            [row async for row in target.list()]


@long
async def test_polling_a_thousand_pending_documents_takes_a_few_requests(world: OpenWebuiWorld) -> None:
    world.turn(vectorize=(50.0, 60.0))
    ids = [
        world.app.store(f"{number}.md", b"text %d" % number, "text/plain", {"knowledge_id": HOME_ID}).id
        for number in range(1000)
    ]
    async with world.client() as target:
        assert {status.state for status in (await target.status(ids)).values()} == {DocState.INDEXING}
        assert world.request_count() <= 5
        world.clock.now += 100
        world.server.requests.clear()
        assert {status.state for status in (await target.status(ids)).values()} == {DocState.READY}
        assert world.request_count() <= 1 + 4 + 10
