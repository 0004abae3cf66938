"""Every fault of Open WebUI's stand-in on each operation that it can affect."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tests.remote.faults import Trial
from tests.torture.trials import Args, Calls, forms

OPS = ("upload", "list", "newest", "state", "cleanup", "base", "move", "rename", "make-folder", "folders")
CHANGES = ("upload", "cleanup", "move", "rename", "make-folder")
COPIES = ("status", "update", "link")
"""Calls for a file with the text of another one."""

CALLS = Calls(OPS, OPS, CHANGES, ("upload",))


def on_the_way() -> Iterator[Trial]:
    """Yield 1, 2, 4, 5, 6, 24, 30: connections, bodies and HTTP's temporary errors."""
    lost = ("lost-answer", "cut-body", "reset-reading", "headers-then-silence")
    yield from CALLS.on_each({kind: {} for kind in lost}, OPS)
    yield from CALLS.on_each({"status": {"status": 502}, "html": {}}, OPS)
    rare = (
        "cut-headers",
        "hang",
        "truncated-json",
        "empty",
        "bom",
        "wrong-type",
        "gzip",
        "no-date",
        "http10",
    )
    ends = ("connection-close", "keepalive-close")
    slow: dict[str, Args] = {"drip": {"every": 0.2}, "late-answer": {"seconds": 1.0}}
    large: dict[str, Args] = {"very-large-body": {"bytes": 40_000_000}}
    yield from CALLS.on_each({**{kind: {} for kind in (*rare, *ends)}, **slow, **large}, ("upload",))
    yield from (Trial(kind, "list") for kind in ("truncated-json", "empty", "gzip"))
    yield from (
        Trial(kind, "upload", effect=False) for kind in ("close-before", "reset-connect", "reset-sending")
    )
    yield Trial("slow-reading", "upload", {"bytes_per_second": 8000})
    yield from forms("late-effect", "upload", ({"after": 20}, {"after": 20, "hang": True}, {"after": 100}))
    yield from (Trial("late-effect", op, {"after": 20}) for op in ("cleanup", "move", "rename"))
    yield Trial("redirect", "upload", {"status": 307, "to": "http://127.0.0.1:1/"}, effect=False)


def refusals() -> Iterator[Trial]:
    """Yield 3, 7, 8, 12, 13, 14, 23: the server's own errors; a key and a base that disappear and return."""
    for op in OPS:
        yield Trial("status", op, {"status": 429}, effect=False)
        yield Trial("unauthorized", op)
    yield from (Trial("no-base", op) for op in ("list", "cleanup", "base", "make-folder", "folders"))
    yield Trial("refused", "upload", blames_document=True)
    yield Trial("busy-database", "upload")
    yield Trial("not-made", "make-folder")
    for status, detail in ((413, "too large"), (422, "no"), (400, "[ERROR: no]")):
        yield Trial("detail", "upload", {"status": status, "detail": detail}, blames_document=True)
    yield Trial("detail", "state", {"status": 500, "detail": "no"})
    yield Trial("detail", "cleanup", {"status": 403, "detail": "You do not have permission"})
    for op, form in itertools.product(("upload", "list", "newest", "state"), ("object", "nulls", "null")):
        yield Trial("shape", op, {"form": form})


def indexing() -> Iterator[Trial]:
    """Yield 9, 15, 16, 17, 18, 22: files that fail, and lists that lie."""
    yield from forms("fails", "upload", ({}, {"runs": 2}))
    yield from (Trial(kind, "upload") for kind in ("stuck", "unlinked", "no-id"))
    values: tuple[Args, ...] = tuple({"value": value} for value in (None, 3, [], "SURPRISE"))
    yield from forms("odd-status", "state", values)
    for under in ({}, {"page_size": 2}, {"extra_fields": True}, {"looks_late": False}):
        yield Trial("left-out", "list", under=under)
    yield Trial("empty-list", "list")
    yield from (Trial("keeps-document", "cleanup", times=times) for times in (1, 2))


def copies() -> Iterator[Trial]:
    """Yield failures of the calls that change a file whose text the base already has."""
    for op in COPIES:
        yield from (
            Trial(kind, op, effect=effect) for kind in ("lost-answer", "cut-body") for effect in (True, False)
        )
        yield Trial("status", op, {"status": 500}, effect=False)
    yield from (Trial("goes-on", op, {"seconds": seconds}) for op in ("update", "link") for seconds in (3, 0))


def trials() -> list[Trial]:
    """Return all of them, in a fixed order."""
    return [trial for table in (on_the_way, refusals, indexing, copies) for trial in table()]
