"""Shared code for the worlds of services: a stand-in over TCP whose clock only the test advances."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self

from kbsync.contract.target import Target
from kbsync.core.names import Naming
from kbsync_standin.faults import Fault
from kbsync_standin.messages import StandInClock
from kbsync_standin.server import Server
from tests.conformance.suite import TargetSuite
from tests.conformance.world import SuiteWorld
from tests.services import access
from tests.targets.blocks import target_context


class ServedWorld(SuiteWorld):
    """A stand-in and a client on the same clock.

    `base`: the id of the knowledge base that `open` uses. `style`: the style of document names. `settings`:
    more keys of the config block. At the end no request may have broken the service's rules.
    """

    service: ClassVar[str]
    style = "tagged"
    settings: Mapping[str, Any] = MappingProxyType({})
    read_only = False
    shares_base = True

    def __init__(self, style: str = "", **behaviour: Any) -> None:
        super().__init__()
        self.style = style or self.style
        self.app = access.stand_in(self.service, 1, (1.0, 3.0), StandInClock())
        self.base = self.app.home_id
        self.app.set_behaviour(behaviour)
        self.server = Server(self.app)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        await self.server.start()
        yield
        await self.server.stop()
        assert self.app.violations == []

    @asynccontextmanager
    async def run_with_target(self) -> AsyncIterator[Self]:
        """Start the service and open `target` as its client."""
        async with self.serving():
            self.target = await self.open()
            yield self
            await self.target.aclose()

    def name_for(self, path: str, digest: str = "") -> str:
        return Naming(self.prefix, self.style).name(path, digest)

    async def open(self) -> Target:
        config = access.config(self.app, self.server.url, base=self.base, **self.settings)
        now, context = self.app.clock.now, target_context(read_only=self.read_only, prefix=self.prefix)
        client = access.client(self.service)
        target: Target = client(config, context, wall=now, steady=now, sleep=self.pass_time)
        return target

    async def pass_time(self, seconds: float) -> None:
        self.server.advance(seconds)

    def now(self) -> float:
        return float(self.app.clock.now())

    def failing_bytes(self, path: str) -> bytes:
        self.server.faults.add(self.failure(path.rpartition(".")[0]))
        return b"About spoiled things"

    def failure(self, stem: str) -> Fault:
        """Return the fault that lets documents fail whose path begins so."""
        raise NotImplementedError

    def fix_failures(self) -> None:
        self.server.faults.clear()

    async def recreate(self) -> None:
        """Recreate the base; its id changes, and so does the config."""
        await self.target.aclose()
        before = self._bases()
        self.app.set_behaviour({"base": "recreated"})
        [self.base] = self._bases() - before
        self.target = await self.open()

    def lose_base(self) -> None:
        self.app.set_behaviour({"base": "deleted"})

    def restore_base(self) -> None:
        self.app.set_behaviour({"base": "present"})

    def _bases(self) -> set[str]:
        return {base["id"] for base in self.app.snapshot()["bases"]}


class ServedSuite(TargetSuite):
    """The suite with a stand-in that has one behaviour."""

    world_type: ClassVar[type[ServedWorld]]
    style: ClassVar[str] = ""
    behaviour: ClassVar[Mapping[str, Any]] = {}

    def make_world(self, folder: Path) -> ServedWorld:
        return self.world_type(self.style, **self.behaviour)
