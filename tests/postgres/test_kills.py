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
def test_killed_at_random_each_file_is_one_document_and_always_found(tmp_path: Path, victim: str) -> None:
    tally = play(1, tmp_path, 2, [victim], pooled=victim == "pooler")
    assert tally.crashes == 2
    assert tally.broken == 0
    assert tally.steps > 20
