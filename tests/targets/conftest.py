"""A mirror, or only a client, at the stand-in of the service whose directory contains the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conformance.served import ServedWorld
from tests.remote.world import RemoteWorld
from tests.services.rows import ROWS


@pytest.fixture
async def world(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[RemoteWorld]:
    """Yield a mirror, which may not break the service's rules."""
    row = ROWS[request.path.parent.name]
    async with row.world(tmp_path, reembed_tries=1).serving() as world:
        yield world
        assert world.app.violations == []


@pytest.fixture
async def served_world(request: pytest.FixtureRequest) -> AsyncIterator[ServedWorld]:
    """Yield a client of an empty base."""
    async with ROWS[request.path.parent.name].served_world().run_with_target() as world:
        yield world
