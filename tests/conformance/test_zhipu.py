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
from kbsync.standin.zhipu import application
from kbsync.targets.zhipu.settings import ZhipuSettings
from kbsync.targets.zhipu.target import ZhipuTarget
from tests.conformance.suite import TargetSuite
from tests.conformance.world import World

KEY = "id.secret-for-tests"
BASE = "1734786402936664064"


class ZhipuWorld(World):
    """A stand-in whose clock moves only when it is told to, and a client on the same clock."""

    matter: ClassVar[Mapping[str, Any]] = {"knowledge_type": 5, "sentence_size": 200}
    no_matter: ClassVar[Mapping[str, Any]] = {"sentence_size": 200}  # without type 5 it means nothing

    def __init__(self, style: str, **behaviour: Any) -> None:
        super().__init__()
        self.style = style
        self.app = application(KEY, 1, (1.0, 3.0), StandInClock())
        self.app.set_behaviour(behaviour)
        self.server = Server(self.app)

    def name_for(self, path: str, digest: str) -> str:
        return Naming(style=self.style).name(path, digest)

    async def open(self) -> Target:
        settings = ZhipuSettings(base_url=f"{self.server.url}/api", api_key=KEY, knowledge_id=BASE)
        return ZhipuTarget(settings, wall=self.app.clock.now)

    async def pass_time(self, seconds: float) -> None:
        self.server.advance(seconds)

    def spoiled(self, path: str) -> bytes:
        stem = path.rpartition(".")[0]
        self.server.faults.add(Fault("fails", op="upload", match=f"{stem}*", args={"runs": 1}))
        return b"About spoiled things"

    def cure(self) -> None:
        """It fails once and is then indexed as it should be."""

    async def recreate(self) -> None:
        pytest.skip("a base made anew has another id, and the config has to say so")


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
