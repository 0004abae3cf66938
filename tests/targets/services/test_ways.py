"""Tests the connection to an embedding or rerank service: certificates, proxy and requests per minute."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kbsync.config.secrets import Secret
from kbsync.errors import Unavailable, UsageError
from kbsync.index.document import Chunk
from kbsync.targets.services import clients
from kbsync.targets.services.blocking import ServiceEncoder
from kbsync.targets.services.clients import EmbeddingService, RerankService
from kbsync.targets.services.config import EmbeddingConfig, RerankConfig
from kbsync.targets.services.dialects import EmbeddingItem
from tests.share import long
from tests.targets.http.authorities import authority
from tests.targets.http.servers import answering, response_bytes, serving
from tests.targets.http.test_trust import proxying

VECTORS = response_bytes(200, {"data": [{"index": 0, "embedding": [1.0, 0.0]}]})
ORDER = response_bytes(200, {"results": [{"index": 0, "relevance_score": 0.5}]})
BEES = [EmbeddingItem("bees")]


@long
async def test_configured_certificate_authority_is_trusted(tmp_path: Path) -> None:
    ours = authority(tmp_path)
    async with answering(VECTORS, ORDER, context=ours.server) as server:
        access = {"base_url": f"https://127.0.0.1:{server.port}", "model": "m", "ca_file": ours.ca_file}
        encoder = EmbeddingService(EmbeddingConfig("openai", **access))  # type: ignore[arg-type]
        ranker = RerankService(RerankConfig("jina", **access))  # type: ignore[arg-type]
        assert len(await encoder.embed(BEES)) == 1
        assert [index for index, _ in await ranker.order("bees", ["bees"])] == [0]
        await encoder.aclose()
        await ranker.aclose()


async def test_embedding_and_ranking_use_the_configured_proxy() -> None:
    lines: list[str] = []
    async with serving(proxying(VECTORS, lines, [])) as proxy:
        proxy_url = Secret(f"http://127.0.0.1:{proxy.port}")
        encoder = EmbeddingService(
            EmbeddingConfig("openai", base_url="http://gw.invalid", model="m", proxy=proxy_url)
        )
        assert len(await encoder.embed(BEES)) == 1
        await encoder.aclose()
    async with serving(proxying(ORDER, lines, [])) as proxy:
        proxy_url = Secret(f"http://127.0.0.1:{proxy.port}")
        ranker = RerankService(RerankConfig("jina", base_url="http://gw.invalid", model="m", proxy=proxy_url))
        await ranker.order("bees", ["bees"])
        await ranker.aclose()
    assert lines == ["POST http://gw.invalid/embeddings HTTP/1.1", "POST http://gw.invalid/rerank HTTP/1.1"]


async def test_requests_per_minute_stay_within_the_config() -> None:
    async with answering(VECTORS) as server:
        access = {"base_url": server.url, "model": "m"}
        config = EmbeddingConfig("openai", requests_per_minute=1, **access)  # type: ignore[arg-type]
        encoder = EmbeddingService(config, is_first=True)
        assert len(await encoder.embed(BEES, is_query=True)) == 1
        with pytest.raises(Unavailable, match="must wait 60 s"):
            await encoder.embed(BEES, is_query=True)
        await encoder.aclose()
        assert len(server.requests) == 1


CHUNK = Chunk("bees", "bees", "0" * 64)


async def test_closing_ends_requests_that_wait_for_a_busy_service() -> None:
    """Otherwise, a command would wait forever for the thread that waits for the vectors."""
    async with answering(response_bytes(429, {"error": {"message": "Rate limit reached"}})) as server:
        encoder = ServiceEncoder(EmbeddingConfig("openai", base_url=server.url, model="m"))
        vectors = encoder.begin([CHUNK])
        while not server.requests:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(encoder.close)
        with pytest.raises(Unavailable, match="closing"):
            vectors.result(timeout=5)


async def test_long_pause_of_a_busy_service_is_reported_at_once() -> None:
    busy = response_bytes(429, {"error": {"message": "Rate limit reached"}}, {"Retry-After": "120"})
    async with answering(busy) as server:
        encoder = EmbeddingService(EmbeddingConfig("openai", base_url=server.url, model="m"))
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable, match="Rate limit reached") as caught:
                await encoder.embed(BEES)
        assert caught.value.retry_after == 120.0
        await encoder.aclose()


async def test_batch_that_waited_long_for_its_turn_is_sent_again_to_a_busy_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise, a book would lose the vectors of all of its batches."""
    monkeypatch.setattr(clients, "MAX_PAUSE", 0.0)
    busy = response_bytes(429, {"error": {"message": "Rate limit reached"}})
    async with answering(VECTORS, busy, VECTORS) as server:
        config = EmbeddingConfig("openai", base_url=server.url, model="m", batch=1, concurrency=1)
        encoder = EmbeddingService(config)
        assert len(await encoder.embed(BEES * 2)) == 2
        assert len(server.requests) == 3
        await encoder.aclose()


def test_file_without_certificates_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none")
    with pytest.raises(UsageError, match=r"ca\.pem"):
        EmbeddingService(EmbeddingConfig("openai", base_url="https://gw", ca_file=tmp_path / "ca.pem"))
