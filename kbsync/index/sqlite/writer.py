"""A lock that is handed on: long work done in steps lets in, after each step, whoever waits.

Which chunks are a document's: runs of rows of `chunk` with numbers that follow each other.

A row of `chunk` never says whose it is, so a new version of a document takes over the rows of the chunks
that it still has, with all their words and vectors, by a new list of runs. Chunks of a run without a
document are found by nobody: they are being put in, or are to be taken out.

Chunks into the index and out of it: their rows, their words and their vectors. Call in a transaction.

What changes a document, in parts that can be put in one after the other before any of it is shown.

The index: one folder, one writer. Every document goes in, changes and leaves in one transaction.

Several documents are committed together, with one sync of the disk; one that cannot be stored leaves the
others as they are. What a deletion takes out is overwritten:
in the tables (`secure_delete`), in the full-text index (`secure-delete`) and in the WAL (`scrub`).
"""

from __future__ import annotations

import bisect
import fcntl
import hashlib
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

import apsw

from kbsync.errors import Rejected, StateError
from kbsync.index.document import Chunk, Entry
from kbsync.index.errors import trouble_with
from kbsync.index.sqlite import vectors
from kbsync.index.sqlite import vectors as slots
from kbsync.index.sqlite.schema import FILE, INCREMENTAL, identity, open_index, set_aside
from kbsync.index.tokens import TOKENISER, words
from kbsync.permissions import make_private_folder, open_private
from kbsync.state.db import bind, empty_wal, forget_set_aside


class Turns:
    """Used with `with`. A thread that has it may take it again; one that wants it back waits its turn.

    `threading.RLock` goes to whoever asks first once it is free, which is nearly always the thread that has
    just let go of it.
    """

    def __init__(self) -> None:
        """Nobody has it."""
        self._waiting, self._held = threading.Lock(), threading.Lock()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        """Wait for it."""
        if self._owner != threading.get_ident():
            with self._waiting:  # whoever had it before stands behind the one who has this
                self._held.acquire()
            self._owner = threading.get_ident()
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of it."""
        self._depth -= 1
        if not self._depth:
            self._owner = None
            self._held.release()


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
    add(connection, run)
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
    shorten(connection, run, own[0] - first)
    vectors.release(connection, sorted({slot for *_, slot in chunks if slot is not None}), version)
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


class Vectors(Protocol):
    """Makes vectors of one model. `kbsync.index.embed.encoder` has the one that is used."""

    @property
    def model(self) -> str:
        """Names the model."""

    def of(self, chunks: Sequence[Chunk]) -> Mapping[str, bytes]:
        """The float16 bytes of each chunk's vector, by key."""


class VectorsLackingError(Exception):
    """Vectors that a change counted on went away. `make` them, and carry the change out once more.

    Not inside of a transaction: a service may be asked, and all writes would wait for its answer.
    """

    def __init__(self, make: Callable[[], None]) -> None:
        super().__init__("vectors went away")
        self.make = make


class Change(Protocol):
    """A document that comes, or becomes another. `parts` may be asked by who has not got the connection."""

    @property
    def named(self) -> str:
        """What it is found by besides its text."""

    @property
    def chunks(self) -> int:
        """How many there are to be looked at, about."""

    def runs(self) -> list[Run]:
        """Those that it takes the place of."""

    def parts(self, old: Sequence[Run]) -> list[Part]:
        """All of it in order; none of more than `STEP` chunks has to be put in."""

    def rows(self, part: Part, version: int) -> Iterator[Row]:
        """What has to be put in of a part. Call inside a transaction. Raises `VectorsLackingError`."""

    def settle(self) -> int:
        """Write the row of the document; its id. Call inside a transaction."""


class Storing:
    """A document is put, in the place of those it replaces."""

    def __init__(
        self, connection: apsw.Connection, turns: Turns, entry: Entry, vectors: Vectors, now: float
    ) -> None:
        """`vectors` makes what went away since the entry was made."""
        self._connection, self._turns = connection, turns
        self._entry, self._vectors, self._now = entry, vectors, now
        self._made = dict(entry.vectors)
        self.named = _named(entry.title, entry.tags, entry.path)
        self.chunks = len(entry.chunks)

    def runs(self) -> list[Run]:
        """Those of the document it replaces, and of an earlier try of the same upload."""
        own = self._own_earlier()
        replaced = dict.fromkeys(each for each in (self._entry.replaces, own) if each is not None)
        return [run for each in replaced for run in runs_of(self._connection, each)]

    def parts(self, old: Sequence[Run]) -> list[Part]:
        """Chunks found by the same words, with a vector of the same model, are kept."""
        same = [run for run in old if (run.named, run.tokeniser) == (self.named, TOKENISER)]
        found = compared(self._connection, self._turns, self._vectors.model, same, self._entry.chunks)
        return [piece for part in found for piece in _pieces(part)]

    def rows(self, part: Part, version: int) -> Iterator[Row]:
        """Fresh chunks, each with a slot."""
        if isinstance(part, Fresh):
            taken = self._slots(part.chunks, version)
            for each in part.chunks:
                yield Row(taken[each.key], each.text, dumped(each.headings), each.page, each.line)

    def settle(self) -> int:
        """Take out the documents whose place it takes, and insert its own."""
        entry, path, document = self._entry, bind(self._entry.path), self._own_earlier()
        if entry.replaces is not None or document is not None:
            self._connection.execute("DELETE FROM document WHERE id IN (?, ?)", (entry.replaces, document))
        self._connection.execute(
            "UPDATE document SET upload_id = NULL WHERE upload_id = ?", (entry.upload_id,)
        )
        self._connection.execute(
            "INSERT INTO document VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(document, entry.upload_id, path, path, bind(entry.name), entry.digest, entry.size),
                *(entry.recipe, entry.title, dumped(entry.tags), entry.modified, self._now),
            ),
        )
        return self._connection.last_insert_rowid()

    def _own_earlier(self) -> int | None:
        """The document an earlier try of the same upload left.

        A number alone does not prove that: with a new state file the numbers start again. A document of a
        former state with the same number keeps its place and loses the number.
        """
        row = self._connection.execute(
            "SELECT id, digest, label FROM document WHERE upload_id = ?", (self._entry.upload_id,)
        ).get
        is_own = row is not None and row[1:] == (self._entry.digest, bind(self._entry.path))
        return row[0] if is_own else None

    def _slots(self, chunks: Sequence[Chunk], version: int) -> dict[str, int]:
        """A slot for the key of every chunk."""
        keys = {each.key: bytes.fromhex(each.key) for each in chunks}
        model = slots.find_model(self._connection, self._vectors.model)
        found = slots.find_slots(self._connection, model, keys.values()) if model else {}
        absent = sorted(key for key, raw in keys.items() if raw not in found)
        if lost := [each for each in chunks if each.key in absent and each.key not in self._made]:
            raise VectorsLackingError(partial(self._make, lost))
        if absent:
            model = slots.ensure_model(
                self._connection, self._vectors.model, len(self._made[absent[0]]) // slots.NUMBER_BYTES
            )
            fresh = {keys[key]: self._made[key] for key in absent}
            found |= slots.fill(self._connection, model, fresh, version)
        return {key: found[raw] for key, raw in keys.items()}

    def _make(self, lost: Sequence[Chunk]) -> None:
        self._made.update(self._vectors.of(lost))


class Renaming:
    """A document gets another path, name and time, and is found by the words of its new name."""

    def __init__(
        self, connection: apsw.Connection, document: int, path: str, name: str, modified: float
    ) -> None:
        """Call inside a transaction. Raises `Rejected` where there is no such document."""
        self._connection, self._document = connection, document
        self._columns = (bind(path), bind(name), modified)
        row = connection.execute("SELECT title, tags FROM document WHERE id = ?", (document,)).get
        if row is None:
            raise Rejected(f"the index holds no document {document}", code="unknown-document")
        self.named = _named(row[0], row[1], path)
        self.chunks = sum(run.chunks for run in self.runs() if run.named != self.named)

    def runs(self) -> list[Run]:
        """Its own."""
        return runs_of(self._connection, self._document)

    def parts(self, old: Sequence[Run]) -> list[Part]:
        """Chunks found by other words are copied."""
        return [piece for run in old for piece in _pieces(self._part(run))]

    def rows(self, part: Part, version: int) -> Iterator[Row]:
        """The chunks that are copied."""
        del version
        if isinstance(part, Copied):
            for row in self._connection.execute(
                "SELECT slot, text, headings, page + ?, line + ? FROM chunk WHERE id BETWEEN ? AND ?",
                (part.pages, part.lines, part.first, part.first + part.chunks - 1),
            ):
                yield Row(*row)

    def settle(self) -> int:
        """Change its row."""
        self._connection.execute(
            "UPDATE document SET path = ?, name = ?, modified = ? WHERE id = ?",
            (*self._columns, self._document),
        )
        return self._document

    def _part(self, run: Run) -> Part:
        is_same = (run.named, run.tokeniser) == (self.named, TOKENISER)
        kind = Kept if is_same else Copied
        return kind(run.first, run.chunks, run.lines, run.pages)


def _pieces(part: Part) -> Iterator[Part]:
    """A part as several, none of which has more than `STEP` chunks to be put in."""
    match part:
        case Kept():
            yield part
        case Fresh(chunks):
            yield from (Fresh(chunks[at : at + STEP]) for at in range(0, len(chunks), STEP))
        case Copied(first, chunks, lines, pages):
            for at in range(0, chunks, STEP):
                yield Copied(first + at, min(STEP, chunks - at), lines, pages)


def _named(title: str | None, tags: Sequence[str] | str, path: str) -> str:
    """What a document is found by besides its text: title, tags and the stem of its file name."""
    listed = json.loads(tags) if isinstance(tags, str) else tags
    stem = path.rpartition("/")[2].rpartition(".")[0] or path.rpartition("/")[2]
    return "\n".join([title or "", *listed, stem.encode("utf-8", "replace").decode()]).strip()


LOCK = "index.lock"
T = TypeVar("T")

_UNSTORABLE = (apsw.TooBigError, apsw.ConstraintError, apsw.MismatchError, ValueError, OverflowError)
"""What SQLite and its binding raise over a value; anything else is trouble with the disk."""

_CACHE_KIB = 32_000
_SPARE_PAGES = 1_024
"""Free pages (4 MB) that are kept for what comes next, and that are given back in one step."""

_FEW = 8
"""An eighth of the chunks is too much to take the words of each out of the full-text index on its own."""

_TOGETHER = 2_048
"""Chunks of short documents that are committed together: each commit waits for the disk."""

_WAL_PAGES = 4_000  # 16 MB between checkpoints: a first index of many files syncs less often


class Index:
    """The writing side of the index in `folder`. All calls block and may come from any thread."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open or make it. Raises `StateError` where another process writes or the file cannot be used, and
        `TargetError` where the folder cannot be written.
        """
        self._folder, self._clock = folder, clock
        self._guard = Turns()
        self._lock = _locked(folder)
        try:
            self._connection = open_index(folder)
        except BaseException as error:
            os.close(self._lock)
            if isinstance(error, OSError):
                raise trouble_with(folder, error) from error
            raise
        self._connection.pragma("cache_size", -_CACHE_KIB)
        self._connection.wal_autocheckpoint(_WAL_PAGES)
        self._identity = identity(folder)
        self._is_open, self._is_closing = True, False
        self._is_merging = False
        self._staged = set[int]()
        self.uuid: str = self._connection.execute("SELECT value FROM meta WHERE key = 'uuid'").get
        self.scrub()

    @property
    def is_current(self) -> bool:
        """The folder still holds the file that is open."""
        return self._is_open and identity(self._folder) == self._identity

    def store(self, entries: Sequence[Entry], vectors: Vectors) -> list[int | Rejected]:
        """Store each document; its id, or why not. `vectors` makes what went away meanwhile.

        Small ones are committed together. A long one is put in step by step, and shown in the last; others
        get in between.
        """
        left, outcomes = list[int](), dict[int, int | Rejected]()
        made = (self._connection, self._guard)
        changes = [Storing(*made, entry, vectors, self._clock()) for entry in entries]
        order = sorted(range(len(changes)), key=lambda at: changes[at].chunks > STEP)  # short ones first
        for group in _groups(changes[at] for at in order):
            for done in self._carried_out(group, left):
                outcomes[order[len(outcomes)]] = done
        self._clear(left)
        return [outcomes[at] for at in range(len(changes))]

    def rename(self, document: int, path: str, name: str, modified: float) -> None:
        """Change path, name and time; the words of the file's stem where they differ. Raises `Rejected`."""
        left = list[int]()
        with self._open():
            change = Renaming(self._connection, document, path, name, modified)
        if change.chunks > STEP:
            self._in_steps(change, left)
        else:
            with self._transaction() as version:
                self._put(change, version, left)
                self._clear_some(left, version)
        self._clear(left)

    def delete(self, documents: Sequence[int]) -> bool:
        """Remove those that are there; False where `scrub` has yet to take the text out of the WAL."""
        with self._transaction() as version:
            left = [run.first for each in documents for run in runs_of(self._connection, each)]
            for document in documents:
                self._connection.execute("UPDATE run SET document = NULL WHERE document = ?", (document,))
                self._connection.execute("DELETE FROM document WHERE id = ?", (document,))
            self._clear_some(left, version)
        is_clear = self._clear(left)
        forget_set_aside(self._folder / FILE)
        return self.scrub() and is_clear

    def tidy(self) -> bool:
        """One step of what a change that was broken off left to be done; whether there is more to do."""
        with self._guard:
            if not self._is_open or self._is_closing:
                return False
            left = self._left()
            if not left:
                return self._merge() or self._shrink()
            with self._transaction() as version:
                self._clear_some(left, version)
            return True

    def scrub(self) -> bool:
        """Copy the WAL into the database and empty it; False where a reader or a full disk is in the way."""
        with self._guard:
            if not self._is_open:
                return True
            return empty_wal(self._connection)

    def discard(self, reason: str) -> None:
        """Close a damaged index and put its files aside; another `Index` starts anew."""
        with self._guard:
            self._connection.close()
            if self.is_current:
                set_aside(self._folder / FILE, reason)
            self._let_go()

    def stop(self) -> None:
        """Begin no further step; what is put in and not shown yet is taken out another time."""
        self._is_closing = True

    def close(self) -> None:
        """Empty the WAL and let go of file and lock, whatever the disk says; repeatable."""
        self.stop()
        with self._guard:
            if self._is_open:
                self.scrub()
                with suppress(apsw.FullError, apsw.IOError):  # the WAL stays, and is emptied another time
                    self._connection.close()
                self._let_go()

    def _let_go(self) -> None:
        """Give up the lock."""
        self._is_open, self._is_closing = False, True
        os.close(self._lock)

    @contextmanager
    def _transaction(self) -> Iterator[int]:
        """All or nothing; gives the number of this change."""
        with self._open():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection.execute(
                    "UPDATE meta SET value = value + 1 WHERE key = 'changes' RETURNING value"
                ).get
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _open(self) -> Iterator[None]:
        """The connection belongs to the caller."""
        with self._guard:
            if not self._is_open:
                raise StateError(f"{self._folder / FILE} is closed")
            yield

    def _carried_out(self, group: Sequence[Change], left: list[int]) -> list[int | Rejected]:
        """Carry out changes together, or a long one in steps."""
        try:
            if group[0].chunks > STEP:
                return [self._in_steps(each, left) for each in group]
            return self._equipped(partial(self._together, group, left))
        except (*_UNSTORABLE, Rejected):  # which one? A savepoint for each costs good batches a third more
            return [self._alone(each, left) for each in group]

    def _together(self, group: Sequence[Change], left: list[int]) -> list[int | Rejected]:
        """Carry out changes in one transaction."""
        with self._transaction() as version:
            done = [self._put(each, version, left) for each in group]
            self._clear_some(left, version)
            return list(done)

    def _equipped(self, work: Callable[[], T]) -> T:
        """Do work of one transaction; where vectors turn out to lack, again once they were made."""
        while True:
            try:
                return work()
            except VectorsLackingError as lacking:
                lacking.make()

    def _alone(self, change: Change, left: list[int]) -> int | Rejected:
        """Carry out one change of a group that failed, or leave everything as it was before it."""
        try:
            return self._in_steps(change, left)
        except Rejected as error:
            return error
        except _UNSTORABLE as error:
            return Rejected(f"it cannot be stored in the index: {error}", code="unstorable")

    def _put(self, change: Change, version: int, left: list[int]) -> int:
        """Carry out a change as a whole in the open transaction; `left` gets what is to be taken out."""
        old = change.runs()
        return self._show(change, old, change.parts(old), {}, version, left)

    def _in_steps(self, change: Change, left: list[int]) -> int:
        """Carry out a change in as many transactions as it takes; nobody sees any of it before the last."""
        while True:
            with self._open():
                old = change.runs()
            parts = change.parts(old)
            with self._ahead(change, parts, left) as ready:
                last = partial(self._last_step, change, old, parts, ready, left)
                if (document := self._equipped(last)) is not None:
                    return document

    def _last_step(
        self,
        change: Change,
        old: Sequence[Run],
        parts: Sequence[Part],
        ready: Mapping[int, int],
        left: list[int],
    ) -> int | None:
        """Put in the rest and show all of it; None where somebody has changed the document meanwhile."""
        with self._transaction() as version:
            if change.runs() != old:
                return None
            document = self._show(change, old, parts, ready, version, left)
            self._clear_some(left, version)
            return document

    @contextmanager
    def _ahead(self, change: Change, parts: Sequence[Part], left: list[int]) -> Iterator[dict[int, int]]:
        """Put in all but the last step of what has to be, a transaction for each; gives the runs by place.

        Those that get no document inside are to be taken out.
        """
        ready = dict[int, int]()
        try:
            for step in _steps(parts)[:-1]:
                if self._is_closing:
                    raise StateError(f"{self._folder / FILE} is being closed")
                ready |= self._equipped(partial(self._staged_step, change, step))
            yield ready
        finally:
            self._staged.difference_update(ready.values())
            left += ready.values()

    def _staged_step(self, change: Change, step: Iterable[tuple[int, Part]]) -> dict[int, int]:
        """Put in parts that nobody takes out while the document is on its way; the runs by place."""
        with self._guard:
            with self._transaction() as version:
                placed = self._put_in(change, step, version)
            self._staged.update(placed.values())
            return placed

    def _put_in(self, change: Change, step: Iterable[tuple[int, Part]], version: int) -> dict[int, int]:
        """Put in parts; the first chunk of each, by place."""
        return {
            place: put_in(self._connection, change.rows(part, version), change.named).first
            for place, part in step
        }

    def _show(
        self,
        change: Change,
        old: Sequence[Run],
        parts: Sequence[Part],
        ready: Mapping[int, int],
        version: int,
        left: list[int],
    ) -> int:
        """Let a document have its parts in the place of `old`; `left` gets what it has no more."""
        missing = [(place, part) for place, part in _to_put_in(parts) if place not in ready]
        firsts = {**ready, **self._put_in(change, missing, version)}
        left += [run.first for run in disown(self._connection, old, parts)]
        document = change.settle()
        for place, part in enumerate(parts):
            if isinstance(part, Kept):
                run = Run(part.first, part.chunks, part.lines, part.pages, change.named, TOKENISER)
                add(self._connection, run, document, place)
            else:
                own(self._connection, firsts[place], document, place)
        return document

    def _clear(self, left: list[int]) -> bool:
        """Take out all that is left, step by step, and give its space back; False where it has to wait."""
        while left and not self._is_closing:
            with self._transaction() as version:
                self._clear_some(left, version)
        while not self._is_closing and (self._merge() or self._shrink()):
            pass
        with self._guard:
            return not left and self._is_open and not is_marked(self._connection)

    def _clear_some(self, left: list[int], version: int) -> None:
        """One step of taking out what is left and nobody's; what is done with is gone from `left`."""
        if self._is_much(left):
            begin_marking(self._connection)
            self._is_merging = False
        most = STEP
        while left and most:
            run = None if left[-1] in self._staged else nobodys(self._connection, left[-1])
            if run is None:
                left.pop()
            else:
                most -= take_out(self._connection, run, most, version)

    def _is_much(self, left: Iterable[int]) -> bool:
        """Whether what is left to be taken out is a good part of the index."""
        found = (nobodys(self._connection, first) for first in left)
        chunks = sum(run.chunks for run in found if run is not None and run.first not in self._staged)
        if chunks <= STEP:
            return False
        return chunks * _FEW > self._connection.execute("SELECT sum(chunks) FROM run").get  # type: ignore[no-any-return]

    def _merge(self) -> bool:
        """One step of taking out words that are only marked as gone; whether there was one to do."""
        with self._guard:
            if not self._is_open or not is_marked(self._connection):
                return False
            if not self._is_merging and self._left():
                return False  # whoever takes that out does this as well
            with self._transaction():
                (merge if self._is_merging else begin_merging)(self._connection)
            self._is_merging = True
            return True

    def _left(self) -> list[int]:
        """The runs that nobody has and nobody is putting in."""
        return [run.first for run in ownerless(self._connection) if run.first not in self._staged]

    def _shrink(self) -> bool:
        """Give back one step of the space that is free, if that is much; whether some was."""
        with self._guard:
            if not self._is_open or self._connection.pragma("auto_vacuum") != INCREMENTAL:
                return False
            free = self._connection.pragma("freelist_count")
            if free <= max(_SPARE_PAGES, self._connection.pragma("page_count") // 4):
                return False
            self._connection.execute(f"PRAGMA incremental_vacuum({_SPARE_PAGES})").fetchall()
            return True


def _groups(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Short ones that are committed together; a long one alone."""
    group, chunks = list[Change](), 0
    for each in changes:
        if group and (each.chunks > STEP or chunks + each.chunks > _TOGETHER):
            yield group
            group, chunks = [], 0
        group.append(each)
        chunks += each.chunks
    if group:
        yield group


def _steps(parts: Iterable[Part]) -> list[list[tuple[int, Part]]]:
    """The parts that have to be put in, with their places, in steps."""
    steps, chunks = list[list[tuple[int, Part]]](), STEP
    for place, part in _to_put_in(parts):
        count = len(part.chunks) if isinstance(part, Fresh) else part.chunks
        if chunks + count > STEP:
            steps.append([])
            chunks = 0
        steps[-1].append((place, part))
        chunks += count
    return steps


def _to_put_in(parts: Iterable[Part]) -> Iterator[tuple[int, Part]]:
    """The parts that are not there already, with their places."""
    return ((place, part) for place, part in enumerate(parts) if not isinstance(part, Kept))


def _locked(folder: Path) -> int:
    """A descriptor that holds the lock of `folder`, which is made where it is missing."""
    path = folder / LOCK
    try:
        make_private_folder(folder)
        descriptor = open_private(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError as error:
        raise trouble_with(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StateError(f"{folder} is in use by another kbsync; end it or wait for it") from error
    return descriptor
