"""Runs the suite on the in-memory base with every set of abilities: honest, slow, or unusual."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from kbsync.contract.target import Limits, Target
from kbsync.core.names import Naming
from tests.clocks import Clock
from tests.conformance.suite import TargetSuite
from tests.conformance.world import SuiteWorld, texts
from tests.memory.base import MemoryBase
from tests.memory.behaviour import FOREVER, Behaviour, Failure
from tests.memory.target import DEFAULT_LIMITS, MemoryTarget
from tests.memory.variants import AbleMemory, ForgetfulMemory, UpdatingMemory
from tests.share import enumerated

MARKING = dataclasses.replace(DEFAULT_LIMITS, marks=True, list_lag=0.0, batch=8)
TAGGED = Naming(style="tagged")


class MemoryWorld(SuiteWorld):
    """An in-memory base with its own clock."""

    def __init__(self, kind: type[MemoryTarget], limits: Limits, behaviour: Behaviour) -> None:
        super().__init__()
        self.recipe_settings, self.neutral_settings = {"chunk_size": 200}, {"rows": 3}
        self.clock = Clock()
        self.memory = MemoryBase(clock=self.clock, behaviour=behaviour)
        self.kind, self.limits = kind, limits
        self.keeps_names = not behaviour.decomposes_names

    def now(self) -> float:
        return self.clock()

    async def open(self) -> Target:
        return self.kind(self.memory, limits=self.limits)

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def failing_bytes(self, path: str) -> bytes:
        self.memory.behaviour.failures.append(Failure(path, times=FOREVER))
        return texts(["spoiled"])[0].encode()

    def fix_failures(self) -> None:
        self.memory.behaviour.failures.clear()

    async def recreate(self) -> None:
        self.memory.recreate()


class TaggedWorld(MemoryWorld):
    """A world whose names contain a digest, so that no two documents share a name."""

    def name_for(self, path: str, digest: str = "") -> str:
        return TAGGED.name(path, digest)


class MemorySuite(TargetSuite):
    """The suite on one kind of client, and on a base with one behaviour."""

    kind: type[MemoryTarget] = MemoryTarget
    limits = DEFAULT_LIMITS
    world_type: type[MemoryWorld] = MemoryWorld

    def behaviour(self) -> Behaviour:
        return Behaviour()

    def make_world(self, folder: Path) -> SuiteWorld:
        return self.world_type(self.kind, self.limits, self.behaviour())


class SlowSuite(MemorySuite):
    """A slow base with a list that lags."""

    limits = dataclasses.replace(DEFAULT_LIMITS, list_lag=5.0)

    def behaviour(self) -> Behaviour:
        return Behaviour(indexing_seconds=3.0, indexing_polls=2, list_lag=5.0)


class TestPlain(MemorySuite):
    """Only what every target can do, without delays."""


class TestAble(SlowSuite):
    """Renames, updates in place, reindexes and keeps marks; all of it takes time."""

    kind = AbleMemory
    limits = dataclasses.replace(MARKING, list_lag=5.0)


@enumerated()
class TestUpdatingWithNewIds(SlowSuite):
    """An update gets a new id, and the base drops the old document by itself."""

    kind = UpdatingMemory

    def behaviour(self) -> Behaviour:
        return Behaviour(updates_make_new_ids=True, indexing_seconds=3.0)


@enumerated()
class TestForgetful(SlowSuite):
    """A service without marks: it indexes and lists with delays, and still reports old failures for a
    while.
    """

    kind = ForgetfulMemory
    limits = dataclasses.replace(DEFAULT_LIMITS, list_lag=5.0, reembed_grace=6.0)
    world_type = TaggedWorld

    def behaviour(self) -> Behaviour:
        return Behaviour(indexing_seconds=3.0, indexing_polls=2, list_lag=5.0, stale_after_reembed=5.0)


@enumerated()
class TestNamesOfItsOwn(SlowSuite):
    """A service that changes names, refuses equal ones and can't reindex."""

    kind = ForgetfulMemory
    world_type = TaggedWorld

    def behaviour(self) -> Behaviour:
        return Behaviour(
            decomposes_names=True,
            equal_names="refuse",
            list_lag=5.0,
            answers_ready=False,
            not_offered={"reembed", "reslice"},
        )
