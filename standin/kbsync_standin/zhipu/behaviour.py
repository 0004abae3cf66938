"""The switches of the stand-in, for behaviour that the service's documentation leaves open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kbsync_standin.application import Behaviour

OptionalRoute = Literal[
    "upload-url", "reembed", "reslice", "capacity", "retrieve", "chat", "images", "url", "models",
    "applications", "invoke", "sse-invoke", "slice-info", "callback",
]  # fmt: skip
MissingForm = Literal["404", "code", "null"]


@dataclass(frozen=True, slots=True)
class ZhipuBehaviour(Behaviour):
    """The switches that only Zhipu has.

    strict: requests against the documented rules are refused; false: only requests that can't be understood
        are.
    stale_stat: how long the old status is shown after an accepted re-embed or re-slice.
    keeps_fail_info: status 0 after a re-embed still has the old `failInfo`.
    detail_lag: how long a new document has no detail and a deleted one still has it.
    unstable_pages: pages after the first shift by up to one item, as if others had added or deleted some.
    order: the order of the list. word: how the filter `word` compares. total, empty_list: their form in the
        list.
    equal_names: whether a second document with the same name is allowed, refused, or replaces the first.
        names: how sent names are changed.
    page_names: the name of a page in the list: its address, its title, or the last part of its path.
    page_urls: the `url` of a page: its address, or a signed one as for files.
    ids: the form of document ids (`other_epoch`: they count from another year). skewed_ids: ids contain the
        time of the skewed clock.
    clock_skew: added to `timestamp` and `Date`.
    sparse: optional fields are missing or null.
    stat_form: the type of `embedding_stat`. sentence_size: the type of that field in a document.
    deleted_detail, deleted_base: the response about a missing document or base. unknown_delete: the response
    to deleting an unknown id.
    stream_form: the format of an answer's events: as in the manual, as text, or as objects.
    without_positions: names of documents, separated by spaces, whose slices have no positions
        (`hide_positions`).
    not_offered: the optional routes that answer 404 (`url`: the signed addresses of files).
    capacity_bytes, capacity_words: the most that all documents may have together (0 words: as many as fit
    into the bytes). full: whether an upload beyond it fails later with 10001 or 10002, or is refused.
    max_bytes: larger files are refused with HTTP 435.
    zero_balance: vectorizing fails because the account has no money. money_gone: calls that cost money answer
        1113 with HTTP 429.
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
    not_offered: tuple[OptionalRoute, ...] = ()
    capacity_bytes: int = 1_000_000_000
    capacity_words: int = 0
    full: Literal["10001", "10002", "refused"] = "10001"
    max_bytes: int = 100_000_000
    zero_balance: bool = False
    money_gone: bool = False
