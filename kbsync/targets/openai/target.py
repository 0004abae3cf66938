"""A vector store as a target.

A document is an uploaded file that is attached to the store. The file's id identifies both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import replace
from typing import Any

from kbsync.contract.searching import Passage, Query
from kbsync.contract.target import Accepted, Base, DeleteOutcome, DocState, DocStatus, Limits, Outgoing
from kbsync.core.text import extension_of
from kbsync.errors import Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http.reading import PAGE_SIZE, DocumentRow, Fields, created_id, require_document
from kbsync.targets.http.rules import GONE, INDEXING, READY, require_parsed
from kbsync.targets.http.target import ServiceTarget
from kbsync.targets.openai import api, shapes
from kbsync.targets.openai.config import EXTENSIONS, OFFICE, TEXTS, OpenaiTargetConfig
from kbsync.targets.openai.passages import FILES_PAGE, SharedPassages
from kbsync.targets.openai.shapes import status_of

PDF_AND_TEXT = "inline::pypdf"
"""The file reader of OGX that accepts only PDF and text."""

MAX_PASSAGES = 50
"""The service's maximum of `max_num_results`."""

FILES_PAGES = 10
"""Maximum number of pages of the account's newest files in which to look for our unattached files."""

CLEAN_EVERY, CLEAN_AFTER = 3600.0, 300.0
"""Seconds between searches for unattached files, and seconds after an upload during which its file may
still be attached."""

CLOCK_STEP = 2.0
"""Maximum difference, in seconds, between two clocks that count whole seconds."""

SLOW_ATTACH_AFTER = 10.0
"""Seconds after which a missing response to an attach request may mean that the service is slow."""

CLOSE_TIMEOUT = 5.0
"""Maximum number of seconds that kbsync spends deleting our unattached files before it exits."""

ATTACH_TIMEOUT = 300.0
"""Seconds for which a file with an unanswered attach request may still appear in the store."""

MAX_SINGLE_POLLS = 2
"""Maximum number of files to poll one by one; if there are more, they are read from the list, newest
first."""

MAX_SEARCH_IDS = 100
"""Maximum number of files to which the service can limit a search; beyond that, kbsync filters the
passages."""


class OpenaiTarget(ServiceTarget[DocumentRow]):
    """One vector store."""

    _config: OpenaiTargetConfig

    classify_response = staticmethod(shapes.classify_response)
    only_recipe = "auto"
    takes = Limits(EXTENSIONS, marks=True)
    calls_base = "vector store"
    certain_calls = frozenset({"list"})
    deletes_in_turn = True

    def prepare(self) -> None:
        """Set the API paths, and create the in-memory caches."""
        self._prefix, store_id = self._context.prefix, self._config.vector_store_id
        self._store = f"/vector_stores/{store_id}"
        self._files = f"{self._store}/files"
        self._names = shapes.FileNames(store_id, self._prefix)
        # Files still to be attached, by upload id and digest, and files whose attach request has an unknown
        # outcome, each with the time.
        self._uploaded: dict[tuple[int, str], tuple[str, float]] = {}
        self._attaching: dict[str, float] = {}
        # The model of the vectors on OGX, where files with equal text share passages; "" at other servers.
        self._vector_model: str | None = None
        self._cleaned_at: float | None = None
        self._started_at = self._wall()
        # Each file that is being attached holds one slot, and a batch of deletions on OGX holds all of them:
        # otherwise the batch could miss a file that is being attached.
        self._attach_slots = asyncio.Semaphore(self._config.concurrency)

    async def base(self) -> Base:
        """Check the store. Raises `Halted("knowledge-base-missing")` if it doesn't exist or has expired."""
        store = await self.read_store(self._config.vector_store_id)
        if store.get("status") == "expired":
            raise self.no_base(
                self._config.vector_store_id, "the vector store has expired (see its expires_after)"
            )
        metadata = store.object("metadata")
        is_ogx = "provider_vector_store_id" in metadata  # only OGX has this key
        if is_ogx and self._vector_model is None:
            with suppress(TargetError):  # a server that doesn't list its readers may read all formats
                providers = (await self._client.request("readers", "GET", "/providers")).fields
                readers = [row for row in providers.objects("data") if row.get("api") == "file_processors"]
                if {row.text("provider_type") for row in readers} == {PDF_AND_TEXT}:
                    self.takes = replace(self.takes, extensions=EXTENSIONS - OFFICE)
        self._vector_model = (metadata.text("embedding_model") or "unknown") if is_ogx else ""
        return Base(store["id"], store.object("file_counts").count("total"), self._config.base_url)

    async def read_store(self, store_id: str) -> Fields:
        """Return a vector store. Raises `Halted("knowledge-base-missing")` if it doesn't exist."""
        if (store := await api.read(self._client, "base", f"/vector_stores/{store_id}")) is None:
            raise self.no_base(store_id)
        return store

    # -- put
    async def upload(self, document: Outgoing) -> Accepted:
        """Store the file and attach it."""
        key = document.upload_id, document.digest
        attributes = shapes.path_attributes(self._prefix + document.path)
        attributes["kbsync"] = f"{document.digest} {document.upload_id} {document.recipe}"
        # Attaching has its own rate limit: if the file had to wait for it, don't upload the file again.
        if key not in self._uploaded:
            self._uploaded[key] = await self._upload(document), self._steady()
        remote_id, _ = self._uploaded[key]
        try:
            async with self._attach_slots:
                row = await self._attach(remote_id, {"file_id": remote_id, **attributes})
        except Rejected:  # the file didn't become a document
            self._uploaded.pop(key, None)
            with suppress(TargetError):  # the cleanup deletes it later
                await api.remove(self._client, "delete-file", f"/files/{remote_id}")
            raise
        self._uploaded.pop(key, None)
        return Accepted(remote_id, ready=row is not None and status_of(row) == READY)

    async def _upload(self, document: Outgoing) -> str:
        """Store the file, which isn't a document yet, and return its id.

        Never raises `Unsure`, because an unattached file isn't a document, and a lost one is deleted later.
        """
        extension = extension_of(document.path)
        name = self._names.name(document, as_text=bool(self._vector_model) and extension in TEXTS)
        purpose = {"purpose": "assistants"}
        try:
            return await self._send_file("/files", document, created_id, name=name, fields=purpose)
        except Unsure as error:
            newest = api.rows(self._client, "files", "/files", 1, purpose="assistants")
            if row_ids := [row["id"] async for row in newest if self._names.is_of(document, row)]:
                return str(row_ids[0])
            raise Unavailable(error.reason, code=error.code) from error

    async def _attach(self, remote_id: str, attributes: Mapping[str, str]) -> Fields | None:
        """Attach a stored file, which makes it a document. Return None if the service may still be indexing
        it.

        OGX responds only after indexing.
        """
        body, began = {"file_id": remote_id, "attributes": attributes}, self._steady()
        row: Fields | None = None
        try:
            row = (await self._client.post("attach", self._files, json=body)).fields
            is_this_file = (row.id("id") or "").lower() == remote_id.lower()
            require_document("attach", row if is_this_file else None)
        except Unsure as error:
            self._attaching[remote_id], row = self._steady(), None
            with suppress(Unavailable, Rejected):  # a refused look says nothing about the document
                row = await self._read_file(remote_id)
            # Never attach a file twice concurrently: OGX would list it twice and never remove it.
            if row is None and self._steady() - began <= SLOW_ATTACH_AFTER:
                raise Unavailable(error.reason, code=error.code) from error
        if row is None:
            self._attaching[remote_id] = self._steady()
        return row

    # -- status
    async def _states(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """Return the states. A file that is being attached isn't reported as missing."""
        states, waiting = await super()._states(ids), self._pending_ids(ATTACH_TIMEOUT)
        absent = {file_id for file_id, status in states.items() if status.state is DocState.MISSING}
        return {**states, **dict.fromkeys(absent & waiting, INDEXING)}

    async def _find_on_pages(self, ids: Sequence[str]) -> tuple[dict[str, DocumentRow], Sequence[str]]:
        """Search for files among the newest in the list.

        Return their rows, and the ids to request one by one. These are the ids that weren't found, or all of
        them if there are few.
        """
        rows: dict[str, DocumentRow] = {}
        if len(ids) > MAX_SINGLE_POLLS:
            newest = api.rows(self._client, "list", self._files, -(-len(ids) // PAGE_SIZE))
            rows = {row["id"]: shapes.row_of(row, self._prefix) async for row in newest if row["id"] in ids}
        return rows, [file_id for file_id in ids if file_id not in rows]

    async def row(self, remote_id: str) -> DocumentRow:
        """Return one file of the store."""
        response = await self._client.request("status", "GET", f"{self._files}/{remote_id}")
        return shapes.row_of(response.fields, self._prefix)

    def _pending_ids(self, seconds: float) -> set[str]:
        """Return the ids of files that may still appear in the store within this many seconds."""
        uploaded, now = dict(self._uploaded.values()), self._steady()
        self._attaching = {  # forget what is settled, because a daemon may run for years
            file_id: since
            for file_id, since in self._attaching.items()
            if now - since <= CLEAN_EVERY or file_id in uploaded
        }
        began = {**uploaded, **self._attaching}
        return {file_id for file_id, since in began.items() if now - since <= seconds}

    async def _read_file(self, remote_id: str) -> Fields | None:
        """Return one file of the store, or None if the store doesn't have it."""
        return await api.read(self._client, "status", f"{self._files}/{remote_id}")

    # -- delete
    async def _remove_batch(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Detach and delete each file.

        On OGX, restore the passages of a remaining file with identical text.
        """
        if self._vector_model is None:
            await self.base()
        shared = SharedPassages(self._client, self._names, self._vector_model or "")

        async def remove(file_id: str) -> None:
            lost = await shared.find_lost(file_id, alike.get(file_id, ()))
            if not await api.remove(self._client, "delete", f"{self._files}/{file_id}"):
                await self.base()  # a missing file counts as deleted while the store exists
            for passages in lost:
                await shared.restore(passages)
            # Delete the file last: a file that is stored but not attached shows that its deletion was
            # interrupted.
            await api.remove(self._client, "delete-file", f"/files/{file_id}")

        async with AsyncExitStack() as stack:
            for _ in range(self._config.concurrency if self._vector_model else 0):
                await stack.enter_async_context(self._attach_slots)
            alike = await shared.find_alike(ids) if self._vector_model else {}
            alone = [file_id for file_id in ids if file_id not in alike]
            outcomes: dict[str, DeleteOutcome] = await self._call_each(alone, remove)
            for file_id in alike:  # in turn, because they may share passages
                outcomes |= await self._call_each([file_id], remove)
            return outcomes

    # -- list
    async def rows(self) -> AsyncGenerator[DocumentRow, None]:
        """Yield every file in the store. From time to time, also delete files that were never attached."""
        listed_ids = set()
        async with aclosing(api.rows(self._client, "list", self._files)) as rows:
            async for row in rows:
                listed_ids.add(row["id"])
                yield shapes.row_of(row, self._prefix)
        await self._check_list(len(listed_ids))
        now, last = self._steady(), self._cleaned_at
        if not self._context.read_only and (last is None or now - last > CLEAN_EVERY):
            self._cleaned_at = now
            with suppress(TargetError):  # only a cleanup, which runs again later
                await self._delete_orphans(listed_ids)

    async def _delete_orphans(self, attached: set[str]) -> None:
        """Delete files that we uploaded but never attached, because kbsync was killed after the upload."""
        offset = self._client.skew.offset or 0.0
        # Nobody attaches a file uploaded before this process began: the process that uploaded it has ended.
        before = offset + max(self._wall() - CLEAN_AFTER, self._started_at - CLOCK_STEP)
        newest = api.rows(
            self._client, "files", "/files", FILES_PAGES, purpose="assistants", limit=str(FILES_PAGE)
        )
        in_use = attached | self._pending_ids(CLEAN_EVERY)
        orphans = [
            row["id"]
            async for row in newest
            if row["id"] not in in_use
            and self._names.is_ours(row)
            and 0 < (row.count("created_at") or 0) < before
        ]
        # A file may have been attached since the list was read.
        await self.delete([file_id for file_id in orphans if await self._read_file(file_id) is None])

    async def aclose(self) -> None:
        """Close the target.

        Files that are waiting to be attached are deleted, because the next run would upload them again.
        """
        waiting = [file_id for file_id, _ in self._uploaded.values() if file_id not in self._attaching]
        self._uploaded.clear()
        with suppress(TargetError, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                for file_id in waiting:
                    await api.remove(self._client, "delete-file", f"/files/{file_id}")
        await super().aclose()

    # -- rename, search
    async def rename(self, remote_id: str, path: str, name: str, mtime: float) -> None:
        """Change the path in the attributes of a file; its name stays the same.

        Raises `Rejected` for a file that isn't ours.
        """
        row = await self._read_file(remote_id) or Fields()
        if not shapes.is_marked(row):
            await self.base()
            raise Rejected("rename: the file is not in the store, or doesn't have kbsync's mark", code=GONE)
        # Keep attributes that others set: their searches may filter by them.
        attributes = {key: value for key, value in row["attributes"].items() if key not in shapes.PATH_KEYS}
        body = {"attributes": attributes | shapes.path_attributes(self._prefix + path)}
        response = await self._client.request("rename", "POST", f"{self._files}/{remote_id}", json=body)
        renamed = shapes.row_of(response.fields, self._prefix)
        require_parsed(response, renamed.path == path or None)

    async def matches(self, query: Query) -> Sequence[tuple[str, Passage]]:
        """Search the store, or a few files."""
        body: dict[str, Any] = {"query": query.text, "max_num_results": MAX_PASSAGES}
        if 0 < len(query.among) <= MAX_SEARCH_IDS:
            body["filters"] = {"type": "in", "key": "file_id", "value": list(query.among)}
        response = await self._client.request("search", "POST", f"{self._store}/search", json=body)
        return shapes.passages_of(response)
