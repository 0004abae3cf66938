"""Whatever is asked, in whatever state: it answers and never breaks down."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kbsync_standin.faults import Fault
from kbsync_standin.messages import Request
from kbsync_standin.zhipu import HOME_ID, KINDS
from tests.standin.zhipu.vendor import HOST, KEY, OPEN, DirectZhipu

TEXT = st.text(max_size=12) | st.sampled_from([HOME_ID, "1", "9" * 5000, "²", "\ud800", ""])
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
FIELD = st.sampled_from(
    [
        *("knowledge_type", "custom_separator", "sentence_size", "callback_url", "mystery"),
        *("query", "knowledge_ids", "document_ids", "top_k", "recall_method", "fractional_threshold"),
        *("embedding_id", "name", "embedding_model", "contextual"),
    ]
)
PATHS = st.sampled_from(
    [
        "/document",
        "/document/{id}",
        "/document/embedding/{id}",
        "/document/upload_document/{id}",
        "/knowledge",
        "/knowledge/{id}",
        "/knowledge/capacity",
        "/knowledge/retrieve",
        "/document/slice/image_list/1",
    ]
)
OBJECTS = st.dictionaries(FIELD, VALUE, max_size=4)
BODIES = st.binary(max_size=40) | OBJECTS.map(lambda value: json.dumps(value).encode())
ARG = st.sampled_from(
    [
        *("code", "form", "seconds", "n", "runs", "status", "set", "missing"),
        *("value", "name", "id", "to", "answer", "shape", "text"),
    ]
)
ARGS = st.dictionaries(ARG, VALUE, max_size=3)
BEGINNINGS = st.sampled_from([b"", b"--B\r\n", b"--B\r\nContent-Disposition: form-data; "])
FAULTS = st.none() | st.builds(Fault, st.sampled_from(sorted(KINDS)), effect=st.booleans(), args=ARGS)
TYPES = st.sampled_from(["application/json", "multipart/form-data; boundary=B", "text/plain"])


@st.composite
def requests(draw: Any, idents: list[str]) -> Request:
    ident = draw(st.sampled_from(idents) | TEXT)
    path = draw(st.just(f"/files/{ident}") | PATHS.map(lambda path: OPEN + path.replace("{id}", ident)))
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE"]))
    names = st.sampled_from(["knowledge_id", "page", "size", "word", "q-sign-time", "q-signature", "odd"])
    key = draw(st.sampled_from([f"Bearer {KEY}"] * 8) | TEXT)
    headers = {"host": HOST, "authorization": key, "content-type": draw(TYPES)}
    if path.startswith("/files/"):
        del headers["authorization"]
    return Request(
        1, method, path, path, draw(st.dictionaries(names, TEXT, max_size=3)), headers, draw(BODIES)
    )


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.data())
def test_no_request_and_no_fault_breaks_it_down(data: st.DataObject) -> None:
    vendor = DirectZhipu(strict=data.draw(st.booleans()))
    idents = [vendor.put("a.txt"), vendor.put("b.csv", knowledge_type="3"), HOME_ID]
    for _ in range(6):
        request = data.draw(requests(idents))
        fault = data.draw(FAULTS)
        assert vendor.app.op(request) is not None
        assert isinstance(vendor.app.subject(request), str)
        response = vendor.app.answer(request, fault)
        assert 200 <= response.status <= 599
        vendor.app.snapshot()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.binary(max_size=200), st.sampled_from([b"", b"--B\r\n", b"--B\r\nContent-Disposition: form-data; "])
)
def test_no_form_breaks_it_down(body: bytes, beginning: bytes) -> None:
    vendor = DirectZhipu()
    kind = {"content-type": "multipart/form-data; boundary=B"}
    path = f"{OPEN}/document/upload_document/{HOME_ID}"
    response = vendor.send(vendor.request("POST", path, beginning + body, kind))
    assert json.loads(response.body)["code"] == 400
    assert vendor.effects() == []
