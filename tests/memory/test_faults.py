"""The base in memory fails as it is told to, and is strict about what it is sent."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from kbsync.contract.searching import Query
from kbsync.contract.target import Outgoing
from kbsync.errors import TargetError, Unsure
from tests.clocks import Clock
from tests.conformance.world import TrackedBody
from tests.memory.base import MemoryBase
from tests.memory.behaviour import Crash, Fault, Phase
from tests.memory.rules import ProtocolViolation
from tests.memory.target import DEFAULT_LIMITS, MemoryTarget
from tests.memory.test_base import base, clock, outgoing, put, rows, target
from tests.memory.variants import AbleMemory

__all__ = ["base", "clock", "target"]


def unsure() -> Unsure:
    return Unsure("the connection was closed before an answer came")


# ---- what is done, and what the client hears


@pytest.mark.parametrize("effect", [True, False])
async def test_lost_answer_leaves_the_work_done_or_not(
    base: MemoryBase, target: AbleMemory, effect: bool
) -> None:
    base.faults.append(Fault("put", unsure, effect=effect))
    with pytest.raises(Unsure):
        await target.put([outgoing()])
    assert len(base.documents) == effect
    await put(target, outgoing(upload_id=2))
    assert len(base.documents) == effect + 1


async def test_late_effect_comes_when_its_time_has_come(
    base: MemoryBase, target: AbleMemory, clock: Clock
) -> None:
    base.behaviour.indexing_seconds = 2.0
    base.faults.append(Fault("put", unsure, late=20.0))
    with pytest.raises(Unsure):
        await target.put([outgoing()])
    clock.advance(19.9)
    assert await rows(target) == []
    clock.advance(5.0)
    assert len(await rows(target)) == 1
    times = [effect.time - clock.now for effect in base.effects]
    assert times == pytest.approx([-4.9, -2.9])


@pytest.mark.parametrize("op", ["base", "status", "rename", "reembed", "search"])
async def test_every_call_can_fail(base: MemoryBase, target: AbleMemory, op: str) -> None:
    remote_id = await put(target, outgoing())
    base.faults.append(Fault(op, unsure))
    calls: dict[str, Any] = {
        "base": target.base,
        "status": lambda: target.status([remote_id]),
        "rename": lambda: target.rename(remote_id, "b.md", "b.md", 0.0),
        "reembed": lambda: target.reembed(remote_id),
        "search": lambda: target.search(Query("one")),
    }
    with pytest.raises(Unsure):
        await calls[op]()
    assert base.documents[remote_id].name == "a.md"


# ---- which call


async def test_faults_strike_the_call_they_name(base: MemoryBase, target: AbleMemory) -> None:
    base.faults.append(Fault("put", unsure, nth=2, times=2))
    outcomes = []
    for n in range(5):
        try:
            outcomes.append(bool(await put(target, outgoing(f"{n}.md", upload_id=n))))
        except TargetError:
            outcomes.append(False)
    assert outcomes == [True, False, False, True, True]


# ---- lists, hangs, crashes


async def test_list_breaks_in_the_middle(base: MemoryBase, target: AbleMemory) -> None:
    for n in range(4):
        base.add(f"{n}.md", b"x")
    base.faults.append(Fault("list", unsure, rows=2))
    seen = []
    with pytest.raises(Unsure):
        async for row in target.list():
            seen.append(row.name)
    assert seen == ["0.md", "1.md"]
    assert len(await rows(target)) == 4


async def test_list_can_end_early_and_look_complete(base: MemoryBase, target: AbleMemory) -> None:
    for n in range(4):
        base.add(f"{n}.md", b"x")
    base.faults.append(Fault("list", lie=True, rows=3))
    assert len(await rows(target)) == 3


async def test_request_given_up_while_it_hangs_is_closed(base: MemoryBase, target: AbleMemory) -> None:
    base.faults.append(Fault("put", hang=asyncio.Event()))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(target.put([outgoing()]), 0.01)
    assert (base.open_requests, base.documents) == (0, {})


async def test_hook_sees_every_boundary_and_can_crash_at_each(clock: Clock) -> None:
    documents = [outgoing("a.md"), outgoing("b.md", upload_id=2)]

    async def run(stop_at: int | None) -> tuple[list[str], set[str]]:
        base, seen = MemoryBase(clock=clock), []

        def hook(op: str, phase: Phase, what: Sequence[Outgoing] | Sequence[str]) -> None:
            seen.append(f"{op} {phase} {len(what)}")
            if len(seen) - 1 == stop_at:
                raise Crash

        base.at_request = hook
        target = AbleMemory(base, limits=dataclasses.replace(DEFAULT_LIMITS, batch=4))
        try:
            await target.put(documents)
            [row.remote_id async for row in target.list()]
            await target.delete(list(base.documents))
        except Crash:
            assert base.open_requests == 0
        return seen, set(base.shown())

    boundaries, left = await run(None)
    assert boundaries == [
        *("put start 2", "put effect 1", "put effect 1", "put answer 2"),
        *("list start 0", "list answer 0"),
        *("delete start 2", "delete effect 1", "delete effect 1", "delete answer 2"),
    ]
    assert left == set()
    left_at = [len((await run(n))[1]) for n in range(len(boundaries))]
    assert left_at == [0, 1, 2, 2, 2, 2, 2, 1, 0, 0]


# ---- strictness


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 4}, "size is 4"),
        ({"digest": "0" * 64}, "another digest"),
        ({"digest": "ABC"}, "no SHA-256"),
        ({"name": ""}, "empty"),
        ({"name": "n" * 253 + ".md"}, "longer than 255"),
        ({"name": "dir/a.md"}, "slash"),
        ({"name": "a.txt"}, "lost the extension"),
        ({"path": "/a.md"}, "not a relative path"),
        ({"path": "x/../a.md"}, "not a relative path"),
        ({"path": "a.exe", "name": "a.exe"}, "not taken"),
        ({"replaces": ""}, "replaces is empty"),
    ],
)
async def test_wrong_document_is_a_violation(
    base: MemoryBase, target: AbleMemory, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ProtocolViolation, match=words):
        await target.put([outgoing(**changes)])
    assert base.documents == {}
    assert len(base.violations) == 1


async def test_body_that_is_not_as_long_as_it_says_is_a_violation(target: AbleMemory) -> None:
    class ShortBody(TrackedBody):
        @property
        def size(self) -> int:
            return 9

    with pytest.raises(ProtocolViolation, match="declared 9 bytes, sent 3"):
        await target.put([outgoing(size=9, body=ShortBody(b"one", None))])


async def test_document_over_the_limit_is_a_violation(base: MemoryBase) -> None:
    limits = dataclasses.replace(DEFAULT_LIMITS, max_bytes=3, max_bytes_by_extension={"txt": 2})
    target = MemoryTarget(base, limits=limits)
    await put(target, outgoing())
    for document in (outgoing(text="four"), outgoing("a.txt")):
        with pytest.raises(ProtocolViolation, match="over the limit"):
            await target.put([document])


async def test_names_without_extension_are_taken_by_limits(target: AbleMemory) -> None:
    await put(target, outgoing("docs/README", name="README~abc"))
    with pytest.raises(ProtocolViolation, match="not taken"):
        await target.put([outgoing("Makefile")])


async def test_batches_keep_to_their_size_and_ids_to_one_place(base: MemoryBase, target: AbleMemory) -> None:
    with pytest.raises(ProtocolViolation, match="batch of 4"):
        await target.put([outgoing(f"{n}.md", upload_id=n) for n in range(5)])
    with pytest.raises(ProtocolViolation, match="twice"):
        await target.put([outgoing(), outgoing("b.md")])
    with pytest.raises(ProtocolViolation, match="twice"):
        await target.delete(["1", "1"])
    with pytest.raises(ProtocolViolation, match="sequence"):
        await target.status("123")
    assert base.requests == []


async def test_two_updates_of_one_document_at_once_are_a_violation(
    base: MemoryBase, target: AbleMemory
) -> None:
    first = await put(target, outgoing())
    both = (target.put([outgoing(text=t, upload_id=n, replaces=first)]) for n, t in enumerate("xy"))
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    assert [isinstance(one, ProtocolViolation) for one in outcomes] == [False, True]


async def test_document_that_serves_is_not_indexed_again(target: AbleMemory) -> None:
    remote_id = await put(target, outgoing())
    with pytest.raises(ProtocolViolation, match="which serves"):
        await target.reembed(remote_id)


async def test_closed_client_makes_no_requests(target: AbleMemory) -> None:
    await target.aclose()
    with pytest.raises(ProtocolViolation, match="after aclose"):
        await target.base()
