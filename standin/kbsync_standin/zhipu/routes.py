"""Which operation a request asks for: methods and paths as documented."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

API = "/api"
PREFIX = f"{API}/llm-application/open"
PLATFORM = "/paas/v4"
"""Paths that begin so are of the platform and come behind `API`, the others behind `PREFIX`."""

FILES = "/files/"

ROUTES = (
    # Fixed paths come before `{id}`, with which they share their beginning.
    ("POST", "/document/upload_document/{id}", "upload"),
    ("POST", "/document/upload_url", "upload-url"),
    ("POST", "/document/embedding/{id}", "reembed"),
    ("POST", "/document/slice/image_list/{id}", "images"),
    ("GET", "/document", "list"),
    ("GET", "/document/{id}", "detail"),
    ("DELETE", "/document/{id}", "delete"),
    ("PUT", "/document/{id}", "reslice"),
    ("POST", "/knowledge/retrieve", "retrieve"),
    ("POST", "/paas/v4/chat/completions", "chat"),
    ("GET", "/embedding", "models"),
    ("GET", "/application", "applications"),
    ("POST", "/application", "create-application"),
    ("GET", "/application/{id}", "application"),
    ("PUT", "/application/{id}", "edit-application"),
    ("DELETE", "/application/{id}", "delete-application"),
    ("POST", "/model-api/{id}/invoke", "invoke"),
    ("POST", "/model-api/{id}/sse-invoke", "sse-invoke"),
    ("GET", "/v2/{id}/slice_info", "slice-info"),
    ("GET", "/callback", "callback"),
    ("PUT", "/callback", "set-callback"),
    ("DELETE", "/callback", "delete-callback"),
    ("GET", "/knowledge/capacity", "capacity"),
    ("GET", "/knowledge", "bases"),
    ("POST", "/knowledge", "create-base"),
    ("GET", "/knowledge/{id}", "base"),
    ("PUT", "/knowledge/{id}", "edit-base"),
    ("DELETE", "/knowledge/{id}", "delete-base"),
)

DOCUMENT_OPS = frozenset({"detail", "delete", "reslice", "reembed", "images", "file"})
"""Operations whose path has a document's id."""


@dataclass(frozen=True, slots=True)
class Route:
    """An operation and the id in its path ("" where it has none). `op` "": no such route."""

    op: str
    ident: str = ""


def _compiled(path: str) -> re.Pattern[str]:
    before = API if path.startswith(PLATFORM) else PREFIX
    return re.compile(re.escape(before + path).replace(r"\{id\}", "([^/]+)"))


_COMPILED = tuple((method, _compiled(path), op) for method, path, op in ROUTES)
_FILE = re.compile(re.escape(FILES) + "([^/]+)")


@lru_cache(maxsize=4096)  # asked three times for each request
def route(method: str, path: str) -> Route:
    """What `method` on `path` (percent-decoded, without query) asks for."""
    if method == "GET" and (found := _FILE.fullmatch(path)):
        return Route("file", found[1])
    for wanted, pattern, op in _COMPILED:
        if wanted == method and (found := pattern.fullmatch(path)):
            return Route(op, found[1] if found.groups() else "")
    return Route("")


def methods(path: str) -> list[str]:
    """The methods that `path` knows."""
    return [method for method, pattern, _ in _COMPILED if pattern.fullmatch(path)]
