"""The knowledge API of Dify as a target.

Dify can update a document in place, but removes its old text from the index first, and the text stays out if
the new one fails (api/tasks/document_indexing_update_task.py). So a changed file becomes a new document, and
the old one is deleted once the new one is searchable. Metadata needs a separate request, and would be missing
after a crash between the two: so a document's name identifies it, and metadata is only for filters.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any
from urllib.parse import urljoin

from kbsync.contract.searching import Passage, Query
from kbsync.contract.target import Accepted, Base, BaseCard, DocStatus, Limits, Listed, Outgoing
from kbsync.errors import Halted, Rejected, TargetError, Unavailable
from kbsync.targets.dify import shapes
from kbsync.targets.dify.config import FORMATS, DifyTargetConfig
from kbsync.targets.dify.shapes import Dataset
from kbsync.targets.http.metadata import metadata_of
from kbsync.targets.http.reading import PAGE_SIZE, DocumentRow, ListPage, path_part, require_id
from kbsync.targets.http.rules import require_parsed
from kbsync.targets.http.target import ServiceTarget

MAX_PASSAGES = 50
"""Maximum number of passages that a search returns; several may belong to one document."""

MAX_QUERY_LENGTH = 250
"""Maximum length of a query in characters (api/services/hit_testing_service.py)."""

REQUIRED_SETTINGS: Mapping[str, object] = {
    "indexing_technique": "high_quality",
    "process_rule": {"mode": "automatic"},
}
"""Settings to send with the first document of an unused base: the defaults in Dify's console."""

METADATA_BATCH = 100
"""Maximum number of documents in one metadata request (api/controllers/service_api/dataset/metadata.py)."""

MAX_WAITING_DOCUMENTS = 1000
"""Maximum number of documents whose metadata waits to be sent; any further documents remain without it."""

PATIENCE = 15.0
"""Maximum number of seconds by which metadata requests may delay a poll."""

PAUSE = 600.0
"""Seconds to wait after a failed metadata request, because refused requests also count toward the plan's
limit."""


def base_path(base_id: str) -> str:
    """Return the API path of a knowledge base."""
    return f"/datasets/{path_part(base_id)}"


class DifyTarget(ServiceTarget[DocumentRow]):
    """One knowledge base."""

    _config: DifyTargetConfig

    classify_response = staticmethod(shapes.classify_response)
    only_recipe = "base"
    longest_query = MAX_QUERY_LENGTH

    def prepare(self) -> None:
        """Set the API paths and the limits, and create the in-memory caches."""
        self._root = base_path(self._config.dataset_id)
        self._dataset: Dataset | None = None
        self.takes = Limits(FORMATS[self._config.etl_type], list_lag=1.0, paid=True)
        self._metadata: dict[str, Mapping[str, Any]] = {}  # of uploaded documents, still to be sent
        self._metadata_turn, self._no_metadata_until = asyncio.Lock(), -math.inf

    async def base(self) -> Base:
        """Check the base."""
        card = (await self._read_own_dataset()).card
        return Base(card.id, card.documents, self._config.base_url)

    async def card(self, base_id: str) -> BaseCard:
        """Return one base of the workspace."""
        return (await self._read_base(base_id, base_path(base_id), shapes.dataset_of)).card

    async def _read_own_dataset(self) -> Dataset:
        dataset = await self._read_base(self._config.dataset_id, self._root, shapes.dataset_of)
        require_id("base", dataset.card.id, self._config.dataset_id)
        if dataset.kind:
            raise Halted(
                "knowledge-base-missing",
                f"knowledge base {dataset.card.id} is {dataset.kind}, so it doesn't accept file uploads; "
                "set dataset_id to the id of a general knowledge base",
            )
        self._dataset = dataset
        return dataset

    # -- documents

    async def upload(self, document: Outgoing) -> Accepted:
        """Send a document, along with any settings that a base without documents still lacks."""
        dataset = self._dataset or await self._read_own_dataset()
        # By default Dify replaces any document with the same name, even one that kbsync didn't upload, and
        # removes its text from the index at once (api/tasks/duplicate_document_indexing_task.py).
        # Some versions require the base's indexing technique in each request.
        stored = await self._send(document, {"duplicate": False, **dataset.settings})
        has_room = len(self._metadata) < MAX_WAITING_DOCUMENTS
        if has_room and dataset.has_metadata and self._config.metadata == "sent":
            with contextlib.suppress(OSError):
                self._metadata[stored.id] = metadata_of(document, self._context.prefix)
        return Accepted(stored.id, name=stored.name, created=stored.created)

    async def _send(self, document: Outgoing, data: Mapping[str, object]) -> DocumentRow:
        path = f"{self._root}/document/create-by-file"
        try:
            return await self._send_file(path, document, shapes.stored_of, fields={"data": data})
        except Rejected as error:
            missing = {
                name: value
                for name, value in REQUIRED_SETTINGS.items()
                if name not in data and f"{name} is required" in error.reason
            }
            if not missing:
                raise
            if "process_rule" in missing and data.get("doc_form") == "hierarchical_model":
                # With the automatic rule, such a base reports documents without a passage as completed.
                advice = "the knowledge base has no processing rule; add one document in Dify's console first"
                raise Rejected(f"{error.reason}; {advice}", code=error.code) from error
            return await self._send(document, {**data, **missing})

    async def _states(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """Read the states, then send the queued metadata, which is possible only after the upload."""
        states = await super()._states(ids)
        await self._send_metadata()
        return states

    async def row(self, remote_id: str) -> DocumentRow | None:
        """Return a document with its details."""
        params = {"metadata": "without"}
        response = await self._client.request("detail", "GET", self._path(remote_id), params=params)
        return shapes.document_of(response.body)

    async def remove(self, remote_id: str) -> None:
        """Delete a document, and drop its metadata if it hasn't been sent yet."""
        # Dify refuses a metadata request that names a missing document.
        self._metadata.pop(remote_id, None)
        response = await self._client.request("delete", "DELETE", self._path(remote_id))
        require_parsed(response, shapes.is_deleted(response) or None)

    async def find(self, name: str) -> Sequence[Listed]:
        """Return one page of the documents whose names contain `name`."""
        return await self._listed_on(self.page(1, PAGE_SIZE, name))

    async def digest(self, remote_id: str) -> str | None:
        """Return the SHA-256 of the uploaded file, read from its signed URL, or None if it can't be read."""
        try:
            response = await self._client.request("file", "GET", f"{self._path(remote_id)}/upload-file")
            url = response.fields.text("url")
            # An installation without FILES_URL returns only the path (`get_signed_file_url`).
            address = urljoin(self._config.base_url, url)
            return await self._client.digest_at(address, limit=self._config.max_bytes) if url else None
        except (Rejected, ValueError):  # the address may be invalid
            return None

    async def page(self, number: int, size: int, word: str = "") -> ListPage[DocumentRow]:
        """Return a page of the list, newest documents first."""
        params = {"page": str(number), "limit": str(size)} | ({"keyword": word} if word else {})
        return await self._client.read("list", f"{self._root}/documents", shapes.page_of, params=params)

    def _path(self, remote_id: str) -> str:
        return f"{self._root}/documents/{path_part(remote_id)}"

    # -- metadata, which is optional: a failure never fails a document

    async def _send_metadata(self) -> None:
        """Send the queued metadata, unless such a request failed recently. Never raises `TargetError`."""
        async with self._metadata_turn:
            while self._metadata and self._steady() >= self._no_metadata_until:
                batch = dict(islice(self._metadata.items(), METADATA_BATCH))
                try:
                    async with self._client.time_limit("describe", PATIENCE):
                        await self._describe(batch)
                except TargetError as error:
                    if isinstance(error, Unavailable) and error.untried:
                        return
                    self._no_metadata_until = self._steady() + PAUSE
                    if not isinstance(error, Rejected) or error.code == shapes.LIMITED:
                        return
                for remote_id in batch:
                    self._metadata.pop(remote_id, None)

    async def _describe(self, batch: Mapping[str, Mapping[str, Any]]) -> None:
        """Send the metadata of some documents. If the base lacks any fields, create them."""
        operations = []
        for remote_id, values in batch.items():
            entries = [
                # A Dify field holds one value; there are no lists.
                {"id": field, "name": name, "value": ", ".join(value) if isinstance(value, list) else value}
                for name, value in values.items()
                if (field := await self._field_of(name))
            ]
            if entries:  # a partial update keeps the values that users have set
                operation = {"document_id": remote_id, "metadata_list": entries, "partial_update": True}
                operations.append(operation)
        if operations:
            path = f"{self._root}/documents/metadata"
            await self._client.request("describe", "POST", path, json={"operation_data": operations})

    async def _field_of(self, name: str) -> str:
        """Return the id of a metadata field, or "" if someone created it with a different type.

        If the base lacks the field, create it.
        """
        fields = (self._dataset or await self._read_own_dataset()).fields
        if name not in fields:
            try:
                body = {"type": "string", "name": name}
                response = await self._client.post("create-field", f"{self._root}/metadata", json=body)
                fields[name] = require_parsed(response, response.fields.id("id"))
            except Rejected as error:
                # Another mirror may have created the field a moment ago.
                fields = {} if error.code == shapes.LIMITED else (await self._read_own_dataset()).fields
                if name not in fields:
                    raise
        return fields[name]

    # -- searches

    async def matches(self, query: Query) -> Sequence[tuple[str, Passage]]:
        """Search with the base's own search settings."""
        dataset = self._dataset or await self._read_own_dataset()
        body = {"query": query.text, "retrieval_model": {**dataset.retrieval, "top_k": MAX_PASSAGES}}
        return await self._client.read("retrieve", f"{self._root}/retrieve", shapes.matches_of, json=body)
