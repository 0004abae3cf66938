"""The vendor's answers as values. Unknown fields are ignored; what has another shape is None. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kbsync.core.digits import number_in

_LATEST_SECONDS = 100_000_000_000
"""A larger number counts milliseconds."""


@dataclass(frozen=True, slots=True)
class KnowledgeBase:
    """A row of the list of bases; `documents` None: not told."""

    id: str
    documents: int | None
    name: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the list of documents; times in seconds since the epoch."""

    id: str
    name: str
    source_url: str
    created: float | None
    updated: float | None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of that list; `total` None: not told in a way that counts."""

    rows: tuple[Row, ...]
    total: int | None


@dataclass(frozen=True, slots=True)
class Stored:
    """A document that an answer tells as taken; "" for what it leaves out."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to an add or update. Each failure is a set of words, a name or an id among them."""

    stored: tuple[Stored, ...]
    failed: tuple[frozenset[str], ...]


@dataclass(frozen=True, slots=True)
class Match:
    """A passage that was found."""

    document_id: str
    text: str
    score: float


def id_of(value: object) -> str:
    """An id as text; "" for what is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() if isinstance(value, str) else ""


def bases_of(body: Any) -> tuple[KnowledgeBase, ...] | None:
    """From `knowledge_base`, `data` or `data.list`, as different versions have it."""
    rows = _first_list(body, "knowledge_base", "data", "list")
    if rows is None:
        return None
    return tuple(
        KnowledgeBase(
            id_of(one.get("id")), _count(one.get("doc")), _text(one.get("name")), _text(one.get("desc"))
        )
        for one in _objects(rows)
        if id_of(one.get("id"))
    )


def made_base_of(body: Any) -> str:
    """The id of a base that was made; "" where the answer has none."""
    return id_of(body.get("knowledge_base_id")) if isinstance(body, dict) else ""


def affected_of(body: Any) -> int | None:
    """How many documents a retry concerns; None: not told in a way that counts."""
    return _count(body.get("affectCount")) if isinstance(body, dict) else None


def page_of(body: Any) -> Page | None:
    """A page of documents."""
    rows = _first_list(body, "list", "data")
    if rows is None:
        return None
    total = _count(body.get("total")) if isinstance(body, dict) else None
    return Page(tuple(_row(one) for one in _objects(rows) if id_of(one.get("id"))), total)


def _row(one: Mapping[str, Any]) -> Row:
    return Row(
        id_of(one.get("id")),
        _full_name(_text(one.get("name")), _text(one.get("format"))),
        _text(one.get("source_url")),
        seconds_of(one.get("create_time")),
        seconds_of(one.get("update_time")),
    )


def _full_name(name: str, extension: str) -> str:
    """Some versions tell the name without its extension, which stands in `format`."""
    if not extension or name.lower().endswith(f".{extension.lower()}"):
        return name
    return f"{name}.{extension}"


def receipt_of(body: Any) -> Receipt | None:
    """What became of the files of a request; None where the answer does not say."""
    if not isinstance(body, dict) or not (isinstance(body.get("doc"), list) or body.get("failed")):
        return None
    stored = tuple(Stored(_doc_id(one), _doc_name(one)) for one in _objects(body.get("doc") or []))
    failed = body.get("failed")
    told = map(_words, failed) if isinstance(failed, list) else ()
    return Receipt(stored, tuple(words for words in told if words))


_IDS, _NAMES = ("doc_id", "data_id", "id"), ("doc_name", "file_name", "name")


def _doc_id(one: Mapping[str, Any]) -> str:
    return next((found for key in _IDS if (found := id_of(one.get(key)))), "")


def _doc_name(one: Mapping[str, Any]) -> str:
    return next((found for key in _NAMES if (found := _text(one.get(key)))), "")


def _words(failure: object) -> frozenset[str]:
    """Adds tell names, updates ids, some versions objects with either."""
    if isinstance(failure, dict):
        return frozenset({_doc_id(failure), _doc_name(failure)} - {""})
    return frozenset({id_of(failure)} - {""})


def states_of(body: Any) -> Mapping[str, str] | None:
    """`data_status` by id, in upper case; "" where it is none."""
    rows = _first_list(body, "data", "list", "doc")
    if rows is None:
        return None
    return {
        id_of(one.get("data_id")): _text(one.get("data_status")).strip().upper()
        for one in _objects(rows)
        if id_of(one.get("data_id"))
    }


def matches_of(body: Any) -> tuple[Match, ...] | None:
    """What a search found."""
    rows = _first_list(body, "list", "data")
    if rows is None:
        return None
    return tuple(
        Match(id_of(one.get("data_id")), _text(one.get("content")), _score(one.get("score")))
        for one in _objects(rows)
        if id_of(one.get("data_id"))
    )


def seconds_of(value: object) -> float | None:
    """A time in seconds, from seconds or milliseconds, number or digits."""
    if isinstance(value, str):
        value = number_in(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e15:
        return None
    return value / 1000 if value > _LATEST_SECONDS else float(value)


def _first_list(body: Any, *keys: str) -> list[Any] | None:
    """The list itself, or the first list under one of `keys`, looked for one level deeper as well."""
    if isinstance(body, list):
        return body
    if not isinstance(body, dict):
        return None
    for key in keys:
        found = body.get(key)
        if isinstance(found, list):
            return found
        if isinstance(found, dict) and isinstance(found.get("list"), list):
            return list(found["list"])
    return None


def _objects(rows: object) -> Iterator[Mapping[str, Any]]:
    return (one for one in rows if isinstance(one, dict)) if isinstance(rows, list) else iter(())


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int | None:
    if isinstance(value, str):
        return number_in(value.strip())
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and isinstance(value, int) and value >= 0 else None


def _score(value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and isinstance(value, int | float) and abs(value) < 1e9 else 0.0
