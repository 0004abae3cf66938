"""Tests that targets report, tests require, and docs show the same abilities."""

from __future__ import annotations

from tests.conformance import abilities
from tests.docs.pages import ROOT


def test_docs_table_matches_the_generated_one() -> None:
    """Run `python -m tests.conformance.abilities` to generate it again."""
    page = (ROOT / "docs" / "targets" / "README.md").read_text().partition(abilities.HEAD)
    assert (page[1] + page[2]).rstrip("\n").partition("\n\n")[0] == abilities.table()


def test_every_ability_is_required_by_a_test_of_the_suite() -> None:
    rows = abilities.rows()
    assert [name for name in rows if not rows[name]] == []


def test_every_ability_is_provided_by_a_target_that_passes_the_suite() -> None:
    from tests.memory.base import MemoryBase
    from tests.memory.variants import AbleMemory, ForgetfulMemory

    with abilities.targets() as instances:
        memory = [AbleMemory(MemoryBase()), ForgetfulMemory(MemoryBase())]
        for name, ability in abilities.abilities().items():
            assert any(abilities.has(target, ability) for target in [*instances.values(), *memory]), name
