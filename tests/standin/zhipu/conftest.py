"""One application with a standing clock for each test."""

from __future__ import annotations

import pytest

from tests.standin.zhipu.vendor import DirectZhipu


@pytest.fixture
def vendor() -> DirectZhipu:
    return DirectZhipu()
