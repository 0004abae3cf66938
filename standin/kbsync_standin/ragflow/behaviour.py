"""The differences between RAGFlow's versions, and the faults of this stand-in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kbsync_standin.application import Behaviour


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
    unknown_ids: Literal["refused", "told"] = "refused"
    no_ids: Literal["refused", "all"] = "refused"
    runs: Literal["words", "digits"] = "words"
    total: Literal["total", "total_datasets", "missing"] = "total"
    no_index: Literal["error", "empty"] = "error"
    statuses: Literal["200", "mapped"] = "200"
    pipeline: bool = False
    assistants: Literal["one", "none", "two", "elsewhere"] = "one"
    chats: Literal["new", "old"] = "new"


KINDS: Mapping[str, str] = {
    "code": "a code in place of the answer, nothing done [args: code (102), message, status of HTTP (200), "
    "as_string: true: the code is a text]",
    "code-after": "the same, after the work was done [args: as code]",
    "unauthorized": "401, as for a key that is not known [args: code: 109 as older versions say it]",
    "shape": "the answer's data has another shape [args: form: object, list, null or none]",
    "no-id": "the answer to an upload does not name what was stored (upload)",
    "two-ids": "the answer to an upload names two documents (upload)",
    "other-name": "the document is called name(1), although that name is free (upload)",
    "begun-already": "refused as being parsed, which it is not (parse) [args: name: glob (*)]",
    "fails": "such documents fail to be parsed (parse) [args: name: glob (*), said: how their progress ends]",
    "stuck": "such documents stay in RUNNING (parse) [args: name: glob (*)]",
    "no-chunks": "such documents are done without a chunk (parse) [args: name: glob (*)]",
    "stopped": "somebody stops the parsing of such documents (parse) [args: name: glob (*)]",
    "run": "`run` is something else (list) [args: value, missing: true: no such field]",
    "left-out": "such documents are left out (list) [args: name: glob (*)]",
    "keeps-documents": "the answer to the deletion is good, the documents stay (delete)",
    "stream": "the answer of an assistant ends in another way (chat) [args: end: no-finish, error; "
    "reasoning: true: with what the model thought; every: seconds between events (0)]",
    "nothing-found": "the search finds nothing (search)",
}
"""Each kind of fault with one line of explanation."""
