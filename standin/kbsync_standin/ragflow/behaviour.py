"""How RAGFlow behaves where its versions differ, and the kinds of fault that it plays itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kbsync_standin.application import Behaviour


@dataclass(frozen=True, slots=True)
class RagflowBehaviour(Behaviour):
    """And of RAGFlow alone; `vectorize` counts from when the parsing was asked for.

    ids_filter: the list can be asked for certain `ids` (from 0.25.1); else it does not know the word.
    unknown_ids: what a deletion with an id that is not there meets: all of it is refused, or the others go
        and it is told in `errors` (up to 0.24).
    no_ids: what a deletion without ids does: nothing (refused), or all documents (up to 0.24).
    runs: `run` in the list, in words or as digits.
    total: the count in the list: `total`, `total_datasets` as the reference has it, or none.
    no_index: what a search meets in a dataset that never had a chunk: an error, or nothing is found.
    statuses: refusals come with HTTP 200, or with the status that the newest version gives some of them.
    pipeline: the dataset has an ingestion pipeline, which is begun by another call.
    assistants: chat assistants that are there: `one` that answers from the dataset that is there from the
        start, `none`, `two`, or one that answers from another dataset (`elsewhere`).
    chats: they are listed and asked as from 0.25.1 on, or as before.
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
"""Every kind with one line of explanation."""
