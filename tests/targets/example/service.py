"""The example service in memory: it indexes documents by its own clock, and searches by words."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from dataclasses import dataclass
from typing import Any

import httpx

INDEXING, MAX_BYTES = 3.0, 3_000_000
"""The seconds until a document is searchable, and the most bytes of a document."""

SPOILED = b"SPOILED"
"""A content with this beginning fails."""


class Refusal(Exception):
    """An error of the service, by its code."""


@dataclass
class Stored:
    """A document."""

    content: bytes
    mark: str
    created: float

    def state(self, now: float) -> str:
        if now < self.created + INDEXING:
            return "indexing"
        return "failed" if self.content.startswith(SPOILED) else "ready"


class ExampleService:
    """One account with one base."""

    def __init__(self, key: str) -> None:
        self.now, self.base = 1_700_000_000.0, "handbook"
        self.is_vague = False  # when asked about a document, it doesn't report a missing base
        self.broken = ""  # the id of a document whose requests fail
        self._key = key
        self._documents: dict[str, Stored] = {}
        self._numbers = itertools.count(1)

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._respond)

    def recreate(self, base: str) -> None:
        """Replace the base by another one."""
        self.base = base
        self._documents.clear()

    async def _respond(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)  # requests that are cancelled at once never arrive
        content = await request.aread()
        if request.headers.get("authorization") != f"Bearer {self._key}":
            return httpx.Response(401, json={})
        if self.broken and request.url.path.endswith(f"/{self.broken}"):
            return httpx.Response(503)
        try:
            return httpx.Response(200, json=self._routed(request, content))
        except Refusal as refusal:
            return httpx.Response(422, json={"error": str(refusal)})

    def _routed(self, request: httpx.Request, content: bytes) -> Any:
        _, _, _, base, *rest = request.url.path.split("/")
        if base != self.base:
            raise Refusal("no_such_document" if self.is_vague and len(rest) == 2 else "no_such_base")
        match request.method, rest:
            case "GET", []:
                return {"id": base, "documents": len(self._documents)}
            case "POST", ["search"]:
                return {"passages": self._search(**json.loads(content))}
            case "POST", ["documents"]:
                boundary = request.headers["content-type"].partition("boundary=")[2].encode()
                file = content.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--" + boundary)[0]
                return {"id": self._stored(file, request.url.params["mark"])}
            case "GET", ["documents"]:
                return self._page(int(request.url.params["page"]), int(request.url.params["size"]))
            case method, ["documents", key] if key in self._documents:
                return self._row(
                    key, self._documents.pop(key) if method == "DELETE" else self._documents[key]
                )
        raise Refusal("no_such_document")

    def _stored(self, content: bytes, mark: str) -> str:
        if len(content) > MAX_BYTES:
            raise Refusal("too_large")
        if not json.loads(mark)[1].lower().endswith((".md", ".txt", ".pdf")):
            raise Refusal("format_not_taken")
        key = f"d{next(self._numbers)}"
        self._documents[key] = Stored(content, mark, self.now)
        return key

    def _page(self, number: int, size: int) -> dict[str, Any]:
        """Return a page, newest first."""
        keys = list(reversed(self._documents))[(number - 1) * size : number * size]
        rows = [self._row(key, self._documents[key]) for key in keys]
        return {"documents": rows, "total": len(self._documents)}

    def _row(self, key: str, stored: Stored) -> dict[str, Any]:
        state = stored.state(self.now)
        reason = {"reason": "no text could be made of it"} if state == "failed" else {}
        facts = {"size": len(stored.content), "created": stored.created, "state": state, "mark": stored.mark}
        return {"id": key, **facts, **reason}

    def _search(self, query: str, limit: int) -> list[dict[str, Any]]:
        words = set(re.findall(r"\w+", query.lower()))
        texts = {
            key: document.content.decode("utf-8", "replace")
            for key, document in self._documents.items()
            if document.state(self.now) == "ready"
        }
        shares = {key: len(words & set(re.findall(r"\w+", text.lower()))) for key, text in texts.items()}
        best = sorted((key for key in texts if shares[key]), key=lambda key: -shares[key])[:limit]
        return [{"document": key, "text": texts[key], "score": shares[key] / len(words)} for key in best]
