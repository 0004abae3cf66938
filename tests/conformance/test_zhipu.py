"""The Zhipu target keeps the contract against its stand-in, over TCP, as the vendor is and as it may be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from kbsync.contract.target import Target
from kbsync.core.names import Naming
from kbsync.targets.zhipu.config import ZhipuTargetConfig
from kbsync.targets.zhipu.target import ZhipuTarget
from kbsync_standin.faults import Fault
from kbsync_standin.messages import StandInClock
from kbsync_standin.zhipu import HOME_ID, application
from tests.conformance.served import ServedWorld
from tests.conformance.suite import TargetSuite
from tests.share import enumerated
from tests.targets.blocks import around, block

KEY = "id.secret-for-tests"


class ZhipuWorld(ServedWorld):
    """A stand-in and a client on the same clock."""

    matter: ClassVar[Mapping[str, Any]] = {"knowledge_type": 5, "sentence_size": 200}
    no_matter: ClassVar[Mapping[str, Any]] = {"sentence_size": 200}  # without type 5 it means nothing

    def __init__(self, style: str, **behaviour: Any) -> None:
        super().__init__(application(KEY, 1, (1.0, 3.0), StandInClock()), HOME_ID, behaviour)
        self.style = style

    def name_for(self, path: str, digest: str) -> str:
        return Naming(style=self.style).name(path, digest)

    async def open(self) -> Target:
        url = f"{self.server.url}/api"
        given = {"base_url": url, "api_key": KEY, "knowledge_id": self.base, "max_bytes": 3_000_000}
        return ZhipuTarget(block(ZhipuTargetConfig, **given), around(), wall=self.app.clock.now)

    def spoiled(self, path: str) -> bytes:
        stem = path.rpartition(".")[0]
        self.server.faults.add(Fault("fails", op="upload", match=f"{stem}*", args={"runs": 1}))
        return b"About spoiled things"

    def cure(self) -> None:
        """It fails once and is then indexed as it should be."""


class ZhipuSuite(TargetSuite):
    behaviour: ClassVar[Mapping[str, Any]] = {}
    style = "tagged"

    def make_world(self, place: Path) -> ZhipuWorld:
        return ZhipuWorld(self.style, **self.behaviour)


class TestZhipu(ZhipuSuite):
    pass


@enumerated()
class TestZhipuPlainNames(ZhipuSuite):
    style = "plain"


@enumerated()
class TestZhipuLagging(ZhipuSuite):
    behaviour: ClassVar[Mapping[str, Any]] = {
        "list_lag": 0.9,
        "page_cap": 10,
        "order": "oldest",
        "total": "string",
        "empty_list": "null",
    }


@enumerated()
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
