"""A mirror at the server, whose rules nobody may break."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conformance.test_lightrag import LightragConformance
from tests.targets.lightrag.world import LightragWorld


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[LightragWorld]:
    async with LightragWorld(tmp_path, reembed_tries=1).serving() as world:
        yield world
        assert world.app.violations == []


@pytest.fixture
async def served() -> AsyncIterator[LightragConformance]:
    """Without a mirror: a stand-in and a client."""
    served = LightragConformance()
    async with served.serving():
        served.target = await served.open()
        yield served
        await served.target.aclose()
