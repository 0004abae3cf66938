"""Tests that the in-memory base is as slow, full and forgetful as configured, and strict about requests.

The conformance suite tests that it keeps the contract.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from kbsync.contract.searching import Query
from kbsync.contract.target import Accepted, DocState, DocStatus, Listed, Outgoing
from kbsync.errors import Unsure
from tests.clocks import Clock
from tests.memory.base import MemoryBase
from tests.memory.behaviour import Behaviour, Crash, Failure, Fault, Phase
from tests.memory.rules import ProtocolViolation
from tests.memory.target import DEFAULT_LIMITS, MemoryTarget
from tests.memory.variants import AbleMemory, ForgetfulMemory
from tests.targets import bodies

LIMITS = replace(DEFAULT_LIMITS, batch=4)


def outgoing(path: str = "a.md", text: str = "one", upload_id: int = 1, **changes: Any) -> Outgoing:
    return replace(bodies.outgoing(path, text, upload_id=upload_id, recipe="r"), **changes)


def unsure() -> Unsure:
    return Unsure("the connection was closed before an answer came")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def base(clock: Clock) -> MemoryBase:
    return MemoryBase(clock=clock)


@pytest.fixture
def target(base: MemoryBase) -> AbleMemory:
    return AbleMemory(base, limits=LIMITS)


@pytest.fixture
def forgetful(base: MemoryBase) -> ForgetfulMemory:
    return ForgetfulMemory(base, limits=replace(LIMITS, marks=True))


async def put(target: MemoryTarget, document: Outgoing) -> str:
    [outcome] = await target.put([document])
    assert isinstance(outcome, Accepted), outcome
    return outcome.remote_id


async def status_of(target: MemoryTarget, remote_id: str) -> DocStatus:
    return (await target.status([remote_id]))[remote_id]


async def state(target: MemoryTarget, remote_id: str) -> DocState:
    return (await status_of(target, remote_id)).state


async def rows(target: MemoryTarget) -> list[Listed]:
    return [row async for row in target.list()]


# ---- slow, full and silent bases


async def test_document_is_ready_after_its_polls(base: MemoryBase, target: AbleMemory) -> None:
    base.behaviour.indexing_polls = 2
    remote_id = await put(target, outgoing())
    states = [await state(target, remote_id) for _ in range(4)]
    assert states == [DocState.INDEXING, DocState.INDEXING, DocState.READY, DocState.READY]


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


async def test_switches_limit_what_the_base_reports(base: MemoryBase, target: AbleMemory) -> None:
    base.behaviour = Behaviour(answers_ready=False, tells_created=False, decomposes_names=True)
    [outcome] = await target.put([outgoing("caf\u00e9.md")])
    assert isinstance(outcome, Accepted) and not outcome.ready
    assert await state(target, outcome.remote_id) is DocState.READY
    [row] = await rows(target)
    assert (row.name, row.created) == (outcome.name, None) == ("cafe\u0301.md", None)


async def test_forgetful_base_returns_none_of_our_fields(forgetful: ForgetfulMemory) -> None:
    remote_id = await put(forgetful, outgoing("docs/a.md", name="a.md"))
    [row] = await rows(forgetful)
    assert (row.path, row.digest, row.upload_id, row.recipe) == (None, None, None, None)
    [hit] = await forgetful.search(Query("one", paths=("elsewhere/",), types=("pdf",), after=99.0))
    assert (hit.remote_id, hit.path, hit.modified) == (remote_id, None, None)
    assert await put(forgetful, outgoing("docs/a.md", name="a.md")) != remote_id


async def test_old_failure_is_reported_for_a_while_after_a_reembed(
    base: MemoryBase, forgetful: ForgetfulMemory, clock: Clock
) -> None:
    base.behaviour = Behaviour(
        failures=[Failure("a.md", reason="broken", code="77")], stale_after_reembed=10.0
    )
    remote_id = await put(forgetful, outgoing())
    await forgetful.reembed(remote_id)
    assert base.searchable_texts() == {"a.md": ["one"]}
    for seconds, status in (
        (9.9, DocStatus(DocState.FAILED, "broken", "77")),
        (0.1, DocStatus(DocState.READY)),
    ):
        clock.advance(seconds)
        assert await status_of(forgetful, remote_id) == status
        assert [row.state for row in await rows(forgetful)] == [status.state]


# ---- work done, and the client's response


@pytest.mark.parametrize("effect", [True, False])
async def test_lost_answer_leaves_the_work_done_or_not(
    base: MemoryBase, target: AbleMemory, effect: bool
) -> None:
    base.faults.append(Fault("put", unsure, effect=effect))
    with pytest.raises(Unsure):
        await target.put([outgoing()])
    assert len(base.documents) == effect


@pytest.mark.parametrize("match", [None, "a.md"], ids=["request", "document"])
async def test_lost_upload_appears_later_with_its_creation_time(
    base: MemoryBase, target: AbleMemory, clock: Clock, match: str | None
) -> None:
    base.behaviour = Behaviour(indexing_seconds=2.0, late_puts=20.0)
    base.faults.append(Fault("put", unsure, match=match, effect=True))
    sent = clock.now
    if match is None:
        with pytest.raises(Unsure):
            await target.put([outgoing()])
    else:
        assert [type(outcome) for outcome in await target.put([outgoing()])] == [Unsure]
    clock.advance(19.9)
    assert await rows(target) == []
    clock.advance(5.0)
    assert [row.created for row in await rows(target)] == [sent + 20.0]
    assert [effect.time for effect in base.effects] == [sent + 20.0, sent + 22.0]


@pytest.mark.parametrize(
    ("phase", "at_once", "in_the_end"), [(Phase.START, 0, 0), (Phase.EFFECT, 0, 1), (Phase.ANSWER, 1, 1)]
)
async def test_upload_of_a_dead_client_may_arrive_late(
    base: MemoryBase, target: AbleMemory, clock: Clock, phase: Phase, at_once: int, in_the_end: int
) -> None:
    def die(op: str, moment: Phase, what: Sequence[Outgoing] | Sequence[str]) -> None:
        if moment is phase:
            raise Crash

    base.behaviour.late_puts = 20.0
    base.at_request = die
    with pytest.raises(Crash):
        await target.put([outgoing()])
    base.at_request = None
    assert len(base.documents) == at_once
    clock.advance(20.0)
    assert len(base.documents) == in_the_end


async def test_list_breaks_in_the_middle_or_ends_early(base: MemoryBase, target: AbleMemory) -> None:
    for n in range(4):
        base.add(f"{n}.md", b"x")
    base.faults += [Fault("list", unsure, rows=2), Fault("list", is_false=True, rows=3)]
    observed = []
    with pytest.raises(Unsure):
        async for row in target.list():
            observed.append(row.name)
    assert observed == ["0.md", "1.md"]
    assert [len(await rows(target)) for _ in range(2)] == [3, 4]


async def test_hook_sees_every_boundary_and_can_crash_at_each(clock: Clock) -> None:
    documents = [outgoing("a.md"), outgoing("b.md", upload_id=2)]

    async def run(stop_at: int | None) -> tuple[list[str], set[str]]:
        base, observed = MemoryBase(clock=clock), []

        def hook(op: str, phase: Phase, what: Sequence[Outgoing] | Sequence[str]) -> None:
            observed.append(f"{op} {phase} {len(what)}")
            if len(observed) - 1 == stop_at:
                raise Crash

        base.at_request = hook
        target = AbleMemory(base, limits=LIMITS)
        try:
            await target.put(documents)
            [row.remote_id async for row in target.list()]
            await target.delete(list(base.documents))
        except Crash:
            assert base.open_requests == 0
        return observed, set(base.searchable_texts())

    boundaries, left_texts = await run(None)
    assert boundaries == [
        *("put start 2", "put effect 1", "put effect 1", "put answer 2"),
        *("list start 0", "list answer 0"),
        *("delete start 2", "delete effect 1", "delete effect 1", "delete answer 2"),
    ]
    assert left_texts == set()
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
        ({"path": "Makefile", "name": "Makefile"}, "not taken"),
        ({"replaces": ""}, "replaces is empty"),
        ({"text": "four"}, "over the limit"),
        ({"path": "a.txt", "name": "a.txt"}, "over the limit"),
    ],
)
async def test_wrong_document_is_a_violation(base: MemoryBase, changes: dict[str, Any], words: str) -> None:
    limits = replace(LIMITS, max_bytes=3, max_bytes_by_extension={"txt": 2})
    with pytest.raises(ProtocolViolation, match=words):
        await AbleMemory(base, limits=limits).put([outgoing(**changes)])
    assert base.documents == {}
    assert len(base.violations) == 1


async def test_body_of_the_wrong_length_is_a_violation(target: AbleMemory) -> None:
    with pytest.raises(ProtocolViolation, match="declared 9 bytes, sent 3"):
        await target.put([outgoing(size=9, body=bodies.BytesBody(b"one", claimed_size=9))])


async def test_two_concurrent_updates_of_one_document_are_a_violation(target: AbleMemory) -> None:
    first = await put(target, outgoing())
    both = (target.put([outgoing(text=t, upload_id=n, replaces=first)]) for n, t in enumerate("xy"))
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    assert [isinstance(outcome, ProtocolViolation) for outcome in outcomes] == [False, True]


async def closed(target: MemoryTarget) -> None:
    await target.aclose()
    await target.base()


# A client that updates, one that forgets, a document of ours that serves, and another user's.
MISTAKES: list[tuple[Callable[[Any, Any, str, str], Awaitable[Any]], str]] = [
    (lambda T, F, ours, theirs: T.put([outgoing(f"{n}.md", upload_id=n) for n in range(5)]), "batch of 4"),
    (lambda T, F, ours, theirs: T.put([outgoing(), outgoing("b.md")]), "twice"),
    (lambda T, F, ours, theirs: T.delete(["1", "1"]), "twice"),
    (lambda T, F, ours, theirs: T.status("123"), "sequence"),
    (lambda T, F, ours, theirs: T.delete([theirs]), "not ours"),
    (lambda T, F, ours, theirs: T.rename(theirs, "b.md", "b.md", 0.0), "not ours"),
    (lambda T, F, ours, theirs: T.reembed(theirs), "not ours"),
    (lambda T, F, ours, theirs: T.put([outgoing(replaces=theirs)]), "not ours"),
    (lambda T, F, ours, theirs: T.put([outgoing("theirs.md")]), "not ours"),
    (lambda T, F, ours, theirs: T.reembed(ours), "which serves"),
    (lambda T, F, ours, theirs: T.reembed(""), "non-empty"),
    (lambda T, F, ours, theirs: closed(T), "after aclose"),
    (lambda T, F, ours, theirs: F.reslice(ours, "a.md", {}), "which serves"),
    (lambda T, F, ours, theirs: F.reslice(theirs, "theirs.md", {}), "not ours"),
    (lambda T, F, ours, theirs: F.reslice(ours, "/a.md", {}), "not a relative path"),
    (lambda T, F, ours, theirs: F.reslice(ours, "a.pdf", {}), "lost the extension"),
    (lambda T, F, ours, theirs: F.reslice(ours, "a.md", None), "must be a mapping"),
    (lambda T, F, ours, theirs: F.digest(""), "non-empty"),
    (lambda T, F, ours, theirs: F.is_searchable(2108, "a.md"), "non-empty"),
    (lambda T, F, ours, theirs: F.is_searchable(ours, ""), "empty"),
]


@pytest.mark.parametrize(("mistake", "words"), MISTAKES)
async def test_wrong_call_is_a_violation_and_changes_nothing(
    base: MemoryBase,
    target: AbleMemory,
    forgetful: ForgetfulMemory,
    mistake: Callable[[Any, Any, str, str], Awaitable[Any]],
    words: str,
) -> None:
    base.behaviour.equal_names = "replace"  # so that an upload takes the name from any document that has it
    ours, theirs = await put(target, outgoing()), base.add("theirs.md", b"theirs").remote_id
    before = len(base.effects)
    with pytest.raises(ProtocolViolation, match=words):
        await mistake(target, forgetful, ours, theirs)
    assert len(base.violations) == 1
    assert len(base.effects) == before


async def test_name_without_an_extension_is_accepted_where_limits_allow_it(target: AbleMemory) -> None:
    await put(target, outgoing("docs/README", name="README~abc"))
