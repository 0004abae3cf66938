"""What the worlds of services share: a stand-in over TCP whose clock moves only when it is told to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from kbsync_standin.server import Server
from tests.conformance.world import SuiteWorld


class ServedWorld(SuiteWorld):
    """`app`: the stand-in. `base`: the id of the knowledge base that `open` looks at.

    At the end nothing may have been done against the vendor's rules.
    """

    def __init__(self, app: Any, base: str, behaviour: Mapping[str, Any]) -> None:
        super().__init__()
        self.app, self.base = app, base
        self.app.set_behaviour(behaviour)
        self.server = Server(app)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        await self.server.start()
        yield
        await self.server.stop()
        assert self.app.violations == []

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
