"""The Open WebUI target keeps the contract against its stand-in, over TCP, in each of its moods."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from kbsync.contract.target import Target
from kbsync.core.names import Naming
from kbsync.targets.openwebui.config import OpenWebuiTargetConfig
from kbsync.targets.openwebui.target import OpenWebuiTarget
from kbsync_standin.faults import Fault
from kbsync_standin.messages import StandInClock
from kbsync_standin.openwebui import HOME_ID, application
from tests.conformance.served import ServedWorld
from tests.conformance.suite import TargetSuite
from tests.share import enumerated
from tests.targets.blocks import around, block

KEY = "sk-for-tests"


class OpenWebuiConformance(ServedWorld):
    """A stand-in and a client on the same clock, which goes on while the client waits."""

    unknown_id = "4e741f2c-6b1d-4f0c-9a53-000000000000"
    repeats_puts = False

    def __init__(self, **behaviour: Any) -> None:
        super().__init__(application(KEY, 1, (1.0, 3.0), StandInClock()), HOME_ID, behaviour)

    def name_for(self, path: str, digest: str = "") -> str:
        return Naming(style="marked").name(path, digest)

    async def open(self) -> Target:
        given = {"base_url": self.server.url, "api_key": KEY, "knowledge_id": self.base}
        clock = self.app.clock.now
        config = block(OpenWebuiTargetConfig, **given)
        return OpenWebuiTarget(config, around(), wall=clock, steady=clock, sleep=self.pass_time)

    def spoiled(self, path: str) -> bytes:
        self.server.faults.add(Fault("fails", op="upload", match=path, args={"runs": 0}))
        return b"About spoiled things"

    def cure(self) -> None:
        for one in self.app.documents.values():
            one.fails = 0


class OpenWebuiSuite(TargetSuite):
    behaviour: ClassVar[Mapping[str, Any]] = {}

    def make_world(self, place: Path) -> OpenWebuiConformance:
        return OpenWebuiConformance(**self.behaviour)


class TestOpenWebui(OpenWebuiSuite):
    pass


@enumerated()
class TestOpenWebuiOdd(OpenWebuiSuite):
    """For a user who is no admin, and where equal texts are refused at once."""

    behaviour: ClassVar[Mapping[str, Any]] = {"page_size": 30, "looks_late": False, "extra_fields": True}
