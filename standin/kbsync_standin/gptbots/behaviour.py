"""How the vendor behaves where its documents leave it open, and the kinds of fault that it plays itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kbsync_standin.application import Behaviour


@dataclass(frozen=True, slots=True)
class GptbotsBehaviour(Behaviour):
    """And of GPTBots alone.

    stale_status: so long after an update the status is still the one of the old version.
    marked_at: when an update's `source_url` is shown: as soon as it is accepted, or when it is swapped in.
    order: of the list. total: its form in the list.
    names: of documents in the list: as sent, or without the extension.
    times: the unit of times in the list. working: the status of a document that is being worked on.
    failed: how `failed` is told: names (ids of updates), objects, or always ids; and null or absent where
        nothing failed.
    most_files: more files in one request are refused; most_changed: in one that changes texts.
    bases: the form of the list of knowledge bases.
    unknown_ids: what deleting ids that are not there meets: ok, or a refusal.
    qa_updates: there is a call that changes questions and answers; else it is a 404.
    """

    stale_status: float = 0.0
    marked_at: Literal["accept", "swap"] = "accept"
    order: Literal["newest", "oldest", "shuffled"] = "newest"
    total: Literal["right", "zero", "string", "missing"] = "right"
    names: Literal["as_sent", "bare"] = "as_sent"
    times: Literal["s", "ms"] = "s"
    working: str = "EMBEDDING"
    failed: Literal["list", "objects", "ids", "null", "absent"] = "list"
    most_files: int = 10
    most_changed: int = 200
    bases: Literal["knowledge_base", "data", "data_list"] = "knowledge_base"
    unknown_ids: Literal["ok", "refused"] = "ok"
    qa_updates: bool = True


KINDS: Mapping[str, str] = {
    "code": "a business code in place of the answer, nothing done "
    "[args: code (50000), message, status of HTTP (200), as_string: true: the code is a text]",
    "code-after": "the same, after the work was done [args: as code]",
    "rate-limited": "HTTP 429, nothing done [args: retry_after: the header]",
    "unauthorized": "40127, as a key of another region gets it",
    "bot-deleted": "20059",
    "refused-item": "a request with such a file is refused as a whole, 40000 [args: name: glob (*)]",
    "failed-item": "such files stand in `failed` and are not stored [args: name: glob (*)]",
    "both-lists": "such files stand in both lists and are stored [args: name: glob (*)]",
    "neither-list": "such files stand in neither list [args: name: glob (*); stored: true]",
    "no-doc-id": "what was stored is told without its id",
    "other-name": "documents are kept under other names, with (1) added",
    "stuck": "such files are never searchable [args: name: glob (*)]",
    "fails": "such files fail to be indexed [args: name: glob (*)]",
    "shape": "the answer has another shape: an empty object, a list with null in it, null [args: form]",
    "data-status": "data_status is something else (status) [args: value, missing: true: no such field]",
    "left-out": "such documents are left out (status, list) [args: name: glob (*)]",
    "keeps-documents": "the answer to the deletion is ok, the documents stay (delete)",
    "unmarked": "such documents are listed without source_url (list) [args: name: glob (*), cut: true: "
    "without its fragment]",
    "nothing-found": "the search finds nothing (match)",
}
"""Every kind with one line of explanation."""
