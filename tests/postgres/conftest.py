from __future__ import annotations

import pytest

from tests.postgres.server import Server


@pytest.fixture
def database(postgres: Server) -> str:
    """The name of an empty database."""
    return postgres.database()
