"""Tests the mirror at RAGFlow: uploads in two steps, names, and versions of the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.contract.searching import Query
from kbsync.contract.target import DocState
from kbsync.errors import Rejected
from kbsync.targets.http.metadata import tags_in
from kbsync_standin.ragflow.datasets import HOME_ID
from tests.crash.harness import Guillotine
from tests.remote.test_links import items
from tests.remote.world import sha_of_folder
from tests.services.ragflow import RagflowWorld
from tests.share import long


async def mirrored(world: RagflowWorld, n: int = 3) -> None:
    await world.mirrored(n)
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    world.server.requests.clear()
    world.clock.now += 10


async def search(world: RagflowWorld, words: str, **query: Any) -> list[str]:
    """Return the ids that a search finds."""
    async with world.client() as target:
        hits = await target.search(Query(words, **query))
    return [hit.remote_id for hit in hits]


# -- two steps


@long
@pytest.mark.parametrize("upon", [("POST answer",), ("POST answer", "POST start")], ids=str)
async def test_uploaded_but_unparsed_document_is_parsed_and_not_uploaded_again(
    world: RagflowWorld, upon: Sequence[str]
) -> None:
    """The client is killed after the first of the two requests, or just before it sends the second."""
    world.write("a.md", "some text")
    guillotine = Guillotine(upon=upon)
    await world.crash(guillotine)
    assert guillotine.fallen
    assert [document["run"] for document in world.documents()] == ["UNSTART"]
    await world.once()
    assert world.request_count("upload") == 1
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)


@long
async def test_unparsed_document_is_parsed_after_a_lost_state_too(world: RagflowWorld) -> None:
    world.write("a.md", "some text")
    await world.crash(Guillotine(upon=("POST answer",)))
    assert [document["run"] for document in world.documents()] == ["UNSTART"]
    world.lose_state()
    await world.once()
    assert world.request_count("upload") == 1
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)


@long
async def test_late_parse_request_parses_nothing_twice(world: RagflowWorld) -> None:
    """A document can't be found while it is parsed again."""
    world.play("late-effect", op="parse", args={"after": 5})
    await world.mirrored({"a.md": "some text"})
    assert world.request_count("parse") == 1
    assert len(world.effects("parsed")) == 1
    assert world.statuses() == {"ready": 1}


@long
@pytest.mark.parametrize(
    ("kind", "args", "reason"),
    [
        ("code", {"code": 102, "message": "no parser"}, "no parser"),
        ("fails", {"said": "Fail to bind embedding model"}, "Fail to bind embedding model"),
        ("no-chunks", {}, "No chunk built"),
    ],
)
async def test_document_that_cannot_be_parsed_fails_alone_with_the_services_reason(
    world: RagflowWorld, kind: str, args: dict[str, Any], reason: str
) -> None:
    world.play(kind, op="parse", match="*f1~*", times=0, args=args)
    await world.mirrored(3)
    assert world.statuses() == {"ready": 2, "failed": 1}
    assert reason in items(world)["f1.md"].reason


@long
async def test_pipeline_dataset_is_parsed_by_its_own_call(world: RagflowWorld) -> None:
    world.turn(pipeline=True)
    await mirrored(world)


@long
@pytest.mark.parametrize(
    ("message", "halt"),
    [
        ("429: You exceeded your current quota", "quota"),
        ("[ERROR]Fail to bind embedding model: Model(bge-m3@Ollama) not authorized", "target-rejects"),
    ],
)
async def test_model_without_credit_or_rights_halts_and_blames_no_document(
    world: RagflowWorld, message: str, halt: str
) -> None:
    world.play("fails", op="parse", times=0, args={"said": message})
    await world.mirrored(3)
    assert world.halted == halt
    assert "failed" not in world.statuses()
    world.server.faults.clear()
    for _ in range(3):
        world.clock.now += 90
        await world.once()
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    assert world.request_count("upload") == 3


# -- names


@long
async def test_names_equal_to_the_database_are_two_documents_even_after_a_lost_state(
    world: RagflowWorld,
) -> None:
    """Case and accents don't count there: the second is called `name(1).md`."""
    for name in ("resume.md", "Resume.md", "Résumé.md"):
        world.write(name, "the same text")
    await world.ends_equal()
    assert sorted(document["name"].count("(") for document in world.documents()) == [0, 1, 1]
    world.lose_state()
    await world.once()
    assert world.request_count("upload") == 3
    assert world.statuses() == {"ready": 3}
    assert items(world).keys() == sha_of_folder(world).keys()


@long
@pytest.mark.parametrize("kind", ["lost-answer", "no-id"])
async def test_lost_upload_is_found_under_the_name_the_service_gave_it(
    world: RagflowWorld, kind: str
) -> None:
    await world.mirrored({"Resume.md": "the same text"})
    world.clock.now += 10
    world.write("resume.md", "the same text")
    world.play(kind, op="upload")
    await world.once()
    assert [document["name"].count("(1)") for document in world.documents()] == [0, 1]
    assert world.request_count("upload") == 2
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)


@long
async def test_lost_pdf_upload_is_found_although_the_service_repaired_it(world: RagflowWorld) -> None:
    world.write("damaged.pdf", "no header, and so another length there")
    world.play("lost-answer", op="upload")
    await world.once()
    assert world.request_count("upload") == 1
    assert world.statuses() == {"ready": 1}


# -- deletions


@long
async def test_delete_request_without_ids_is_never_sent(world: RagflowWorld) -> None:
    world.turn(no_ids="all")
    await mirrored(world)
    async with world.client() as target:
        assert await target.delete([]) == {}
        assert await target.remove_several([])
        assert await target.status([]) == {}
    assert world.request_count() == 0
    assert len(world.documents()) == 3


@long
@pytest.mark.parametrize("unknown_ids", ["refused", "reported"])
async def test_already_missing_document_does_not_prevent_other_deletions(
    world: RagflowWorld, unknown_ids: str
) -> None:
    world.turn(unknown_ids=unknown_ids)
    await mirrored(world, 5)
    ids = [document["id"] for document in world.documents()]
    world.app.put_foreign({"delete": ids[1]})
    async with world.client() as target:
        assert await target.delete(ids[:3]) == dict.fromkeys(ids[:3])
    assert [document["id"] for document in world.documents()] == ids[3:]
    assert world.request_count("delete") <= 2


# -- states


@long
async def test_many_states_are_read_from_versions_without_an_id_filter(world: RagflowWorld) -> None:
    world.turn(ids_filter=False)
    await world.mirrored(130)
    assert world.statuses() == {"ready": 130}
    ids = [document["id"] for document in world.documents()]
    world.server.requests.clear()
    async with world.client() as target:
        states = await target.status(ids[:3])
    assert [state.state for state in states.values()] == [DocState.READY] * 3
    assert world.request_count("list") <= 3


async def test_disabled_document_is_not_reported_searchable(world: RagflowWorld) -> None:
    await mirrored(world, 1)
    [document] = world.documents()
    world.app.put_foreign({"disable": document["id"]})
    async with world.client() as target:
        [status] = (await target.status([document["id"]])).values()
    assert status.state is DocState.FAILED and "disabled" in status.reason
    assert await search(world, "text") == []


@long
async def test_document_disabled_by_a_person_stays_disabled_after_a_lost_state_at_no_cost(
    world: RagflowWorld,
) -> None:
    await mirrored(world, 1)
    world.app.put_foreign({"disable": world.documents()[0]["id"]})
    world.lose_state()
    await world.once()
    assert world.statuses() == {"failed": 1}
    assert world.request_count("upload") == world.request_count("parse") == world.request_count("delete") == 0
    world.post_request("retry")
    await world.ends_equal()


# -- searches


async def test_search_among_some_documents_sends_their_ids(world: RagflowWorld) -> None:
    await mirrored(world)
    ids = [document["id"] for document in world.documents()]
    assert sorted(await search(world, "text", among=(ids[1],), paths=("x",))) == [ids[1]]
    assert world.request_count("search") == 1


async def test_search_among_documents_with_a_missing_one_finds_the_others(world: RagflowWorld) -> None:
    await mirrored(world)
    ids = tuple(document["id"] for document in world.documents())
    world.app.put_foreign({"delete": ids[1]})
    assert sorted(await search(world, "text", among=ids, paths=("x",))) == sorted({ids[0], ids[2]})


async def test_search_without_hits_is_not_an_error(world: RagflowWorld) -> None:
    assert await search(world, "text") == []  # there is no index yet
    await mirrored(world, 1)
    world.play("nothing-found", op="search")
    assert await search(world, "text") == []
    assert len(await search(world, "text")) == 1
    assert await search(world, "  ") == []


async def test_refused_search_is_reported(world: RagflowWorld) -> None:
    world.play("code", op="search", times=0, args={"code": 400, "message": "Model not found"})
    with pytest.raises(Rejected, match="Model not found"):
        await search(world, "text")


# -- metadata


async def test_path_and_tags_are_stored_as_metadata(world: RagflowWorld) -> None:
    world.settings = replace(world.settings, prefix="team/")
    world.write("guides/intro.md", "---\ntitle: A\ntags: [red, 'green']\n---\nAll about herons.")
    world.write("plain.txt", "---\ntags: none\n---\ntext")
    await world.once()
    fields = [document.fields for document in world.app.documents_of(HOME_ID)]
    assert sorted(fields, key=str) == [
        {"path": "team/guides/intro.md", "tags": ["red", "green"]},
        {"path": "team/plain.txt"},
    ]


@long
@pytest.mark.parametrize(("kind", "args"), [("status", {"status": 404}), ("code", {"code": 102})])
async def test_document_with_refused_metadata_is_mirrored_without_it(
    world: RagflowWorld, kind: str, args: dict[str, Any]
) -> None:
    world.play(kind, op="describe", times=0, args=args)
    await mirrored(world)
    assert world.statuses() == {"ready": 3}


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("---\ntags: a, b, a\n---\n", ["a", "b"]),
        ('\ufeff---\r\nTags:\r\n  - a b\r\n  - "#c"\r\ntitle: t\r\n  - no\r\n---\r\ntext', ["a b", "c"]),
        ("---\ntags: []\n---\n", []),
        ("---\ntags: [a]\ntext without an end", []),
        ("text\n---\ntags: a\n---\n", []),
        ("", []),
    ],
)
def test_tags_are_read_from_front_matter(text: str, tags: list[str]) -> None:
    assert tags_in(text) == tags


# -- polls


@pytest.mark.parametrize(
    ("seconds", "poll_first", "polls"), [(3.0, 1.0, 3), (10.0, 1.0, 9), (60.0, 1.0, 17), (10.0, 10.0, 1)]
)
async def test_polls_of_a_slow_document_become_rarer(
    tmp_path: Path, seconds: float, poll_first: float, polls: int
) -> None:
    async with RagflowWorld(tmp_path, vectorize=(seconds, seconds), poll_first=poll_first).serving() as world:
        await world.once()
        world.server.requests.clear()
        await world.mirrored({"new.md": "a new file"})
        assert (world.statuses(), world.request_count("list")) == ({"ready": 1}, polls)
