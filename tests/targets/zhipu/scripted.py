"""Shared code for tests of Zhipu: a scripted service, a clock, and documents."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from kbsync.contract.target import Outgoing
from kbsync.targets.http.limits import Account
from kbsync.targets.zhipu.config import ZhipuTargetConfig
from kbsync.targets.zhipu.target import ZhipuTarget
from tests.clocks import NOW, Clock
from tests.targets.blocks import block, target_context
from tests.targets.bodies import outgoing

KEY = "0123456789abcdef.s3cr3t-of-the-tests"
BASE = "1734786402936664064"
FIRST_ID = "2108605032223117312"
ROOT = "/api/llm-application/open"
CHAT = "/api/paas/v4/chat/completions"

Reply = Any
"""A body (HTTP 200), a status, (status, body), an error to raise, or a function of the request."""


def ok(data: Any = None, **fields: Any) -> dict[str, Any]:
    """Return an envelope of success."""
    return {"data": data, "code": 200, "message": "请求成功", "timestamp": int(NOW * 1000), **fields}


def failed(code: Any, message: str = "", **fields: Any) -> dict[str, Any]:
    """Return an envelope of failure."""
    return {"code": code, "message": message, **fields}


def row(remote_id: Any = FIRST_ID, stat: Any = 1, **fields: Any) -> dict[str, Any]:
    """Return a document as the service shows it."""
    return {
        "id": remote_id,
        "name": "probe.md",
        "url": f"https://cdn.example/{remote_id}.md?q-signature=abc",
        "length": 128,
        "min_chunk_size": 1,
        "knowledge_type": 1,
        "custom_separator": ["\n"],
        "embedding_stat": stat,
        "word_num": 0,
        "parse_image": 0,
        **fields,
    }


def stored(name: str = "guide.md", remote_id: Any = FIRST_ID) -> dict[str, Any]:
    """Return the response to a successful upload."""
    return ok({"successInfos": [{"documentId": remote_id, "fileName": name}], "failedInfos": []})


def snowflake(seconds: float) -> str:
    """Return an id created at `seconds` since the epoch."""
    return str((round(seconds * 1000) - 1_288_834_974_657) << 22)


class ScriptedService:
    """Sends each operation's replies in turn and repeats the last one; counts requests."""

    def __init__(self, **replies: list[Reply]) -> None:
        self.replies: dict[str, list[Reply]] = {"base": [ok({"id": BASE, "document_size": 5})], **replies}
        self.replies.setdefault("capacity", [404])
        self.requests: list[httpx.Request] = []
        self.counts: Counter[str] = Counter()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        op = operation(request)
        self.counts[op] += 1
        self.requests.append(request)
        script = self.replies[op]
        reply = script.pop(0) if len(script) > 1 else script[0]
        return as_response(reply(request) if callable(reply) else reply)

    def body(self, op: str) -> Any:
        """Return the latest JSON body sent for `op`."""
        return json.loads([document for document in self.requests if operation(document) == op][-1].content)


ROUTES = {
    "chat": f"POST {CHAT}",
    "applications": "GET /application",
    "application": "GET /application/[^/]+",
    "edit_application": "PUT /application/[^/]+",
    "callback": "GET /callback",
    "set_callback": "PUT /callback",
    "delete_callback": "DELETE /callback",
    "invoke": "POST /model-api/[^/]+/invoke",
    "sse-invoke": "POST /model-api/[^/]+/sse-invoke",
    "slice_info": "GET /v2/[^/]+/slice_info",
    "capacity": "GET /knowledge/capacity",
    "base": "GET /knowledge/[^/]+",
    "retrieve": "POST /knowledge/retrieve",
    "upload": "POST /document/upload_document/[^/]+",
    "upload_url": "POST /document/upload_url",
    "reembed": "POST /document/embedding/[^/]+",
    "images": "POST /document/slice/image_list/[^/]+",
    "list": "GET /document",
    "detail": "GET /document/[^/]+",
    "delete": "DELETE /document/[^/]+",
    "reslice": "PUT /document/[^/]+",
    "file": "GET /[^/]+",
}
"""Patterns of method and path, in order; files are on another host."""


def operation(request: httpx.Request) -> str:
    """Return the operation of a request, by its method and path."""
    line = f"{request.method} {request.url.path.removeprefix(ROOT)}"
    return next(op for op, route in ROUTES.items() if re.fullmatch(route, line))


def as_response(reply: Reply) -> httpx.Response:
    """Return a reply as an HTTP response."""
    match reply:
        case Exception():
            raise reply
        case httpx.Response():
            return reply
        case int():
            return httpx.Response(reply)
    status, body = reply if isinstance(reply, tuple) else (200, reply)
    return httpx.Response(status, **{"content" if isinstance(body, bytes | str) else "json": body})


def by_id(replies: Mapping[str, Reply]) -> Callable[[httpx.Request], Reply]:
    """Return a different reply for each document."""
    return lambda request: replies[request.url.path.rpartition("/")[2]]


def settings(**changes: Any) -> ZhipuTargetConfig:
    """Return the config block of a base on the service."""
    plain = {"base_url": "https://open.bigmodel.cn/api", "api_key": KEY, "knowledge_id": BASE}
    return block(ZhipuTargetConfig, **{**plain, **changes})


def target(
    service: ScriptedService,
    clock: Clock | None = None,
    account: Account | None = None,
    *,
    callback_url: str = "",
    mirror: str = "handbook",
    write: Callable[[str], str] = lambda command: f"kbsync {command}",
    **changes: Any,
) -> ZhipuTarget:
    """Return the target of a mirror called handbook, connected to a scripted service."""
    clock = clock or Clock()
    return ZhipuTarget(
        settings(**changes),
        target_context(mirror, callback_url=callback_url, command_line=write),
        wall=clock,
        steady=clock,
        sleep=clock.sleep,
        chance=lambda: 0.5,
        transport=httpx.MockTransport(service),
        account=account,
    )


def document(name: str = "guide.md", text: bytes = b"# About\n", **settings: Any) -> Outgoing:
    """Return a document to put; `settings`: its settings."""
    return outgoing(name, text, upload_id=7, mtime=NOW, recipe="k1", settings=settings)
