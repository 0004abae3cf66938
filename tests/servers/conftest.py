"""Collects tests only if servers run, and reports the known differences from the stand-ins at the end."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.servers.running import NAMES, VARIABLE

_THERE: dict[str, Any] = json.loads(os.environ.get(VARIABLE) or "{}")
collect_ignore = [f"test_{name}.py" for name in NAMES if name not in _THERE]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for outcome in terminalreporter.stats.values():
        for report in outcome:
            for name, value in getattr(report, "user_properties", ()):
                if name == "difference" and report.when == "call":
                    terminalreporter.write_line(f"{Path(report.fspath).stem.removeprefix('test_')}: {value}")


@pytest.fixture
def servers() -> dict[str, Any]:
    """Return what each server's `start` yielded."""
    return _THERE
