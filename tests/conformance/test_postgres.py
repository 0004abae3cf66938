"""Runs the suite on a knowledge base in PostgreSQL, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kbsync.config.secrets import Secret
from kbsync.contract.target import Target, TargetContext
from kbsync.targets.postgres.config import PostgresTargetConfig
from tests.conformance.suite import TargetSuite
from tests.conformance.test_local import MAX_BYTES, LocalConformance
from tests.conformance.world import SuiteWorld
from tests.postgres.server import Server


class PostgresConformance(LocalConformance):
    """Like the built-in knowledge base, with another store."""

    def __init__(self, folder: Path, server: Server) -> None:
        super().__init__(folder)
        self.server, self.database = server, server.database()

    async def open(self) -> Target:
        spool = self.folder / "spool"
        spool.mkdir(exist_ok=True)
        config = PostgresTargetConfig(dsn=Secret(self.server.dsn(self.database)), max_bytes=MAX_BYTES)
        return config.open(TargetContext("test", self.folder, spool))

    async def recreate(self) -> None:
        self.server.run(self.database, "DROP SCHEMA kbsync CASCADE")


class TestPostgres(TargetSuite):
    @pytest.fixture
    async def world(self, tmp_path: Path, postgres: Server) -> AsyncIterator[SuiteWorld]:
        world = PostgresConformance(tmp_path, postgres)
        world.target = await world.open()
        yield world
        await world.target.aclose()
