"""Selects the tests of a run: `make test` runs the quick ones and a sample, `make test-rest` all others.

Two marks limit what `make test` runs:

- `long`: a test that takes more than a fifth of a second of a core, or a few seconds of waiting, or starts
its own server or browser.
- `enumerated(*strata)`: a test with many cases. They are grouped by the strata, which name its parameters
(`trial.kind`: an attribute), and one case of each group is chosen at random.

The choice depends on the seed that each run prints: `KBSYNC_SEED` repeats it, and `make test-rest` needs the
same seed. A test requested by name always runs.
"""

from __future__ import annotations

import itertools
import operator
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

ONE_IN = 4
"""The number of tests that an enumeration of boundaries is split into."""

MARK, LONG = "enumerated", "long"

QUICK, REST, ALL = "quick", "rest", "all"
"""The shares: the tests of `make test`, all others, and everything."""

SHARE, SEED = "KBSYNC_SHARE", "KBSYNC_SEED"
"""Environment variables, so that all processes of a run choose the same cases."""


long = pytest.mark.long
"""A mark: `make test` leaves it to `make test-rest`."""


def enumerated(*strata: str) -> pytest.MarkDecorator:
    """Return a mark for a test with many cases; a sample has one case from each stratum."""
    return pytest.mark.enumerated(*strata)


in_parts = pytest.mark.parametrize("part", range(ONE_IN))
"""Splits an enumeration into tests: each visits every `ONE_IN`-th boundary, so that it ends in time."""


def boundaries(part: int) -> Iterator[int]:
    """Yield the boundaries of one part without end."""
    return itertools.count(1 + part, ONE_IN)


def choose_seed() -> None:
    """Choose a new seed unless one is set, before starting child processes, which inherit it."""
    os.environ.setdefault(SEED, str(int.from_bytes(os.urandom(2), "big")))


def run_seed() -> int:
    """Return the run's seed, which determines all random choices; `KBSYNC_SEED` repeats it."""
    return int(os.environ[SEED])


def selected_share() -> str:
    share = os.environ.get(SHARE, QUICK)
    if share not in (QUICK, REST, ALL):
        raise pytest.UsageError(f"{SHARE}={share}: it is {QUICK}, {REST} or {ALL}")
    return share


def excluded_items(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """Return the items outside this run's share."""
    share, items = selected_share(), list(items)
    if share == ALL:
        return []
    cases = [item for item in items if item.get_closest_marker(MARK)]
    skipped = set(cases) - _draw(cases)
    skipped |= {item for item in items if item.get_closest_marker(LONG)}
    return [item for item in items if (item in skipped) == (share != REST)]


def draw_early(metafunc: pytest.Metafunc) -> None:
    """Build no items for cases that `excluded_items` would drop: they take most of the collection's time."""
    mark = metafunc.definition.get_closest_marker(MARK)
    if mark is None or selected_share() != QUICK:
        return
    groups: dict[str, list[Any]] = {}
    for call in metafunc._calls:  # pytest has no public hook between parametrizing and creating the items
        groups.setdefault(_group_name(metafunc.definition.nodeid, mark, call.params), []).append(call)
    metafunc._calls = [_choose(name, group, key=lambda call: f"{call.id}]") for name, group in groups.items()]


def _draw(cases: Iterable[pytest.Item]) -> set[pytest.Item]:
    """Choose one case of each group; the same seed chooses the same, whatever their order."""
    groups: dict[str, list[pytest.Item]] = {}
    for item in cases:
        groups.setdefault(_group_of(item), []).append(item)
    return {_choose(name, group, key=lambda item: item.nodeid) for name, group in groups.items()}


def _choose(name: str, group: list[T], key: Callable[[T], str]) -> T:
    return random.Random(f"{run_seed()} {name}").choice(sorted(group, key=key))


def _group_of(item: pytest.Item) -> str:
    mark = item.get_closest_marker(MARK)
    assert mark is not None
    if not hasattr(item, "callspec"):  # a suite that runs several times: its tests are the cases
        return item.nodeid.rpartition("::")[0]
    return _group_name(item.nodeid.partition("[")[0], mark, item.callspec.params)


def _group_name(function: str, mark: pytest.Mark, params: Mapping[str, Any]) -> str:
    return " ".join([function, *(_name_in(params, stratum) for stratum in mark.args)])


def _name_in(params: Mapping[str, Any], stratum: str) -> str:
    """Return a name that is the same in every process, unlike a function's `repr`."""
    name, _, rest = stratum.partition(".")
    value = operator.attrgetter(rest)(params[name]) if rest else params[name]
    return str(getattr(value, "__name__", value))


def summary() -> str:
    """Return the last line of a run: the tests it left out, and how to run them."""
    seed = f"{SEED}={os.environ[SEED]}"
    match selected_share():
        case "quick":
            return (
                f"the quick tests and one case of each enumeration, drawn with {seed}; "
                f"{seed} make test-rest runs the others"
            )
        case "rest":
            return f"all that `make test` with {seed} leaves out"
    return "every test and every case"
