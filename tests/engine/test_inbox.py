"""Tests that messages that can't be carried out are logged and dropped, and end no pass."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from kbsync.state.read_only import Tx
from tests.engine.read_only_commands import planned
from tests.engine.world import World
from tests.share import enumerated, long

STRAY: dict[str, Any] = {"remote_id": "r1", "path": "a.md", "name": "a.md", "digest": "", "size": 1}
LONG = "[" * 100_000

MALFORMED: dict[str, tuple[object, object]] = {
    "not JSON": ("retry", "{"),
    "nested too deeply": ("retry", LONG),
    "bytes that are not UTF-8": ("retry", b'{"paths": ["\xff"]}'),
    "JSON that is no object": ("retry", "[]"),
    "no arguments": ("retry", ""),
    "unknown verb": ("explode", "{}"),
    "verb that is no text": (b"\xff\x00", "{}"),
    "paths that are no list": ("retry", '{"paths": "a.md"}'),
    "paths that are numbers": ("retry", '{"paths": [1]}'),
    "path that no file can have": ("retry", json.dumps({"paths": ["a\0b.md"]})),
    "path of half a character": ("retry", '{"paths": ["\\ud800.url"]}'),
    "holds that are no list": ("approve", '{"holds": 1}'),
    "holds that are words": ("approve", '{"holds": ["all"]}'),
    "hold beyond any number": ("approve", f'{{"holds": [{2**70}]}}'),
    "strays that are no list": ("repair", '{"strays": {}}'),
    "strays that are words": ("repair", '{"strays": ["r1"]}'),
    "stray without an id": ("repair", json.dumps({"strays": [{"path": "a.md"}]})),
    "stray of a wrong size": ("repair", json.dumps({"strays": [STRAY | {"size": "large"}]})),
    "stray of a wrong row": ("repair", json.dumps({"strays": [STRAY | {"upload": 2**70}]})),
    "base that is a number": ("repair", '{"base": 7}'),
    "missing ids that are numbers": ("repair", '{"missing": [7]}'),
    "accepted directory outside the folder": ("approve", '{"folders": ["../secret"]}'),
    "stale path outside the folder": ("repair", '{"stale": ["../secret.md"]}'),
    "stale absolute path": ("repair", '{"stale": ["/etc/passwd"]}'),
}


def insert(world: World, verb: object, mirror: str | None, args: object) -> None:
    """Insert a row that none of our commands would write."""

    def work(tx: Tx) -> None:
        values = (verb, mirror, args)
        tx.uploads._db.execute("INSERT INTO inbox(at, verb, mirror, args) VALUES(0, ?, ?, ?)", values)

    world.change(work)


def remaining_messages(world: World) -> int:
    remaining: int = world.read_state(lambda tx: tx.uploads._db.execute("SELECT count(*) FROM inbox").get)
    return remaining


@enumerated()
@pytest.mark.parametrize("verb, args", MALFORMED.values(), ids=MALFORMED)
async def test_unusable_message_is_logged_and_dropped(world: World, verb: object, args: object) -> None:
    await world.mirrored(1)
    insert(world, verb, "docs", args)
    world.write("new.md")
    with capture_logs() as logs:
        assert (await world.once()).complete
    [line] = [line for line in logs if line["event"] == "message.dropped"]
    assert line["log_level"] == "warning" and line["mirror"] == "docs" and line["reason"], line
    assert remaining_messages(world) == 0
    assert world.searchable_texts() == world.on_disk()


@long
async def test_malformed_message_changes_nothing_and_the_next_is_processed(world: World) -> None:
    """The valid part of a message before its mistake isn't carried out either."""
    await world.mirrored(10)
    world.delete_many(8)
    await world.once()
    assert world.statuses() == {"held": 8, "ready": 2}
    held = world.read_state(lambda tx: [hold.id for hold in tx.holds.current(world.run.id)])
    insert(world, "approve", "docs", json.dumps({"holds": [*held, "all"]}))
    await world.once()
    assert world.statuses() == {"held": 8, "ready": 2}
    insert(world, "explode", "docs", "{}")
    world.approve()
    await world.ends_equal()


@pytest.mark.parametrize("name", ["nobody", None])
async def test_message_for_an_unknown_mirror_is_logged_and_dropped(world: World, name: str | None) -> None:
    await world.mirrored(1)
    insert(world, "retry", name, "{}")
    with capture_logs() as logs:
        assert (await world.once()).complete
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["message.dropped"]
    assert remaining_messages(world) == 0


@long
async def test_message_for_another_mirror_waits_for_it(world: World) -> None:
    """Another process or pass may work on that mirror, or it may return to the config."""
    await world.mirrored(1)
    world.change(lambda tx: tx.mirrors.add("other", "/srv/other", "memory"))
    world.configured = ("docs", "new")
    for name in ("other", "new"):
        insert(world, "retry", name, "{}")
    await world.once()
    assert remaining_messages(world) == 2


@long
async def test_message_follows_a_renamed_mirror(world: World) -> None:
    await world.mirrored(10)
    world.delete_many(8)
    await world.once()
    world.approve()
    world.settings, world.configured = replace(world.settings, name="notes"), ("notes",)
    await world.once()
    assert remaining_messages(world) == 0
    assert world.searchable_texts() == world.on_disk()


async def test_plan_neither_fails_on_nor_drops_a_malformed_message(world: World) -> None:
    await world.mirrored(1)
    insert(world, "retry", "docs", "{")
    with capture_logs() as logs:
        await planned(world)
    assert [line for line in logs if line["event"] == "message.dropped"] == []
    assert remaining_messages(world) == 1
