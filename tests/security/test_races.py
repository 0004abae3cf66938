"""Nothing outside of the folder is read, whatever is put in the place of a file or folder, and whenever."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kbsync.core.model import FileKind, Limits
from kbsync.core.selection import Rules
from kbsync.source.look import RulesUnknown, look, rules_at
from kbsync.source.read import Spooled, StableDigest, copy_growing, copy_stable, digest
from kbsync.source.scan import Scan
from tests.security.swapping import SECRET, SWAPS, SwappedFolder, swapped_at
from tests.source.folders import Tree

PATH = "sub/file.txt"
RULES = Rules(("*.txt",), (), Limits())


def _digest(place: SwappedFolder, spool: Path) -> object:
    seen = look(place.root, PATH)
    return digest(place.root, PATH, seen.stamp) if seen.stamp else None


def _take(place: SwappedFolder, spool: Path) -> object:
    return copy_stable(place.root, PATH, spool)


def _forced(place: SwappedFolder, spool: Path) -> object:
    return copy_growing(place.root, PATH, spool, pause=lambda seconds: None)


def _scanned(place: SwappedFolder, spool: Path) -> object:
    return [
        (found.name, found.stamp) for listing in Scan(place.root, Tree(), RULES) for found in listing.changed
    ]


def _ruled(place: SwappedFolder, spool: Path) -> object:
    try:
        rules, _ = rules_at(place.root, RULES, "sub")
    except (OSError, RulesUnknown):
        return None
    return rules.version


READINGS: dict[str, Callable[[SwappedFolder, Path], object]] = {
    "digest": _digest,
    "take": _take,
    "forced take": _forced,
    "scan": _scanned,
    "rules": _ruled,
}


def tells(outcome: object, place: SwappedFolder) -> bool:
    """Whether anything of the file outside, or of its stat, is in what a reading gave."""
    match outcome:
        case Spooled():
            with outcome, outcome.open() as stream:
                return b"outside" in stream.read()
        case StableDigest():
            return outcome.digest == hashlib.sha256(SECRET).hexdigest()
        case list():
            return any(stamp.ino == place.bait.stat().st_ino for _, stamp in outcome)
        case str():
            return outcome == RULES.below("sub", "file.txt\n").version
    return False


@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("reading", READINGS)
def test_a_swap_between_any_two_system_calls_shows_nothing_from_outside(tmp_path, reading, swap):
    place, spool = SwappedFolder(tmp_path), tmp_path / "spool"
    spool.mkdir()
    held = len(os.listdir("/proc/self/fd"))
    for number in itertools.count(1):
        place.lay()
        reached, outcome = swapped_at(
            number, lambda: SWAPS[swap](place), lambda: READINGS[reading](place, spool)
        )
        assert not tells(outcome, place), (number, outcome)
        if isinstance(outcome, Spooled):
            outcome.close()
        if not reached:
            break
    # The shortest reading, that of the rules, makes four calls: it opens two folders and looks for an ignore
    # file in each. Fewer would mean that a call is not among those that are watched.
    assert number > 4
    assert len(os.listdir("/proc/self/fd")) == held
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["../outside/file.txt", "sub/../../outside/file.txt", "..", "/etc/passwd", "sub/./file.txt/.."]
)
def test_a_path_that_leads_up_is_not_read(tmp_path, path):
    place = SwappedFolder(tmp_path)
    place.lay()
    assert not isinstance(copy_stable(place.root, path, tmp_path), Spooled)
    assert look(place.root, path).kind is not FileKind.FILE


def test_a_lay_that_is_never_swapped_is_read(tmp_path):
    """Without this the test above could pass by reading nothing at all."""
    place = SwappedFolder(tmp_path)
    place.lay()
    with copy_stable(place.root, PATH, tmp_path) as spooled, spooled.open() as stream:
        assert stream.read() == b"x" * len(SECRET)
    assert [name for name, _ in _scanned(place, tmp_path)] == ["file.txt"]
