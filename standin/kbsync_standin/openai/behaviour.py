"""The behaviour that OpenAI's documentation leaves open, and the faults of this stand-in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kbsync_standin.application import Behaviour
from kbsync_standin.completions import KIND as STREAM
from kbsync_standin.kinds import shared_kinds


@dataclass(frozen=True, slots=True)
class OpenaiBehaviour(Behaviour):
    """The switches that only OpenAI has. Its lists have no page after the last.

    dialect: `openai`, or `ogx` as observed in OGX 1.5.0: 400 for unknown objects, attaching responds when it
        is done, names are rewritten, files of equal text share passages, a deleted file stays in its stores,
        and a deleted cursor restarts the list.
    reader: for OGX: `pypdf` reads PDF and files whose name promises text; `auto` reads all.
    base: a store can also be `expired`.
    """

    dialect: Literal["openai", "ogx"] = "openai"
    reader: Literal["pypdf", "auto"] = "pypdf"
    base: Literal["present", "deleted", "expired", "recreated", "emptied"] = "present"  # type: ignore[assignment]


KINDS: Mapping[str, str] = {
    **shared_kinds(
        "rate-limited unauthorized stuck shape odd-status left-out no-id keeps-document nothing-found"
    ),
    "error": "an error in place of the answer, nothing done [args: status (400), code, type, message, "
    "bare: true: the body is an error and HTTP says 200]",
    "error-after": "the same, after the work was done [args: as error]",
    "no-quota": "429, insufficient_quota, nothing done",
    "no-rights": "403, missing scopes",
    "fails": "the file fails to be indexed (attach) [args: code (server_error)]",
    "unmarked": "matching files are listed without attributes (list) [args: name: glob (*)]",
    "not-deleted": "the response says that the file is not deleted (delete, delete-file)",
    "stream": STREAM,
}
"""Each kind of fault with one line of explanation."""
