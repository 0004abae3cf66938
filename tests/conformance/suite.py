"""The suite that every target passes. A concrete class gives it a `world` and is named `Test…`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import pytest

from kbsync.contract import (
    Accepted,
    DocState,
    Outgoing,
    PutOutcome,
    Query,
    Reembeds,
    Renames,
    Searches,
    Target,
    Updates,
)
from kbsync.errors import Rejected, TargetError
from tests.conformance.world import Bytes, World, texts

WILD = {
    "newline": "two\nlines.md",
    "cjk": "手册/退款流程 第二版.md",
    "255 bytes": "n" * 252 + ".md",
    "leading dash": "--rm -rf.md",
    "leading dot": ".hidden.md",
    "quotes": 'it\'s "so" 100% & <b>; $(x) `y`.md',
    "not utf-8": "caf\udce9.md",
    "emoji": "🗂️ plan.md",
    "trailing space": "end .md",
}


class TargetSuite:
    """What the contract promises, tested from outside."""

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        raise NotImplementedError("a concrete class gives the world")
        yield

    # ---- put, status, list, search

    def test_keeps_the_protocol(self, world: World) -> None:
        assert isinstance(world.target, Target)
        limits = world.target.limits
        assert limits.batch >= 1
        assert limits.concurrency >= 1
        assert "md" in limits.extensions
        assert all(one == one.lower() and not one.startswith(".") for one in limits.extensions)

    async def test_accepted_document_becomes_ready_listed_and_searchable(self, world: World) -> None:
        document = world.document("guide.md", *texts(["kestrel"]))
        [remote_id] = await world.make_ready(document)
        assert remote_id in await world.listed()
        assert await world.found("kestrel") == {remote_id}

    async def test_ready_answer_is_true(self, world: World) -> None:
        [accepted] = await world.put(world.document("guide.md", *texts(["kestrel"])))
        if accepted.ready:
            status = await world.target.status([accepted.remote_id])
            assert status[accepted.remote_id].state is DocState.READY
            assert await world.found("kestrel") == {accepted.remote_id}

    async def test_outcomes_come_in_the_order_given(self, world: World) -> None:
        words = [f"heron{n}" for n in range(min(world.target.limits.batch, 5))]
        paths = [f"{word}.md" for word in reversed(words)]
        accepted = await world.put(*map(world.document, paths, texts(words)))
        await world.until(DocState.READY, *(one.remote_id for one in accepted))
        for word, one in zip(words, accepted, strict=True):
            assert await world.found(word) == {one.remote_id}

    async def test_status_tells_each_of_several_apart(self, world: World) -> None:
        ids = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        gone = await world.make_ready(world.document("b.md", *texts(["heron"])))
        await world.target.delete(gone)
        status = await world.target.status([*ids, *gone])
        assert {key: one.state for key, one in status.items()} == {
            ids[0]: DocState.READY,
            gone[0]: DocState.MISSING,
        }

    async def test_list_gives_what_it_promises(self, world: World) -> None:
        documents = [world.document(f"deep/er/{w}.md", t) for w, t in _pages("kestrel", "heron")]
        ids = await world.make_ready(*documents)
        listed = await world.listed()
        assert set(listed) == set(ids)
        for remote_id, document in zip(ids, documents, strict=True):
            row = listed[remote_id]
            assert row.name == document.name
            assert row.size in (None, document.size)
            assert row.state in (DocState.READY, DocState.UNKNOWN)
            if world.target.limits.marks:
                marks = (row.path, row.digest, row.upload_id, row.recipe)
                assert marks == (document.path, document.digest, document.upload_id, document.recipe)

    async def test_empty_base_lists_nothing_and_finds_nothing(self, world: World) -> None:
        assert await world.rows() == []
        assert await world.found("kestrel") == set()

    async def test_empty_requests_do_nothing(self, world: World) -> None:
        assert list(await world.target.put([])) == []
        assert dict(await world.target.status([])) == {}
        assert dict(await world.target.delete([])) == {}
        assert await world.rows() == []

    async def test_search_gives_at_most_as_many_documents_as_asked_for(self, world: World) -> None:
        target = world.require(Searches)
        pages = [f"# Page {n}\n\nThe kestrel of page {n}.\n" for n in range(4)]
        await world.make_ready(*(world.document(f"{n}.md", page) for n, page in enumerate(pages)))
        hits = await target.search(Query("kestrel", top_k=2))
        assert len(hits) == len({hit.remote_id for hit in hits}) == 2
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    async def test_documents_are_still_there_after_a_restart(self, world: World) -> None:
        ids = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        before = await world.target.base()
        await world.reopen()
        assert (await world.target.base()).id == before.id
        assert list(await world.listed()) == ids
        assert (await world.target.status(ids))[ids[0]].state is DocState.READY
        assert await world.found("kestrel") == set(ids)

    # ---- exactly one

    async def test_same_upload_put_again_leaves_one_document(self, world: World) -> None:
        if not world.target.limits.marks:
            pytest.skip("without marks a second put is a second document")
        document = world.document("a.md", *texts(["kestrel"]))
        first = await world.make_ready(document)
        await world.reopen()
        assert [one.remote_id for one in await world.put(document)] == first
        await world.until(DocState.READY, *first)
        assert list(await world.listed()) == first
        assert await world.found("kestrel") == set(first)

    async def test_upload_ids_of_a_lost_state_harm_nothing(self, world: World) -> None:
        """A state that was lost counts from 1 again: equal ids alone do not make equal uploads."""
        documents = [world.document(f"{w}.md", t, upload_id=1) for w, t in _pages("kestrel", "heron")]
        for document in documents:
            await world.make_ready(document)
        assert len(await world.listed()) == 2
        assert await world.found("kestrel")
        assert await world.found("heron")

    async def test_cancelled_put_can_be_sent_again(self, world: World) -> None:
        document = world.document("a.md", *texts(["kestrel"]))
        sending = asyncio.create_task(_put(world.target, document))
        await asyncio.sleep(0)
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending
        [remote_id] = await world.make_ready(document)
        listed = await world.listed()
        assert remote_id in listed
        if world.target.limits.marks:
            assert list(listed) == [remote_id]

    async def test_equal_bytes_at_two_paths_are_two_documents(self, world: World) -> None:
        [text] = texts(["kestrel"])
        first, second = await world.make_ready(
            world.document("one/a.md", text), world.document("two/b.md", text)
        )
        assert await world.found("kestrel") == {first, second}
        await world.target.delete([first])
        assert await world.found("kestrel") == {second}
        assert list(await world.listed()) == [second]

    async def test_two_versions_of_a_path_are_two_documents(self, world: World) -> None:
        ids = [await world.make_ready(world.document("a.md", t)) for t in texts(["kestrel", "heron"])]
        [first], [second] = ids
        assert set(await world.listed()) == {first, second}
        await world.target.delete([first])
        assert await world.found("heron") == {second}
        assert await world.found("kestrel") == set()

    async def test_parallel_puts_do_not_mix_outcomes(self, world: World) -> None:
        words = [f"heron{n}" for n in range(min(world.target.limits.concurrency, 6))]
        documents = [world.document(f"{w}.md", t) for w, t in _pages(*words)]
        outcomes = await asyncio.gather(*(_put(world.target, one) for one in documents))
        ids = [one.remote_id for one in _accepted(outcomes)]
        assert len(set(ids)) == len(words)
        await world.until(DocState.READY, *ids)
        for word, remote_id in zip(words, ids, strict=True):
            assert await world.found(word) == {remote_id}

    # ---- replacing

    async def test_old_version_is_searchable_until_the_new_one_is(self, world: World) -> None:
        [first] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        renewed = world.document("a.md", *texts(["heron"]), replaces=first)
        sending = asyncio.create_task(_put(world.target, renewed))
        while not (await asyncio.wait({sending}, timeout=0.002))[0]:
            assert await _serves(world, "kestrel", "heron")
        [accepted] = _accepted([await sending])
        await self._watch_until_ready(world, accepted)
        if not accepted.replaced and accepted.remote_id != first:
            await world.target.delete([first])
        assert await world.found("heron") == {accepted.remote_id}
        assert await world.found("kestrel") == set()
        assert list(await world.listed()) == [accepted.remote_id]

    async def _watch_until_ready(self, world: World, accepted: Accepted) -> None:
        for _ in range(200):
            status = await world.target.status([accepted.remote_id])
            assert await _serves(world, "kestrel", "heron")
            if status[accepted.remote_id].state is DocState.READY:
                return
            await world.pass_time(world.target.limits.poll_first)
        pytest.fail("the new version never became ready")

    async def test_failed_new_version_leaves_the_old_one_searchable(self, world: World) -> None:
        target = world.target
        if isinstance(target, Updates) and not target.keeps_old_on_failure:
            pytest.skip("this target says that it does not keep the old version")
        [first] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        await _fail(world, world.document("a.md", world.spoiled("a.md"), replaces=first))
        assert await world.found("kestrel") == {first}

    async def test_update_in_place_leaves_one_document(self, world: World) -> None:
        world.require(Updates)
        [first] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        [accepted] = await world.put(world.document("a.md", *texts(["heron"]), replaces=first))
        await world.until(DocState.READY, accepted.remote_id)
        assert list(await world.listed()) == [accepted.remote_id]
        assert await world.found("kestrel") == set()

    async def test_replacing_what_is_gone_makes_a_new_document(self, world: World) -> None:
        [first] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        await world.target.delete([first])
        [second] = await world.make_ready(world.document("a.md", *texts(["heron"]), replaces=first))
        assert await world.found("heron") == {second}

    # ---- deleting

    async def test_deleted_document_is_neither_listed_nor_found(self, world: World) -> None:
        ids = await world.make_ready(*(world.document(f"{w}.md", t) for w, t in _pages("kestrel", "heron")))
        assert dict(await world.target.delete(ids[:1])) == {ids[0]: None}
        assert (await world.target.status(ids[:1]))[ids[0]].state is DocState.MISSING
        assert await world.found("kestrel") == set()
        assert list(await world.listed()) == ids[1:]

    async def test_delete_is_repeatable_and_unknown_ids_count_as_done(self, world: World) -> None:
        [remote_id] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        [other] = await world.make_ready(world.document("b.md", *texts(["heron"])))
        await world.target.delete([remote_id])
        again = await world.target.delete([remote_id, other])
        assert dict(again) == {remote_id: None, other: None}
        assert await world.rows() == []

    async def test_document_can_be_deleted_before_it_is_ready(self, world: World) -> None:
        [accepted] = await world.put(world.document("a.md", *texts(["kestrel"])))
        assert dict(await world.target.delete([accepted.remote_id])) == {accepted.remote_id: None}
        await world.pass_time(world.target.limits.poll_longest)
        assert await world.found("kestrel") == set()
        assert await world.rows() == []

    async def test_deleted_document_can_be_put_again(self, world: World) -> None:
        document = world.document("a.md", *texts(["kestrel"]))
        await world.target.delete(await world.make_ready(document))
        [remote_id] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        assert await world.found("kestrel") == {remote_id}

    # ---- failures and limits

    async def test_one_bad_document_does_not_spoil_the_others(self, world: World) -> None:
        good = [world.document(f"{w}.md", t) for w, t in _pages("kestrel", "heron")]
        bad = world.document("bad.md", world.spoiled("bad.md"))
        outcomes = await _put_in_batches(world, [good[0], bad, good[1]])
        assert len(outcomes) == 3
        ids = [one.remote_id for one in _accepted([outcomes[0], outcomes[2]])]
        await world.until(DocState.READY, *ids)
        assert {*await world.found("kestrel"), *await world.found("heron")} == set(ids)

    async def test_failed_document_says_why(self, world: World) -> None:
        assert await _fail(world, world.document("bad.md", world.spoiled("bad.md")))

    async def test_full_batch_is_taken(self, world: World) -> None:
        words = [f"heron{n}" for n in range(min(world.target.limits.batch, 20))]
        outcomes = await world.target.put([world.document(f"{w}.md", t) for w, t in _pages(*words)])
        assert len(_accepted(outcomes)) == len(words)

    async def test_too_large_document_is_refused_and_leaves_nothing(self, world: World) -> None:
        most = world.target.limits.max_bytes
        if most is None:
            pytest.skip("this target has no limit of size")
        await _is_refused(world, world.document("a.md", b"x" * (most + 1)))

    async def test_format_not_taken_is_refused_and_leaves_nothing(self, world: World) -> None:
        await _is_refused(world, world.document("program.exe7", b"MZ\x00\x01 not text"))

    async def test_body_is_read_in_pieces_and_closed(self, world: World) -> None:
        line = b"A line about kestrels that is repeated again and again.\n"
        data = (line * (world.large_bytes // len(line) + 1))[: world.large_bytes]
        document = world.document("large.txt", data)
        await world.make_ready(document)
        assert isinstance(document.body, Bytes)
        assert document.body.streams
        assert all(stream.closed for stream in document.body.streams)

    # ---- names

    @pytest.mark.parametrize("path", WILD.values(), ids=WILD.keys())
    async def test_wild_names_come_back_as_sent(self, world: World, path: str) -> None:
        document = world.document(path, *texts(["kestrel"]))
        [remote_id] = await world.make_ready(document)
        row = (await world.listed())[remote_id]
        assert row.name == document.name
        assert row.path == (path if world.target.limits.marks else row.path)
        assert await world.found("kestrel") == {remote_id}
        assert dict(await world.target.delete([remote_id])) == {remote_id: None}

    async def test_composed_and_decomposed_names_are_two_documents(self, world: World) -> None:
        composed, decomposed = "caf\u00e9.md", "cafe\u0301.md"
        first = world.document(composed, *texts(["kestrel"]))
        second = world.document(decomposed, *texts(["heron"]))
        ids = await world.make_ready(first, second)
        listed = await world.listed()
        assert [listed[one].name for one in ids] == [first.name, second.name]
        assert first.name != second.name

    # ---- renaming and indexing again

    async def test_rename_keeps_the_document_and_its_index(self, world: World) -> None:
        target = world.require(Renames)
        [remote_id] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        for _ in range(2):
            await target.rename(remote_id, "new/b.md", world.name_for("new/b.md"), 1_700_000_001.0)
            assert (await world.target.status([remote_id]))[remote_id].state is DocState.READY
            assert await world.found("kestrel") == {remote_id}
        listed = await world.listed()
        assert list(listed) == [remote_id]
        assert listed[remote_id].name == world.name_for("new/b.md")
        if world.target.limits.marks:
            assert listed[remote_id].path == "new/b.md"

    async def test_two_documents_can_swap_their_names(self, world: World) -> None:
        target = world.require(Renames)
        pages = [world.document(f"{w}.md", t) for w, t in _pages("kestrel", "heron")]
        first, second = await world.make_ready(*pages)
        await target.rename(first, "heron.md", world.name_for("heron.md"), 1_700_000_001.0)
        await target.rename(second, "kestrel.md", world.name_for("kestrel.md"), 1_700_000_001.0)
        listed = await world.listed()
        assert [listed[one].name for one in (first, second)] == [pages[1].name, pages[0].name]
        assert await world.found("kestrel") >= {first}
        assert await world.found("heron") >= {second}

    async def test_renaming_what_is_gone_is_rejected(self, world: World) -> None:
        target = world.require(Renames)
        [remote_id] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        await world.target.delete([remote_id])
        with pytest.raises(Rejected):
            await target.rename(remote_id, "b.md", world.name_for("b.md"), 1_700_000_001.0)

    async def test_reembed_makes_a_cured_document_ready(self, world: World) -> None:
        target = world.require(Reembeds)
        [accepted] = await world.put(world.document("bad.md", world.spoiled("bad.md")))
        await world.until(DocState.FAILED, accepted.remote_id)
        world.cure()
        await target.reembed(accepted.remote_id)
        await world.until(DocState.READY, accepted.remote_id)
        assert list(await world.listed()) == [accepted.remote_id]

    # ---- recipe, base, closing

    async def test_recipe_is_stable_also_over_a_restart(self, world: World) -> None:
        recipes = [world.target.recipe("dir/a.md", {}) for _ in range(2)]
        await world.reopen()
        recipes.append(world.target.recipe("dir/a.md", {}))
        assert len(set(recipes)) == 1
        assert recipes[0]

    def test_recipe_does_not_depend_on_the_rest_of_the_path(self, world: World) -> None:
        recipe = world.target.recipe
        assert recipe("a.md", {}) == recipe("deep/caf\udce9.MD", {})

    def test_recipe_differs_where_settings_matter(self, world: World) -> None:
        if world.matter is None:
            pytest.skip("no setting of this target matters to .md files")
        assert world.target.recipe("a.md", world.matter) != world.target.recipe("a.md", {})

    def test_recipe_is_the_same_where_settings_do_not_matter(self, world: World) -> None:
        if world.no_matter is None:
            pytest.skip("every setting of this target matters to .md files")
        assert world.target.recipe("a.md", world.no_matter) == world.target.recipe("a.md", {})

    async def test_base_is_the_same_as_long_as_it_lives(self, world: World) -> None:
        before = await world.target.base()
        await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        after = await world.target.base()
        assert before.id == after.id
        assert before.documents in (None, 0)
        assert after.documents in (None, 1)

    async def test_base_made_anew_is_another_and_empty(self, world: World) -> None:
        before = await world.target.base()
        [remote_id] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        await world.recreate()
        assert (await world.target.base()).id != before.id
        assert await world.rows() == []
        assert (await world.target.status([remote_id]))[remote_id].state is DocState.MISSING

    async def test_aclose_is_repeatable(self, world: World) -> None:
        await world.target.aclose()
        await world.target.aclose()


def _pages(*words: str) -> list[tuple[str, str]]:
    return list(zip(words, texts(words), strict=True))


def _accepted(outcomes: Sequence[PutOutcome]) -> list[Accepted]:
    for outcome in outcomes:
        assert isinstance(outcome, Accepted), outcome
    return [outcome for outcome in outcomes if isinstance(outcome, Accepted)]


async def _put(target: Target, document: Outgoing) -> PutOutcome:
    """The outcome of one document; an error of the whole request is that of its only one."""
    try:
        [outcome] = await target.put([document])
    except TargetError as error:
        return error
    return outcome


async def _put_in_batches(world: World, documents: list[Outgoing]) -> list[PutOutcome]:
    """All at once where the target takes so many, else one by one."""
    if world.target.limits.batch >= len(documents):
        return list(await world.target.put(documents))
    return [await _put(world.target, document) for document in documents]


async def _serves(world: World, *words: str) -> set[str]:
    """What serves any of `words`. The oldest comes first: a swap between two looks is seen by the second."""
    found: set[str] = set()
    for word in words:
        found |= await world.found(word)
    return found


async def _fail(world: World, document: Outgoing) -> str:
    """Put a document that fails, at once or in indexing; the reason."""
    outcome = await _put(world.target, document)
    if isinstance(outcome, Accepted):
        await world.until(DocState.FAILED, outcome.remote_id)
        return (await world.target.status([outcome.remote_id]))[outcome.remote_id].reason
    assert isinstance(outcome, Rejected), outcome
    return outcome.reason


async def _is_refused(world: World, document: Outgoing) -> None:
    """The document is rejected, or the request is refused as a mistake of ours; nothing is stored."""
    try:
        outcome = await _put(world.target, document)
    except AssertionError:
        outcome = Rejected("refused as a mistake")
    assert isinstance(outcome, Rejected), outcome
    assert await world.rows() == []
