"""Which batches of deletions wait for a person."""

from __future__ import annotations

import pytest

from kbsync.engine.deletions import must_hold
from kbsync.engine.settings import DeletionLimits


@pytest.mark.parametrize(
    ("batch", "executed", "serving", "held"),
    [
        (0, 0, 10, False),
        (1, 0, 10, False),
        (5, 0, 10, False),
        (6, 0, 10, True),
        (6, 0, 100, False),
        (20, 0, 100, False),
        (21, 0, 100, True),
        (1, 20, 80, True),
        (8, 10, 80, False),
        (9, 10, 80, True),
        (11, 10, 90, True),
        (1, 0, 1, True),
        (3, 0, 3, True),
        (2, 0, 3, False),
    ],
)
def test_mass_deletions_ask(batch: int, executed: int, serving: int, held: bool) -> None:
    assert must_hold(batch, executed, serving, DeletionLimits()) is held
