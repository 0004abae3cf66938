"""Tests that a change that is reverted has no effect, even with a kill in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.changes import EVERY, MOST, Wavering, changed_back
from tests.share import ONE_IN, boundaries, in_parts, long


@long
@in_parts
@pytest.mark.parametrize("change", EVERY, ids=str)
async def test_reverted_change_leaves_no_trace(tmp_path: Path, change: Wavering, part: int) -> None:
    kills = 0
    for boundary in boundaries(part):
        assert boundary < MOST + ONE_IN
        if not await changed_back(tmp_path / str(boundary), change, boundary):
            break
        kills += 1
    assert kills
