"""OGX 1.5.0 (once llama-stack), which has files and vector stores as OpenAI has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.servers import models
from tests.servers.probe import Probe
from tests.servers.running import running, tokenizers

PYTHONS = ("3.12", "3.13")
PROBES: Sequence[Probe] = ()
KNOWN: Mapping[str, str] = {}

KEY = "sk-local-test"


@contextmanager
def start(environment: Path, place: Path, models_url: str) -> Iterator[dict[str, Any]]:
    """Its base URL and key."""
    port = free_port()
    place.mkdir(parents=True, exist_ok=True)
    config = place / "ogx.json"  # which is YAML as well
    config.write_text(json.dumps(_config(place, port, models_url)))
    # It refuses to serve without TLS otherwise.
    words = [environment / "bin" / "ogx", "run", config, "--port", str(port), "--insecure"]
    variables = {"TIKTOKEN_CACHE_DIR": str(tokenizers(environment))}
    with running(words, place, f"http://127.0.0.1:{port}/v1/health", variables):
        yield {"base_url": f"http://127.0.0.1:{port}/v1", "api_key": KEY}


def _config(place: Path, port: int, models_url: str) -> dict[str, Any]:
    key_values, tables = "key_values", "tables"
    embedding = {
        "model_id": models.EMBEDDING,
        "provider_id": "models",
        "provider_model_id": models.EMBEDDING,
        "model_type": "embedding",
        "metadata": {"embedding_dimension": models.DIMENSIONS, "context_length": 8192},
    }
    return {
        "version": 2,
        "distro_name": "kbsync-tests",
        "apis": ["file_processors", "files", "inference", "vector_io"],
        "providers": {
            "inference": [
                _provider("models", "remote::openai", api_key=models.KEY, base_url=models_url),
            ],
            "vector_io": [
                # The other built-in one needs a Python whose SQLite loads extensions.
                _provider(
                    "faiss", "inline::faiss", persistence={"namespace": "faiss", "backend": key_values}
                ),
            ],
            "files": [
                _provider(
                    "disk",
                    "inline::localfs",
                    storage_dir=str(place / "files"),
                    metadata_store={"table_name": "files", "backend": tables},
                ),
            ],
            "file_processors": [_provider("pypdf", "inline::pypdf")],
        },
        "storage": {
            "backends": {
                key_values: {"type": "kv_sqlite", "db_path": str(place / "key_values.db")},
                tables: {"type": "sql_sqlite", "db_path": str(place / "tables.db")},
            },
            "stores": {
                "metadata": {"namespace": "registry", "backend": key_values},
                **{
                    name: {"table_name": name, "backend": tables}
                    for name in ("inference", "conversations", "prompts", "connectors")
                },
            },
        },
        "registered_resources": {"models": [embedding]},
        "server": {
            "port": port,
            "host": "127.0.0.1",
            "auth": {"provider_config": {"type": "local_api_key", "api_keys": [KEY]}},
        },
        "vector_stores": {
            "default_provider_id": "faiss",
            "default_embedding_model": {"provider_id": "models", "model_id": models.EMBEDDING},
        },
        "connectors": [],
    }


def _provider(provider_id: str, provider_type: str, **config: Any) -> dict[str, Any]:
    return {"provider_id": provider_id, "provider_type": provider_type, "config": config}
