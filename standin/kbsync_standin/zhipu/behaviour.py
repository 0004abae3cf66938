"""The behaviour that the service's documentation leaves open, and the faults of this stand-in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kbsync_standin.application import Behaviour
from kbsync_standin.kinds import shared_kinds
from kbsync_standin.switches import NO_OFFSET, Offset

OptionalRoute = Literal[
    "upload-url", "reembed", "reslice", "capacity", "retrieve", "chat", "images", "url", "models",
    "applications", "invoke", "sse-invoke", "slice-info", "callback",
]  # fmt: skip
MissingForm = Literal["404", "code", "null"]


@dataclass(frozen=True, slots=True)
class ZhipuBehaviour(Behaviour):
    """The switches that only Zhipu has.

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
    clock_skew: Offset = NO_OFFSET
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


KINDS: Mapping[str, str] = {
    **shared_kinds("keeps-document nothing-found"),
    "rate-limited": "HTTP 429, nothing done [args: code: 1302 (default), 1303, 1113, 1304, 1308 …; message; "
    "retry_after: the header: seconds or a date]",
    "unauthorized": "HTTP 401, nothing done [args: code: 1000 (default) to 1004; message]",
    "no-right": "HTTP 434, no right to the API; nothing is done [args: status: of HTTP (434)]",
    "base-gone": "as if the knowledge base were gone [args: form: 404, code, null (as deleted_base)]",
    "code-in-200": "a business code inside HTTP 200; with 200 or `missing` the rest of the response is as "
    "usual [args: code (500); message; as_string: true; missing: true: no code]",
    "error-shapes": "a failure in another shape [args: shape: flat, error-object, error-int, no-message, "
    "detail-list, typed, string (error-object); code (500); status: of HTTP (500)]",
    "envelope": "fields of the envelope are set or missing [args: set: {…}; missing: […]]",
    "failed-info": "the file is in failedInfos and not stored (upload, upload-url) [args: reason; stored]",
    "both-lists": "the file is in both lists (upload, upload-url)",
    "neither-list": "the file is in neither list (upload, upload-url)",
    "success-null": "successInfos is null (upload, upload-url)",
    "other-name": "the file is stored under another name (upload) [args: form: a value of the switch names "
    "(suffixed); answer: this name in the response only]",
    "unlisted": "the list lacks the new document (upload, upload-url) [args: seconds: how long (15)]",
    "stuck": "the status stays 0 (runs) [args: searchable: true: searches find it anyway]",
    "polls": "the first polls show status 0 (runs) [args: n: (3)]",
    "fails": "vectorizing fails: status 2 (runs) [args: code (10001), text: of failInfo; runs: how many runs "
    "fail, 0: all (1); silent: no failInfo]",
    "relapse": "1, then 0, then 1 again (runs) [args: after: seconds at 1 (5); back: seconds at 0 (1)]",
    "fails-later": "1, then 2 (runs) [args: code (10001), text: of failInfo; after: seconds at 1 (5)]",
    "stat": "embedding_stat has another value (runs, items) [args: name, seconds; value; missing: true]",
    "fail-info": "failInfo has another value (runs, items) [args: name, seconds; value; missing: true]",
    "callback": "the callback is not as documented (runs) [args: form: never, twice, other (document), "
    "status (wrong), late, slow, malformed (never); seconds: how late or slowly (5)]",
    "url": "the signed address is not good (runs, items) [args: name, seconds; form: missing, null, "
    "expired, wrong (missing); to: another address]",
    "fields": "fields of a document are set or missing (runs, items) [args: name, seconds; set: {…}; "
    "missing: […]]",
    "detail-missing": "the document has no detail (upload, detail) [args: seconds: how long after an "
    "upload (15); form: 404, code, null (as deleted_detail)]",
    "still-listed": "the list still has the deleted document (delete) [args: seconds: how long (no end)]",
    "delete-unknown": "as if the id were unknown (delete) [args: form: 404, code, null, ok (404)]",
    "duplicates": "a page repeats the end of the page before (list) [args: n: how many (1)]",
    "left-out": "the list lacks the documents of a name (list) [args: name: (all)]",
    "list-null": "the list is null or missing (list) [args: form: null, missing (null)]",
    "total": "total has another value (list) [args: value (null); missing: true]",
    "stream": "the events of an answer are written or end in another way (sse-invoke, chat) [args: end: "
    "repeated, no-blank, no-finish, error, interrupted; reason: finish_reason of chat (stop); reasoning: "
    "true: chat's model reasons first; crlf: true; comments: true; every: seconds between events (0)]",
    "pictures": "the images of a document are wrong (images) [args: form: none, null, missing, others, "
    "malformed (none)]",
    "retrieve-null": "data is null (retrieve)",
    "retrieve-no-scores": "scores are missing (retrieve)",
    "retrieve-no-metadata": "metadata is missing (retrieve)",
    "retrieve-deleted": "a passage of a deleted document comes first (retrieve) [args: id: its id]",
}
"""Each kind of fault with one line of explanation.

`runs` are the calls that index a document: upload, upload-url, reembed and reslice; `items`: detail and list.
`name`: only items of this name in a list; `seconds`: how long, after one of these calls (no end).
"""
