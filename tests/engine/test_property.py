"""Random lives of a folder, with faults and crashes between; afterwards the base equals the folder."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kbsync.core.brake import DeletionLimits
from kbsync.errors import Rejected, Unavailable, Unsure
from kbsync.targets.memory import (
    AbleMemory,
    Behaviour,
    Failure,
    Fault,
    MemoryTarget,
    RenamingMemory,
    UpdatingMemory,
)
from tests.crash.harness import Guillotine, run_until
from tests.engine.world import World

VARIANTS = [MemoryTarget, RenamingMemory, UpdatingMemory, AbleMemory]
NAMES = ["a.md", "b.md", "c.md", "d/e.md", "d/f.md", "d/g/h.md", "名.md", "odd\nname.md"]


class Life:
    """One random life; everything it does follows from the seed."""

    def __init__(self, seed: int, place: Path, target: type[MemoryTarget]) -> None:
        self.random = random.Random(seed)
        lag = self.random.choice([0.0, 0.0, 3.0])
        self.world = World(place, target, list_lag=lag, marks=True)
        never = DeletionLimits(fraction=2.0, count=10_000, window=60.0)
        self.world.plan = type(self.world.plan)("docs", self.world.root, "memory", deletions=never)
        self.world.base.behaviour = Behaviour(
            indexing_seconds=self.random.choice([0.0, 0.0, 5.0]),
            list_lag=lag,
            failures=[Failure(lambda s: s.digest[0] in "01", times=1)],
        )
        self.world.write("keep.md", "the document that keeps the folder from being empty")
        self.number = 0

    def edit(self) -> None:
        """One change of the folder by a person."""
        present = sorted(p for p in self.world.root.rglob("*.md") if p.name != "keep.md")
        match self.random.randrange(6):
            case 0 | 1:
                self.number += 1
                self.world.write(self.random.choice(NAMES), f"text {self.number}")
            case 2 if present:
                self.random.choice(present).unlink()
            case 3 if present:
                source = self.random.choice(present)
                target = self.world.root / self.random.choice(NAMES)
                target.parent.mkdir(parents=True, exist_ok=True)
                source.rename(target)
            case 4 if (self.world.root / "d").exists():
                elsewhere = self.world.root / f"moved{self.random.randrange(2)}"
                shutil.rmtree(elsewhere, ignore_errors=True)
                (self.world.root / "d").rename(elsewhere)
            case 5 if present:
                text = self.random.choice(present).read_text()
                self.world.write(self.random.choice(NAMES), text)

    def trouble(self) -> None:
        """One fault of the target."""
        op = self.random.choice(["put", "put", "put", "delete", "list", "status", "rename"])
        error = self.random.choice([Unsure, Unsure, Unavailable, Rejected if op == "put" else Unsure])
        fault = Fault(
            op, error=lambda: error("a fault"), effect=self.random.random() < 0.5 and error is Unsure
        )
        self.world.base.faults.append(fault)

    async def live(self) -> None:
        for _ in range(self.random.randrange(3, 7)):
            for _ in range(self.random.randrange(1, 5)):
                self.edit()
            if self.random.random() < 0.4:
                self.trouble()
            if self.random.random() < 0.4:
                await run_until(self.world, Guillotine(at=self.random.randrange(1, 40)))
                self.world.breaches.clear()
            else:
                await self.world.once()
        self.world.base.faults.clear()
        await self.world.once()
        self.world.tell("retry")
        self.world.tell("approve", holds=self.holds())  # where all documents of a moment were to go
        await self.world.once()

    def holds(self) -> list[int]:
        held: list[int] = self.world.glance(
            lambda tx: [h.id for h in tx.holds.current(self.world.run.mirror)]
        )
        return held

    def check(self) -> None:
        assert self.world.served() == self.world.on_disk()
        assert len(self.world.base.documents) == len(self.world.on_disk())
        assert self.world.base.violations == []


@pytest.mark.parametrize("target", VARIANTS, ids=lambda v: v.__name__)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(seed=st.integers(0, 2**32))
def test_after_any_life_the_base_equals_the_folder(target: type[MemoryTarget], seed: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        life = Life(seed, Path(place), target)
        asyncio.run(life.live())
        life.check()
