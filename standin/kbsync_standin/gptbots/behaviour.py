"""The behaviour that GPTBots' documentation leaves open, and the faults of this stand-in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kbsync_standin.application import Behaviour
from kbsync_standin.kinds import shared_kinds


@dataclass(frozen=True, slots=True)
class GptbotsBehaviour(Behaviour):
    """The switches that only GPTBots has.

    stale_status: how long after an update the status is still the old version's.
    marked_at: whether an update's `source_url` appears when it is accepted or when it starts to serve.
    order: the order of the list. total: the form of its total.
    names: the names in the list: as sent, or without the extension.
    times: the unit of times in the list. working: the status of a document in progress.
    failed: the form of `failed`: names (ids of updates), objects, or always ids; null or absent if nothing
        failed.
    most_files: the most files in one upload. most_passages: the largest `top_k` of a search.
    bases: the form of the list of knowledge bases.
    unknown_ids: whether deleting unknown ids is ok or refused.
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
    most_passages: int = 50
    bases: Literal["knowledge_base", "data", "data_list"] = "knowledge_base"
    unknown_ids: Literal["ok", "refused"] = "ok"


KINDS: Mapping[str, str] = {
    **shared_kinds(
        "code code-after rate-limited unauthorized other-name stuck fails shape odd-status left-out "
        "keeps-document nothing-found"
    ),
    "bot-deleted": "20059",
    "refused-item": "a request with such a file is refused as a whole, 40000 [args: name: glob (*)]",
    "failed-item": "matching files are in `failed` and are not stored [args: name: glob (*)]",
    "both-lists": "matching files are in both lists and are stored [args: name: glob (*)]",
    "neither-list": "matching files are in neither list [args: name: glob (*); stored: true]",
    "no-doc-id": "the response has no ids for stored documents",
    "unmarked": "matching documents are listed without source_url (list) [args: name: glob (*), cut: true: "
    "without its fragment]",
}
"""Each kind of fault with one line of explanation."""
