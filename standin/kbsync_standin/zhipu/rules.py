"""Checks requests against the service's documented rules, and parses upload forms."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from kbsync_standin import rules
from kbsync_standin.forms import Part
from kbsync_standin.rules import Test
from kbsync_standin.zhipu.documents import Callback, Slicing, extension

FILES = "/files/"
"""The path below which files have their signed addresses."""

_PROSE = frozenset({"txt", "doc", "pdf", "url", "docx", "ppt", "pptx", "md"})
_TABLES = frozenset({"xls", "xlsx", "csv"})
_PAGES = frozenset({"pdf", "ppt", "pptx"})

LEGAL: Mapping[int, frozenset[str]] = {1: _PROSE, 2: _PROSE, 3: _TABLES, 5: _PROSE, 6: _PAGES, 7: _TABLES}
"""The extensions that each `knowledge_type` allows."""

SUPPORTED = (_PROSE | _TABLES) - {"url"}
"""The extensions of files that are accepted at all."""

OWN_SEPARATORS = 5
_MAX_DIGITS = 18
SENTENCE_SIZES = range(20, 2001)

QUERIES: Mapping[str, tuple[str, ...]] = {
    "list": ("knowledge_id", "page", "size", "word"),
    "bases": ("page", "size"),
    "applications": ("page", "size"),
    "file": ("q-sign-time", "q-signature"),
}
"""The query parameters of each operation that has any."""


def check_slicing(slicing: Slicing, name: str, sent_fields: Collection[str]) -> None:
    """Check that `slicing` is allowed for the file name; `sent_fields`: the fields of the request. Raises
    `Violation`.
    """
    kind = extension(name)
    knowledge_type = slicing.knowledge_type
    rules.require("knowledge_type" in sent_fields, "knowledge_type is missing")
    rules.require(knowledge_type in LEGAL, f"knowledge_type is {knowledge_type}")
    if kind in SUPPORTED:
        rules.require(kind in LEGAL[knowledge_type], f"knowledge_type {knowledge_type} is not for .{kind}")
    for field in ("custom_separator", "sentence_size"):
        is_due = knowledge_type == OWN_SEPARATORS or field not in sent_fields
        rules.require(is_due, f"{field} goes with knowledge_type 5 only")
    in_range = slicing.sentence_size in SENTENCE_SIZES
    rules.require(in_range, f"sentence_size is {slicing.sentence_size}, not 20 to 2000")


CALLBACK_TESTS: Mapping[str, Test] = {"callback_url": rules.is_address, "callback_header": rules.is_object}


def is_digits(text: str) -> bool:
    """Return whether the text is a number of at most 18 ASCII digits."""
    return text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS


SLICING_TESTS: Mapping[str, Test] = {
    **CALLBACK_TESTS,
    "knowledge_type": rules.is_whole,
    "custom_separator": rules.are_texts,
    "sentence_size": rules.is_whole,
}
_FIELDS = SLICING_TESTS.keys() | {"files", "parse_image", "word_num_limit", "req_id"}


@dataclass(frozen=True, slots=True)
class UploadForm:
    """One file and its slicing."""

    name: str
    content: bytes
    slicing: Slicing
    parse_image: bool
    callback: Callback | None = None
    word_limit: int = 0


def upload_form(parts: list[Part]) -> UploadForm:
    """Parse an upload form. Raises `Violation`."""
    rules.require_known([part.name for part in parts], _FIELDS, "the form field")
    files = [part for part in parts if part.name == "files"]
    rules.require(bool(files), "the form field files is missing")
    rules.require(len(files) == 1, f"{len(files)} files were sent in one request")
    file = files[0]
    name = file.filename or ""
    # Some clients send only `filename*` for names beyond ASCII; many servers drop it.
    rules.require(not file.only_extended, "the file's name came as filename* alone")
    rules.require(bool(name), "the form field files has no file name")
    plain = [part for part in parts if part.name not in ("files", "custom_separator")]
    texts = {part.name: part.text for part in plain}
    rules.require(len(plain) == len(texts), "a form field comes twice")
    separators = _separators([part.text for part in parts if part.name == "custom_separator"])
    for field in ("knowledge_type", "sentence_size"):
        text = texts.get(field, "0")
        rules.require(is_digits(text), f"{field} is {text!r:.80}, not a whole number")
    knowledge_type, size = int(texts.get("knowledge_type", 0)), int(texts.get("sentence_size", 300))
    slicing = Slicing(knowledge_type, separators, size)
    sent_fields = set(texts) | ({"custom_separator"} if separators else set())
    check_slicing(slicing, name, sent_fields)
    parse_image, limit = texts.get("parse_image", "false"), texts.get("word_num_limit", "0")
    rules.require(parse_image in ("true", "false"), f"parse_image is {parse_image!r:.80}, not true or false")
    rules.require(is_digits(limit), f"word_num_limit is {limit!r:.80}, not digits")
    rules.require(rules.is_address(texts.get("callback_url", "http://")), "callback_url is not an address")
    header = texts.get("callback_header", "{}")
    headers = rules.json_object(header.encode(), f"callback_header is {header!r:.80}, not a JSON object")
    callback = callback_of({**texts, "callback_header": headers})
    return UploadForm(name, file.content, slicing, parse_image == "true", callback, int(limit))


def callback_of(fields: Mapping[str, Any]) -> Callback | None:
    """Return the callback URL if the checked `fields` have one."""
    url = fields.get("callback_url")
    headers = {str(name): str(value) for name, value in fields.get("callback_header", {}).items()}
    return Callback(url, headers) if url else None


def _separators(texts: list[str]) -> tuple[str, ...]:
    """Parse one JSON text field, one plain field, or repeated fields."""
    if len(texts) != 1:
        return tuple(texts)
    try:
        value: Any = json.loads(texts[0])
    except ValueError:
        value = texts
    if not isinstance(value, list):  # such as a plain 1
        value = texts
    rules.require(rules.are_texts(value), f"custom_separator is {texts[0]!r:.80}")
    return tuple(value)


def slicing_of(fields: Mapping[str, Any], name: str) -> Slicing:
    """Return the slicing of a document called `name` from checked `fields`. Raises `Violation`."""
    separators = tuple(fields.get("custom_separator", ()))
    slicing = Slicing(fields["knowledge_type"], separators, fields.get("sentence_size", 300))
    check_slicing(slicing, name, fields.keys())
    return slicing
