"""Checks requests against the service's documentation; the stand-in refuses and records violations."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from kbsync_standin import rules
from kbsync_standin.rules import Test, Violation

TEXTS = ("pdf", "txt", "md", "doc", "docx")
SHEETS = ("csv", "xls", "xlsx")
FORMATS: Mapping[str, tuple[str, ...]] = {"text": TEXTS, "spreadsheet": SHEETS, "qa": SHEETS}
MAX_BYTES, MAX_PDF_BYTES = 10_000_000, 30_000_000
MAX_NAME_LENGTH = 200
MAX_STATUS_IDS, MAX_CHANGED_TEXTS = 50, 200


@dataclass(frozen=True, slots=True)
class SentFile:
    """One file of a request."""

    name: str
    content: bytes
    source_url: str | None
    doc_id: str = ""
    file_url: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A parsed request to add or update documents."""

    base: str
    files: tuple[SentFile, ...]
    rules: Mapping[str, Any]


BASE_TESTS: Mapping[str, Test] = {
    "name": rules.is_text,
    "desc": rules.is_text,
    "graph_enable": rules.is_flag,
    "access_control_enabled": rules.is_flag,
    "kg_ner_extraction_user_prompt": rules.is_string,
}


def delivery_of(body: Mapping[str, Any], kind: str, most: int, *, is_update: bool) -> Delivery:
    """Parse a request to add or update documents. Raises `Violation`."""
    _check_rules(body, kind)
    files = body.get("files")
    if not isinstance(files, list) or not files:
        raise Violation("files is missing or empty")
    rules.require(len(files) <= most, f"{len(files)} files in one request; {most} are taken")
    sent_files = tuple(_file(file, kind, is_update) for file in files)
    names = [file.name for file in sent_files]
    rules.require(rules.are_distinct(names), "two files in one request have the same name")
    chunking = {key: body[key] for key in ("chunk_token", "splitter", "header_row", "purpose") if key in body}
    return Delivery(text_of(body, "knowledge_base_id"), sent_files, chunking)


_TOKENS, _HEADER = rules.integer(1, 1000), rules.integer(1, 5)
_CUTTING_TESTS: Mapping[str, Mapping[str, Test]] = {
    "text": {"chunk_token": _TOKENS, "splitter": rules.is_string},
    "spreadsheet": {"chunk_token": _TOKENS, "header_row": _HEADER},
    "qa": {
        "chunk_token": _TOKENS,
        "splitter": rules.is_string,
        "header_row": _HEADER,
        "purpose": rules.one_of("QA_FILE", "FILE_2_QA"),
    },
}
"""The chunking settings of each kind of document."""


def _check_rules(body: Mapping[str, Any], kind: str) -> None:
    tests = _CUTTING_TESTS[kind]
    rules.require("chunk_token" in body or "splitter" in body, "neither chunk_token nor splitter")
    rules.require(
        "chunk_token" not in body or "splitter" not in body, "chunk_token beside splitter, which wins"
    )
    for key in {"splitter", "header_row"} - tests.keys():
        rules.require(key not in body, f"{key} has no place here")
    rules.require_fields(body, tests, needed=("purpose",) if kind == "qa" else ())


def _file(value: Any, kind: str, is_update: bool) -> SentFile:
    if not isinstance(value, dict):
        raise Violation("a file is not an object")
    name = text_of(value, "file_name")
    rules.require(len(name) <= MAX_NAME_LENGTH, f"a file_name of {len(name)} characters")
    extension = name.rpartition(".")[2].lower()
    is_flat = not any(char in name for char in "/\\\0\r\n")
    rules.require(extension in FORMATS[kind] and is_flat, f"{name!r} is not a name for a {kind} document")
    text, address, content = value.get("file_base64"), value.get("file_url", ""), b""
    if address and not text:  # a file's bytes take precedence over an address
        rules.require(_is_url(address), f"file_url is not a URL: {address!r}")
        fetched = urlsplit(address).path.lower().rpartition(".")[2]
        rules.require(fetched == extension, f"{name!r} has another format than {address!r}")
    else:
        address = ""
        try:
            content = base64.b64decode(text_of(value, "file_base64"), validate=True)
        except binascii.Error:
            raise Violation("file_base64 is not base64") from None
    most = MAX_PDF_BYTES if extension == "pdf" else MAX_BYTES
    rules.require(len(content) <= most, f"{name} has {len(content)} bytes")
    url = value.get("source_url")
    rules.require(url in (None, "", "NULL") or _is_url(url), f"source_url is not a URL: {url!r}")
    return SentFile(name, content, url, text_of(value, "doc_id") if is_update else "", address)


def _is_url(url: Any) -> bool:
    if not isinstance(url, str) or not url.isascii() or any(char <= " " for char in url):
        return False
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def text_of(body: Mapping[str, Any], key: str) -> str:
    """Return a text that isn't empty. Raises `Violation`."""
    rules.require_fields(body, {key: rules.is_text}, needed=(key,))
    return str(body[key])


RANKING_MODELS = ("BGE-Rerank", "Jina-reranker-v2-base-multilingual", "Jina-colbert-v2", "BCE-Rerank")

_IDS = rules.or_none(rules.are_strings)
QUESTION_TESTS: Mapping[str, Test] = {
    "prompt": rules.is_text,
    "top_k": rules.integer(1, 50),
    "group_ids": _IDS,
    "data_ids": _IDS,
    "embedding_rate": rules.or_none(rules.share(0, 1)),
    "rerank_version": rules.or_none(rules.one_of("", *RANKING_MODELS)),
    "doc_correlation": rules.or_none(rules.share(0.1, 0.95)),
}


def ranked(rows: Sequence[dict[str, Any]], question: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return passages with a sufficient score, best first; a ranking model prefers short ones."""
    if question.get("rerank_version"):
        rows = [{**row, "score": _rank(row)} for row in rows]
        rows = sorted(rows, key=lambda row: -row["score"])
    return [row for row in rows if row["score"] >= (question.get("doc_correlation") or 0.0)]


def _rank(row: Mapping[str, Any]) -> float:
    """Estimate how well the passage matches: the shorter, the better."""
    return float(row["score"]) / len(re.findall(r"\w+", row["content"]))
