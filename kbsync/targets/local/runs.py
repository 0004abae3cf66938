"""Which chunks are a document's: runs of rows of `chunk` with numbers that follow each other.

A row of `chunk` never says whose it is, so a new version of a document takes over the rows of the chunks
that it still has, with all their words and vectors, by a new list of runs. Chunks of a run without a
document are found by nobody: they are being put in, or are to be taken out.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import apsw

from kbsync.targets.local.pieces import Chunk


@dataclass(frozen=True, slots=True)
class Run:
    """A row of `run`: chunks `first`, `first + 1`, …; their lines and pages are off by `lines` and `pages`.

    `named` is the name of the document as the full-text index has it with these chunks.
    """

    first: int
    chunks: int
    lines: int
    pages: int
    named: str
    tokeniser: int

    @property
    def own(self) -> tuple[int, int]:
        """The first and the last of its chunks."""
        return self.first, self.first + self.chunks - 1


@dataclass(frozen=True, slots=True)
class Kept:
    """Chunks that a document takes over, with what is to be added to their lines and pages."""

    first: int
    chunks: int
    lines: int
    pages: int


@dataclass(frozen=True, slots=True)
class Fresh:
    """Chunks that a document has and the one it replaces has not."""

    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class Copied:
    """Chunks of the document that have to be put in once more, under another name."""

    first: int
    chunks: int
    lines: int
    pages: int


Part = Kept | Fresh | Copied


_AT_ONCE = 4_096
"""Chunks that are read in one turn: some hundredths of a second."""

_COLUMNS = "first, chunks, lines, pages, named, tokeniser"


def runs_of(connection: apsw.Connection, document: int) -> list[Run]:
    """The runs of a document in order."""
    query = f"SELECT {_COLUMNS} FROM run WHERE document = ? ORDER BY place"  # noqa: S608
    return [Run(*row) for row in connection.execute(query, (document,))]


def ownerless(connection: apsw.Connection) -> list[Run]:
    """The runs that belong to no document."""
    query = f"SELECT {_COLUMNS} FROM run WHERE document IS NULL"  # noqa: S608
    return [Run(*row) for row in connection.execute(query)]


def nobodys(connection: apsw.Connection, first: int) -> Run | None:
    """The run that begins with that chunk, if it belongs to no document."""
    query = f"SELECT {_COLUMNS} FROM run WHERE first = ? AND document IS NULL"  # noqa: S608
    row = connection.execute(query, (first,)).get
    return Run(*row) if row else None


def add(connection: apsw.Connection, run: Run, document: int | None = None, place: int | None = None) -> None:
    """Insert a run."""
    connection.execute(
        "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (run.first, run.chunks, document, place, run.lines, run.pages, run.named, run.tokeniser),
    )


def own(connection: apsw.Connection, first: int, document: int, place: int) -> None:
    """Give a run its document."""
    connection.execute("UPDATE run SET document = ?, place = ? WHERE first = ?", (document, place, first))


def shorten(connection: apsw.Connection, run: Run, chunks: int) -> None:
    """Leave the first `chunks` of a run; without any the run goes too."""
    connection.execute("DELETE FROM run WHERE first = ? AND ? = 0", (run.first, chunks))
    connection.execute("UPDATE run SET chunks = ? WHERE first = ?", (chunks, run.first))


def disown(connection: apsw.Connection, old: Sequence[Run], parts: Iterable[Part]) -> list[Run]:
    """Take the place of `old` from them; the runs of those of their chunks that no part keeps."""
    kept = sorted((part.first, part.first + part.chunks) for part in parts if isinstance(part, Kept))
    left = list[Run]()
    for run in old:
        connection.execute("DELETE FROM run WHERE first = ?", (run.first,))
        left += [replace(run, first=start, chunks=stop - start) for start, stop in _gaps(run, kept)]
    for run in left:
        add(connection, run)
    return left


def _gaps(run: Run, kept: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The stretches (first, end) of a run that are outside of `kept`, which is in order."""
    start, end = run.first, run.first + run.chunks
    reaching_in = max(0, bisect.bisect_left(kept, (start, 0)) - 1)  # what is kept may span several runs
    for first, stop in itertools.takewhile(lambda each: each[0] < end, kept[reaching_in:]):
        if start < first:
            yield start, first
        start = max(start, stop)
    if start < end:
        yield start, end


def compared(
    connection: apsw.Connection,
    turns: AbstractContextManager[None],
    model: str,
    old: Iterable[Run],
    chunks: Sequence[Chunk],
) -> list[Part]:
    """`chunks` as what can be taken over from `old`, whose vectors are of `model`, and what is fresh.

    The connection is used only inside of `turns`, for a short time each.
    """
    pool = _Pool()
    for run in old:
        for at in range(run.first, run.first + run.chunks, _AT_ONCE):
            with turns:
                last = min(at + _AT_ONCE - 1, run.own[1])
                rows: list[Any] = connection.execute(_WITH_KEYS, (model, at, last)).fetchall()
            for chunk, key, headings, text, line, page in rows:
                pool.put(chunk, _mark(key.hex(), headings, text, line, page), line or 0, page or 0)
    return list(_gathered(pool.taken(each) for each in chunks)) if pool else _all_fresh(chunks)


def _all_fresh(chunks: Sequence[Chunk]) -> list[Part]:
    """As most documents come."""
    return [Fresh(tuple(chunks))] if chunks else []


class _Pool:
    """Chunks of the old version, each of which can be taken once."""

    def __init__(self) -> None:
        self._places = dict[int, tuple[int, int]]()
        self._alike = dict[bytes, dict[int, None]]()
        self._following = 0

    def __bool__(self) -> bool:
        """There are any."""
        return bool(self._places)

    def put(self, chunk: int, mark: bytes, line: int, page: int) -> None:
        """One more."""
        self._places[chunk] = (line, page)
        self._alike.setdefault(mark, {})[chunk] = None

    def taken(self, wanted: Chunk) -> Kept | Chunk:
        """One like `wanted`, the one that follows the last if it is; `wanted` itself where there is none."""
        alike = self._alike.get(
            _mark(wanted.key, dumped(wanted.headings), wanted.text, wanted.line, wanted.page)
        )
        if not alike:
            return wanted
        chunk = self._following if self._following in alike else next(iter(alike))
        del alike[chunk]
        self._following = chunk + 1
        line, page = self._places[chunk]
        return Kept(chunk, 1, (wanted.line or 0) - line, (wanted.page or 0) - page)


def _gathered(pieces: Iterable[Kept | Chunk]) -> Iterator[Part]:
    """Neighbours in one part."""
    for is_fresh, group in itertools.groupby(pieces, lambda each: isinstance(each, Chunk)):
        if is_fresh:
            yield Fresh(tuple(each for each in group if isinstance(each, Chunk)))
        else:
            yield from _joined(each for each in group if isinstance(each, Kept))


def _joined(pieces: Iterable[Kept]) -> Iterator[Kept]:
    """Chunks that follow each other and are off by as much, in one part."""
    for _, group in itertools.groupby(
        enumerate(pieces), lambda item: (item[1].first - item[0], item[1].lines, item[1].pages)
    ):
        members = [each for _, each in group]
        yield replace(members[0], chunks=len(members))


_ENCODER = json.JSONEncoder(ensure_ascii=False)
"""One for all: `json.dumps` would make another one for each call."""


def dumped(texts: Sequence[str]) -> str:
    """A list of texts as JSON, readable as it stands."""
    return _ENCODER.encode(texts)


def _mark(key: str, headings: str, text: str, line: int | None, page: int | None) -> bytes:
    """What two chunks have in common that can share a row."""
    parts = (key, headings, str(line is None), str(page is None), text)
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()


_WITH_KEYS = """
SELECT chunk.id, slot.key, headings, text, line, page
  FROM chunk CROSS JOIN slot ON slot.id = chunk.slot CROSS JOIN model ON model.id = slot.model
  WHERE model.name = ? AND chunk.id BETWEEN ? AND ?
"""
