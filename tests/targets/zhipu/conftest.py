"""Fixtures that all tests of Zhipu share."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest


@pytest.fixture(autouse=True, scope="package")
def authorities_read_once() -> Iterator[None]:
    """Load the certificates once: it takes 30 ms, and hundreds of clients here don't use TLS."""
    context = httpx.create_ssl_context()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kbsync.targets.http.connection.trusted", lambda endpoint: context)
        yield
