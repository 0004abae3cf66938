"""A LightRAG server as a target.

The server stores only the file's name, from which it derives the document's id, and accepts each text only
once. It deletes in the background, one job at a time, and not while it is indexing.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

from kbsync.contract.searching import Passage, Query
from kbsync.contract.target import Accepted, Base, DeleteOutcome, DocStatus, Limits, Outgoing
from kbsync.core.names import Naming, tag_of
from kbsync.errors import Halted, Rejected, TargetBusy, TargetError, Unavailable
from kbsync.targets.http.reading import PAGE_SIZE, Fields, ListPage
from kbsync.targets.http.rules import MISSING, UNKNOWN
from kbsync.targets.http.target import ServiceTarget
from kbsync.targets.lightrag import shapes
from kbsync.targets.lightrag.config import LightragTargetConfig
from kbsync.targets.lightrag.shapes import BUSY, BUSY_PAUSE, FINISHED, UNFINISHED, Row, document_id

_OFFICE = "docx epub odt pdf pptx rtf textpack xlsx"
_TEXTS = "bat c conf cpp css csv go h hpp htm html ini java js json less log md mdx php properties py rb scss"
EXTENSIONS = frozenset(f"{_OFFICE} {_TEXTS} sh sql swift tex ts txt xml yaml yml".split())
"""Extensions that the server reads without extra tools (1.5.7, `GET /documents/supported_file_types`)."""

RECENT = 200
"""Maximum number of rows on a page.

Documents that are being indexed are usually on the page with the latest changes.
"""

MAX_PAUSE = 10.0
"""Maximum seconds between reads of the whole list for `status`: one second for each page of the last
read. This must be less than the 15 s after which the engine checks missing documents again."""

DELETION_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.0)
"""Seconds before each check of a running deletion.

After the last check, `delete` fails and the engine retries later.
"""

UPLOADS_FIRST, REFUSALS_END_AFTER = 60.0, 10.0
"""Two numbers of seconds. Once the server has refused deletions for the first one because it is indexing,
uploads wait until it is idle.

After the second one without a refusal, no deletion is waiting, because the engine retries each deletion every
few seconds.
"""

IDLE_PAUSES = (0.0, *[1.0] * 29)
"""Seconds before each check whether the server is idle."""

PASSAGES, MAX_PASSAGES = 4, 200
"""Number of passages to request for each wanted document, and the maximum in total.

The server returns what fits into its token budget.
"""


class LightragTarget(ServiceTarget[Row]):
    """The only knowledge base of a server."""

    _config: LightragTargetConfig
    # One request deletes several documents.
    takes = Limits(EXTENSIONS, batch=10, list_lag=2.0, ids_return=True)
    stores_texts_once = True
    deletes_in_turn = True
    certain_calls = frozenset({"base", "list", "upload", "delete", "deletion", "ask"})
    shortest_query = 3
    classify_response = staticmethod(shapes.classify_response)
    only_recipe = "server"

    def prepare(self) -> None:
        """Initialize the in-memory attributes."""
        self._naming = Naming(self._context.prefix)
        self._next_whole = 0.0
        # Since when, and when last, the server was too busy to delete.
        self._refused_since = self._refused_at = -math.inf

    def headers(self) -> Mapping[str, str]:
        """Return the header with the key."""
        return {"X-API-Key": self._key}

    async def base(self) -> Base:
        """Check the server. It has a single base, which has no id."""
        count = await self._client.read("base", "/documents/status_counts", shapes.count_in)
        return Base(self._config.base_url, count, self._config.base_url)

    async def upload(self, document: Outgoing) -> Accepted:
        """Send a document after deleting the old one with the same text, because the server would refuse a
        second one.
        """
        old, key = document.replaces, self._naming.key
        if old is not None and key(old) != key(document.name):
            old = None  # the old document has different bytes and stays until the new one is searchable
        if old is not None and (failure := (await self.delete([old]))[old]):
            raise failure
        try:
            await self._send(document, document.name)
        except TargetError as error:
            # A tag in the name proves that the document of this name has these bytes.
            if error.code != shapes.STORED or key(document.name) != tag_of(document.digest):
                raise error if old is None else await self._restore(document, old, error) from None
        return Accepted(document.name, replaced=old is not None)

    async def _send(self, document: Outgoing, name: str) -> None:
        await self._deletions.wait()  # meanwhile, the server refuses uploads
        await self._send_file("/documents/upload", document, shapes.receipt_in, name=name)

    async def _restore(self, document: Outgoing, old: str, error: TargetError) -> TargetError:
        """Upload the file under its old name, because the server refused the new name after the old document
        was deleted.
        """
        if isinstance(error, Rejected):
            try:
                await self._send(document, old)
                return error
            except TargetError as other:
                if other.code == shapes.STORED:
                    return error
                reason = f"{error.reason}; the server also refused the old name: {other.reason}"
                if not isinstance(other, Rejected):  # the engine retries both
                    return other if isinstance(other, Halted) else Unavailable(reason, code=error.code)
                error = Rejected(reason, code=error.code)
        error.has_removed = True
        return error

    async def _states(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """Return the states of documents.

        Read one page of the documents that changed last, then the unfinished ones, then those that finished
        last. Search the whole list for all others, and for the originals of duplicates. If the whole list was
        read only recently, these documents are UNKNOWN.
        """
        requested, absent = set(ids), UNKNOWN
        rows: dict[str, Row] = {}
        recent = {"sort_field": "updated_at", "sort_direction": "desc"}
        unfinished, finished = ({**recent, "status_filters": words} for words in (UNFINISHED, FINISHED))
        most_pages = (recent, 1), (unfinished, math.inf), (finished, 1 + len(requested) // RECENT)
        for query, last_page in most_pages:
            number, is_end = 0, False
            while number < last_page and not (is_end or rows.keys() >= requested):
                number += 1
                page = await self.page(number, RECENT, **query)
                rows |= {row.id: row for row in page.rows}
                is_end = not page.rows or number * RECENT >= (page.total or 0)
            if is_end and query is recent:  # that was the whole list
                break
        server_ids = {"", *(row.server_id for row in rows.values())}
        unknown = {
            remote_id
            for remote_id in requested
            if remote_id not in rows or rows[remote_id].duplicate_of not in server_ids
        }
        if unknown and self._steady() >= self._next_whole:
            self._next_whole = math.inf  # one at a time
            try:
                async for row in self.rows():  # the pause also counts the rows that were read before an error
                    rows[row.id] = row
            finally:
                self._next_whole = self._steady() + min(MAX_PAUSE, len(rows) / PAGE_SIZE)
            absent, unknown = MISSING, requested - rows.keys()
        others = {row.server_id: row for row in rows.values()}
        return {
            remote_id: absent if remote_id in unknown else rows[remote_id].status_among(others)
            for remote_id in ids
        }

    async def remove_several(self, ids: Sequence[str]) -> bool:
        """Delete a batch.

        Return whether the server reports success, or whether its list no longer contains any of the
        documents.
        """
        if await self._delete_rows([*map(document_id, ids)]):
            return True
        # The server counts missing documents as failures.
        rows = await self._rows_among(ids)
        # The id of a failed upload's record doesn't follow from the name.
        records = [row.server_id for row in rows.values() if row.server_id != document_id(row.id)]
        if records:
            await self._delete_rows(records)
        return not rows

    async def _remove_batch(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Delete a batch, while uploads wait.

        The server refuses the deletion while it is indexing, so continuous edits could postpone it forever.
        If that goes on for long, uploads also wait until the server is idle.
        """
        now = self._steady()
        if now - self._refused_at >= REFUSALS_END_AFTER:
            self._refused_since = now
        try:
            if now - self._refused_since >= UPLOADS_FIRST:
                await self._wait_while("busy", IDLE_PAUSES)
                self._refused_at = self._steady()  # others may be waiting, too
            return await super()._remove_batch(ids)
        except Unavailable as error:
            if error.code == BUSY:
                self._refused_at = self._steady()
            raise

    async def _delete_rows(self, server_ids: Sequence[str]) -> bool:
        """Delete rows by the server's ids. Return whether the server says that it deleted all of them."""
        body = {"doc_ids": list(server_ids), "delete_file": True, "delete_llm_cache": True}
        response = await self._client.request("delete", "DELETE", "/documents/delete_document", json=body)
        if response.fields.get("status") != "deletion_started":
            raise Unavailable(f"delete: the response doesn't confirm a deletion: {response.excerpt}")
        # The server reports this at once, even while its status text is outdated.
        status = await self._wait_while("destructive_busy", DELETION_PAUSES)
        if status.get("destructive_busy") is True:
            raise TargetBusy("delete: the server is still deleting", code=BUSY, retry_after=BUSY_PAUSE)
        return status.get("latest_message") == f"Deletion completed: {len(server_ids)} successful, 0 failed"

    async def _wait_while(self, flag: str, pauses: Iterable[float]) -> Fields:
        """Check the server's status after each pause, until `flag` isn't set. Return the last status."""
        status = Fields()
        for seconds in pauses:
            await self._sleep(seconds)
            status = (await self._client.request("deletion", "GET", "/documents/pipeline_status")).fields
            if status.get(flag) is not True:
                break
        return status

    async def rows(self) -> AsyncGenerator[Row, None]:
        """Yield the documents, excluding refused uploads.

        The record of a failed upload counts as a document unless a document with that name exists.
        """
        listed_ids: set[str] = set()  # documents come before these records, because the list is sorted by id
        async with aclosing(super().rows()) as rows:
            async for row in rows:
                if row.server_id.startswith("error-") and row.name not in listed_ids:
                    row = replace(row, id=row.name)
                if not row.server_id.startswith("dup-"):
                    listed_ids.add(row.id)
                    yield row

    async def page(self, number: int, size: int, **more: object) -> ListPage[Row]:
        """Return a page of the list.

        By default, it is sorted by id, so that documents keep their place while the server indexes them.
        """
        body = {"page": number, "page_size": size, "sort_field": "id", "sort_direction": "asc", **more}
        return await self._client.read("list", "/documents/paginated", shapes.page_of, json=body)

    async def matches(self, query: Query) -> Iterable[tuple[str, Passage]]:
        """Search the server.

        If the engine will filter the hits by path, type or date, request more passages.
        """
        number = MAX_PASSAGES if query.selects else min(MAX_PASSAGES, PASSAGES * query.top_k)
        body = {"query": query.text, "mode": self._config.mode, "chunk_top_k": number}
        return shapes.passages(await self._client.request("search", "POST", "/query/data", json=body))
