"""Runs the suite on the built-in knowledge base with embedding and rerank services of every dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import get_args

import pytest

from kbsync.targets.services.config import EmbeddingConfig, RerankConfig, Service
from tests.conformance.suite import TargetSuite
from tests.conformance.test_local import LocalConformance
from tests.conformance.world import SuiteWorld
from tests.share import enumerated
from tests.targets.services.service import serving, settings_for


class LocalWorldAtServices(LocalConformance):
    """A local world that embeds and reranks with the stand-in for vectors."""

    def __init__(self, folder: Path, dialect: Service) -> None:
        super().__init__(folder)
        self.dialect = dialect

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with serving() as server:
            kinds = {"embedding": EmbeddingConfig, "rerank": RerankConfig}
            self.models = {key: settings_for(server, kind, self.dialect) for key, kind in kinds.items()}
            yield
            assert server.app.violations == []


@enumerated()
class TestLocalAtServices(TargetSuite):
    @pytest.fixture(params=get_args(Service), autouse=True)
    def dialect(self, request: pytest.FixtureRequest) -> None:
        self.service_dialect: Service = request.param

    def make_world(self, folder: Path) -> SuiteWorld:
        return LocalWorldAtServices(folder, self.service_dialect)
