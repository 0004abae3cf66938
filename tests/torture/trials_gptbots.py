"""Every fault of GPTBots' stand-in on each operation that it can affect."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tests.remote.faults import Trial
from tests.torture.trials import WISHES, Args, Calls, all_trials, forms

OPS = ("add", "update", "status", "list", "delete", "base")
CALLS = Calls(OPS, OPS, changes=("add", "update", "delete"), uploads=("add", "update"))
BASE = "/v1/bot/knowledge/base/page"

NAMED = (("add", "new*"), ("update", "changed*"), ("update", "*"))
"""An operation and its affected files."""


def refusals() -> Iterator[Trial]:
    """Yield 3, 12, 23: too many requests; the key and the bot disappear in a run, and return."""
    for op in OPS:
        yield Trial("rate-limited", op)
        yield Trial("status", op, {"status": 429}, effect=False)
    for op, request in itertools.product(("add", "update", "list", "delete"), WISHES):
        yield Trial("rate-limited", op, {"retry_after": request})
    for op, times in itertools.product(OPS, (1, 3)):
        yield Trial("unauthorized", op, times=times)
        yield Trial("bot-deleted", op, times=times)


def codes() -> Iterator[Trial]:
    """Yield 7, 8: errors in the body under any HTTP status."""
    unsure: tuple[Args, ...] = ({}, {"as_string": True}, {"code": 77777}, {"code": 50000, "status": 500})
    for op in OPS:
        yield from forms("code", op, unsure)
        yield from forms("code", op, ({"code": 429}, {"code": 1, "message": "insufficient credits"}))
        for code in (40000, 40332, 41000):
            yield Trial("code", op, {"code": code}, blames_document=op in CALLS.uploads)
    for op in CALLS.changes:
        yield from forms("code-after", op, unsure)
    for op, form in itertools.product(OPS, ("object", "nulls", "null")):
        yield Trial("shape", op, {"form": form})


def uploads() -> Iterator[Trial]:
    """Yield 9, 15, 16, 17: wrong reports about a request's documents, and documents that fail."""
    for op, name in NAMED:
        for kind in ("failed-item", "refused-item"):
            yield Trial(kind, op, {"name": name}, blames_document=True)
        yield from (Trial(kind, op, {"name": name}) for kind in ("both-lists", "fails", "stuck"))
        yield from forms("neither-list", op, ({"name": name, "stored": stored} for stored in (True, False)))
    for op in CALLS.uploads:
        yield Trial("no-doc-id", op)
        yield Trial("fails", op, under={"stale_status": 20.0})
    yield Trial("other-name", "add")
    for kind, failed in itertools.product(
        ("failed-item", "both-lists"), ("objects", "ids", "null", "absent")
    ):
        yield from (Trial(kind, op, under={"failed": failed}, blames_document=True) for op in CALLS.uploads)


def faults_of_reads() -> Iterator[Trial]:
    """Yield 17, 18, 22: lists and states that lag, lie or lack fields."""
    odd: tuple[Args, ...] = (
        *({"value": value} for value in (None, 3, True, [], {}, "SURPRISE", "available ")),
        {"missing": True},
    )
    slow: tuple[Args, ...] = ({}, {"stale_status": 20.0}, {"marked_at": "swap"}, {"working": "SURPRISE"})
    for under in slow:
        yield from forms("odd-status", "status", odd, under=under)
    for name in ("new*", "changed*", "*"):
        yield Trial("left-out", "status", {"name": name})
    paged: tuple[Args, ...] = (
        *({"page_cap": 2, "page_beyond": beyond} for beyond in ("empty", "repeats")),
        *({"page_cap": 2, "order": order} for order in ("oldest", "shuffled")),
        *({"page_cap": 2, "total": total} for total in ("zero", "string", "missing")),
        *({"names": "bare"}, {"times": "ms"}, {"list_lag": 8.0}, {"extra_fields": True}, {"bases": "data"}),
    )
    for under in ({}, *paged):
        yield from forms("left-out", "list", ({"name": "changed*"}, {"name": "*"}), under=under)
        yield Trial("late-effect", "update", {"after": 5}, under=under)
    yield from forms("unmarked", "list", ({"name": "changed*"}, {"name": "changed*", "cut": True}))


def deletes() -> Iterator[Trial]:
    """Yield 17, 25: deletions that lie."""
    for under in ({}, {"unknown_ids": "refused"}, {"list_lag": 20.0}):
        yield Trial("keeps-document", "delete", under=under)
        yield Trial("lost-answer", "delete", {}, under=under, times=2)


def trials() -> list[Trial]:
    """Return all of them, in a fixed order."""
    return all_trials(CALLS, (refusals, codes, uploads, faults_of_reads, deletes), BASE)
