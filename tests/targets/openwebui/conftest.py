"""A mirror at the service, whose rules nobody may break."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.targets.openwebui.world import OpenWebuiWorld


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[OpenWebuiWorld]:
    async with OpenWebuiWorld(tmp_path, reembed_tries=1).serving() as world:
        yield world
        assert world.app.violations == []
