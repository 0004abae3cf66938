"""Every fault of RAGFlow's stand-in on each operation that it can affect."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from kbsync_standin.ragflow import HOME_ID
from tests.remote.faults import Trial
from tests.torture.trials import Args, Calls, all_trials, forms

OPS = ("upload", "parse", "list", "delete", "base")
CALLS = Calls(OPS, OPS, changes=("upload", "parse", "delete"), uploads=("upload",))
BASE = f"/api/v1/datasets?id={HOME_ID}"


def refusals() -> Iterator[Trial]:
    """Yield 3, 12, 23: the key disappears in a run, and returns; too many requests."""
    for op in OPS:
        yield Trial("status", op, {"status": 429}, effect=False)
        yield Trial("code", op, {"code": 429})
        yield from forms("unauthorized", op, ({}, {"code": 109}))


def codes() -> Iterator[Trial]:
    """Yield 7, 8: errors in the body under any HTTP status."""
    unsure: tuple[Args, ...] = (
        *({"code": 100}, {"code": 500, "message": "a.md: (0, '')"}, {"code": 102, "as_string": True}),
        {"code": 102, "message": "Internal server error"},
        {"code": 100, "status": 500},
    )
    for op in OPS:
        yield from (
            Trial("code", op, args, blames_document=op == "upload" and "as_string" in args) for args in unsure
        )
        yield from forms(
            "code", op, ({"code": 106}, {"code": 500, "message": "Exceed the maximum file number"})
        )
        yield from (
            Trial("code", op, {"code": code}, blames_document=op == "upload") for code in (101, 102, 108)
        )
    for op in CALLS.changes:
        yield from forms("code-after", op, unsure[:2])
    for op, form in itertools.product(OPS, ("object", "list", "null", "none")):
        yield Trial("shape", op, {"form": form})


def documents() -> Iterator[Trial]:
    """Yield 9, 15, 16, 17: wrong ids in upload responses, and documents that fail."""
    yield from (Trial(kind, "upload") for kind in ("no-id", "two-ids", "other-name"))
    money = {"said": "Error code: 429 - insufficient_quota"}
    yield from forms("fails", "parse", ({}, money))
    yield from (Trial(kind, "parse") for kind in ("stuck", "no-chunks", "stopped", "begun-already"))
    yield Trial("late-effect", "upload", {"after": 5}, under={"ids_filter": False})
    yield Trial("lost-answer", "parse", effect=False, under={"pipeline": True})


def faults_of_reads() -> Iterator[Trial]:
    """Yield 17, 18, 22: lists that lie or lack fields, and deletions without effect."""
    values = (None, 3, "9", True, [], {}, "SURPRISE", "done ")
    yield from forms("odd-status", "list", (*({"value": value} for value in values), {"missing": True}))
    paged: tuple[Args, ...] = (
        *({"page_cap": 2, "page_beyond": beyond} for beyond in ("empty", "repeats")),
        *({"page_cap": 2, "total": total} for total in ("missing", "total_datasets")),
        *({"ids_filter": False}, {"runs": "digits"}, {"extra_fields": True}),
    )
    for under in ({}, *paged):
        yield from forms("left-out", "list", ({"name": "changed*"}, {"name": "*"}), under=under)
    for under in ({}, {"unknown_ids": "reported", "no_ids": "all"}):
        yield Trial("keeps-document", "delete", under=under)
        yield Trial("lost-answer", "delete", {}, under=under, times=2)


def trials() -> list[Trial]:
    """Return all of them, in a fixed order."""
    return all_trials(CALLS, (refusals, codes, documents, faults_of_reads), BASE)
