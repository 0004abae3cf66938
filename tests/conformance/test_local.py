"""Runs the suite on the built-in knowledge base."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from kbsync.contract.target import Target, TargetContext
from kbsync.targets.local.config import LocalTargetConfig
from tests.conformance.suite import TargetSuite
from tests.conformance.world import SuiteWorld

MAX_BYTES = 4 * 1024 * 1024


class LocalConformance(SuiteWorld):
    """An index in a folder, with the real parser and the built-in embedding model."""

    largest_read = None  # a text must be complete before it is split into chunks
    large_bytes = 300_000
    impossible_ids = (str(2**63), "9" * 30, "9" * 5_000, "-1", "1.5", "٣", "")

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.models: dict[str, Any] = {}

    async def open(self) -> Target:
        spool = self.folder / "spool"
        spool.mkdir(exist_ok=True)
        config = LocalTargetConfig(path=self.folder / "kb", max_bytes=MAX_BYTES, **self.models)
        return config.open(TargetContext("test", self.folder, spool))

    async def pass_time(self, seconds: float) -> None:
        """Do nothing: documents are ready at once."""

    def failing_bytes(self, path: str) -> bytes:
        return b" \n\t\n"

    async def recreate(self) -> None:
        shutil.rmtree(self.folder / "kb")


class TestLocal(TargetSuite):
    def make_world(self, folder: Path) -> SuiteWorld:
        return LocalConformance(folder)
