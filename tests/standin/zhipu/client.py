"""A client without a network: builds requests as clients do, reads responses, and controls the clock."""

from __future__ import annotations

import json
from collections.abc import Callable
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
    """One application with a stopped clock. `fault(...)` sets a fault for the next request."""

    def __init__(self, seed: int = 0, vectorize: tuple[float, float] = (0.0, 0.0), **switches: Any) -> None:
        self.clock = StandInClock(lambda: START)
        app = application(seed=seed, vectorize=vectorize, clock=self.clock)
        assert isinstance(app, ZhipuApplication)
        self.app = app
        self.app.set_behaviour(switches)
        self.key: str | None = f"Bearer {KEY}"
        self.ids: dict[str, str] = {}
        self.last = Response(200)
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
        return Request(method, path, path, query or {}, {"host": HOST, **auth, **(headers or {})}, body)

    def send(self, request: Request) -> Response:
        fault, self._next = self._next, None
        self.last = self.app.answer(request, fault)
        return self.last

    def call(self, method: str, path: str, value: Any = None, **query: Any) -> Response:
        body = b"" if value is None else json.dumps(value).encode()
        headers = {} if value is None else {"content-type": "application/json"}
        request = {name: str(given) for name, given in query.items()}
        return self.send(self.request(method, OPEN + path, body, headers, request))

    def json(self, method: str, path: str, value: Any = None, **query: Any) -> Any:
        return json.loads(self.call(method, path, value, **query).body)

    def form(self, name: str, content: bytes, fields: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
        files = {"files": (name, content, "text/plain")}
        sent = httpx.Request("POST", "http://x/", data=fields, files=files)
        return sent.read(), {"content-type": sent.headers["content-type"]}

    def upload_response(self, name: str, content: bytes, base: str = HOME_ID, **fields: Any) -> Response:
        body, headers = self.form(name, content, fields or {"knowledge_type": "1"})
        path = f"{OPEN}/document/upload_document/{base}"
        return self.send(self.request("POST", path, body, headers))

    def upload(self, name: str = "probe.txt", text: str = "hello world", **fields: Any) -> Any:
        return json.loads(self.upload_response(name, text.encode(), **fields).body)

    def put(self, name: str = "probe.txt", text: str = "hello world", **fields: Any) -> str:
        """Upload a document and return its id."""
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
        parameters = dict(parsed.params)
        return self.send(Request("GET", parsed.path, url, parameters, {"host": HOST, **headers}))

    def effects(self) -> list[str]:
        return [entry["effect"] for entry in self.app.journal()]

    # -- changes and reads, step by step

    def observe(self, *steps: Step) -> list[Any]:
        """Carry out the steps, and return the results of those in `LOOKS`.

        A number advances the clock by so many seconds, a tuple sets a fault for the next request, a
        dictionary sets switches. A word is a call or one of `LOOKS`; it is about `a.txt` unless it names
        another document.
        """
        matching = []
        for step in steps:
            match step:
                case str():
                    step_name, _, name = step.partition(" ")
                    if step_name in LOOKS:
                        matching.append(LOOKS[step_name](self, name or "a.txt"))
                    else:
                        self._do(step_name, name or "a.txt")
                case tuple():
                    self.fault(step[0], **(step[1] if len(step) > 1 else {}))
                case dict():
                    self.app.set_behaviour(step)
                case _:
                    self.clock.advance(step)
        return matching

    def _do(self, step: str, name: str) -> None:
        if step == "put":
            data = self.upload(name).get("data") or {}
            for success in data.get("successInfos") or ():
                self.ids[name] = str(success["documentId"])
            return
        ident = self.ids.get(name, "1")
        calls = {
            "delete": ("DELETE", f"/document/{ident}", None),
            "look": ("GET", f"/document/{ident}", None),
            "reembed": ("POST", f"/document/embedding/{ident}", {}),
            "bases": ("GET", "/knowledge", None),
        }
        self.call(*calls[step])

    def fields_of(self, name: str, *fields: str) -> list[Any]:
        """Return these fields of a document's detail."""
        return values(self.detail(self.ids[name]), *fields)


def values(item: Any, *fields: str) -> list[Any]:
    return [item.get(field, ABSENT) for field in fields]


Step = str | float | tuple[Any, ...] | dict[str, Any]
ABSENT = "(absent)"
LOOKS: dict[str, Callable[[DirectZhipu, str], Any]] = {
    "stat": lambda service, name: service.fields_of(name, "embedding_stat")[0],
    "stat+info": lambda service, name: service.fields_of(name, "embedding_stat", "failInfo"),
    "stat+url": lambda service, name: service.fields_of(name, "embedding_stat", "url"),
    "stats": lambda service, _: [item["embedding_stat"] for item in service.list()["list"]],
    "detail": lambda service, name: service.call("GET", f"/document/{service.ids.get(name, '1')}").status,
    "names": lambda service, _: service.names(),
    "row": lambda service, _: values(service.list()["list"][0], "name", "length", "word_num"),
    "list": lambda service, _: service.list(),
    "total": lambda service, _: service.list().get("total", ABSENT),
    "found": lambda service, _: len(service.search("hello")),
    "hits": lambda service, _: (
        hits if (hits := service.search("hello")) is None else [sorted(hit) for hit in hits]
    ),
    "effects": lambda service, _: service.effects(),
    # The response to the last call.
    "answer": lambda service, _: {k: v for k, v in json.loads(service.last.body).items() if k != "data"},
    "code": lambda service, _: (service.last.status, json.loads(service.last.body)["code"]),
    "kept": lambda service, _: json.loads(service.last.body)["data"]["successInfos"][0]["fileName"],
}
