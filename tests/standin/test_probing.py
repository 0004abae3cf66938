"""Tests that the comparison of stand-ins with real servers (`tests/servers`) finds all differences, and no
others."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from kbsync_standin.gptbots import HOME_ID, application
from kbsync_standin.messages import StandInClock
from tests.servers import models
from tests.servers.probe import Probe, compare, differences, shape, stand_in
from tests.share import long

KEY = "app-secret-for-tests"
PROBES = (
    Probe("no key", "GET", "/v1/bot/knowledge/base/page", headers={"authorization": None}),
    Probe("bases", "GET", "/v1/bot/knowledge/base/page", keep={"base": "knowledge_base.0.id"}),
    Probe("documents", "GET", "/v1/bot/doc/query/page?page=1&page_size=10&knowledge_base_id={base}"),
)


def shape_of(content: Any, status: int = 200) -> dict[str, str]:
    return shape(httpx.Response(status, json=content))


def side(**behaviour: Any) -> Any:
    app = application(KEY, 1, (1.0, 1.0), StandInClock())
    app.set_behaviour(behaviour)
    return stand_in(app, {"authorization": f"Bearer {KEY}"}, {"home": HOME_ID})


@long
def test_stand_in_compared_with_itself_has_no_differences() -> None:
    with side() as first, side() as second:
        assert differences(PROBES, first, second) == []


@long
def test_key_only_one_side_has_is_reported_unless_excused() -> None:
    with side() as first, side(extra_fields=True) as second:
        differing = differences(PROBES, first, second)
    assert differing
    assert all("nothing, really" in line for line in differing)
    reasons = {":".join(line.split(":")[:2]): "it says more than it documents" for line in differing}
    assert compare(differing, reasons).unknown == []
    assert compare(differing, {}).unknown == differing
    assert compare([], {"gone: body": "was so once"}).idle == ["gone: body"]


def test_shapes_compare_types_and_not_values() -> None:
    rows = [{"id": "a", "size": 1, "tag": None}, {"id": "b", "size": 2.5}]
    assert shape_of({"data": rows, "more": False}) == {
        "status": "200",
        "body": "object",
        "body.data": "list",
        "body.data[]": "object",
        "body.data[].id": "string",
        "body.data[].size": "number",
        "body.data[].tag": "nothing or null",
        "body.more": "boolean",
    }
    assert shape_of({"data": []}, 404) == {"status": "404", "body": "object", "body.data": "empty list"}
    assert shape(httpx.Response(200, html="<p>"))["body"] == "text/html"


@pytest.fixture
def models_url() -> Any:
    with models.serving() as url:
        yield url


@long
def test_embedding_model_puts_texts_with_common_words_close_together(models_url: str) -> None:
    texts = ["the kestrel hovers", "a kestrel hovers here", "prices of wool"]
    settings = {"model": models.EMBEDDING, "input": texts}
    rows = httpx.post(f"{models_url}/embeddings", json=settings, trust_env=False).json()["data"]
    first, like, other = (row["embedding"] for row in rows)
    assert len(first) == models.DIMENSIONS
    assert sum(a * b for a, b in zip(first, like, strict=True)) > 0.4
    assert abs(sum(a * b for a, b in zip(first, other, strict=True))) < 0.2


@long
def test_models_fail_as_configured(models_url: str) -> None:
    control, settings = models_url.removesuffix("/v1") + "/control", {"model": "m", "input": "a kestrel"}
    with httpx.Client(trust_env=False) as client:
        client.post(control, json={"fail": 1, "status": 429})
        statuses = [client.post(f"{models_url}/embeddings", json=settings).status_code for _ in range(2)]
        assert statuses == [429, 200]
        client.post(control, json={"fail_if": "kestrel"})
        assert client.post(f"{models_url}/embeddings", json=settings).status_code == 500
        client.delete(control)
        assert client.post(f"{models_url}/embeddings", json=settings).status_code == 200


@long
def test_models_answer_whole_and_streamed(models_url: str) -> None:
    settings = {"model": models.CHAT, "messages": [{"role": "user", "content": "hours?"}]}
    at_once = httpx.post(f"{models_url}/chat/completions", json=settings, trust_env=False)
    assert "hours?" in at_once.json()["choices"][0]["message"]["content"]
    streamed = httpx.post(
        f"{models_url}/chat/completions", json={**settings, "stream": True}, trust_env=False
    )
    assert streamed.text.count("data: ") == 4
    assert streamed.text.endswith("data: [DONE]\n\n")
