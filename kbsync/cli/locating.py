"""Where the files of found documents are, for targets that keep no paths: the journal knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from kbsync.cli.choosing import look_at
from kbsync.config.model import MirrorConfig
from kbsync.contract.searching import Hit, Query
from kbsync.core.model import Upload
from kbsync.engine.located import SHOWN, Located, looked_up, once
from kbsync.errors import UsageError
from kbsync.installation import Installation
from kbsync.state.store import Tx

MOST_NAMED = 200
"""Documents that a search is limited to by their ids; beyond, what is found is selected from."""

Selector = Callable[[str, float | None], bool]
"""Whether a path and the time its file was changed (epoch seconds) are meant."""


def located(
    installation: Installation, mirror: MirrorConfig, hits: Sequence[Hit], query: Query
) -> list[Located]:
    """The hits with their paths, one for each file, in their order.

    A target that gives no paths cannot select by them either: that is done here. Documents that are none of
    ours are left out. Raises `UsageError` for a bad pattern.
    """
    told = [(hit.path, hit) for hit in hits if hit.path is not None]
    if len(told) == len(hits):
        return told
    state = look_at(installation)
    if state is None:
        return told
    try:
        found = state.read(lambda tx: looked_up(tx, mirror.name, hits))
    finally:
        state.close()
    selects = selector(query)
    return once([(path, hit) for path, hit in found if selects(path, hit.modified)])


def narrowed(installation: Installation, mirror: MirrorConfig, query: Query) -> Query:
    """The query with the ids of our documents that its path, types and date select, where they are few."""
    ids = selected(installation, mirror, query)
    return query if ids is None else replace(query, among=tuple(ids))


def selected(installation: Installation, mirror: MirrorConfig, query: Query) -> Sequence[str] | None:
    """The ids of our documents that path, types and date select; None where they are more than may be named.

    Raises `UsageError` for a bad pattern.
    """
    selects = selector(query)
    state = look_at(installation)
    if state is None:
        return ()
    try:
        ids = state.read(lambda tx: _selected(tx, mirror, selects))
    finally:
        state.close()
    return ids if len(ids) <= MOST_NAMED else None


def _selected(tx: Tx, mirror: MirrorConfig, selects: Selector) -> list[str]:
    """One more than may be named, at most."""
    record = tx.mirrors.named(mirror.name)
    ids: list[str] = []
    after = 0
    while record is not None and record.binding is not None and len(ids) <= MOST_NAMED:
        rows = tx.uploads.in_states(record.id, record.binding, SHOWN, after)
        if not rows:
            break
        after = rows[-1].id
        ids += [row.remote_id for row in rows if row.remote_id and _is_selected(tx, record.id, row, selects)]
    return ids


def _is_selected(tx: Tx, mirror: int, row: Upload, selects: Selector) -> bool:
    entry = None if row.path is None else tx.entries.get(mirror, row.path)
    if entry is None:
        return False
    return selects(entry.path, entry.stamp.mtime_ns / 1e9)


def selector(query: Query) -> Selector:
    """What the query's path, types and date select. Raises `UsageError` for a bad pattern."""
    tests = list(_tests(query))
    return lambda path, modified: all(test(path, modified) for test in tests)


def _tests(query: Query) -> Iterator[Selector]:
    if query.path is not None:
        import pathspec

        try:
            spec = pathspec.GitIgnoreSpec.from_lines([query.path])
        except ValueError as error:
            raise UsageError(f"--path {query.path!r} is not a gitignore pattern: {error}") from error
        yield lambda path, _modified: bool(spec.match_file(path))
    if query.types:
        endings = tuple(f".{each.lower().lstrip('.')}" for each in query.types)
        yield lambda path, _modified: path.lower().endswith(endings)
    if query.after is not None:
        after = query.after
        yield lambda _path, modified: modified is not None and modified >= after
