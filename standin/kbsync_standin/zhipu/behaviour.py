"""The switches of the stand-in: how the vendor is taken to behave where the documents leave it open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kbsync_standin import switches as switching
from kbsync_standin.application import Behaviour

OPTIONAL_ROUTES = (
    *("upload-url", "reembed", "reslice", "capacity", "retrieve", "chat", "images", "url", "models"),
    *("applications", "invoke", "sse-invoke", "slice-info", "callback"),
)

MissingForm = Literal["404", "code", "null"]


@dataclass(frozen=True, slots=True)
class ZhipuBehaviour(Behaviour):
    """And of Zhipu alone.

    strict: requests against the documented rules are refused; false: only what cannot be understood is.
    stale_stat: so long after an accepted re-embed or re-slice the old status is still shown.
    keeps_fail_info: status 0 after a re-embed still carries the old `failInfo`.
    detail_lag: so long a new document has no detail and a deleted one still has.
    unstable_pages: pages after the first are shifted by up to one item, as if others came and went.
    order: of the list. word: how the filter `word` compares. total, empty_list: their form in the list.
    equal_names: what a second document of one name meets. names: what becomes of a name that is sent.
    page_names: what the list calls a page: its address, its title, or the last part of its path.
    page_urls: what `url` shows of a page: its address, or a signed one as of files.
    ids: the form of document ids (`other_epoch`: they count from another year). skewed_ids: ids carry the
        skewed clock.
    clock_skew: added to `timestamp` and `Date`.
    sparse: optional fields are missing, or null.
    stat_form: the type of `embedding_stat`. sentence_size: the type of that field in a document.
    deleted_detail, deleted_base: the answer about what is not there. unknown_delete: to deleting it.
    stream_form: how the events of an answer are written: as the manual prints them, as text, as objects.
    without_positions: names of documents, with blanks between, whose slices tell none (`hide_positions`).
    not_offered: the optional routes that answer 404 (`url`: the signed addresses of files).
    capacity_bytes, capacity_words: what all documents together may have (0: as many words as go into the
        bytes). full: what an upload beyond it meets: the failure 10001 or 10002 later, or a refusal.
    max_bytes: a larger file is refused with HTTP 435.
    zero_balance: no vectorizing is paid for. money_gone: what costs money is answered 1113 in HTTP 429.
    """

    strict: bool = True
    stale_stat: float = 0.0
    keeps_fail_info: bool = False
    detail_lag: float = 0.0
    unstable_pages: bool = False
    order: Literal["newest", "oldest", "shuffled"] = "newest"
    word: Literal["substring", "exact", "case_insensitive", "tokenised", "ignored"] = "substring"
    total: Literal["right", "high", "low", "zero", "string", "missing"] = "right"
    empty_list: Literal["list", "null", "missing"] = "list"
    equal_names: Literal["allow", "refuse", "replace"] = "allow"
    names: Literal["as_sent", "nfc", "nfd", "mojibake", "basename", "suffixed", "question_marks"] = "as_sent"
    page_names: Literal["address", "title", "last"] = "address"
    page_urls: Literal["address", "signed"] = "signed"
    ids: Literal["string", "number", "short", "uuid", "other_epoch"] = "string"
    skewed_ids: bool = True
    clock_skew: float = 0.0
    sparse: Literal["no", "missing", "null"] = "no"
    stat_form: Literal["int", "string", "float"] = "int"
    sentence_size: Literal["absent", "int", "string"] = "absent"
    deleted_detail: MissingForm = "404"
    deleted_base: MissingForm = "404"
    unknown_delete: Literal["404", "code", "null", "ok"] = "404"
    stream_form: Literal["quoted", "plain", "wrapped"] = "quoted"
    without_positions: str = ""
    not_offered: tuple[str, ...] = ()
    capacity_bytes: int = 1_000_000_000
    capacity_words: int = 0
    full: Literal["10001", "10002", "refused"] = "10001"
    max_bytes: int = 100_000_000
    zero_balance: bool = False
    money_gone: bool = False


_LEAST = {"clock_skew": -switching.LARGEST}


def changed(behaviour: ZhipuBehaviour, switches: Mapping[str, Any]) -> ZhipuBehaviour:
    """`behaviour` with `switches` set. Raises `ValueError` for an unknown switch or a wrong value."""
    if "offered" in switches:
        raise ValueError("there is no switch offered; not_offered lists the routes that answer 404")
    return switching.changed(behaviour, switches, {"not_offered": _routes}, _LEAST)


def _routes(name: str, value: Any) -> tuple[str, ...]:
    fits = isinstance(value, list | tuple | set | frozenset)
    if not fits or not all(route in OPTIONAL_ROUTES for route in value):
        raise ValueError(f"{name} is a list of {', '.join(OPTIONAL_ROUTES)}, not {value!r}")
    return tuple(sorted(value))
