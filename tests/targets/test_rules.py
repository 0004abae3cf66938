"""Tests the meaning of every service's responses, in a table in which each rule is the first that matches."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from kbsync.errors import (
    Halted,
    NameTaken,
    NotOffered,
    Rejected,
    TargetBusy,
    TargetError,
    Unavailable,
    Unsure,
)
from kbsync.targets.dify.shapes import RULES as DIFY_RULES
from kbsync.targets.dify.shapes import classify_response as classify_dify
from kbsync.targets.gptbots import config as gptbots
from kbsync.targets.gptbots.shapes import RULES as GPTBOTS_RULES
from kbsync.targets.gptbots.shapes import classify_response as classify_gptbots
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.rules import (
    COMMON,
    ENDINGS,
    GONE,
    ErrorCase,
    ErrorRule,
    by_status,
    describe_answer,
    failed,
    first_rule,
    quote_message,
    says_money,
)
from kbsync.targets.lightrag.shapes import RULES as LIGHTRAG_RULES
from kbsync.targets.lightrag.shapes import classify_response as classify_lightrag
from kbsync.targets.openai.config import EXTENSIONS as OPENAI_ENDINGS
from kbsync.targets.openai.shapes import RULES as OPENAI_RULES
from kbsync.targets.openai.shapes import classify_response as classify_openai
from kbsync.targets.openwebui.shapes import RULES as OPENWEBUI_RULES
from kbsync.targets.openwebui.shapes import classify_response as classify_openwebui
from kbsync.targets.ragflow.shapes import RULES as RAGFLOW_RULES
from kbsync.targets.ragflow.shapes import classify_response as classify_ragflow
from kbsync.targets.services.clients import ServiceClassifier
from kbsync.targets.services.clients import rules_for as service_rules
from kbsync.targets.zhipu import errors as zhipu
from kbsync.targets.zhipu.config import EXTENSIONS as ZHIPU_ENDINGS

SERVICES: dict[str, tuple[Callable[[HttpResponse], TargetError | None], Sequence[ErrorRule]]] = {
    "common": (by_status, COMMON),
    "zhipu": (zhipu.classify_response, zhipu.RULES),
    "gptbots": (classify_gptbots, GPTBOTS_RULES),
    "openai": (classify_openai, OPENAI_RULES),
    "openwebui": (classify_openwebui, OPENWEBUI_RULES),
    "lightrag": (classify_lightrag, LIGHTRAG_RULES),
    "dify": (classify_dify, DIFY_RULES),
    "ragflow": (classify_ragflow, RAGFLOW_RULES),
    "service": (ServiceClassifier("embedding", "/embeddings"), service_rules("embedding", "/embeddings")),
}


@dataclass(frozen=True)
class Row:
    """A response and its meaning: `halt` of a `Halted`, `may_pass` of a `Rejected`.

    `code`: the error's code, if it matters. `also`: other HTTP statuses with the same meaning.
    """

    service: str
    op: str
    status: int
    body: Any
    means: type[TargetError] | None
    halt: str = ""
    may_pass: bool = False
    code: str = ""
    also: tuple[int, ...] = ()

    def response(self) -> HttpResponse:
        is_text = isinstance(self.body, str)
        text = self.body if is_text else json.dumps(self.body, ensure_ascii=False)
        return HttpResponse(self.op, self.status, {}, None if is_text else self.body, text[:300], 0.0, "kb")


def flat(code: object, message: str = "why") -> dict[str, Any]:
    return {"code": code, "message": message}


def inner(message: str = "why", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


def detail(words: str) -> dict[str, Any]:
    return {"detail": words}


def dify(status: int, code: str, message: str = "why") -> dict[str, Any]:
    return {"code": code, "message": message, "status": status}


def words_in(body: Any) -> str:
    """Return the message that the reason repeats."""
    body = body[0] if isinstance(body, list) and body else body
    if not isinstance(body, dict) or body.keys() == {"message"}:  # Zhipu: without a code its own words count
        return ""
    details = body.get("error") if isinstance(body.get("error"), dict) else body
    return str(details.get("message") or details.get("detail") or "")


PAGE = "<html><title>Sign in</title></html>"
QUOTA, KEY, BASE = "quota", "credentials", "knowledge-base-missing"

COMMON_ROWS = [
    Row("common", "upload", 302, "", Unsure, also=(100, 103, 301, 304, 500, 502, 599, 600, 204)),
    Row("common", "upload", 200, {}, None, also=(201,)),
    Row("common", "upload", 200, PAGE, Unsure),
    Row("common", "upload", 503, flat(1, "insufficient balance"), Unsure),
    Row("common", "upload", 429, inner("Insufficient credits"), Halted, QUOTA),
    Row("common", "upload", 429, inner("exceeded your current quota, retry in 34s"), Unavailable),
    Row("common", "upload", 403, "Sorry, your account balance is insufficient", Halted, QUOTA),
    Row("common", "upload", 400, {"msg": "请求过于频繁，超出限制，请稍后再试"}, Unavailable),
    Row("common", "upload", 400, detail("not enough storage space"), Halted, QUOTA),
    Row("common", "upload", 401, "", Halted, KEY),
    Row("common", "upload", 401, PAGE, Unavailable),
    Row("common", "upload", 403, "", Rejected, may_pass=True),
    Row("common", "upload", 402, "", Halted, QUOTA),
    Row("common", "upload", 404, "", NotOffered, also=(405, 501)),
    Row("common", "upload", 429, "", Unavailable, also=(407, 408, 425)),
    Row("common", "upload", 413, "", Rejected),
    Row("common", "upload", 422, "the text is too long", Rejected),
    Row("common", "upload", 422, detail("too long"), Rejected),
    Row("common", "upload", 422, {"code": 7}, Rejected),
    *(Row("common", "upload", 400, body, Rejected, may_pass=True) for body in ("", {}, PAGE)),
    Row("common", "upload", 103, "", Unsure),
    # A firewall's refusal blames the document, at every service and for a deletion, too, but not for a list.
    *(
        Row(service, op, 403, PAGE, *means)
        for service in SERVICES
        if service not in ("common", "zhipu", "service")
        for op, *means in (
            ("upload", Rejected, "", True),
            ("delete", Rejected, "", True),
            ("list", Unavailable),
        )
    ),
    Row("common", "base", 412, detail("no"), Unavailable, also=(409, 415, 421, 426, 431, 451)),
    Row("common", "base", 400, detail("malformed id"), Rejected, also=(410, 422)),
    *(Row("common", "base", 400, body, Unavailable, also=(422,)) for body in ("", {}, PAGE)),
]

ZHIPU_ROWS = [
    Row("zhipu", "upload", 200, flat(200, "请求成功"), None),
    Row("zhipu", "upload", 200, {"data": {}}, Unsure),
    *(
        Row("zhipu", op, 404, text, Unavailable, also=(405,))
        for op in ("base", "detail", "delete")
        for text in (PAGE, "404 page not found")
    ),
    Row("zhipu", "upload", 401, inner(code="1004"), Halted, KEY),
    Row("zhipu", "upload", 429, inner(code="1112"), Halted, KEY),
    Row("zhipu", "upload", 429, inner("余额不足或无可用资源包,请充值。", code="1113"), Halted, QUOTA),
    Row("zhipu", "upload", 429, flat(429, "余额不足"), Halted, QUOTA),
    Row("zhipu", "upload", 429, inner("余额不足", code="1305"), Halted, QUOTA),
    Row("zhipu", "upload", 429, {"message": "余额不足"}, Halted, QUOTA),
    Row("zhipu", "upload", 429, inner(code="1302"), Unavailable),
    Row("zhipu", "upload", 200, flat(1120), Unavailable),
    Row("zhipu", "upload", 200, flat(1234), Unsure),
    Row("zhipu", "upload", 200, flat(1214, "文档名称已存在"), NameTaken),
    Row("zhipu", "upload", 200, flat(1301), Rejected),
    Row("zhipu", "upload", 200, flat(403), Rejected, may_pass=True),
    Row("zhipu", "capacity", 200, flat(403), NotOffered),
    Row("zhipu", "base", 200, flat(403), Halted, KEY),
    Row("zhipu", "detail", 200, flat(404), zhipu.NotFound),
    Row("zhipu", "capacity", 404, flat(404), NotOffered, code="404"),
    Row("zhipu", "upload", 200, flat(1220), Halted, KEY),
    Row("zhipu", "reembed", 200, flat(1220), NotOffered),
    Row("zhipu", "upload", 200, flat(1222), NotOffered),
    Row("zhipu", "upload", 200, flat(500, "系统繁忙，请稍后再试"), Unsure),
    Row("zhipu", "upload", 503, flat(99999, "系统繁忙"), Unsure),
    Row("zhipu", "delete", 200, flat(400, "文档不存在"), zhipu.NotFound),
    Row("zhipu", "upload", 200, flat(400, "账户余额不足，请稍后再试"), Halted, QUOTA),
    *(
        Row("zhipu", op, 200, flat(code, words), Unavailable)
        for op in ("upload", "reembed", "retrieve")
        for code in (400, 1306)
        for words in (
            "请求过于频繁，超出限制，请稍后再试",
            "系统繁忙，超出处理能力，请稍后重试",
            "上传数量超出每分钟上限",
            "并发数超出上限",
            "Too many requests, the limit is exceeded",
        )
    ),
    Row("zhipu", "upload", 200, flat(400, "知识库空间不足"), zhipu.NoRoom, QUOTA),
    Row("zhipu", "upload", 200, flat(400, "知识库文档数已达上限"), zhipu.NoRoom, QUOTA),
    *(
        Row("zhipu", op, 200, flat(code, words), Halted, KEY)
        for op in ("upload", "list")
        for code in (400, 1306)
        for words in ("Insufficient permission for this knowledge base", "权限不足，无权访问该知识库")
    ),
    Row("zhipu", "delete", 200, flat(400, "无权操作该文档"), Rejected),
    # A firewall refuses one document, or a list for a while; the service's database lacks rights.
    Row("zhipu", "upload", 403, {"message": "Access Denied"}, Rejected, may_pass=True),
    Row("zhipu", "list", 403, {"message": "Access Denied"}, Unavailable),
    Row("zhipu", "list", 200, flat(500, "permission denied for relation documents"), Unsure),
    Row("zhipu", "list", 200, flat(400, "size 超出上限"), Rejected),
    Row("zhipu", "upload", 200, flat(400, "文档名称已存在"), NameTaken),
    Row("zhipu", "upload", 200, flat(400), Rejected),
    Row("zhipu", "upload", 200, flat(429), Unavailable),
    Row("zhipu", "list", 200, flat(500), Unsure),
    Row("zhipu", "upload", 401, {"error": {"type": "authentication_error"}}, Halted, KEY),
    Row("zhipu", "upload", 200, {"error": {"type": "overloaded_error"}}, Unavailable),
    Row("zhipu", "detail", 404, {"error": {"type": "not_found_error"}}, zhipu.NotFound),
    Row("zhipu", "list", 200, {"error": {"type": "api_error"}}, Unsure),
    Row("zhipu", "upload", 200, flat(99999, "文档名称已存在"), NameTaken),
    Row("zhipu", "upload", 200, flat(99999), Rejected),
    Row("zhipu", "upload", 200, flat(99999, ""), Rejected, may_pass=True),
    Row("zhipu", "upload", 200, flat(1301, ""), Rejected),
    *(Row("zhipu", "upload", 200, body, Unsure) for body in ("", PAGE, '{"data": {"succ', [])),
    Row("zhipu", "upload", 200, {"code": "200"}, None),
    Row("zhipu", "upload", 200, {"code": 200, "error": {"code": "1302"}}, Unavailable),
    Row("zhipu", "upload", 200, {"code": 200, "error": {"message": "no code"}}, Rejected),
    Row("zhipu", "upload", 200, {"code": 200, "error": None}, None),
    Row("zhipu", "upload", 500, {"code": 200}, Unsure),
    Row("zhipu", "upload", 404, {"code": 200}, NotOffered),
    Row("zhipu", "upload", 404, {"status": 404, "error": "Not Found", "path": "/x"}, NotOffered),
    Row("zhipu", "upload", 200, {"error": {"type": "rate_limit_error"}}, Unavailable),
    Row("zhipu", "upload", 200, {"error": {"type": "invalid_request_error", "message": "x"}}, Rejected),
    Row("zhipu", "upload", 200, flat(99999, "系统繁忙"), Unavailable),
    Row("zhipu", "upload", 503, flat(1302, "系统繁忙"), Unavailable),
    Row("zhipu", "upload", 401, flat(400, "token 不存在"), Halted, KEY),
    Row("zhipu", "upload", 400, flat(99999, "知识库空间不足"), zhipu.NoRoom, QUOTA),
    Row("zhipu", "upload", 400, {"message": "余额表.xlsx 太大"}, Rejected),
    Row("zhipu", "upload", 429, flat(500), Unsure),
    # Words resolve a vague code, but only those of a failure: not those of a file's name.
    Row("zhipu", "base", 200, flat(400, "知识库不存在"), zhipu.NotFound),
    Row("zhipu", "delete", 200, flat(400, "document not found"), zhipu.NotFound),
    *(
        Row("zhipu", op, 200, flat(500, words), Unsure)
        for op, words in (
            ("detail", "文档不存在"),
            ("delete", "找不到指定的资源"),
            ("upload", "知识库不存在"),
        )
    ),
    Row("zhipu", "upload", 200, flat(1231, "请求已存在"), Unsure),
    *(
        Row("zhipu", op, 200, flat(code, words), Rejected)
        for op, code, words in (
            ("delete", 400, "找不到参数"),
            ("delete", 10404, "文档不存在"),
            ("reslice", 400, "文档名称已存在"),
            ("retrieve", 400, "知识库文档数已达上限"),
            ("upload", 400, "文件大小超出限制"),
            ("upload", 400, "额度说明.pdf 上传失败"),
            ("upload", 400, "上传“storage and balance.PDF”失败"),
            ("upload", 400, "已存在的规则.md 解析失败"),
        )
    ),
    Row("zhipu", "upload", 200, flat(400, "账户余额不足，文件a.pdf上传失败"), Halted, QUOTA),
    Row("zhipu", "upload", 200, flat(400, "Insufficient balance.Try later"), Halted, QUOTA),
    # Who is forbidden, the document or the caller, depends on the request.
    *(
        Row("zhipu", op, 403, body, *means)
        for op, *means in (
            *((op, Rejected, "", True) for op in ("upload", "detail", "delete", "reembed")),
            *((op, NotOffered) for op in ("capacity", "retrieve")),
            *((op, Halted, KEY) for op in ("base", "list")),
        )
        for body in (flat(403, "禁止"), inner("禁止", code="403"), {"error": {"type": "permission_error"}})
    ),
    Row("zhipu", "upload", 403, PAGE, Rejected, may_pass=True),
    *(Row("zhipu", op, 403, PAGE, Unavailable) for op in ("capacity", "retrieve", "base", "list")),
]

GPTBOTS_ROWS = [
    Row("gptbots", "add", 200, flat(0, "OK"), None),
    Row("gptbots", "add", 200, {"code": 0, "message": "OK", "error": ""}, None),
    Row("gptbots", "add", 200, {"error": {"code": 0, "message": "OK"}}, None),
    *(
        Row("gptbots", "add", 200, flat(form(code)), *means, also=(400, 500))
        for form in (int, str)
        for code, *means in (
            *((40127, Halted, KEY), (20059, Halted, BASE), (408, Unavailable), (429, Unavailable)),
            *((40000, Rejected), (40332, Rejected)),
            *((code, Unsure) for code in (500, 502, 599, 50000)),
        )
    ),
    *(
        Row("gptbots", "update", status, body, means)
        for status in (404, 405, 501)
        for body, means in (
            (flat(status, "no such route"), NotOffered),
            ({"error": "Not Found"}, NotOffered),
            (flat(40000), Rejected),
        )
    ),
    Row("gptbots", "add", 200, [{"data_id": "7"}], None),
    Row("gptbots", "add", 200, {"doc": []}, None),
    Row("gptbots", "add", 200, "", Unsure),
    Row("gptbots", "add", 429, inner("slow", code="1302"), Unavailable),
    Row("gptbots", "add", 404, {"code": 0}, NotOffered),
    Row("gptbots", "add", 200, flat(200, "success"), Unsure),
    Row("gptbots", "add", 200, flat(404, "no such bot"), Rejected),
    *(
        Row("gptbots", "add", 200, flat(40378, words), Rejected)
        for words in ('"credits 2026.docx" is damaged', "文件余额表.xlsx损坏")
    ),
    Row("gptbots", "add", 429, flat(429, "insufficient credits"), Halted, QUOTA),
    Row("gptbots", "add", 200, flat(50000, "no credits left"), Halted, QUOTA),
    Row("gptbots", "add", 429, flat(40900), Unavailable),
    Row("gptbots", "list", 200, flat(40301, "Insufficient permission for this base"), Halted, KEY),
    Row("gptbots", "list", 503, flat(503, "no capacity right now"), Unsure),
    Row("gptbots", "add", 200, flat(403, "insufficient scope"), Halted, KEY),
    Row("gptbots", "add", 403, {"error": "Forbidden", "message": "Access denied"}, Halted, KEY),
    Row("gptbots", "add", 403, flat(40399), Rejected, may_pass=True),
    Row("gptbots", "list", 403, flat(40399), Halted, KEY),
    Row("gptbots", "add", 200, flat(40399, "the quota of the month is used up"), Halted, QUOTA),
    Row("gptbots", "add", 200, flat(40399, "quota of requests per minute exceeded"), Unavailable),
    Row("gptbots", "add", 200, flat(50000, "busy, try again later"), Unsure),
    Row("gptbots", "add", 200, flat(40399, "busy, try again later"), Unavailable),
    Row("gptbots", "add", 200, flat(40399, "the knowledge base is full"), Halted, QUOTA),
    Row("gptbots", "add", 200, flat(40378, "balance.pdf cannot be read"), Rejected),
    Row("gptbots", "add", 200, flat(40378, ""), Rejected, may_pass=True),
    Row("gptbots", "add", 200, flat(40000, ""), Rejected),
    *(
        Row("gptbots", op, 403, flat(40399, words), *means)
        for op in ("add", "list")
        for words, *means in (
            ("Too many requests, the limit is exceeded", Unavailable),
            ("the knowledge base is full", Halted, QUOTA),
            ("the quota of the month is used up", Halted, QUOTA),
        )
    ),
]

OPENAI_ROWS = [
    Row("openai", "upload", 429, inner(code="insufficient_quota"), Halted, QUOTA),
    Row("openai", "upload", 429, inner("You exceeded your current quota"), Halted, QUOTA),
    Row(
        "openai",
        "attach",
        400,
        inner("Vector store has reached the maximum number of files (10000)."),
        Halted,
        QUOTA,
    ),
    Row(
        "openai",
        "upload",
        400,
        inner("Your project has exceeded the 100 GB file storage quota.", code="storage_quota_exceeded"),
        Halted,
        QUOTA,
    ),
    Row("openai", "upload", 400, inner(code="storage_quota_exceeded"), Halted, QUOTA),
    Row("openai", "upload", 400, inner("File size exceeds the storage limit of one file"), Rejected),
    Row(
        "openai", "attach", 429, inner("Rate limit reached: maximum number of files per minute"), Unavailable
    ),
    Row("openai", "status", 200, inner(code="odd"), Unavailable, code="odd"),
    Row("openai", "attach", 200, {"error": "upstream failed"}, Unavailable),
    Row("openai", "attach", 200, {"id": "file-1", "error": None}, None),
    Row("openai", "chat", 404, inner("The model 'gpt' does not exist"), Rejected),
    Row("openai", "attach", 400, inner("Model 'embed-1' not found"), Unavailable, code="model"),
    Row("openai", "upload", 404, inner("Invalid URL (POST /files)"), NotOffered),
    Row("openai", "put-back", 204, "", None),
    Row("openai", "status", 404, inner("No such File object: file-1"), Rejected, code=GONE),
    Row("openai", "status", 400, inner("File file-1 not found in vector store vs_1"), Rejected, code=GONE),
    Row("openai", "upload", 403, inner("Missing scopes: api.files.write"), Halted, KEY),
    Row("openai", "upload", 403, inner("You don't have permission to upload files"), Halted, KEY),
    Row("openai", "upload", 403, inner("You do not have the required permissions"), Halted, KEY),
    Row("openai", "upload", 401, inner(code="invalid_api_key"), Halted, KEY),
    Row("openai", "status", 429, inner(type="insufficient_quota"), Halted, QUOTA),
    Row("openai", "status", 400, inner(code="billing_hard_limit_reached"), Halted, QUOTA),
    Row("openai", "status", 429, inner(code="rate_limit_exceeded"), Unavailable),
    Row("openai", "status", 400, detail("Vector_store 'vs_1' not found"), Rejected, code=GONE),
    Row("openai", "attach", 404, inner("Model 'embed-1' not found"), Unavailable, code="model"),
    Row("openai", "attach", 400, inner("unsupported file"), Rejected, code="400"),
    Row("openai", "upload", 413, inner("too large"), Rejected, code="413"),
    Row("openai", "status", 404, PAGE, NotOffered, code="404"),
    Row("openai", "base", 404, detail("Not Found"), NotOffered, code="404"),
    Row("openai", "base", 404, inner("No vector store found"), Rejected, code=GONE),
    Row("openai", "status", 500, inner("The server had an error"), Unsure, code="500"),
]

LOST = "We could not find what you're looking for :/"
OPENWEBUI_ROWS = [
    Row("openwebui", "list", 200, PAGE, Unsure),
    Row("openwebui", "status", 200, {"id": "f1"}, None),
    *(Row("openwebui", op, 404, detail(LOST), Halted, BASE) for op in ("base", "cleanup")),
    Row("openwebui", "list", 400, detail(LOST), Halted, BASE),
    Row("openwebui", "status", 404, detail(LOST), Rejected, code=GONE),
    Row("openwebui", "link", 400, detail(LOST), Rejected, code=GONE),
    Row("openwebui", "base", 401, detail("401 Unauthorized"), Halted, KEY),
    Row("openwebui", "upload", 401, detail("Not authenticated"), Halted, KEY),
    *(
        Row("openwebui", *call, detail("You do not have permission"), Halted, KEY)
        for call in (("upload", 403), ("cleanup", 403), ("list", 400), ("make-folder", 400))
    ),
    Row("openwebui", "make-folder", 400, detail("Failed to create directory. It may exist"), Rejected),
    Row("openwebui", "search", 400, detail("[ERROR: Error querying knowledge base]"), Unavailable),
    Row("openwebui", "update", 500, detail("Failed to process indexed text."), Unavailable),
    Row("openwebui", "upload", 400, detail("[ERROR: Error uploading file]"), Unsure),
    Row("openwebui", "upload", 400, detail("[ERROR: File type exe is not allowed]"), Rejected, code="400"),
    Row("openwebui", "upload", 413, detail("Oops! The file is too large."), Rejected, code="413"),
    Row("openwebui", "upload", 500, detail("Internal"), Unsure, code="500"),
    Row("openwebui", "link", 400, detail("400: Duplicate content detected."), Rejected, code="400"),
    *(
        Row("openwebui", op, status, detail(words), *means)
        for op, status in (("list", 400), ("list", 403), ("upload", 403))
        for words, *means in (
            ("[ERROR: Your account balance is insufficient]", Halted, QUOTA),
            ("Too many requests, the limit is exceeded", Unavailable),
            ("there is not enough storage space", Halted, QUOTA),
        )
    ),
]

LIGHTRAG_ROWS = [
    Row("lightrag", "list", 200, {"status": "success"}, None),
    Row("lightrag", "list", 403, detail("API Key required"), Halted, KEY),
    Row("lightrag", "list", 403, detail("Invalid API Key"), Halted, KEY),
    Row("lightrag", "list", 403, "", Unavailable),
    Row("lightrag", "upload", 403, "", Rejected, may_pass=True),
    Row("lightrag", "base", 404, detail("Not Found"), Halted, BASE),
    *(Row("lightrag", "base", 404, body, NotOffered) for body in ("", PAGE, flat(404, "Not Found"))),
    *(Row("lightrag", op, 404, detail("Not Found"), NotOffered) for op in ("list", "search")),
    *(
        Row("lightrag", "upload", status, detail(words), means, code=code)
        for status, words, means, code in (
            (409, "Document storage already contains 'a.md'.", NameTaken, "stored"),
            (409, "Input directory already contains a file", NameTaken, "409"),
            (409, "Pipeline is clearing or deleting documents.", TargetBusy, "busy"),
            (503, "Recovery is required.", Unavailable, "busy"),
            (413, "File too large.", Rejected, "413"),
        )
    ),
    Row("lightrag", "upload", 503, "", Unsure),
    Row("lightrag", "upload", 500, detail("Internal server error"), Unsure),
    Row("lightrag", "delete", 200, {"status": "busy", "message": "It is busy."}, TargetBusy, code="busy"),
    Row("lightrag", "upload", 400, detail("余额.md is damaged"), Rejected),
]

PLAN, NO_RIGHT = "of your subscription.", dify(403, "forbidden", "No permission.")
DIFY_ROWS = [
    *(
        Row("dify", op, status, dify(status, "forbidden", message), Rejected)
        for op in ("create-field", "describe")
        for status, message in ((403, "request rate limit of your subscription"), (429, "why"), (400, "busy"))
    ),
    *(Row("dify", op, 403, PAGE, Rejected, may_pass=True) for op in ("create-field", "describe")),
    Row("dify", "delete", 204, "", None),
    Row("dify", "delete", 200, 204, None),
    Row("dify", "upload", 204, "", Unsure),
    Row("dify", "delete", 200, "", Unsure),
    Row("dify", "delete", 404, PAGE, NotOffered),
    *(Row("dify", "base", 404, body, Unavailable, also=(405,)) for body in (PAGE, "", flat(404))),
    Row("dify", "base", 404, dify(404, "not_found", "Dataset not found."), Halted, BASE),
    Row("dify", "detail", 404, dify(404, "not_found", "Document not found."), Rejected, code=GONE),
    *(
        Row(
            "dify", op, 404, dify(404, "not_found", "The requested URL was not found"), NotOffered, code="404"
        )
        for op in ("upload", "delete", "list", "detail", "base")
    ),
    *(
        Row("dify", op, status, dify(status, code, words), *means, also=(200,))  # 200 is no success
        for op in ("upload", "delete", "list", "detail", "base")
        for status, code, words, *means in (
            (401, "unauthorized", "Access token is invalid", Halted, KEY),
            (403, "forbidden", "Dataset api access is not enabled.", Halted, KEY),
            (403, "forbidden", f"The number of documents has reached the limit {PLAN}", Halted, QUOTA),
            (403, "forbidden", f"The vector space has reached the limit {PLAN}", Halted, QUOTA),
            (403, "forbidden", f"You have reached the request rate limit {PLAN}", Unavailable),
            (400, "invalid_param", f"You have reached the limit {PLAN} Only 0 can be", Halted, QUOTA),
            (400, "invalid_param", "", Rejected, "", True),
            (400, "provider_quota_exceeded", "", Halted, QUOTA),
            (404, "not_found", "Dataset not found.", Halted, BASE),
            (400, "invalid_param", "Dataset does not exist.", Halted, BASE),
            (404, "not_found", "Document Not Exists.", Rejected),
            (400, "document_indexing", "Cannot delete document during indexing.", Unavailable),
            (403, "archived_document_immutable", "The archived document is not editable.", Rejected),
            (413, "file_too_large", "File size exceeded.", Rejected),
            (415, "unsupported_file_type", "File type not allowed.", Rejected),
            (400, "something_new", "why", Rejected),
            (409, "dataset_name_duplicate", "", NameTaken),
            (429, "too_many_requests", "", Unavailable),
            (500, "unknown", "Internal Server Error", Unsure),
        )
    ),
    *(Row("dify", op, 403, NO_RIGHT, Rejected, may_pass=True) for op in ("upload", "delete")),
    *(Row("dify", op, 403, NO_RIGHT, Halted, KEY) for op in ("list", "detail", "base", "retrieve")),
    Row("dify", "upload", 429, dify(429, "odd", "insufficient balance"), Halted, QUOTA),
    Row("dify", "list", 404, dify(404, "not_found"), NotOffered),
    Row("dify", "upload", 400, dify(400, "invalid_param", "process_rule is required."), Rejected),
    Row("dify", "upload", 403, dify(403, "forbidden"), Rejected, may_pass=True),
    Row("dify", "list", 403, dify(403, "forbidden"), Halted, KEY),
    Row("dify", "upload", 400, dify(400, "odd", "busy, try again later"), Unavailable),
    Row("dify", "upload", 400, dify(400, "something_new", ""), Rejected, may_pass=True),
    Row("dify", "upload", 413, dify(413, "file_too_large", ""), Rejected),
    *(
        Row("dify", op, status, dify(status, code, words), *means)
        for op in ("upload", "list")
        for status, code in ((403, "forbidden"), (400, "invalid_param"))
        for words, *means in (
            ("请求过于频繁，超出限制，请稍后再试", Unavailable),
            ("not enough storage space", Halted, QUOTA),
        )
    ),
]

RAGFLOW_ROWS = [
    Row("ragflow", "ask", 200, {"choices": []}, None),
    Row("ragflow", "upload", 200, {"data": []}, Unsure),
    Row("ragflow", "upload", 200, flat(0), None),
    Row("ragflow", "upload", 200, {"code": 0, "data": []}, None),
    Row("ragflow", "upload", 200, [], Unsure),
    Row("ragflow", "upload", 503, {"code": 0}, Unsure),
    *(
        Row("ragflow", "upload", 200, flat(code, words), *means, also=(400, 500))
        for code, words, *means in (
            (100, "KeyError('x')", Unsure),
            (101, "No file part!", Rejected),
            (102, "you don't own the document", Rejected),
            (102, "Internal server error", Unsure),
            (102, "Database operation failed", Unsure),
            (103, "Operating error", Rejected),
            (105, "lost", Unsure),
            (106, "running", Unavailable),
            (108, "User 'x' lacks permission for datasets: 'y'", Rejected),
            (109, "Authentication error: API key is invalid!", Halted, KEY),
            (400, "Model not found", Rejected),
            (401, "<Unauthorized '401: Unauthorized'>", Halted, KEY),
            (403, "User isn't active, please activate first.", Halted, KEY),
            (404, "Not Found: /api/v1/nothing", NotOffered),
            (429, "slow down", Unavailable),
            (500, "a.md: (2006, 'MySQL server has gone away')", Unsure),
            (500, "a.xyz: This type of file has not been supported yet!", Rejected),
            (500, "a.md: Exceed the maximum file number of a free user!", Halted, QUOTA),
            (777, "news", Rejected),
            ("102", "a code as a text", Rejected),
        )
    ),
    *(
        Row("ragflow", "base", 404, flat(404, "Not Found: /api/v1/datasets") | more, Unavailable, also=also)
        for more, also in (({}, (200, 405, 501)), ({"error": "Not Found"}, (200,)))
    ),
    *(Row("ragflow", "base", 200, flat(code, "dataset not found"), Rejected) for code in (102, 108)),
    Row("ragflow", "base", 200, flat(404, "dataset not found"), NotOffered),
    Row("ragflow", "search", 200, flat(100, "Arrearage: insufficient_quota"), Halted, QUOTA),
    Row("ragflow", "upload", 429, flat(429, "余额不足"), Halted, QUOTA),
    Row("ragflow", "search", 200, flat(102, "No chunk found!"), None),
    Row("ragflow", "upload", 200, flat(102, "Too many requests, limit exceeded"), Unavailable),
    Row("ragflow", "upload", 200, flat(102, ""), Rejected, may_pass=True),
    Row("ragflow", "upload", 200, flat(102, "a.md: not enough storage space"), Halted, QUOTA),
    Row("ragflow", "upload", 200, flat(102, "the space of one document is full"), Rejected),
]

MISSING = "embedding-missing"
GEMINI_KEY = inner(
    "API key not valid. Please pass a valid API key.",
    code=400,
    status="INVALID_ARGUMENT",
    details=[{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}, "news"],
)
GEMINI_LIMIT = inner(
    "You exceeded your current quota, please check your plan and billing details. * Quota exceeded for "
    "metric: embed_content_free_tier_requests, limit: 100 Please retry in 34.07s.",
    code=429,
    status="RESOURCE_EXHAUSTED",
)
DASHSCOPE_LIMIT = inner(
    "You exceeded your current quota, please check your plan and billing details. For more information on "
    "this error, read the docs: https://help.aliyun.com/zh/model-studio/error-code#token-limit",
    **dict.fromkeys(("type", "code"), "insufficient_quota"),
)
SERVICE_ROWS = [
    Row("service", "embed", 429, inner(code="insufficient_quota"), Halted, QUOTA),
    Row("service", "embed", 403, flat(30001, "Sorry, your account balance is insufficient"), Halted, QUOTA),
    Row("service", "embed", 429, inner("余额不足", code="1302"), Halted, QUOTA),
    Row("service", "embed", 400, inner(code="invalid_api_key"), Halted, KEY),
    Row("service", "embed", 503, inner(code="model_not_found"), Halted, MISSING),
    Row("service", "embed", 400, inner(param="dimensions"), Halted, MISSING),
    Row("service", "embed", 429, inner(code="1302"), Unavailable),
    # Zhipu sends these codes under 429, too (its page of error codes), but waiting doesn't help.
    *(Row("service", "embed", 429, inner(code=code), Halted, QUOTA) for code in ("1113", "1311", "1313")),
    *(Row("service", "embed", 429, inner(code=code), Halted, KEY) for code in ("1100", "1112", "1121")),
    Row("service", "embed", 500, inner(code="1234"), Unavailable),
    Row("service", "embed", 400, inner("tokens per minute exceeded, try again later"), Unavailable),
    Row("service", "embed", 400, inner(code="1261"), Rejected),
    Row("service", "embed", 401, inner(), Halted, KEY),
    Row("service", "embed", 403, inner(), Rejected, may_pass=True),
    Row("service", "embed", 402, inner(), Halted, QUOTA),
    Row("service", "embed", 404, inner(), Halted, MISSING),
    Row("service", "embed", 404, "404 page not found", Halted, MISSING, also=(405,)),
    Row("service", "embed", 413, {"error": "batch size", "error_type": "Validation"}, Rejected),
    Row("service", "embed", 422, {"error": "too many tokens", "error_type": "Tokenizer"}, Rejected),
    Row("service", "embed", 424, {"error": "backend", "error_type": "Backend"}, Rejected, may_pass=True),
    Row(
        *("service", "embed", 424),
        {"error": "Backend error: Model is not an embedding model", "error_type": "Backend"},
        *(Halted, MISSING),
    ),
    Row("service", "embed", 500, inner("unsupported value: NaN", type="api_error"), Rejected, may_pass=True),
    Row("service", "embed", 424, inner("it is busy, try again later"), Unavailable),
    *(Row("service", "embed", 500, body, Unsure) for body in ("", inner("it is busy, try again later"))),
    Row("service", "embed", 503, inner("no room"), Unsure, also=(502, 504)),
    Row("service", "embed", 200, inner(), Rejected),
    Row("service", "embed", 429, DASHSCOPE_LIMIT, Unavailable),
    Row("service", "embed", 400, inner("see https://help.aliyun.com", code="Arrearage"), Halted, QUOTA),
    Row("service", "embed", 429, inner("Allocated quota exceeded, please increase your quota"), Unavailable),
    Row("service", "embed", 429, [GEMINI_LIMIT], Unavailable),
    Row("service", "embed", 403, inner(code="AllocationQuota.FreeTierOnly"), Halted, QUOTA),
    Row("service", "embed", 429, inner("service paused", code="SetLimitExceeded"), Halted, QUOTA),
    Row("service", "embed", 400, inner(code="billing_hard_limit_reached"), Halted, QUOTA),
    Row("service", "embed", 200, {"error": "Unexpected endpoint or method. (POST /v1)"}, Halted, MISSING),
    Row("service", "embed", 400, [GEMINI_KEY], Halted, KEY),
    Row("service", "embed", 400, GEMINI_KEY, Halted, KEY),
    Row("service", "embed", 400, [inner("Invalid text", code=400, status="INVALID_ARGUMENT")], Rejected),
    Row("service", "embed", 429, [inner(code="insufficient_quota")], Halted, QUOTA),
    Row("service", "embed", 200, [inner()], Rejected),
    Row("service", "embed", 200, [[0.5], [0.5]], None),
    Row("service", "rerank", 200, [{"index": 0, "score": 0.5}], None),
    Row(
        *("service", "embed", 403),
        inner("Your account has an overdue balance.", code="AccountOverdueError", type="Forbidden"),
        *(Halted, QUOTA),
    ),
    Row(
        *("service", "embed", 400),
        inner("Budget has been exceeded! Current cost: 0.0025", type="budget_exceeded", code="400"),
        *(Halted, QUOTA),
        also=(429,),
    ),
    *(
        Row("service", "embed", 200, inner(code=code), *means)
        for code, *means in (
            (401, Halted, KEY),
            (402, Halted, QUOTA),
            ("403", Rejected, "", True),
            (404, Halted, MISSING),
            (413, Rejected),
            (429, Unavailable),
            (408, Unavailable),
            (500, Rejected, "", True),
            (502, Unsure),
            ("503", Unsure),
            (504, Unsure),
        )
    ),
]

RETRY_SOON = "You exceeded your current quota. Please retry in 34.07s."
LIMIT_ROWS = [
    Row("dify", "upload", 400, dify(400, "odd", RETRY_SOON), Unavailable),
    Row("gptbots", "upload", 400, flat(4, RETRY_SOON), Unavailable),
    Row("ragflow", "retrieve", 200, flat(102, RETRY_SOON), Unavailable),
    Row("zhipu", "upload", 429, inner("额度已用尽，请30秒后重试", code="1305"), Unavailable),
]

ROWS = [
    *(*LIMIT_ROWS, *COMMON_ROWS, *ZHIPU_ROWS, *GPTBOTS_ROWS, *OPENAI_ROWS, *OPENWEBUI_ROWS),
    *(*LIGHTRAG_ROWS, *DIFY_ROWS, *RAGFLOW_ROWS, *SERVICE_ROWS),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.service}-{row.op}-{row.status}")
def test_response_is_classified_by_the_required_reaction(row: Row) -> None:
    classify_response, _ = SERVICES[row.service]
    for status in (row.status, *row.also):
        error = classify_response(replace(row, status=status).response())
        kind = type(error) if error else None
        result = kind, getattr(error, "halt", ""), getattr(error, "may_pass", False)
        assert result == (row.means, row.halt, row.may_pass), error
        assert not row.code or (error and error.code == row.code)
        assert error is None or words_in(row.body).rstrip(".") in error.reason


RECEIPTS = [
    ("账户余额不足，请充值", Halted, QUOTA),
    ("请求过于频繁，超出限制，请稍后再试", Unavailable, ""),
    ("剩余空间不够", zhipu.NoRoom, QUOTA),
    ("知识库文档数已达上限", zhipu.NoRoom, QUOTA),
    ("不支持的文档类型", Rejected, ""),
    ("文档名称已存在", NameTaken, ""),
    ("insufficient permission", Rejected, ""),
    ("", Rejected, ""),
]


def test_unknown_gateway_route_is_classified_by_its_status() -> None:
    """The service's own message would prove at once that the call is missing."""
    body = {"status": 404, "error": "Not Found", "path": "/v1/qa"}
    error = classify_gptbots(Row("gptbots", "update", 404, body, NotOffered).response())
    assert isinstance(error, NotOffered) and error.code == "404"


@pytest.mark.parametrize(("words", "means", "halt"), RECEIPTS)
@pytest.mark.parametrize("call", [zhipu.RECEIPT, zhipu.INDEXED])
def test_messages_mean_the_same_in_a_receipt_and_beside_a_document(
    call: str, words: str, means: type[TargetError], halt: str
) -> None:
    assert zhipu.refusal(call, words, words).halt == halt
    if call == zhipu.RECEIPT:
        error = zhipu.receipt_error(words)
        assert type(error) is means
        assert getattr(error, "halt", "") == halt
        assert getattr(error, "may_pass", False) == (not words)


def key_of(rule: ErrorRule) -> tuple[object, ...]:
    """Return a key that is equal for the same rule in two instances of the table."""
    return repr(replace(rule, when=None)), getattr(rule.when, "__code__", None)


@pytest.mark.parametrize("service", SERVICES)
def test_every_rule_is_the_first_match_for_some_response(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So no earlier rule hides another one."""
    classify_response, rules = SERVICES[service]
    fitting: set[tuple[object, ...]] = set()
    fits = ErrorRule.fits

    def recorded(rule: ErrorRule, case: ErrorCase) -> bool:
        if does := fits(rule, case):
            fitting.add(key_of(rule))
        return does

    monkeypatch.setattr(ErrorRule, "fits", recorded)
    for row in ROWS:
        if row.service == service:
            for status in (row.status, *row.also):
                classify_response(replace(row, status=status).response())
    if service == "zhipu":
        for words, *_ in RECEIPTS:
            zhipu.refusal(zhipu.RECEIPT, words, words)
        zhipu.refusal(zhipu.INDEXED, "", "", "10002")
    assert [rule for rule in rules if key_of(rule) not in fitting] == []


@pytest.mark.parametrize("status", [*range(100, 200), *range(200, 700, 7)])
def test_one_common_rule_always_matches(status: int) -> None:
    for body, is_page in ((None, False), (None, True), ({}, False)):
        case = ErrorCase("upload", status, is_json=body is not None, is_page=is_page)
        assert first_rule(case, COMMON) is not None


@pytest.mark.parametrize(("message", "quoted"), [("No such key.", "No such key"), ("busy...", "busy...")])
def test_hint_follows_a_quoted_message_without_its_full_stop(message: str, quoted: str) -> None:
    case = ErrorCase("list", 401, message=message, is_error=True)
    rule = ErrorRule(Halted, hint="check the key")
    error = rule.error(case, describe_answer(case, rule))
    assert str(error).endswith(f"answered 401: {quoted}; check the key")


@pytest.mark.parametrize(
    ("words", "is_money"),
    [
        ("insufficient_quota", True),
        ("The request failed because your account has an overdue balance.", True),
        ("the book is overdue", False),
        ("Error code: 429 - You exceeded your current quota, please check your plan", True),
        ("用户额度不足, 剩余额度: ¥0.00", True),
        ("cannot read quota.md", False),
        ("余额.xlsx 解析失败", False),
        ("Insufficient permission", False),
        ("Rate limit reached. Visit https://platform.openai.com/account/billing to pay for more", False),
        ("the load balancer is away", False),
        *(
            (words, True)
            for words in (
                "Access denied, please make sure your account is in good standing.",
                "Your account org-1 is suspended, please check your plan and billing details",
                "Your account is not active, please check your billing details on our website.",
                "Error code: 400 - {'message': 'Billing hard limit has been reached'}",
                "You have exceeded your monthly included credits for Inference Providers.",
                "Credit limit exceeded, please navigate to the billing page",
                "Your credit balance is too low to access the API.",
                "The free tier of the model has been exhausted.",
            )
        ),
        ("see the report on free tier services", False),
        ("You exceeded your current quota, check your plan. Please retry in 34.07s.", False),
    ],
)
def test_message_of_a_failed_document_blames_the_account_only_for_money(words: str, is_money: bool) -> None:
    assert says_money(words) is is_money


@pytest.mark.parametrize(
    ("words", "is_brief"),
    [
        ("[openai] Rate Limit Error, Rate limit reached. Please try again in 20s.", True),
        ("You exceeded your current quota, check your plan. Please retry in 34.07s.", True),
        ("请求过于频繁，请稍后重试", True),
        ("cannot read rate limits.pdf: unsupported encoding", False),
        ("C[1/1]: chunk-e1: Connection error.", True),
        ("[ollama] Server Unavailable Error, HTTPConnectionPool: Max retries exceeded", True),
        ("Cannot connect to host localhost:11434 ssl:default [Connect call failed]", True),
        ("ConnectError: All connection attempts failed", True),
        ("cannot read connection error.pdf: unsupported encoding", False),
        ("Insufficient balance, please try again later", False),  # it waits for money instead
    ],
)
def test_document_that_failed_because_of_a_brief_problem_waits_longer(words: str, is_brief: bool) -> None:
    assert (failed(words).pause > 0) is is_brief


@pytest.mark.parametrize(
    ("words", "halt"),
    [
        ("Error code: 401 - {'error': {'message': 'Incorrect API key provided: sk-***', 'type': …", True),
        ("Fail to bind embedding model: Model(BAAI/bge-m3@BAAI) not authorized", True),
        ("[openai] Incorrect model credentials provided, please check and try again. ", True),
        ("Model bge-m3 credentials is not initialized.", True),
        ('model "bge-m3" not found, try pulling it first (status code: 404)', True),
        ("You are not allowed to generate embeddings from this model", True),
        ("The api_key client option is invalid", True),
        ("Error code: 401 - 令牌已过期或验证不正确", True),
        ("无效的API Key", True),
        ("cannot read invalid api key.md", False),
        ("401 Client Error: Unauthorized for url https://example.com/a.png", False),
        ("chunk 401: error code: 4010", False),
        ("Connection error.", False),
        ("the model found no text", False),
    ],
)
def test_failed_document_does_not_take_the_blame_for_an_unusable_model(words: str, halt: bool) -> None:
    status = failed(words)
    assert (status.halt == "target-rejects") is halt is ("or its API key" in status.reason)
    assert failed(words, is_final=True).halt == ""  # a person must release it in any case


SIGNED = "bad\n2026 all is well https://cdn.example/a.md?q-signature=abc end" + "x" * 500


def test_service_messages_cannot_forge_a_line_or_contain_a_signature() -> None:
    message = quote_message(SIGNED)
    assert "\n" not in message
    assert "https://cdn.example/a.md end" in message
    assert len(message) == 300


@pytest.mark.parametrize("service", SERVICES)
def test_reason_contains_no_signature(service: str) -> None:
    body = {"error": {"code": "400", "message": SIGNED}, "code": 400, "message": SIGNED, "detail": SIGNED}
    classify, _ = SERVICES[service]
    for response_body, text in ((body, ""), (None, " ".join(SIGNED[:300].split()))):
        error = classify(HttpResponse("upload", 400, {}, response_body, text, 0.0, "kb.example"))
        assert error is not None
        assert "q-signature" not in error.reason


def test_sent_file_names_are_recognized_in_messages() -> None:
    assert {*gptbots.EXTENSIONS, *OPENAI_ENDINGS, *ZHIPU_ENDINGS} - {"c", "go", "sh"} <= ENDINGS | {"xls"}
