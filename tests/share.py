"""How much of what is enumerated one run goes through: the test command a share, always the same; or all.

`KBSYNC_SHARE=1` goes through everything, which takes an hour on two cores.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator, Sequence
from typing import Any

SHARE = int(os.environ.get("KBSYNC_SHARE", "10"))
"""One in so many."""

SEED = 20


def share_of(items: Sequence[Any]) -> list[Any]:
    """One in `SHARE` of them, in their order; picked at random, lest a table loses whole columns."""
    picked = random.Random(SEED).sample(range(len(items)), -(-len(items) // SHARE))
    return [items[number] for number in sorted(picked)]


def boundaries(offset: int = 0) -> Iterator[int]:
    """Numbers of boundaries to stop at, from 1, without an end; other offsets meet other ones."""
    return itertools.count(1 + offset % SHARE, SHARE)
