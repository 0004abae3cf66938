"""OGX 1.5.0 (formerly llama-stack), which has files and vector stores like OpenAI."""

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

KEY = "sk-local-test"

_OTHER_SQLITE = """\
import sys, pysqlite3
sys.modules["sqlite3"] = pysqlite3
sys.modules["sqlite3.dbapi2"] = pysqlite3.dbapi2
"""

_FILES = "/v1/vector_stores/{store}/files"
_TEXT = ("guide.md", b"# Guide\n\nThe kestrel hovers over the field.\n", "text/markdown")
_ASSISTANTS = {"purpose": "assistants"}


def _chat_request(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "what is a kestrel"}]}


PROBES: Sequence[Probe] = (
    Probe("no key", "GET", "/v1/vector_stores", headers={"authorization": None}),
    Probe("create", "POST", "/v1/vector_stores", json={"name": "probes"}, keep={"store": "id"}),
    Probe("readers", "GET", "/v1/providers"),
    Probe("stores", "GET", "/v1/vector_stores?limit=1&order=desc"),
    Probe("empty list", "GET", _FILES),
    Probe("upload", "POST", "/v1/files", file=_TEXT, form=_ASSISTANTS, keep={"file": "id"}),
    Probe("no purpose", "POST", "/v1/files", file=_TEXT),
    Probe("files", "GET", "/v1/files?limit=1&order=desc&purpose=assistants"),
    Probe("not attached", "GET", f"{_FILES}/{{file}}"),
    Probe("attach", "POST", _FILES, json={"file_id": "{file}", "attributes": {"path": "guide.md"}}),
    Probe("attach again", "POST", _FILES, json={"file_id": "{file}"}),
    Probe("status", "GET", f"{_FILES}/{{file}}"),
    Probe("list", "GET", f"{_FILES}?limit=100&order=desc"),
    Probe("text", "GET", f"{_FILES}/{{file}}/content"),
    Probe("passages", "GET", f"{_FILES}/{{file}}/content?include_embeddings=true&include_metadata=true"),
    Probe("put back", "POST", "/v1/vector-io/insert", json={"vector_store_id": "{store}", "chunks": []}),
    Probe("put back half", "POST", "/v1/vector-io/insert", json={"vector_store_id": "{store}"}),
    Probe(
        "put back elsewhere", "POST", "/v1/vector-io/insert", json={"vector_store_id": "vs_0", "chunks": []}
    ),
    Probe("too many", "GET", f"{_FILES}?limit=101"),
    Probe("rename", "POST", f"{_FILES}/{{file}}", json={"attributes": {"path": "moved.md"}}),
    Probe("long value", "POST", f"{_FILES}/{{file}}", json={"attributes": {"path": 513 * "x"}}),
    Probe("search", "POST", "/v1/vector_stores/{store}/search", json={"query": "kestrel"}),
    Probe("store", "GET", "/v1/vector_stores/{store}"),
    Probe("unknown store", "GET", "/v1/vector_stores/vs_unknown"),
    Probe("unknown store's list", "GET", "/v1/vector_stores/vs_unknown/files"),
    Probe("attach unknown", "POST", _FILES, json={"file_id": "file-" + 32 * "0"}),
    Probe("detach", "DELETE", f"{_FILES}/{{file}}"),
    Probe("detach again", "DELETE", f"{_FILES}/{{file}}"),
    Probe("delete file", "DELETE", "/v1/files/{file}"),
    Probe("delete file again", "DELETE", "/v1/files/{file}"),
    Probe("answer", "POST", "/v1/chat/completions", json=_chat_request("{model}")),
    Probe(
        "answer in pieces", "POST", "/v1/chat/completions", json=_chat_request("{model}") | {"stream": True}
    ),
    Probe("unknown model", "POST", "/v1/chat/completions", json=_chat_request("nobody-9")),
    Probe("delete store", "DELETE", "/v1/vector_stores/{store}"),
    Probe("delete store again", "DELETE", "/v1/vector_stores/{store}"),
)
NULL = "it says nothing of the answer, and is null there"

KNOWN: Mapping[str, str] = {
    "*: body.error.[cpt]*": "its errors have a message and nothing else",
    "*: body*expires_at": "files expire after a year there, at OpenAI never",
    "*: body*status_details": "empty text there, null in OpenAI's reference",
    "readers: body.data*": "it tells all that it is made of; the stand-in what reads files",
    "empty list: body.*_id": "empty text there, null in OpenAI's reference",
    "long value: *": "bounds hold there only where a file is attached",
    "search: body.data*attributes.*": "facts of a passage, which the stand-in does not cut",
    "search: body.data*content*": "facts of a passage, which the stand-in does not cut",
    "passages: body.data[].*metadata.*": "facts of a passage, which the stand-in does not have",
    "answer: body.choices*.logprobs": NULL,
    "answer: body.choices*.message.annotations": NULL,
    "answer: body.choices*.message.audio": NULL,
    "answer: body.choices*.message.function_call": NULL,
    "answer: body.choices*.message.refusal": NULL,
    "answer: body.choices*.message.tool_calls": NULL,
    "answer: body.metadata": NULL,
    "answer: body.moderation": NULL,
    "answer: body.service_tier": NULL,
    "answer: body.system_fingerprint": NULL,
    "answer: body.usage.*_details": NULL,
    "attach unknown: *": "it takes the file, and then shows that it failed",
}


@contextmanager
def start(environment: Path, folder: Path, models_url: str) -> Iterator[dict[str, Any]]:
    """Yield its base URL and key."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "ogx.json"  # which is YAML as well
    config.write_text(json.dumps(_config(folder, port, models_url)))
    # Otherwise it refuses to serve without TLS.
    words = [environment / "bin" / "ogx", "run", config, "--port", str(port), "--insecure"]
    # Its vector store needs SQLite extensions, which many Pythons can't load.
    (folder / "sitecustomize.py").write_text(_OTHER_SQLITE)
    variables = {"TIKTOKEN_CACHE_DIR": str(tokenizers(environment)), "PYTHONPATH": str(folder)}
    variables["OGX_LOG_FORMAT"] = "json"  # the default takes seconds to colour the traceback of each error
    with running(words, folder, f"http://127.0.0.1:{port}/v1/health", variables):
        yield {"base_url": f"http://127.0.0.1:{port}/v1", "api_key": KEY}


def _config(folder: Path, port: int, models_url: str) -> dict[str, Any]:
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
            "inference": [_provider("models", "remote::openai", api_key=models.KEY, base_url=models_url)],
            "vector_io": [
                # The other built-in one, faiss, confuses its passages once the newest of them is deleted.
                _provider(
                    "sqlite-vec",
                    "inline::sqlite-vec",
                    db_path=str(folder / "vectors.db"),
                    persistence={"namespace": "vectors", "backend": key_values},
                )
            ],
            "files": [
                _provider(
                    "disk",
                    "inline::localfs",
                    storage_dir=str(folder / "files"),
                    metadata_store={"table_name": "files", "backend": tables},
                )
            ],
            "file_processors": [_provider("pypdf", "inline::pypdf")],
        },
        "storage": {
            "backends": {
                key_values: {"type": "kv_sqlite", "db_path": str(folder / "key_values.db")},
                tables: {"type": "sql_sqlite", "db_path": str(folder / "tables.db")},
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
            "default_provider_id": "sqlite-vec",
            "default_embedding_model": {"provider_id": "models", "model_id": models.EMBEDDING},
        },
        "connectors": [],
    }


def _provider(provider_id: str, provider_type: str, **config: Any) -> dict[str, Any]:
    return {"provider_id": provider_id, "provider_type": provider_type, "config": config}
