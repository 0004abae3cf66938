"""The settings of an Open WebUI server, and the faults of this stand-in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kbsync_standin.application import Behaviour
from kbsync_standin.completions import KIND as STREAM
from kbsync_standin.kinds import shared_kinds


@dataclass(frozen=True, slots=True)
class OpenWebuiBehaviour(Behaviour):
    """The switches that only Open WebUI has. `vectorize`: until a file is linked or has failed. No list shows
    deleted files.

    page_size: the rows of every page, whatever the request says, as for users who aren't admins; 0: as
        requested.
    looks_late: duplicates are looked for when indexing ends, not when it begins, so two equal texts can both
        be stored.
    """

    page_size: int = 0
    looks_late: bool = True


KINDS: Mapping[str, str] = {
    **shared_kinds("unauthorized stuck no-id shape odd-status keeps-document"),
    "detail": "an error in the server's own words, nothing done [args: status (400), detail]",
    "no-base": "404, or 400 where the route says so: there is no such knowledge base",
    "refused": "a file of a type that is not allowed, 400 (upload)",
    "busy-database": "the database is busy, 400 and nothing stored (upload)",
    "fails": "the file fails to be indexed (upload) [args: runs: how many times (1), 0: for good]",
    "unlinked": "the file is `completed` and never linked to the base (upload)",
    "not-made": "the folder is not made, 400, as where the database refuses it (make-folder)",
    "left-out": "the newest file is left out, the count stays (list)",
    "empty-list": "an error of the database, answered as an empty list with a count of 0 (list)",
    "goes-on": "504 of a proxy: the text is stored, the rest of the work is done later, in steps "
    "(update, link) [args: seconds: between two steps (20), 0: never]",
    "stream": STREAM,
}
"""Each kind of fault with one line of explanation."""
