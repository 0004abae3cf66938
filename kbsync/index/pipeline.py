"""From files to entries of the store: read, cut into chunks, and make the vectors that are missing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from itertools import islice

from kbsync.contract.target import Body
from kbsync.errors import Rejected, TargetError
from kbsync.index.characters import legible
from kbsync.index.chunk import chunk
from kbsync.index.document import Chunk, Cut, Entry, Parsed
from kbsync.index.embed import Encoder, Vectors
from kbsync.index.errors import trouble_with_scratch
from kbsync.index.read.formats import is_picture, picture_chunk

Parse = Callable[[str, Body], Parsed]

Cutter = Callable[[Sequence[tuple[Entry, Body]]], Generator[Cut | TargetError]]
"""Reads and cuts documents, here or elsewhere: an outcome for each, in order. Raises `TargetError`."""

_MOST_CHARACTERS = 8_000_000  # of text in memory at one time, the last document aside

_log = logging.getLogger(__name__)


def read_and_cut(path: str, body: Body, parse: Parse) -> Cut | TargetError:
    """The chunks of the document known as `path`. What is wrong with it is its outcome; nothing is raised."""
    try:
        parsed = parse(path, body)
        if not (chunks := tuple(chunk(parsed))):
            return Rejected("no text in it", code="no-text")
        title = None if parsed.title is None else legible(parsed.title)
        return Cut(title, tuple(map(legible, parsed.tags)), chunks)
    except TargetError as error:
        return error
    except OSError as error:
        return trouble_with_scratch(error)
    except Exception as error:  # a parser's surprise is the document's outcome, not the end of the others
        told = {"event": "document.unreadable"}
        _log.exception("document could not be read: %s", path, extra=told)
        return Rejected(f"it could not be read ({type(error).__name__}: {error})", code="unreadable")


def cut_here(parse: Parse) -> Cutter:
    """One document after the other, in the thread that asks for it."""

    def cut(documents: Sequence[tuple[Entry, Body]]) -> Generator[Cut | TargetError]:
        for entry, body in documents:
            yield read_and_cut(entry.path, body, parse)

    return cut


class Pipeline:
    """Fills entries. Safe to use from several threads."""

    def __init__(
        self,
        cut: Cutter,
        encoder: Encoder,
        known: Callable[[str, Sequence[str]], set[str]],
        max_bytes: int,
    ) -> None:
        """`known(model, keys)` are the keys that have a vector already. Larger files are refused."""
        self._cut, self._encoder, self._known, self._max_bytes = cut, encoder, known, max_bytes

    def batches(self, documents: Sequence[tuple[Entry, Body]]) -> Iterator[list[Entry | TargetError]]:
        """The entries with title, tags, chunks and vectors, in order, in batches that fit into memory.

        What is wrong with a document is its own outcome.
        """
        left = len(documents)
        with closing(self._outcomes(documents)) as outcomes:
            while left:
                batch, characters = list[Entry | TargetError](), 0
                # A service makes the vectors of the first while the others are being cut.
                with closing(_VectorsOfBatch(self._encoder, self._known)) as vectors:
                    # Texts, chunks and vectors of a batch are in memory together.
                    while left and characters <= _MOST_CHARACTERS:
                        outcome = next(outcomes)
                        left -= 1
                        batch.append(outcome)
                        if isinstance(outcome, Entry):
                            vectors.want(outcome.chunks)
                            for each in outcome.chunks:
                                characters += len(each.text)
                                characters += len(each.picture.content) if each.picture else 0
                    made = vectors.made()
                yield [each if isinstance(each, TargetError) else _with_vectors(each, made) for each in batch]

    def _outcomes(self, documents: Sequence[tuple[Entry, Body]]) -> Generator[Entry | TargetError]:
        """The entries without vectors."""
        with closing(
            self._cut([(entry, body) for entry, body in documents if self._is_read(entry, body)])
        ) as cuts:
            for entry, body in documents:
                outcome = next(cuts) if self._is_read(entry, body) else self._unread(entry, body)
                if isinstance(outcome, Cut):
                    yield replace(entry, title=outcome.title, tags=outcome.tags, chunks=outcome.chunks)
                else:
                    yield outcome

    def _is_read(self, entry: Entry, body: Body) -> bool:
        is_shown = self._encoder.takes_pictures and is_picture(entry.path)
        return body.size <= self._max_bytes and not is_shown

    def _unread(self, entry: Entry, body: Body) -> Cut | TargetError:
        """A picture, which is not read but shown to the service; a file over the limit."""
        try:
            if body.size > self._max_bytes:
                reason = f"larger than max_bytes ({body.size} > {self._max_bytes})"
                return Rejected(reason, code="too-large")
            return Cut(None, (), (picture_chunk(entry.path, body),))
        except TargetError as error:
            return error
        except OSError as error:
            return trouble_with_scratch(error)


class _VectorsOfBatch:
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


def _with_vectors(entry: Entry, made: Vectors) -> Entry | Rejected:
    """The entry with those of its vectors that were made; refused with the first of its texts that is."""
    own = dict[str, bytes]()
    for each in entry.chunks:
        vector = made.get(each.key)
        if isinstance(vector, Rejected):
            return vector
        if vector is not None:
            own[each.key] = vector
    return replace(entry, vectors=own)
