"""The suite's tests for abilities that only some targets have."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from kbsync.accounts.account import (
    Answerer,
    ApplicationRequest,
    BaseRequest,
    Bases,
    Callbacks,
    Question,
    Sources,
    SupportsAnswer,
    SupportsRetryAll,
)
from kbsync.contract.searching import Query, SupportsExplain, SupportsUnknownWords
from kbsync.contract.target import DocState
from kbsync.errors import Halted, NameTaken, NotOffered, Rejected
from tests.conformance.world import SuiteWorld, texts


class ExtraSuite:
    """A part of `TargetSuite`."""

    # ---- counts and waiting

    async def test_requests_are_counted(self, world: SuiteWorld) -> None:
        meter = world.meter()
        await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        before = meter.total
        await world.target.base()
        assert meter.total > before > 0

    async def test_response_gives_the_clock_difference(self, world: SuiteWorld) -> None:
        world.meter()
        if not world.has_clock:
            pytest.skip("the service of this world tells no time")
        await world.target.base()
        assert isinstance(world.target.clock_offset, float)

    async def test_background_calls_wait_before_each_request(self, world: SuiteWorld) -> None:
        waits: list[int] = []
        meter = world.meter()

        async def pace() -> None:
            waits.append(meter.total)

        slow = world.target.unhurried(pace)
        [remote_id] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        assert waits == []
        before = meter.total
        await world.rows()
        assert waits == []
        rest = meter.total
        assert [row.remote_id async for row in slow.list()] == [remote_id]
        await slow.base()
        assert rest > before
        assert waits == list(range(rest, meter.total))

    # ---- search options

    async def test_ranking_orders_documents_and_loses_none(self, world: SuiteWorld) -> None:
        if not world.target.reranks:
            pytest.skip("no ranking model is configured")
        await world.make_ready(
            *(world.document(f"{n}.md", f"# Page {n}\n\nThe kestrel of page {n}.\n") for n in range(3))
        )
        plain, ranked = [
            {hit.remote_id for hit in await world.target.search(Query("kestrel", rerank=rerank))}
            for rerank in (False, True)
        ]
        assert ranked == plain
        assert len(ranked) == 3

    async def test_words_in_no_document_are_reported(self, world: SuiteWorld) -> None:
        target = world.require(SupportsUnknownWords)
        await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        unknown = await target.unknown_words(Query("kestrel zzyzx"))
        assert (list(unknown.instead), unknown.are_all) == (["zzyzx"], False)
        assert (await target.unknown_words(Query("zzyzx"))).are_all
        assert not (await target.unknown_words(Query("kestrel"))).instead

    async def test_codes_in_no_document_are_reported(self, world: SuiteWorld) -> None:
        target = world.require(SupportsUnknownWords)
        text = "Invoice INV-2026-0042 of 8,999 EUR, version 2.10.3, error E-4471, see os.path.join.\n"
        await world.make_ready(world.document("notes/report-7.md", f"# kestrel\n\n{text}"))
        stored_codes = "INV-2026-0042 8999 2.10.3 E4471 os.path.join report-7 notes/report-7.md kestrel"
        assert not (await target.unknown_words(Query(stored_codes))).codes
        absent = ["INV-2026-0043", "8,998", "2.10.4", "E-4472", "os.path.split", "notes/report-8.md"]
        unknown = await target.unknown_words(Query(f"kestrel {' '.join(absent)}"))
        assert (unknown.codes, set(absent) - unknown.instead.keys()) == (tuple(absent), set())

    async def test_explanation_shows_the_extracted_text(self, world: SuiteWorld) -> None:
        target = world.require(SupportsExplain)
        [remote_id] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        explanation = await target.explain(remote_id)
        assert explanation.chunks >= 1
        assert "kestrel" in explanation.text
        with pytest.raises(Rejected):
            await target.explain(world.unknown_id)

    async def test_hits_without_pictures_are_unchanged_and_cost_nothing(self, world: SuiteWorld) -> None:
        await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        hits = list(await world.target.search(Query("kestrel")))
        meter = world.meter()
        before = meter.total
        assert list(await world.target.illustrated(hits)) == hits != []
        assert meter.total == before

    # ---- answers

    async def test_answer_comes_from_the_base_and_ends_with_its_sources(self, world: SuiteWorld) -> None:
        answers = world.require(SupportsAnswer)
        [remote_id] = await world.make_ready(world.document("kestrel.md", *texts(["kestrel"])))
        by = await _answerer(world)
        at_once, pieces = [
            [piece async for piece in answers.answer(Question("what is a kestrel", by, streamed=streamed))]
            for streamed in (False, True)
        ]
        assert _text(pieces) == _text(at_once)
        assert "kestrel" in _text(at_once)
        assert [isinstance(piece, Sources) for piece in pieces].index(True) == len(pieces) - 1
        assert isinstance(sources := pieces[-1], Sources)
        assert sources.hits is None or {hit.remote_id for hit in sources.hits} == {remote_id}

    async def test_applications_are_created_changed_and_deleted(self, world: SuiteWorld) -> None:
        applications = world.require(SupportsAnswer).applications
        own_id = world.require(Bases).own_id
        try:
            created = await applications.create(ApplicationRequest("helpdesk", "for all", bases=(own_id,)))
        except NotOffered:
            pytest.skip("this target has no applications that can be made")
        with pytest.raises(NameTaken):
            await applications.create(ApplicationRequest("helpdesk", bases=(own_id,)))
        await applications.update(created.id, ApplicationRequest(description="for some"))
        changed = await applications.get(created.id)
        assert (changed.name, changed.description, changed.bases) == ("helpdesk", "for some", (own_id,))
        assert [row.id for row in await applications.list_all()] == [created.id]
        await applications.delete(created.id)
        assert list(await applications.list_all()) == []

    # ---- bases

    async def test_own_base_is_in_the_list_of_bases(self, world: SuiteWorld) -> None:
        bases: Bases = world.require(Bases)
        base = await world.target.base()
        assert (bases.own_id, bases.address) == (base.id, base.address)
        assert bases.own_id in {card.id for card in await bases.list_all()}
        assert (await bases.get(bases.own_id)).id == bases.own_id
        assert bases.setting
        with contextlib.suppress(NotOffered):
            assert (room := await bases.capacity()) is None or 0 <= room.used <= room.total

    async def test_base_is_created_changed_and_deleted_without_touching_others(
        self, world: SuiteWorld
    ) -> None:
        bases: Bases = world.require(Bases)
        ids = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        async with _new_base(bases, "second") as base_id:
            with pytest.raises(NameTaken):
                await bases.create(BaseRequest("second"))
            assert (await bases.get(base_id)).name == "second"
            if _changeable(bases):
                await bases.update(base_id, BaseRequest(name="third", description="another"))
                changed = await bases.get(base_id)
                assert (changed.name, changed.description) == ("third", "another")
        missing_id = base_id if _changeable(bases) else world.unknown_id
        with pytest.raises(Halted) as caught:
            await bases.get(missing_id)
        assert caught.value.halt == "knowledge-base-missing"
        assert list(await world.listed()) == ids

    async def test_reindexing_failures_leaves_searchable_documents_alone(self, world: SuiteWorld) -> None:
        bases = world.require(SupportsRetryAll)
        [good] = await world.make_ready(world.document("a.md", *texts(["kestrel"])))
        [bad] = await world.put(world.document("bad.md", world.failing_bytes("bad.md")))
        await world.until(DocState.FAILED, bad.remote_id)
        world.fix_failures()
        assert bases.retry_reach
        assert await bases.retry_all() in (1, None)
        await world.until(DocState.READY, good)
        await world.until(DocState.READY, bad.remote_id)
        assert set(await world.listed()) == {good, bad.remote_id}
        assert await bases.retry_all() in (0, None)

    async def test_embedding_models_for_a_base_are_listed(self, world: SuiteWorld) -> None:
        bases: Bases = world.require(Bases)
        try:
            [first, *_] = models = await bases.models()
        except NotOffered:
            with pytest.raises(Rejected):
                await bases.create(BaseRequest("second", model="any"))
            return
        assert len({model.id for model in models}) == len(models)
        created = await bases.create(BaseRequest("second", model=first.id))
        assert created.model in ("", first.id, first.name)

    # ---- the account

    async def test_account_callback_is_set_shown_without_secrets_and_deleted(self, world: SuiteWorld) -> None:
        callbacks = world.require(Callbacks)
        url = "https://events.example.org/kb"
        await callbacks.remove()
        assert await callbacks.get() is None
        for _ in range(2):
            await callbacks.set_url(url, {"X-Token": "hush-hush"})
            callback = await callbacks.get()
            assert callback is not None
            assert (callback.url, callback.headers) == (url, ("X-Token",))
            assert "hush-hush" not in repr(callback)
        await callbacks.set_url(url, {})
        callback = await callbacks.get()
        assert callback is not None
        assert callback.headers == ()
        for _ in range(2):
            await callbacks.remove()
            assert await callbacks.get() is None


@contextlib.asynccontextmanager
async def _new_base(bases: Bases, name: str) -> AsyncIterator[str]:
    created = await bases.create(BaseRequest(name))
    yield created.id
    if _changeable(bases):
        await bases.delete(created.id)
        return
    for deed in (bases.update(created.id, BaseRequest("third")), bases.delete(created.id)):
        with pytest.raises(NotOffered):
            await deed


def _changeable(bases: Bases) -> bool:
    try:
        bases.check_changeable()
    except NotOffered:
        return False
    return True


async def _answerer(world: SuiteWorld) -> Answerer:
    """Return the existing application, a new one, or the model of a service without applications."""
    applications = world.require(SupportsAnswer).applications
    try:
        existing = await applications.list_all()
    except NotOffered:
        return Answerer(model=world.chat_model)
    if not existing:
        own_id = world.require(Bases).own_id
        existing = [await applications.create(ApplicationRequest("helpdesk", bases=(own_id,)))]
    return Answerer(application=existing[0].id)


def _text(pieces: list[str | Sources]) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))
