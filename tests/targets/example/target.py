"""The example service as a target of the mirror. It keeps our marks, and indexes after it has answered."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any, Unpack
from urllib.parse import quote

from kbsync.contract.searching import Hit, Passage, Query
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
from kbsync.errors import Halted, Rejected, TargetError, Unsure
from kbsync.targets.http.bodies import file_body
from kbsync.targets.http.client import ClientOptions
from kbsync.targets.http.errors import HttpAnswer
from kbsync.targets.http.rules import ErrorRule, case_of, classify
from kbsync.targets.http.target import RemoteTarget, limited
from tests.targets.example.config import ExampleTargetConfig

GONE = "no_such_document"
_STATES = {"indexing": DocState.INDEXING, "ready": DocState.READY, "failed": DocState.FAILED}


# -- errors
RULES = (
    # The manual: the base was deleted.
    ErrorRule(Halted, code={"no_such_base"}, halt="knowledge-base-missing", hint="correct target.base"),
    # The manual: under any status.
    ErrorRule(Halted, code={"no_credit"}, halt="quota", hint="top up the account"),
    # Any other code is a refusal.
    ErrorRule(Rejected, reported=True),
)


def judge(answer: HttpAnswer) -> TargetError | None:
    """The service's codes as errors; what has none is told by words and the HTTP status."""
    body = answer.body if isinstance(answer.body, dict) else {}
    code = body.get("error", "")
    case = case_of(answer, code=code, message=code.replace("_", " "), is_error=bool(code))
    return classify(case, RULES)


# -- target
class ExampleTarget(RemoteTarget):
    """One knowledge base."""

    def __init__(
        self, config: ExampleTargetConfig, surroundings: Surroundings, **options: Unpack[ClientOptions]
    ) -> None:
        super().__init__(config, surroundings, judge, **options)
        self._config = config
        self._documents = f"/v1/bases/{config.base}/documents"

    @property
    def limits(self) -> Limits:
        """What the service's manual says, and the config of asking and waiting."""
        own = Limits(frozenset({"md", "txt", "pdf"}), max_bytes=3_000_000, list_lag=0.0, marks=True)
        return limited(own, self._config)

    def recipe(self, path: str, settings: Mapping[str, Any]) -> str:
        """Nothing can be set, so only the version of the service's indexing counts."""
        return hashlib.sha256(b"example/1").hexdigest()[:8]

    async def base(self) -> Base:
        """Look at the base. Raises `Halted("knowledge-base-missing")`."""
        answer = await self._client.ask("base", "GET", f"/v1/bases/{self._config.base}")
        return Base(answer.body["id"], answer.body["documents"], self._config.base_url)

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Send each by itself; the engine deletes what it replaces, once the new one is searchable."""
        return [await self._put(one) for one in documents]

    async def _put(self, document: Outgoing) -> PutOutcome:
        mark = [document.name, document.path, document.digest, document.upload_id, document.recipe]
        path = f"{self._documents}?mark={quote(json.dumps(mark))}"
        body = partial(file_body, document.body)
        try:
            answer = await self._client.deliver("upload", "POST", path, body)
        except TargetError as error:
            return error
        match answer.body:
            case {"id": str(remote_id)}:
                return Accepted(remote_id)
        return Unsure("upload: the answer names no document", code="no-id")

    async def status(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """One request for each; the client lets no more than `concurrency` go at a time."""
        return dict(zip(ids, await asyncio.gather(*map(self._status, ids)), strict=True))

    async def _status(self, remote_id: str) -> DocStatus:
        try:
            answer = await self._client.ask("status", "GET", f"{self._documents}/{remote_id}")
        except Rejected as error:
            if error.code != GONE:
                raise
            return DocStatus(DocState.MISSING)
        return DocStatus(_state(answer.body), answer.body.get("reason", ""))

    async def delete(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """What is not there counts as done."""
        return dict(zip(ids, await asyncio.gather(*map(self._delete, ids)), strict=True))

    async def _delete(self, remote_id: str) -> DeleteOutcome:
        try:
            await self._client.ask("delete", "DELETE", f"{self._documents}/{remote_id}")
        except TargetError as error:
            return None if error.code == GONE else error
        return None

    async def list(self) -> AsyncIterator[Listed]:
        """Every document; one without a mark of ours is somebody else's."""
        after: str | None = ""
        while after is not None:
            answer = await self._client.ask("list", "GET", self._documents, params={"after": after})
            for row in answer.body["documents"]:
                yield _listed(row)
            after = answer.body["next"]

    async def search(self, query: Query) -> Sequence[Hit]:
        """Best first. The service knows no paths: `among` is kept to here."""
        path, asked = f"/v1/bases/{self._config.base}/search", {"query": query.text, "limit": 50}
        answer = await self._client.ask("search", "POST", path, json=asked)
        found: dict[str, list[Passage]] = {}
        for row in sorted(answer.body["passages"], key=lambda row: -row["score"]):
            if not query.among or row["document"] in query.among:
                found.setdefault(row["document"], []).append(Passage(row["text"], score=row["score"]))
        hits = [Hit(key, passages[0].score, tuple(passages)) for key, passages in found.items()]
        return hits if query.selects and not query.among else hits[: query.top_k]


def _state(row: Mapping[str, Any]) -> DocState:
    """A word that no manual has is never "ready"."""
    return _STATES.get(row.get("state", ""), DocState.UNKNOWN)


def _listed(row: Mapping[str, Any]) -> Listed:
    seen = {"size": row["size"], "created": row["created"], "state": _state(row)}
    try:
        name, path, digest, upload_id, recipe = json.loads(row["mark"])
    except (ValueError, TypeError):
        return Listed(row["id"], row["mark"], **seen)
    mark = {"path": path, "digest": digest, "upload_id": upload_id, "recipe": recipe}
    return Listed(row["id"], name, **seen, **mark)
