from __future__ import annotations

from typing import Any

import httpx
import pytest

from kbsync.errors import Unavailable
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.reading import count_of
from kbsync.targets.http.rules import case_of, classify
from tests.targets.http.clients import KEY, client

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


def answered(status: int = 200, body: Any = None, text: str = "", **headers: str) -> HttpResponse:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse("upload", status, names, body, text, NOW, "kb.example")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        (" 1.5 ", 1.5),
        ("0", 0.0),
        ("86400", 300.0),
        ("9" * 5000, 300.0),
        ("Tue, 14 Nov 2023 22:13:30 GMT", 10.0),
        ("Tue, 14 Nov 2023 22:13:10 GMT", 0.0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 300.0),
        ("Tue Nov 14 22:13:30 2023", 10.0),
        ("Tuesday, 14-Nov-23 22:13:30 GMT", 10.0),
        ("Tue, 14 Nov 2023 22:13:30 -0000", 10.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("٣", None),
        ("nan", None),
        ("inf", None),
        ("Tue, 99 Nov 99999 99:99:99 GMT", None),
    ],
)
@pytest.mark.usefixtures("in_shanghai")
def test_every_form_of_retry_after_is_read_as_gmt_in_any_time_zone(
    header: str, seconds: float | None
) -> None:
    assert answered(429, retry_after=header).retry_after == seconds


def test_retry_after_date_uses_the_targets_clock() -> None:
    request = answered(503, retry_after="Tue, 14 Nov 2023 12:00:07 GMT", date="Tue, 14 Nov 2023 12:00:00 GMT")
    assert request.retry_after == 7.0


@pytest.mark.parametrize("status", [401, 403])
def test_html_page_says_nothing_about_a_key(status: int) -> None:
    page = answered(status, text="<html><title>Sign in</title>")
    error = classify(case_of(page, is_of_document=False))
    assert isinstance(error, Unavailable)
    assert "Sign in" in error.reason
    assert isinstance(classify(case_of(answered(403), is_of_document=False)), Unavailable)


@pytest.mark.parametrize("page", ["<html><title>Sign in</title>", "\n<!DOCTYPE html><title>Sign in</title>"])
async def test_html_page_may_begin_with_a_byte_order_mark(page: str) -> None:
    response = httpx.Response(401, content=page.encode("utf-8-sig"))
    async with client("http://kb", transport=httpx.MockTransport(lambda _: response)) as http:
        with pytest.raises(Unavailable, match="answered 401: a web page, Sign in"):
            await http.request("list", "GET", "/")


def test_response_repr_hides_headers_and_body() -> None:
    text = repr(answered(200, body={"a": "secret-1"}, text="secret-2", set_cookie="secret-3"))
    assert "secret" not in text


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (2**63 - 1, 2**63 - 1),
        (2**63, None),
        (10**30, None),
        (str(2**63), None),
        ("12", 12),
        (-1, None),
        (True, None),
    ],
)
def test_number_too_large_for_the_state_is_rejected(value: object, count: int | None) -> None:
    assert count_of(value) == count


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"status": "ok"}, '{"status":"ok"}'),
        ({"echo": KEY, "link": "http://files/a?sign=1"}, '{"echo":"Bearer ***","link":"http://files/a"}'),
        (["x" * 500], '["' + "x" * 98),
        (rb'{"link":"https:\/\/files\/a?sign=1"}', r'{"link":"https:\/\/files\/a"}'),
    ],
)
async def test_response_of_another_service_is_quoted_without_secrets(body: Any, answer: str) -> None:
    content: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
    respond = httpx.MockTransport(lambda _request: httpx.Response(200, **content))
    async with client("http://kb.example/v1", transport=respond) as http:
        with pytest.raises(Unavailable) as raised:
            await http.read("list", "/documents", lambda _body: None)
    assert raised.value.reason == f"list: kb.example answered 200 with an unexpected shape: {answer}"
