"""Turns files into store entries: reads them, splits them into chunks, and computes the vectors that are
missing.
"""

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
from kbsync.index.errors import scratch_error
from kbsync.index.read.formats import is_picture, picture_chunk
from kbsync.threads import searches_first

Parse = Callable[[str, Body], Parsed]

Cutter = Callable[[Sequence[tuple[Entry, Body]]], Generator[Cut | TargetError]]
"""Reads and splits documents, in this process or elsewhere. Yields an outcome for each, in order. Raises
`TargetError`.
"""

_MAX_SPARE_VECTORS = 10_000
_MAX_CHARACTERS = 8_000_000  # maximum in memory at a time, not counting the last document

_log = logging.getLogger(__name__)


def read_and_cut(path: str, body: Body, parse: Parse) -> Cut | TargetError:
    """Return the chunks of the document at `path`, or the error that it caused. Never raises."""
    try:
        parsed = parse(path, body)
        if not (chunks := tuple(chunk(parsed))) and not parsed.scanned_pages:
            return Rejected("no text found", code="no-text")
        title = None if parsed.title is None else legible(parsed.title)
        return Cut(title, tuple(map(legible, parsed.tags)), chunks, parsed.scanned_pages)
    except TargetError as error:
        return error
    except OSError as error:
        return scratch_error(error)
    except Exception as error:  # a bug in a parser fails only this document
        fields = {"event": "document.unreadable"}
        _log.exception("document could not be read: %s", path, extra=fields)
        return Rejected(
            f"the document could not be read ({type(error).__name__}: {error})", code="unreadable"
        )


def cut_here(parse: Parse) -> Cutter:
    """Return a `Cutter` that splits documents one by one in the calling thread."""

    def cut(documents: Sequence[tuple[Entry, Body]]) -> Generator[Cut | TargetError]:
        for entry, body in searches_first.pace(documents):
            yield read_and_cut(entry.path, body, parse)

    return cut


class Pipeline:
    """Adds titles, tags, chunks and vectors to entries. Safe to use from several threads."""

    def __init__(
        self,
        cut: Cutter,
        encoder: Encoder,
        find_embedded: Callable[[str, Sequence[str]], set[str]],
        max_bytes: int,
    ) -> None:
        """Set up the pipeline.

        `find_embedded(model, keys)` returns the keys that have a vector. Files over `max_bytes` are refused.
        """
        self._cut, self._encoder, self._max_bytes = cut, encoder, max_bytes
        self._find_embedded = find_embedded
        self._spare_vectors = dict[str, bytes]()  # of batches that failed

    def batches(self, documents: Sequence[tuple[Entry, Body]]) -> Iterator[list[Entry | TargetError]]:
        """Yield the entries with title, tags, chunks and vectors, in order, in batches that fit into memory.

        For a document that fails, yield its error.
        """
        remaining = len(documents)
        with closing(self._outcomes(documents)) as outcomes:
            while remaining:
                batch, characters = list[Entry | TargetError](), 0
                # A service embeds the first documents while the others are split.
                vectors = _VectorsOfBatch(self._encoder, self._find_embedded, self._spare_vectors)
                with closing(vectors):
                    # Texts, chunks and vectors of a batch are in memory together.
                    while remaining and characters <= _MAX_CHARACTERS:
                        outcome = next(outcomes)
                        remaining -= 1
                        batch.append(outcome)
                        if isinstance(outcome, Entry):
                            vectors.want([c for c in outcome.chunks if c.key not in outcome.vectors])
                            for chunk in outcome.chunks:
                                characters += len(chunk.text)
                                characters += len(chunk.picture.content) if chunk.picture else 0
                    computed = vectors.finish()
                yield [
                    outcome if isinstance(outcome, TargetError) else _with_vectors(outcome, computed)
                    for outcome in batch
                ]

    def _outcomes(self, documents: Sequence[tuple[Entry, Body]]) -> Generator[Entry | TargetError]:
        """Yield the entries without vectors, which are computed later."""
        with closing(
            self._cut([(entry, body) for entry, body in documents if self._is_read(entry, body)])
        ) as cuts:
            for entry, body in documents:
                outcome = next(cuts) if self._is_read(entry, body) else self._unread(entry, body)
                if isinstance(outcome, Cut):
                    yield replace(
                        entry,
                        title=outcome.title,
                        tags=outcome.tags,
                        chunks=outcome.chunks,
                        scanned_pages=outcome.scanned_pages,
                        vectors=outcome.vectors,
                    )
                else:
                    yield outcome

    def _is_read(self, entry: Entry, body: Body) -> bool:
        is_shown = self._encoder.takes_pictures and is_picture(entry.path)
        return body.size <= self._max_bytes and not is_shown

    def _unread(self, entry: Entry, body: Body) -> Cut | TargetError:
        """Return the outcome for a file that isn't read.

        Such a file is either a picture, which is sent to the service unchanged, or larger than `max_bytes`.
        """
        try:
            if body.size > self._max_bytes:
                reason = f"larger than max_bytes ({body.size} > {self._max_bytes})"
                return Rejected(reason, code="too-large")
            return Cut(None, (), (picture_chunk(entry.path, body),))
        except TargetError as error:
            return error
        except OSError as error:
            return scratch_error(error)


class _VectorsOfBatch:
    """Computes the vectors that the index lacks for one batch.

    Each request to a service is sent as soon as it is full. If one fails, the vectors of the others go into
    `spare_vectors` for the next attempt. Otherwise, a service that often asks for a pause would never finish
    a book, but be paid for it each time.
    """

    def __init__(
        self,
        encoder: Encoder,
        find_embedded: Callable[[str, Sequence[str]], set[str]],
        spare_vectors: dict[str, bytes],
    ) -> None:
        self._encoder, self._find_embedded, self._spare_vectors = encoder, find_embedded, spare_vectors
        self._computed, self._is_complete = dict[str, bytes | Rejected](), False
        self._seen = set[str]()
        self._unsorted = dict[str, Chunk]()
        self._missing = dict[str, Chunk]()
        self._requests = list[Future[Vectors]]()

    def want(self, chunks: Sequence[Chunk]) -> None:
        """Start computing the vectors of these chunks."""
        self._unsorted.update((item.key, item) for item in chunks if item.key not in self._seen)
        self._seen.update(self._unsorted)
        if len(self._unsorted) >= self._encoder.at_once:
            self._sort()
            while len(self._missing) >= self._encoder.at_once:
                self._begin(self._encoder.at_once)

    def finish(self) -> Vectors:
        """Return all vectors of the batch, by key. Raises `TargetError`."""
        self._sort()
        self._begin(len(self._missing))
        for request in self._requests:
            self._computed |= request.result()
        self._is_complete = True
        return self._computed

    def close(self) -> None:
        """Cancel the pending requests."""
        if not self._is_complete:
            self._keep_computed()
        for request in self._requests:
            request.cancel()

    def _keep_computed(self) -> None:
        for request in self._requests:
            if request.done() and not request.cancelled() and request.exception() is None:
                self._computed |= request.result()
        if len(self._spare_vectors) >= _MAX_SPARE_VECTORS:
            self._spare_vectors.clear()
        vectors = {key: vector for key, vector in self._computed.items() if isinstance(vector, bytes)}
        self._spare_vectors.update(vectors)

    def _sort(self) -> None:
        if self._unsorted:
            embedded_keys = self._find_embedded(self._encoder.model, list(self._unsorted))
            for key, item in self._unsorted.items():
                if key in embedded_keys:
                    continue
                if (vector := self._spare_vectors.pop(key, None)) is None:
                    self._missing[key] = item
                else:
                    self._computed[key] = vector
            self._unsorted.clear()

    def _begin(self, count: int) -> None:
        if count:
            keys = list(islice(self._missing, count))
            self._requests.append(self._encoder.begin([self._missing.pop(key) for key in keys]))


def _with_vectors(entry: Entry, vectors: Vectors) -> Entry | Rejected:
    """Return the entry with the vectors computed for it.

    If any of its texts were rejected, return the first rejection.
    """
    entry_vectors = dict(entry.vectors)
    for item in entry.chunks:
        vector = vectors.get(item.key)
        if isinstance(vector, Rejected):
            return vector
        if vector is not None:
            entry_vectors[item.key] = vector
    return replace(entry, vectors=entry_vectors)
