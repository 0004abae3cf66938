"""Which share of the enumerations a run goes through: `make test` a sample, `make test-rest` all the others.

A test that goes through many cases has the mark `enumerated(*strata)`. Its cases are grouped by the strata,
which are names of its parameters (`trial.kind`: what they have), and of each group one in `ONE_IN` is drawn,
at least one: so every stage, job and kind is in every sample. A list that is short is not marked, and always
gone through. What is drawn turns with the seed, which each run prints: `KBSYNC_SEED` repeats it, and the rest
has to be run with the same. A test that is asked for by its own name runs in any case.
"""

from __future__ import annotations

import itertools
import operator
import os
import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

ONE_IN = 8
MARK = "enumerated"

SAMPLE, REST, ALL = "sample", "rest", "all"
SHARE, SEED = "KBSYNC_SHARE", "KBSYNC_SEED"
"""Variables of the environment: so the processes that a run is spread over draw the same sample."""


def enumerated(*strata: str) -> pytest.MarkDecorator:
    """A mark: one case of many, of which a sample has some from each stratum."""
    return pytest.mark.enumerated(*strata)


in_parts = pytest.mark.parametrize("part", range(ONE_IN))
"""Cuts an enumeration into tests: each goes through every `ONE_IN`-th boundary, and ends well in time."""


def boundaries(part: int, first: int = 1) -> Iterator[int]:
    """Numbers of the boundaries of one part, from `first` on, without an end."""
    return itertools.count(first + part, ONE_IN)


def choose_seed() -> None:
    """Another one for each run, unless somebody chose; before other processes are begun, which inherit it."""
    os.environ.setdefault(SEED, str(int.from_bytes(os.urandom(2), "big")))


def chosen() -> str:
    share = os.environ.get(SHARE, SAMPLE)
    if share not in (SAMPLE, REST, ALL):
        raise pytest.UsageError(f"{SHARE}={share}: it is {SAMPLE}, {REST} or {ALL}")
    return share


def left_out(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """Those that are no part of this run's share."""
    share, items = chosen(), list(items)
    if share == ALL:
        return []
    cases = [item for item in items if item.get_closest_marker(MARK)]
    drawn = _draw(cases, os.environ[SEED])
    if share == REST:
        return [item for item in items if item in drawn or item.get_closest_marker(MARK) is None]
    return [item for item in cases if item not in drawn]


def _draw(cases: Iterable[pytest.Item], seed: str) -> set[pytest.Item]:
    """From each group one in so many, at random, the same for the same seed in whatever order they come."""
    groups: dict[str, list[pytest.Item]] = {}
    for item in cases:
        groups.setdefault(_group_of(item), []).append(item)
    drawn = set[pytest.Item]()
    for name, group in groups.items():
        in_order = sorted(group, key=lambda item: item.nodeid)
        drawn |= set(random.Random(f"{seed} {name}").sample(in_order, -(-len(group) // ONE_IN)))
    return drawn


def _group_of(item: pytest.Item) -> str:
    mark = item.get_closest_marker(MARK)
    assert mark is not None
    if not hasattr(item, "callspec"):  # a suite that is played once more: its tests are the cases
        return item.nodeid.rpartition("::")[0]
    params: dict[str, Any] = item.callspec.params
    return " ".join([item.nodeid.partition("[")[0], *(_name_in(params, stratum) for stratum in mark.args)])


def _name_in(params: dict[str, Any], stratum: str) -> str:
    """The same in every process, as what `repr` says of a function is not."""
    name, _, rest = stratum.partition(".")
    value = operator.attrgetter(rest)(params[name]) if rest else params[name]
    return str(getattr(value, "__name__", value))


def told() -> str:
    """What a run of a share says at its end."""
    match chosen():
        case "sample":
            seed = os.environ[SEED]
            return (
                f"of the enumerations one case in {ONE_IN}, drawn with {SEED}={seed}; "
                f"{SEED}={seed} make test-rest goes through the others"
            )
        case "rest":
            return f"the enumerations, but for what {SEED}={os.environ[SEED]} had drawn"
    return "the enumerations as a whole"
