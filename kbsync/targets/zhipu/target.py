"""The knowledge API of Zhipu BigModel as a target of the mirror.

The vendor keeps no marker of ours, takes one document per request, and answers before it has looked into
it. So success is what the body says, searchable is what `embedding_stat` says, and "gone" counts only
while the knowledge base itself still answers to the same key.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

from kbsync.contract.searching import Hit, Passage, Query
from kbsync.contract.target import (
    Accepted,
    Base,
    Capacity,
    DeleteOutcome,
    DocStatus,
    Listed,
    Outgoing,
    Surroundings,
)
from kbsync.core.links import EXTENSIONS as LINKS
from kbsync.core.links import LARGEST, is_address
from kbsync.core.model import Limits
from kbsync.errors import NotOffered, Rejected, Unavailable, Unsure
from kbsync.targets.http.client import ClientOptions, ClockSkew
from kbsync.targets.http.reading import PAGE_SIZE, DocumentRow, ListPage
from kbsync.targets.http.target import ServiceTarget, grace, search_ranked
from kbsync.targets.zhipu.api import ALARMING, ROOT, KeyHeader, MirrorJudge, ZhipuApi, ask_capacity
from kbsync.targets.zhipu.config import EXTENSIONS, ZhipuTargetConfig, described, recipe_of, slicing_of
from kbsync.targets.zhipu.errors import NotFound, is_gone
from kbsync.targets.zhipu.shapes import (
    Images,
    RetrieveRequest,
    ZhipuDocument,
    created_of,
    lacks_images,
    request_about,
    request_for,
    with_images,
)
from kbsync.targets.zhipu.upload import AccountSpace, Indexing, ZhipuUploads, status_of

OVERLOADED = frozenset({"1305", "1312"})
"""Codes of a ranking model that has too much work."""

PICTURES_WITHIN = 5.0
"""Seconds that all questions of one search about pictures may take together."""

MOST_DOCUMENTS = 20
"""So many are asked about, the best ones: as many as there are passages in an answer."""

_STILL_THERE = Unsure("the vendor says that there is no such document, and still has it", code="still-there")


class ZhipuTarget(ServiceTarget[DocumentRow]):
    """One knowledge base. Raises `UsageError` where the settings cannot be used."""

    _config: ZhipuTargetConfig

    def __init__(
        self,
        config: ZhipuTargetConfig,
        surroundings: Surroundings,
        **options: Unpack[ClientOptions],
    ) -> None:
        wall = options.get("wall", time.time)
        self.takes = Limits(
            extensions=EXTENSIONS,
            max_bytes_by_extension=dict.fromkeys(LINKS, min(config.max_bytes, LARGEST)),
            list_lag=1.0,
            ahead=config.concurrency // 2 + 1,
            links=LINKS,
            reembed_grace=grace(config),
            paid=True,
        )
        keys, self._skew = KeyHeader(config, wall), ClockSkew()
        self.judge = MirrorJudge(config, surroundings, keys, self._skew, wall)
        super().__init__(
            config,
            surroundings,
            headers=keys.headers,
            address=config.base_url + ROOT,
            skew=self._skew,
            **options,
        )

    def _make_parts(self) -> None:
        config = self._config
        self._api = ZhipuApi(config, self._surroundings, self._client)
        self._space = AccountSpace(self._api.capacity, self._steady)
        self._uploader = ZhipuUploads(self._api, self._space)
        self._indexing = Indexing(self._api, self._space)

    def recipe(self, path: str, settings: Mapping[str, Any]) -> str:
        """How `path` is sliced, such as `k1`, `k3`, `k5:1f0c9a3b` or `k1:images`."""
        return slicing_of(path, settings).recipe

    def describe(self, recipe: str) -> str:
        """The settings that a recipe stands for."""
        return described(recipe)

    @property
    def bytes_left(self) -> int | None:
        """Of the account's space."""
        return self._space.left

    async def capacity(self) -> Capacity | None:
        """Of the account, asked for each time."""
        return await ask_capacity(self._client)

    async def base(self) -> Base:
        """Look at the base. Raises `Halted("knowledge-base-missing")` where there is none."""
        return await self._api.base()

    async def upload(self, document: Outgoing) -> Accepted:
        """In a request of its own."""
        stored = await self._uploader.put(document)
        return replace(stored, created=self._created(stored.remote_id))

    async def _states(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """In no more requests than there are ids."""
        return await self._indexing.states(ids)

    async def delete(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Remove each remote id. "Not found" counts as done where a look agrees, and the base answers."""
        answers = await self._api.each(dict.fromkeys(ids), self._api.delete)
        outcomes: dict[str, DeleteOutcome] = {**answers.given, **answers.refused}
        gone = [remote_id for remote_id, error in answers.refused.items() if is_gone(error)]
        if gone:  # what the vendor calls missing at a DELETE may be there all the same (promise 10)
            seen = await self._api.documents(gone)
            outcomes |= {one: _STILL_THERE if found else None for one, found in seen.given.items()}
            outcomes |= seen.refused
        if answers.given:
            self._space.freed()
        return outcomes

    async def page(self, number: int, size: int, word: str = "") -> ListPage[DocumentRow]:
        """Of the documents whose names have to do with `word`, or of all."""
        try:
            page = await self._api.page(number, size, word)
        except Rejected as error:  # the base is there: no refusal is an empty list
            raise Unavailable(f"the list cannot be had: {error.reason}", code=error.code) from error
        return ListPage(tuple(map(self._read, page.rows)), page.total, page.is_null)

    async def find(self, name: str) -> Sequence[Listed]:
        """One page of what the list's own filter shows."""
        # How it compares is not documented, so it can show a document and never its absence.
        return [row.listed for row in (await self.page(1, PAGE_SIZE, name)).rows]

    async def reembed(self, remote_id: str) -> None:
        """Accepted is not done: `status` says. Raises `NotOffered` where there is no such call."""
        await self._indexing.reembed(remote_id)

    async def reslice(self, remote_id: str, path: str, settings: Mapping[str, Any]) -> None:
        """Accepted is not done: `status` says. Raises `NotOffered` where there is no such call."""
        await self._indexing.reslice(remote_id, slicing_of(path, settings))

    async def digest(self, remote_id: str) -> str | None:
        """The SHA-256 of what the vendor stored, read through a fresh signed URL; None where it cannot be."""
        try:
            # A fresh detail each time: its URL is signed for some hours only.
            document = await self._api.document(remote_id)
            is_there = document is not None and document.url.startswith(("http://", "https://"))
            return await self._digest_at(document.url) if document and is_there else None
        except Rejected:
            return None

    async def is_searchable(self, remote_id: str, name: str) -> bool:
        """A search in this one document finds it. Raises `NotOffered` where there is no search."""
        try:
            found = await self._retrieve(request_about(remote_id, name))
        except NotFound:  # the base is there: it is said of the document
            return False
        return any(doc_id == remote_id for doc_id, _ in found)

    @property
    def reranks(self) -> bool:
        """The vendor has a ranking model; it is asked on request."""
        return True

    async def matches(self, query: Query) -> Sequence[tuple[str, Passage]]:
        """Among documents, if the query names some."""
        request = request_for(query, self._config.search)
        try:
            return await search_ranked(
                lambda ranked: self._retrieve(replace(request, rerank=ranked)), request.rerank, OVERLOADED
            )
        except NotFound as error:
            raise _no_search(error) from error

    async def _retrieve(self, request: RetrieveRequest) -> Sequence[tuple[str, Passage]]:
        missing = self._client.missing
        missing.check("retrieve")
        try:
            return await self._api.retrieve(request)
        except NotOffered as error:
            said = _no_search(error)
            # with a ranking model asked for, that may be what is missing
            raise (said if request.rerank else missing.note("retrieve", said)) from error

    async def illustrated(self, hits: Sequence[Hit]) -> Sequence[Hit]:
        """The hits in their order with their pictures; a failure or a slow answer costs pictures alone.

        Source: the vendor's manual of the knowledge API, 3.5.8: `POST /document/slice/image_list/{id}`.
        """
        ids = list(dict.fromkeys(hit.remote_id for hit in hits if lacks_images(hit)))[:MOST_DOCUMENTS]
        if not ids or self._client.missing.lacks("images"):
            return hits
        deadline = asyncio.get_running_loop().time() + PICTURES_WITHIN

        async def in_time(remote_id: str) -> Images:
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._api.images(remote_id)
            except TimeoutError as error:
                raise Unavailable("the pictures did not come in time") from error

        answers = await self._api.each(ids, in_time)
        missing = [error for error in answers.refused.values() if isinstance(error, NotOffered)]
        # a bare 404 may be about the one document; about all of several it is not
        is_of_all = len(missing) == len(answers.refused) > 1 and not answers.given
        sure = missing if is_of_all else [error for error in missing if error.code != "404"]
        if sure:
            self._client.missing.note("images", sure[0])
        return [with_images(hit, answers.given.get(hit.remote_id, {})) for hit in hits]

    def _read(self, row: ZhipuDocument) -> DocumentRow:
        addresses = tuple(text for text in (row.name, row.url) if is_address(text))
        created, status, recipe = self._created(row.id), status_of(row), recipe_of(row)
        return DocumentRow(row.id, row.name, row.size, created, status, recipe=recipe, addresses=addresses)

    def _created(self, remote_id: str) -> float | None:
        """By our clock; None where the two are far apart: ids may tell another time than answers do."""
        theirs, apart = created_of(remote_id), self._skew.apart or 0.0
        return None if theirs is None or abs(apart) > ALARMING else theirs - apart


def _no_search(error: Rejected) -> NotOffered:
    return NotOffered(f"this knowledge base offers no search: {error.reason}", code=error.code)
