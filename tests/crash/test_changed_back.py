"""What a person changes and changes back, with a kill in between, is as if it had never been changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.changes import EVERY, MOST, Wavering, changed_back
from tests.share import SHARE, boundaries, some_of


@pytest.mark.parametrize("one", some_of(EVERY), ids=str)
async def test_it_is_as_if_it_had_never_been_changed(tmp_path: Path, one: Wavering) -> None:
    kills = 0
    for at in boundaries(EVERY.index(one)):
        assert at < MOST + SHARE
        if not await changed_back(tmp_path / str(at), one, at):
            break
        kills += 1
    assert kills
