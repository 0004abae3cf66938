"""The suite that every target passes. A concrete class creates its world and is named `Test…`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.contract.searching import Query, SupportsExplain
from kbsync.contract.target import (
    Accepted,
    DocState,
    Outgoing,
    PutOutcome,
    SupportsDigest,
    SupportsFind,
    SupportsReembed,
    SupportsRename,
    SupportsReslice,
    SupportsSearchCheck,
    Target,
)
from kbsync.errors import Halted, NameTaken, NotOffered, Rejected, TargetError, Unavailable, Unfit
from tests.conformance.extras import ExtraSuite
from tests.conformance.world import SuiteWorld, texts
from tests.share import long
from tests.targets.bodies import BytesBody

WILD = {
    "newline": "two\nlines.md",
    "decomposed": "re\u0301sume\u0301 (1).md",
    "cjk": "手册/退款流程 第二版.md",
    "255 bytes": "n" * 252 + ".md",
    "leading dash": "--rm -rf.md",
    "leading dot": ".hidden.md",
    "quotes": 'it\'s "so" 100% & <b>; $(x) `y`.md',
    "not utf-8": "caf\udce9.md",
    "emoji": "🗂️ plan.md",
    "trailing space": "end .md",
}
LINKED = "https://example.org/files/prices.pdf"
LINK_FILE = f"[InternetShortcut]\nURL={LINKED}\n".encode()
"""A link document that every target must accept."""

MANY_IDS = 150
MANY_DOCUMENTS = 250
"""More than fits on two pages of a hundred."""


class TargetSuite(ExtraSuite):
    """The contract's promises, tested from outside."""

    def make_world(self, folder: Path) -> SuiteWorld:
        """Return a new world, which may write into `folder`."""
        raise NotImplementedError("a concrete class makes the world")

    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[SuiteWorld]:
        world = self.make_world(tmp_path)
        async with world.serving():
            world.target = await world.open()
            yield world
            await world.target.aclose()

    # ---- put, status, list, search

    def test_implements_the_protocol(self, world: SuiteWorld) -> None:
        assert isinstance(world.target, Target)
        limits = world.target.limits
        assert limits.batch >= 1
        assert limits.concurrency >= 1
        assert "md" in limits.extensions
        assert all(
            extension == extension.lower() and not extension.startswith(".")
            for extension in limits.extensions
        )

    async def test_ready_response_is_true(self, world: SuiteWorld) -> None:
        [accepted] = await world.put(world.document("guide.md", *texts(["kestrel"])))
        if accepted.ready:
            status = await world.target.status([accepted.remote_id])
            assert status[accepted.remote_id].state is DocState.READY
            assert await world.find("kestrel") == {accepted.remote_id}

    async def test_outcomes_keep_the_order_of_documents(self, world: SuiteWorld) -> None:
        words = [f"heron{n}" for n in range(min(world.target.limits.batch, 5))]
        paths = [f"{word}.md" for word in reversed(words)]
        accepted = await world.put(*map(world.document, paths, texts(words)))
        await world.until(DocState.READY, *(outcome.remote_id for outcome in accepted))
        for word, outcome in zip(words, accepted, strict=True):
            assert await world.find(word) == {outcome.remote_id}

    async def test_list_entries_have_the_promised_fields(self, world: SuiteWorld) -> None:
        documents = [world.document(f"deep/er/{w}.md", t) for w, t in _pages("kestrel", "红隼")]
        outcomes = await world.bring(*documents)
        listed = await world.listed()
        assert set(listed) == {outcome.remote_id for outcome in outcomes}
        for accepted, document in zip(outcomes, documents, strict=True):
            row = listed[accepted.remote_id]
            assert row.name == world.listed_name(document, accepted)
            assert row.size in (None, document.size)
            assert row.state in (DocState.READY, DocState.UNKNOWN)
            marks = (row.path, row.digest, row.upload_id)
            if world.target.limits.marks:
                assert marks == (document.path, document.digest, document.upload_id)
                assert row.recipe == document.recipe
            else:
                assert marks == (None, None, None)

    async def test_documents_of_another_mirror_in_the_base_have_no_path(self, world: SuiteWorld) -> None:
        if not world.target.limits.marks:
            pytest.skip("the names tell the mirror")
        await world.share("ours/")
        [ours] = await world.make_ready(world.document("a.md", "# Ours\n\nText.\n"))
        await world.share("theirs/")
        [theirs] = await world.make_ready(world.document("a.md", "# Theirs\n\nText.\n"))
        paths = {row.remote_id: row.path for row in await world.rows()}
        assert paths[theirs] == "a.md"
        assert paths.get(ours) is None

    async def test_document_is_found_by_its_listed_name(self, world: SuiteWorld) -> None:
        target = world.require(SupportsFind)
        first, second = world.document("a.md", "kestrel"), world.document("b.md", "merlin")
        [first_id, second_id] = await world.make_ready(first, second)
        rows = await world.listed()
        result = {row.remote_id: row for row in await target.find(rows[first_id].name)}
        row = rows[first_id]
        assert (result[first_id].name, result[first_id].size) == (row.name, row.size)
        assert result.keys() <= {first_id, second_id}
        await world.target.delete([first_id])
        await world.pass_time(2 * world.target.limits.list_lag)
        assert first_id not in {row.remote_id for row in await target.find(row.name)}

    async def test_list_gives_the_creation_time(self, world: SuiteWorld) -> None:
        before = world.now()
        [accepted] = await world.put(world.document("a.md", *texts(["kestrel"])))
        after = world.now()
        await world.until(DocState.READY, accepted.remote_id)
        created = (await world.listed())[accepted.remote_id].created
        if created is None:
            pytest.skip("the list of this target tells no times")
        assert before - 1.0 <= created <= after + 1.0  # some services have times in whole seconds

    async def test_ids_are_strings_everywhere(self, world: SuiteWorld) -> None:
        [accepted] = await world.bring(world.document("a.md", *texts(["kestrel"])))
        [row] = await world.rows()
        [key] = await world.target.status([accepted.remote_id])
        ids = [accepted.remote_id, row.remote_id, key]
        ids += [hit.remote_id for hit in await world.target.search(Query("kestrel"))]
        assert {type(remote_id) for remote_id in ids} == {str}
        assert len(set(ids)) == 1
        assert accepted.remote_id

    @long
    async def test_status_of_many_ids_answers_all_of_them(self, world: SuiteWorld) -> None:
        ids = await world.fill(MANY_IDS)
        status = await world.target.status([*ids, world.unknown_id])
        states = {key: row.state for key, row in status.items()}
        assert states == {**dict.fromkeys(ids, DocState.READY), world.unknown_id: DocState.MISSING}

    async def test_impossible_ids_are_unknown(self, world: SuiteWorld) -> None:
        if not world.impossible_ids:
            pytest.skip("this target doesn't read the ids it gives")
        ids = list(world.impossible_ids)
        status = await world.target.status(ids)
        assert {key: row.state for key, row in status.items()} == dict.fromkeys(ids, DocState.MISSING)
        assert dict(await world.target.delete(ids)) == dict.fromkeys(ids)
        for remote_id in ids:
            with pytest.raises(Rejected, match="has no document"):
                await world.require(SupportsExplain).explain(remote_id)

    @long
    async def test_long_list_is_complete_and_without_duplicates(self, world: SuiteWorld) -> None:
        ids = await world.fill(MANY_DOCUMENTS)
        assert len(set(ids)) == MANY_DOCUMENTS
        assert set(await world.listed()) == set(ids)

    async def test_empty_base_lists_nothing_and_finds_nothing(self, world: SuiteWorld) -> None:
        assert await world.rows() == []
        assert await world.find("kestrel") == set()

    async def test_empty_requests_do_nothing(self, world: SuiteWorld) -> None:
        assert list(await world.target.put([])) == []
        assert dict(await world.target.status([])) == {}
        assert dict(await world.target.delete([])) == {}
        assert await world.rows() == []

    async def test_search_returns_at_most_the_requested_number_of_documents(self, world: SuiteWorld) -> None:
        target = world.target
        pages = [f"# Page {n}\n\nThe kestrel of page {n}.\n" for n in range(4)]
        await world.make_ready(*(world.document(f"{n}.md", page) for n, page in enumerate(pages)))
        hits = await target.search(Query("kestrel", top_k=2))
        assert len(hits) == len({hit.remote_id for hit in hits}) == 2
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    async def test_documents_survive_a_restart(self, world: SuiteWorld) -> None:
        ids = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        before = await world.target.base()
        await world.reopen()
        assert (await world.target.base()).id == before.id
        assert list(await world.listed()) == ids
        assert (await world.target.status(ids))[ids[0]].state is DocState.READY
        assert await world.find("kestrel") == set(ids)

    # ---- exactly one document

    async def test_repeated_put_of_one_upload_leaves_one_document(self, world: SuiteWorld) -> None:
        if not world.target.limits.marks:
            pytest.skip("without marks a second put is a second document")
        if not world.repeats_puts:
            pytest.skip("an upload is looked for in the list before it is sent again")
        document = world.document("a.md", *texts(["kestrel"]))
        first = await world.make_ready(document)
        await world.reopen()
        assert [outcome.remote_id for outcome in await world.put(document)] == first
        await world.until(DocState.READY, *first)
        assert list(await world.listed()) == first
        assert await world.find("kestrel") == set(first)

    async def test_upload_ids_of_a_lost_state_are_harmless(self, world: SuiteWorld) -> None:
        """After a lost state, ids count from 1 again, so equal ids alone don't make equal uploads."""
        documents = [world.document(f"{w}.md", t, upload_id=1) for w, t in _pages("kestrel", "heron")]
        for document in documents:
            await world.make_ready(document)
        assert len(await world.listed()) == 2
        assert await world.find("kestrel")
        assert await world.find("heron")

    async def test_cancelled_put_can_be_sent_again(self, world: SuiteWorld) -> None:
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

    async def test_equal_bytes_at_two_paths_are_two_documents(self, world: SuiteWorld) -> None:
        [text] = texts(["kestrel"])
        first, second = await world.make_ready(
            world.document("one/a.md", text), world.document("two/b.md", text)
        )
        assert await world.find("kestrel") == {first, second}
        await world.target.delete([first])
        assert await world.find("kestrel") == {second}
        assert list(await world.listed()) == [second]

    async def test_two_versions_of_a_path_are_two_documents(self, world: SuiteWorld) -> None:
        ids = [await world.make_ready(world.document("a.md", t)) for t in texts(["kestrel", "heron"])]
        [first], [second] = ids
        assert set(await world.listed()) == {first, second}
        await world.target.delete([first])
        assert await world.find("heron") == {second}
        assert await world.find("kestrel") == set()

    async def test_parallel_puts_do_not_mix_outcomes(self, world: SuiteWorld) -> None:
        words = [f"heron{n}" for n in range(min(world.target.limits.concurrency, 6))]
        documents = [world.document(f"{w}.md", t) for w, t in _pages(*words)]
        outcomes = await asyncio.gather(*(_put(world.target, document) for document in documents))
        ids = [outcome.remote_id for outcome in _accepted(outcomes)]
        assert len(set(ids)) == len(words)
        await world.until(DocState.READY, *ids)
        for word, remote_id in zip(words, ids, strict=True):
            assert await world.find(word) == {remote_id}

    # ---- replacements

    async def test_old_version_is_searchable_until_the_new_one_is_ready(self, world: SuiteWorld) -> None:
        [first] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        renewed = world.document("a.md", *texts(["heron"]), replaces=first)
        sending = asyncio.create_task(_put(world.target, renewed))
        while not (await asyncio.wait({sending}, timeout=0.002))[0]:
            assert await _serves(world, "kestrel", "heron")
        [accepted] = _accepted([await sending])
        await self._watch_until_ready(world, accepted)
        if not accepted.replaced and accepted.remote_id != first:
            await world.target.delete([first])
        assert await world.find("heron") == {accepted.remote_id}
        assert await world.find("kestrel") == set()
        assert list(await world.listed()) == [accepted.remote_id]

    async def _watch_until_ready(self, world: SuiteWorld, accepted: Accepted) -> None:
        for _ in range(200):
            status = await world.target.status([accepted.remote_id])
            assert await _serves(world, "kestrel", "heron")
            if status[accepted.remote_id].state is DocState.READY:
                return
            await world.pass_time(world.target.limits.poll_first)
        pytest.fail("the new version never became ready")

    async def test_failed_new_version_leaves_the_old_one_searchable(self, world: SuiteWorld) -> None:
        [first] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        await _fail(world, world.document("a.md", world.failing_bytes("a.md"), replaces=first))
        assert await world.find("kestrel") == {first}

    async def test_replacing_a_missing_document_creates_a_new_one(self, world: SuiteWorld) -> None:
        [first] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        await world.target.delete([first])
        [second] = await world.make_ready(world.document("a.md", *texts(["heron"]), replaces=first))
        assert await world.find("heron") == {second}

    # ---- deletions

    async def test_deleted_document_is_neither_listed_nor_found(self, world: SuiteWorld) -> None:
        ids = await world.make_ready(*(world.document(f"{w}.md", t) for w, t in _pages("kestrel", "heron")))
        assert dict(await world.target.delete(ids[:1])) == {ids[0]: None}
        assert (await world.target.status(ids[:1]))[ids[0]].state is DocState.MISSING
        assert await world.find("kestrel") == set()
        assert list(await world.listed()) == ids[1:]

    async def test_delete_is_repeatable_and_unknown_ids_count_as_done(self, world: SuiteWorld) -> None:
        [remote_id] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        [other] = await world.make_ready(world.document("b.md", *texts(["heron"])))
        await world.target.delete([remote_id])
        repeated = await world.target.delete([remote_id, other])
        assert dict(repeated) == {remote_id: None, other: None}
        assert await world.rows() == []

    async def test_document_can_be_deleted_before_it_is_ready(self, world: SuiteWorld) -> None:
        [accepted] = await world.put(world.document("a.md", *texts(["kestrel"])))
        assert dict(await world.target.delete([accepted.remote_id])) == {accepted.remote_id: None}
        await world.pass_time(world.target.limits.poll_longest)
        assert await world.find("kestrel") == set()
        assert await world.rows() == []

    async def test_deleted_document_can_be_put_again(self, world: SuiteWorld) -> None:
        document = world.document("a.md", *texts(["kestrel"]))
        await world.target.delete(await world.make_ready(document))
        [remote_id] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        assert await world.find("kestrel") == {remote_id}

    # ---- failures and limits

    async def test_one_bad_document_does_not_spoil_the_others(self, world: SuiteWorld) -> None:
        good = [world.document(f"{w}.md", t) for w, t in _pages("kestrel", "heron")]
        bad = world.document("bad.md", world.failing_bytes("bad.md"))
        outcomes = await _put_in_batches(world, [good[0], bad, good[1]])
        assert len(outcomes) == 3
        ids = [outcome.remote_id for outcome in _accepted([outcomes[0], outcomes[2]])]
        await world.until(DocState.READY, *ids)
        assert {*await world.find("kestrel"), *await world.find("heron")} == set(ids)

    async def test_failed_document_has_a_reason(self, world: SuiteWorld) -> None:
        assert await _fail(world, world.document("bad.md", world.failing_bytes("bad.md")))

    async def test_too_large_document_is_refused_and_leaves_nothing(self, world: SuiteWorld) -> None:
        most = world.target.limits.max_bytes
        if most is None:
            pytest.skip("this target has no limit of size")
        await _is_refused(world, world.document("a.md", b"x" * (most + 1)))

    async def test_unsupported_format_is_refused_and_leaves_nothing(self, world: SuiteWorld) -> None:
        await _is_refused(world, world.document("program.exe7", b"MZ\x00\x01 not text"))

    async def test_body_is_read_in_chunks_and_closed(self, world: SuiteWorld) -> None:
        line = b"A line about kestrels that is repeated again and again.\n"
        data = (line * (world.large_bytes // len(line) + 1))[: world.large_bytes]
        document = world.document("large.txt", data)
        await world.make_ready(document)
        assert isinstance(document.body, BytesBody)
        assert document.body.is_let_go

    # ---- names

    @pytest.mark.parametrize("path", WILD.values(), ids=WILD.keys())
    async def test_unusual_names_are_listed_as_accepted(self, world: SuiteWorld, path: str) -> None:
        document = world.document(path, *texts(["kestrel"]))
        [accepted] = await world.bring(document)
        remote_id = accepted.remote_id
        row = (await world.listed())[remote_id]
        assert row.name == world.listed_name(document, accepted)
        assert row.path == (path if world.target.limits.marks else row.path)
        assert await world.find("kestrel") == {remote_id}
        assert dict(await world.target.delete([remote_id])) == {remote_id: None}

    async def test_nfc_and_nfd_names_are_two_documents(self, world: SuiteWorld) -> None:
        composed, decomposed = "caf\u00e9.md", "cafe\u0301.md"
        first = world.document(composed, *texts(["kestrel"]))
        second = world.document(decomposed, *texts(["heron"]))
        outcomes = await world.bring(first, second)
        listed = await world.listed()
        names = list(map(world.listed_name, (first, second), outcomes))
        assert [listed[outcome.remote_id].name for outcome in outcomes] == names
        assert first.name != second.name
        assert await world.find("heron") == {outcomes[1].remote_id}

    async def test_documents_with_one_name_are_kept_apart_or_the_second_is_refused(
        self, world: SuiteWorld
    ) -> None:
        document = world.document("one/a.md", *texts(["kestrel"]))
        [first] = await world.make_ready(document)
        namesake = replace(world.document("two/a.md", *texts(["heron"])), name=document.name)
        outcome = await _put(world.target, namesake)
        if isinstance(outcome, NameTaken):
            assert list(await world.listed()) == [first]
            assert await world.find("kestrel") == {first}
            return
        [second] = _accepted([outcome])
        await world.until(DocState.READY, second.remote_id)
        assert set(await world.listed()) == {first, second.remote_id}
        assert await world.find("kestrel") == {first}
        assert await world.find("heron") == {second.remote_id}

    # ---- digests

    async def test_downloaded_bytes_equal_the_uploaded_ones(self, world: SuiteWorld) -> None:
        target = world.require(SupportsDigest)
        documents = [world.document("a.md", b"kestrel\r\n\r\n"), world.document("b.md", "\ufeffheron 红隼")]
        ids = await world.make_ready(*documents)
        digests = [await target.digest(document_id) for document_id in ids]
        if digests == [None, None]:
            pytest.skip("this target gives no bytes back")
        assert digests == [document.digest for document in documents]

    async def test_unknown_document_has_no_bytes(self, world: SuiteWorld) -> None:
        target = world.require(SupportsDigest)
        deleted = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        await world.target.delete(deleted)
        assert [await _digest(target, remote_id) for remote_id in (*deleted, world.unknown_id)] == [
            None,
            None,
        ]

    async def test_search_confirms_only_ready_documents(self, world: SuiteWorld) -> None:
        target = world.require(SupportsSearchCheck)
        document = world.document("kestrel.md", *texts(["kestrel"]))
        [accepted] = await world.put(document)
        remote_id, name = accepted.remote_id, accepted.name or document.name
        confirmed = await target.is_searchable(remote_id, name)
        status = await world.target.status([remote_id])
        assert not (confirmed and status[remote_id].state is DocState.INDEXING)
        await world.until(DocState.READY, remote_id)
        assert await target.is_searchable(remote_id, name)
        assert not await target.is_searchable(world.unknown_id, name)
        await world.target.delete([remote_id])
        assert not await target.is_searchable(remote_id, name)

    # ---- renames and reindexing

    async def test_rename_keeps_the_document_and_its_index(self, world: SuiteWorld) -> None:
        target = world.require(SupportsRename)
        document = world.document("a.md", *texts(["kestrel"]))
        [remote_id] = await world.make_ready(document)
        name = world.name_for("new/b.md", document.digest)
        for _ in range(2):
            await target.rename(remote_id, "new/b.md", name, 1_700_000_001.0)
            assert (await world.target.status([remote_id]))[remote_id].state is DocState.READY
            assert await world.find("kestrel") == {remote_id}
        listed = await world.listed()
        assert list(listed) == [remote_id]
        assert listed[remote_id].name == name
        if world.target.limits.marks:
            assert listed[remote_id].path == "new/b.md"

    async def test_two_documents_can_swap_their_names(self, world: SuiteWorld) -> None:
        target = world.require(SupportsRename)
        kestrel, heron = (world.document(f"{w}.md", t) for w, t in _pages("kestrel", "heron"))
        first, second = await world.make_ready(kestrel, heron)
        names = [world.name_for("heron.md", kestrel.digest), world.name_for("kestrel.md", heron.digest)]
        await target.rename(first, "heron.md", names[0], 1_700_000_001.0)
        await target.rename(second, "kestrel.md", names[1], 1_700_000_001.0)
        listed = await world.listed()
        assert [listed[remote_id].name for remote_id in (first, second)] == names
        assert await world.find("kestrel") >= {first}
        assert await world.find("heron") >= {second}

    async def test_renaming_a_missing_document_is_rejected(self, world: SuiteWorld) -> None:
        target = world.require(SupportsRename)
        [remote_id] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        await world.target.delete([remote_id])
        with pytest.raises(Rejected):
            await target.rename(remote_id, "b.md", world.name_for("b.md"), 1_700_000_001.0)

    async def test_reembed_makes_a_repaired_document_ready(self, world: SuiteWorld) -> None:
        target = world.require(SupportsReembed)
        [accepted] = await world.put(world.document("bad.md", world.failing_bytes("bad.md")))
        await world.until(DocState.FAILED, accepted.remote_id)
        world.fix_failures()
        with _if_offered():
            await target.reembed(accepted.remote_id)
        await world.until(DocState.READY, accepted.remote_id, patience=target.limits.reembed_grace)
        assert list(await world.listed()) == [accepted.remote_id]

    async def test_link_becomes_the_page_it_points_to(self, world: SuiteWorld) -> None:
        if not world.target.limits.links:
            pytest.skip("this target takes no links")
        [remote_id] = await world.make_ready(world.document("deep/prices.url", LINK_FILE))
        [row] = await world.rows()
        assert row.remote_id == remote_id
        assert world.target.limits.marks or LINKED in row.addresses
        assert await world.target.delete([remote_id]) == {remote_id: None}
        assert await world.rows() == []

    async def test_dead_link_is_refused_alone(self, world: SuiteWorld) -> None:
        if not world.target.limits.links:
            pytest.skip("this target takes no links")
        files = {"bad.url": b"no link", "good.url": LINK_FILE}
        bad, good = [
            (await world.target.put([world.document(path, content)]))[0] for path, content in files.items()
        ]
        assert isinstance(bad, Unfit)
        assert isinstance(good, Accepted)

    async def test_reembed_of_an_unknown_document_is_rejected_or_harmless(self, world: SuiteWorld) -> None:
        target = world.require(SupportsReembed)
        [remote_id] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        with suppress(Rejected):
            await target.reembed(world.unknown_id)
        assert list(await world.listed()) == [remote_id]
        assert await world.find("kestrel") == {remote_id}

    async def test_reslice_repairs_a_document_and_keeps_its_id_and_bytes(self, world: SuiteWorld) -> None:
        target = world.require(SupportsReslice)
        document = world.document("bad.md", world.failing_bytes("bad.md"))
        [accepted] = await world.put(document)
        await world.until(DocState.FAILED, accepted.remote_id)
        world.fix_failures()
        with _if_offered():
            await target.reslice(accepted.remote_id, document.path, world.recipe_settings or {})
        await world.until(DocState.READY, accepted.remote_id, patience=target.limits.reembed_grace)
        [row] = await world.rows()
        assert row.remote_id == accepted.remote_id
        assert row.size in (None, document.size)
        if isinstance(target, SupportsDigest):
            assert await target.digest(accepted.remote_id) in (None, document.digest)

    # ---- recipe, base, closing

    def test_recipe_is_described_and_a_foreign_one_is_not(self, world: SuiteWorld) -> None:
        target = world.target
        plain, other = (target.recipe("a.md", settings) for settings in ({}, world.recipe_settings or {}))
        if not target.describe(plain):
            pytest.skip("this target tells nothing of its recipes")
        assert (target.describe(other) == target.describe(plain)) == (other == plain)
        assert target.describe("no recipe of ours") == ""

    async def test_recipe_is_stable_across_a_restart(self, world: SuiteWorld) -> None:
        recipes = [world.target.recipe("dir/a.md", {}) for _ in range(2)]
        await world.reopen()
        recipes.append(world.target.recipe("dir/a.md", {}))
        assert len(set(recipes)) == 1
        assert recipes[0]

    def test_recipe_does_not_depend_on_the_rest_of_the_path(self, world: SuiteWorld) -> None:
        recipe = world.target.recipe
        assert recipe("a.md", {}) == recipe("deep/caf\udce9.MD", {})

    def test_recipe_differs_when_settings_matter(self, world: SuiteWorld) -> None:
        if world.recipe_settings is None:
            pytest.skip("no setting of this target matters to .md files")
        assert world.target.recipe("a.md", world.recipe_settings) != world.target.recipe("a.md", {})

    def test_recipe_is_the_same_when_settings_do_not_matter(self, world: SuiteWorld) -> None:
        if world.neutral_settings is None:
            pytest.skip("every setting of this target matters to .md files")
        assert world.target.recipe("a.md", world.neutral_settings) == world.target.recipe("a.md", {})

    async def test_base_identity_is_stable(self, world: SuiteWorld) -> None:
        before = await world.target.base()
        await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        after = await world.target.base()
        assert before.id == after.id
        assert before.documents in (None, 0)
        assert after.documents in (None, 1)

    async def test_recreated_base_is_different_and_empty(self, world: SuiteWorld) -> None:
        before = await world.target.base()
        [remote_id] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        await world.recreate()
        assert (await world.target.base()).id != before.id
        assert await world.rows() == []
        assert (await world.target.status([remote_id]))[remote_id].state is DocState.MISSING

    async def test_missing_base_is_reported_and_does_not_prove_documents_missing(
        self, world: SuiteWorld
    ) -> None:
        """A service's reports about documents count only while its base exists (promise 1)."""
        target = world.target
        [remote_id] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        base = await target.base()
        world.lose_base()
        with pytest.raises(Halted) as halted:
            await target.base()
        assert halted.value.halt == "knowledge-base-missing"
        assert halted.value.reason
        for call in (lambda: target.status([remote_id]), world.rows):
            with pytest.raises(TargetError) as caught:
                await call()
            assert _blames_base(caught.value, world)
        outcomes = await target.delete([remote_id])
        assert _blames_base(outcomes[remote_id], world)
        world.restore_base()
        assert (await target.base()).id == base.id
        assert (await target.status([remote_id]))[remote_id].state is DocState.READY
        assert list(await world.listed()) == [remote_id]
        assert await world.find("kestrel") == {remote_id}

    async def test_upload_into_a_missing_base_blames_no_document(self, world: SuiteWorld) -> None:
        world.lose_base()
        outcome = await _put(world.target, world.document("a.md", *texts(["kestrel"])))
        if isinstance(outcome, Accepted):  # some services store a file before they check its base
            with pytest.raises(Halted):
                await world.target.status([outcome.remote_id])
            return
        assert _blames_base(outcome, world)

    async def test_aclose_is_repeatable(self, world: SuiteWorld) -> None:
        await world.target.aclose()
        await world.target.aclose()


def _blames_base(outcome: object, world: SuiteWorld) -> bool:
    """Return whether the outcome halts over the missing base, or is `Unavailable` if only the base call
    can tell.
    """
    if world.only_base_reports_loss and isinstance(outcome, Unavailable):
        return True
    return isinstance(outcome, Halted) and outcome.halt == "knowledge-base-missing" and bool(outcome.reason)


def _pages(*words: str) -> list[tuple[str, str]]:
    return list(zip(words, texts(words), strict=True))


def _accepted(outcomes: Sequence[PutOutcome]) -> list[Accepted]:
    for outcome in outcomes:
        assert isinstance(outcome, Accepted), outcome
    return [outcome for outcome in outcomes if isinstance(outcome, Accepted)]


async def _put(target: Target, document: Outgoing) -> PutOutcome:
    """Put one document and return its outcome; an error of the whole request counts as its outcome."""
    try:
        [outcome] = await target.put([document])
    except TargetError as error:
        return error
    return outcome


async def _digest(target: SupportsDigest, remote_id: str) -> str | None:
    """Return the digest of a document; None if it is unknown or the request fails."""
    try:
        return await target.digest(remote_id)
    except TargetError:
        return None


@contextmanager
def _if_offered() -> Iterator[None]:
    """Skip the test if the target raises `NotOffered`."""
    try:
        yield
    except NotOffered as error:
        pytest.skip(str(error))


async def _put_in_batches(world: SuiteWorld, documents: list[Outgoing]) -> list[PutOutcome]:
    """Put all documents at once if the target allows so many, else in batches."""
    if world.target.limits.batch >= len(documents):
        return list(await world.target.put(documents))
    return [await _put(world.target, document) for document in documents]


async def _serves(world: SuiteWorld, *words: str) -> set[str]:
    """Return the documents that searches find for any of the `words`, oldest word first. A swap between
    two searches shows in the second.
    """
    results: set[str] = set()
    for word in words:
        results |= await world.find(word)
    return results


async def _fail(world: SuiteWorld, document: Outgoing) -> str:
    """Put a document that fails, at once or while it is indexed, and return the reason."""
    outcome = await _put(world.target, document)
    if isinstance(outcome, Accepted):
        await world.until(DocState.FAILED, outcome.remote_id)
        return (await world.target.status([outcome.remote_id]))[outcome.remote_id].reason
    assert isinstance(outcome, Rejected), outcome
    return outcome.reason


async def _is_refused(world: SuiteWorld, document: Outgoing) -> None:
    """Assert that the document or the whole request is rejected and nothing is stored."""
    try:
        outcome = await _put(world.target, document)
    except AssertionError:
        outcome = Rejected("refused as a mistake")
    assert isinstance(outcome, Rejected), outcome
    assert await world.rows() == []
