from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.programs import Programs


@pytest.fixture(scope="session")
def programs() -> Iterator[Programs]:
    """A scheduler and two workers, which no test harms."""
    running = Programs(2)
    yield running
    running.close()
