"""Open WebUI 0.12.4 without the models it brings along: what embeds is the server of models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.ports import free_port
from tests.servers import models
from tests.servers.probe import Probe
from tests.servers.running import running

PYTHONS = ("3.11", "3.12")
PROBES: Sequence[Probe] = ()
KNOWN: Mapping[str, str] = {}

ADMIN = {"email": "admin@example.com", "password": "Passw0rd!"}


@contextmanager
def start(environment: Path, place: Path, models_url: str) -> Iterator[dict[str, Any]]:
    """Its base URL and the key of its administrator."""
    port = free_port()
    words = [environment / "bin" / "open-webui", "serve", "--host", "127.0.0.1", "--port", str(port)]
    variables = {
        "DATA_DIR": str(place / "data"),
        "OFFLINE_MODE": "true",
        "HF_HUB_OFFLINE": "1",
        "ANONYMIZED_TELEMETRY": "false",
        "DO_NOT_TRACK": "true",
        "ENABLE_VERSION_UPDATE_CHECK": "False",
        "ENABLE_PERSISTENT_CONFIG": "False",
        "WEBUI_SECRET_KEY": "for tests only",
        "WEBUI_ADMIN_EMAIL": ADMIN["email"],
        "WEBUI_ADMIN_PASSWORD": ADMIN["password"],
        "WEBUI_ADMIN_NAME": "Admin",
        "ENABLE_API_KEYS": "true",
        "ENABLE_OLLAMA_API": "False",
        "ENABLE_OPENAI_API": "True",
        "OPENAI_API_BASE_URL": models_url,
        "OPENAI_API_KEY": models.KEY,
        "RAG_EMBEDDING_ENGINE": "openai",
        "RAG_EMBEDDING_MODEL": models.EMBEDDING,
        "RAG_OPENAI_API_BASE_URL": models_url,
        "RAG_OPENAI_API_KEY": models.KEY,
    }
    base_url = f"http://127.0.0.1:{port}"
    (place / "data").mkdir(parents=True, exist_ok=True)
    with running(words, place, f"{base_url}/health", variables):
        with httpx.Client(base_url=f"{base_url}/api/v1/auths", timeout=30, trust_env=False) as client:
            token = client.post("/signin", json=ADMIN).raise_for_status().json()["token"]
            made = client.post("/api_key", headers={"authorization": f"Bearer {token}"}).raise_for_status()
        yield {"base_url": base_url, "api_key": made.json()["api_key"]}
