"""The differences between RAGFlow's versions, and the faults of this stand-in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kbsync_standin.application import Behaviour
from kbsync_standin.kinds import shared_kinds


@dataclass(frozen=True, slots=True)
class RagflowBehaviour(Behaviour):
    """The switches that only RAGFlow has; `vectorize` counts from the request to parse.

    ids_filter: the list accepts the parameter `ids` (from 0.25.1); otherwise it is unknown.
    unknown_ids: whether a deletion with an unknown id is refused as a whole, or deletes the others and names
        the id in `errors` (up to 0.24).
    no_ids: whether a deletion without ids is refused, or deletes all documents (up to 0.24).
    runs: the form of `run` in the list: words or digits.
    total: the name of the list's count: `total`, `total_datasets` as in the reference, or none.
    no_index: whether a search in a dataset that never had a chunk fails or returns nothing.
    statuses: whether refusals come with HTTP 200, or some with the status of the newest version.
    pipeline: the dataset has an ingestion pipeline, which another call starts.
    assistants: the existing chat assistants: `one` that uses the initial dataset, `none`, `two`, or one that
        uses another dataset (`elsewhere`).
    chats: whether the chat calls are those from 0.25.1 on or the older ones.
    """

    ids_filter: bool = True
    unknown_ids: Literal["refused", "reported"] = "refused"
    no_ids: Literal["refused", "all"] = "refused"
    runs: Literal["words", "digits"] = "words"
    total: Literal["total", "total_datasets", "missing"] = "total"
    no_index: Literal["error", "empty"] = "error"
    statuses: Literal["200", "mapped"] = "200"
    pipeline: bool = False
    assistants: Literal["one", "none", "two", "elsewhere"] = "one"
    chats: Literal["new", "old"] = "new"


KINDS: Mapping[str, str] = {
    **shared_kinds("code code-after no-id other-name stuck odd-status left-out keeps-document nothing-found"),
    "unauthorized": "401, as for an unknown key [args: code: 109 as older versions say it]",
    "shape": "the answer's data has another shape [args: form: object, list, null or none]",
    "two-ids": "the answer to an upload names two documents (upload)",
    "begun-already": "refused as if it were being parsed (parse) [args: name: glob (*)]",
    "fails": "matching documents fail to be parsed (parse) [args: name: glob (*), said: their progress]",
    "no-chunks": "matching documents are done without a chunk (parse) [args: name: glob (*)]",
    "stopped": "another user stops the parsing of matching documents (parse) [args: name: glob (*)]",
    "stream": "the answer of an assistant ends in another way (chat) [args: end: no-finish, error; "
    "reasoning: true: with the model's reasoning; every: seconds between events (0)]",
}
"""Each kind of fault with one line of explanation."""
