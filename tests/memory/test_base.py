"""The base in memory plays what it is told to: slowness, lies and behaviour."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from kbsync.contract.searching import Query
from kbsync.contract.target import (
    Accepted,
    Confirms,
    DocState,
    Listed,
    Outgoing,
    Reads,
    Reembeds,
    Renames,
    Reslices,
)
from kbsync.errors import NameTaken
from tests.conformance.world import Bytes
from tests.memory.base import MemoryBase
from tests.memory.behaviour import FOREVER, Behaviour, Failure, ManualClock
from tests.memory.rules import ProtocolViolation
from tests.memory.target import DEFAULT_LIMITS, MemoryTarget
from tests.memory.variants import (
    AbleMemory,
    ForgetfulMemory,
    ReadingMemory,
    ReembeddingMemory,
    RenamingMemory,
    UpdatingMemory,
)


def outgoing(path: str = "a.md", text: str = "one", upload_id: int = 1, **changes: Any) -> Outgoing:
    data = text.encode()
    digest = hashlib.sha256(data).hexdigest()
    sent = Outgoing(upload_id, path, path, digest, len(data), 5.0, "r", Bytes(data, None))
    return dataclasses.replace(sent, **changes)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def base(clock: ManualClock) -> MemoryBase:
    return MemoryBase(clock=clock)


@pytest.fixture
def target(base: MemoryBase) -> AbleMemory:
    return AbleMemory(base, limits=dataclasses.replace(DEFAULT_LIMITS, batch=4))


async def put(target: MemoryTarget, document: Outgoing) -> str:
    [outcome] = await target.put([document])
    assert isinstance(outcome, Accepted), outcome
    return outcome.remote_id


async def state(target: MemoryTarget, remote_id: str) -> DocState:
    return (await target.status([remote_id]))[remote_id].state


async def rows(target: MemoryTarget) -> list[Listed]:
    return [row async for row in target.list()]


def ops(base: MemoryBase) -> list[str]:
    return [effect.op for effect in base.effects]


# ---- abilities


@pytest.mark.parametrize(
    ("kind", "abilities"),
    [
        (MemoryTarget, set()),
        (RenamingMemory, {Renames}),
        (UpdatingMemory, set()),
        (ReembeddingMemory, {Reembeds}),
        (AbleMemory, {Renames, Reembeds}),
        (ReadingMemory, {Reads}),
        (ForgetfulMemory, {Reembeds, Reslices, Reads, Confirms}),
    ],
)
def test_each_kind_offers_its_abilities_alone(
    kind: type[MemoryTarget], abilities: set[type], base: MemoryBase
) -> None:
    target = kind(base)
    known = (Renames, Reembeds, Reslices, Reads, Confirms)
    assert {one for one in known if isinstance(target, one)} == abilities
    assert target.updates_in_place is issubclass(kind, UpdatingMemory)


# ---- indexing


async def test_document_is_ready_after_its_seconds(
    base: MemoryBase, target: AbleMemory, clock: ManualClock
) -> None:
    base.behaviour.indexing_seconds = 3.0
    remote_id = await put(target, outgoing())
    clock.advance(2.9)
    assert await state(target, remote_id) is DocState.INDEXING
    assert base.shown() == {}
    clock.advance(7.1)
    assert base.shown() == {"a.md": ["one"]}
    assert [e.time - base.documents[remote_id].created for e in base.effects_of("ready")] == [3.0]


async def test_document_is_ready_after_its_polls(base: MemoryBase, target: AbleMemory) -> None:
    base.behaviour.indexing_polls = 2
    remote_id = await put(target, outgoing())
    seen = [await state(target, remote_id) for _ in range(4)]
    assert seen == [DocState.INDEXING, DocState.INDEXING, DocState.READY, DocState.READY]


async def test_readiness_can_be_kept_from_the_answer(base: MemoryBase, target: AbleMemory) -> None:
    base.behaviour.answers_ready = False
    [outcome] = await target.put([outgoing()])
    assert isinstance(outcome, Accepted)
    assert not outcome.ready
    assert await state(target, outcome.remote_id) is DocState.READY


async def test_document_fails_so_many_times_then_succeeds(base: MemoryBase, target: AbleMemory) -> None:
    base.behaviour.failures.append(Failure("a.md", times=2, reason="broken", code="77"))
    first = await put(target, outgoing())
    status = (await target.status([first]))[first]
    assert (status.state, status.reason, status.code) == (DocState.FAILED, "broken", "77")
    await target.reembed(first)
    assert await state(target, first) is DocState.FAILED
    second = await put(target, outgoing(upload_id=2))
    assert await state(target, second) is DocState.READY
    assert ops(base) == ["put", "fail", "reembed", "fail", "put", "ready"]


async def test_failures_count_for_each_content_alone(base: MemoryBase, target: AbleMemory) -> None:
    base.behaviour.failures.append(Failure(lambda subject: subject.name.endswith(".md"), times=1))
    for path in ("a.md", "b.md"):
        assert await state(target, await put(target, outgoing(path))) is DocState.FAILED
    assert await state(target, await put(target, outgoing("c.txt"))) is DocState.READY
    assert await state(target, await put(target, outgoing("a.md", "two"))) is DocState.FAILED
    assert await state(target, await put(target, outgoing("a.md", "two"))) is DocState.READY


# ---- the list lags


async def test_list_lags_by_seconds(base: MemoryBase, target: AbleMemory, clock: ManualClock) -> None:
    base.behaviour.list_lag = 10.0
    remote_id = await put(target, outgoing())
    assert await rows(target) == []
    clock.advance(10.0)
    assert len(await rows(target)) == 1
    await target.delete([remote_id])
    assert await state(target, remote_id) is DocState.MISSING
    clock.advance(9.9)
    assert len(await rows(target)) == 1
    clock.advance(0.1)
    assert await rows(target) == []


async def test_list_says_only_what_it_is_let(base: MemoryBase, target: AbleMemory) -> None:
    base.behaviour = Behaviour(tells_size=False, tells_created=False)
    await put(target, outgoing())
    [row] = await rows(target)
    assert (row.size, row.created) == (None, None)


# ---- names


async def test_equal_names_can_replace(base: MemoryBase, target: AbleMemory) -> None:
    base.behaviour.equal_names = "replace"
    first = await put(target, outgoing())
    second = await put(target, outgoing(text="two"))
    assert list(base.documents) == [second]
    assert await state(target, first) is DocState.MISSING
    assert [e.remote_id for e in base.effects_of("replaced")] == [first]


async def test_taking_the_name_of_what_is_not_ours_is_a_violation(
    base: MemoryBase, target: AbleMemory
) -> None:
    base.behaviour.equal_names = "replace"
    base.add("a.md", b"theirs")
    with pytest.raises(ProtocolViolation, match="not ours"):
        await target.put([outgoing()])
    assert base.shown() == {"a.md": ["theirs"]}


@pytest.mark.parametrize(
    ("style", "sent", "stored"),
    [
        ("as_sent", "cafe\u0301.md", "cafe\u0301.md"),
        ("nfc", "cafe\u0301.md", "caf\u00e9.md"),
        ("nfd", "caf\u00e9.md", "cafe\u0301.md"),
        ("basename", "old\\notes.md", "notes.md"),
        ("suffixed", "notes.md", "notes(1).md"),
        ("suffixed", ".md", ".md(1)"),
        ("question_marks", "\u624b\u518c\udce9 1.md", "??? 1.md"),
    ],
)
async def test_names_are_stored_listed_and_given_back_as_behaviour_says(
    base: MemoryBase, style: Any, sent: str, stored: str
) -> None:
    base.behaviour.names = style
    target = MemoryTarget(base, limits=dataclasses.replace(DEFAULT_LIMITS, extensions=frozenset()))
    [outcome] = await target.put([outgoing("a.md", name=sent)])
    assert isinstance(outcome, Accepted)
    assert outcome.name == (stored if stored != sent else "")
    assert [row.name for row in await rows(target)] == [stored]
    assert base.effects[0].name == stored


async def test_suffix_is_one_that_no_other_document_has(base: MemoryBase, target: AbleMemory) -> None:
    base.behaviour = Behaviour(names="suffixed", equal_names="refuse")
    first = await put(target, outgoing())
    await put(target, outgoing(upload_id=2))
    assert [row.name for row in await rows(target)] == ["a(1).md", "a(2).md"]
    await target.rename(first, "a.md", "a.md", 0.0)
    assert base.documents[first].name == "a(1).md"
    assert base.effects_of("rename") == []


async def test_names_that_become_equal_are_equal_names(base: MemoryBase, target: AbleMemory) -> None:
    base.behaviour = Behaviour(names="nfc", equal_names="refuse")
    await put(target, outgoing("caf\u00e9.md"))
    [outcome] = await target.put([outgoing("cafe\u0301.md", upload_id=2)])
    assert isinstance(outcome, NameTaken)


# ---- updating in place


@pytest.mark.parametrize(("keeps", "left"), [(True, {"a.md": ["one"]}), (False, {})])
async def test_failed_update_leaves_what_is_declared(
    base: MemoryBase, target: AbleMemory, keeps: bool, left: dict[str, list[str]]
) -> None:
    base.behaviour.keeps_old_on_failure = keeps
    first = await put(target, outgoing())
    base.behaviour.failures.append(Failure("a.md", times=FOREVER))
    await put(target, outgoing(text="two", replaces=first))
    assert target.keeps_old_on_failure is keeps
    assert await state(target, first) is DocState.FAILED
    assert base.shown() == left


async def test_update_under_a_new_id_drops_the_old_when_it_is_ready(
    base: MemoryBase, target: AbleMemory, clock: ManualClock
) -> None:
    first = await put(target, outgoing())
    base.behaviour = Behaviour(updates_make_new_ids=True, indexing_seconds=3.0)
    [outcome] = await target.put([outgoing(text="two", replaces=first)])
    assert isinstance(outcome, Accepted)
    assert (outcome.remote_id != first, outcome.replaced) == (True, False)
    assert base.shown() == {"a.md": ["one"]}
    clock.advance(3.0)
    assert base.shown() == {"a.md": ["two"]}
    base.behaviour.indexing_seconds = 0.0
    [outcome] = await target.put([outgoing(text="three", replaces=outcome.remote_id)])
    assert isinstance(outcome, Accepted)
    assert (outcome.ready, outcome.replaced) == (True, True)


async def test_newer_update_supersedes_the_one_being_indexed(
    base: MemoryBase, target: AbleMemory, clock: ManualClock
) -> None:
    base.behaviour.indexing_seconds = 3.0
    first = await put(target, outgoing())
    clock.advance(2.0)
    await put(target, outgoing(text="two", replaces=first))
    clock.advance(1.0)
    assert base.shown() == {}
    clock.advance(2.0)
    assert base.shown() == {"a.md": ["two"]}


# ---- the base itself


async def test_others_documents_are_listed_and_must_not_be_touched(
    base: MemoryBase, target: AbleMemory
) -> None:
    foreign = base.add("theirs.md", b"theirs").remote_id
    assert [row.remote_id for row in await rows(target)] == [foreign]
    attempts: list[Callable[[], Any]] = [
        lambda: target.delete([foreign]),
        lambda: target.rename(foreign, "b.md", "b.md", 0.0),
        lambda: target.reembed(foreign),
        lambda: target.put([outgoing(replaces=foreign)]),
    ]
    for attempt in attempts:
        with pytest.raises(ProtocolViolation):
            await attempt()
    assert base.shown() == {"theirs.md": ["theirs"]}
    assert len(base.violations) == len(attempts)


async def test_lost_document_is_missing(base: MemoryBase, target: AbleMemory) -> None:
    remote_id = await put(target, outgoing())
    base.lose(remote_id)
    assert await state(target, remote_id) is DocState.MISSING
    assert await rows(target) == []


# ---- journal, watchdogs, search


async def test_journal_names_what_happened_to_whom(
    base: MemoryBase, target: AbleMemory, clock: ManualClock
) -> None:
    remote_id = await put(target, outgoing(upload_id=7))
    clock.advance(1.0)
    await target.rename(remote_id, "b.md", "b.md", 0.0)
    await target.rename(remote_id, "b.md", "b.md", 0.0)
    await target.delete([remote_id])
    await target.delete([remote_id])
    assert ops(base) == ["put", "ready", "rename", "delete"]
    last = base.effects_of("delete", path="b.md")[0]
    assert (last.remote_id, last.name, last.upload_id, last.time) == (remote_id, "b.md", 7, clock.now)
    assert [one.op for one in base.requests] == ["put", "rename", "rename", "delete", "delete"]


async def test_search_keeps_to_the_query(base: MemoryBase, target: AbleMemory) -> None:
    await put(target, outgoing("docs/a.md", "Kestrel kestrel\nnext", name="a.md"))
    await put(target, outgoing("b.txt", "head\na kestrel", upload_id=2, mtime=50.0))

    async def paths(**asked: Any) -> list[str | None]:
        return [hit.path for hit in await target.search(Query("kestrel", **asked))]

    assert await paths() == ["docs/a.md", "b.txt"]
    assert await paths(top_k=1) == ["docs/a.md"]
    assert await paths(path="docs/") == ["docs/a.md"]
    assert await paths(types=("txt",)) == ["b.txt"]
    assert await paths(after=10.0) == ["b.txt"]
    [hit] = await target.search(Query("kestrel", types=("txt",)))
    assert (hit.passages[0].line, hit.modified) == (2, 50.0)
