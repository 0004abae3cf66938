"""Each fault alone on each operation, and pairs: the mirror converges, and touches nothing foreign."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.targets.http import Timeouts
from kbsync.targets.zhipu import target as zhipu
from tests.remote.world import RemoteWorld, sha_of_folder
from tests.share import SHARE, share_of

PASSES = 6
MOST_REQUESTS = 150
"""In all passes of one test, for five files: many faults make a pass look at the list several times."""

ON_THE_WAY: dict[str, dict[str, Any]] = {
    "close-before": {},
    "lost-answer": {},
    "cut-headers": {},
    "cut-body": {},
    "reset-connect": {},
    "reset-sending": {},
    "reset-reading": {},
    "hang": {},
    "drip": {"every": 0.2},
    "headers-then-silence": {},
    "late-effect": {"after": 20},
    "truncated-json": {},
    "empty": {},
    "html": {},
    "bom": {},
    "wrong-type": {},
    "gzip": {},
    "no-date": {},
    "very-large-body": {"bytes": 40_000_000},
    "http10": {},
    "connection-close": {},
    "keepalive-close": {},
}
STATUSES = (408, 425, 429, 500, 502, 503, 504)
UNSURE_CODES = (500, 1200, 1230, 1231, 1234)
BUSY_CODES = (1120, 1302, 1303, 1305, 1312)
OPS = ("upload", "detail", "list", "delete", "reembed", "base", "capacity")

UPLOADS: dict[str, dict[str, Any]] = {
    "failed-info": {"reason": "服务器繁忙，请稍后再试"},
    "both-lists": {},
    "neither-list": {},
    "success-null": {},
    "other-name": {"form": "nfd"},
    "unlisted": {"seconds": 30},
    "polls": {"n": 4},
    "fails": {"runs": 1},
    "relapse": {"after": 2, "back": 3},
    "detail-missing": {"seconds": 30},
}
STATS: list[dict[str, Any]] = [{"value": value} for value in ("1", 1.0, None, 3, 99)]
LISTS: dict[str, dict[str, Any]] = {
    "duplicates": {"n": 2},
    "list-null": {},
    "total": {"value": 1000},
    "left-out": {},
}
DELETES: dict[str, dict[str, Any]] = {
    "keeps-document": {},
    "delete-unknown": {"form": "code"},
    "still-listed": {"seconds": 40},
}


def lone_faults() -> Iterator[Any]:
    for kind, op in itertools.product(ON_THE_WAY, OPS):
        for effect in (True, False) if op in ("upload", "delete", "reembed") else (True,):
            yield pytest.param(kind, op, effect, ON_THE_WAY[kind], id=f"{kind}-{op}-{effect}")
    for status, op in itertools.product(STATUSES, OPS):
        for effect in (True, False) if op == "upload" and status >= 500 else (False,):
            yield pytest.param("status", op, effect, {"status": status}, id=f"{status}-{op}-{effect}")
    for code, op in itertools.product((*UNSURE_CODES, *BUSY_CODES), OPS):
        done = code in UNSURE_CODES  # the other codes say that nothing was done
        yield pytest.param("code-in-200", op, done, {"code": code}, id=f"code{code}-{op}")
    for table, op in ((UPLOADS, "upload"), (LISTS, "list"), (DELETES, "delete")):
        for kind, args in table.items():
            yield pytest.param(kind, op, True, args, id=f"{kind}-{op}")
    for args, op in itertools.product(STATS, ("upload", "detail", "list")):
        yield pytest.param("stat", op, True, {**args, "seconds": 20}, id=f"stat-{args['value']!r}-{op}")


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RemoteWorld]:
    made = zhipu._endpoint
    hasty = Timeouts(connect=0.3, write=0.3, read=0.15, pool=0.3, whole=0.4)
    monkeypatch.setattr(zhipu, "_endpoint", lambda settings: replace(made(settings), timeouts=hasty))
    async with RemoteWorld(tmp_path, give_up=120.0).serving() as world:
        yield world


async def mirrored(world: RemoteWorld) -> None:
    """Four files mirrored beside a foreign document that has one of their names."""
    for name in ("kept.md", "changed.md", "gone.md", "renamed.md"):
        world.write(name, f"the first text of {name}")
    await world.once()
    world.plant("guide.md", "somebody else's")


def edit(world: RemoteWorld) -> None:
    world.clock.now += 10
    world.write("changed.md", "another text")
    world.write("new.md", "a new file")
    world.move("renamed.md", "sub/renamed.md")
    world.delete("gone.md")


def ask_for_a_list(world: RemoteWorld) -> None:
    """What is listed though it was deleted is noticed by the next list there is a reason for."""
    world.write("later.md", "its answer is lost")
    world.play("lost-answer", op="upload", match="later*")


def provoke(world: RemoteWorld, op: str) -> None:
    """Something that makes a pass ask `op` at all."""
    if op == "list":
        world.play("lost-answer", op="upload", match="new*")
    if op == "reembed":
        world.play("fails", op="upload", match="changed*", args={"runs": 1})


async def converge(world: RemoteWorld) -> None:
    """Passes until all is as it should be; time goes by between them."""
    for number in range(PASSES):
        end = await world.once()
        if end.complete and world.run.halt is None and world.bytes_by_path() == sha_of_folder(world):
            return
        world.clock.now += 90
        if number == 1:
            ask_for_a_list(world)
    statuses = world.statuses()
    pytest.fail(f"{end} {world.run.halt} {statuses}\n{world.bytes_by_path()}\n{sha_of_folder(world)}")


@pytest.mark.parametrize(("kind", "op", "effect", "args"), share_of(list(lone_faults())))
async def test_a_lone_fault_is_overcome(
    world: RemoteWorld, kind: str, op: str, effect: bool, args: dict[str, Any]
) -> None:
    await mirrored(world)
    before = world.asked()
    edit(world)
    provoke(world, op)
    world.play(kind, op=op, effect=effect, args=args)
    await converge(world)
    assert world.asked() - before < MOST_REQUESTS
    assert world.keeps_foreign()
    assert set(world.statuses()) == {"ready"}


PAIRS = 120


def pairs() -> list[Any]:
    """Two faults that come together, chosen by a fixed seed."""
    alone = [param.values for param in lone_faults()]
    chance = random.Random(20)
    chosen = [chance.sample(alone, 2) for _ in range(PAIRS // SHARE)]
    return [pytest.param(*pair, id=f"{n}") for n, pair in enumerate(chosen)]


@pytest.mark.parametrize(("first", "second"), pairs())
async def test_a_pair_of_faults_is_overcome(world: RemoteWorld, first: Any, second: Any) -> None:
    await mirrored(world)
    before = world.asked()
    edit(world)
    for kind, op, effect, args in (first, second):
        provoke(world, op)
        world.play(kind, op=op, effect=effect, args=args)
    await converge(world)
    assert world.asked() - before < 2 * MOST_REQUESTS
    assert world.keeps_foreign()
