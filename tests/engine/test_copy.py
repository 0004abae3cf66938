"""Tests that `kb copy` searches for uploads with an unknown outcome before it sends again (promise 3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kbsync.contract.target import Accepted, PutOutcome
from kbsync.core.model import SERVING, UploadState
from kbsync.engine import attach
from kbsync.engine.copy import Copied, copy
from kbsync.engine.journal import Journal
from kbsync.errors import TargetError, Unavailable, Unsure
from kbsync.index.document import Entry
from tests.engine.world import World, save_unchecked
from tests.memory.behaviour import Fault


class Copying:
    """Documents from the world's earlier base, copied into a new one.

    `lost_paths`: the paths whose uploads get no response; `arrives`: whether they arrive anyway.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.sent_paths: list[str] = []
        self.lost_paths: set[str] = set()
        self.arrives = True

    async def put(self, entry: Entry) -> PutOutcome:
        self.sent_paths.append(entry.path)
        is_lost = entry.path in self.lost_paths
        document = None
        if self.arrives or not is_lost:
            text = (self.world.root / entry.path).read_bytes()
            document = self.world.base.add(
                entry.name, text, path=entry.path, upload_id=entry.upload_id, foreign=False
            )
        if is_lost or document is None:
            return Unsure("connection reset")
        return Accepted(document.remote_id, ready=True)

    async def run(self) -> Copied:
        world, copied = self.world, Copied()
        async with world.running() as store:
            target = await world.open_target()
            record = await store.read(lambda tx: tx.mirrors.named("docs"))
            assert record is not None
            rows = {row.remote_id: row for row in world.rows(*SERVING)}
            base = await target.base()
            binding = await attach.bind(store, world.settings, record, target, base, world.state)
            journal = Journal(binding, world.clock)

            def read(remote_id: str) -> Entry | None:
                row = rows[remote_id]
                return Entry(0, "", "", row.digest, row.size, row.recipe, 0.0)

            await copy(store, journal, target, [1], read, self.put, copied)
        return copied


@pytest.fixture
async def copying(world: World) -> Copying:
    await world.mirrored(3)
    world.base.recreate()
    return Copying(world)


@pytest.mark.parametrize("arrives", [True, False])
async def test_upload_with_a_lost_answer_is_sent_again_only_if_it_did_not_arrive(
    copying: Copying, arrives: bool
) -> None:
    copying.lost_paths, copying.arrives = {"f0.md"}, arrives
    with pytest.raises(TargetError):
        await copying.run()
    copying.lost_paths.clear()
    copied = await copying.run()
    assert copying.sent_paths.count("f0.md") == 2 - arrives
    assert (copied.documents, copied.present, copied.remaining) == (3 - arrives, arrives, 0)
    await copying.world.ends_equal()


async def test_undecidable_upload_is_left_to_the_pass(copying: Copying) -> None:
    world = copying.world
    world.limits = replace(world.limits, list_lag=5.0)
    copying.lost_paths = {"f0.md"}
    with pytest.raises(TargetError):
        await copying.run()
    copying.lost_paths.clear()
    hidden = next(document for document in world.base.documents.values() if document.content.path == "f0.md")
    hidden.hidden_until = world.clock.wall() + 10.0
    copied = await copying.run()
    assert copying.sent_paths.count("f0.md") == 1
    assert (copied.present, copied.remaining) == (0, 1)
    await world.ends_equal()


async def test_copy_stops_before_sending_when_the_list_is_unavailable(copying: Copying) -> None:
    copying.lost_paths = {"f0.md"}
    with pytest.raises(TargetError):
        await copying.run()
    copying.lost_paths.clear()
    copying.world.base.faults.append(Fault("list", error=lambda: Unavailable("no route")))
    with pytest.raises(TargetError):
        await copying.run()
    assert copying.sent_paths == ["f0.md"]


async def test_document_that_failed_in_the_new_base_does_not_count_as_copied(copying: Copying) -> None:
    """The next pass reports the failure."""
    world = copying.world
    await copying.run()

    rows = world.read_state(lambda tx: tx.uploads.in_states(world.run.id, 2, SERVING))
    failed = replace(rows[0], state=UploadState.FAILED, remote_id=None)
    world.change(lambda tx: save_unchecked(tx.uploads, failed))
    copied = await copying.run()
    assert (copied.documents, copied.present, copied.remaining) == (0, 2, 1)
