from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kbsync.targets.http import client, limits
from kbsync_standin.server import Server
from tests.targets.services.service import serving


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(limits, "FIRST_PAUSE", 0.001)
    async with serving() as server:
        yield server
