"""The base in memory as a vendor is: old failures, no room, silence, late uploads, no marks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from kbsync.contract.searching import Query
from kbsync.contract.target import DocState, DocStatus, Outgoing
from kbsync.errors import Unsure
from tests.clocks import Clock
from tests.memory.base import MemoryBase
from tests.memory.behaviour import Behaviour, Crash, Failure, Fault, Phase
from tests.memory.rules import ProtocolViolation
from tests.memory.target import DEFAULT_LIMITS
from tests.memory.test_base import base, clock, outgoing, put, rows, state
from tests.memory.variants import ForgetfulMemory

__all__ = ["base", "clock"]


@pytest.fixture
def target(base: MemoryBase) -> ForgetfulMemory:
    return ForgetfulMemory(base, limits=dataclasses.replace(DEFAULT_LIMITS, batch=4, marks=True))


def unsure() -> Unsure:
    return Unsure("the connection was closed before an answer came")


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
    base: MemoryBase, target: ForgetfulMemory, clock: Clock
) -> None:
    base.behaviour = Behaviour(
        failures=[Failure("a.md", reason="broken", code="77")], stale_after_reembed=10.0
    )
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


# ---- a full base


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


# ---- a status that never says


async def test_status_never_says_what_a_search_finds_out(
    base: MemoryBase, target: ForgetfulMemory, clock: Clock
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


# ---- uploads that arrive late


@pytest.mark.parametrize("match", [None, "a.md"], ids=["request", "document"])
async def test_lost_upload_appears_later_and_was_created_then(
    base: MemoryBase, target: ForgetfulMemory, clock: Clock, match: str | None
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


@pytest.mark.parametrize(
    ("phase", "at_once", "in_the_end"),
    [(Phase.START, 0, 0), (Phase.EFFECT, 0, 1), (Phase.ANSWER, 1, 1)],
)
async def test_upload_of_a_client_that_died_may_arrive_late(
    base: MemoryBase,
    target: ForgetfulMemory,
    clock: Clock,
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


# ---- faults and strictness


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
