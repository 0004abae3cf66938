"""What the targets can do is told, demanded and shown as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance import abilities
from tests.docs.pages import ROOT

TABLE, DEMANDS = ROOT / "docs" / "targets" / "README.md", ROOT / "docs" / "writing-a-target.md"


@pytest.mark.parametrize(
    ("page", "head", "made"),
    [(TABLE, abilities.HEAD, abilities.table), (DEMANDS, abilities.DEMANDS, abilities.demands)],
    ids=["abilities", "rows"],
)
def test_the_tables_of_the_docs_are_those_that_are_made(
    page: Path, head: str, made: Callable[[], str]
) -> None:
    """To make them anew: python -m tests.conformance.abilities."""
    told = page.read_text().partition(head)
    assert (told[1] + told[2]).rstrip("\n").partition("\n\n")[0] == made()


def test_every_ability_is_demanded_by_a_row_of_the_suite() -> None:
    rows = abilities.rows()
    assert [name for name in rows if not rows[name]] == []


def test_every_ability_is_had_by_a_target_that_passes_the_suite() -> None:
    from tests.memory.base import MemoryBase
    from tests.memory.variants import AbleMemory, ForgetfulMemory

    with abilities.targets() as known:
        memory = [AbleMemory(MemoryBase()), ForgetfulMemory(MemoryBase())]
        for name, ability in abilities.abilities().items():
            assert any(isinstance(one, ability) for one in [*known.values(), *memory]), name
