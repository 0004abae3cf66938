"""The behaviour that LightRAG's source leaves open, and the faults of this stand-in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kbsync_standin.application import Behaviour
from kbsync_standin.kinds import shared_kinds


@dataclass(frozen=True, slots=True)
class LightragBehaviour(Behaviour):
    """The switches that only LightRAG has.

    deleting: how long a deletion in the background takes.
    most_at_once: more unprocessed documents than this are refused with 429; 0: no limit.
    tells_progress: on request, the lines of an answer report progress first and end with a last line.
    base: whether the API is `present`, `deleted` (404 for everything), or `emptied` by others.
    """

    deleting: float = 0.05
    most_at_once: int = 0
    tells_progress: bool = True
    base: Literal["present", "deleted", "emptied"] = "present"


KINDS: Mapping[str, str] = {
    **shared_kinds("unauthorized fails stuck keeps-document left-out odd-status shape"),
    "rate-limited": "429: too many documents wait, nothing done [args: retry_after: the header (30)]",
    "clearing": "as while documents are deleted: 409, nothing done (upload)",
    "busy": "200 with the status busy, nothing done (delete)",
    "name-taken": "409: the input directory has a file of this name, nothing done (upload)",
    "refused": "400: the file is not accepted (upload)",
    "internal": "500 with a detail [args: stored: true: the work was done before]",
    "not-stored": "accepted, but lost before the list shows it (upload)",
    "no-receipt": "the answer has another status (upload) [args: status (partial_success), stored: true]",
    "not-queued": "accepted, but the server fails to queue the file, and records that under an id error-… "
    "(upload)",
    "miscounts": "the deletion succeeds but is reported as failed (deletion)",
    "slow": "the deletion takes long (delete) [args: seconds (60)]",
    "search-failed": "200 with the status failure (search)",
    "stream": "the lines of an answer stop, or come slowly (ask) [args: end: error, half-line, nothing; "
    "error: the line of an error; every: seconds between lines (0)]",
}
"""Each kind of fault with one line of explanation."""
