"""Chunks into the index and out of it: their rows, their words and their vectors. Call in a transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apsw

from kbsync.targets.local import runs, slots
from kbsync.targets.local.runs import Run
from kbsync.targets.local.tokens import TOKENISER, words

STEP = 512
"""Chunks that are put in or taken out in one transaction: at most about a second."""

_MERGED_PAGES = 1_000
"""Pages (4 KB) of the full-text index that are written in one transaction."""


@dataclass(frozen=True, slots=True)
class Row:
    """A chunk as the index has it; `headings` are JSON."""

    slot: int | None
    text: str
    headings: str
    page: int | None
    line: int | None


def put_in(connection: apsw.Connection, rows: Iterable[Row], named: str) -> Run:
    """Add chunks of a document called `named`, which nobody finds until their run gets its document."""
    first = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM chunk").get
    numbered = list(enumerate(rows, first))
    connection.executemany(
        "INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?)",
        ((at, row.slot, row.text, row.headings, row.page, row.line) for at, row in numbered),
    )
    run = Run(first, len(numbered), 0, 0, named, TOKENISER)
    connection.executemany(
        "INSERT INTO words(rowid, name, headings, body) VALUES (?, ?, ?, ?)",
        _words(run, ((at, row.headings, row.text) for at, row in numbered)),
    )
    runs.add(connection, run)
    return run


def take_out(connection: apsw.Connection, run: Run, most: int, version: int) -> int:
    """Take up to `most` chunks off the end of a run that is nobody's, with every trace; how many it were."""
    first, last = run.own
    own = (max(first, last + 1 - most), last)
    chunks: list[Any] = connection.execute(
        "SELECT id, headings, text, slot FROM chunk WHERE id BETWEEN ? AND ?", own
    ).fetchall()
    connection.executemany(
        "INSERT INTO words(words, rowid, name, headings, body) VALUES ('delete', ?, ?, ?, ?)",
        _words(run, ((at, headings, text) for at, headings, text, _ in chunks)),
    )
    connection.execute("DELETE FROM chunk WHERE id BETWEEN ? AND ?", own)
    runs.shorten(connection, run, own[0] - first)
    slots.release(connection, sorted({slot for *_, slot in chunks if slot is not None}), version)
    return own[1] - own[0] + 1


def _words(run: Run, chunks: Iterable[tuple[int, str, str]]) -> Iterator[tuple[int, str, str, str]]:
    """(rowid, name, headings, body) of chunks (rowid, headings, text), the same going in and coming out."""
    name = words(run.named, run.tokeniser)
    for at, headings, text in chunks:
        joined = "\n".join(json.loads(headings))
        yield at, name, words(joined, run.tokeniser), words(text, run.tokeniser)


def begin_marking(connection: apsw.Connection) -> None:
    """From now on words that are taken out are only marked as gone, until `merge` takes them out.

    A tenth of the work where it is many of them: each on its own rewrites most of the full-text index.
    """
    connection.execute("INSERT INTO words(words, rank) VALUES ('secure-delete', 0)")
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('marked', 1)")


def is_marked(connection: apsw.Connection) -> bool:
    """Whether words in the full-text index may be marked as gone, and there all the same."""
    return connection.execute("SELECT 1 FROM meta WHERE key = 'marked'").get is not None


def begin_merging(connection: apsw.Connection) -> None:
    """Take words out at once again, and begin to write the full-text index anew without what is marked."""
    connection.execute("INSERT INTO words(words, rank) VALUES ('secure-delete', 1), ('usermerge', 2)")
    connection.execute("INSERT INTO words(words, rank) VALUES ('merge', ?)", (-_MERGED_PAGES,))


def merge(connection: apsw.Connection) -> None:
    """One step more of that. What was marked before it began is gone once `is_marked` says so."""
    before = connection.total_changes()
    connection.execute("INSERT INTO words(words, rank) VALUES ('merge', ?)", (_MERGED_PAGES,))
    if connection.total_changes() - before < 2:  # so SQLite tells that there was nothing to do
        connection.execute("DELETE FROM meta WHERE key = 'marked'")
