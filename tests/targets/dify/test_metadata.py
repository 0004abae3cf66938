"""Tests paths and tags of documents, by which Dify's apps filter, and which delay nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.targets.dify import target
from kbsync.targets.dify.target import PATIENCE, PAUSE
from kbsync_standin.dify import HOME_ID
from kbsync_standin.faults import Fault
from tests.clocks import skip
from tests.services.dify import DifyWorld
from tests.share import enumerated, long

TAGGED = "---\ntitle: A\ntags: [red, 'green']\n---\nAll about herons."


def stored_metadata(world: Any) -> list[dict[str, str]]:
    return sorted((document.metadata for document in world.app.documents_of(HOME_ID)), key=str)


@long
async def test_path_and_tags_are_stored_as_metadata(world: DifyWorld) -> None:
    world.settings = replace(world.settings, prefix="team/")
    await world.mirrored({"guides/intro.md": TAGGED, "plain.txt": "---\ntags: none\n---\ntext"})
    assert stored_metadata(world) == [
        {"path": "team/guides/intro.md", "tags": "red, green"},
        {"path": "team/plain.txt"},
    ]


@long
async def test_renamed_or_changed_file_gets_new_metadata(world: DifyWorld) -> None:
    await world.mirrored({"kept.txt": "kept", "old.md": TAGGED})
    world.clock.now += 10
    world.write("new.md", TAGGED.replace("green", "blue"))
    world.delete("old.md")
    await world.once()
    assert stored_metadata(world) == [{"path": "kept.txt"}, {"path": "new.md", "tags": "red, blue"}]
    assert world.request_count("create-field") == 2


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
async def test_refused_metadata_delays_nothing(
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
    assert world.request_count(op) <= 3  # once, or three tries of one request


async def test_rate_limit_pauses_only_metadata_and_pending_ones_are_sent_later(served_world: Any) -> None:
    served_world.server.faults.add(Fault("rate-limited", "describe"))
    await served_world.make_ready(served_world.document("a.md", "alpha"))
    await served_world.make_ready(served_world.document("b.md", TAGGED))
    assert served_world.server.requests.by_op["describe"] == 1
    assert stored_metadata(served_world) == [{}, {}]
    served_world.app.clock.advance(PAUSE + 1)
    await served_world.make_ready(served_world.document("c.md", "gamma"))
    assert served_world.server.requests.by_op["describe"] == 2
    assert stored_metadata(served_world) == [
        {"path": "a.md"},
        {"path": "b.md", "tags": "red, green"},
        {"path": "c.md"},
    ]


@pytest.mark.parametrize("op", ["create-field", "describe"])
async def test_unanswered_metadata_request_is_soon_abandoned(served_world: Any, op: str) -> None:
    requests = served_world.server.requests.by_op
    served_world.server.faults.add(Fault("hang", op, times=0))
    first = asyncio.create_task(served_world.make_ready(served_world.document("a.md", "alpha")))
    while not requests[op]:
        await asyncio.sleep(0)
    skip(PATIENCE)
    await first
    for path in ("b.md", "c.md"):
        await served_world.make_ready(served_world.document(path, path))
    assert requests[op] == 1


async def test_document_deleted_meanwhile_breaks_no_metadata_request(served_world: Any) -> None:
    served_world.server.faults.add(Fault("rate-limited", "describe"))
    first = await served_world.make_ready(served_world.document("a.md", "alpha"))
    await served_world.target.delete(first)
    served_world.app.clock.advance(PAUSE + 1)
    await served_world.make_ready(served_world.document("b.md", "beta"))
    assert stored_metadata(served_world) == [{"path": "b.md"}]


async def test_field_created_meanwhile_by_another_mirror_is_used(served_world: Any) -> None:
    await served_world.target.base()
    base = served_world.app.bases[HOME_ID]
    field = served_world.app.make_field(base, "path", "string")
    await served_world.make_ready(served_world.document("a.md", TAGGED))
    assert base.fields["path"] == (field["id"], "string")
    assert stored_metadata(served_world) == [{"path": "a.md", "tags": "red, green"}]


async def test_field_of_another_type_is_left_alone(served_world: Any) -> None:
    served_world.app.make_field(served_world.app.bases[HOME_ID], "tags", "number")
    await served_world.make_ready(served_world.document("a.md", TAGGED))
    assert stored_metadata(served_world) == [{"path": "a.md"}]


async def test_metadata_added_by_a_person_stays(served_world: Any) -> None:
    [remote_id] = [
        done.remote_id for done in await served_world.target.put([served_world.document("a.md", "alpha")])
    ]
    served_world.app.documents[remote_id].metadata = {"owner": "Ann"}
    await served_world.target.status([remote_id])
    assert stored_metadata(served_world) == [{"owner": "Ann", "path": "a.md"}]


async def test_version_without_metadata_is_not_asked(served_world: Any) -> None:
    served_world.app.set_behaviour({"metadata": False})
    await served_world.make_ready(served_world.document("a.md", TAGGED))
    requests = served_world.server.requests.by_op
    assert requests["create-field"] == requests["describe"] == 0


async def test_pending_metadata_is_bounded_and_sent_in_hundreds(
    served_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "MAX_WAITING_DOCUMENTS", 110)
    documents = [served_world.document(f"{number}.md", "alpha") for number in range(115)]
    await served_world.make_ready(*documents)
    stored = [metadata for metadata in stored_metadata(served_world) if metadata]
    assert len(stored) == 110
    assert served_world.server.requests.by_op["describe"] == 2


async def test_no_metadata_request_is_made_without_metadata(tmp_path: Path) -> None:
    async with DifyWorld(tmp_path, metadata="none").serving() as world:
        await world.mirrored({"a.md": TAGGED})
        assert world.statuses() == {"ready": 1}
        assert world.request_count("create-field") == world.request_count("describe") == 0
        assert world.app.violations == []
