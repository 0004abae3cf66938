"""Makes changes in a transaction: puts, renames or deletes a document with its passages, words and
vectors.
"""

from __future__ import annotations

import array
import hashlib
import struct
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from kbsync.dataclass import dataclass
from kbsync.index.document import Chunk, Entry
from kbsync.index.embed import NUMBER_BYTES, VectorsLackingError
from kbsync.index.errors import dimensions_changed
from kbsync.index.postgres.connections import Connection
from kbsync.index.weights import FIELDS
from kbsync.index.words import TOKENISER, Tokeniser, naming_text, words, words_and_forms

UNIT = 0.5
"""The weight of one unit of `counts`: half a word in a text."""

_COUNTED = [round(field / UNIT) for field in FIELDS[1:]]  # names have no passage


@dataclass(frozen=True, slots=True)
class _Passage:
    """A row of `passage`, without its text."""

    id: int
    place: int
    page: int | None
    line: int | None


@dataclass(frozen=True, slots=True)
class _Document:
    """A row of `document`. `is_earlier`: whether an earlier attempt at the same upload left it behind."""

    id: int
    content: int
    tokeniser: int
    passages: int
    words: int
    is_earlier: bool


WHOLE = """(
  d.passages = (
    SELECT count(*) FROM passage p JOIN words w ON w.passage = p.id JOIN vector v ON v.passage = p.id
    WHERE p.content = d.content))"""
"""Condition on a row `d` of `document`: all its passages are present."""

REVISION = "(extract(epoch FROM seen) * 1000000)::bigint"
"""The revision of a row of `owner`: the time of the owner's last change, in µs since 1970."""

NEXT_SEEN = "greatest(clock_timestamp(), seen + interval '1 microsecond')"
"""The time of a change. It never decreases, even if the server's clock is set back."""


class Writing:
    """The changes of one owner in one transaction. Call `count` last."""

    def __init__(self, connection: Connection, owner: int, state: UUID | None) -> None:
        """Set up for one owner, whose row is already locked. `state`: the owner's token."""
        self._connection, self._owner, self._state = connection, owner, state
        self._documents, self._passages, self._words = 0, 0, 0

    def put(self, entry: Entry, model: str, vectors: dict[str, bytes]) -> int:
        """Store a document and make it searchable, in place of the one it replaces. Return its id.

        Raises `VectorsLackingError`.
        """
        label = bind(entry.path)
        old_documents, earlier = self._find_old(entry, label)
        content, reusable = None, dict[bytes, list[_Passage]]()
        if old_documents:
            content = old_documents[0].content
            # Passages with older words don't match current ones, so they are stored again.
            if old_documents[0].tokeniser == TOKENISER:
                # Only searchable passages, in reverse order, so that `pop` takes the first of several equal
                # ones.
                rows = self._connection.execute(
                    "SELECT digest, p.id, place, page, line FROM passage p"
                    " JOIN words w ON w.passage = p.id JOIN vector v ON v.passage = p.id"
                    " WHERE content = %s ORDER BY place DESC",
                    (content,),
                )
                for digest, *row in rows:
                    reusable.setdefault(digest, []).append(_Passage(*row))
        else:
            [(content,)] = self._connection.execute("SELECT nextval('content')")
        fresh, moved = list[tuple[int, bytes, Chunk]](), list[tuple[_Passage, int, Chunk]]()
        stay = set[int]()
        for position, chunk in enumerate(entry.chunks):
            digest = _digest(chunk, model)
            if same := reusable.get(digest):
                passage = same.pop()
                stay.add(passage.id)
                if (passage.place, passage.page, passage.line) != (position, chunk.page, chunk.line):
                    moved.append((passage, position, chunk))
            else:
                fresh.append((position, digest, chunk))
        if moved:
            self._connection.execute(
                "UPDATE passage p SET place = m.place, page = m.page, line = m.line FROM"
                " unnest(%s::bigint[], %s::integer[], %s::integer[], %s::integer[]) m(id, place, page, line)"
                " WHERE p.id = m.id",
                (
                    [passage.id for passage, _, _ in moved],
                    [position for _, position, _ in moved],
                    [chunk.page for _, _, chunk in moved],
                    [chunk.line for _, _, chunk in moved],
                ),
            )
        # Copy existing vectors before deleting the passages that they belong to.
        stay.update(self._insert(content, fresh, model, vectors))
        self._connection.execute(
            "DELETE FROM passage WHERE content = %s AND id <> ALL(%s::bigint[])", (content, list(stay))
        )
        return self._show(entry, content, earlier, old_documents, label)

    def delete(self, documents: Sequence[int]) -> None:
        """Delete these documents if they exist and are ours, along with everything that belongs to them."""
        deleted_counts = self._connection.execute(
            "DELETE FROM document WHERE owner = %s AND id = ANY(%s::bigint[]) RETURNING passages, words",
            (self._owner, documents),
        ).fetchall()
        for passages, count in deleted_counts:
            self._add(-1, -passages, -count)

    def rename(self, document: int, path: str, name: str, modified: float) -> bool:
        """Change a document's path, name and time, along with the words of its name.

        Return whether the document exists and is ours.
        """
        self._free(bind(path), document)
        row = self._connection.execute(
            f"SELECT {_REWORDED} FROM document WHERE owner = %s AND id = %s",  # noqa: S608
            (self._owner, document),
        ).fetchone()
        if row is None:
            return False
        if row[-1] < TOKENISER:
            self._reword(*row)
        self._connection.execute(
            "UPDATE document SET path = %s, name = %s, shown = %s, modified = %s, state = %s,"
            " is_current = true, terms = %s WHERE owner = %s AND id = %s",
            (
                *(bind(path), bind(name), _readable_path(path), modified, self._state),
                *(_terms_of_name(row[2], row[3], path), self._owner, document),
            ),
        )
        return True

    def reword(self) -> bool:
        """Update the outdated words of some documents, which have about `_REWORDED_TOGETHER` passages in
        total.

        The passages' texts and vectors stay the same. Return whether any document had outdated words.
        """
        stale = self._connection.execute(
            f"SELECT {_REWORDED} FROM document WHERE owner = %s AND tokeniser < %s"  # noqa: S608
            " ORDER BY tokeniser LIMIT %s",
            (self._owner, TOKENISER, _REWORDED_TOGETHER),
        ).fetchall()
        passages = 0
        for row in stale:
            passages += self._reword(*row)
            if passages >= _REWORDED_TOGETHER:
                break
        return bool(stale)

    def _reword(
        self,
        document: int,
        content: int,
        title: str | None,
        tags: list[str],
        path: bytes,
        before: int,
        version: int,
    ) -> int:
        """Replace a document's words with current ones. Return the number of its passages. `before`: its
        earlier number of words, from this version.
        """
        passages = self._connection.execute(
            "SELECT id, headings, text FROM passage WHERE content = %s", (content,)
        ).fetchall()
        texts = {number: "\n".join([*headings, text]) for number, headings, text in passages}
        changed = {number for number, text in texts.items() if words(text, version) != words(text)}
        self._connection.execute("DELETE FROM words WHERE passage = ANY(%s::bigint[])", (list(changed),))
        self._add_words(passage for passage in passages if passage[0] in changed)
        count = self._count_words(content)
        self._connection.execute(
            "UPDATE document SET tokeniser = %s, words = %s, terms = %s WHERE owner = %s AND id = %s",
            (TOKENISER, count, _terms_of_name(title, tags, unbind(path)), self._owner, document),
        )
        self._add(0, 0, count - before)
        return len(passages)

    def count(self) -> int:
        """Update the owner's counts of documents, passages and words, which BM25 and `check` need.

        Return the owner's new revision.
        """
        cursor = self._connection.execute(
            "UPDATE owner SET documents = documents + %s, passages = passages + %s, words = words + %s,"  # noqa: S608
            f" seen = {NEXT_SEEN} WHERE id = %s RETURNING {REVISION}",
            (self._documents, self._passages, self._words, self._owner),
        )
        [revision] = cursor.fetchone() or (0,)
        return int(revision)

    def _add(self, documents: int, passages: int, words: int) -> None:
        self._documents += documents
        self._passages += passages
        self._words += words

    # -- documents

    def _find_old(self, entry: Entry, label: bytes) -> tuple[list[_Document], int | None]:
        """Return the documents that a put replaces, and the id of the one left by an earlier attempt, if any.

        A put replaces the document left by an earlier attempt at the same upload, and the document specified
        in `entry.replaces`. The first of them provides the passages to keep. Other documents at the same path
        are handled by `_free`.
        """
        rows = [
            _Document(*columns)
            for columns in self._connection.execute(
                "SELECT id, content, tokeniser, passages, words,"
                # The upload id alone proves nothing, because a new state may reuse the ids. A document of
                # a former state keeps its place and loses the upload id.
                " coalesce(upload_id = %s AND digest = %s AND label = %s, false)"
                " FROM document WHERE owner = %s AND (id = %s OR upload_id = %s)",
                (entry.upload_id, entry.digest, label, self._owner, entry.replaces, entry.upload_id),
            )
        ]
        old_documents = [row for row in rows if row.is_earlier or row.id == entry.replaces]
        old_documents.sort(key=lambda row: not row.is_earlier)
        self._free(label, *(row.id for row in old_documents))
        return old_documents, next((row.id for row in old_documents if row.is_earlier), None)

    def _free(self, path: bytes, *but: int) -> None:
        """Free this path if documents other than those in `but` still have it.

        Documents that aren't in the current state, or that have lost passages, are deleted, because nothing
        else would ever delete them (promise 3). A document in the state stays searchable until the state
        renames or deletes it.
        """
        occupants = self._connection.execute(
            f"SELECT id, state IS NOT DISTINCT FROM %s AND {WHOLE} FROM document d"  # noqa: S608
            " WHERE owner = %s AND sha256(path) = sha256(%s) AND is_current AND id <> ALL(%s::bigint[])",
            (self._state, self._owner, path, list(but)),
        ).fetchall()
        self.delete([number for number, is_known in occupants if not is_known])
        self._connection.execute(
            "UPDATE document SET is_current = false WHERE owner = %s AND id = ANY(%s::bigint[])",
            (self._owner, [number for number, is_known in occupants if is_known]),
        )

    # -- passages

    def _insert(
        self,
        content: int,
        fresh: Sequence[tuple[int, bytes, Chunk]],
        model: str,
        vectors: dict[str, bytes],
    ) -> list[int]:
        """Insert passages with their words and vectors. Return their ids. Raises `VectorsLackingError`."""
        if not fresh:
            return []
        ids = [
            number
            for (number,) in self._connection.execute(
                "SELECT nextval('passage_id_seq') FROM generate_series(1, %s)", (len(fresh),)
            )
        ]
        chunks = {number: chunk for number, (_, _, chunk) in zip(ids, fresh, strict=True)}
        columns = "id, content, place, digest, text, headings, page, line"
        types = ("int8", "int8", "int4", "bytea", "text", "text[]", "int4", "int4")
        rows = (
            (number, content, position, digest, clean(c.text), list(map(clean, c.headings)), c.page, c.line)
            for number, (position, digest, c) in zip(ids, fresh, strict=True)
        )
        self._copy(f"passage ({columns})", types, rows)
        self._add_vectors(chunks, model, vectors)
        self._add_words([(number, chunk.headings, chunk.text) for number, chunk in chunks.items()])
        return ids

    def _show(
        self,
        entry: Entry,
        content: int,
        earlier: int | None,
        old_documents: Sequence[_Document],
        label: bytes,
    ) -> int:
        """Make the document searchable: overwrite the first of `old_documents`, and delete the rest. Return
        the document's id.
        """
        self.delete([document.id for document in old_documents[1:]])
        self._connection.execute(
            "UPDATE document SET upload_id = NULL WHERE owner = %s AND upload_id = %s",
            (self._owner, entry.upload_id),
        )
        words = self._count_words(content)
        values = (
            *(
                self._owner,
                content,
                entry.upload_id,
                label,
                label,
                bind(entry.name),
                _readable_path(entry.path),
            ),
            *(entry.digest, entry.size, entry.recipe, entry.title and clean(entry.title)),
            *(list(map(clean, entry.tags)), _terms_of_name(entry.title, entry.tags, entry.path)),
            *(TOKENISER, entry.modified, time.time()),
            *(len(entry.chunks), words, self._state, True),
        )
        # No id is reused, so a deleted document's id never names another document (promise 6). In a restored
        # base the sequence is restored too, but not the clock.
        number = f"coalesce(%s, {_NEW_ID})"
        blanks = ", ".join(["%s"] * len(values))
        if old_documents:
            # The remaining passages belong to this row, so deleting it would delete them.
            self._add(0, len(entry.chunks) - old_documents[0].passages, words - old_documents[0].words)
            [(document_id,)] = self._connection.execute(
                f"UPDATE document SET ({_COLUMNS}) = ({number}, {blanks}) WHERE id = %s RETURNING id",  # noqa: S608
                (earlier, *values, old_documents[0].id),
            )
        else:
            self._add(1, len(entry.chunks), words)
            [(document_id,)] = self._connection.execute(
                f"INSERT INTO document ({_COLUMNS}) VALUES ({number}, {blanks}) RETURNING id",  # noqa: S608
                (earlier, *values),
            )
        return int(document_id)

    # -- words

    def _add_words(self, passages: Iterable[tuple[int, Sequence[str], str]]) -> None:
        """Add the words of passages, given as (id, headings, text)."""
        tokeniser = Tokeniser()

        def rows() -> Iterator[tuple[int, int, int, list[int], bytes]]:
            for number, headings, text in passages:
                above, forms_above = words_and_forms("\n".join(headings))
                body = " ".join([*words_and_forms(text), forms_above])
                fields = tokeniser.tokens(above), tokeniser.tokens(body)
                counts = dict[int, int]()
                for field_words, worth in zip(fields, _COUNTED, strict=True):
                    for word in field_words:
                        term = term_of(word)
                        counts[term] = counts.get(term, 0) + worth
                length = sum(map(len, fields))
                terms = sorted(counts)
                yield number, self._owner, length, terms, bytes(min(255, counts[term]) for term in terms)

        types = ("int8", "int4", "int4", "int4[]", "bytea")
        self._copy("words (passage, owner, length, terms, counts)", types, rows())

    def _count_words(self, content: int) -> int:
        [(words,)] = self._connection.execute(
            "SELECT coalesce(sum(length), 0)::bigint FROM passage p JOIN words w ON w.passage = p.id"
            " WHERE content = %s",
            (content,),
        )
        return int(words)

    # -- vectors

    def _add_vectors(self, chunks: Mapping[int, Chunk], model: str, vectors: dict[str, bytes]) -> None:
        """Add a vector for each passage, either a new one or the vector of another passage with the same
        text.
        """
        new_vectors = {number: vectors[chunk.key] for number, chunk in chunks.items() if chunk.key in vectors}
        dimensions = len(next(iter(new_vectors.values()))) // NUMBER_BYTES if new_vectors else None
        model_id = self._model(model, dimensions)
        if shared := {number: chunk for number, chunk in chunks.items() if number not in new_vectors}:
            copied = self._connection.execute(
                "INSERT INTO vector SELECT s.passage, %s, %s, s.key, v.embedding"
                " FROM unnest(%s::bigint[], %s::bytea[]) s(passage, key) CROSS JOIN LATERAL"
                " (SELECT embedding FROM vector WHERE model = %s AND key = s.key LIMIT 1) v"
                " RETURNING passage",
                (
                    self._owner,
                    model_id,
                    list(shared),
                    [bytes.fromhex(c.key) for c in shared.values()],
                    model_id,
                ),
            ).fetchall()
            copied_ids = {number for (number,) in copied}
            if unmade := [chunk for number, chunk in shared.items() if number not in copied_ids]:
                raise VectorsLackingError(unmade, vectors)
        with self._connection.cursor().copy("COPY vector FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(_BINARY_HEAD)
            for number, vector in new_vectors.items():
                key = bytes.fromhex(chunks[number].key)
                ints = struct.pack(">hiqiiii", 5, 8, number, 4, self._owner, 4, model_id)
                numbers = array.array("H", vector)  # float16, which pgvector's `halfvec` has as well
                if sys.byteorder == "little":
                    numbers.byteswap()
                wire = struct.pack(">hh", len(numbers), 0) + numbers.tobytes()
                copy.write(ints + struct.pack(">i", len(key)) + key + struct.pack(">i", len(wire)) + wire)
            copy.write(_BINARY_END)

    def _model(self, name: str, dimensions: int | None) -> int:
        """Return the model with this name, creating it if it is new.

        Raises `Halted` if its earlier vectors have a different length.
        """
        find = "SELECT id, dimensions FROM model WHERE name = %s"
        row = self._connection.execute(find, (name,)).fetchone()
        if row is None and dimensions is None:
            return _NO_MODEL
        if row is None:
            insert = "INSERT INTO model (name, dimensions) VALUES (%s, %s) ON CONFLICT DO NOTHING"
            self._connection.execute(insert, (name, dimensions))
            [row] = self._connection.execute(find, (name,))
        if dimensions not in (None, row[1]):
            raise dimensions_changed(name, row[1], dimensions)
        return int(row[0])

    def _copy(self, into: str, types: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        with self._connection.cursor().copy(f"COPY {into} FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)


_COLUMNS = (
    "id, owner, content, upload_id, label, path, name, shown, digest, size, recipe, title, tags, terms,"
    " tokeniser, modified, created, passages, words, state, is_current"
)
_NEW_ID = (
    "((extract(epoch FROM clock_timestamp()) * 1e6)::bigint << 10) + mod(nextval('document_id_seq'), 1024)"
)
_REWORDED = "id, content, title, tags, path, words, tokeniser"
_REWORDED_TOGETHER = 512
_NO_MODEL = 0
_BINARY_HEAD, _BINARY_END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"


def term_of(word: str) -> int:
    """Return a word's number in the index: a signed 32-bit hash of the word, because no text may outlive its
    document.
    """
    number = zlib.crc32(word.encode())
    return number - 2**32 if number >= 2**31 else number


def _terms_of_name(title: str | None, tags: Sequence[str], path: str) -> list[int]:
    """Return the words of a document's name as stored in the index."""
    return sorted(set(map(term_of, Tokeniser().words(naming_text(title, tags, path)))))


def bind(text: str) -> bytes:
    """Return a path or name as the database stores it. Both may contain bytes that aren't UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def unbind(value: bytes) -> str:
    """Return the inverse of `bind`."""
    return value.decode("utf-8", "surrogateescape")


def _readable_path(path: str) -> str:
    return bind(path).decode("utf-8", "replace")


def clean(text: str) -> str:
    """Return `text` with NUL characters, which PostgreSQL doesn't accept, replaced by U+FFFD."""
    return text.replace("\0", "\ufffd")


def _digest(chunk: Chunk, model: str) -> bytes:
    """Return a digest that is the same for all chunks that can share a row of `passage`."""
    parts = (model, chunk.key, *chunk.headings, "", chunk.text)
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()
