"""Files in disks that are mounted below the folder: while a disk is away, nothing in it is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from kbsync.engine.terms import Terms
from kbsync.source.looker import Look, look, look_in_mounts
from kbsync.state.entries import Entry
from kbsync.state.store import Store, Tx


async def heed_mounts(
    store: Store, terms: Terms, looked: Sequence[tuple[str, Look]]
) -> list[tuple[str, Look]]:
    """The same looks; those that found nothing where a disk used to be mounted are taken once more."""
    missed = [path for path, seen in looked if seen.lacks_file]
    mounts = await store.read(partial(_mounts, terms, missed)) if missed else {}
    anew = await asyncio.to_thread(_look_again, terms, mounts) if mounts else {}
    return [(path, anew.get(path, seen)) for path, seen in looked]


def former_files(
    read: Callable[[Callable[[Tx], Any]], Any], terms: Terms, ino: int, digest: str
) -> list[Entry]:
    """Stored files with this inode and these bytes that are surely not at their places any more. Blocks."""
    found: list[Entry] = read(lambda tx: tx.entries.with_ino(terms.mirror, ino, digest))
    mounts = read(partial(_mounts, terms, [entry.path for entry in found])) if found else {}
    return [entry for entry in found if _is_missing(terms, entry.path, mounts.get(entry.path, ()))]


def _is_missing(terms: Terms, path: str, mounts: Collection[str]) -> bool:
    seen = look_in_mounts(terms.plan.root, path, mounts) if mounts else look(terms.plan.root, path)
    return seen.lacks_file


def _mounts(terms: Terms, paths: Iterable[str], tx: Tx) -> dict[str, list[str]]:
    """Where something was mounted at or above a path, for the paths where anything was."""
    return {path: over for path in paths if (over := tx.folders.mounts_over(terms.mirror, path))}


def _look_again(terms: Terms, mounts: Mapping[str, Collection[str]]) -> dict[str, Look]:
    root, lists = terms.plan.root, terms.rules.takes_links
    return {path: look_in_mounts(root, path, over, lists=lists) for path, over in mounts.items()}
