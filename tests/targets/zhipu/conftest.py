"""Fixtures that all tests of Zhipu share."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest


@pytest.fixture(autouse=True, scope="package")
def authorities_read_once() -> Iterator[None]:
    """Reading the certificates costs 30 ms, hundreds of clients are made here, and none uses TLS."""
    context = httpx.create_ssl_context()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kbsync.targets.http.connection.trusted", lambda endpoint: context)
        yield
