"""The GPTBots target keeps the contract against its stand-in, over TCP, as the vendor is and as it may be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from kbsync.contract.target import Target
from kbsync.core.names import Naming
from kbsync.targets.gptbots.config import GptbotsTargetConfig
from kbsync.targets.gptbots.target import GptbotsTarget
from kbsync_standin.faults import Fault
from kbsync_standin.gptbots import HOME_ID, application
from kbsync_standin.messages import StandInClock
from tests.conformance.served import ServedWorld
from tests.conformance.suite import TargetSuite
from tests.share import enumerated
from tests.targets.blocks import around, block

KEY = "app-secret-for-tests"


class GptbotsConformance(ServedWorld):
    """A stand-in and a client on the same clock."""

    matter: ClassVar[Mapping[str, Any]] = {"splitter": "\n\n"}
    no_matter: ClassVar[Mapping[str, Any]] = {"header_row": 2}  # an .md file has no rows
    unknown_id = "67457fea6f658672d6489999"
    repeats_puts = False

    def __init__(self, **behaviour: Any) -> None:
        super().__init__(application(KEY, 1, (1.0, 3.0), StandInClock()), HOME_ID, behaviour)

    def name_for(self, path: str, digest: str = "") -> str:
        return Naming(style="marked").name(path, digest)

    async def open(self) -> Target:
        given = {"base_url": self.server.url, "api_key": KEY, "knowledge_base_id": self.base}
        config = block(GptbotsTargetConfig, **given)
        return GptbotsTarget(config, around(), wall=self.app.clock.now, steady=self.app.clock.now)

    def spoiled(self, path: str) -> bytes:
        stem = path.rpartition(".")[0]
        self.server.faults.add(Fault("fails", match=f"*{stem}*", args={"name": f"{stem}*"}))
        return b"About spoiled things"

    def cure(self) -> None:
        self.server.faults.clear()


class GptbotsSuite(TargetSuite):
    behaviour: ClassVar[Mapping[str, Any]] = {}

    def make_world(self, place: Path) -> GptbotsConformance:
        return GptbotsConformance(**self.behaviour)


class TestGptbots(GptbotsSuite):
    pass


@enumerated()
class TestGptbotsStale(GptbotsSuite):
    """The old version's status is told until the new one is in, and long after."""

    behaviour: ClassVar[Mapping[str, Any]] = {"stale_status": 3.5, "page_cap": 10}


@enumerated()
class TestGptbotsOdd(GptbotsSuite):
    behaviour: ClassVar[Mapping[str, Any]] = {
        "extra_fields": True,
        "page_beyond": "repeats",
        "order": "shuffled",
        "total": "missing",
        "names": "bare",
        "times": "ms",
        "working": "wait",
        "failed": "absent",
        "bases": "data_list",
        "unknown_ids": "refused",
    }
