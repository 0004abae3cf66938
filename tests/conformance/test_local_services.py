"""The embedded knowledge base keeps the contract with vectors and ranking from services of every dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast, get_args

import pytest

from kbsync.contract.target import Surroundings, Target
from kbsync.targets.local.config import LocalTargetConfig
from kbsync.targets.services.config import EmbeddingConfig, RerankConfig, Service
from kbsync_standin.server import Server
from tests.conformance.suite import TargetSuite
from tests.conformance.test_local import MAX_BYTES, LocalConformance
from tests.conformance.world import SuiteWorld
from tests.targets.services.service import serving, settings_for


class LocalWorldAtServices(LocalConformance):
    """As the one that needs nobody, with the stand-in for vectors beside it."""

    def __init__(self, folder: Path, server: Server, dialect: Service) -> None:
        super().__init__(folder)
        self.server, self.dialect = server, dialect

    async def open(self) -> Target:
        spool = self.folder / "spool"
        spool.mkdir(exist_ok=True)
        config = LocalTargetConfig(
            path=self.folder / "kb",
            max_bytes=MAX_BYTES,
            embedding=settings_for(self.server, EmbeddingConfig, self.dialect),
            rerank=settings_for(self.server, RerankConfig, self.dialect),
        )
        return config.open(Surroundings("test", self.folder, spool))


@pytest.fixture(params=get_args(Service))
def dialect(request: pytest.FixtureRequest) -> Service:
    return cast(Service, request.param)


class TestLocalAtServices(TargetSuite):
    @pytest.fixture
    async def world(self, tmp_path: Path, dialect: Service) -> AsyncIterator[SuiteWorld]:
        async with serving() as server:
            world = LocalWorldAtServices(tmp_path, server, dialect)
            world.target = await world.open()
            yield world
            await world.target.aclose()
            assert server.app.violations == []
