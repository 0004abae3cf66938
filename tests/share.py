"""Selects the tests of a run: `make test` runs the quick ones and a sample, `make test-rest` all others.

Two marks say what `make test` need not run whole:

- `long`: a test that takes more than a fifth of a second of a core, or a few seconds of waiting, or that
  starts a server or a browser of its own.
- `enumerated(*strata)`: a test that goes through many cases. They are grouped by the strata, which are names
  of its parameters (`trial.kind`: what they have), and one case of each group is drawn at random.

The draw depends on the seed, which each run prints: `KBSYNC_SEED` repeats it, and the rest has to be run with
the same. A test that is asked for by its own name runs in any case.
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

ONE_IN = 8
"""Parts that an enumeration of boundaries is cut into."""

MARK, LONG = "enumerated", "long"

QUICK, REST, EACH, ALL = "quick", "rest", "each", "all"
"""Shares: what `make test` runs, all others, every test with one case of each enumeration, and everything."""

SHARE, SEED = "KBSYNC_SHARE", "KBSYNC_SEED"
"""Variables of the environment: so the processes that a run is spread over draw the same cases."""


long = pytest.mark.long
"""A mark: `make test` leaves it to `make test-rest`."""


def enumerated(*strata: str) -> pytest.MarkDecorator:
    """A mark: one case of many, of which a sample has one from each stratum."""
    return pytest.mark.enumerated(*strata)


in_parts = pytest.mark.parametrize("part", range(ONE_IN))
"""Cuts an enumeration into tests: each goes through every `ONE_IN`-th boundary, and ends well in time."""


def boundaries(part: int, first: int = 1) -> Iterator[int]:
    """Numbers of the boundaries of one part, from `first` on, without an end."""
    return itertools.count(first + part, ONE_IN)


def choose_seed() -> None:
    """Another one for each run, unless somebody chose; before other processes are begun, which inherit it."""
    os.environ.setdefault(SEED, str(int.from_bytes(os.urandom(2), "big")))


def run_seed() -> int:
    """The seed of this run: what is drawn at random is drawn from it, and `KBSYNC_SEED` repeats it."""
    return int(os.environ[SEED])


def chosen() -> str:
    share = os.environ.get(SHARE, QUICK)
    if share not in (QUICK, REST, EACH, ALL):
        raise pytest.UsageError(f"{SHARE}={share}: it is {QUICK}, {REST}, {EACH} or {ALL}")
    return share


def left_out(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """Those that are no part of this run's share."""
    share, items = chosen(), list(items)
    if share == ALL:
        return []
    long_ones = {item for item in items if item.get_closest_marker(LONG)}
    cases = [item for item in items if item.get_closest_marker(MARK)]
    skipped = set(cases) - _draw(cases)
    if share != EACH:
        skipped |= long_ones
    return [item for item in items if (item in skipped) == (share != REST)]


def draw_early(metafunc: pytest.Metafunc) -> None:
    """Build no items for cases that `left_out` would drop: most of the collection is theirs."""
    mark = metafunc.definition.get_closest_marker(MARK)
    if mark is None or chosen() not in (QUICK, EACH):
        return
    groups: dict[str, list[Any]] = {}
    for call in metafunc._calls:  # pytest has no public hook between parametrizing and making the items
        groups.setdefault(_group_name(metafunc.definition.nodeid, mark, call.params), []).append(call)
    metafunc._calls = [_choose(name, group, key=lambda call: f"{call.id}]") for name, group in groups.items()]


def _draw(cases: Iterable[pytest.Item]) -> set[pytest.Item]:
    """One of each group, at random, the same for the same seed in whatever order they come."""
    groups: dict[str, list[pytest.Item]] = {}
    for item in cases:
        groups.setdefault(_group_of(item), []).append(item)
    return {_choose(name, group, key=lambda item: item.nodeid) for name, group in groups.items()}


def _choose(name: str, group: list[T], key: Callable[[T], str]) -> T:
    return random.Random(f"{run_seed()} {name}").choice(sorted(group, key=key))


def _group_of(item: pytest.Item) -> str:
    mark = item.get_closest_marker(MARK)
    assert mark is not None
    if not hasattr(item, "callspec"):  # a suite that is played once more: its tests are the cases
        return item.nodeid.rpartition("::")[0]
    return _group_name(item.nodeid.partition("[")[0], mark, item.callspec.params)


def _group_name(function: str, mark: pytest.Mark, params: Mapping[str, Any]) -> str:
    return " ".join([function, *(_name_in(params, stratum) for stratum in mark.args)])


def _name_in(params: Mapping[str, Any], stratum: str) -> str:
    """The same in every process, as what `repr` says of a function is not."""
    name, _, rest = stratum.partition(".")
    value = operator.attrgetter(rest)(params[name]) if rest else params[name]
    return str(getattr(value, "__name__", value))


def summary() -> str:
    """The last line of a run: what it left out, and how to run that."""
    seed = f"{SEED}={os.environ[SEED]}"
    match chosen():
        case "quick":
            return (
                f"the quick tests and one case of each enumeration, drawn with {seed}; "
                f"{seed} make test-rest runs the others"
            )
        case "rest":
            return f"all that `make test` with {seed} leaves out"
        case "each":
            return f"every test, and one case of each enumeration, drawn with {seed}"
    return "every test and every case"
