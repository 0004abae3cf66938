"""Tests the meaning of the service's responses: by code, shape, words and HTTP status."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kbsync.errors import (
    Halted,
    NameTaken,
    NotOffered,
    Rejected,
    TargetError,
    Unavailable,
    Unsure,
    UsageError,
)
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.zhipu.errors import SENTENCES, NoRoom, NotFound, classify_response
from tests.clocks import NOW
from tests.targets.zhipu.scripted import KEY, ScriptedService, failed, target

OUTCOMES: dict[type[TargetError], str] = {
    Unsure: "500 502 503 504 1200 1230 1231 1234",
    Unavailable: "408 429 1120 1302 1303 1305 1312",
    Rejected: "400 413 435 1210 1211 1212 1213 1214 1215 1261 1300 1301",
    NotFound: "404",
    NotOffered: "405 501 1221 1222",
}
PERSON = {
    "credentials": "401 434 1000 1001 1002 1003 1004 1100 1110 1111 1112 1121 1220",
    "quota": "1113 1304 1308 1309 1310 1311 1313",
}
FORBIDDEN = ("403",)
"""The request decides who forbade it."""

CALLING = [(code, halt) for halt, codes in PERSON.items() for code in codes.split()]
BY_CODE = [(code, kind) for kind, codes in OUTCOMES.items() for code in codes.split()]


def response(body: Any, status: int = 200, op: str = "upload", **headers: str) -> HttpResponse:
    text = body if isinstance(body, str) else json.dumps(body)
    parsed = None if isinstance(body, str) else body
    return HttpResponse(op, status, headers, parsed, text[:300], NOW)


def test_every_code_of_the_table_is_tested_here() -> None:
    assert {code for code, _ in [*BY_CODE, *CALLING]} | set(FORBIDDEN) == set(SENTENCES)


@pytest.mark.parametrize("shape", ["flat", "inside error", "typed", "page"])
@pytest.mark.parametrize(
    ("op", "kind"),
    [
        ("upload", Rejected),
        ("detail", Rejected),
        ("delete", Rejected),
        ("reembed", Rejected),
        ("capacity", NotOffered),
        ("retrieve", NotOffered),
        ("base", Halted),
        ("list", Halted),
    ],
)
def test_forbidden_blames_the_document_in_document_requests(op: str, kind: type, shape: str) -> None:
    bodies: dict[str, Any] = {
        "flat": failed(403, "禁止"),
        "inside error": {"error": {"code": "403", "message": "禁止"}},
        "typed": {"error": {"type": "permission_error", "message": "禁止"}},
        "page": "<html>no</html>",
    }
    error = classify_response(response(bodies[shape], 403, op=op))
    if shape == "page" and kind is not Rejected:
        kind = Unavailable  # the response isn't from the service
    assert type(error) is kind
    assert isinstance(error, Halted | NotOffered | Unavailable) or error.may_pass


@pytest.mark.parametrize(("code", "kind"), BY_CODE)
@pytest.mark.parametrize("shape", ["flat", "string", "inside error"])
def test_code_means_the_same_in_every_shape(code: str, kind: type[TargetError], shape: str) -> None:
    bodies: dict[str, Any] = {
        "flat": failed(int(code), "原因"),
        "string": failed(code, "原因"),
        "inside error": {"error": {"code": code, "message": "原因"}},
    }
    error = classify_response(response(bodies[shape]))
    assert type(error) is kind
    assert error.code == code
    assert f"(code {code}: 原因)" in error.reason


@pytest.mark.parametrize(("code", "halt"), CALLING)
def test_halting_codes_halt_under_any_status(code: str, halt: str) -> None:
    for status in (200, 401, 429):
        error = classify_response(response({"error": {"code": code, "message": "余额"}}, status))
        assert isinstance(error, Halted)
        assert (error.halt, error.code) == (halt, code)
        assert "; " in error.reason  # what to do about it


@pytest.mark.parametrize("code", [200, "200"])
def test_success_is_decided_by_the_body(code: Any) -> None:
    assert classify_response(response({"code": code})) is None


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ("", 200, Unsure),
        ("<html>maintenance</html>", 200, Unsure),
        ('{"data": {"succ', 200, Unsure),
        ({"data": {"successInfos": []}}, 200, Unsure),
        ([], 200, Unsure),
        ({"code": 200, "error": {"code": "1302"}}, 200, Unavailable),
        ({"code": 200, "error": {"message": "no code"}}, 200, Rejected),
        ({"code": 200, "error": None}, 200, type(None)),
        ({"code": 200}, 500, Unsure),
        ({"code": 200}, 404, NotOffered),
        ("", 500, Unsure),
        ("", 401, Halted),
        ("", 403, Rejected),
        ("<html>sign in</html>", 401, Unavailable),
        ("", 404, NotOffered),
        ("", 408, Unavailable),
        ("", 302, Unsure),
        ({"timestamp": 1, "status": 404, "error": "Not Found", "path": "/x"}, 404, NotOffered),
        ({"detail": [{"loc": ["body"]}]}, 422, Rejected),
        ({"message": "余额不足或无可用资源包,请充值。"}, 429, Halted),
        ({"type": "error", "error": {"type": "authentication_error", "message": "x"}}, 401, Halted),
        ({"type": "error", "error": {"type": "rate_limit_error", "message": "x"}}, 200, Unavailable),
        ({"type": "error", "error": {"type": "api_error", "message": "x"}}, 200, Unsure),
        ({"type": "error", "error": {"type": "invalid_request_error", "message": "x"}}, 200, Rejected),
        ({"code": 99999, "message": "系统繁忙"}, 503, Unsure),
        ({"code": 99999, "message": "系统繁忙"}, 200, Unavailable),
        ({"code": 1302, "message": "系统繁忙"}, 503, Unavailable),
        ({"code": 400, "message": "token 不存在"}, 401, Halted),
        ({"code": 99999, "message": "知识库空间不足"}, 400, NoRoom),
        ({"message": "余额表.xlsx 太大"}, 400, Rejected),
        ({"code": 500, "message": "x"}, 429, Unsure),
    ],
)
def test_bodies_without_a_known_code_are_read_by_their_fields(body: Any, status: int, kind: type) -> None:
    assert type(classify_response(response(body, status))) is kind


@pytest.mark.parametrize(
    ("code", "message", "op", "kind"),
    [
        (400, "知识库不存在", "base", NotFound),
        (500, "文档不存在", "detail", Unsure),
        (500, "找不到指定的资源", "delete", Unsure),
        (400, "找不到参数", "delete", Rejected),
        (10404, "文档不存在", "delete", Rejected),
        (500, "知识库不存在", "upload", Unsure),
        (400, "document not found", "delete", NotFound),
        (400, "文档名称已存在", "upload", NameTaken),
        (400, "文档名称已存在", "reslice", Rejected),
        (500, "系统繁忙，请稍后再试", "upload", Unsure),
        (400, "知识库空间不足", "upload", NoRoom),
        (400, "文件大小超出限制", "upload", Rejected),
        (400, "知识库文档数已达上限", "upload", NoRoom),
        (400, "知识库文档数已达上限", "retrieve", Rejected),
        (400, "size 超出上限", "list", Rejected),
        (1220, "无权访问", "reembed", NotOffered),
        (1220, "无权访问", "upload", Halted),
        (1231, "请求已存在", "upload", Unsure),
        (400, "额度说明.pdf 上传失败", "upload", Rejected),
        (400, "上传“storage and balance.PDF”失败", "upload", Rejected),
        (400, "已存在的规则.md 解析失败", "upload", Rejected),
        (400, "账户余额不足，文件a.pdf上传失败", "upload", Halted),
        (400, "Insufficient balance.Try later", "upload", Halted),
    ],
)
def test_message_text_resolves_a_vague_code(code: int, message: str, op: str, kind: type) -> None:
    assert type(classify_response(response(failed(code, message), op=op))) is kind


# ---- credentials, clocks and secrets


@pytest.mark.parametrize("status", [200, 400, 401, 500])
async def test_echoed_key_or_signature_is_not_repeated(status: int) -> None:
    echo = f"key {KEY} or s3cr3t-of-the-tests at https://cdn.example/a?q-signature=abc is wrong"
    for body in (failed(1000, echo), failed(400, echo), echo):
        with pytest.raises(TargetError) as caught:
            await target(ScriptedService(base=[(status, body)])).base()
        assert "s3cr3t" not in f"{caught.value!r} {caught.value} {caught.value.reason}"
        assert "q-signature" not in caught.value.reason


@pytest.mark.parametrize("key", ["", "a b", "a\nb", "schlüssel"])
def test_unsendable_key_is_a_config_error(key: str) -> None:
    with pytest.raises(UsageError, match="api_key") as caught:
        target(ScriptedService(), api_key=key)
    assert not key or key not in str(caught.value)
