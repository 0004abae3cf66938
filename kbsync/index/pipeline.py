"""From files to entries of the index: parse, cut into chunks, make the vectors that are missing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

from kbsync.contract.target import Body, Outgoing
from kbsync.errors import Rejected, TargetError
from kbsync.index.chunk import chunk, encodable
from kbsync.index.document import Chunk, Entry, Parsed
from kbsync.index.embed.encoder import Encoder, Vectors
from kbsync.index.errors import trouble_with_scratch
from kbsync.index.read.formats import is_picture, picture_chunk

Parse = Callable[[str, Body], Parsed]

_MOST_CHARACTERS = 8_000_000  # of text in memory at one time, the last document aside

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document of a put, by its place there, and what became of it."""

    place: int
    outcome: Entry | TargetError


class Preparation:
    """Makes entries. Safe to use from several threads."""

    def __init__(
        self,
        parse: Parse,
        encoder: Encoder,
        known: Callable[[str, Sequence[str]], set[str]],
        max_bytes: int | None,
    ) -> None:
        """`known(model, keys)` are the keys that have a vector already. Larger files are refused."""
        self._parse, self._encoder, self._known, self._max_bytes = parse, encoder, known, max_bytes

    def batches(self, documents: Sequence[Outgoing]) -> Iterator[list[Prepared]]:
        """All documents in order, in batches that fit into memory."""
        numbered = enumerate(documents)
        while batch := self._batch(numbered):
            yield batch

    def _batch(self, documents: Iterable[tuple[int, Outgoing]]) -> list[Prepared]:
        """The next of them; a service makes the vectors of the first while the others are being cut."""
        batch, characters = list[Prepared](), 0
        with closing(_Vectors(self._encoder, self._known)) as vectors:
            for place, document in documents:
                outcome = self._prepare(document)
                batch.append(Prepared(place, outcome))
                if isinstance(outcome, Entry):
                    vectors.want(outcome.chunks)
                    characters += sum(_weight(each) for each in outcome.chunks)
                if characters > _MOST_CHARACTERS:
                    break
            made = vectors.made()
        return [replace(each, outcome=_equipped(each.outcome, made)) for each in batch]

    def _prepare(self, document: Outgoing) -> Entry | TargetError:
        """One document, without vectors. What is wrong with it is its own outcome."""
        try:
            return self._entry(document)
        except TargetError as error:
            return error
        except OSError as error:
            return trouble_with_scratch(error)
        except Exception as error:  # a parser's surprise is the document's outcome, not the end of the others
            told = {"event": "document.unreadable"}
            _log.exception("document could not be read: %s", document.path, extra=told)
            return Rejected(f"it could not be read ({type(error).__name__}: {error})", code="unreadable")

    def _entry(self, document: Outgoing) -> Entry:
        """Parse and cut."""
        if self._max_bytes is not None and document.body.size > self._max_bytes:
            raise Rejected(
                f"larger than max_bytes ({document.body.size} > {self._max_bytes})", code="too-large"
            )
        title, tags, chunks = self._pieces(document)
        return Entry(
            upload_id=document.upload_id,
            path=document.path,
            name=document.name,
            digest=document.digest,
            size=document.size,
            recipe=document.recipe,
            modified=document.mtime,
            title=title,
            tags=tags,
            chunks=chunks,
            vectors={},
            replaces=remote(document.replaces),
        )

    def _pieces(self, document: Outgoing) -> tuple[str | None, tuple[str, ...], tuple[Chunk, ...]]:
        """Title, tags and chunks. Raises `Rejected`."""
        if self._encoder.takes_pictures and is_picture(document.path):
            return None, (), (picture_chunk(document),)
        parsed = encodable(self._parse(document.path, document.body))
        chunks = tuple(chunk(parsed, document.path))
        if not chunks:
            raise Rejected("no text in it", code="no-text")
        return parsed.title, parsed.tags, chunks


class _Vectors:
    """Those of one batch that the index lacks. A service is asked as soon as there is a full request."""

    def __init__(self, encoder: Encoder, known: Callable[[str, Sequence[str]], set[str]]) -> None:
        self._encoder, self._known = encoder, known
        self._seen = set[str]()
        self._unsorted = dict[str, Chunk]()
        self._lacking = dict[str, Chunk]()
        self._begun = list[Future[Vectors]]()

    def want(self, chunks: Sequence[Chunk]) -> None:
        """Also those of these chunks."""
        self._unsorted.update((each.key, each) for each in chunks if each.key not in self._seen)
        self._seen.update(self._unsorted)
        if len(self._unsorted) >= self._encoder.at_once:
            self._sort()
            while len(self._lacking) >= self._encoder.at_once:
                self._begin(self._encoder.at_once)

    def made(self) -> Vectors:
        """All of them, by key. Raises `TargetError`."""
        self._sort()
        self._begin(len(self._lacking))
        return {key: vector for each in self._begun for key, vector in each.result().items()}

    def close(self) -> None:
        """Nobody wants them any more."""
        for each in self._begun:
            each.cancel()

    def _sort(self) -> None:
        if self._unsorted:
            known = self._known(self._encoder.model, list(self._unsorted))
            self._lacking.update(item for item in self._unsorted.items() if item[0] not in known)
            self._unsorted.clear()

    def _begin(self, count: int) -> None:
        if count:
            keys = list(islice(self._lacking, count))
            self._begun.append(self._encoder.begin([self._lacking.pop(key) for key in keys]))


def _weight(piece: Chunk) -> int:
    return len(piece.text) + (len(piece.picture.content) if piece.picture else 0)


def _equipped(outcome: Entry | TargetError, made: Vectors) -> Entry | TargetError:
    """An entry with those of its vectors that were made; refused with the first of its texts that is."""
    if isinstance(outcome, TargetError):
        return outcome
    own = dict[str, bytes]()
    for each in outcome.chunks:
        vector = made.get(each.key)
        if isinstance(vector, Rejected):
            return vector
        if vector is not None:
            own[each.key] = vector
    return replace(outcome, vectors=own)


def remote(identifier: str | None) -> int | None:
    """The row that a remote id names; None for what never was an id of ours."""
    return int(identifier) if identifier and identifier.isascii() and identifier.isdigit() else None
