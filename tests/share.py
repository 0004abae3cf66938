"""How much of what is enumerated one run goes through: the test command a share, always the same; or all.

`KBSYNC_SHARE=1` goes through everything, which takes an hour on two cores.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator, Sequence
from typing import Any

SHARE = int(os.environ.get("KBSYNC_SHARE", "40"))
"""One in so many."""

SEED = 20


def share_of(items: Sequence[Any]) -> list[Any]:
    """One in `SHARE` of them, in their order; picked at random, lest a table loses whole columns."""
    picked = random.Random(SEED).sample(range(len(items)), -(-len(items) // SHARE))
    return [items[number] for number in sorted(picked)]


def some_of(items: Sequence[Any], one_in: int = 3) -> list[Any]:
    """All where all is gone through, else one in so many of them, each of which goes far."""
    return list(items if SHARE == 1 else items[::one_in])


def one_of_each_kind(trials: Sequence[Any]) -> list[Any]:
    """All where all is gone through, else one for each `kind`, always the same."""
    if SHARE == 1:
        return list(trials)
    by_kind = itertools.groupby(sorted(trials, key=lambda trial: trial.kind), lambda trial: trial.kind)
    return [random.Random(kind).choice(list(those)) for kind, those in by_kind]


def boundaries(offset: int = 0) -> Iterator[int]:
    """Numbers of boundaries to stop at, from 1, without an end; other offsets meet other ones."""
    return itertools.count(1 + offset % SHARE, SHARE)
