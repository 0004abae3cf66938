"""The knowledge API of Dify as a target of the mirror.

A document can be updated in place there, but its old text leaves the index first, and stays out when the
new one fails (api/tasks/document_indexing_update_task.py). So a changed file is a new document, and the
old one is deleted once the new one is searchable. Metadata comes with a request of its own, and would be
missing after a crash between the two: so the name proves what a document is, and metadata is for filters.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Unpack
from urllib.parse import quote, urljoin

from kbsync.contract.searching import Hit, Query
from kbsync.contract.target import (
    Accepted,
    Base,
    DeleteOutcome,
    DocState,
    DocStatus,
    Listed,
    Outgoing,
    PutOutcome,
    Surroundings,
)
from kbsync.core.model import Limits
from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.dify import shapes
from kbsync.targets.dify.config import FORMATS, DifyTargetConfig
from kbsync.targets.dify.manage import DifyBases
from kbsync.targets.dify.metadata import MetadataSender
from kbsync.targets.dify.shapes import GONE, Dataset, DifyCall, judge_for
from kbsync.targets.http.bodies import FilePart
from kbsync.targets.http.client import ClientOptions
from kbsync.targets.http.reading import PAGE_SIZE, DocumentRow, ListPage, object_of, text_of, well_formed
from kbsync.targets.http.target import RemoteTarget, hits_for, limited, refusal_of

MOST_PASSAGES = 50
"""Of one search, in which a document may have several."""

LONGEST_QUERY = 250
"""Characters of a search (api/services/hit_testing_service.py)."""

LACKING: Mapping[str, object] = {
    "indexing_technique": "high_quality",
    "process_rule": {"mode": "automatic"},
}
"""What a base that was never used has to be told with its first document: what Dify's console proposes."""

_UNKNOWN = DocStatus(DocState.UNKNOWN)


class DifyTarget(RemoteTarget):
    """One knowledge base. Raises `UsageError` for settings of no use."""

    _config: DifyTargetConfig

    only_recipe = "base"

    def __init__(
        self, config: DifyTargetConfig, surroundings: Surroundings, **options: Unpack[ClientOptions]
    ) -> None:
        self._root = f"/datasets/{quote(config.dataset_id, safe='')}"
        self._dataset: Dataset | None = None
        judge = judge_for(config.base_url, config.dataset_id)
        super().__init__(config, surroundings, judge, **options)
        steady = options.get("steady", time.monotonic)
        self._metadata = MetadataSender(self._client, self._root, self._look, steady)

    @property
    def limits(self) -> Limits:
        """What it takes."""
        own = Limits(
            extensions=FORMATS[self._config.etl_type],
            max_bytes=self._config.max_bytes,
            list_lag=1.0,
            ahead=self._config.concurrency // 2 + 1,
            paid=True,
        )
        return limited(own, self._config)

    @property
    def bases(self) -> DifyBases:
        """The knowledge bases of the workspace."""
        config = self._config
        return DifyBases(config.base_url, config.dataset_id, self._surroundings, self._client)

    async def base(self) -> Base:
        """Look at the base. Raises `Halted("knowledge-base-missing")` where there is none."""
        dataset = await self._look()
        return Base(dataset.card.id, dataset.card.documents, self._config.base_url)

    async def _look(self) -> Dataset:
        where = f"knowledge base {self._config.dataset_id} is not at {self._config.base_url} for this api_key"
        try:
            answer = await self._client.ask(DifyCall.BASE, "GET", self._root)
        except Rejected as error:
            reason = f"{where}: {error.reason}; correct base_url (or dataset_id) in the config"
            raise Halted("knowledge-base-missing", reason, code=error.code) from error
        dataset = well_formed(DifyCall.BASE, shapes.dataset_of(answer.body))
        if dataset.provider == "external":
            reason = "is kept outside of Dify and takes no documents; choose another dataset_id"
            raise Halted("knowledge-base-missing", f"knowledge base {dataset.card.id} {reason}")
        if dataset.runtime:
            is_pipeline = dataset.runtime == "rag_pipeline"
            what = "a knowledge pipeline" if is_pipeline else f"of the kind {dataset.runtime}"
            reason = f"is {what} of Dify and takes no uploaded files; choose a general one as dataset_id"
            raise Halted("knowledge-base-missing", f"knowledge base {dataset.card.id} {reason}")
        self._dataset = dataset
        return dataset

    # -- documents

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Send each in a request of its own; outcomes in the order given."""
        return [await self._put(one) for one in documents]

    async def _put(self, document: Outgoing) -> PutOutcome:
        if refused := refusal_of(document, self.limits, self._config.max_bytes):
            return refused
        try:
            dataset = self._dataset or await self._look()
            cut = {"doc_form": dataset.doc_form} if dataset.doc_form else {}
            # Versions that do not look at the base itself want its technique told.
            return await self._send(document, {**cut, **dataset.card.settings})
        except NotOffered as error:
            # What has no such call may be no Dify at all.
            return await self._unless_missing(Rejected(error.reason, code=error.code, may_pass=True))
        except TargetError as error:
            return error

    async def _send(self, document: Outgoing, fields: Mapping[str, object]) -> PutOutcome:
        # Unless told so, Dify puts a document of a name in use in place of that one, whoever's it is, and
        # takes its text out of the index at once (api/tasks/duplicate_document_indexing_task.py).
        data = json.dumps({"duplicate": False, **fields})
        part = FilePart("file", document.name, document.body)
        try:
            answer = await self._client.send(
                DifyCall.UPLOAD, f"{self._root}/document/create-by-file", fields={"data": data}, file=part
            )
        except Rejected as error:
            if error.code not in LACKING or error.code in fields:
                raise
            if error.code == "process_rule" and fields.get("doc_form") == "hierarchical_model":
                # The automatic rule has such a base call completed what it made no passage of.
                advice = "the knowledge base has no rule for it; add one document in Dify's console first"
                raise Rejected(f"{error.reason}; {advice}", code=error.code) from error
            return await self._send(document, {**fields, error.code: LACKING[error.code]})
        made = shapes.document_of(object_of(answer.body).get("document"))
        if made is None:
            return Unsure(f"{DifyCall.UPLOAD}: the answer names no document", code="no-id")
        if self._config.metadata == "sent":
            self._metadata.add(made.id, document, self._surroundings.prefix)
        name = made.name if made.name not in ("", document.name) else ""
        return Accepted(made.id, name=name, created=made.created)

    async def status(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """The state of each: of what was sent last by the first pages of the list, of others one by one.

        New documents are asked about soon, and together: then they get their metadata.
        """
        wanted = dict.fromkeys(ids)
        found: dict[str, DocStatus] = {}
        number, is_more = 1, True
        # A page is worth as many requests as it spares.
        while is_more and len(wanted) - len(found) > number:
            page = await self._page(number, PAGE_SIZE)
            found |= {row.id: row.status for row in page.rows if row.id in wanted}
            number, is_more = number + 1, bool(page.rows)
        rest = [one for one in wanted if one not in found]
        looks = await asyncio.gather(*map(self._status, rest))
        await self._metadata.send(self._dataset)
        return self._redacted(found | dict(zip(rest, looks, strict=True)))

    async def _status(self, remote_id: str) -> DocStatus:
        try:
            answer = await self._client.ask(
                DifyCall.DETAIL, "GET", self._path(remote_id), params={"metadata": "without"}
            )
        except Rejected as error:  # of this one document, which keeps nobody from hearing of the others
            return DocStatus(DocState.MISSING) if error.code == GONE else _UNKNOWN
        row = shapes.document_of(answer.body)
        return row.status if row is not None and row.id == remote_id else _UNKNOWN

    async def delete(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Remove each remote id; what is not there counts as done."""
        ids = tuple(dict.fromkeys(ids))
        self._metadata.forget(ids)
        return dict(zip(ids, await asyncio.gather(*map(self._delete, ids)), strict=True))

    async def _delete(self, remote_id: str) -> DeleteOutcome:
        try:
            await self._client.ask(DifyCall.DELETE, "DELETE", self._path(remote_id))
        except TargetError as error:
            return None if error.code == GONE else error
        return None

    async def list(self) -> AsyncIterator[Listed]:
        """Every document of the base once. Raises `Unavailable` at the end where many are not shown."""
        async with aclosing(self._swept(self._page)) as rows:
            async for row in rows:
                yield row.listed

    async def find(self, name: str) -> Sequence[Listed]:
        """One page of the documents whose names have this in them."""
        return [row.listed for row in (await self._page(1, PAGE_SIZE, name)).rows]

    async def digest(self, remote_id: str) -> str | None:
        """The SHA-256 of the file that was uploaded, read at its signed address; None where it cannot be."""
        digest = hashlib.sha256()
        try:
            answer = await self._client.ask(DifyCall.FILE, "GET", f"{self._path(remote_id)}/upload-file")
            url = text_of(object_of(answer.body).get("url"))
            if not url:
                return None
            # An installation without FILES_URL tells the path alone (`get_signed_file_url`).
            address = urljoin(self._config.base_url, url)
            async with aclosing(self._client.read(address, most=self._config.max_bytes)) as pieces:
                async for piece in pieces:
                    digest.update(piece)
        except (Rejected, ValueError):  # an address may be none
            return None
        return digest.hexdigest()

    async def _page(self, number: int, size: int, word: str = "") -> ListPage[DocumentRow]:
        params = {"page": str(number), "limit": str(size)} | ({"keyword": word} if word else {})
        try:
            answer = await self._client.ask(DifyCall.LIST, "GET", f"{self._root}/documents", params=params)
        except Rejected as error:  # a refused list is no document's fault, while the base is there
            later = Unavailable(f"the list cannot be had: {error.reason}", code=error.code)
            raise await self._unless_missing(later) from error
        return well_formed(DifyCall.LIST, shapes.page_of(answer.body))

    def _path(self, remote_id: str) -> str:
        return f"{self._root}/documents/{quote(remote_id, safe='')}"

    # -- searches

    async def search(self, query: Query) -> Sequence[Hit]:
        """Best first, as the base is set up to search. Dify knows no paths, types and dates."""
        text = query.text.strip()[:LONGEST_QUERY]
        if not text:
            return ()
        dataset = self._dataset or await self._look()
        body = {"query": text, "retrieval_model": {**dataset.retrieval, "top_k": MOST_PASSAGES}}
        answer = await self._client.ask(DifyCall.RETRIEVE, "POST", f"{self._root}/retrieve", json=body)
        found = well_formed(DifyCall.RETRIEVE, shapes.matches_of(answer.body))
        return hits_for(found, query)
