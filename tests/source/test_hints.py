from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.source.hints import Hint, HintKind, HintSet, ancestors
from tests.growth import assert_linear
from tests.share import long

FILE, TREE, GONE = HintKind.FILE, HintKind.TREE, HintKind.GONE_TREE


def hint_set_of(*hints: Hint, most: int = 10_000) -> HintSet:
    hint_set = HintSet(most)
    for hint in hints:
        hint_set.add(hint)
    return hint_set


def test_hints_come_oldest_first_and_once() -> None:
    hints = hint_set_of(Hint("b", FILE), Hint("a", FILE), Hint("b", FILE), Hint("c", FILE))
    assert hints.take(2) == [Hint("b", FILE), Hint("a", FILE)]
    assert hints.take(9) == [Hint("c", FILE)]
    assert hints.take(9) == []


@pytest.mark.parametrize("tree_first", [True, False])
@pytest.mark.parametrize(
    ("tree", "covered", "other_hints"),
    [
        (Hint("d", TREE), True, [Hint(path, FILE) for path in ("d", "d/a", "d/e/f/a")]),
        (Hint("d", TREE), True, [Hint("d/e", TREE)]),
        (Hint("", TREE), True, [Hint("x/y", FILE), Hint("", FILE)]),
        (
            Hint("d", TREE),
            False,
            [Hint("dd/a", FILE), Hint("d.md", FILE), Hint("d", GONE), Hint("d/e", GONE)],
        ),
        (Hint("d", GONE), True, [Hint("d/e", GONE)]),
        (Hint("d", GONE), False, [Hint("d/e", FILE), Hint("d/e", TREE)]),
    ],
)
def test_tree_hint_covers_everything_below_it(
    tree: Hint, covered: bool, other_hints: list[Hint], tree_first: bool
) -> None:
    for hint in other_hints:
        hints = hint_set_of(*((tree, hint) if tree_first else (hint, tree)))
        assert set(hints.take(9)) == ({tree} if covered else {tree, hint}), hint


def test_change_after_a_tree_hint_was_taken_is_not_covered() -> None:
    hints = hint_set_of(Hint("d", TREE))
    hints.take(1)
    for hint in (Hint("d/a", FILE), Hint("d", TREE)):
        hints.add(hint)
        assert hints.take(1) == [hint]


def test_full_set_is_dropped_completely_and_reports_overflow() -> None:
    hints = hint_set_of(*(Hint(f"p{n}", FILE) for n in range(10)), most=10)
    assert not hints.overflowed
    hints.add(Hint("p3", FILE))
    assert not hints.overflowed
    hints.add(Hint("one too many", FILE))
    assert hints.overflowed
    assert hints.take(99) == [Hint("one too many", FILE)]


PATHS = st.lists(st.sampled_from("abc"), max_size=3).map("/".join)


@long
@given(st.lists(st.builds(Hint, PATHS, st.sampled_from(HintKind)), max_size=60), st.integers(1, 20))
def test_no_hint_is_lost_without_reporting_overflow(added: list[Hint], most: int) -> None:
    hints = hint_set_of(*added, most=most)
    batch = hints.take(99)
    assert len(batch) <= most
    if hints.overflowed:
        return
    assert len(set(batch)) == len(batch)
    for hint in added:
        at_or_above = {hint.path, *ancestors(hint.path)}
        by = GONE if hint.kind is GONE else TREE
        assert hint in batch or any(other.kind is by and other.path in at_or_above for other in batch)


@long
def test_many_hints_take_no_quadratic_time() -> None:
    def fill(count: int) -> None:
        hints = HintSet(2 * count)
        for name in "fg":
            for number in range(count):
                hints.add(Hint(f"d{number % 300}/e/{name}{number}.md", FILE))
            for number in range(300):
                hints.add(Hint(f"d{number}", TREE))
        assert len(hints.take(1_000)) == 300

    assert_linear(fill, 2_000)
