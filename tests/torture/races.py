"""Another program swaps a file and its folder for links to a secret while both are read."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

from kbsync.source.look import look
from kbsync.source.read import Spooled, copy_stable, digest
from kbsync.source.scan import scan
from tests.security.swapping import Place
from tests.security.test_races import PATH, RULES, NothingKnown
from tests.torture.exercise import Exercise, Tally

ROUNDS = 2000


def swap_while_read(seed: int, scratch: Path) -> Tally:
    """So many readings against so many swaps; what lies outside is never in one of them."""
    place, tally, over = Place(scratch), Tally(), threading.Event()
    place.lay()
    spool = scratch / "spool"
    spool.mkdir()
    swapping = threading.Thread(target=_swap, args=(place, random.Random(seed), over))
    swapping.start()
    try:
        for _ in range(ROUNDS):
            tally.steps += 1
            _read(place, spool)
    finally:
        over.set()
        swapping.join()
    return tally


def _read(place: Place, spool: Path) -> None:
    seen = look(place.root, PATH)
    if seen.stamp:
        digest(place.root, PATH, seen.stamp)
    outcome = copy_stable(place.root, PATH, spool)
    if isinstance(outcome, Spooled):
        with outcome, outcome.open() as stream:
            assert b"outside" not in stream.read(), "a file outside of the folder was read"
    bait = place.bait.stat().st_ino
    for listing in scan(place.root, NothingKnown(), RULES):
        assert bait not in {found.stamp.ino for found in listing.changed}, "a file outside was listed"


def _swap(place: Place, chance: random.Random, over: threading.Event) -> None:
    """Links take the place of the file and of its folder, and give it back, each by one rename."""
    sub, link, hidden = place.file.parent, place.root / ".link", place.root / ".hidden"
    while not over.is_set():
        if chance.random() < 0.5:
            link.symlink_to(place.outside)
            sub.rename(hidden)
            link.rename(sub)
            sub.unlink()
            hidden.rename(sub)
        else:
            real = sub / ".real"
            os.link(place.file, real)
            link.symlink_to(place.bait)
            link.rename(place.file)
            real.rename(place.file)


EXERCISES: dict[str, Exercise] = {"races-swap-while-read": swap_while_read}
