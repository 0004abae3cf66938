"""Tests the meaning of the service's responses: by code, shape, words and HTTP status."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable, Unsure, UsageError
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.zhipu.errors import SENTENCES, NotFound, classify_response
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


@pytest.mark.parametrize(
    ("excerpt", "why"), [("a web page", "a web page"), ("", "the body is empty")], ids=["web page", "empty"]
)
def test_response_that_is_not_json_is_described(excerpt: str, why: str) -> None:
    error = classify_response(response(excerpt, op="bases"))
    assert type(error) is Unsure
    assert error.reason.endswith(f" answered 200 without JSON: {why}")


@pytest.mark.parametrize(("code", "halt"), CALLING)
def test_halting_codes_halt_under_any_status(code: str, halt: str) -> None:
    for status in (200, 401, 429):
        error = classify_response(response({"error": {"code": code, "message": "余额"}}, status))
        assert isinstance(error, Halted)
        assert (error.halt, error.code) == (halt, code)
        assert "; " in error.reason  # what to do about it


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
