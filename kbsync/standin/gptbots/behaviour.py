"""The switches of the stand-in: how the vendor is taken to behave where the documents leave it open."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the vendor always is. Durations are seconds of the stand-in's clock.

    strict: requests against the documented rules are refused; false: only what cannot be understood is.
    vectorize: least and most seconds until a document's status is final.
    stale_status: so long after an update the status is still the one of the old version.
    marked_at: when an update's `source_url` is shown: as soon as it is accepted, or when it is swapped in.
    list_lag: so long the list lacks a new document and still has a deleted one (set before the change).
    page_cap: a larger `page_size` is silently cut to it; 0: no cap.
    page_beyond: what a page after the last shows: nothing, or the last page again.
    order: of the list. total: its form in the list.
    names: of documents in the list: as sent, or without the extension.
    times: the unit of times in the list. working: the status of a document that is being worked on.
    failed: how `failed` is told: names (ids of updates), objects, or always ids; and null or absent where
        nothing failed.
    most_files: more files in one request are refused.
    bases: the form of the list of knowledge bases.
    unknown_ids: what deleting ids that are not there meets: ok, or a refusal.
    extra_fields: unknown fields in every object.
    key_revoked: every request is answered 40127.
    base: the knowledge base that is there from the start is `present`; `deleted` with all in it (and back
        with `present`); `recreated` by others under another id, empty; or `emptied` by others.
    """

    strict: bool = True
    vectorize: tuple[float, float] = (0.0, 0.0)
    stale_status: float = 0.0
    marked_at: Literal["accept", "swap"] = "accept"
    list_lag: float = 0.0
    page_cap: int = 0
    page_beyond: Literal["empty", "repeats"] = "empty"
    order: Literal["newest", "oldest", "shuffled"] = "newest"
    total: Literal["right", "zero", "string", "missing"] = "right"
    names: Literal["as_sent", "bare"] = "as_sent"
    times: Literal["s", "ms"] = "s"
    working: str = "EMBEDDING"
    failed: Literal["list", "objects", "ids", "null", "absent"] = "list"
    most_files: int = 10
    bases: Literal["knowledge_base", "data", "data_list"] = "knowledge_base"
    unknown_ids: Literal["ok", "refused"] = "ok"
    extra_fields: bool = False
    key_revoked: bool = False
    base: Literal["present", "deleted", "recreated", "emptied"] = "present"


def changed(behaviour: Behaviour, switches: Mapping[str, Any]) -> Behaviour:
    """`behaviour` with `switches` set. Raises `ValueError` for an unknown switch or a wrong value."""
    known = [field.name for field in fields(Behaviour)]
    if unknown := sorted(set(switches) - set(known)):
        raise ValueError(f"there is no switch {', '.join(unknown)}; there are {', '.join(known)}")
    kinds = typing.get_type_hints(Behaviour)
    return replace(
        behaviour, **{name: _checked(name, kinds[name], value) for name, value in switches.items()}
    )


def _checked(name: str, kind: Any, value: Any) -> Any:
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            raise ValueError(f"{name} is one of {', '.join(choices)}, not {value!r}")
        return value
    if name == "vectorize":
        return _span(value)
    fits = isinstance(value, kind) if kind in (bool, str) else _is_number(value, kind)
    if not fits:
        raise ValueError(f"{name} is {_WORDS[kind]}, not {value!r}")
    return kind(value)


_WORDS = {bool: "true or false", str: "a text", int: "a whole number from 0 on", float: "seconds from 0 on"}


def _is_number(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        return False
    return bool(0 <= value < 1e18)  # false for "not a number" too


def _span(value: Any) -> tuple[float, float]:
    fits = (
        isinstance(value, list | tuple) and len(value) == 2 and all(_is_number(end, float) for end in value)
    )
    if not fits or not value[0] <= value[1]:
        raise ValueError(f"vectorize is a pair of seconds, least and most, not {value!r}")
    return float(value[0]), float(value[1])
