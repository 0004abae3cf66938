"""Every fault of Dify's stand-in on each operation that it can affect."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from tests.remote.faults import Trial
from tests.torture.trials import Args, Calls, blaming, forms, on_the_way, passing, redirections

OPS = ("upload", "detail", "list", "delete", "base", "describe")
CALLS = Calls(OPS, OPS, changes=("upload", "delete"), uploads=("upload",))


def refusals() -> Iterator[Trial]:
    """Yield 3, 12, 23: too many requests; plans and keys that disappear in a run, and return."""
    for op in OPS:
        yield from (Trial("rate-limited", op, times=times) for times in (1, 3))
        yield Trial("status", op, {"status": 429}, effect=False)
        yield from (Trial("unauthorized", op, times=times) for times in (1, 3))
        yield Trial("not-found", op)
    yield Trial("documents-full", "upload")


def errors() -> Iterator[Trial]:
    """Yield 7, 8: errors in the body under any HTTP status."""
    unsure: tuple[Args, ...] = (
        {"status": 500, "code": "unknown", "message": "Internal Server Error"},
        {"status": 500, "code": "unknown", "http": 200},
    )
    for op in OPS:
        yield from forms("error", op, unsure)
        for code in ("completion_request_error", "provider_quota_exceeded"):
            yield Trial("error", op, {"code": code, "message": "no more words"})
        for code in ("invalid_param", "forbidden", "provider_not_initialize", "surprise"):
            yield Trial(
                "error", op, {"code": code, "message": "no more words"}, blames_document=op == "upload"
            )
        yield from forms("shape", op, ({"form": form} for form in ("object", "nulls", "null")))
    for op in CALLS.changes:
        yield from forms("error-after", op, unsure)


def uploads() -> Iterator[Trial]:
    """Yield 9, 15, 16, 17: documents that fail."""
    for name in ("new*", "changed*", "*"):
        yield from (Trial(kind, "upload", {"name": name}) for kind in ("fails", "stuck"))
        yield Trial("hidden", "upload", {"name": name}, blames_document=True)
    yield Trial("fails", "upload", {"error": "You exceeded your current quota"})
    yield from (Trial(kind, "upload") for kind in ("no-lock", "no-id"))
    yield Trial("other-name", "upload", twins=True)


def faults_of_reads() -> Iterator[Trial]:
    """Yield 17, 18, 22: lists and states that lie or lack fields."""
    values = (None, 3, True, [], {}, "surprise", "paused", "completed ")
    odd: tuple[Args, ...] = (
        *({"value": value} for value in values),
        *({"missing": True, "field": field} for field in ("indexing_status", "enabled", "archived")),
    )
    for op in ("list", "detail"):
        yield from forms("odd-status", op, odd)
    for name in ("new*", "changed*", "*"):
        yield Trial("left-out", "list", {"name": name})


def deletes() -> Iterator[Trial]:
    """Yield 17, 25: deletions that lie, and the responses of several versions."""
    for deleted in ("204", "number", "object"):
        yield Trial("keeps-document", "delete", under={"deleted": deleted})
        yield Trial("lost-answer", "delete", {}, under={"deleted": deleted}, times=2)
    yield Trial("lost-answer", "delete", {}, under={"indexing_deletion": "refused"}, times=2)


def files() -> Iterator[Trial]:
    """Yield 26: proofs of documents with plain names after a lost state."""
    lost = ("lost-answer", "cut-body", "hang", "truncated-json", "empty", "html", "bom", "gzip")
    unread = {"asking": "file", "twins": True}
    for op in ("file", "bytes"):
        yield from (Trial(kind, op, **unread) for kind in lost)
        yield from forms("status", op, ({"status": status} for status in (403, 404, 429, 503)), **unread)
    yield from forms("shape", "file", ({"form": form} for form in ("object", "nulls", "null")), twins=True)


def trials() -> list[Trial]:
    """Return all of them, in a fixed order."""
    tables = (refusals, errors, uploads, faults_of_reads, deletes, files)
    shared = (*on_the_way(CALLS), *passing(CALLS), *blaming(CALLS), *redirections(CALLS))
    adapted = [
        # Faults that cut or change a body need a response that has one.
        replace(trial, under={"deleted": "object"}) if trial.op == "delete" else trial
        for trial in shared
    ]
    return list(itertools.chain(adapted, *(table() for table in tables)))
