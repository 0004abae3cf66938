"""Tests that requests against a rule are refused as by the service, recorded, and without effect."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from kbsync_standin.messages import Response
from kbsync_standin.zhipu import HOME_ID
from tests.standin.zhipu.client import KEY, OPEN, START, DirectZhipu

UPLOAD = f"{OPEN}/document/upload_document/{HOME_ID}"


def refused(service: DirectZhipu, response: Any, words: str) -> None:
    """Check for `code` 400 inside HTTP 200, and for one recorded violation that contains `words`."""
    assert response["code"] == 400
    assert response["message"].startswith("参数错误")
    assert len(service.app.violations) == 1
    assert words in service.app.violations[0]


def multipart(*parts: tuple[str, str]) -> bytes:
    pieces = [f"--B\r\nContent-Disposition: form-data; {head}\r\n\r\n{body}\r\n" for head, body in parts]
    return ("".join(pieces) + "--B--\r\n").encode()


def post(service: DirectZhipu, body: bytes, kind: str = "multipart/form-data; boundary=B") -> Response:
    return service.send(service.request("POST", UPLOAD, body, {"content-type": kind}))


TYPE = ('name="knowledge_type"', "1")
FILE = ('name="files"; filename="a.txt"', "text")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (multipart(TYPE), "files is missing"),
        (multipart(TYPE, ('name="file"; filename="a.txt"', "text")), "file is not documented"),
        (multipart(TYPE, FILE, FILE), "2 files"),
        (multipart(FILE), "knowledge_type is missing"),
        (multipart(TYPE, FILE, ("name=\"files\"; filename*=utf-8''a.txt", "x")), "2 files"),
        (multipart(TYPE, ("name=\"files\"; filename*=utf-8''a.txt", "x")), "filename* alone"),
        (multipart(TYPE, ('name="files"', "x")), "no file name"),
        (multipart(TYPE, TYPE, FILE), "comes twice"),
        (multipart(TYPE, FILE, ('name="mystery"', "1")), "mystery is not documented"),
        (multipart(FILE, ('name="knowledge_type"', "one")), "not a whole number"),
        (multipart(FILE)[:-4], "closing boundary"),
        (b"", "does not begin with its boundary"),
        (multipart(TYPE, FILE).replace(b"\r\n\r\n", b"\r\n"), "no blank line"),
        (multipart(TYPE, ("filename=a.txt", "x")), "no name"),
        (b"--B\r\nX-Other: 1\r\n\r\n1\r\n--B--\r\n", "no Content-Disposition"),
    ],
)
def test_malformed_form_is_refused(service: DirectZhipu, body: bytes, words: str) -> None:
    refused(service, json.loads(post(service, body).body), words)
    assert service.effects() == []


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("a.txt", {"knowledge_type": "4"}, "knowledge_type is 4"),
        ("a.txt", {"knowledge_type": "0"}, "knowledge_type is 0"),
        ("a.csv", {"knowledge_type": "2"}, "2 is not for .csv"),
        ("a.txt", {"knowledge_type": "3"}, "3 is not for .txt"),
        ("a.md", {"knowledge_type": "6"}, "6 is not for .md"),
        ("a.XLSX", {"knowledge_type": "1"}, "1 is not for .xlsx"),
        ("a.txt", {"knowledge_type": "1", "sentence_size": "300"}, "sentence_size goes with"),
        ("a.txt", {"knowledge_type": "1", "custom_separator": '["x"]'}, "custom_separator goes with"),
        ("a.txt", {"knowledge_type": "5", "sentence_size": "19"}, "sentence_size is 19"),
        ("a.txt", {"knowledge_type": "5", "sentence_size": "2001"}, "sentence_size is 2001"),
        ("a.txt", {"knowledge_type": "5", "custom_separator": "[]"}, "custom_separator is"),
        ("a.txt", {"knowledge_type": "5", "custom_separator": "[1]"}, "custom_separator is"),
        ("a.txt", {"knowledge_type": "1", "parse_image": "1"}, "parse_image is"),
        ("a.txt", {"knowledge_type": "1", "word_num_limit": "many"}, "word_num_limit is"),
        ("a.txt", {"knowledge_type": "1", "callback_url": "nowhere"}, "callback_url is"),
        ("a.txt", {"knowledge_type": "1", "callback_header": "x: y"}, "callback_header is"),
        ("a.txt", {"knowledge_type": "1", "callback_header": "[]"}, "callback_header is"),
    ],
)
def test_invalid_slicing_is_refused(
    service: DirectZhipu, name: str, fields: dict[str, str], words: str
) -> None:
    refused(service, service.upload(name, **fields), words)
    assert service.effects() == []


@pytest.mark.parametrize(
    "kind", ["application/json", "multipart/form-data", "multipart/mixed; boundary=B", ""]
)
def test_non_form_body_is_an_unsupported_media_type(service: DirectZhipu, kind: str) -> None:
    assert post(service, multipart(TYPE, FILE), kind).status == 415
    assert "not multipart/form-data" in service.app.violations[0]


def test_names_are_read_as_raw_utf8_between_quotes(service: DirectZhipu) -> None:
    head = 'name="files"; filename="手册 \\"eins\\" a\\\\b; c=d%22.txt"; filename*=utf-8\'\'other.txt'
    post(service, multipart(TYPE, (head, "text")))
    assert service.names() == ['手册 "eins" a\\b; c=d%22.txt']


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("GET", "/document", {"knowledge_id": HOME_ID, "order": "name"}),
        ("GET", "/document", {}),
        ("GET", "/document", {"knowledge_id": HOME_ID, "page": "0"}),
        ("GET", "/document", {"knowledge_id": HOME_ID, "size": "all"}),
        ("GET", "/knowledge", {"page": "-1"}),
        ("GET", "/document/1", {"full": "1"}),
        ("DELETE", "/document/1", {"force": "1"}),
    ],
)
def test_invalid_queries_are_refused(
    service: DirectZhipu, method: str, path: str, query: dict[str, str]
) -> None:
    refused(service, service.json(method, path, **query), "")


def test_cookie_is_refused(service: DirectZhipu) -> None:
    request = service.request("GET", OPEN + "/knowledge", headers={"cookie": "a=b"})
    refused(service, json.loads(service.send(request).body), "cookie")


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"", "application/json", "not a JSON object"),
        (b"{", "application/json", "not a JSON object"),
        (b"[]", "application/json", "not a JSON object"),
        (b"{}", "text/plain", "content type is 'text/plain'"),
        (b'{"force": true}', "application/json", "force is not documented"),
        (b'{"callback_url": 1}', "application/json", "callback_url is 1"),
    ],
)
def test_invalid_reembed_is_refused(service: DirectZhipu, body: bytes, kind: str, words: str) -> None:
    ident = service.put()
    path = f"{OPEN}/document/embedding/{ident}"
    response = service.send(service.request("POST", path, body, {"content-type": kind}))
    refused(service, json.loads(response.body), words)
    assert "(probe.txt)" in service.app.violations[0]
    assert service.effects() == ["stored"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"knowledge_type": "5"},
        {"knowledge_type": 3},
        {"knowledge_type": 5, "sentence_size": 10},
        {"knowledge_type": 5, "sentence_size": "300"},
        {"knowledge_type": 5, "custom_separator": "x"},
        {"knowledge_type": 1, "custom_separator": ["x"]},
        {"knowledge_type": 1, "name": "other.txt"},
    ],
)
def test_invalid_reslice_is_refused(service: DirectZhipu, body: Any) -> None:
    ident = service.put()
    refused(service, service.json("PUT", f"/document/{ident}", body), "")
    assert service.effects() == ["stored"]


@pytest.mark.parametrize(
    "change",
    [
        {"query": ""},
        {"query": "x" * 1001},
        {"knowledge_ids": []},
        {"knowledge_ids": [1734786402936664064]},
        {"document_ids": []},
        {"top_k": 0},
        {"top_k": 21},
        {"top_k": True},
        {"top_n": 101},
        {"recall_method": "hybrid"},
        {"recall_ratio": 101},
        {"rerank_status": True},
        {"rerank_model": "best"},
        {"fractional_threshold": 1},
        {"score_threshold": 0.5},
    ],
)
def test_invalid_search_is_refused(service: DirectZhipu, change: dict[str, Any]) -> None:
    body = {"query": "x", "knowledge_ids": [HOME_ID], **change}
    refused(service, service.json("POST", "/knowledge/retrieve", body), next(iter(change)))


def test_query_of_1000_characters_is_accepted(service: DirectZhipu) -> None:
    assert service.search("中" * 1000) == []
    assert service.app.violations == []


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x"},
        {"embedding_id": 11},
        {"embedding_id": 1, "name": "x"},
        {"embedding_id": 11, "name": ""},
        {"embedding_id": 11, "name": "x", "background": "pink"},
        {"embedding_id": 11, "name": "x", "icon": "house!"},
        {"embedding_id": 11, "name": "x", "embedding_model": "Embedding-2"},
        {"embedding_id": 11, "name": "x", "contextual": 2},
        {"embedding_id": 11, "name": "x", "callback_url": "http://x/"},
    ],
)
def test_invalid_base_is_refused(service: DirectZhipu, body: Any) -> None:
    refused(service, service.json("POST", "/knowledge", body), "")
    assert service.effects() == []


def test_key_must_not_be_sent_to_the_file_host(service: DirectZhipu) -> None:
    url = service.detail(service.put())["url"]
    assert service.read(url, authorization=f"Bearer {KEY}").status == 400
    assert "API key" in service.app.violations[0]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/callbacks", 404), ("PATCH", "/document/1", 405), ("GET", "/document/1/", 404)],
)
def test_unknown_route_is_recorded(service: DirectZhipu, method: str, path: str, status: int) -> None:
    assert service.call(method, path).status == status
    assert service.app.op(service.request(method, OPEN + path)) == ""
    assert "no such route" in service.app.violations[0]


def token(secret: str = "secret-for-tests", api_key: str = "id", factor: int = 1000, **header: str) -> str:
    def encode(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    times = {"exp": int((START + 210) * factor), "timestamp": int(START * factor)}
    head = encode({"alg": "HS256", "sign_type": "SIGN", **header})
    signed = f"{head}.{encode({'api_key': api_key, **times})}"
    signature = hmac.digest(secret.encode(), signed.encode(), hashlib.sha256)
    return f"Bearer {signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "1001"),
        ("", "1001"),
        (KEY, "1002"),
        (f"bearer {KEY}", "1002"),
        (f"Bearer  {KEY}", "1002"),
        ("Bearer id.other", "1000"),
        ("Bearer ключ", "1000"),
        (token(secret="other"), "1000"),
        (token(api_key="other"), "1000"),
        (token(factor=1), "1003"),
        (token(alg="none"), "1002"),
        ("Bearer a.b.c", "1002"),
    ],
)
def test_invalid_authorization_is_answered_with_401(
    service: DirectZhipu, header: str | None, code: str
) -> None:
    service.key = header
    response = service.call("GET", "/knowledge")
    assert response.status == 401
    assert json.loads(response.body)["error"]["code"] == code
    assert service.app.violations == []


def test_signed_token_is_valid_until_it_expires(service: DirectZhipu) -> None:
    service.key = token()
    assert service.call("GET", "/knowledge").status == 200
    service.clock.advance(211)
    assert json.loads(service.call("GET", "/knowledge").body)["error"]["code"] == "1003"
