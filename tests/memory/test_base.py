"""The base in memory plays what it is told to: slowness, lies and behaviour."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from kbsync.contract.target import (
    Accepted,
    DocState,
    Listed,
    Outgoing,
)
from tests.clocks import Clock
from tests.conformance.world import TrackedBody
from tests.memory.base import MemoryBase
from tests.memory.behaviour import Behaviour
from tests.memory.rules import ProtocolViolation
from tests.memory.target import DEFAULT_LIMITS, MemoryTarget
from tests.memory.variants import (
    AbleMemory,
)


def outgoing(path: str = "a.md", text: str = "one", upload_id: int = 1, **changes: Any) -> Outgoing:
    data = text.encode()
    digest = hashlib.sha256(data).hexdigest()
    sent = Outgoing(upload_id, path, path, digest, len(data), 5.0, "r", TrackedBody(data, None))
    return dataclasses.replace(sent, **changes)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def base(clock: Clock) -> MemoryBase:
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


# ---- indexing


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


# ---- the list lags


async def test_list_lags_by_seconds(base: MemoryBase, target: AbleMemory, clock: Clock) -> None:
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


# ---- updating in place


async def test_newer_update_supersedes_the_one_being_indexed(
    base: MemoryBase, target: AbleMemory, clock: Clock
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
