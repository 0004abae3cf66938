"""Paths and tags of documents, by which apps of Dify filter, and which hold nothing up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from kbsync.targets.dify import metadata
from kbsync.targets.dify.metadata import BATCH, MOST_WAITING, PAUSE
from kbsync_standin.dify import HOME_ID
from kbsync_standin.faults import Fault
from tests.conformance.test_dify import DifyConformance
from tests.share import enumerated
from tests.targets.dify.world import DifyWorld

TAGGED = "---\ntitle: A\ntags: [red, 'green']\n---\nAll about herons."


@pytest.fixture
async def single() -> AsyncIterator[Any]:
    """The target by itself."""
    world = DifyConformance("tagged")
    async with world.serving():
        world.target = await world.open()
        yield world
        await world.target.aclose()
        assert world.app.violations == []


def told(world: Any) -> list[dict[str, str]]:
    return sorted((one.metadata for one in world.app.documents_of(HOME_ID)), key=str)


async def test_path_and_tags_come_as_metadata(world: DifyWorld) -> None:
    world.settings = replace(world.settings, prefix="team/")
    world.write("guides/intro.md", TAGGED)
    world.write("plain.txt", "---\ntags: none\n---\ntext")
    await world.once()
    assert told(world) == [
        {"path": "team/guides/intro.md", "tags": "red, green"},
        {"path": "team/plain.txt"},
    ]


async def test_a_renamed_or_changed_file_is_described_anew(world: DifyWorld) -> None:
    world.write("kept.txt", "kept")
    world.write("old.md", TAGGED)
    await world.once()
    world.clock.now += 10
    world.write("new.md", TAGGED.replace("green", "blue"))
    world.delete("old.md")
    await world.once()
    assert told(world) == [{"path": "kept.txt"}, {"path": "new.md", "tags": "red, blue"}]
    assert world.asked("create-field") == 2


@enumerated()
@pytest.mark.parametrize("op", ["create-field", "describe"])
@pytest.mark.parametrize(
    ("kind", "args"),
    [
        ("rate-limited", {}),
        ("error", {"code": "too_many_requests", "status": 429}),
        ("error", {"code": "forbidden", "status": 403, "message": "No permission."}),
        ("error", {"code": "unknown", "status": 500}),
        ("error", {"message": "wrong"}),
        ("unauthorized", {}),
        ("shape", {"form": "null"}),
        ("status", {"status": 404}),
        ("status", {"status": 429}),
    ],
)
async def test_metadata_that_is_refused_holds_nothing_up(
    world: DifyWorld, op: str, kind: str, args: dict[str, Any]
) -> None:
    world.play(kind, op=op, times=0, args=args)
    for number in range(12):
        world.write(f"{number}.md", TAGGED + str(number))
    began = world.clock.now
    await world.once()
    assert world.statuses() == {"ready": 12}
    assert world.halted == ""
    assert world.clock.now - began < 30
    assert world.asked(op) <= 3  # once, or three tries of one request


async def test_a_limit_pauses_metadata_alone_and_what_waited_is_sent_later(single: Any) -> None:
    single.server.faults.add(Fault("rate-limited", "describe"))
    await single.make_ready(single.document("a.md", "alpha"))
    await single.make_ready(single.document("b.md", TAGGED))
    assert single.server.requests.by_op["describe"] == 1
    assert told(single) == [{}, {}]
    single.app.clock.advance(PAUSE + 1)
    await single.make_ready(single.document("c.md", "gamma"))
    assert single.server.requests.by_op["describe"] == 2
    assert told(single) == [{"path": "a.md"}, {"path": "b.md", "tags": "red, green"}, {"path": "c.md"}]


@pytest.mark.parametrize("op", ["create-field", "describe"])
async def test_metadata_without_an_answer_is_given_up_soon(
    single: Any, monkeypatch: pytest.MonkeyPatch, op: str
) -> None:
    monkeypatch.setattr(metadata, "PATIENCE", 0.1)
    single.server.faults.add(Fault("hang", op, times=0))
    for path in ("a.md", "b.md", "c.md"):
        await single.make_ready(single.document(path, path))
    assert single.server.requests.by_op[op] == 1


async def test_a_document_that_is_deleted_meanwhile_spoils_no_request(single: Any) -> None:
    single.server.faults.add(Fault("rate-limited", "describe"))
    first = await single.make_ready(single.document("a.md", "alpha"))
    await single.target.delete(first)
    single.app.clock.advance(PAUSE + 1)
    await single.make_ready(single.document("b.md", "beta"))
    assert told(single) == [{"path": "b.md"}]


async def test_a_field_that_another_mirror_makes_meanwhile_is_used(single: Any) -> None:
    await single.target.base()
    base = single.app.bases[HOME_ID]
    made = single.app.make_field(base, "path", "string")
    await single.make_ready(single.document("a.md", TAGGED))
    assert base.fields["path"] == (made["id"], "string")
    assert told(single) == [{"path": "a.md", "tags": "red, green"}]


async def test_a_field_of_another_type_is_left_alone(single: Any) -> None:
    single.app.make_field(single.app.bases[HOME_ID], "tags", "number")
    await single.make_ready(single.document("a.md", TAGGED))
    assert told(single) == [{"path": "a.md"}]


async def test_what_a_person_added_stays(single: Any) -> None:
    [one] = [done.remote_id for done in await single.target.put([single.document("a.md", "alpha")])]
    single.app.documents[one].metadata = {"owner": "Ann"}
    await single.target.status([one])
    assert told(single) == [{"owner": "Ann", "path": "a.md"}]


async def test_a_version_without_metadata_is_not_asked(single: Any) -> None:
    single.app.set_behaviour({"metadata": False})
    await single.make_ready(single.document("a.md", TAGGED))
    requests = single.server.requests.by_op
    assert requests["create-field"] == requests["describe"] == 0


async def test_what_waits_is_bounded_and_goes_by_the_hundred(single: Any) -> None:
    sent = [f"id-{number}" for number in range(MOST_WAITING + 5)]
    for one in sent:
        single.target._metadata.add(one, single.document("a.md", "alpha"), "")
    single.server.faults.add(Fault("error", "describe", effect=False))
    await single.target.base()
    waiting = single.target._metadata._waiting
    assert list(waiting) == sent[5:]
    await single.target.status([])
    assert list(waiting) == sent[5 + BATCH :]
