"""The RAGFlow target keeps the contract against its stand-in, over TCP, as the versions of the server are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from kbsync.contract.target import Target
from kbsync.core.names import Naming
from kbsync.targets.ragflow.config import RagflowTargetConfig
from kbsync.targets.ragflow.target import RagflowTarget
from kbsync_standin.faults import Fault
from kbsync_standin.messages import StandInClock
from kbsync_standin.ragflow import HOME_ID, application
from tests.conformance.served import ServedWorld
from tests.conformance.suite import TargetSuite
from tests.share import enumerated
from tests.targets.blocks import around, block

KEY = "ragflow-key-for-tests"


class RagflowConformance(ServedWorld):
    """A stand-in and a client on the same clock."""

    no_matter: ClassVar[Mapping[str, Any]] = {"chunk_method": "qa"}  # a setting of the dataset
    unknown_id = "00000000000011f00000000000000000"

    def __init__(self, style: str, **behaviour: Any) -> None:
        super().__init__(application(KEY, 1, (1.0, 3.0), StandInClock()), HOME_ID, behaviour)
        self.style = style
        self.read_only = False

    def name_for(self, path: str, digest: str = "") -> str:
        return Naming(style=self.style).name(path, digest)

    async def open(self) -> Target:
        given = {"base_url": self.server.url, "api_key": KEY, "dataset_id": self.base}
        config = block(RagflowTargetConfig, **given, max_bytes=3_000_000)
        now = self.app.clock.now
        return RagflowTarget(config, around(read_only=self.read_only), wall=now, steady=now)

    def spoiled(self, path: str) -> bytes:
        stem = path.rpartition(".")[0]
        self.server.faults.add(Fault("fails", op="parse", match=f"*{stem}*", args={"name": f"{stem}*"}))
        return b"About spoiled things"

    def cure(self) -> None:
        """It fails once and is then parsed as it should be."""


class RagflowSuite(TargetSuite):
    behaviour: ClassVar[Mapping[str, Any]] = {}
    style = "tagged"

    def make_world(self, place: Path) -> RagflowConformance:
        return RagflowConformance(self.style, **self.behaviour)


class TestRagflow(RagflowSuite):
    pass


@enumerated()
class TestRagflowPlainNames(RagflowSuite):
    style = "plain"


@enumerated()
class TestRagflowOld(RagflowSuite):
    """As up to 0.24: other deletions, and a list that cannot be asked for certain documents."""

    behaviour: ClassVar[Mapping[str, Any]] = {
        "ids_filter": False,
        "unknown_ids": "told",
        "no_ids": "all",
        "runs": "digits",
        "total": "total_datasets",
    }


@enumerated()
class TestRagflowOdd(RagflowSuite):
    behaviour: ClassVar[Mapping[str, Any]] = {
        "total": "missing",
        "page_cap": 20,
        "page_beyond": "repeats",
        "no_index": "empty",
        "statuses": "mapped",
        "extra_fields": True,
    }
