"""A mirror at the service, whose rules nobody may break."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.targets.ragflow.world import RagflowWorld


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[RagflowWorld]:
    async with RagflowWorld(tmp_path, reembed_tries=1).serving() as world:
        yield world
        assert world.app.violations == []
