"""Every fault of OpenAI's stand-in on each operation that it can affect."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tests.remote.faults import Trial
from tests.torture.trials import WISHES, Args, Calls, all_trials, forms

CHANGES = ("upload", "attach", "delete")
OPS = ("base", "status", "list", *CHANGES)
CALLS = Calls(OPS, OPS, changes=CHANGES, uploads=("upload", "attach"))
BESIDE = ("files", "rename", "delete-file")
"""Calls with only a few faults: they are sent like those above."""
SLOW: Args = {"list_lag": 8.0}
OGX: Args = {"dialect": "ogx"}


def refusals() -> Iterator[Trial]:
    """Yield 3, 12, 28: too many requests; key, rights and money disappear in a run, and return."""
    for op in OPS:
        yield Trial("rate-limited", op)
        yield Trial("status", op, {"status": 429}, effect=False)
    for op, request in itertools.product(("upload", "attach", "list"), WISHES):
        yield Trial("rate-limited", op, {"retry_after": request})
    for op, kind in itertools.product(OPS, ("unauthorized", "no-rights", "no-quota")):
        yield Trial(kind, op)
    for kind in ("unauthorized", "no-quota"):
        yield Trial(kind, "attach", times=3)


def errors() -> Iterator[Trial]:
    """Yield 7, 8: errors in the body under any HTTP status."""
    for op in OPS:
        yield Trial("error", op, {"bare": True, "message": "try again"})
        yield Trial("error", op, {"status": 500, "type": "server_error"})
    for op in CALLS.uploads:
        yield Trial("error", op, {"message": "this file is refused"}, blames_document=True)
    for op in (*CHANGES, *BESIDE):
        yield from (Trial("lost-answer", op, effect=effect) for effect in (True, False) if op in BESIDE)
        yield Trial("error-after", op, {"status": 500, "type": "server_error"})
    for op, form in itertools.product((*OPS, *BESIDE), ("object", "nulls", "null")):
        yield Trial("shape", op, {"form": form})


def uploads() -> Iterator[Trial]:
    """Yield 15, 16, 17: files that fail between upload and index."""
    yield Trial("no-id", "upload")
    for kind in ("fails", "stuck"):
        yield Trial(kind, "attach")
        yield Trial(kind, "attach", times=2)
    for under in (SLOW, OGX):
        yield Trial("fails", "attach", under=under)
        yield Trial("lost-answer", "attach", under=under)
        yield Trial("late-effect", "attach", {"after": 5}, under=under)
        yield Trial("lost-answer", "upload", under=under)


def faults_of_reads() -> Iterator[Trial]:
    """Yield 17, 18, 22: lists and states that lag, lie or lack fields."""
    odd: tuple[Args, ...] = (
        *({"value": value} for value in (None, 3, True, [], "SURPRISE", "cancelled")),
        {"missing": True},
    )
    for op in ("status", "list"):
        yield from forms("odd-status", op, odd)
    for under in ({}, SLOW, OGX, {"extra_fields": True}):
        names: tuple[Args, ...] = ({"name": "changed*"}, {"name": "*"})
        yield from forms("left-out", "list", names, under=under, twins=True)
    yield Trial("unmarked", "list", {"name": "changed*"}, twins=True)


def deletes() -> Iterator[Trial]:
    """Yield 17, 25: deletions that lie."""
    for under in ({}, SLOW, OGX):
        yield Trial("keeps-document", "delete", under=under)
        yield Trial("lost-answer", "delete", under=under, times=2)
        for op in ("delete", "delete-file"):
            yield Trial("not-deleted", op, under=under)


def trials() -> list[Trial]:
    """Return all of them, in a fixed order."""
    return all_trials(CALLS, (refusals, errors, uploads, faults_of_reads, deletes))
