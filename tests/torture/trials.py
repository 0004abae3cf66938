"""The trials of every service: each fault on each of its operations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.remote.faults import Trial

Args = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Calls:
    """The operations of a service: all, those with JSON, those that change something, and uploads."""

    all: tuple[str, ...]
    api: tuple[str, ...]
    changes: tuple[str, ...]
    uploads: tuple[str, ...]

    def on_each(self, kinds: Mapping[str, Args], ops: Iterable[str], **more: Any) -> Iterator[Trial]:
        """Yield every kind on every operation; for changes, with the work done and not done."""
        for (kind, args), op in itertools.product(kinds.items(), ops):
            for effect in (True, False) if op in self.changes else (True,):
                yield Trial(kind, op, args, effect, **more)


def forms(kind: str, op: str, args: Iterable[Args], **more: Any) -> Iterator[Trial]:
    """Yield one kind on one operation with each of `args`."""
    for values in args:
        yield Trial(kind, op, values, **more)


def on_the_way(calls: Calls) -> Iterator[Trial]:
    """Yield 1, 4, 5, 6, 24, 30: connections and bodies."""
    lost = ("lost-answer", "cut-headers", "cut-body", "reset-reading", "hang", "headers-then-silence")
    bodies = ("truncated-json", "empty", "html", "bom", "wrong-type", "gzip", "no-date")
    ends = ("http10", "connection-close", "keepalive-close")
    yield from calls.on_each({kind: {} for kind in (*lost, *ends)}, calls.all)
    yield from calls.on_each({kind: {} for kind in bodies}, calls.api)
    yield from calls.on_each({"drip": {"every": 0.2}, "late-answer": {"seconds": 1.0}}, calls.all)
    yield from calls.on_each({"very-large-body": {"bytes": 40_000_000}}, calls.api)
    for op in calls.all:
        for kind in ("close-before", "reset-connect", "reset-sending"):
            yield Trial(kind, op, effect=False)
        yield Trial("keepalive-close", op, {"on_next": True})
    for op in calls.uploads:
        yield from forms("slow-reading", op, ({"bytes_per_second": 1000}, {"bytes_per_second": 8000}))
    for op, args in itertools.product(
        calls.changes, ({"after": 20}, {"after": 20, "hang": True}, {"after": 100})
    ):
        yield Trial("late-effect", op, args)


def passing(calls: Calls) -> Iterator[Trial]:
    """Yield 2: HTTP's temporary errors."""
    for status in (500, 502, 503, 504):
        yield from calls.on_each({"status": {"status": status}}, calls.all)
    for status, op in itertools.product((403, 408, 425), calls.all):
        yield Trial("status", op, {"status": status}, effect=False)


WISHES = (5, 0, "date", "huge", "soon", "-5", "Wed, 21 Oct 2015 07:28:00 GMT")
"""The values of `Retry-After`."""


def blaming(calls: Calls) -> Iterator[Trial]:
    """Yield 13, 14: HTTP errors about a document, and about a call."""
    for status, op in itertools.product((400, 411, 413, 415, 422, 435), calls.uploads):
        yield Trial("status", op, {"status": status}, effect=False, blames_document=True)
    for status, op in itertools.product((404, 405, 501), calls.all):
        yield Trial("status", op, {"status": status}, effect=False, blames_document=op in calls.uploads)


def redirections(calls: Calls, base: str = "") -> Iterator[Trial]:
    """Yield 29: redirects to places that must get no data, and to the path `base` of the same origin."""
    for status, op in itertools.product((301, 302, 303, 307, 308), calls.all):
        for effect in (True, False) if op in calls.changes else (True,):
            yield Trial("redirect", op, {"status": status, "to": "http://127.0.0.1:1/"}, effect)
    if base:
        yield Trial("redirect", "base", {"status": 307, "to": f"HERE{base}"})


def all_trials(calls: Calls, tables: Iterable[Callable[[], Iterator[Trial]]], base: str = "") -> list[Trial]:
    """Return the trials of every service, then those of a service's own tables, in a fixed order."""
    shared = (*on_the_way(calls), *passing(calls), *blaming(calls), *redirections(calls, base))
    return [*shared, *(trial for table in tables for trial in table())]
