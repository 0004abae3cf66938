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
KEY = "lr-local-test"
README = b"# Hello\n\nKbsync mirrors a folder into a knowledge base."
README_ID = "doc-0730bb7c2e8f9ea2438b52e419dd86c9"


def _upload(what: str, name: str, content: bytes = README) -> Probe:
    return Probe(what, "POST", "/documents/upload", file=(name, content, "application/octet-stream"))


def _list(what: str, number: int, state: str) -> Probe:
    """Repeat until this many documents are in a state."""

    def is_over(body: Any) -> bool:
        return [document["status"] for document in body["documents"]].count(state) == number

    return Probe(what, "POST", "/documents/paginated", json={"page": 1, "page_size": 10}, until=is_over)


def _listed_by(what: str, words: Sequence[str]) -> Probe:
    request = {"page": 1, "page_size": 10, "status_filters": words}
    return Probe(what, "POST", "/documents/paginated", json=request)


def _search(what: str, query: str) -> Probe:
    return Probe(what, "POST", "/query/data", json={"query": query, "mode": "naive"})


def _delete(what: str, *ids: str) -> Probe:
    request = {"doc_ids": ids, "delete_file": True, "delete_llm_cache": True}
    return Probe(what, "DELETE", "/documents/delete_document", json=request)


def _deletion(what: str) -> Probe:
    return Probe(what, "GET", "/documents/pipeline_status", until=lambda body: not body["busy"])


def _ask(what: str, path: str, words: str, **more: Any) -> Probe:
    request = {"query": words, "mode": "naive", "include_references": True, "include_chunk_content": True}
    return Probe(what, "POST", path, json={**request, "conversation_history": [], **more})


COUNTS = "/documents/status_counts"
PROBES: Sequence[Probe] = (
    Probe("no key", "GET", COUNTS, headers={"x-api-key": None}),
    Probe("wrong key", "GET", COUNTS, headers={"x-api-key": "wrong"}),
    Probe("bearer", "GET", COUNTS, headers={"x-api-key": None, "authorization": f"Bearer {KEY}"}),
    Probe("no such call", "GET", "/documents/nothing"),
    Probe("counts of nothing", "GET", COUNTS),
    Probe("list of nothing", "POST", "/documents/paginated", json={"page": 1, "page_size": 10}),
    Probe("small page", "POST", "/documents/paginated", json={"page": 1, "page_size": 5}),
    Probe("large page", "POST", "/documents/paginated", json={"page": 1, "page_size": 201}),
    _search("search in nothing", "kbsync folder"),
    _upload("upload", "readme.md"),
    _list("list", 1, "processed"),
    _upload("same name", "readme.md", b"another text"),
    _upload("slash", "sub/readme.md"),
    _upload("colon", "a:readme.md"),
    _upload("format", "readme.exe"),
    _upload("same text", "copy.md"),
    _list("list with a duplicate", 1, "failed"),
    _upload("no text", "empty.md", b" \n"),
    _list("list with a failure", 2, "failed"),
    _listed_by("list by states", ["pending", "processing", "failed"]),
    _listed_by("list by no state", []),
    _listed_by("list by another state", ["done"]),
    _search("search", "kbsync folder"),
    _search("short search", "ai"),
    _ask("answer", "/query", "kbsync folder"),
    _ask("answer in pieces", "/query/stream", "kbsync folder"),
    _ask("answer in pieces with an end", "/query/stream", "kbsync folder", include_progress=True),
    _ask("no answer", "/query", "zebra"),
    _ask("no answer in pieces", "/query/stream", "zebra"),
    _ask("no answer in pieces with an end", "/query/stream", "zebra", include_progress=True),
    _ask("short question", "/query/stream", "ai"),
    _deletion("idle"),
    _delete("delete", README_ID),
    _deletion("after the deletion"),
    _delete("delete what is gone", README_ID),
    _deletion("after a deletion in vain"),
    _delete("delete one twice", README_ID, README_ID),
    Probe("counts", "GET", COUNTS),
)
KNOWN: Mapping[str, str] = {
    "*: body.detail*": "the message about a field is longer",
    "*: body.documents*.metadata.*": "the stages of the work on a document, which no client needs",
    "*: body.metadata.*": "how a search was made, which no client needs",
}


@contextmanager
def start(environment: Path, directory: Path, models_url: str) -> Iterator[dict[str, Any]]:
    """Yield its base URL and key."""
    port = free_port()
    for folder in ("inputs", "store"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    (directory / ".env").touch()  # without it, the server asks whether to continue
    variables = {
        "TIKTOKEN_CACHE_DIR": str(tokenizers(environment)),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "WORKING_DIR": str(directory / "store"),
        "INPUT_DIR": str(directory / "inputs"),
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
    with running(words, directory, f"http://127.0.0.1:{port}/health", variables):
        yield {"base_url": f"http://127.0.0.1:{port}", "api_key": KEY}
