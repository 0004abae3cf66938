"""A dataset of RAGFlow as a target.

One request uploads a document and another starts parsing it; without the second, searches never find the
document. So if a poll finds a document that isn't parsed, for whatever reason, kbsync starts its parsing. An
upload can't carry a marker, so names identify documents. RAGFlow calls a second document with the same name
`name(1).md`; kbsync accepts such suffixes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from kbsync.contract.searching import Passage, Query
from kbsync.contract.target import (
    Accepted,
    BaseCard,
    DocState,
    DocStatus,
    Limits,
    Listed,
    Outgoing,
    PutOutcome,
)
from kbsync.errors import NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http.bodies import FilePart
from kbsync.targets.http.metadata import metadata_of
from kbsync.targets.http.reading import PAGE_SIZE, ListPage, batches, require_document
from kbsync.targets.http.rules import MISSING
from kbsync.targets.http.target import ServiceTarget
from kbsync.targets.ragflow import shapes
from kbsync.targets.ragflow.config import EXTENSIONS, RagflowTargetConfig
from kbsync.targets.ragflow.shapes import ParsedDocument

MAX_IDS = 100
"""Maximum number of ids in one request (`REST_API_MAX_IDS`, api/utils/pagination_utils.py)."""

BATCH = 10
"""Maximum number of documents to parse or delete with one request."""

MAX_CHUNKS = 100
"""Number of passages that a search requests: the maximum page size."""

DATASETS = "/api/v1/datasets"


class RagflowTarget(ServiceTarget[ParsedDocument]):
    """One dataset."""

    classify_response = staticmethod(shapes.classify_response)
    only_recipe = "dataset"
    calls_base = "dataset"
    refuses_alike = True
    most_ids = MAX_IDS
    _config: RagflowTargetConfig
    takes = Limits(EXTENSIONS, batch=BATCH, list_lag=1.0)

    def prepare(self) -> None:
        """Set the API paths and the in-memory caches."""
        self._dataset = f"{DATASETS}/{self._config.dataset_id}"
        self._documents = f"{self._dataset}/documents"
        self._has_pipeline = False
        self._parsing_until: dict[str, float] = {}  # id → until when a request to parse may be in flight

    async def card(self, base_id: str) -> BaseCard:
        """Return one of the user's datasets."""
        try:
            cards = await self._client.read("base", DATASETS, shapes.bases_of, params={"id": base_id})
        except NotOffered as error:  # not the server's own response, so the dataset may exist
            raise Unavailable(error.reason, code=error.code) from error
        except Rejected as error:
            raise self.no_base(base_id, error.reason) from error
        for card in cards.rows:
            if card.id == base_id:
                return card
        raise self.no_base(base_id, "it is not in the list")

    # -- documents

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Send each document separately, then start parsing them together; return the outcomes in the same
        order.
        """
        outcomes = await super().put(documents)
        with contextlib.suppress(
            TargetError
        ):  # the documents are stored; `status` handles those whose parsing didn't start
            await self._parse([outcome.remote_id for outcome in outcomes if isinstance(outcome, Accepted)])
        return outcomes

    async def upload(self, document: Outgoing) -> Accepted:
        """Store a document, then send its metadata."""
        file = FilePart("file", document.name, document.body)
        response = await self._client.post_form("upload", self._documents, fields={}, file=file)
        stored = require_document("upload", shapes.stored_of(response.body))
        await self._describe(stored.id, document)
        return Accepted(stored.id, name=stored.name)

    async def _describe(self, remote_id: str, document: Outgoing) -> None:
        """Send a document's path and tags, which chats can filter by.

        They are optional, so this never raises an error.
        """
        path = f"{self._documents}/{quote(remote_id, safe='')}"
        with contextlib.suppress(TargetError, OSError), self._client.missing.remembered("describe"):
            fields = metadata_of(document, self._context.prefix)
            await self._client.request("describe", "PUT", path, json={"meta_fields": fields})

    async def _parse(self, ids: Sequence[str]) -> None:
        """Request parsing without retries: RAGFlow would refuse a second request for documents in
        progress.
        """
        if not ids:
            return
        now = self._steady()
        for remote_id in [remote_id for remote_id, end in self._parsing_until.items() if end <= now]:
            del self._parsing_until[remote_id]
        self._parsing_until |= dict.fromkeys(ids, now + self._config.vectorization.absent_after)
        if not self._has_pipeline:
            try:
                await self._client.post("parse", f"{self._dataset}/chunks", json={"document_ids": ids})
            except Rejected as error:
                # The dataset has an ingestion pipeline, which needs a different call.
                if error.code != "101" or "/documents/ingest" not in error.reason:
                    raise
                self._has_pipeline = True
        if self._has_pipeline:
            body = {"doc_ids": ids, "run": "1", "delete": True}
            await self._client.post("parse", "/api/v1/documents/ingest", json=body)

    async def _states(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """Read the states, a hundred per request, and start parsing the unparsed documents."""
        states: dict[str, DocStatus] = {}
        for part in batches(ids, MAX_IDS):
            rows = await self._rows(part)
            states |= dict.fromkeys(part, MISSING) | {row.id: row.status for row in rows.values()}
            unparsed = [remote_id for remote_id, row in rows.items() if self._needs_parsing(row)]
            states |= await self._start_parsing(unparsed)
        return states

    def _needs_parsing(self, row: ParsedDocument) -> bool:
        """Return whether to start parsing: true if nobody has and none of our earlier requests is still in
        flight.

        A late second request would parse the document twice, and searches would miss it in the meantime.
        """
        is_old = self._age_of(row.created or 0.0) >= self._config.vectorization.absent_after
        is_due = is_old and self._steady() >= self._parsing_until.get(row.id, -math.inf)
        # Parsing costs money, so a read-only command doesn't start it.
        return row.is_unstarted and is_due and not self._context.read_only

    async def _start_parsing(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """Start parsing the unparsed documents; return the status of those that RAGFlow refuses to parse."""
        try:
            await self._parse(ids)
        except (Unavailable, Unsure, NotOffered):  # "no such call" comes from a gateway
            return {}  # a later poll tries again
        except Rejected as error:
            if len(ids) > 1:  # RAGFlow may have refused all of them because of one
                alone = [await self._start_parsing([remote_id]) for remote_id in ids]
                return {remote_id: state for states in alone for remote_id, state in states.items()}
            # An earlier request may have started it meanwhile; RAGFlow then refuses this one.
            row = (await self._rows(ids)).get(ids[0])
            if row and row.is_unstarted:
                return {ids[0]: DocStatus(DocState.FAILED, error.reason, error.code)}
        return {}

    async def reembed(self, remote_id: str) -> None:
        """Request that a document be parsed again."""
        await self._parse([remote_id])

    async def remove_several(self, ids: Sequence[str]) -> bool:
        """Delete a batch.

        Sends nothing for an empty batch: versions up to 0.24 would delete all documents of the dataset.
        """
        if not ids:
            return True
        response = await self._client.request("delete", "DELETE", self._documents, json={"ids": list(ids)})
        return not response.fields.object("data").get("errors")

    async def still_there(self, ids: Sequence[str]) -> Collection[str]:
        """Return which `ids` have a row."""
        return (await self._rows(ids)).keys()

    # -- lists

    async def find(self, name: str) -> Sequence[Listed]:
        """Return one page of the documents whose names contain `name` without its extension."""
        stem = name.rpartition(".")[0] or name  # `stem(1).md` is the same file, stored twice
        return await self._listed_on(self._request_list(_page_query(1, PAGE_SIZE, keywords=stem)))

    async def page(self, number: int, size: int) -> ListPage[ParsedDocument]:
        """Return a page of the list, oldest documents first, so that new ones appear on the last page."""
        return await self._request_list(_page_query(number, size, orderby="create_time", desc="false"))

    async def _request_list(self, query: str) -> ListPage[ParsedDocument]:
        return await self._client.read("list", f"{self._documents}?{query}", shapes.page_of)

    async def _rows(self, ids: Sequence[str]) -> Mapping[str, ParsedDocument]:
        """Return the rows of the `ids` that exist; at most `MAX_IDS` ids."""
        query = f"{_page_query(1, PAGE_SIZE)}&{urlencode([('ids', remote_id) for remote_id in ids])}"
        page, wanted = await self._translate_refusal(self._request_list(query)), set(ids)
        rows = {row.id: row for row in page.rows}
        # Versions before 0.25.1 ignore `ids` and return the first page of all documents.
        is_whole = rows.keys() == wanted or (page.total is not None and page.total <= len(page.rows))
        if is_whole and rows.keys() <= wanted:
            return rows
        return await self._rows_among(ids)

    # -- searches

    async def matches(self, query: Query) -> Sequence[tuple[str, Passage]]:
        """Search the dataset, or a few documents."""
        body: dict[str, Any] = {"question": query.text, "dataset_ids": [self._config.dataset_id]}
        body |= {"page": 1, "page_size": MAX_CHUNKS}
        few = {"document_ids": list(query.among)} if 0 < len(query.among) <= MAX_IDS else {}
        call = "search", "/api/v1/retrieval", shapes.matches_of
        try:
            return await self._client.read(*call, json=body | few)
        except Rejected:
            if not few:
                raise
            # One of the documents is gone, so RAGFlow refuses the search.
            return await self._client.read(*call, json=body)


def _page_query(number: int, size: int, **more: str) -> str:
    return urlencode({"page": number, "page_size": size, **more})
