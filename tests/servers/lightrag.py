"""LightRAG 1.5.7: one base for each server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.servers import models
from tests.servers.probe import Probe
from tests.servers.running import running, tokenizers

PYTHONS = ("3.11", "3.12")
PROBES: Sequence[Probe] = ()
KNOWN: Mapping[str, str] = {}

KEY = "lr-local-test"


@contextmanager
def start(environment: Path, place: Path, models_url: str) -> Iterator[dict[str, Any]]:
    """Its base URL and key."""
    port = free_port()
    for folder in ("inputs", "store"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    (place / ".env").touch()  # without one it asks whether to go on
    variables = {
        "TIKTOKEN_CACHE_DIR": str(tokenizers(environment)),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "WORKING_DIR": str(place / "store"),
        "INPUT_DIR": str(place / "inputs"),
        "LLM_BINDING": "openai",
        "LLM_BINDING_HOST": models_url,
        "LLM_BINDING_API_KEY": models.KEY,
        "LLM_MODEL": models.CHAT,
        "EMBEDDING_BINDING": "openai",
        "EMBEDDING_BINDING_HOST": models_url,
        "EMBEDDING_BINDING_API_KEY": models.KEY,
        "EMBEDDING_MODEL": models.EMBEDDING,
        "EMBEDDING_DIM": str(models.DIMENSIONS),
        "EMBEDDING_SEND_DIM": "false",
        "LIGHTRAG_API_KEY": KEY,
        "WHITELIST_PATHS": "/health",
        "MAX_GLEANING": "0",
    }
    words = [environment / "bin" / "lightrag-server"]
    with running(words, place, f"http://127.0.0.1:{port}/health", variables):
        yield {"base_url": f"http://127.0.0.1:{port}", "api_key": KEY}
