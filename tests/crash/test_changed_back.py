"""Tests that a change that is reverted has no effect, even with a kill in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.changes import EVERY, MOST, Wavering, changed_back
from tests.share import ONE_IN, boundaries, in_parts, long


@long
@in_parts
@pytest.mark.parametrize("one", EVERY, ids=str)
async def test_reverted_change_leaves_no_trace(tmp_path: Path, one: Wavering, part: int) -> None:
    kills = 0
    for at in boundaries(part):
        assert at < MOST + ONE_IN
        if not await changed_back(tmp_path / str(at), one, at):
            break
        kills += 1
    assert kills
