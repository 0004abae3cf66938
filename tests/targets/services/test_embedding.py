"""Tests embeddings from a service in every dialect, whatever it responds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from kbsync.errors import Halted, Rejected, Unavailable
from kbsync.targets.services import clients as module
from kbsync.targets.services.blocking import ServiceEncoder
from kbsync.targets.services.config import EmbeddingConfig, Service
from kbsync.targets.services.dialects import EmbeddingItem
from kbsync_standin.server import Server
from kbsync_standin.vectors.dialects import vector_of
from tests.clocks import skip
from tests.share import enumerated, long
from tests.targets.services.service import DIALECTS, embedding, play

TEXTS = [f"text number {n} about {topic}" for n, topic in enumerate(("bees", "honey", "wax"))]


def items(texts: list[str]) -> list[EmbeddingItem]:
    return [EmbeddingItem(text) for text in texts]


def assert_made(vectors: Sequence[Any], texts: list[str], dimensions: int = 64) -> None:
    """Assert that each vector belongs to its text and has length 1."""
    expected = np.array([vector_of(text, dimensions) for text in texts], np.float32)
    np.testing.assert_allclose(np.stack(vectors), expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("more", [{}, {"dimensions": 256}], ids=str)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_every_dialect_returns_vectors_in_order_and_of_the_configured_length(
    server: Server, dialect: Service, more: dict[str, int]
) -> None:
    async with embedding(server, dialect, **more) as service:
        vectors = await service.embed(items(TEXTS))
    assert_made(vectors, TEXTS, **more)
    assert server.app.violations == []


async def test_service_that_ignores_the_length_halts(server: Server) -> None:
    play(server, "own-length")
    async with embedding(server, "tei", dimensions=256) as service:
        with pytest.raises(Halted, match="64 dimensions per vector, not 256") as halted:
            await service.embed(items(["bees"]))
    assert halted.value.halt == "embedding-dimensions"
    assert "embedding.dimensions" in halted.value.fix


@pytest.mark.parametrize(("dialect", "most"), [("tei", 32), ("zhipu", 64), ("openai", 256), ("jina", 128)])
async def test_no_request_has_more_items_than_the_service_accepts(
    server: Server, dialect: Service, most: int
) -> None:
    texts = [f"bee {n}" for n in range(most * 2 + 1)]
    async with embedding(server, dialect) as service:
        vectors = await service.embed(items(texts))
    assert [effect["texts"] for effect in server.app.journal()] == [most, most, 1]
    assert_made(vectors, texts)


@enumerated()
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("most", [1, 10])
async def test_service_with_a_lower_limit_gets_smaller_requests(
    server: Server, dialect: Service, most: int
) -> None:
    server.app.set_behaviour({"most_items": most})
    texts = [f"bee {n}" for n in range(25)]
    async with embedding(server, dialect) as service:
        vectors = await service.embed(items(texts))
    assert_made(vectors, texts)


async def test_lowered_request_size_is_remembered(server: Server) -> None:
    server.app.set_behaviour({"most_items": 20})
    async with embedding(server, "vllm") as service:
        await service.embed(items([f"bee {n}" for n in range(64)]))
        assert service.most_items == 16
        before = len(server.app.journal())
        await service.embed(items([f"wasp {n}" for n in range(64)]))
    assert [effect["texts"] for effect in server.app.journal()[before:]] == [16, 16, 16, 16]


async def test_bad_item_does_not_reduce_the_size_of_later_requests(server: Server) -> None:
    play(server, "bad-item", times=0, args={"word": "poison"})
    async with embedding(server, "vllm") as service:
        await service.embed(items([f"bee {n}" for n in range(63)] + ["poison"]))
        assert service.most_items == 64


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_configured_number_of_requests_is_sent_concurrently(server: Server, dialect: Service) -> None:
    async with embedding(server, dialect, batch=7) as service:
        await service.embed(items([f"bee {n}" for n in range(15)]))
    assert [effect["texts"] for effect in server.app.journal()] == [7, 7, 1]


@long
async def test_request_size_stays_below_the_limit(server: Server) -> None:
    async with embedding(server) as service:
        vectors = await service.embed(items(["bee " * 5000] * 25))
    sizes = [effect["texts"] for effect in server.app.journal()]
    assert sum(sizes) == len(vectors) == 25
    assert max(sizes) <= 10


@pytest.mark.parametrize("kind", ["out-of-order", "constant-index", "as-base64", "other-model"])
async def test_rows_in_another_form_are_the_same_vectors(server: Server, kind: str) -> None:
    play(server, kind)
    async with embedding(server, "newapi") as service:
        vectors = await service.embed(items(TEXTS))
    assert_made(vectors, TEXTS)


@pytest.mark.parametrize("kind", ["one-too-few", "one-too-many", "wrong-dimension", "several-vectors"])
async def test_response_that_cannot_be_matched_is_rejected(server: Server, kind: str) -> None:
    play(server, kind)
    async with embedding(server, "newapi") as service:
        with pytest.raises(Unavailable, match="embed: "):
            await service.embed(items(TEXTS))
        assert len(await service.embed(items(TEXTS))) == 3


@long
@pytest.mark.parametrize("kind", ["nan", "null-number", "zero-vector"])
async def test_zero_vector_is_requested_again_alone(server: Server, kind: str) -> None:
    play(server, kind)
    async with embedding(server, "newapi") as service:
        vectors = await service.embed(items(TEXTS))
    assert_made(vectors, TEXTS)
    assert [entry["texts"] for entry in server.app.journal()] == [3, 1]


@enumerated()
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("form", ["nan", "null", "zeros", "none"])
async def test_persistent_zero_vector_is_refused_and_the_others_are_kept(
    server: Server, dialect: Service, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.001)
    play(server, "stutter", times=0, args={"n": 1000, "word": TEXTS[0], "form": form})
    async with embedding(server, dialect) as service:
        first, *others = await service.embed(items(TEXTS))
        (question,) = await service.embed(items(TEXTS[:1]), is_query=True)
    assert isinstance(first, Rejected)
    assert isinstance(question, Rejected)
    assert "no valid vector" in first.reason
    assert_made(others, TEXTS[1:])
    assert server.requests.by_op["embed"] == 1 + module.AGAIN + 3


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_one_bad_item_is_isolated_and_the_rest_of_its_batch_is_kept(
    server: Server, status: int
) -> None:
    texts = [f"bee {n}" for n in range(40)]
    texts[17] = "a poisoned text"
    play(server, "bad-item", times=0, args={"word": "poisoned", "status": status})
    async with embedding(server) as service:
        vectors = await service.embed(items(texts))
        assert isinstance(vectors[17], Rejected)
        assert sum(isinstance(vector, Rejected) for vector in vectors) == 1
    assert server.requests.by_op["embed"] < 15


NAN = "failed to encode response: json: unsupported value: NaN"
FAILING: list[tuple[Service, int, str]] = [("openai", 500, NAN), ("tei", 424, "Backend error: CUDA_ERROR")]
"""Services whose model fails for some texts: Ollama and TEI."""


@pytest.mark.parametrize(("dialect", "status", "message"), FAILING)
async def test_text_that_always_makes_the_model_fail_is_isolated(
    server: Server, dialect: Service, status: int, message: str
) -> None:
    texts = [f"bee {n}" for n in range(20)]
    texts[7] = texts[13] = "a poisoned text"
    play(server, "bad-item", times=0, args={"word": "poisoned", "status": status, "message": message})
    async with embedding(server, dialect) as service:
        for _ in range(3):  # so many failures don't count as a service that is down
            vectors = await service.embed(items(texts))
            refused = [vector for vector in vectors if isinstance(vector, Rejected)]
            assert [error.may_pass and message in error.reason for error in refused] == [True, True]
            assert isinstance(vectors[7], Rejected) and isinstance(vectors[13], Rejected)


@pytest.mark.parametrize(("dialect", "status", "message"), FAILING)
async def test_failure_of_the_model_for_every_text_blames_the_service(
    server: Server, dialect: Service, status: int, message: str
) -> None:
    play(server, "bad-item", times=0, args={"word": "", "status": status, "message": message})
    async with embedding(server, dialect) as service:
        with pytest.raises(Unavailable, match=message.split()[0]):
            await service.embed(items(TEXTS))


@pytest.mark.parametrize("is_query", [False, True])
@pytest.mark.parametrize(("dialect", "status", "message"), FAILING)
async def test_text_whose_failure_passes_gets_its_vector(
    server: Server, dialect: Service, status: int, message: str, is_query: bool
) -> None:
    play(server, "bad-item", args={"word": "bees", "status": status, "message": message})
    async with embedding(server, dialect) as service:
        assert_made(await service.embed(items(TEXTS[:1]), is_query=is_query), TEXTS[:1])
    assert server.requests.by_op["embed"] == 3


async def test_text_over_the_physical_batch_of_a_server_is_shortened(server: Server) -> None:
    play(server, "small-batch", times=0, args={"most": 512})
    texts = ["short", "word " * 1500, "short too"]
    async with embedding(server) as service:
        vectors = await service.embed(items(texts))
    assert not any(isinstance(vector, Rejected) for vector in vectors)
    assert_made([vectors[0], vectors[2]], [texts[0], texts[2]])


@pytest.mark.parametrize(("count", "is_query", "request_count"), [(1, False, 2), (1, True, 2), (4, False, 8)])
async def test_uniformly_refused_items_are_blamed_when_others_are_accepted(
    server: Server, count: int, is_query: bool, request_count: int
) -> None:
    play(server, "bad-item", times=0, args={"word": "poisoned", "status": 400})
    async with embedding(server, "zhipu") as service:
        vectors = await service.embed(items([f"poisoned {n}" for n in range(count)]), is_query=is_query)
    assert all(isinstance(vector, Rejected) for vector in vectors)
    assert server.requests.by_op["embed"] == request_count


async def test_too_long_text_is_shortened_until_it_fits(server: Server) -> None:
    texts = ["short", "word " * 6000, "short too"]
    async with embedding(server, "zhipu") as service:
        vectors = await service.embed(items(texts))
    assert not any(isinstance(vector, Rejected) for vector in vectors)
    assert_made(vectors[2:], texts[2:])


async def test_busy_service_is_retried(server: Server) -> None:
    play(server, "overloaded", times=2)
    async with embedding(server, "tei") as service:
        assert len(await service.embed(items(TEXTS))) == 3


@pytest.mark.parametrize(
    ("code", "message"),
    [(429, "Rate limit exceeded: free-models-per-min. "), (502, "Provider returned error")],
)
async def test_temporary_error_of_a_gateway_within_http_200_blames_no_text(
    server: Server, code: int, message: str
) -> None:
    body = {"error": {"code": code, "message": message}, "user_id": "u"}
    play(server, "status", times=2, args={"status": 200, "body": body})
    async with embedding(server) as service:
        assert_made(await service.embed(items(TEXTS)), TEXTS)
    assert server.requests.by_op["embed"] == 3


async def test_search_asks_a_busy_service_once_and_accepts_no_long_delay(server: Server) -> None:
    play(server, "status", times=0, args={"status": 429, "retry_after": 300})
    async with embedding(server) as service:
        for _ in range(2):
            with pytest.raises(Unavailable):
                await service.embed(items(["bees"]), is_query=True)
    assert server.requests.total == 1


@long
async def test_search_does_not_wait_for_a_silent_service_but_a_pass_does(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEARCH_TIMEOUT", 0.2)
    play(server, "late-answer", times=2, args={"seconds": 0.5})
    async with embedding(server) as service:
        with pytest.raises(Unavailable, match=r"did not answer within 0\.2 s"):
            await service.embed(items(["bees"]), is_query=True)
        assert len(await service.embed(items(["bees"]))) == 1


@enumerated()
@pytest.mark.parametrize("dialect", ["openai", "vllm", "jina"])
@pytest.mark.parametrize(
    "args", [{}, {"param": "encoding_format"}, {"message": "invalid request"}, {"status": 422}], ids=str
)
async def test_gateway_without_base64_is_asked_for_numbers_once(
    server: Server, dialect: Service, args: dict[str, object]
) -> None:
    play(server, "no-base64", times=0, args=args)
    async with embedding(server, dialect, batch=2) as service:
        vectors = await service.embed(items([*TEXTS, "one more", "and another"]))
        requests_before = server.requests.by_op["embed"]
        repeated = await service.embed(items(TEXTS[:1]))
        question = await service.embed(items(["bees"]), is_query=True)
    assert [len(vector) for vector in (*vectors, *repeated, *question)] == [64] * 7  # type: ignore[arg-type]
    # Three batches, each refused, with a harmless text as base64, and one as numbers.
    assert requests_before <= 12
    assert server.requests.by_op["embed"] == requests_before + 2  # the choice is remembered
    assert server.app.violations == []


async def test_hanging_service_delays_few_searches(server: Server) -> None:
    play(server, "hang", times=0)
    async with embedding(server) as service:
        for _ in range(12):
            requests_before = server.requests.total
            search = asyncio.create_task(service.embed(items(["bees"]), is_query=True))
            while not search.done() and server.requests.total == requests_before:
                await asyncio.sleep(0)
            skip(module.SEARCH_TIMEOUT)
            with pytest.raises(Unavailable):
                await search
    assert server.requests.total <= 5


async def test_query_may_have_another_vector_than_a_passage(server: Server) -> None:
    async with embedding(server, "jina") as service:
        await service.embed([EmbeddingItem("bees")], is_query=True)
        await service.embed([EmbeddingItem("bees")])
    assert server.app.violations == []


MISSING, THIS = "embedding-missing", "this request is refused"
WRONG_MODEL = "Backend error: Inference error: Model is not an embedding model"
HALTS: list[tuple[Service, str, dict[str, object], str, str, int]] = [
    ("zhipu", "refused", {"code": "1211"}, MISSING, THIS, 1),
    ("zhipu", "refused", {"code": "1212"}, MISSING, THIS, 1),
    ("zhipu", "refused", {"code": "1211", "status": 404}, MISSING, THIS, 1),
    ("openai", "refused", {"code": "model_not_found"}, MISSING, THIS, 1),
    ("openai", "refused", {"param": "model"}, MISSING, THIS, 1),
    ("openai", "refused", {"param": "dimensions"}, MISSING, THIS, 1),
    ("newapi", "refused", {"code": "model_not_found", "status": 503}, MISSING, THIS, 1),
    *((dialect, "refused", {"status": 400}, MISSING, "refuses every text: ", 3) for dialect in DIALECTS),
    *((dialect, "refused", {"status": 422}, MISSING, "embedding.dimensions", 3) for dialect in DIALECTS),
    *((dialect, "not-found", {}, MISSING, "embedding.model", 2) for dialect in DIALECTS),
    ("openai", "not-found", {}, MISSING, "the URL before /embeddings", 2),
    ("tei", "bad-item", {"word": "", "status": 424, "message": WRONG_MODEL}, MISSING, WRONG_MODEL, 2),
    ("openai", "no-money", {}, "quota", "exceeded your current quota", 2),
    ("openai", "key_revoked", {}, "credentials", "embedding.api_key", 2),
]
"""Dialect, fault and its arguments; the halt, words of its reason or fix, and the most requests it may
cost.
"""


@pytest.mark.parametrize(("dialect", "kind", "args", "halt", "words", "most"), HALTS)
async def test_user_fixable_problem_halts_with_its_location(
    server: Server, dialect: Service, kind: str, args: dict[str, object], halt: str, words: str, most: int
) -> None:
    if kind == "key_revoked":
        server.app.set_behaviour({kind: True})
    else:
        play(server, kind, times=0, args=args)
    async with embedding(server, dialect, concurrency=1) as service:
        with pytest.raises(Halted) as halted:
            await service.embed(items([f"bee {n}" for n in range(30)]))
    message = f"{halted.value.reason} {halted.value.fix}"
    assert (halted.value.halt, words in message, "secret" in message) == (halt, True, False)
    assert server.requests.by_op["embed"] <= most


@pytest.mark.parametrize("body", [None, "404 page not found"], ids=["page", "text"])
async def test_missing_path_of_a_gateway_halts_only_before_the_service_has_worked(
    server: Server, body: str | None
) -> None:
    args = {"status": 404, "body": body}
    async with embedding(server, "openai") as service:
        play(server, "status", args=args)
        with pytest.raises(Halted, match="404"):
            await service.embed(items(["bees"]))
        await service.embed(items(["bees"]))
        play(server, "status", args=args)
        with pytest.raises(Unavailable, match="404"):
            await service.embed(items(["bees"]))


@pytest.mark.parametrize(
    ("dialect", "model", "least"), [("openai", "m", None), ("jina", "m", None), ("jina", "jina-clip-v2", 0.0)]
)
def test_pictures_are_hits_even_at_low_similarity(dialect: Service, model: str, least: float | None) -> None:
    config = EmbeddingConfig(dialect, base_url="http://127.0.0.1:1", model=model)
    with closing(ServiceEncoder(config)) as encoder:
        assert encoder.least_cosine == least
