"""Folders that tests of the disk start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.source.folders import Tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


@pytest.fixture
def tree() -> Tree:
    return Tree()
