"""Places to run the program in."""

from __future__ import annotations

from tests.cli.conftest import zhipu

__all__ = ["zhipu"]
