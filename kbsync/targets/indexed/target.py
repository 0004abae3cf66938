"""A target whose index kbsync maintains itself. A document is searchable when `put` returns.

The parser, numpy, the tokenizer, the model weights, and the modules that split or search are loaded with the
first document or question that needs them. A pass over an unchanged folder needs none of them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kbsync import install_command
from kbsync.contract.searching import Explanation, Hit, Query, UnknownWords
from kbsync.contract.target import (
    Accepted,
    Base,
    Body,
    DeleteOutcome,
    DocState,
    DocStatus,
    Limits,
    Listed,
    Outgoing,
    PutOutcome,
    Target,
    TargetContext,
)
from kbsync.core.model import NO_TEXT, SCANNED
from kbsync.core.text import extension_of
from kbsync.errors import Halted, Rejected, TargetError, UsageError, lacks_memory, untried
from kbsync.index.document import Entry, Flavour, Parsed
from kbsync.index.embed import MODEL, Encoder, LocalEncoder
from kbsync.index.errors import out_of_memory, unknown_document
from kbsync.index.glossary import Glossary
from kbsync.index.read import formats
from kbsync.index.store import Store
from kbsync.targets.services.config import SERVICES, EmbeddingConfig, RerankConfig
from kbsync.threads import in_thread, running_loop

if TYPE_CHECKING:
    import asyncio

    from kbsync.index.better import BetterModel, Filler
    from kbsync.index.fence.parser import PageParser, Parser
    from kbsync.index.pipeline import Cutter, Parse, Pipeline
    from kbsync.index.scans import Recognize, Scans
    from kbsync.index.search import Search
    from kbsync.index.text_process import TextProcess
    from kbsync.targets.indexed.config import IndexedTargetConfig

BATCH = 64
CONCURRENCY = 2  # one put writes while the other parses documents and computes vectors
CONCURRENCY_OF_CLUSTER = 4
"""256 documents in flight keep a cluster busy. Each may hold one of the process's 1,024 file descriptors."""

SCRUB_AFTER = 1.0
"""Maximum number of seconds before kbsync removes deleted text from its files (promise 11)."""

QUIET = 5.0
"""Seconds without a new document before kbsync computes better vectors, so that it doesn't do so during a
pass that adds documents.
"""

_PAGE = 500


def limits_of(max_bytes: int, *, pictures: bool = False, concurrency: int = CONCURRENCY) -> Limits:
    """Return the limits of a target whose index kbsync maintains itself."""
    return Limits(
        extensions=formats.EXTENSIONS | set(formats.MEDIA_TYPES) if pictures else formats.EXTENSIONS,
        names=formats.NAMES,
        max_bytes=max_bytes,
        batch=BATCH,
        concurrency=concurrency,
        list_lag=0.0,
        give_up=math.inf,  # scanned pages are read only while the target is idle, however many there are
        marks=True,
        embedded=True,
    )


def encoder_of(config: IndexedTargetConfig, *, is_first: bool = False) -> Encoder:
    """Return the encoder selected in `config`, without loading or sending anything.

    `is_first`: see `Endpoint`.
    """
    if _is_service(config.embedding):
        from kbsync.targets.services.blocking import ServiceEncoder

        return ServiceEncoder(config.embedding, is_first=is_first)
    return LocalEncoder(_onnx_of(config))


def _onnx_of(config: IndexedTargetConfig) -> Path | None:
    """Return the folder of the user's own model."""
    return config.embedding.path if config.embedding.type == "onnx" else None


def _is_service(block: EmbeddingConfig | RerankConfig) -> bool:
    """Return whether the config block selects a service.

    Raises `UsageError` for an unreadable secret, before anything is opened.
    """
    if block.base_url is None or block.type not in SERVICES:
        return False
    for secret in (block.api_key, block.proxy):
        if secret is not None:
            secret.reveal()
    return True


class IndexedTarget(Target):
    """A target that keeps its documents in the store opened by `store`."""

    updates_in_place = True

    _scans: Scans | None = None
    """Opened with the base."""

    kind: ClassVar[str]
    """The type of the target; scores of different types aren't comparable."""

    def __init__(
        self,
        config: IndexedTargetConfig,
        context: TargetContext,
        store: Callable[[], Store],
        parse: Parse | None = None,
        scans: Path | None = None,
        recognize: Recognize | None = None,
        better: BetterModel | None = None,
    ) -> None:
        """Open the target described by `config`, without loading a model.

        `parse` replaces the parser. `scans`: the folder for the texts of scanned pages, or None if those
        aren't read. `recognize` replaces the function that reads them. `better`: the model for comparing
        questions with the better vectors.
        """
        self._context, self._scans_folder, self._page_reader = context, scans, recognize
        is_first = context.read_only  # an interactive command
        encoder = encoder_of(config, is_first=is_first)
        ranker = None
        if _is_service(config.rerank):
            from kbsync.targets.services.blocking import ServiceRanker

            ranker = ServiceRanker(config.rerank, is_first=is_first)
        cluster, concurrency = None, CONCURRENCY
        if context.cluster is not None:
            from kbsync.index.cluster.client import ClusterEncoder, DaskCluster

            cluster, concurrency = DaskCluster(context.cluster), CONCURRENCY_OF_CLUSTER
            # Built-in vectors are faster to compute than to transfer. A service's key must not leave the
            # host.
            if onnx := _onnx_of(config):
                encoder = ClusterEncoder(cluster, encoder, partial(LocalEncoder, onnx))
        self._encoder, self._ranker, self._cluster = encoder, ranker, cluster
        self._limits = limits_of(config.max_bytes, pictures=encoder.takes_pictures, concurrency=concurrency)
        self._glossary = Glossary(context.state_dir, read_only=context.read_only)
        # Open the store last: an unreadable key must raise before that.
        self._store = store()
        self._better = better
        self._read_document = parse or self._parse
        # Separate threads, because they mostly wait for the cluster and would block the mirror's threads.
        self._putters = None if cluster is None else ThreadPoolExecutor(concurrency, "kbsync-put")
        self._spool = context.spool_dir
        self._parser: Parser | None = None
        self._page_parser: PageParser | None = None
        self._texts: TextProcess | None = None
        self._starting = threading.Lock()
        self._puts = 0  # puts in progress
        self._last_put = 0.0  # monotonic time of the last use, or of opening
        self._filler: Filler | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_to_scrub = False
        self._scrubbing: asyncio.Task[None] | None = None
        # A separate thread: the disk of the mirror's folder may hang all of the mirror's threads.
        self._scrubber = ThreadPoolExecutor(1, "kbsync-scrub")

    @functools.cached_property
    def _search(self) -> Search:
        from kbsync.index.search import Search

        return Search(self._store, self._encoder, self._ranker, self._glossary, self._better)

    @functools.cached_property
    def _pipeline(self) -> Pipeline:
        from kbsync.index import text_process
        from kbsync.index.pipeline import cut_here

        cut_locally = cut_here(self._read_document)
        if self._cluster is not None:  # its workers read and split the documents
            return self._pipeline_of(self._cluster.cut_or(cut_locally))
        if self._encoder.model == MODEL and self._read_document == self._parse and text_process.is_useful():
            self._texts = text_process.TextProcess(self._spool)
            return self._pipeline_of(self._texts.cut_or(cut_locally))
        return self._pipeline_of(cut_locally)

    @property
    def limits(self) -> Limits:
        """Return the size limit and the concurrency of this target."""
        return self._limits

    @property
    def revision(self) -> int | None:
        """Return the revision of the index after this process's last change."""
        return self._store.revision

    @property
    def note(self) -> str:
        """Return a note while the cluster is unreachable, otherwise ""."""
        return "" if self._cluster is None else self._cluster.note

    def recipe(self, path: str, settings: Mapping[str, Any]) -> str:
        """Return a recipe that changes with the format's reader, the chunker, the model and the kind of file.

        The tokenizer isn't part of it: when the tokenizer changes, the store itself updates the words of its
        texts.
        """
        reader, kind = formats.reader_version(path), extension_of(path) or f"/{path.rpartition('/')[2]}"
        return _recipe(reader, self._encoder.model, kind, repr(sorted(settings.items())) if settings else "")

    async def base(self) -> Base:
        """Return the index as a base.

        If the index is missing or damaged, replace it with an empty one that has a new id.
        """
        uuid, documents = await in_thread(self._store.check)
        former = (*self._store.writers, self._store.checked_revision)
        base = Base(uuid, documents, self._store.address, *former)
        self._loop = running_loop()
        if self._scans_folder is not None:
            await in_thread(self._open_scans, self._scans_folder, uuid)
        await in_thread(self._glossary.prepare)
        if self._filler is not None:
            self._last_put = time.monotonic()
            self._filler.begin()
        # A killed process may have left deleted text in the files: remove it soon.
        with contextlib.suppress(TargetError):
            if await in_thread(self._store.tidy):
                self._scrub_soon()
        return base

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Store each document. The old version stays searchable until the new one is."""
        import asyncio

        put = asyncio.get_running_loop().run_in_executor(self._putters, self._put, documents)
        self._puts += 1
        try:
            outcomes: Sequence[PutOutcome] = await put
        finally:
            self._puts -= 1
            self._last_put = time.monotonic()
        self._scrub_soon()
        if self._filler is not None:
            self._filler.begin()
        return outcomes

    @property
    def model(self) -> str:
        """The name of the target's embedding model."""
        return self._encoder.model

    async def put_made(self, entry: Entry) -> PutOutcome:
        """Store a document that has already been split and has all its vectors."""
        [outcome] = await in_thread(self._store.put, [entry], self._encoder)
        return Accepted(str(outcome), ready=True) if isinstance(outcome, int) else outcome

    async def status(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """Return READY or MISSING for each id."""
        numbers = {remote_id: number_of(remote_id) for remote_id in ids}
        valid_numbers = [number for number in numbers.values() if number is not None]
        existing = await in_thread(self._store.find_existing, valid_numbers)
        # The commit that stores a document also makes it searchable, except for its scanned pages.
        ready, missing = DocStatus(DocState.READY), DocStatus(DocState.MISSING)
        scanned = await self._statuses_of_scans()
        return {
            remote_id: scanned.get(number or 0, ready) if number in existing else missing
            for remote_id, number in numbers.items()
        }

    async def delete(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Remove each document and every trace of its text."""
        numbers = [number for remote_id in ids if (number := number_of(remote_id)) is not None]
        if not await in_thread(self._delete, numbers):
            self._scrub_soon()
        # An id that kbsync never assigned counts as deleted.
        return dict.fromkeys(ids)

    async def list(self) -> AsyncIterator[Listed]:
        """Yield all documents, oldest first."""
        after, ready = 0, DocStatus(DocState.READY)
        scanned = await self._statuses_of_scans()
        while page := await in_thread(self._store.page, after, _PAGE):
            for row in page:
                yield Listed(
                    remote_id=str(row.id),
                    name=row.name,
                    size=row.size,
                    created=row.created,
                    state=scanned.get(row.id, ready).state,
                    path=row.path,
                    digest=row.digest,
                    upload_id=row.upload_id,
                    recipe=row.recipe,
                )
            after = page[-1].id

    async def leave(self) -> None:
        """Remove the mirror's data from the store, because the mirror has ended."""
        await in_thread(self._store.leave)

    async def rename(self, remote_id: str, path: str, name: str, mtime: float) -> None:
        """Change a document's path, name and time. Raises `Rejected` for an unknown document."""
        await in_thread(self._store.rename, _known_number(remote_id), path, name, mtime)
        self._scrub_soon()

    async def search(self, query: Query) -> Sequence[Hit]:
        """Return the best documents first. Raises `UsageError` for an invalid path pattern."""
        return await in_thread(self._search.search, query)

    async def unknown_words(self, query: Query) -> UnknownWords:
        """Return the words of a question that no document contains."""
        return await in_thread(self._search.unknown_words, query)

    @property
    def scale(self) -> str:
        """A value that two targets share if and only if their scores are comparable.

        That requires the same type, model and rerank service.
        """
        return f"{self.kind} {self._encoder.model} {self._ranker.model if self._ranker is not None else ''}"

    @property
    def reranks(self) -> bool:
        """Whether a rerank service orders the hits of each search."""
        return self._ranker is not None

    async def explain(self, remote_id: str) -> Explanation:
        """Return the text of the document's chunks. Raises `Rejected` for an unknown document."""
        texts = await in_thread(self._store.texts, _known_number(remote_id))
        if texts is None:
            raise unknown_document(remote_id)
        return Explanation(len(texts), "\n\n".join(texts))

    async def aclose(self) -> None:
        """Close the files and stop the workers."""
        self._store.stop()
        if self._filler is not None:
            self._filler.stop()
        if self._scans is not None:
            self._scans.stop()
        if self._scrubbing is not None:
            import asyncio

            self._scrubbing.cancel()
            await asyncio.wait([self._scrubbing])
        await in_thread(self._close)
        self._scrubber.shutdown(wait=False)

    def _close(self) -> None:
        # Close the store before the parser: closing the parser truncates documents in progress, which must
        # not be stored.
        resources = (
            self._store,
            self._parser,
            self._page_parser,
            self._texts,
            self._filler,
            self._scans,
            self._cluster,
            self._encoder,
            self._ranker,
            self._glossary,
        )
        with contextlib.ExitStack() as stack:  # closes the others even if one of them fails
            for resource in reversed(resources):
                if resource is not None:
                    stack.callback(resource.close)
        if self._putters is not None:
            self._putters.shutdown(wait=False)

    def _put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        outcomes, received = list[PutOutcome](), [(_entry(document), document.body) for document in documents]
        try:
            with self._starting:  # otherwise two puts might create two
                pipeline = self._pipeline
            for batch in pipeline.batches(received):
                sent = documents[len(outcomes) : len(outcomes) + len(batch)]
                batch = [self._with_scans(*pair) for pair in zip(batch, sent, strict=True)]
                entries = [item for item in batch if isinstance(item, Entry)]
                stored = iter(self._store.put(entries, self._encoder))
                for item, document in zip(batch, sent, strict=True):
                    outcome = item if isinstance(item, TargetError) else next(stored)
                    if isinstance(item, Entry):
                        is_ready = self._record_scans(item, outcome, document)
                    if isinstance(outcome, int):
                        # One commit removes the old version and shows the new one (promise 2).
                        replaced = is_ready and document.replaces is not None
                        outcomes.append(Accepted(str(outcome), ready=is_ready, replaced=replaced))
                    else:
                        outcomes.append(outcome)
        except Exception as error:
            match error:
                case TargetError():
                    failed: TargetError = error
                case UsageError():  # the model can't be read
                    failed = Halted("embedding", str(error))
                case _ if lacks_memory(error):
                    failed = out_of_memory()
                case _:  # a bug
                    raise
            if not outcomes:
                raise failed from error
            # The batches before the error are stored.
            remaining = len(documents) - len(outcomes)
            outcomes += [failed, *[untried(failed)] * (remaining - 1)]
        return outcomes

    def _parse(self, path: str, body: Body) -> Parsed:
        """Return a document's text. The first call starts the parser."""
        with self._starting:
            if self._parser is None:
                from kbsync.index.fence.parser import Parser

                self._parser = Parser(self._spool)
        return self._parser.parse(path, body)

    # Scanned pages

    @property
    def reads_scans(self) -> bool:
        """Whether the `ocr` extra is installed."""
        return self._scans is not None and self._scans.can_recognize

    async def partly_read(self) -> Sequence[str]:
        """Return the documents that were stored without their scanned pages."""
        scans = self._scans
        return () if scans is None else [str(n) for n in await in_thread(scans.partly_read)]

    async def _statuses_of_scans(self) -> Mapping[int, DocStatus]:
        return {} if self._scans is None else await in_thread(self._scans.statuses)

    def _open_scans(self, folder: Path, base: str) -> None:
        from kbsync.index.scans import Scans, is_installed

        def find_uploads() -> Mapping[int, int]:
            uploads, after = dict[int, int](), 0
            while page := self._store.page(after, _PAGE):
                pdfs = (row for row in page if extension_of(row.path) == "pdf")  # others have no scans
                uploads |= {row.upload_id: row.id for row in pdfs if row.upload_id is not None}
                after = page[-1].id
            return uploads

        if self._scans is None:
            recognize = self._page_reader or (self._recognize if is_installed() else None)
            places = folder, self._context.folder, self._spool
            self._scans = Scans(*places, recognize, self._finish, lambda: not self._puts)
        if self._context.read_only:
            self._scans.open_to_read()
        else:
            self._scans.open(base, self._store.find_existing, find_uploads)

    def _with_scans(self, outcome: Entry | TargetError, document: Outgoing) -> Entry | TargetError:
        """Return the part of a document to store now. That is all of it, unless it has scanned pages."""
        if isinstance(outcome, TargetError) or not outcome.scanned_pages:
            return outcome
        if self._scans is None:
            return outcome if outcome.chunks else _unread_scan("run OCR (text recognition) on the file")
        texts = self._scans.texts(outcome.digest)
        if texts.keys() >= set(outcome.scanned_pages):
            whole = self._with_pages(outcome, document.body, texts)
            if isinstance(whole, Entry):
                self._scans.announce(whole, is_read=True)
            return whole
        if not self.reads_scans:
            if not outcome.chunks:
                return _unread_scan(f"`{_command_for_scans()}` installs OCR for them")
            self._scans.announce(outcome, is_read=False)
            return outcome
        self._scans.announce(outcome, is_read=False)
        if outcome.replaces is None and outcome.chunks:
            return outcome
        # Until its pages are read, the old version serves (promise 2); this one contains only its name.
        from kbsync.index.chunk import chunk

        name = Parsed(outcome.name, Flavour.PLAIN)
        return replace(outcome, replaces=None, chunks=tuple(chunk(name)), vectors={})

    def _record_scans(self, entry: Entry, outcome: int | TargetError, document: Outgoing) -> bool:
        """Record the stored part. Return whether it includes all of the text."""
        if self._scans is None:
            return True
        is_scan = bool(entry.scanned_pages)
        if is_scan:
            self._scans.stored(entry.upload_id, outcome)
        is_ready = not is_scan or not self._scans.is_pending(entry.upload_id)
        if is_ready and isinstance(outcome, int) and document.replaces is not None:
            self._scans.forget([number for number in [number_of(document.replaces)] if number is not None])
        return is_ready

    def _with_pages(self, entry: Entry, body: Body, texts: Mapping[int, str]) -> Entry | TargetError:
        """Return the entry with all of its text and vectors."""
        from kbsync.index.pipeline import cut_here
        from kbsync.index.scans import with_pages

        pipeline = self._pipeline_of(
            cut_here(lambda path, body: with_pages(self._read_document(path, body), texts))
        )
        [[outcome]] = pipeline.batches([(entry, body)])
        if isinstance(outcome, Entry):
            return replace(outcome, scanned_pages=entry.scanned_pages)
        if outcome.code == NO_TEXT:
            return Rejected("no text found: OCR found nothing on the scanned pages", code=NO_TEXT)
        return outcome

    def _finish(self, entry: Entry, body: Body, texts: Mapping[int, str]) -> int | TargetError:
        """Store a document together with the texts of its scanned pages."""
        with_pages_read = self._with_pages(entry, body, texts)
        if isinstance(with_pages_read, TargetError):
            return with_pages_read
        [outcome] = self._store.put([with_pages_read], self._encoder)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._scrub_soon)
        return outcome

    def _delete(self, documents: Sequence[int]) -> bool:
        if self._scans is None:
            return self._store.delete(documents)
        with self._scans.changing:
            is_clear = self._store.delete(documents)
            self._scans.forget(documents)
            return self._scans.scrub() and is_clear

    def _recognize(self, path: str, body: Body, page: int) -> str:
        """Return the text of a scanned page. The first call starts the process that recognizes pages."""
        with self._starting:
            if self._page_parser is None:
                from kbsync.index.fence.parser import PageParser

                self._page_parser = PageParser(self._spool)
        return self._page_parser.read_page(path, body, page)

    # Better vectors

    @property
    def _is_idle(self) -> bool:
        """Whether the target has been idle for some time."""
        is_quiet = not self._puts and time.monotonic() - self._last_put >= QUIET
        return is_quiet and (self._scans is None or not self._scans.is_reading)

    def _pipeline_of(self, cut: Cutter) -> Pipeline:
        from kbsync.index.pipeline import Pipeline

        limit = self._limits.max_bytes or sys.maxsize
        return Pipeline(cut, self._encoder, self._store.find_embedded, limit)

    def _scrub_soon(self) -> None:
        """Remove deleted text from the files after `SCRUB_AFTER` seconds.

        Later changes don't postpone this.
        """
        import asyncio

        self._is_to_scrub = True
        if self._scrubbing is None or self._scrubbing.done():
            self._scrubbing = asyncio.create_task(self._scrub())

    async def _scrub(self) -> None:
        """Remove the remaining deleted text, retrying while a reader prevents that.

        If the disk fails, the next put reports it.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        with contextlib.suppress(TargetError):
            while self._is_to_scrub:
                await asyncio.sleep(SCRUB_AFTER)
                self._is_to_scrub = False
                is_clear = await loop.run_in_executor(self._scrubber, self._store.purge)
                if self._scans is not None:
                    is_clear &= await loop.run_in_executor(self._scrubber, self._scans.scrub)
                if not is_clear:
                    self._is_to_scrub = True


_FORMER_TOKENISER = 2
"""Part of every recipe since the first version; changing this value would reindex every stored document."""


@functools.lru_cache(maxsize=1024)
def _recipe(reader: str, model: str, kind: str, settings: str) -> str:
    parts = [reader, formats.CHUNKER, _FORMER_TOKENISER, model, kind, settings]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _unread_scan(hint: str) -> Rejected:
    return Rejected(f"no text found: the document seems to contain only scanned pages; {hint}", code=SCANNED)


@functools.cache
def _command_for_scans() -> str:
    return install_command("rapidocr", "onnxruntime")


def _entry(document: Outgoing) -> Entry:
    return Entry(
        upload_id=document.upload_id,
        path=document.path,
        name=document.name,
        digest=document.digest,
        size=document.size,
        recipe=document.recipe,
        modified=document.mtime,
        replaces=None if document.replaces is None else number_of(document.replaces),
    )


_MAX_ID = 2**63 - 1
"""The largest id that both SQLite and PostgreSQL can store."""


def number_of(remote_id: str) -> int | None:
    """Return the number in a document's id, or None for an id that kbsync never assigned."""
    is_number = remote_id.isascii() and remote_id.isdigit() and len(remote_id) <= len(str(_MAX_ID))
    number = int(remote_id) if is_number else None
    return None if number is None or number > _MAX_ID else number


def _known_number(remote_id: str) -> int:
    number = number_of(remote_id)
    if number is None:
        raise unknown_document(remote_id)
    return number
