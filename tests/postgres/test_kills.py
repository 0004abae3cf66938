"""Tests that after random kills each file has one document, which searches found all the time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.postgres.kills import VICTIMS, play
from tests.programs import needs
from tests.share import long


@long
@pytest.mark.parametrize(
    "victim", [pytest.param(name, marks=needs("pgbouncer") if name == "pooler" else ()) for name in VICTIMS]
)
def test_random_kills_leave_one_always_searchable_document_per_file(tmp_path: Path, victim: str) -> None:
    tally = play(1, tmp_path, 2, [victim], pooled=victim == "pooler")
    assert tally.crashes == 2
    assert tally.broken == 0
    assert tally.steps > 20
