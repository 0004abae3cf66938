from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.programs import Programs
from tests.share import long


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave tests with the cluster to `make test-rest`: its three processes start slowly."""
    for item in items:
        if "programs" in getattr(item, "fixturenames", ()):
            item.add_marker(long)


@pytest.fixture(scope="session")
def programs() -> Iterator[Programs]:
    """Yield a scheduler and two workers, which no test harms."""
    running = Programs(2)
    yield running
    running.close()
