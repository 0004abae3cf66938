"""The target keeps the contract against the stand-in server, whether that is plain, slow or awkward."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kbsync.contract import Target
from kbsync.core.names import Naming
from kbsync.standin.faults import Fault
from kbsync.standin.server import Server
from kbsync.standin.zhipu import HOME_ID, application
from kbsync.targets.zhipu.target import ZhipuSettings, ZhipuTarget
from tests.conformance.suite import TargetSuite
from tests.conformance.world import World, texts


class ZhipuWorld(World):
    """A stand-in of its own, whose clock passes as the test says."""

    matter, no_matter = {"knowledge_type": 2}, {"sentence_size": 500}

    def __init__(self, switches: dict[str, Any]) -> None:
        super().__init__()
        self.app = application()
        self.app.set_behaviour(switches)
        self.server = Server(self.app)
        self.base = HOME_ID
        self.naming = Naming()

    async def open(self) -> Target:
        settings = ZhipuSettings(
            f"{self.server.url}/api", "id.secret-for-tests", self.base, concurrency=8, max_bytes=3_000_000
        )
        return ZhipuTarget(settings, wall=self.now)

    def now(self) -> float:
        return self.app.clock.now()

    def name_for(self, path: str, digest: str = "") -> str:
        return self.naming.name(path, digest)

    async def pass_time(self, seconds: float) -> None:
        self.server.advance(seconds)

    def spoiled(self, path: str) -> bytes:
        self.server.faults.add(Fault("fails", op="upload", match=path.replace(".", "*.")))
        return texts(["spoiled"])[0].encode()

    def cure(self) -> None:
        """What fails once in vectorizing goes well the second time."""

    async def recreate(self) -> None:
        await self.target.aclose()
        self.app.set_behaviour({"base": "recreated"})
        [self.base] = [one["id"] for one in self.app.snapshot()["bases"] if one["id"] != HOME_ID]
        self.target = await self.open()


class ZhipuSuite(TargetSuite):
    """The suite against one behaviour of the vendor. Nothing we send breaks the vendor's rules."""

    switches: dict[str, Any] = {}  # noqa: RUF012

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        world = ZhipuWorld(self.switches)
        await world.server.start()
        world.target = await world.open()
        yield world
        await world.target.aclose()
        await world.server.stop()
        assert world.app.violations == []


class TestPlain(ZhipuSuite):
    pass


class TestAwkward(ZhipuSuite):
    switches = {  # noqa: RUF012
        "vectorize": (2.0, 2.0),
        "list_lag": 1.0,
        "order": "oldest",
        "page_cap": 10,
        "ids": "number",
        "extra_fields": True,
        "deleted_detail": "null",
        "unknown_delete": "code",
        "page_beyond": "repeats",
        "clock_skew": 7200.0,
    }
