"""The embedded knowledge base: one folder, searchable the moment a put returns.

Heavy parts (parser, numpy, tokenizer, weights) are loaded when the first document or question needs them.

The embedded knowledge base before the first pass has made it: for `plan`, which makes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from kbsync.contract.searching import Explanation, Hit, Query
from kbsync.contract.target import (
    Accepted,
    Base,
    Body,
    DeleteOutcome,
    DocState,
    DocStatus,
    Listed,
    Outgoing,
    PutOutcome,
    Surroundings,
    Target,
)
from kbsync.core.model import Limits
from kbsync.errors import Halted, Rejected, StateError, TargetError, Unavailable
from kbsync.index.chunk import CHUNKER
from kbsync.index.document import Entry, Parsed
from kbsync.index.embed.encoder import Encoder, LocalEncoder
from kbsync.index.errors import translated
from kbsync.index.pipeline import Parse, Preparation, Prepared, remote
from kbsync.index.read import formats
from kbsync.index.read.formats import MEDIA_TYPES
from kbsync.index.search import Ranker, Searcher
from kbsync.index.sqlite.reader import Reader
from kbsync.index.sqlite.writer import Writer
from kbsync.index.tokens import TOKENISER
from kbsync.targets.services.blocking import ServiceEncoder, ServiceRanker
from kbsync.targets.services.dialects import ServiceSettings

BATCH = 64
CONCURRENCY = 2  # one put writes while the other parses and makes vectors
SCRUB_AFTER = 1.0
"""Seconds after a change when the WAL is emptied, whatever else comes (promise 11)."""

_PAGE = 500


class Embedding(Protocol):
    """What the config says of the embedding."""

    @property
    def type(self) -> str:
        """`builtin`, `onnx`, or the dialect of a service."""

    @property
    def path(self) -> Path | None:
        """Where the model is, for `onnx`."""


def limits_of(max_bytes: int, *, pictures: bool = False) -> Limits:
    """What the embedded knowledge base takes."""
    return Limits(
        extensions=formats.EXTENSIONS | set(MEDIA_TYPES) if pictures else formats.EXTENSIONS,
        names=formats.NAMES,
        max_bytes=max_bytes,
        batch=BATCH,
        concurrency=CONCURRENCY,
        list_lag=0.0,
        marks=True,
        embedded=True,
    )


def encoder_of(embedding: Embedding, service: ServiceSettings | None) -> Encoder:
    """What makes the vectors. Loads nothing and asks nobody."""
    if service is not None:
        return ServiceEncoder(service)
    return LocalEncoder(embedding.path if embedding.type == "onnx" else None)


class LocalTarget(Target):
    """The knowledge base in one folder. Open it with `LocalTarget.open`."""

    updates_in_place = True

    def __init__(
        self,
        folder: Path,
        encoder: Encoder,
        limits: Limits,
        index: Writer | None,
        parse: Parse | None,
        spool: Path,
        ranker: Ranker | None = None,
    ) -> None:
        """`index` is None where nothing may be written."""
        self._folder, self._encoder, self._limits, self._index = folder, encoder, limits, index
        self._parsing = _LazyParser(spool, parse)
        self._ranker = ranker
        self._reader = Reader(folder)
        self._preparation = Preparation(self._parsing.parse, encoder, self._reader.known, limits.max_bytes)
        self._searcher: Searcher | None = None
        self._opening = threading.Lock()
        self._damage = ""
        self._is_to_scrub = False
        self._scrubbing: asyncio.Task[None] | None = None
        # A thread of its own: those of the mirror may all hang with the disk of its folder.
        self._scrubber = ThreadPoolExecutor(1, "kbsync-scrub")

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        embedding: Embedding,
        max_bytes: int,
        surroundings: Surroundings,
        parse: Parse | None = None,
        service: ServiceSettings | None = None,
        rerank: ServiceSettings | None = None,
    ) -> LocalTarget:
        """The knowledge base in the folder `path`, made where there is none. Loads no model.

        `service` makes the vectors and `rerank` orders what is found, where they are given. `parse` stands in
        for the parser. With `surroundings.read_only` nothing is locked or written and
        `UsageError` is raised where nothing was mirrored yet; otherwise `StateError` where another process
        writes or the folder cannot be written.
        """
        encoder = encoder_of(embedding, service)
        ranker = ServiceRanker(rerank) if rerank else None
        index = None if surroundings.read_only else Writer(path)
        limits = limits_of(max_bytes, pictures=encoder.takes_pictures)
        return cls(path, encoder, limits, index, parse, surroundings.spool_dir, ranker)

    @property
    def limits(self) -> Limits:
        """What it takes."""
        return self._limits

    def recipe(self, path: str, settings: Mapping[str, Any]) -> str:
        """Changes with the parser, the chunker, the tokeniser, the model and the kind of file."""
        kind = formats.extension_of(path) or f"/{path.rpartition('/')[2]}"
        return _recipe(self._encoder.model, kind, repr(sorted(settings.items())) if settings else "")

    async def base(self) -> Base:
        """The index; one that was removed or found damaged is made anew, with a new id."""
        found = await asyncio.to_thread(self._base)
        with contextlib.suppress(TargetError), self._translated():
            if self._index is not None and await asyncio.to_thread(self._index.tidy):
                self._scrub_soon()
        return found

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Store each document; what is accepted is searchable. An old version serves until then."""
        outcomes: Sequence[PutOutcome] = await asyncio.to_thread(self._put, documents)
        self._scrub_soon()
        return outcomes

    async def status(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """READY or MISSING."""
        with self._translated():
            rows = {each: remote(each) for each in ids}
            wanted = [row for row in rows.values() if row is not None]
            present = await asyncio.to_thread(self._reader.present, wanted)
        states = {True: DocStatus(DocState.READY), False: DocStatus(DocState.MISSING)}
        return {each: states[row in present] for each, row in rows.items()}

    async def delete(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Remove each document and every trace of its text."""
        with self._translated():
            rows = [row for each in ids if (row := remote(each)) is not None]
            if not await asyncio.to_thread(self._writable().delete, rows):
                self._scrub_soon()
        return dict.fromkeys(ids)

    async def list(self) -> AsyncIterator[Listed]:
        """Every document, in the order they were stored."""
        after = 0
        while True:
            with self._translated():
                page = await asyncio.to_thread(self._reader.page, after, _PAGE)
            for row in page:
                yield Listed(
                    remote_id=str(row.id),
                    name=row.name,
                    size=row.size,
                    created=row.created,
                    state=DocState.READY,
                    path=row.path,
                    digest=row.digest,
                    upload_id=row.upload_id,
                    recipe=row.recipe,
                )
            if len(page) < _PAGE:
                return
            after = page[-1].id

    async def rename(self, remote_id: str, path: str, name: str, mtime: float) -> None:
        """Change path, name and time. Raises `Rejected` for an unknown document."""
        with self._translated():
            row = _row(remote_id)
            await asyncio.to_thread(self._writable().rename, row, path, name, mtime)
        self._scrub_soon()

    async def search(self, query: Query) -> Sequence[Hit]:
        """The best documents first. Raises `UsageError` for a path pattern that is none."""
        return await asyncio.to_thread(self._search, query)

    @property
    def scale(self) -> str:
        """Of scores: the same model, and the same service to order what is found, or none."""
        return f"local {self._encoder.model} {self._ranker.model if self._ranker is not None else ''}"

    @property
    def reranks(self) -> bool:
        """A rerank service is configured; it is asked in every search."""
        return self._ranker is not None

    async def explain(self, remote_id: str) -> Explanation:
        """The document's chunks, one below the other. Raises `Rejected` for an unknown document."""
        with self._translated():
            texts = await asyncio.to_thread(self._reader.texts, _row(remote_id))
        if texts is None:
            raise _unknown(remote_id)
        return Explanation(len(texts), "\n\n".join(texts))

    async def aclose(self) -> None:
        """Let go of files and workers; the WAL is emptied."""
        if self._index is not None:
            self._index.stop()
        if self._scrubbing is not None:
            self._scrubbing.cancel()
            await asyncio.wait([self._scrubbing])
        await asyncio.to_thread(self._close)
        self._scrubber.shutdown(wait=False)

    def _close(self) -> None:
        """The blocking part of `aclose`. Readers first: they would be in the way of emptying the WAL."""
        for each in (self._searcher, self._reader, self._index, self._parsing, self._encoder, self._ranker):
            if each is not None:
                each.close()

    def _translated(self) -> AbstractContextManager[None]:
        """Trouble with the index as a `TargetError`."""
        return translated(self._folder, self._note_damage)

    def _note_damage(self, reason: str) -> None:
        """Remember that the file must be put aside at the next `base`."""
        self._damage = reason

    def _writable(self) -> Writer:
        """The index, if it may be written and is still the one in the folder."""
        if self._index is None:
            raise Halted("read-only", f"{self._folder} was opened for reading only")
        if self._damage or not self._index.is_current:
            raise Unavailable(f"the index in {self._folder} is gone; it is made anew", code="index-gone")
        return self._index

    def _base(self) -> Base:
        """Look at the index; make a new one where it is gone."""
        with self._translated():
            if self._index is not None and (self._damage or not self._index.is_current):
                self._index = self._renewed(self._index)
            return Base(self._reader.uuid(), self._reader.count())

    def _renewed(self, index: Writer) -> Writer:
        """A new index in the place of one that is damaged or gone."""
        if self._damage:
            index.discard(self._damage)
        else:
            index.close()
        fresh = Writer(self._folder)
        self._damage = ""
        return fresh

    def _put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """The blocking part of `put`."""
        outcomes: dict[int, PutOutcome] = {}
        with self._translated():
            index = self._writable()
            for batch in self._preparation.batches(documents):
                outcomes |= self._stored(index, batch, documents)
            self._writable()  # what went into a file that was removed meanwhile is not stored
        return [outcomes[place] for place in range(len(documents))]

    def _stored(
        self, index: Writer, batch: Sequence[Prepared], documents: Sequence[Outgoing]
    ) -> dict[int, PutOutcome]:
        """Store a batch in one commit; the outcomes by place."""
        entries = {each.place: each.outcome for each in batch if isinstance(each.outcome, Entry)}
        ids = index.put(list(entries.values()), self._encoder) if entries else []
        outcomes: dict[int, PutOutcome] = {
            each.place: each.outcome for each in batch if isinstance(each.outcome, TargetError)
        }
        for place, stored in zip(entries, ids, strict=True):
            replaced = documents[place].replaces is not None
            outcomes[place] = (
                Accepted(str(stored), ready=True, replaced=replaced) if isinstance(stored, int) else stored
            )
        return outcomes

    def _search(self, query: Query) -> Sequence[Hit]:
        """The blocking part of `search`."""
        with self._opening:
            if self._searcher is None:
                self._searcher = Searcher(self._folder, self._encoder, self._ranker)
        try:
            return self._searcher.search(query)
        except StateError as error:
            with self._translated():
                raise error

    def _scrub_soon(self) -> None:
        """Empty the WAL in `SCRUB_AFTER`. A later change never puts off what an earlier one asked for."""
        self._is_to_scrub = True
        if self._scrubbing is None or self._scrubbing.done():
            self._scrubbing = asyncio.create_task(self._scrub())

    async def _scrub(self) -> None:
        """Do what was left undone and empty the WAL, as often as it takes where a reader is in the way.

        A failing disk shows at the next put.
        """
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TargetError), self._translated():
            while self._is_to_scrub and self._index is not None:
                await asyncio.sleep(SCRUB_AFTER)
                self._is_to_scrub = False
                if not await loop.run_in_executor(self._scrubber, _scrubbed, self._index):
                    self._is_to_scrub = True


def _scrubbed(index: Writer) -> bool:
    """Whether nothing that was deleted is in any file any more.

    Taking words out of a large index takes long: the texts are taken out of the WAL before that as well.
    """
    is_clear = index.scrub()
    if not index.tidy():
        return is_clear
    while index.tidy():
        pass
    return index.scrub()


@functools.lru_cache(maxsize=1024)
def _recipe(model: str, kind: str, settings: str) -> str:
    parts = [formats.PARSER, CHUNKER, TOKENISER, model, kind, settings]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class _LazyParser:
    """The parser, started when the first document comes."""

    def __init__(self, spool: Path, parse: Parse | None) -> None:
        """`parse` stands in for the parser where it is given."""
        self._spool, self._parse = spool, parse
        self._parser: Any = None
        self._starting = threading.Lock()

    def parse(self, path: str, body: Body) -> Parsed:
        """The text of a document. Raises `Rejected`."""
        with self._starting:
            if self._parse is None:
                from kbsync.index.read.parser import Parser

                self._parser = Parser(self._spool)
                self._parse = self._parser.parse
        return self._parse(path, body)

    def close(self) -> None:
        """End the parser's workers."""
        if self._parser is not None:
            self._parser.close()


def _row(remote_id: str) -> int:
    """The row that `remote_id` names. Raises `Rejected`."""
    row = remote(remote_id)
    if row is None:
        raise _unknown(remote_id)
    return row


def _unknown(remote_id: str) -> Rejected:
    """Nothing has that id."""
    return Rejected(f"the index holds no document {remote_id}", code="unknown-document")


class Unmade(LocalTarget):
    """Empty, and of an id that no state knows."""

    def __init__(self, embedding: Embedding, max_bytes: int, service: ServiceSettings | None = None) -> None:
        """Only what `limits` and `recipe` need: there is no index to open."""
        self._encoder = encoder_of(embedding, service)
        self._limits = limits_of(max_bytes, pictures=self._encoder.takes_pictures)

    async def base(self) -> Base:
        """One that no state knows."""
        return Base("", 0)

    async def list(self) -> AsyncIterator[Listed]:
        """Nothing."""
        for row in list[Listed]():
            yield row

    async def aclose(self) -> None:
        """There is nothing to close."""
