"""What changes a document, in parts that can be put in one after the other before any of it is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

import apsw

from kbsync.errors import Rejected
from kbsync.state.connection import bind
from kbsync.targets.local import slots
from kbsync.targets.local.contents import STEP, Row
from kbsync.targets.local.pieces import Chunk
from kbsync.targets.local.rows import Entry
from kbsync.targets.local.runs import Copied, Fresh, Kept, Part, Run, compared, dumped, runs_of
from kbsync.targets.local.tokens import TOKENISER
from kbsync.targets.local.turns import Turns


class Vectors(Protocol):
    """Makes vectors of one model. `kbsync.targets.local.encoder` has the one that is used."""

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
