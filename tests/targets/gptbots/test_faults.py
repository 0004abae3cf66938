"""Each fault on an operation: the mirror converges, touches nothing foreign, and nothing is ever absent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from kbsync.standin.gptbots.faults import KINDS
from kbsync.standin.messages import Request, Response
from kbsync.targets.gptbots import target as gptbots
from tests.remote.ordeal import HASTY
from tests.remote.world import sha_of_folder
from tests.share import share_of
from tests.targets.gptbots.world import GptbotsWorld

MOST_REQUESTS = 150
"""In all passes of one trial, for five files."""


@dataclass(frozen=True)
class Trial:
    """A fault on one operation; `times` 0: as long as the first pass lasts."""

    kind: str
    op: str
    args: Mapping[str, Any] = field(default_factory=dict)
    effect: bool = True
    times: int = 1

    def __str__(self) -> str:
        told = [f"{name}={value}" for name, value in self.args.items()]
        return "-".join((self.kind, self.op, *told, *(() if self.effect else ("undone",))))


WRITES = ("add", "update", "delete")
TRIALS = [
    *(Trial("lost-answer", op) for op in (*WRITES, "status", "base")),
    *(Trial("lost-answer", op, effect=False) for op in ("add", "update")),
    *(Trial("status", op, {"status": 502}, effect) for op in WRITES for effect in (True, False)),
    *(Trial("late-effect", op, {"after": 5}) for op in ("add", "update")),
    *(Trial(kind, op) for kind in ("truncated-json", "html", "empty") for op in ("add", "update", "status")),
    *(Trial("reset-sending", op) for op in ("add", "update")),
    *(Trial("code", op) for op in (*WRITES, "status", "base")),
    *(Trial("code-after", op) for op in WRITES),
    *(Trial("code", op, {"code": 40332}) for op in ("add", "status")),
    *(Trial("code", "add", {"code": "40000", "as_string": True}) for _ in (1,)),
    *(Trial("rate-limited", op, {"retry_after": 2}) for op in (*WRITES, "status")),
    *(Trial("failed-item", op, {"name": name}) for op, name in (("add", "new*"), ("update", "changed*"))),
    *(Trial("both-lists", op) for op in ("add", "update")),
    *(Trial("neither-list", op, {"stored": stored}) for op in ("add", "update") for stored in (True, False)),
    *(Trial("no-doc-id", op) for op in ("add", "update")),
    Trial("other-name", "add"),
    *(Trial("refused-item", op, {"name": name}) for op, name in (("add", "new*"), ("update", "changed*"))),
    *(Trial("fails", op) for op in ("add", "update")),
    *(Trial("stuck", op) for op in ("add", "update")),
    *(
        Trial("shape", op, {"form": form})
        for op in (*WRITES, "status", "base")
        for form in ("object", "nulls")
    ),
    *(Trial("data-status", "status", {"value": value}) for value in (None, 3, "SURPRISE", "available ")),
    Trial("data-status", "status", {"missing": True}),
    *(Trial("left-out", "status", {"name": name}) for name in ("new*", "changed*")),
    Trial("keeps-documents", "delete"),
    *(Trial("unauthorized", op) for op in ("add", "status")),
    Trial("bot-deleted", "add"),
]


class Ordeal:
    """Four mirrored files; then one changed, one new, one moved, one deleted, and a fault."""

    def __init__(self, world: GptbotsWorld) -> None:
        self.world = world
        self.gaps: list[str] = []
        self._answer = world.app.answer
        world.app.answer = self._watched  # type: ignore[method-assign]

    def _watched(self, request: Request, fault: Any) -> Response:
        response = self._answer(request, fault)
        found = self.world.bytes_by_path(searchable=True)
        self.gaps += [path for path in self.lasting if path not in found]
        return response

    lasting: tuple[str, ...] = ()

    async def begin(self) -> None:
        for name in ("kept.md", "changed.md", "gone.md", "renamed.md"):
            self.world.write(name, f"the first text of {name}")
        await self.world.once()
        self.lasting = ("kept.md", "changed.md")
        self.world.plant("guide.md", "somebody else's")
        self.world.server.requests.clear()
        self.world.clock.now += 10
        self.world.write("changed.md", "another text, changed")
        self.world.write("new.md", "a new file")
        self.world.move("renamed.md", "sub/renamed.md")
        self.world.delete("gone.md")

    async def converge(self) -> None:
        for _ in range(6):
            await self.world.once()
            if self.is_equal():
                return
            self.world.clock.now += 90
            if self.world.run.halt is not None or "failed" in self.world.statuses():
                self.world.tell("retry")
        raise AssertionError(f"{self.world.run.halt} {self.world.statuses()} {self.world.bytes_by_path()}")

    def is_equal(self) -> bool:
        here = sha_of_folder(self.world)
        serves = self.world.bytes_by_path(searchable=True)
        return self.world.bytes_by_path() == serves == here and set(self.world.statuses()) == {"ready"}


@pytest.mark.parametrize("trial", share_of(TRIALS), ids=str)
async def test_a_lone_fault_is_overcome(tmp_path: Path, trial: Trial) -> None:
    made = gptbots._endpoint
    world = GptbotsWorld(tmp_path, give_up=30.0)
    with mock.patch.object(gptbots, "_endpoint", lambda settings: replace(made(settings), timeouts=HASTY)):
        async with world.serving():
            one = Ordeal(world)
            await one.begin()
            world.play(trial.kind, op=trial.op, args=dict(trial.args), effect=trial.effect, times=trial.times)
            await one.converge()
            assert world.server.faults.all == [], "the fault was not met"
    assert one.gaps == []
    assert world.keeps_foreign()
    assert world.asked() < MOST_REQUESTS
    stored = Counter(one["sha256"] for one in world.app.journal() if one["effect"] in ("stored", "updated"))
    assert max(stored.values()) <= 3


def test_every_kind_of_fault_of_the_stand_in_is_played() -> None:
    elsewhere = {"unmarked", "nothing-found"}  # tests of the life, of searching
    assert {trial.kind for trial in TRIALS} & KINDS.keys() == KINDS.keys() - elsewhere
