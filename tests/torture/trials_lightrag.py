"""Every fault of LightRAG's stand-in on each operation that it can affect."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tests.remote.faults import Trial
from tests.torture.trials import WISHES, Calls, all_trials, forms

OPS = ("base", "upload", "list", "delete", "deletion")
CALLS = Calls(OPS, OPS, changes=("upload", "delete"), uploads=("upload",))
BASE = "/documents/status_counts"


def refusals() -> Iterator[Trial]:
    """Yield 3, 12: too much work; the key disappears in a run, and returns; the server is busy."""
    for op in OPS:
        yield Trial("rate-limited", op)
        yield from (Trial("unauthorized", op, times=times) for times in (1, 3))
        yield Trial("internal", op)
        yield from forms("shape", op, ({"form": form} for form in ("object", "nulls", "null")))
    for op, request in itertools.product(("upload", "list"), WISHES):
        yield Trial("rate-limited", op, {"retry_after": request})
    for op in CALLS.changes:
        yield Trial("internal", op, {"stored": True})
    yield from (Trial("clearing", "upload", times=times) for times in (1, 3))
    yield from (Trial("busy", "delete", times=times) for times in (1, 3))


def documents() -> Iterator[Trial]:
    """Yield 9, 15, 16: uploads that fail."""
    yield from (Trial(kind, "upload") for kind in ("name-taken", "not-stored", "fails", "stuck"))
    yield Trial("refused", "upload", blames_document=True)
    yield from forms("no-receipt", "upload", ({}, {"stored": True}, {"status": "duplicated", "stored": True}))


def faults_of_reads() -> Iterator[Trial]:
    """Yield 17, 18, 22: lists that lag, lie or lack fields."""
    yield from forms("left-out", "list", ({"name": "new*"}, {"name": "changed*"}, {"name": "*"}))
    yield from forms("odd-status", "list", ({"value": value} for value in (None, 3, "SURPRISE", "Processed")))
    for under in ({"list_lag": 1.5}, {"deleting": 5.0}, {"extra_fields": True}):
        yield Trial("lost-answer", "upload", under=under)
        yield Trial("lost-answer", "delete", under=under)


def deletes() -> Iterator[Trial]:
    """Yield 17, 25: deletions that lie, or take long."""
    yield Trial("keeps-document", "delete")
    yield Trial("miscounts", "deletion")
    yield from forms("slow", "delete", ({"seconds": 4}, {"seconds": 60}))


def trials() -> list[Trial]:
    """Return all of them, in a fixed order."""
    return all_trials(CALLS, (refusals, documents, faults_of_reads, deletes), BASE)
