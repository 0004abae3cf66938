"""The stand-in for embedding and rerank services over TCP, with clients in every dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar, get_args

from kbsync.config.secrets import Secret
from kbsync.targets.services.clients import EmbeddingService, RerankService
from kbsync.targets.services.config import EmbeddingConfig, RerankConfig, Service
from kbsync_standin.faults import Fault
from kbsync_standin.server import Server
from kbsync_standin.vectors import application

KEY = "id.secret-for-tests"
Block = TypeVar("Block", EmbeddingConfig, RerankConfig)
DIALECTS: tuple[Service, ...] = get_args(Service)
PATHS = {"zhipu": "/zhipu/api/paas/v4", "tei": "/tei"}


def settings_for(server: Server, kind: type[Block], dialect: Service, **news: Any) -> Block:
    base_url = server.url + PATHS.get(dialect, f"/{dialect}/v1")
    model = "" if dialect == "tei" else "words"
    settings = {"type": dialect, "base_url": base_url, "api_key": KEY, "model": model, **news}
    key = str(settings.pop("api_key"))
    return kind(api_key=Secret(key) if key else None, **settings)


@asynccontextmanager
async def serving(latency: float = 0.0) -> AsyncIterator[Server]:
    server = Server(application(KEY), latency=latency)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def embedding(
    server: Server, dialect: Service = "openai", **news: Any
) -> AsyncIterator[EmbeddingService]:
    service = EmbeddingService(settings_for(server, EmbeddingConfig, dialect, **news))
    try:
        yield service
    finally:
        await service.aclose()


@asynccontextmanager
async def reranking(server: Server, dialect: Service = "jina", **news: Any) -> AsyncIterator[RerankService]:
    service = RerankService(settings_for(server, RerankConfig, dialect, **news))
    try:
        yield service
    finally:
        await service.aclose()


def play(server: Server, kind: str, **fields: Any) -> None:
    server.faults.add(Fault(kind, **fields))
