"""A dataset of RAGFlow as a target.

One request uploads a document and another starts parsing it; without the second, searches never find the
document. So if a poll finds a document that isn't parsed, for whatever reason, kbsync starts its parsing. An
upload can't carry a marker, so names identify documents. RAGFlow calls a second document with the same name
`name(1).md`; kbsync accepts such suffixes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlencode

from kbsync.contract.searching import Passage, Query
from kbsync.contract.target import Accepted, BaseCard, DocStatus, Limits, Listed, Outgoing, PutOutcome
from kbsync.errors import NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http.metadata import metadata_of
from kbsync.targets.http.reading import PAGE_SIZE, DocumentRow, ListPage, batches, path_part
from kbsync.targets.http.rules import MISSING, failed
from kbsync.targets.http.target import ServiceTarget
from kbsync.targets.ragflow import shapes
from kbsync.targets.ragflow.config import EXTENSIONS, RagflowTargetConfig
from kbsync.targets.ragflow.shapes import UNSTARTED

MAX_IDS = 100
"""Maximum number of ids in one request (`REST_API_MAX_IDS`, api/utils/pagination_utils.py)."""

DATASETS = "/api/v1/datasets"


class RagflowTarget(ServiceTarget[DocumentRow]):
    """One dataset."""

    classify_response = staticmethod(shapes.classify_response)
    only_recipe = "dataset"
    calls_base = "dataset"
    refuses_alike = True
    most_ids = MAX_IDS
    _config: RagflowTargetConfig
    # One request starts the parsing of ten documents.
    takes = Limits(EXTENSIONS, batch=10, list_lag=1.0)

    def prepare(self) -> None:
        """Set the API paths, and create the in-memory caches."""
        self._dataset = f"{DATASETS}/{self._config.dataset_id}"
        self._documents = f"{self._dataset}/documents"
        self._has_pipeline = False
        self._parsing_until: dict[str, float] = {}  # id → until when a request to parse may be in flight

    async def card(self, base_id: str) -> BaseCard:
        """Return one of the user's datasets."""
        path = f"{DATASETS}?{urlencode({'id': base_id})}"
        cards = await self._read_base(base_id, path, shapes.bases_of)
        return self._card_among(base_id, cards.rows, "it is not in the list")

    # -- documents

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Send each document separately, then start parsing all of them together.

        Return the outcomes in the same order.
        """
        outcomes = await super().put(documents)
        # The documents are stored; `status` handles those whose parsing didn't start.
        if ids := [outcome.remote_id for outcome in outcomes if isinstance(outcome, Accepted)]:
            with contextlib.suppress(TargetError):
                await self._parse(ids)
        return outcomes

    async def upload(self, document: Outgoing) -> Accepted:
        """Store a document, then send its path and tags as metadata. Chats can filter by these."""
        stored = await self._send_file(self._documents, document, shapes.stored_of)
        path = f"{self._documents}/{path_part(stored.id)}"
        # Metadata is optional, so an error doesn't count.
        with contextlib.suppress(TargetError, OSError), self._client.missing.remembered("describe"):
            fields = metadata_of(document, self._context.prefix)
            await self._client.request("describe", "PUT", path, json={"meta_fields": fields})
        return Accepted(stored.id, name=stored.name)

    async def _parse(self, ids: Sequence[str]) -> None:
        """Request parsing without retries, because RAGFlow would refuse a second request for documents in
        progress.
        """
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
        """Return the states, and start parsing documents that haven't been parsed yet."""
        rows = await self._rows_among(ids)
        states = dict.fromkeys(ids, MISSING) | {row.id: row.status for row in rows.values()}
        # Not while a request of ours may be in flight: a late second one would parse the document twice, and
        # searches would miss it in the meantime.
        unparsed = [
            row.id
            for row in rows.values()
            if row.status == UNSTARTED
            and self._age_of(row.created or 0.0) >= self._config.vectorization.absent_after
            and self._steady() >= self._parsing_until.get(row.id, -math.inf)
        ]
        # Parsing costs money, so a read-only command doesn't start it.
        for part in batches(() if self._context.read_only else unparsed, MAX_IDS):
            states |= await self._start_parsing(part)
        return states

    async def _start_parsing(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """Start parsing documents that haven't been parsed yet.

        Return the status of those that RAGFlow refuses to parse.
        """
        try:
            await self._parse(ids)
        except (Unavailable, Unsure, NotOffered):  # "no such call" comes from a gateway
            return {}  # a later poll tries again
        except Rejected as error:
            if len(ids) > 1:  # RAGFlow may have refused all of them because of one
                alone = [await self._start_parsing([remote_id]) for remote_id in ids]
                return {remote_id: state for states in alone for remote_id, state in states.items()}
            # An earlier request may have started the parsing in the meantime; RAGFlow then refuses this one.
            if any(row.status == UNSTARTED for row in (await self._rows_among(ids)).values()):
                return {ids[0]: failed(error.reason, error.code)}
        return {}

    async def reembed(self, remote_id: str) -> None:
        """Request that a document be parsed again."""
        await self._parse([remote_id])

    async def remove_several(self, ids: Sequence[str]) -> bool:
        """Delete a batch.

        For an empty batch, nothing is sent: version 0.24 and earlier would delete all documents in the
        dataset.
        """
        if not ids:
            return True
        response = await self._client.request("delete", "DELETE", self._documents, json={"ids": list(ids)})
        return not response.fields.object("data").get("errors")

    # -- lists

    async def find(self, name: str) -> Sequence[Listed]:
        """Return one page of the documents whose names contain `name` without its extension."""
        stem = name.rpartition(".")[0] or name  # `stem(1).md` is the same file, stored twice
        return await self._listed_on(self.page(1, PAGE_SIZE, urlencode({"keywords": stem})))

    async def page(
        self, number: int, size: int, query: str = "orderby=create_time&desc=false"
    ) -> ListPage[DocumentRow]:
        """Return a page of the list.

        By default, the oldest documents come first, so that new ones appear on the last page.
        """
        params = {"page": str(number), "page_size": str(size)}
        return await self._client.read("list", f"{self._documents}?{query}", shapes.page_of, params=params)

    async def _rows_among(self, ids: Iterable[str]) -> Mapping[str, DocumentRow]:
        """Return the rows of the `ids` that exist, a hundred per request."""
        rows: dict[str, DocumentRow] = {}
        for part in batches(ids, MAX_IDS):
            query = urlencode({"ids": part}, doseq=True)
            page = await self._translate_refusal(self.page(1, PAGE_SIZE, query))
            # Versions before 0.25.1 ignore `ids` and return the first page of all documents.
            is_whole = page.total is not None and page.total <= len(page.rows)
            if not is_whole and {row.id for row in page.rows} != set(part):
                return await super()._rows_among(ids)
            rows |= {row.id: row for row in page.rows if row.id in part}
        return rows

    # -- searches

    async def matches(self, query: Query) -> Sequence[tuple[str, Passage]]:
        """Search the dataset, or only the given documents, and return one page of passages."""
        body = {"question": query.text, "dataset_ids": [self._config.dataset_id], "page_size": PAGE_SIZE}
        call = "search", "/api/v1/retrieval", shapes.matches_of
        if 0 < len(query.among) <= MAX_IDS:
            # RAGFlow refuses the search if one of the documents is gone.
            with contextlib.suppress(Rejected):
                return await self._client.read(*call, json=body | {"document_ids": list(query.among)})
        return await self._client.read(*call, json=body)
