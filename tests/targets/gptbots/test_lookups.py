"""Tests how the list is read for single documents: again after each change, in as few pages as possible."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from kbsync.contract.target import Accepted, DocState
from kbsync.errors import Unavailable
from kbsync.targets.gptbots.target import GptbotsTarget
from kbsync.targets.http.client import Client
from kbsync_standin.faults import Fault
from tests.remote.world import sha_of_folder
from tests.services.gptbots import GptbotsWorld, ServedGptbots
from tests.share import enumerated, long

pytestmark = long

MANY = 5_000
BESIDES = 5
"""The list requests that a change may cost, without those for the pages with its own documents."""


@pytest.fixture
async def served_world() -> AsyncIterator[ServedGptbots]:
    async with ServedGptbots(vectorize=[20, 20], stale_status=60).run_with_target() as world:
        yield world


async def test_concurrent_change_by_another_client_does_not_complete_ours(
    served_world: ServedGptbots,
) -> None:
    """Other clients' updates move `update_time`, too, so a time from before them proves nothing."""
    ours, theirs = served_world.target, await served_world.open()
    first, second = await served_world.make_ready(
        served_world.document("a.md", "kestrel one"), served_world.document("b.md", "kestrel two")
    )
    await served_world.pass_time(100)
    await served_world.bring(
        served_world.document("a.md", "kestrel three", replaces=first)
    )  # the whole list was read
    await served_world.pass_time(100)
    [_] = await theirs.put([served_world.document("b.md", "osprey", replaces=second)])
    await served_world.pass_time(100)
    await served_world.put(served_world.document("b.md", "merlin", replaces=second))
    await served_world.pass_time(1)
    assert (await ours.status([second]))[second].state is DocState.INDEXING
    await served_world.until(DocState.READY, second)
    assert await served_world.find("merlin") == {second}
    await theirs.aclose()


@pytest.mark.parametrize("is_new", [True, False])
async def test_observation_of_one_version_does_not_apply_to_the_next(
    served_world: ServedGptbots, is_new: bool
) -> None:
    """The file is edited while a version is indexed, whose final state would have counted for the next
    one.
    """
    target = served_world.target
    [accepted] = await served_world.put(served_world.document("a.md", "kestrel one"))
    remote_id = accepted.remote_id
    if not is_new:
        await served_world.until(DocState.READY, remote_id)
        await served_world.pass_time(100)
        served_world.app.set_behaviour({"stale_status": 0})
        await served_world.put(served_world.document("a.md", "kestrel two", replaces=remote_id))
        await served_world.pass_time(1)
        assert (await target.status([remote_id]))[remote_id].state is DocState.INDEXING
        served_world.app.set_behaviour({"stale_status": 60})
    await served_world.pass_time(30)  # indexing has ended, but no poll has seen that
    await served_world.put(served_world.document("a.md", "merlin", replaces=remote_id))
    await served_world.pass_time(1)
    assert (await target.status([remote_id]))[remote_id].state is DocState.INDEXING
    await served_world.until(DocState.READY, remote_id)
    assert await served_world.find("merlin") == {remote_id}


async def test_row_read_during_an_update_does_not_complete_it(
    served_world: ServedGptbots, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, send = served_world.target, Client.request_once
    first, second = await served_world.make_ready(
        served_world.document("a.md", "kestrel one"), served_world.document("b.md", "kestrel two")
    )
    await served_world.pass_time(100)

    async def send_after_a_poll(*args: Any, **kwargs: Any) -> Any:
        await served_world.pass_time(2)
        await target.status([first])  # reads the page with both documents
        return await send(*args, **kwargs)

    monkeypatch.setattr(Client, "request_once", send_after_a_poll)
    await served_world.put(served_world.document("b.md", "merlin", replaces=second))
    assert (await target.status([second]))[second].state is DocState.INDEXING


@pytest.mark.parametrize("indexing_seconds", [100, 3_000])
async def test_failure_of_the_old_version_does_not_count_after_a_long_lookup(
    served_world: ServedGptbots, monkeypatch: pytest.MonkeyPatch, indexing_seconds: int
) -> None:
    target, read_page = served_world.target, GptbotsTarget.page
    [remote_id] = await served_world.make_ready(served_world.document("a.md", "kestrel"))
    await served_world.pass_time(100)
    served_world.app.set_behaviour({"vectorize": [indexing_seconds, indexing_seconds]})
    await served_world.put(served_world.document("a.md", "merlin", replaces=remote_id))
    old_failure = Fault("odd-status", op="status", times=1, args={"value": "FAILED"})
    served_world.server.faults.add(old_failure)

    async def read_page_later(*args: Any) -> Any:
        await served_world.pass_time(1_000)
        return await read_page(*args)

    monkeypatch.setattr(GptbotsTarget, "page", read_page_later)
    state = (await target.status([remote_id]))[remote_id].state
    assert state is (DocState.READY if indexing_seconds < 1_000 else DocState.INDEXING)


async def test_repeated_request_for_failures_has_no_more_ids_than_others(
    served_world: ServedGptbots, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [served_world.document(f"{number}.md", f"kestrel {number}") for number in range(2)]
    ids = await served_world.make_ready(*documents)
    target, requested, read = await served_world.open(), list[int](), GptbotsTarget._request_statuses

    async def read_failures(self: GptbotsTarget, part: Sequence[str]) -> Mapping[str, str]:
        requested.append(len(part))
        return dict.fromkeys(await read(self, part), "FAILED")

    monkeypatch.setattr(GptbotsTarget, "_request_statuses", read_failures)
    monkeypatch.setattr("kbsync.targets.gptbots.target.MAX_IDS", 1)
    states = await target.status(ids)
    assert {status.state for status in states.values()} == {DocState.FAILED}
    assert requested == [1, 1, 1, 1]
    await target.aclose()


async def test_change_does_not_wait_for_a_lookup_of_an_audit(served_world: ServedGptbots) -> None:
    """An audit pauses before each request, and reads the whole list for a missing document."""
    target, requests = served_world.target, 0
    is_pausing, may_go_on = asyncio.Event(), asyncio.Event()
    [remote_id] = await served_world.make_ready(served_world.document("a.md", "kestrel"))

    async def pause_before_the_list() -> None:
        nonlocal requests
        requests += 1
        if requests > 1:  # the first request is for the state
            is_pausing.set()
            await may_go_on.wait()

    audit = asyncio.create_task(target.unhurried(pause_before_the_list).status([served_world.unknown_id]))
    await is_pausing.wait()
    [outcome] = await target.put([served_world.document("a.md", "merlin", replaces=remote_id)])
    assert outcome == Accepted(remote_id, replaced=True)
    may_go_on.set()
    assert (await audit)[served_world.unknown_id].state is DocState.MISSING


async def test_change_does_not_wait_until_the_whole_list_is_read_for_another_document(
    served_world: ServedGptbots, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, read_page, read_list = served_world.target, GptbotsTarget.page, GptbotsTarget.rows
    may_read_page, may_read_list = asyncio.Event(), asyncio.Event()
    first, second = await served_world.make_ready(
        served_world.document("a.md", "kestrel one"), served_world.document("b.md", "kestrel two")
    )

    async def read_page_later(*args: Any) -> Any:
        await may_read_page.wait()
        return await read_page(*args)

    async def read_list_later(self: GptbotsTarget) -> AsyncIterator[Any]:
        await may_read_list.wait()
        async for row in read_list(self):
            yield row

    monkeypatch.setattr(GptbotsTarget, "page", read_page_later)
    monkeypatch.setattr(GptbotsTarget, "rows", read_list_later)
    ids = {"a.md": first, "b.md": second, "c.md": served_world.unknown_id}
    changes = [
        asyncio.create_task(target.put([served_world.document(path, f"merlin {path}", replaces=remote_id)]))
        for path, remote_id in ids.items()
    ]
    await asyncio.sleep(0)  # now all three want to read the list
    may_read_page.set()
    assert await changes[0] == [Accepted(first, replaced=True)]
    assert await changes[1] == [Accepted(second, replaced=True)]
    may_read_list.set()
    [outcome] = await changes[2]
    assert isinstance(outcome, Accepted)
    assert not outcome.replaced


def plant_many(world: GptbotsWorld, n: int) -> None:
    """Add other users' documents, ten per second."""
    for number in range(n):
        world.clock.now += number % 10 == 0
        world.plant(f"theirs{world.clock.now:.0f}-{number}.md", "something of theirs")


async def in_a_crowd(world: GptbotsWorld, order: str, before: float) -> None:
    """Mirror our files among many other documents; `before`: the share of those that were there first."""
    plant_many(world, round(MANY * before))
    await world.mirrored(12)
    plant_many(world, round(MANY * (1 - before)))
    world.turn(order=order)
    world.server.requests.clear()


@enumerated()
@pytest.mark.parametrize("switches", [{}, {"vectorize": [20, 20], "stale_status": 60}], ids=str)
@pytest.mark.parametrize(("order", "before"), [("newest", 0.0), ("newest", 0.37), ("oldest", 0.81)])
async def test_change_among_many_documents_reads_a_few_list_pages(
    world: GptbotsWorld, order: str, before: float, switches: dict[str, Any]
) -> None:
    """And a poll of an old state costs the document's own page."""
    await in_a_crowd(world, order, before)
    world.turn(**switches)
    started_at = world.clock.now
    await world.mirrored({"f3.md": "changed"})
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    polls = world.request_count("status") if switches else 0
    assert 1 <= world.request_count("list") <= BESIDES + 1 + polls
    if switches:
        assert world.clock.now - started_at >= 20
        assert polls >= 3


async def test_list_position_of_a_document_is_remembered_when_the_list_is_unordered(
    served_world: ServedGptbots,
) -> None:
    served_world.app.set_behaviour({"order": "shuffled"})
    for number in range(MANY // 2):
        served_world.app.put_foreign({"name": f"theirs{number}.md", "text": "something"})
    [remote_id] = await served_world.make_ready(served_world.document("a.md", "kestrel"))
    [_] = await served_world.put(served_world.document("a.md", "osprey", replaces=remote_id))
    await served_world.pass_time(100)
    served_world.server.requests.clear()
    await served_world.bring(served_world.document("a.md", "merlin", replaces=remote_id))
    requests_before = served_world.server.requests.by_op
    assert requests_before.get("list", 0) <= BESIDES + 1 + requests_before.get("status", 0)
    assert await served_world.find("merlin") == {remote_id}


@enumerated()
@pytest.mark.parametrize("page_cap", [0, 10])
@pytest.mark.parametrize("order", ["newest", "oldest", "shuffled"])
async def test_documents_that_moved_to_other_pages_are_found(
    served_world: ServedGptbots, order: str, page_cap: int
) -> None:
    """Others add and delete documents between two changes, and all of ours are from the same second."""
    served_world.app.set_behaviour(
        {"order": order, "page_cap": page_cap, "vectorize": [1, 1], "stale_status": 9}
    )
    ids = await served_world.fill(40)
    for turn in range(3):
        for number in range(70):
            created = served_world.app.put_foreign({"name": f"theirs{turn}-{number}.md", "text": "something"})
            if number % 3 == 0:
                served_world.app.put_foreign({"delete": created["id"]})
        for index in (0, 17, 39):
            document = served_world.document(f"page{index}.md", f"turn {turn}", replaces=ids[index])
            [accepted] = await served_world.bring(document)
            assert accepted.remote_id == ids[index]
        await served_world.pass_time(10)
    assert isinstance(served_world.target, GptbotsTarget)
    texts = {row["id"]: row["serving"] for row in served_world.app.snapshot()["documents"]}
    assert len({texts[ids[index]] for index in (0, 17, 39)}) == 1


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_gateway_without_the_call_for_states_proves_no_document_deleted(
    served_world: ServedGptbots, status: int
) -> None:
    """It says nothing about a document, so the call isn't repeated for each one of them either."""
    ids = await served_world.make_ready(*(served_world.document(f"{n}.md", f"kestrel {n}") for n in range(8)))
    faults, requests = served_world.server.faults, served_world.server.requests.by_op
    faults.add(Fault("status", "status", times=0, effect=False, args={"status": status}))
    faults.add(Fault("code", "delete", times=0, args={"code": 40000}))
    before = requests["status"]
    outcomes = await served_world.target.delete(ids)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes.values())
    with pytest.raises(Unavailable):
        await served_world.target.status(ids)
    assert requests["status"] - before == 2
    faults.clear()
    assert await served_world.find("kestrel") == set(ids)


@pytest.mark.parametrize(
    "state", [Fault("code", "status", times=0, args={"code": 40000}), Fault("left-out", "status", times=0)]
)
async def test_refused_deletion_of_a_listed_document_is_never_done(
    served_world: ServedGptbots, state: Fault
) -> None:
    """A missing state alone proves nothing (the service's page "query document status" names no case)."""
    ids = await served_world.make_ready(*(served_world.document(f"{n}.md", f"kestrel {n}") for n in range(3)))
    served_world.server.faults.add(Fault("code", "delete", times=0, args={"code": 40000}))
    served_world.server.faults.add(state)
    outcomes = await served_world.target.delete(ids)
    assert [type(outcome) for outcome in outcomes.values()] == [Unavailable] * 3
    served_world.server.faults.clear()
    assert set((await served_world.target.delete(ids)).values()) == {None}
