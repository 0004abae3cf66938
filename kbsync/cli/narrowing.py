"""`--path`, `--type` and `--after` as a mirror takes them, and which of them no document matches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from kbsync.cli.choosing import look_at
from kbsync.cli.locating import Selector, selector
from kbsync.config.model import MirrorConfig
from kbsync.contract.searching import Query
from kbsync.core.model import Status
from kbsync.core.printable import printable
from kbsync.installation import Installation

if TYPE_CHECKING:
    from kbsync.state.store import Tx


def anchored(mirror: MirrorConfig, query: Query) -> Query:
    """The query with a `--path` that is absolute, or begins with `./`, as seen from the mirror's root.

    `./` is the working directory, where that is in the mirror, and else the root.
    """
    typed = query.path
    if typed is None or not typed.startswith(("/", "./")):
        return query
    place = os.path.abspath(typed)  # noqa: PTH100 (a pattern is no path that could be followed)
    for root in (os.path.realpath(mirror.folder), os.path.abspath(mirror.folder)):  # noqa: PTH100
        if place == root:
            return replace(query, path=None)
        if place.startswith(root.rstrip("/") + "/"):
            end = "/" if typed.endswith("/") else ""
            return replace(query, path=place.removeprefix(root.rstrip("/")) + end)
    return replace(query, path=typed.removeprefix("."))


def unmatched(installation: Installation, query: Query) -> list[str]:
    """Those of the options that no document of any mirror matches, as they were typed."""
    state = look_at(installation)
    if state is None:
        return []
    with closing(state):
        return [
            option
            for option, alone in _each_alone(query)
            if not any(
                state.read(lambda tx: _is_matched(tx, mirror, selector(anchored(mirror, alone))))  # noqa: B023
                for mirror in installation.mirrors
            )
        ]


def _each_alone(query: Query) -> Iterator[tuple[str, Query]]:
    """Each option with a query that has no other."""
    if query.path is not None:
        yield f"--path {printable(query.path)}", Query("", path=query.path)
    for each in query.types:
        yield f"--type {printable(each)}", Query("", types=(each,))
    if query.after is not None:
        from kbsync.cli.finding import timestamp

        yield f"--after {timestamp(query.after)}", Query("", after=query.after)


def _is_matched(tx: Tx, mirror: MirrorConfig, selects: Selector) -> bool:
    record = tx.mirrors.named(mirror.name)
    return record is not None and any(
        entry.status is not Status.SKIPPED and selects(entry.path, entry.stamp.mtime_ns / 1e9)
        for entry in tx.entries.shown(record.id)
    )
