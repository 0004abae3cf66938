"""One application with a stopped clock for each test."""

from __future__ import annotations

import pytest

from tests.standin.zhipu.client import DirectZhipu


@pytest.fixture
def service() -> DirectZhipu:
    return DirectZhipu()
