"""The Zhipu target keeps the contract against its stand-in, over TCP, as the vendor is and as it may be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

import pytest

from kbsync.contract import Target
from kbsync.core.names import Naming
from kbsync.standin.faults import Fault
from kbsync.standin.messages import StandInClock
from kbsync.standin.server import Server
from kbsync.standin.zhipu import HOME_ID, application
from kbsync.targets.zhipu.settings import ZhipuSettings
from kbsync.targets.zhipu.target import ZhipuTarget
from tests.conformance.suite import TargetSuite
from tests.conformance.world import World

KEY = "id.secret-for-tests"


class ZhipuWorld(World):
    """A stand-in whose clock moves only when it is told to, and a client on the same clock."""

    matter: ClassVar[Mapping[str, Any]] = {"knowledge_type": 5, "sentence_size": 200}
    no_matter: ClassVar[Mapping[str, Any]] = {"sentence_size": 200}  # without type 5 it means nothing

    def __init__(self, style: str, **behaviour: Any) -> None:
        super().__init__()
        self.style, self.base = style, HOME_ID
        self.app = application(KEY, 1, (1.0, 3.0), StandInClock())
        self.app.set_behaviour(behaviour)
        self.server = Server(self.app)

    def name_for(self, path: str, digest: str) -> str:
        return Naming(style=self.style).name(path, digest)

    async def open(self) -> Target:
        url = f"{self.server.url}/api"
        settings = ZhipuSettings(base_url=url, api_key=KEY, knowledge_id=self.base, max_bytes=3_000_000)
        return ZhipuTarget(settings, wall=self.app.clock.now)

    async def pass_time(self, seconds: float) -> None:
        self.server.advance(seconds)

    def spoiled(self, path: str) -> bytes:
        stem = path.rpartition(".")[0]
        self.server.faults.add(Fault("fails", op="upload", match=f"{stem}*", args={"runs": 1}))
        return b"About spoiled things"

    def cure(self) -> None:
        """It fails once and is then indexed as it should be."""

    def now(self) -> float:
        return self.app.clock.now()

    async def recreate(self) -> None:
        """It has another id then, and the config has to say so."""
        await self.target.aclose()
        self.app.set_behaviour({"base": "recreated"})
        [self.base] = [one["id"] for one in self.app.snapshot()["bases"] if one["id"] != HOME_ID]
        self.target = await self.open()


class ZhipuSuite(TargetSuite):
    style = "tagged"
    behaviour: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        world = ZhipuWorld(self.style, **self.behaviour)
        await world.server.start()
        world.target = await world.open()
        yield world
        await world.target.aclose()
        await world.server.stop()
        assert world.app.violations == []


class TestZhipu(ZhipuSuite):
    pass


class TestZhipuPlainNames(ZhipuSuite):
    style = "plain"


class TestZhipuLagging(ZhipuSuite):
    behaviour: ClassVar[Mapping[str, Any]] = {
        "list_lag": 0.9,
        "page_cap": 10,
        "order": "oldest",
        "total": "string",
        "empty_list": "null",
    }


class TestZhipuOdd(ZhipuSuite):
    behaviour: ClassVar[Mapping[str, Any]] = {
        "ids": "number",
        "extra_fields": True,
        "page_beyond": "repeats",
        "order": "shuffled",
        "deleted_detail": "null",
        "unknown_delete": "code",
        "clock_skew": 7200.0,
    }
