"""A mirror at the service, whose rules nobody may break."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.targets.dify.world import DifyWorld


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[DifyWorld]:
    async with DifyWorld(tmp_path, reembed_tries=1).serving() as world:
        yield world
        assert world.app.violations == []
