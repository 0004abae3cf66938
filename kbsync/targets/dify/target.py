"""The knowledge API of Dify as a target.

Dify can update a document in place, but removes its old text from the index first, and the text stays out if
the new one fails (api/tasks/document_indexing_update_task.py). So a changed file becomes a new document, and
the old one is deleted once the new one is searchable. Metadata needs a separate request, and would be missing
after a crash between the two: so a document's name identifies it, and metadata is only for filters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote, urljoin

from kbsync.contract.searching import Passage, Query
from kbsync.contract.target import Accepted, Base, BaseCard, DocStatus, Limits, Listed, Outgoing
from kbsync.errors import Halted, Rejected
from kbsync.targets.dify import shapes
from kbsync.targets.dify.config import FORMATS, DifyTargetConfig
from kbsync.targets.dify.metadata import MetadataSender
from kbsync.targets.dify.shapes import Dataset
from kbsync.targets.http.bodies import FilePart
from kbsync.targets.http.reading import PAGE_SIZE, DocumentRow, ListPage, require_document
from kbsync.targets.http.target import ServiceTarget

MAX_PASSAGES = 50
"""Maximum number of passages in one search; several may belong to one document."""

MAX_QUERY_LENGTH = 250
"""Maximum length of a query in characters (api/services/hit_testing_service.py)."""

REQUIRED_SETTINGS: Mapping[str, object] = {
    "indexing_technique": "high_quality",
    "process_rule": {"mode": "automatic"},
}
"""Settings to send with the first document of an unused base: the defaults of Dify's console."""


def base_path(base_id: str) -> str:
    """Return the API path of a knowledge base."""
    return f"/datasets/{quote(base_id, safe='')}"


class DifyTarget(ServiceTarget[DocumentRow]):
    """One knowledge base."""

    _config: DifyTargetConfig

    classify_response = staticmethod(shapes.classify_response)
    only_recipe = "base"
    gone_proves_base = True

    def prepare(self) -> None:
        """Set the API paths, the limits and the in-memory caches."""
        self._root = base_path(self._config.dataset_id)
        self._dataset: Dataset | None = None
        ahead = self._config.concurrency // 2 + 1
        self.takes = Limits(FORMATS[self._config.etl_type], list_lag=1.0, ahead=ahead, paid=True)
        self._metadata = MetadataSender(self._client, self._root, self._read_dataset, self._steady)

    async def base(self) -> Base:
        """Check the base."""
        dataset = await self._read_dataset()
        return Base(dataset.card.id, dataset.card.documents, self._config.base_url)

    async def card(self, base_id: str) -> BaseCard:
        """Return one base of the workspace."""
        return (await self._read_base(base_id, base_path(base_id), shapes.dataset_of)).card

    async def _read_dataset(self) -> Dataset:
        dataset = await self._read_base(self._config.dataset_id, self._root, shapes.dataset_of)
        if dataset.kind:
            reason = f"knowledge base {dataset.card.id} is {dataset.kind} and accepts no uploaded files"
            fix = "set dataset_id to a general knowledge base"
            raise Halted("knowledge-base-missing", f"{reason}; {fix}")
        self._dataset = dataset
        return dataset

    # -- documents

    async def upload(self, document: Outgoing) -> Accepted:
        """Send a document, together with the settings that an unused base lacks."""
        dataset = self._dataset or await self._read_dataset()
        cut = {"doc_form": dataset.doc_form} if dataset.doc_form else {}
        # Some versions require the base's indexing technique in each request.
        return await self._send(document, {**cut, **dataset.card.settings})

    async def _send(self, document: Outgoing, fields: Mapping[str, object]) -> Accepted:
        # By default Dify replaces any document with the same name, even one that kbsync didn't upload, and
        # removes its text from the index at once (api/tasks/duplicate_document_indexing_task.py).
        data = {"duplicate": False, **fields}
        part = FilePart("file", document.name, document.body)
        try:
            response = await self._client.post_form(
                "upload", f"{self._root}/document/create-by-file", fields={"data": data}, file=part
            )
        except Rejected as error:
            missing_setting = next(
                (setting for setting in REQUIRED_SETTINGS if f"{setting} is required." in error.reason), ""
            )
            if not missing_setting or missing_setting in fields:
                raise
            if missing_setting == "process_rule" and fields.get("doc_form") == "hierarchical_model":
                # With the automatic rule, such a base reports documents without a passage as completed.
                advice = "the knowledge base has no processing rule; add one document in Dify's console first"
                raise Rejected(f"{error.reason}; {advice}", code=error.code) from error
            return await self._send(document, {**fields, missing_setting: REQUIRED_SETTINGS[missing_setting]})
        stored = require_document("upload", shapes.document_of(response.fields.get("document")))
        if self._config.metadata == "sent":
            self._metadata.add(stored.id, document, self._context.prefix)
        return Accepted(stored.id, name=stored.name, created=stored.created)

    async def _states(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """Poll new documents soon, and together, because metadata can be sent only after the upload."""
        states = await super()._states(ids)
        await self._metadata.send(self._dataset)
        return states

    async def row(self, remote_id: str) -> DocumentRow | None:
        """Return a document with its details."""
        params = {"metadata": "without"}
        response = await self._client.request("detail", "GET", self._path(remote_id), params=params)
        return shapes.document_of(response.body)

    async def remove(self, remote_id: str) -> None:
        """Delete a document, and drop its unsent metadata."""
        self._metadata.forget((remote_id,))
        await self._client.request("delete", "DELETE", self._path(remote_id))

    async def find(self, name: str) -> Sequence[Listed]:
        """Return one page of the documents whose names contain `name`."""
        return await self._listed_on(self.page(1, PAGE_SIZE, name))

    async def digest(self, remote_id: str) -> str | None:
        """Return the SHA-256 of the uploaded file, read at its signed URL; None if it can't be read."""
        try:
            response = await self._client.request("file", "GET", f"{self._path(remote_id)}/upload-file")
            url = response.fields.text("url")
            # An installation without FILES_URL returns only the path (`get_signed_file_url`).
            return await self._digest_at(urljoin(self._config.base_url, url)) if url else None
        except (Rejected, ValueError):  # the address may be invalid
            return None

    async def page(self, number: int, size: int, word: str = "") -> ListPage[DocumentRow]:
        """Return a page of the list, newest documents first."""
        params = {"page": str(number), "limit": str(size)} | ({"keyword": word} if word else {})
        return await self._client.read("list", f"{self._root}/documents", shapes.page_of, params=params)

    def _path(self, remote_id: str) -> str:
        return f"{self._root}/documents/{quote(remote_id, safe='')}"

    # -- searches

    async def matches(self, query: Query) -> Sequence[tuple[str, Passage]]:
        """Search with the base's own search settings."""
        dataset = self._dataset or await self._read_dataset()
        text, retrieval = query.text.strip()[:MAX_QUERY_LENGTH], {**dataset.retrieval, "top_k": MAX_PASSAGES}
        body = {"query": text, "retrieval_model": retrieval}
        return await self._client.read("retrieve", f"{self._root}/retrieve", shapes.matches_of, json=body)
