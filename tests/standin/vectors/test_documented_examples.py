"""Compares the stand-in with the documented requests, responses and refusals of each dialect."""

from __future__ import annotations

import base64
import json
import math
import struct
from dataclasses import dataclass
from typing import Any

import pytest

from kbsync_standin.faults import Fault
from kbsync_standin.messages import Request
from kbsync_standin.vectors import application

KEY = "id.secret-for-tests"
EMBED = {
    "openai": "/openai/v1/embeddings",
    "jina": "/jina/v1/embeddings",
    "newapi": "/newapi/v1/embeddings",
    "zhipu": "/zhipu/api/paas/v4/embeddings",
    "tei": "/tei/embed",
    "vllm": "/vllm/v1/embeddings",
}
RERANK = {dialect: f"{path.rpartition('/')[0]}/rerank" for dialect, path in EMBED.items()}
TEXTS = ["a goat", "a boat"]
PICTURE = f"data:image/png;base64,{base64.b64encode(b'a goat in a boat').decode()}"


@dataclass
class VectorReply:
    """A response: its status and its JSON."""

    status: int
    body: Any


class DirectVectors:
    """The application, called without a server."""

    def __init__(self, **switches: Any) -> None:
        self.app = application(KEY)
        self.app.set_behaviour(switches)

    def ask(self, path: str, body: Any, *, key: str = KEY, fault: Fault | None = None) -> VectorReply:
        headers = {"authorization": f"Bearer {key}"}
        request = Request("POST", path, path, {}, headers, json.dumps(body).encode())
        response = self.app.answer(request, fault)
        return VectorReply(response.status, json.loads(response.body))

    def embed(self, dialect: str, count: int = 2, **fields: Any) -> VectorReply:
        return self.ask(EMBED[dialect], {**embedding(dialect, [f"text {n}" for n in range(count)]), **fields})

    def rank(self, dialect: str, texts: list[str], **fields: Any) -> VectorReply:
        return self.ask(RERANK[dialect], {**ranking(dialect, texts), **fields})


def embedding(dialect: str, texts: list[str]) -> dict[str, Any]:
    """Return the request in a dialect's documentation."""
    match dialect:
        case "tei":
            return {"inputs": texts, "normalize": True, "truncate": True}
        case "newapi":
            objects = [{"text": text} for text in texts]
            return {"model": "m", "input": objects, "normalized": True, "embedding_type": "float"}
    return {"model": "m", "input": texts}


def ranking(dialect: str, texts: list[str]) -> dict[str, Any]:
    body: dict[str, Any] = {"query": "a goat", "texts" if dialect == "tei" else "documents": texts}
    return body if dialect == "tei" else {"model": "m", **body}


# -- vectors


@pytest.mark.parametrize("dialect", ["openai", "jina", "newapi", "vllm", "zhipu"])
def test_vectors_are_returned_as_rows_with_an_index(dialect: str) -> None:
    response = DirectVectors().embed(dialect)
    assert (response.status, response.body["object"], response.body["model"]) == (200, "list", "m")
    assert [(row["object"], row["index"]) for row in response.body["data"]] == [
        ("embedding", 0),
        ("embedding", 1),
    ]
    assert {"prompt_tokens", "total_tokens"} <= response.body["usage"].keys()
    assert ("completion_tokens" in response.body["usage"]) == (dialect == "zhipu")


def test_tei_returns_a_bare_array_of_arrays() -> None:
    response = DirectVectors().embed("tei")
    assert [len(vector) for vector in response.body] == [64, 64]
    assert DirectVectors().ask(EMBED["tei"], {"inputs": "one text"}).body[0] != response.body[0]


@pytest.mark.parametrize("dialect", ["openai", "zhipu", "vllm"])
def test_single_text_needs_no_list(dialect: str) -> None:
    assert len(DirectVectors().embed(dialect, input="one text").body["data"]) == 1


def test_zhipu_example_has_vectors_of_the_requested_length() -> None:
    body = {"model": "embedding-3", "input": ["a", "b"], "dimensions": 1024}
    rows = DirectVectors().ask(EMBED["zhipu"], body).body["data"]
    assert [len(row["embedding"]) for row in rows] == [1024, 1024]
    assert DirectVectors().embed("zhipu", dimensions=1000).body["error"]["code"] == "1214"


@pytest.mark.parametrize(
    ("dialect", "field"),
    [("openai", "encoding_format"), ("vllm", "encoding_format"), ("jina", "embedding_type")],
)
def test_base64_is_little_endian_floats_of_the_same_vector(dialect: str, field: str) -> None:
    request: dict[str, Any] = {field: "base64"}
    packed = DirectVectors().embed(dialect, **request).body["data"][0]["embedding"]
    numbers = struct.unpack("<64f", base64.b64decode(packed))
    plain = DirectVectors().embed(dialect).body["data"][0]["embedding"]
    assert numbers == pytest.approx(plain)
    assert math.hypot(*numbers) == pytest.approx(1)


@pytest.mark.parametrize("dialect", ["jina", "newapi"])
def test_item_has_exactly_one_of_text_and_image(dialect: str) -> None:
    assert DirectVectors().embed(dialect, input=[{"text": "a goat"}, {"image": PICTURE}]).status == 200
    both = DirectVectors().embed(dialect, input=[{"text": "a goat", "image": PICTURE}])
    assert both.status == (422 if dialect == "jina" else 400)


@pytest.mark.parametrize("missing", ["normalized", "embedding_type", "model"])
def test_gateway_requires_all_documented_fields(missing: str) -> None:
    body = embedding("newapi", TEXTS)
    del body[missing]
    assert DirectVectors().ask(EMBED["newapi"], body).status == 400


@pytest.mark.parametrize(
    ("dialect", "status"), [("openai", 400), ("zhipu", 400), ("tei", 200), ("vllm", 200)]
)
def test_model_is_required_when_there_are_several(dialect: str, status: int) -> None:
    body = {key: value for key, value in embedding(dialect, TEXTS).items() if key != "model"}
    assert DirectVectors().ask(EMBED[dialect], body).status == status


# -- counts


@pytest.mark.parametrize(
    ("dialect", "most", "status"),
    [("openai", 2048, 400), ("jina", 2048, 422), ("zhipu", 64, 400), ("tei", 32, 413)],
)
def test_request_size_is_limited_as_documented(dialect: str, most: int, status: int) -> None:
    assert DirectVectors().embed(dialect, most).status == 200
    response = DirectVectors().embed(dialect, most + 1)
    assert (response.status, f"batch size {most + 1} > {most}" in str(response.body)) == (status, True)


@pytest.mark.parametrize(("dialect", "most", "status"), [("zhipu", 128, 400), ("tei", 32, 413)])
def test_ranking_size_is_limited_as_documented(dialect: str, most: int, status: int) -> None:
    assert DirectVectors().rank(dialect, ["a"] * most).status == 200
    assert DirectVectors().rank(dialect, ["a"] * (most + 1)).status == status


def test_unknown_switch_is_reported_with_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="most_items is a whole number"):
        DirectVectors(most_items="10")
    with pytest.raises(ValueError, match=r"there are .*dimensions, most_items"):
        DirectVectors(most=10)


# -- ranking


@pytest.mark.parametrize("dialect", ["openai", "jina", "newapi", "vllm", "zhipu"])
def test_ranking_is_best_first_under_results(dialect: str) -> None:
    response = DirectVectors().rank(dialect, ["a boat", "a goat", "nothing"], top_n=2)
    assert (response.body["results"][0]["index"], len(response.body["results"])) == (1, 2)
    assert all(isinstance(row["relevance_score"], float) for row in response.body["results"])
    assert "total_tokens" in response.body["usage"]


@pytest.mark.parametrize("dialect", ["zhipu", "vllm"])
def test_top_n_of_none_or_zero_returns_all(dialect: str) -> None:
    assert len(DirectVectors().rank(dialect, TEXTS).body["results"]) == 2
    assert len(DirectVectors().rank(dialect, TEXTS, top_n=0).body["results"]) == 2


def test_tei_returns_a_bare_array_of_scores() -> None:
    response = DirectVectors().rank("tei", TEXTS, raw_scores=False)
    assert [(row.keys(), row["index"]) for row in response.body] == [
        ({"index", "score"}, 0),
        ({"index", "score"}, 1),
    ]


@pytest.mark.parametrize(
    ("dialect", "options", "echo"),
    [
        ("newapi", {}, {"document": {"text": "a goat"}}),
        ("vllm", {}, {"document": {"text": "a goat"}}),
        ("jina", {}, {}),
        ("jina", {"return_documents": True}, {"document": {"text": "a goat"}}),
        ("zhipu", {"return_documents": False}, {}),
        ("zhipu", {"return_documents": True}, {"document": "a goat"}),
        ("tei", {"return_text": True}, {"text": "a goat"}),
    ],
)
def test_texts_are_echoed_in_each_dialects_form(dialect: str, options: dict[str, bool], echo: Any) -> None:
    body = DirectVectors().rank(dialect, TEXTS, **options).body
    best = (body if dialect == "tei" else body["results"])[0]
    assert {key: value for key, value in best.items() if key in ("document", "text")} == echo


@pytest.mark.parametrize("fields", [{"query": "x" * 4097}, {"documents": ["x" * 4097]}])
def test_zhipu_accepts_4096_characters(fields: dict[str, Any]) -> None:
    assert DirectVectors().rank("zhipu", TEXTS, **fields).status == 400


# -- refusals


@pytest.mark.parametrize(
    ("dialect", "status", "form"),
    [
        ("openai", 401, {"error": {"message", "type", "param", "code"}}),
        ("newapi", 401, {"error": {"message", "type", "param", "code"}}),
        ("zhipu", 401, {"error": {"code", "message"}}),
        ("jina", 401, {"detail"}),
        ("vllm", 401, {"object", "message", "type", "code"}),
        ("tei", 401, {"error", "error_type"}),
    ],
)
def test_refused_key_is_reported_in_the_form_of_the_dialect(dialect: str, status: int, form: Any) -> None:
    response = DirectVectors().ask(EMBED[dialect], embedding(dialect, TEXTS), key="wrong")
    assert response.status == status
    if isinstance(form, dict):
        assert response.body["error"].keys() == form["error"]
    else:
        assert response.body.keys() == form


@pytest.mark.parametrize("routes", [EMBED, RERANK])
@pytest.mark.parametrize("dialect", EMBED)
def test_unknown_model_is_404_and_at_zhipu_an_error_code(dialect: str, routes: dict[str, str]) -> None:
    response = DirectVectors().ask(routes[dialect], {}, fault=Fault("not-found"))
    if dialect == "zhipu":
        assert (response.status, response.body["error"]["code"]) == (400, "1211")
    else:
        assert response.status == 404
    if dialect in ("openai", "newapi"):
        assert response.body["error"]["code"] == "model_not_found"


def test_unknown_route_is_404() -> None:
    assert DirectVectors().ask("/openai/embed", {}).status == 404
    assert DirectVectors().ask("/zhipu/api/paas/v4/embed", {}).status == 404


def test_tei_reports_overload_and_too_long_texts_like_its_source() -> None:
    response = DirectVectors().ask(EMBED["tei"], embedding("tei", TEXTS), fault=Fault("overloaded"))
    assert (response.status, response.body["error_type"]) == (429, "Overloaded")
    assert DirectVectors().embed("tei", truncate=False, inputs=["x" * 9000]).status == 413
    assert DirectVectors().embed("tei", truncate=True, inputs=["x" * 9000]).status == 200


def test_lack_of_money_is_429_with_its_own_code() -> None:
    response = DirectVectors().ask(EMBED["openai"], embedding("openai", TEXTS), fault=Fault("no-money"))
    assert (response.status, response.body["error"]["code"]) == (429, "insufficient_quota")


@pytest.mark.parametrize("dialect", EMBED)
def test_empty_text_is_refused(dialect: str) -> None:
    body = embedding(dialect, [""])
    assert DirectVectors().ask(EMBED[dialect], body).status in (400, 413, 422)
