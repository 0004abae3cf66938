"""A client without a network: builds requests as clients do, reads answers, holds the clock."""

from __future__ import annotations

import json
from typing import Any

import httpx

from kbsync_standin.faults import Fault
from kbsync_standin.messages import Request, Response, StandInClock
from kbsync_standin.zhipu import HOME_ID, ZhipuApplication, application

KEY = "id.secret-for-tests"
START = 1_791_565_590.351
OPEN = "/api/llm-application/open"
HOST = "127.0.0.1:9000"


class DirectZhipu:
    """One application at a standing clock. `fault(...)` is played in the next request."""

    def __init__(self, seed: int = 0, vectorize: tuple[float, float] = (0.0, 0.0), **switches: Any) -> None:
        self.clock = StandInClock(lambda: START)
        app = application(seed=seed, vectorize=vectorize, clock=self.clock)
        assert isinstance(app, ZhipuApplication)
        self.app = app
        self.app.set_behaviour(switches)
        self.key: str | None = f"Bearer {KEY}"
        self._next: Fault | None = None

    def fault(self, kind: str, effect: bool = True, **args: Any) -> None:
        self._next = Fault(kind, effect=effect, args=args)

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        query: dict[str, str] | None = None,
    ) -> Request:
        auth = {"authorization": self.key} if self.key is not None else {}
        return Request(1, method, path, path, query or {}, {"host": HOST, **auth, **(headers or {})}, body)

    def send(self, request: Request) -> Response:
        fault, self._next = self._next, None
        return self.app.answer(request, fault)

    def call(self, method: str, path: str, value: Any = None, **query: Any) -> Response:
        body = b"" if value is None else json.dumps(value).encode()
        headers = {} if value is None else {"content-type": "application/json"}
        asked = {name: str(given) for name, given in query.items()}
        return self.send(self.request(method, OPEN + path, body, headers, asked))

    def json(self, method: str, path: str, value: Any = None, **query: Any) -> Any:
        return json.loads(self.call(method, path, value, **query).body)

    def form(self, name: str, content: bytes, fields: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
        files = {"files": (name, content, "text/plain")}
        sent = httpx.Request("POST", "http://x/", data=fields, files=files)
        return sent.read(), {"content-type": sent.headers["content-type"]}

    def upload_answer(self, name: str, content: bytes, base: str = HOME_ID, **fields: Any) -> Response:
        body, headers = self.form(name, content, fields or {"knowledge_type": "1"})
        path = f"{OPEN}/document/upload_document/{base}"
        return self.send(self.request("POST", path, body, headers))

    def upload(self, name: str = "probe.txt", text: str = "hello world", **fields: Any) -> Any:
        return json.loads(self.upload_answer(name, text.encode(), **fields).body)

    def put(self, name: str = "probe.txt", text: str = "hello world", **fields: Any) -> str:
        """Upload; the new document's id."""
        return str(self.upload(name, text, **fields)["data"]["successInfos"][0]["documentId"])

    def list(self, **query: Any) -> Any:
        return self.json("GET", "/document", **({"knowledge_id": HOME_ID, "size": 100} | query))["data"]

    def names(self, **query: Any) -> list[str]:
        return [item["name"] for item in self.list(**query)["list"]]

    def detail(self, ident: str) -> Any:
        return self.json("GET", f"/document/{ident}")["data"]

    def stat(self, ident: str) -> Any:
        return self.detail(ident)["embedding_stat"]

    def reembed(self, ident: str) -> Any:
        return self.json("POST", f"/document/embedding/{ident}", {})

    def search(self, query: str, **fields: Any) -> Any:
        body = {"query": query, "knowledge_ids": [HOME_ID], **fields}
        return self.json("POST", "/knowledge/retrieve", body)["data"]

    def read(self, url: str, **headers: str) -> Response:
        """Follow a signed address, without a key."""
        parsed = httpx.URL(url)
        asked = dict(parsed.params)
        return self.send(Request(1, "GET", parsed.path, url, asked, {"host": HOST, **headers}))

    def effects(self) -> list[str]:
        return [entry["effect"] for entry in self.app.journal()]
