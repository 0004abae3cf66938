"""The LightRAG target keeps the contract against its stand-in, as the server is and as it may be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from kbsync.contract.target import Target
from kbsync.core.names import Naming
from kbsync.targets.lightrag.config import LightragTargetConfig
from kbsync.targets.lightrag.target import LightragTarget
from kbsync_standin.lightrag import application
from kbsync_standin.messages import StandInClock
from tests.conformance.served import ServedWorld
from tests.conformance.world import SuiteWorld
from tests.share import enumerated
from tests.targets.blocks import around, block
from tests.targets.lightrag.suite import LightragSuite

KEY = "key-for-tests"


class LightragConformance(ServedWorld):
    """A stand-in and a client on the same clock. What has no text in it fails."""

    unknown_id = "nobody~aaaaaaaa.md"

    def __init__(self, **behaviour: Any) -> None:
        super().__init__(application(KEY, 1, (1.0, 3.0), StandInClock()), "", behaviour)

    def name_for(self, path: str, digest: str = "") -> str:
        return Naming().name(path, digest)

    async def open(self) -> Target:
        config = block(LightragTargetConfig, base_url=self.server.url, api_key=KEY)
        clock = self.app.clock
        return LightragTarget(config, around(), wall=clock.now, steady=clock.now, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.server.advance(seconds)

    def spoiled(self, path: str) -> bytes:
        return b" \n"

    async def recreate(self) -> None:
        """The server has one base without an id: it cannot be made anew."""
        await SuiteWorld.recreate(self)


class LightragServedSuite(LightragSuite):
    behaviour: ClassVar[Mapping[str, Any]] = {}

    def make_world(self, place: Path) -> LightragConformance:
        return LightragConformance(**self.behaviour)


class TestLightrag(LightragServedSuite):
    pass


@enumerated()
class TestLightragLagging(LightragServedSuite):
    behaviour: ClassVar[Mapping[str, Any]] = {
        "list_lag": 0.9,
        "deleting": 0.5,
        "tells_progress": False,
        "extra_fields": True,
    }
