"""Tests a mirror on Dify: its documents, knowledge bases and plans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.accounts.account import BaseRequest, account_of
from kbsync.contract.searching import Query
from kbsync.errors import Halted, NameTaken, NotOffered, Rejected, Unavailable
from kbsync_standin.dify import HOME_ID
from tests.remote.test_links import items
from tests.remote.world import sha_of_folder
from tests.services.dify import DifyWorld
from tests.share import enumerated, long


async def test_foreign_document_with_our_name_is_left_alone(world: DifyWorld) -> None:
    """Without an option in the upload, Dify would replace it with ours."""
    world.settings = replace(world.settings, names="plain")
    planted = world.plant("guide.md", "somebody else's, and longer than ours")
    await world.mirrored({"guide.md": "ours"})
    assert world.bytes_by_path() == sha_of_folder(world)
    assert world.keeps_foreign()
    assert {document["id"] for document in world.documents()} > {planted}
    assert world.effects("replaced") == []


@pytest.mark.parametrize("technique", ["indexing_technique", "process_rule"])
async def test_unused_base_is_given_its_missing_settings(world: DifyWorld, technique: str) -> None:
    world.turn(fresh=True)
    if technique == "process_rule":
        world.app.bases[HOME_ID].technique = "economy"
    await world.mirrored({"a.md": "alpha"})
    assert world.statuses() == {"ready": 1}
    base = world.app.bases[HOME_ID]
    assert base.technique == ("economy" if technique == "process_rule" else "high_quality")
    assert world.request_count("upload") == (2 if technique == "process_rule" else 3)


async def test_version_without_text_does_not_replace_the_old_one(world: DifyWorld) -> None:
    """Dify's status for it is completed, enabled and not archived."""
    await world.mirrored({"guide.md": "the first text"})
    before = world.bytes_by_path(searchable=True)
    world.clock.now += 10
    await world.mirrored({"guide.md": " \n "})
    assert world.bytes_by_path(searchable=True) == before
    assert "no text" in items(world)["guide.md"].reason


async def test_automatic_rule_is_not_sent_when_it_would_create_no_passage(world: DifyWorld) -> None:
    world.turn(doc_form="hierarchical_model")
    world.plant("theirs.md", "cut into parents and children")
    world.app.bases[HOME_ID].has_rule = False
    await world.mirrored({"a.md": "alpha"})
    assert "in Dify's console first" in items(world)["a.md"].reason
    assert world.effects("stored")[1:] == []


async def test_older_versions_are_sent_the_technique_immediately(world: DifyWorld) -> None:
    world.turn(technique_needed=True)
    await world.mirrored({"a.md": "alpha"})
    assert world.statuses() == {"ready": 1}
    assert world.request_count("upload") == 1


async def test_documents_are_sliced_like_existing_ones(world: DifyWorld) -> None:
    world.turn(doc_form="hierarchical_model")
    world.plant("theirs.md", "cut into parents and children")
    await world.mirrored({"a.md": "alpha"})
    assert world.statuses() == {"ready": 1}


@enumerated()
@pytest.mark.parametrize("state", ["disabled", "archived"])
async def test_documents_hidden_by_others_stay_hidden_until_retry_even_after_a_lost_state(
    world: DifyWorld, state: str
) -> None:
    world.play("hidden", op="upload", args={"archived": state == "archived"})
    await world.mirrored({"a.md": "alpha"})
    world.lose_state()
    await world.once()
    assert world.statuses() == {"failed": 1}
    assert f"{state} in Dify" in items(world)["a.md"].reason
    assert [effect["effect"] for effect in world.app.journal()] == ["stored"]
    world.post_request("retry")
    await world.ends_equal()


async def test_older_version_serves_while_the_new_one_is_hidden(world: DifyWorld) -> None:
    await world.mirrored({"a.md": "alpha"})
    before = world.bytes_by_path(searchable=True)
    world.clock.now += 10
    world.play("hidden", op="upload")
    await world.mirrored({"a.md": "beta"})
    assert world.bytes_by_path(searchable=True) == before
    assert len(world.effects("stored")) == 2


@long
async def test_document_being_indexed_is_deleted_later_when_dify_says_so(world: DifyWorld) -> None:
    world.turn(indexing_deletion="refused", vectorize=(40.0, 40.0))
    await world.mirrored({"a.md": "alpha", "kept.md": "kept"})
    world.clock.now += 10
    world.delete("a.md")
    await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)


async def test_quota_exhausted_during_indexing_halts_with_its_message(world: DifyWorld) -> None:
    error = "You exceeded your current quota, please check your plan"
    world.play("fails", op="upload", times=0, args={"error": error})
    await world.mirrored({"a.md": "alpha"})
    assert world.halted == "quota"
    assert world.run.halt is not None and error in world.run.halt.detail


async def test_requests_not_allowed_by_a_plan_wait_a_minute(world: DifyWorld) -> None:
    world.write("a.md", "alpha")
    world.play("rate-limited", op="upload")
    began = world.clock.now
    await world.once()
    assert world.statuses() == {"ready": 1}
    assert world.clock.now - began >= 55


async def test_unstructured_installation_accepts_more_formats(tmp_path: Path) -> None:
    async with DifyWorld(tmp_path, etl_type="unstructured").serving() as world:
        world.turn(unstructured=True)
        await world.mirrored({"mail.eml": "Subject: hello"})
        assert world.statuses() == {"ready": 1}


async def test_search_is_limited_to_what_dify_accepts_and_may_find_nothing(world: DifyWorld) -> None:
    await world.mirrored({"a.md": "some text"})
    world.play("nothing-found", op="retrieve")
    async with world.client() as target:
        matching = [await target.search(Query("text " * 100, top_k=3)) for _ in range(2)]
        assert await target.search(Query("  ")) == ()
    assert [len(hits) for hits in matching] == [0, 1]


@long
@pytest.mark.parametrize("files_url", ["set", "missing"])
async def test_plain_names_are_adopted_by_bytes_after_a_lost_state(world: DifyWorld, files_url: str) -> None:
    world.turn(files_url=files_url)
    world.settings = replace(world.settings, names="plain")
    await world.mirrored({"a.md": "alpha"})
    world.plant("b.md", "not ours, of the same length")
    world.write("b.md", "ours by its name, not theirs")
    world.lose_state()
    await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)
    assert len(world.effects("stored")) == 3
    assert world.keeps_foreign()


async def test_base_is_created_with_settings_that_cannot_be_changed(world: DifyWorld) -> None:
    async with world.client() as target:
        bases = account_of(target).bases
        created = await bases.create(BaseRequest("Guides", settings={"indexing_technique": "economy"}))
        assert created.settings == {"indexing_technique": "economy"}
        with pytest.raises(NameTaken, match=created.id):
            await bases.create(BaseRequest("Guides"))
        with pytest.raises(NotOffered, match="--set"):
            await bases.update(created.id, BaseRequest(settings={"permission": "only_me"}))
        await bases.delete(created.id)
        for ask in (bases.get, bases.delete):
            with pytest.raises(Halted, match="kb list"):
                await ask(created.id)


async def test_lost_response_leaves_one_base_and_its_id_is_found(world: DifyWorld) -> None:
    world.play("lost-answer", op="create-base")
    async with world.client() as target:
        created = await account_of(target).bases.create(BaseRequest("Guides"))
        assert [row.id for row in await account_of(target).bases.list_all() if row.name == "Guides"] == [
            created.id
        ]


async def test_lost_delete_response_is_no_error_and_a_missing_base_is_named_by_its_id(
    world: DifyWorld,
) -> None:
    async with world.client() as target:
        first, second = [
            await account_of(target).bases.create(BaseRequest(name)) for name in ("Guides", "Others")
        ]
        world.play("lost-answer", op="delete-base")
        await account_of(target).bases.delete(first.id)
        assert first.id not in [row.id for row in await account_of(target).bases.list_all()]
        for args, kind in (({"status": 404}, NotOffered), ({"status": 200, "body": {}}, Unavailable)):
            world.play("status", op="delete-base", effect=False, args=args)
            with pytest.raises(kind):
                await account_of(target).bases.delete(second.id)
        world.play("not-found", op="edit-base")
        with pytest.raises(Halted, match=second.id) as error:
            await account_of(target).bases.update(second.id, BaseRequest("Third"))
        assert HOME_ID not in error.value.reason


async def test_description_can_be_cleared(world: DifyWorld) -> None:
    async with world.client() as target:
        created = await account_of(target).bases.create(BaseRequest("Guides", "How to"))
        await account_of(target).bases.update(created.id, BaseRequest(description=""))
        assert (await account_of(target).bases.get(created.id)).description == ""


@pytest.mark.parametrize(
    ("base_request", "words"),
    [
        (BaseRequest("n" * 41), "40 characters"),
        (BaseRequest("a", "d" * 401), "400 characters"),
        (BaseRequest("a", model="m"), "--model"),
        (BaseRequest("a", settings={"icon": "x"}), "indexing_technique, permission"),
    ],
)
async def test_unsupported_base_setting_is_reported_before_anything_is_sent(
    world: DifyWorld, base_request: BaseRequest, words: str
) -> None:
    target = world.make_target()
    with pytest.raises(Rejected, match=words):
        await account_of(target).bases.create(base_request)
    with pytest.raises(NotOffered):
        await account_of(target).bases.capacity()
    with pytest.raises(NotOffered):
        await account_of(target).bases.models()
    assert world.request_count() == 0
