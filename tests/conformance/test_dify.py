"""The Dify target keeps the contract against its stand-in, over TCP, as installations and versions differ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from kbsync.contract.target import Target
from kbsync.core.names import Naming
from kbsync.targets.dify.config import DifyTargetConfig
from kbsync.targets.dify.target import DifyTarget
from kbsync_standin.dify import HOME_ID, application
from kbsync_standin.faults import Fault
from kbsync_standin.messages import StandInClock
from tests.conformance.served import ServedWorld
from tests.conformance.suite import TargetSuite
from tests.share import enumerated
from tests.targets.blocks import around, block

KEY = "dataset-secret-for-tests"


class DifyConformance(ServedWorld):
    """A stand-in and a client on the same clock."""

    unknown_id = "2d0a1b1f-0000-4000-8000-000000000000"

    def __init__(self, style: str, **behaviour: Any) -> None:
        super().__init__(application(KEY, 1, (1.0, 3.0), StandInClock()), HOME_ID, behaviour)
        self.style = style

    def name_for(self, path: str, digest: str = "") -> str:
        return Naming(style=self.style).name(path, digest)

    async def open(self) -> Target:
        given = {"base_url": f"{self.server.url}/v1", "api_key": KEY, "dataset_id": self.base}
        config = block(DifyTargetConfig, **given)
        return DifyTarget(config, around(), wall=self.app.clock.now, steady=self.app.clock.now)

    def spoiled(self, path: str) -> bytes:
        stem = path.rpartition(".")[0]
        self.server.faults.add(Fault("fails", "upload", f"{stem}*", times=0, args={"name": f"{stem}*"}))
        return b"About spoiled things"

    def cure(self) -> None:
        self.server.faults.clear()


class DifySuite(TargetSuite):
    behaviour: ClassVar[Mapping[str, Any]] = {}
    style = "tagged"

    def make_world(self, place: Path) -> DifyConformance:
        return DifyConformance(self.style, **self.behaviour)


class TestDify(DifySuite):
    pass


@enumerated()
class TestDifyUnused(DifySuite):
    """Plain names, in a base that was made without any settings, at an older version."""

    style = "plain"
    behaviour: ClassVar[Mapping[str, Any]] = {
        "fresh": True,
        "technique_needed": True,
        "deleted": "number",
        "extra_fields": True,
    }
