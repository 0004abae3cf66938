"""Open WebUI 0.12.4 without its own models; the small model server embeds instead."""

from __future__ import annotations

import json
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
TEXT = b"# Hello\n\nKbsync mirrors a folder into a knowledge base.\n"
KB, FILES = "/api/v1/knowledge/{base}", "/api/v1/files"
NOBODY = "4e741f2c-6b1d-4f0c-9a53-000000000000"


def _upload(what: str, name: str, content: bytes, keep: str = "", **metadata: str) -> Probe:
    """Upload into the created base, in a folder or not."""
    sent = {"metadata": json.dumps({"knowledge_id": "{base}", **metadata})}
    return Probe(
        what,
        "POST",
        f"{FILES}/",
        file=(name, content, "text/plain"),
        form=sent,
        keep={keep: "id"} if keep else {},
    )


def _through(name: str, id_name: str) -> Probe:
    def is_over(body: Any) -> bool:
        status = body["data"]["status"]
        # The server marks a file as failed first, and clears its hash a moment later.
        return status == "completed" or (status == "failed" and body["hash"] is None)

    return Probe(name, "GET", f"{FILES}/{{{id_name}}}", until=is_over)


def _search(what: str, words: str, base: str = "{base}") -> Probe:
    request = {"collection_names": [base], "query": words, "k": 5}
    return Probe(what, "POST", "/api/v1/retrieval/query/collection", json=request)


def _to(what: str, path: str, body: Any, **more: Any) -> Probe:
    return Probe(what, "POST", path, json=body, **more)


def _chat_request(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "what is a folder"}]}


PROBES: Sequence[Probe] = (
    Probe("no key", "GET", "/api/v1/knowledge/", headers={"authorization": None}),
    Probe("wrong key", "GET", "/api/v1/knowledge/", headers={"authorization": "Bearer sk-wrong"}),
    Probe("no such page", "GET", "/api/v1/nothing"),
    Probe("upload without a slash", "POST", FILES),
    _to("make a base", "/api/v1/knowledge/create", {"name": "p", "description": ""}, keep={"base": "id"}),
    _to("make a base without words", "/api/v1/knowledge/create", {"name": "p"}),
    Probe("bases", "GET", "/api/v1/knowledge/?page=1"),
    Probe("base", "GET", KB),
    Probe("no such base", "GET", f"/api/v1/knowledge/{NOBODY}"),
    Probe("files of nothing", "GET", f"{KB}/files?page=1&limit=100"),
    Probe("files of no base", "GET", f"/api/v1/knowledge/{NOBODY}/files"),
    _search("search in nothing", "folder"),
    _search("search in no base", "folder", NOBODY),
    _to("folders of nothing", f"{KB}/sync/diff", {"manifest": []}),
    _to("make a folder", f"{KB}/dirs/create", {"name": "guides", "parent_id": None}, keep={"folder": "id"}),
    _to("make a folder nowhere", f"{KB}/dirs/create", {"name": "x", "parent_id": NOBODY}),
    _upload("upload", "readme.md", TEXT, "file", directory_id="{folder}"),
    _through("indexed", "file"),
    Probe("newest", "GET", f"{FILES}/user/search?filename=*&content=false&skip=0&limit=1"),
    Probe("newest beyond", "GET", f"{FILES}/user/search?filename=*&content=false&skip=9000&limit=1"),
    Probe("newest of too many", "GET", f"{FILES}/user/search?filename=*&content=false&limit=1001"),
    Probe("state", "GET", f"{FILES}/{{file}}/process/status"),
    Probe("state of nothing", "GET", f"{FILES}/{NOBODY}/process/status"),
    Probe("files", "GET", f"{KB}/files?page=1&limit=100"),
    Probe("files by name", "GET", f"{KB}/files?query=readme"),
    Probe("files beyond", "GET", f"{KB}/files?page=2&limit=100"),
    _to("folders", f"{KB}/sync/diff", {"manifest": []}),
    _search("search", "folder"),
    _to("answer", "/api/chat/completions", _chat_request("{model}")),
    _to("answer in pieces", "/api/chat/completions", _chat_request("{model}") | {"stream": True}),
    _to("unknown model", "/api/chat/completions", _chat_request("nobody-9")),
    _upload("upload the same", "copy.md", TEXT, "copy"),
    _through("refused", "copy"),
    _to("link the same", f"{KB}/file/add", {"file_id": "{copy}", "directory_id": None}),
    _to("tell it apart", f"{FILES}/{{copy}}/data/content/update", {"content": "Another text of the copy."}),
    _to("link it", f"{KB}/file/add", {"file_id": "{copy}", "directory_id": None}),
    _through("linked", "copy"),
    _to("move", f"{KB}/file/move", {"file_id": "{copy}", "directory_id": "{folder}"}),
    _to("move nothing", f"{KB}/file/move", {"file_id": NOBODY, "directory_id": None}),
    _to("rename", f"{FILES}/{{copy}}/rename", {"filename": "other.md"}),
    _to("rename nothing", f"{FILES}/{NOBODY}/rename", {"filename": "other.md"}),
    _upload("upload blanks", "blank.md", b" \n ", "blank"),
    _through("nothing in it", "blank"),
    _upload("upload nothing", "empty.md", b""),
    Probe("bad metadata", "POST", f"{FILES}/", file=("a.md", b"a", "text/plain"), form={"metadata": "{no"}),
    Probe("no such file", "GET", f"{FILES}/{NOBODY}"),
    _to("link nothing", f"{KB}/file/add", {"file_id": NOBODY}),
    _to("clean up", f"{KB}/sync/cleanup", {"file_ids": ["{file}", NOBODY], "dir_ids": []}),
    Probe("cleaned up", "GET", f"{FILES}/{{file}}"),
    Probe("delete", "DELETE", f"{FILES}/{{copy}}"),
    Probe("delete again", "DELETE", f"{FILES}/{{copy}}"),
    Probe("files in the end", "GET", f"{KB}/files?page=1&limit=100"),
    _to("rename the base", f"{KB}/update", {"name": "q", "description": "w"}),
    Probe("delete the base", "DELETE", f"{KB}/delete"),
    Probe("delete the base again", "DELETE", f"{KB}/delete"),
)
KNOWN: Mapping[str, str] = {
    "make a base without words: body.detail*": "the message about a field is longer",
    "newest of too many: body.detail*": "the message about a field is longer",
}

ADMIN = {"email": "admin@example.com", "password": "Passw0rd!"}


@contextmanager
def start(environment: Path, folder: Path, models_url: str, port: int = 0) -> Iterator[dict[str, Any]]:
    """Yield its base URL, its administrator's key and its process; `port`: its previous port."""
    port = port or free_port()
    words = [environment / "bin" / "open-webui", "serve", "--host", "127.0.0.1", "--port", str(port)]
    variables = {
        "DATA_DIR": str(folder / "data"),
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
    (folder / "data").mkdir(parents=True, exist_ok=True)
    with running(words, folder, f"{base_url}/health", variables) as process:
        with httpx.Client(base_url=f"{base_url}/api/v1/auths", timeout=30, trust_env=False) as client:
            token = client.post("/signin", json=ADMIN).raise_for_status().json()["token"]
            response = client.post(
                "/api_key", headers={"authorization": f"Bearer {token}"}
            ).raise_for_status()
        yield {"base_url": base_url, "api_key": response.json()["api_key"], "pid": process.pid}
