"""The stand-in for vectors over TCP, and clients of it in every dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, get_args

from kbsync.targets.services.dialects import Dialect, ServiceSettings
from kbsync.targets.services.embedding import EmbeddingService
from kbsync.targets.services.rerank import RerankService
from kbsync_standin.faults import Fault
from kbsync_standin.server import Server
from kbsync_standin.vectors import application

KEY = "id.secret-for-tests"
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)
PATHS = {"zhipu": "/zhipu/api/paas/v4", "tei": "/tei"}


def settings_for(server: Server, dialect: Dialect, **news: Any) -> ServiceSettings:
    base_url = server.url + PATHS.get(dialect, f"/{dialect}/v1")
    model = "" if dialect == "tei" else "words"
    given = {"dialect": dialect, "base_url": base_url, "api_key": KEY, "model": model, **news}
    return ServiceSettings(**given)


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
    server: Server, dialect: Dialect = "openai", **news: Any
) -> AsyncIterator[EmbeddingService]:
    service = EmbeddingService(settings_for(server, dialect, **news))
    try:
        yield service
    finally:
        await service.aclose()


@asynccontextmanager
async def reranking(server: Server, dialect: Dialect = "jina", **news: Any) -> AsyncIterator[RerankService]:
    service = RerankService(settings_for(server, dialect, **news))
    try:
        yield service
    finally:
        await service.aclose()


def play(server: Server, kind: str, **fields: Any) -> None:
    server.faults.add(Fault(kind, **fields))
