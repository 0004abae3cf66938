"""The knowledge API of Zhipu BigModel as a target.

The service doesn't store our marker, accepts one document per request, and responds before checking the
document. So an upload succeeded only if the body of the response says so, a document is searchable only if
`embedding_stat` says so, and "not found" is believed only while the knowledge base itself still responds to
the same key.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import math
import re
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from kbsync.contract.searching import Hit, Passage, Query
from kbsync.contract.target import (
    Accepted,
    Base,
    Capacity,
    DeleteOutcome,
    DocStatus,
    Limits,
    Listed,
    Outgoing,
)
from kbsync.core.links import EXTENSIONS as LINKS
from kbsync.core.links import is_address, is_link
from kbsync.core.text import format_duration
from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable, Unfit, Unsure
from kbsync.targets.http.bodies import without_none
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.reading import PAGE_SIZE, Fields, ListPage, path_part, require_id
from kbsync.targets.http.target import ServiceTarget, address_in, search_ranked
from kbsync.targets.zhipu import config, errors, shapes
from kbsync.targets.zhipu.config import ZhipuSearchConfig, ZhipuTargetConfig
from kbsync.targets.zhipu.errors import NoRoom, NotFound, is_gone
from kbsync.targets.zhipu.shapes import ZhipuDocument
from kbsync.targets.zhipu.space import AccountSpace

ROOT = "/llm-application/open"
"""The prefix of all calls' paths, after `base_url`."""

LIFE = 210.0
"""Seconds for which a token is valid, as in the service's own client."""

ALARMING = 300.0
"""Clock difference, in seconds, above which kbsync ignores the times in ids."""

CAPACITY_TIMEOUT = 5.0
"""Maximum seconds to wait for the account's capacity, including retries; after that, uploads continue without
it.
"""

EXPIRED = "1003"

ALARMING_OFFSET = 60.0
"""Clock difference, in seconds, above which the message about a refused token mentions the clock."""

MIN_SECRET_LENGTH = 6

OVERLOADED = frozenset({"1305", "1312"})
"""Error codes indicating that the ranking model is overloaded."""

MAX_QUERY_LENGTH = 1000
"""Maximum length of a query in characters."""

PICTURES_WITHIN = 5.0
"""Maximum duration of all picture requests of one search, in seconds."""

MAX_DOCUMENTS = 20
"""Maximum number of documents for which to request pictures, best first: the number of passages in a
response."""

_STILL_THERE = Unsure("the service says that the document is missing, but still has it", code="still-there")


def sign_token(key_id: str, secret: str, now: float) -> str:
    """Return a JSON web token (HS256) with times in milliseconds, as the service requires."""
    head = {"alg": "HS256", "sign_type": "SIGN"}
    payload = {"api_key": key_id, "exp": round((now + LIFE) * 1000), "timestamp": round(now * 1000)}
    parts = (json.dumps(part, separators=(",", ":")).encode() for part in (head, payload))
    text = ".".join(map(_base64, parts))
    return f"{text}.{_base64(hmac.digest(secret.encode(), text.encode(), hashlib.sha256))}"


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def base_path(base_id: str) -> str:
    """Return the API path of a knowledge base."""
    return f"/knowledge/{path_part(base_id)}"


class ZhipuTarget(ServiceTarget[ZhipuDocument]):
    """One knowledge base."""

    _config: ZhipuTargetConfig

    root = ROOT
    takes = Limits(config.EXTENSIONS, list_lag=1.0, links=LINKS, paid=True)
    reranks = True
    longest_query = MAX_QUERY_LENGTH
    file_field = "files"
    describe = staticmethod(config.describe_recipe)
    is_gone = staticmethod(is_gone)

    def prepare(self) -> None:
        """Set the target's limits, the account's shared state, and the secrets to hide in errors."""
        url, key = self._context.callback_url, self._key
        authorization = gateway.reveal() if (gateway := self._config.callback_authorization) else ""
        self._space = AccountSpace(self.capacity, self._steady)
        self._callback: dict[str, Any] = {"callback_url": url} if url else {}
        if url and authorization:
            self._callback["callback_header"] = {"Authorization": authorization}
        # Every word of the header's value is secret except the scheme at its beginning.
        scheme, _, rest = authorization.strip().partition(" ")
        words = re.split(r"""[\s,;:="']+""", rest or scheme)
        parts = {key, *key.split("."), url.rpartition("/")[2], authorization, *words}
        # Replace the longest first: replacing a part first would leave the rest of the whole.
        secrets = (part for part in parts if len(part) >= MIN_SECRET_LENGTH)
        self._client.secrets = sorted(secrets, key=len, reverse=True)
        self._expired_at = math.inf  # when it first reported an expired token and has accepted none since

    def headers(self) -> Mapping[str, str]:
        """Return the header with the key, or with a new token signed with it."""
        if self._config.auth != "jwt":
            return super().headers()
        key_id, _, secret = self._key.partition(".")
        return {"Authorization": f"Bearer {sign_token(key_id, secret, self._wall())}"}

    def classify_response(self, response: HttpResponse) -> TargetError | None:
        """Return the error in a response, or None on success.

        Each request has a new token. An expired one is therefore an error to retry, until the service refuses
        a token that was signed later.
        """
        error, signs = errors.classify_response(response), self._config.auth == "jwt"
        if error is None:
            if response.sent_at > self._expired_at:
                self._expired_at = math.inf
            return None
        if signs and error.code == EXPIRED and response.sent_at <= self._expired_at:
            self._expired_at = min(self._expired_at, self._wall())
            error = Unavailable(f"{error.reason}; the next request uses a new token", code=EXPIRED)
        offset = self.clock_offset or 0.0
        is_refused = isinstance(error, Halted) and error.halt == "credentials"
        if signs and is_refused and abs(offset) > ALARMING_OFFSET:  # a token contains times
            side = "behind" if offset > 0 else "ahead of"
            error.reason += f"; this machine's clock is {format_duration(abs(offset))} {side} the service's"
        return error

    def recipe(self, path: str, settings: Mapping[str, Any]) -> str:
        """Return the recipe for splitting `path`; for example, `k1`, `k3`, `k5:1f0c9a3b` or `k1:images`."""
        return config.recipe_of(config.slicing_of(path, settings)) or ""

    async def capacity(self) -> Capacity | None:
        """Return the account's quota and usage, or None if unknown.

        Raises `Unavailable` after `CAPACITY_TIMEOUT` seconds, because uploads, plans and users wait for the
        result but can do without it.
        """
        with self._client.missing.remembered("capacity"):
            async with self._client.time_limit("capacity", CAPACITY_TIMEOUT):
                response = await self._client.request("capacity", "GET", "/knowledge/capacity")
        return shapes.capacity_of(response.body)

    async def base(self) -> Base:
        """Check the base."""
        # A count that isn't an integer can't prove that a list is incomplete (ADR 14), so it counts as
        # unknown.
        count = (await self.read_base(self._config.knowledge_id)).get("document_size")
        documents = count if type(count) is int and count >= 0 else None
        return Base(self._config.knowledge_id, documents, self._config.base_url)

    async def read_base(self, base_id: str) -> Fields:
        """Return a base of the account. Raises `Halted("knowledge-base-missing")` if it doesn't exist."""
        content = await self._read_base(base_id, base_path(base_id), shapes.data_of)
        if not content:
            raise self.no_base(base_id, "the service's response has no data")
        require_id("base", content.id("id") or base_id, base_id)
        return Fields(content, id=base_id)

    async def _while_base_answers(self, asking: Awaitable[HttpResponse]) -> HttpResponse:
        """Await and return a response.

        "No such document" and "no such call" are believed only while the base responds (promise 1).
        """
        try:
            return await asking
        except (NotFound, NotOffered):
            await self.base()
            raise

    # -- documents

    async def upload(self, document: Outgoing) -> Accepted:
        """Send a document in a request of its own.

        If the service reports a lack of space, check the account's capacity.
        """
        upload = self._upload_page if is_link(document.path) else self._upload_file
        try:
            stored = await upload(document)
        except NoRoom as error:
            # The service may report a lack of "space" because of one document; the account's capacity shows
            # the cause.
            raise await self._space.blame(error, document.size) from error
        return replace(stored, created=self._created(stored.remote_id))

    async def _upload_file(self, document: Outgoing) -> Accepted:
        path = f"/document/upload_document/{self._config.knowledge_id}"
        fields = {"req_id": f"kbsync-{document.upload_id}", **self._callback}
        fields |= config.slicing_of(document.name, document.settings)
        parse = partial(shapes.read_receipt, name=document.name)
        await self._space.take(document.name, document.size)
        try:
            # After an unclear response, the engine looks for the document by its name (promise 3).
            return await self._send_file(path, document, parse, fields=fields, content_type=None)
        finally:
            self._space.ended(document.size)

    async def _upload_page(self, document: Outgoing) -> Accepted:
        """Send the URL in a link file, for the service to fetch. Raises `Unfit` for a file without a URL."""
        address, missing = address_in(document), self._client.missing
        slicing = config.slicing_of(document.path, document.settings)
        page = {"url": address, **slicing, **self._callback}
        body = {"knowledge_id": self._config.knowledge_id, "upload_detail": [page]}
        try:
            with missing.remembered("upload-url"):
                sending = self._client.post("upload-url", "/document/upload_url", json=body)
                response = await self._while_base_answers(sending)
        except (NotFound, NotOffered) as error:
            reason = f"the service doesn't accept URLs here: {error.reason}"
            is_proven = isinstance(error, NotFound) or missing.lacks("upload-url")
            raise Unfit(reason, code=error.code, may_pass=not is_proven) from error
        try:
            stored = shapes.read_receipt(response.body, address, key="url")
        except Rejected as error:  # a page that the service can't fetch says nothing about other documents
            raise Unfit(error.reason, code=error.code) from error
        # The document doesn't have a name that we chose, so it can't be found by its name.
        return Accepted(stored.remote_id)

    async def delete(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Delete each remote id. "Not found" counts as success if a check confirms it and the base
        responds.
        """
        outcomes: dict[str, DeleteOutcome] = await self._call_each(dict.fromkeys(ids), self.remove)
        # A document that a DELETE reports as missing may still exist (promise 10).
        refusals = {doc_id: error for doc_id, error in outcomes.items() if error and is_gone(error)}
        for doc_id, detail in (await self._read_details(refusals)).items():
            outcomes[doc_id] = _STILL_THERE if isinstance(detail, ZhipuDocument) else detail
        # Without the service's code, the 404 may be a gateway's that lacks the calls for single documents.
        by_gateway = [doc_id for doc_id, error in refusals.items() if isinstance(error, NotOffered)]
        gone = [doc_id for doc_id in by_gateway if outcomes[doc_id] is None]
        try:
            listed_ids = (await self._rows_among(gone)).keys() if gone else ()
        except TargetError as error:
            return outcomes | dict.fromkeys(gone, error)
        return await self._check_refusals(outcomes | dict.fromkeys(listed_ids, _STILL_THERE))

    async def remove(self, remote_id: str) -> None:
        """Delete one document. "Not found" doesn't prove anything by itself."""
        await self._client.request("delete", "DELETE", f"/document/{path_part(remote_id)}")

    async def reembed(self, remote_id: str) -> None:
        """Ask the service to reindex a document."""
        self._client.missing.check("reembed")
        path = f"/document/embedding/{path_part(remote_id)}"
        # Indexing costs money: send it without retries, and raise `Unsure` for a lost response.
        sending = self._client.post("reembed", path, json=self._callback)
        await self._request_again("reembed", remote_id, sending)

    async def reslice(self, remote_id: str, path: str, settings: Mapping[str, Any]) -> None:
        """Ask the service to split a document again."""
        self._client.missing.check("reslice")
        slicing, document = config.slicing_of(path, settings), await self._document(remote_id)
        if document is None:
            raise _not_found()
        if bool(document.parse_image) != ("parse_image" in slicing):
            raise NotOffered("splitting a document again can't change whether its images are read")
        body = {**config.reslicing_of(slicing), **self._callback}
        call = f"/document/{path_part(remote_id)}"
        sending = self._client.request("reslice", "PUT", call, json=body)
        await self._request_again("reslice", remote_id, sending)

    async def _request_again(self, op: str, remote_id: str, asking: Awaitable[HttpResponse]) -> None:
        try:
            await self._while_base_answers(asking)
        except (NotFound, NotOffered) as error:
            # A 404 is about the call or the document, because the base exists: request the document to find
            # out.
            if is_gone(error) and (error.code != "404" or await self._document(remote_id) is None):
                raise _not_found() from error
            reason = f"{op}: the service doesn't support this call: {error.reason}"
            raise self._client.missing.note(op, NotOffered(reason, code=error.code)) from error
        except NoRoom as error:
            raise await self._space.blame(error) from error

    async def digest(self, remote_id: str) -> str | None:
        """Return the SHA-256 of the stored file, read through a new signed URL, or None if that fails."""
        try:
            # Request the document again each time: its signed URL is valid only for a few hours.
            url = (await self._read_detail(remote_id)).url
            limit = self._config.max_bytes
            return await self._client.digest_at(url, limit=limit) if is_address(url) else None
        except Rejected:
            return None

    # -- lists and states

    async def page(self, number: int, size: int, word: str = "") -> ListPage[ZhipuDocument]:
        """Return a page of the list, whose order isn't documented. `word`: a filter for document names."""
        params = {"knowledge_id": self._config.knowledge_id, "page": str(number), "size": str(size)}
        params |= {"word": word} if word else {}
        page = shapes.page_of((await self._client.request("list", "GET", "/document", params=params)).body)
        return replace(page, rows=tuple(replace(row, created=self._created(row.id)) for row in page.rows))

    async def find(self, name: str) -> Sequence[Listed]:
        """Return one page of the list, filtered by the service."""
        # The filter's comparison is undocumented, so a result proves a document, but never its absence.
        return await self._listed_on(self.page(1, PAGE_SIZE, name))

    async def row(self, remote_id: str) -> ZhipuDocument:
        """Return one document. Raises `NotFound` if it doesn't exist or the response has no data."""
        response = await self._client.request("detail", "GET", f"/document/{path_part(remote_id)}")
        document = shapes.document_of(response.body, remote_id)
        if document is None:
            raise _not_found()
        return document

    async def _document(self, remote_id: str) -> ZhipuDocument | None:
        """Return the document, or None if it no longer exists but the base does."""
        document = (await self._read_details([remote_id]))[remote_id]
        if isinstance(document, TargetError):
            raise document
        return document

    async def _states_of(self, rows: Mapping[str, ZhipuDocument]) -> Mapping[str, DocStatus]:
        states = {doc_id: row.status for doc_id, row in rows.items()}
        full = [doc_id for doc_id, state in states.items() if state.halt]
        if full and await self._space.has_room():  # the documents are to blame, so the mirror doesn't halt
            states |= {doc_id: rows[doc_id].failed(has_room=True) for doc_id in full}
        return states

    # -- searches

    async def is_searchable(self, remote_id: str, name: str) -> bool:
        """Return whether a search limited to this document finds it.

        Raises `NotOffered` if the service has no search.
        """
        # Use the default search settings instead of the config's, because any hit proves that the document is
        # searchable.
        try:
            hits = await self._retrieve(shapes.words_in(name), 1, (remote_id,), shapes.USUAL)
        except NotFound:  # the base exists, so this is about the document
            return False
        return any(doc_id == remote_id for doc_id, _ in hits)

    async def matches(self, query: Query) -> Sequence[tuple[str, Passage]]:
        """Search the base, or only the documents given in the query."""
        search = partial(self._retrieve, query.text, shapes.MAX_PASSAGES, query.among, self._config.search)
        try:
            return await search_ranked(search, query.rerank, OVERLOADED)
        except NotFound as error:
            raise _no_search(error) from error

    async def _retrieve(
        self, text: str, top_k: int, among: Sequence[str], search: ZhipuSearchConfig, is_ranked: bool = False
    ) -> Sequence[tuple[str, Passage]]:
        """Search the base, or only the documents in `among`.

        If `is_ranked`, the service's ranking model orders the hits, for an extra charge.
        """
        missing = self._client.missing
        missing.check("retrieve")
        body = {
            **asdict(search),  # the settings have the service's names
            "rerank_status": 1 if is_ranked else None,
            "rerank_model": search.rerank_model if is_ranked else None,
            "query": text,
            "knowledge_ids": [self._config.knowledge_id],
            "document_ids": list(among) or None,  # never send an empty list
            "top_k": top_k,
        }
        try:
            asking = self._client.request("retrieve", "POST", "/knowledge/retrieve", json=without_none(body))
            return shapes.found_of((await self._while_base_answers(asking)).body)
        except NotOffered as error:
            refusal = _no_search(error)
            # if the config requests a ranking model, that may be what is missing
            raise (refusal if is_ranked else missing.note("retrieve", refusal)) from error

    async def illustrated(self, hits: Sequence[Hit]) -> Sequence[Hit]:
        """Return the hits with their pictures, in the same order. After a failure or a slow response, only
        the pictures are missing.

        Source: the service's knowledge API manual, 3.5.8: `POST /document/slice/image_list/{id}`.
        """
        ids = list(dict.fromkeys(hit.remote_id for hit in hits if shapes.lacks_images(hit)))[:MAX_DOCUMENTS]
        images: dict[str, shapes.Images] = {}

        async def read_images(remote_id: str) -> None:
            path = f"/document/slice/image_list/{path_part(remote_id)}"
            with self._client.missing.remembered("images"):
                response = await self._client.request("images", "POST", path)
            images[remote_id] = shapes.images_in(shapes.data_of(response.body).get("images"))

        with suppress(TimeoutError):
            async with asyncio.timeout(PICTURES_WITHIN):
                await self._call_each(ids, read_images)
        return [shapes.with_images(hit, images.get(hit.remote_id, {})) for hit in hits]

    def _created(self, remote_id: str) -> float | None:
        """Return the time when a document was created, by our clock.

        Return None if the service's clock differs a lot from ours, because ids may not use the same clock as
        responses.
        """
        created, offset = shapes.created_of(remote_id), self.clock_offset or 0.0
        return None if created is None or abs(offset) > ALARMING else created - offset


def _not_found() -> NotFound:
    return NotFound("the document is no longer in the knowledge base")


def _no_search(error: Rejected) -> NotOffered:
    return NotOffered(f"this knowledge base doesn't support searches: {error.reason}", code=error.code)
