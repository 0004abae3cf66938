"""What the worlds of services share: a stand-in over TCP whose clock moves only when it is told to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

import pytest

from kbsync_standin.server import Server
from tests.conformance.suite import TargetSuite
from tests.conformance.world import SuiteWorld


class ServedWorld(SuiteWorld):
    """`app`: the stand-in. `base`: the id of the knowledge base that `open` looks at."""

    def __init__(self, app: Any, base: str, behaviour: Mapping[str, Any]) -> None:
        super().__init__()
        self.app, self.base = app, base
        self.app.set_behaviour(behaviour)
        self.server = Server(app)

    async def pass_time(self, seconds: float) -> None:
        self.server.advance(seconds)

    def now(self) -> float:
        return float(self.app.clock.now())

    async def recreate(self) -> None:
        """It has another id then, and the config has to say so."""
        await self.target.aclose()
        before = self._bases()
        self.app.set_behaviour({"base": "recreated"})
        [self.base] = self._bases() - before
        self.target = await self.open()

    def _bases(self) -> set[str]:
        return {one["id"] for one in self.app.snapshot()["bases"]}


class ServedSuite(TargetSuite):
    """At the end nothing may have been done against the vendor's rules."""

    behaviour: ClassVar[Mapping[str, Any]] = {}

    def make_world(self) -> ServedWorld:
        """A fresh one, with this behaviour."""
        raise NotImplementedError("a concrete class makes the world")

    @pytest.fixture
    async def world(self) -> AsyncIterator[SuiteWorld]:
        world = self.make_world()
        await world.server.start()
        world.target = await world.open()
        yield world
        await world.target.aclose()
        await world.server.stop()
        assert world.app.violations == []
