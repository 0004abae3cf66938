"""The base in memory as a vendor is: old failures, no room, silence, late uploads, no marks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from kbsync.contract.searching import Query
from kbsync.contract.target import Accepted, DocState, DocStatus, Outgoing
from kbsync.errors import NotOffered, Rejected, Unsure
from tests.memory.base import MemoryBase
from tests.memory.behaviour import FOREVER, Behaviour, Crash, Failure, Fault, ManualClock, Phase
from tests.memory.rules import ProtocolViolation
from tests.memory.target import DEFAULT_LIMITS
from tests.memory.test_base import base, clock, ops, outgoing, put, rows, state
from tests.memory.variants import ForgetfulMemory, UpdatingMemory

__all__ = ["base", "clock"]


@pytest.fixture
def target(base: MemoryBase) -> ForgetfulMemory:
    return ForgetfulMemory(base, limits=dataclasses.replace(DEFAULT_LIMITS, batch=4, marks=True))


def unsure() -> Unsure:
    return Unsure("the connection was closed before an answer came")


def broken(times: int = FOREVER) -> Failure:
    return Failure("a.md", times=times, reason="broken", code="77")


async def told(target: ForgetfulMemory, remote_id: str) -> DocStatus:
    return (await target.status([remote_id]))[remote_id]


# ---- no marks


async def test_forgetful_base_gives_nothing_of_ours_back(base: MemoryBase, target: ForgetfulMemory) -> None:
    remote_id = await put(target, outgoing("docs/a.md", name="a.md"))
    assert not target.limits.marks
    [row] = await rows(target)
    assert (row.path, row.digest, row.upload_id, row.recipe) == (None, None, None, None)
    [hit] = await target.search(Query("one", path="elsewhere/", types=("pdf",), after=99.0))
    assert (hit.remote_id, hit.path, hit.modified) == (remote_id, None, None)
    assert await put(target, outgoing("docs/a.md", name="a.md")) != remote_id


# ---- old failures


async def test_old_failure_is_told_for_a_while_after_a_reembed(
    base: MemoryBase, target: ForgetfulMemory, clock: ManualClock
) -> None:
    base.behaviour = Behaviour(failures=[broken(times=1)], stale_after_reembed=10.0)
    remote_id = await put(target, outgoing())
    before = await told(target, remote_id)
    await target.reembed(remote_id)
    assert base.shown() == {"a.md": ["one"]}
    clock.advance(9.9)
    assert await told(target, remote_id) == before == DocStatus(DocState.FAILED, "broken", "77")
    assert [row.state for row in await rows(target)] == [DocState.FAILED]
    clock.advance(0.1)
    assert await told(target, remote_id) == DocStatus(DocState.READY)
    assert [row.state for row in await rows(target)] == [DocState.READY]


async def test_reembed_on_an_old_failure_is_one_more(
    base: MemoryBase, target: ForgetfulMemory, clock: ManualClock
) -> None:
    base.behaviour = Behaviour(failures=[broken(times=1)], stale_after_reembed=10.0)
    remote_id = await put(target, outgoing())
    await target.reembed(remote_id)
    clock.advance(5.0)
    await target.reembed(remote_id)
    assert len(base.effects_of("reembed")) == 2
    clock.advance(5.0)
    assert await state(target, remote_id) is DocState.FAILED
    clock.advance(5.0)
    assert await state(target, remote_id) is DocState.READY


async def test_indexing_goes_on_behind_an_old_failure(
    base: MemoryBase, target: ForgetfulMemory, clock: ManualClock
) -> None:
    base.behaviour = Behaviour(
        failures=[broken(times=1)], stale_after_reembed=2.0, indexing_seconds=5.0, indexing_polls=1
    )
    remote_id = await put(target, outgoing())
    clock.advance(5.0)
    assert [await state(target, remote_id) for _ in range(2)] == [DocState.INDEXING, DocState.FAILED]
    await target.reembed(remote_id)
    seen = []
    for seconds in (1.0, 1.0, 3.0, 0.0):
        clock.advance(seconds)
        seen.append(await state(target, remote_id))
    assert seen == [DocState.FAILED, DocState.INDEXING, DocState.READY, DocState.READY]


# ---- a full base


async def test_document_beyond_the_capacity_fails_for_the_account(
    base: MemoryBase, target: ForgetfulMemory
) -> None:
    base.behaviour.capacity = 1
    first = await put(target, outgoing())
    second = await put(target, outgoing("b.md", "two", upload_id=2))
    status = await told(target, second)
    assert (status.state, status.halt) == (DocState.FAILED, "quota")
    assert "full" in status.reason
    assert (await told(target, first)).halt == ""
    await target.reembed(second)
    assert (await told(target, second)).halt == "quota"
    assert base.shown() == {"a.md": ["one"]}


@pytest.mark.parametrize("way", ["grows", "emptier"])
async def test_full_base_takes_the_document_once_there_is_room(
    base: MemoryBase, target: ForgetfulMemory, way: str
) -> None:
    base.behaviour.capacity = 1
    first = await put(target, outgoing())
    late, later = [await put(target, outgoing(f"{name}.md", name, upload_id=5)) for name in "bc"]
    if way == "grows":
        base.behaviour.capacity = 2
    else:
        await target.delete([first])
    assert await state(target, later) is DocState.FAILED
    await target.reembed(later)
    assert await told(target, later) == DocStatus(DocState.READY)
    await target.reembed(late)
    assert (await told(target, late)).halt == "quota"


async def test_update_in_place_needs_no_more_room(base: MemoryBase) -> None:
    base.behaviour.capacity = 1
    target = UpdatingMemory(base)
    first = await put(target, outgoing())
    await put(target, outgoing(text="two", upload_id=2, replaces=first))
    assert base.shown() == {"a.md": ["two"]}


async def test_scripted_failure_can_blame_the_account(base: MemoryBase, target: ForgetfulMemory) -> None:
    base.behaviour.failures.append(Failure("a.md", reason="no money", halt="quota"))
    remote_id = await put(target, outgoing())
    assert await told(target, remote_id) == DocStatus(DocState.FAILED, "no money", "10001", "quota")


# ---- a status that never says


async def test_status_never_says_what_a_search_finds_out(
    base: MemoryBase, target: ForgetfulMemory, clock: ManualClock
) -> None:
    base.behaviour = Behaviour(never_says="a*.md", indexing_seconds=3.0)
    silent = await put(target, outgoing())
    loud = await put(target, outgoing("b.md", upload_id=2))
    assert not await target.is_searchable(silent, "a.md")
    clock.advance(1000.0)
    assert [await state(target, one) for one in (silent, loud)] == [DocState.INDEXING, DocState.READY]
    assert [row.state for row in await rows(target)] == [DocState.INDEXING, DocState.READY]
    assert await target.is_searchable(silent, "a.md")
    assert set(base.shown()) == {"a.md", "b.md"}


async def test_answer_to_an_upload_does_not_say_it_either(base: MemoryBase, target: ForgetfulMemory) -> None:
    base.behaviour.never_says = "*"
    [outcome] = await target.put([outgoing()])
    assert isinstance(outcome, Accepted)
    assert not outcome.ready
    assert base.shown() == {"a.md": ["one"]}


# ---- uploads that arrive late


@pytest.mark.parametrize("match", [None, "a.md"], ids=["request", "document"])
async def test_lost_upload_appears_later_and_was_created_then(
    base: MemoryBase, target: ForgetfulMemory, clock: ManualClock, match: str | None
) -> None:
    base.behaviour.late_puts = 20.0
    base.faults.append(Fault("put", unsure, match=match, effect=True))
    sent = clock.now
    if match is None:
        with pytest.raises(Unsure):
            await target.put([outgoing()])
    else:
        assert [type(one) for one in await target.put([outgoing()])] == [Unsure]
    clock.advance(19.9)
    assert await rows(target) == []
    clock.advance(5.0)
    assert [row.created for row in await rows(target)] == [sent + 20.0]


async def test_answered_upload_is_there_at_once(base: MemoryBase, target: ForgetfulMemory) -> None:
    base.behaviour.late_puts = 20.0
    base.faults.append(Fault("put", unsure))
    with pytest.raises(Unsure):
        await target.put([outgoing()])
    await put(target, outgoing("b.md", upload_id=2))
    assert [row.name for row in await rows(target)] == ["b.md"]


@pytest.mark.parametrize(
    ("phase", "at_once", "in_the_end"),
    [(Phase.START, 0, 0), (Phase.EFFECT, 0, 1), (Phase.ANSWER, 1, 1)],
)
async def test_upload_of_a_client_that_died_may_arrive_late(
    base: MemoryBase,
    target: ForgetfulMemory,
    clock: ManualClock,
    phase: Phase,
    at_once: int,
    in_the_end: int,
) -> None:
    def die(op: str, at: Phase, what: Sequence[Outgoing] | Sequence[str]) -> None:
        if at is phase:
            raise Crash

    base.behaviour.late_puts = 20.0
    base.at_request = die
    with pytest.raises(Crash):
        await target.put([outgoing()])
    base.at_request = None
    assert len(base.documents) == at_once
    clock.advance(20.0)
    assert len(base.documents) == in_the_end


async def test_late_upload_of_a_name_that_was_taken_meanwhile_is_dropped(
    base: MemoryBase, target: ForgetfulMemory, clock: ManualClock
) -> None:
    base.behaviour = Behaviour(late_puts=20.0, equal_names="refuse")
    base.faults.append(Fault("put", unsure, effect=True))
    with pytest.raises(Unsure):
        await target.put([outgoing()])
    second = await put(target, outgoing(upload_id=2))
    clock.advance(30.0)
    assert list(base.documents) == [second]


# ---- cutting anew


async def test_reslice_starts_a_round_under_way_anew(
    base: MemoryBase, target: ForgetfulMemory, clock: ManualClock
) -> None:
    base.behaviour.indexing_seconds = 3.0
    remote_id = await put(target, outgoing())
    clock.advance(2.0)
    await target.reslice(remote_id, "a.md", {})
    clock.advance(2.0)
    assert await state(target, remote_id) is DocState.INDEXING
    clock.advance(1.0)
    assert await state(target, remote_id) is DocState.READY


@pytest.mark.parametrize("op", ["reembed", "reslice"])
async def test_call_that_is_not_offered_changes_nothing(
    base: MemoryBase, target: ForgetfulMemory, op: str
) -> None:
    base.behaviour = Behaviour(failures=[broken()], not_offered={op})
    remote_id = await put(target, outgoing())
    calls: dict[str, Callable[[], Any]] = {
        "reembed": lambda: target.reembed(remote_id),
        "reslice": lambda: target.reslice(remote_id, "a.md", {"chunk_size": 1}),
    }
    with pytest.raises(NotOffered):
        await calls.pop(op)()
    assert ops(base) == ["put", "fail"]
    [other] = calls.values()
    await other()
    assert ops(base)[2:] != []


# ---- faults and strictness


@pytest.mark.parametrize(
    ("op", "lie"), [("digest", None), ("is_searchable", False), ("reslice", None)], ids=str
)
async def test_new_calls_fail_lie_and_halt_by_script(
    base: MemoryBase, target: ForgetfulMemory, op: str, lie: object
) -> None:
    base.behaviour.indexing_seconds = 3.0
    remote_id = await put(target, outgoing())
    calls: dict[str, Callable[[], Any]] = {
        "digest": lambda: target.digest(remote_id),
        "is_searchable": lambda: target.is_searchable(remote_id, "a.md"),
        "reslice": lambda: target.reslice(remote_id, "a.md", {}),
    }
    base.faults += [Fault(op, unsure, match="a.md"), Fault(op, lie=True)]
    with pytest.raises(Unsure):
        await calls[op]()
    assert await calls[op]() == lie
    assert base.effects_of("reslice") == []
    assert [one.op for one in base.requests[1:]] == [op, op]


async def test_reslice_has_its_boundaries(base: MemoryBase, target: ForgetfulMemory) -> None:
    base.behaviour.indexing_seconds = 3.0
    remote_id = await put(target, outgoing())
    seen: list[str] = []
    base.at_request = lambda op, phase, what: seen.append(f"{op} {phase} {len(what)}")
    await target.reslice(remote_id, "a.md", {})
    assert seen == ["reslice start 1", "reslice effect 1", "reslice answer 1"]


async def test_mistakes_in_the_new_calls_are_violations(base: MemoryBase, target: ForgetfulMemory) -> None:
    remote_id = await put(target, outgoing())
    theirs = base.add("theirs.md", b"theirs").remote_id
    mistakes: list[tuple[Callable[[], Any], str]] = [
        (lambda: target.reslice(remote_id, "a.md", {}), "which serves"),
        (lambda: target.reslice(theirs, "theirs.md", {}), "not ours"),
        (lambda: target.reslice(remote_id, "/a.md", {}), "not a relative path"),
        (lambda: target.reslice(remote_id, "a.pdf", {}), "lost the extension"),
        (lambda: target.reslice(remote_id, "a.md", None), "must be a mapping"),  # type: ignore[arg-type]
        (lambda: target.digest(""), "non-empty"),
        (lambda: target.reembed(""), "non-empty"),
        (lambda: target.is_searchable(2108, "a.md"), "non-empty"),  # type: ignore[arg-type]
        (lambda: target.is_searchable(remote_id, ""), "empty"),
    ]
    for mistake, words in mistakes:
        with pytest.raises(ProtocolViolation, match=words):
            await mistake()
    assert len(base.violations) == len(mistakes)
    assert base.effects_of("reslice", "reembed") == []


async def test_unknown_document_cannot_be_cut_anew(target: ForgetfulMemory) -> None:
    with pytest.raises(Rejected):
        await target.reslice("404", "a.md", {})
