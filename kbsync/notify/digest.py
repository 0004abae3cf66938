"""What there is to tell, gathered: the last word on a halt, many failures as one, none too often. Pure.

Times are monotonic seconds; `at`, when something happened, is in epoch seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from kbsync.config.model import Occasion
from kbsync.notify.notice import Mishap, Notice
from kbsync.state.mirrors import Halt

GATHER = 5.0
"""Seconds from the first failure to its notice: a pass may have many."""

EVERY, SELDOM = 60.0, 3600.0
"""Seconds between two notices of one mirror and kind; up to the latter where they cannot be delivered."""

NAMED = 20
"""Documents a notice names; it counts the others."""


@dataclass(slots=True)
class _Pacer:
    """When the next notice of one kind may go."""

    not_before: float = float("-inf")
    failures: int = 0

    def went(self, now: float, *, well: bool) -> None:
        self.failures = 0 if well else self.failures + 1
        self.not_before = now + min(SELDOM, EVERY * 2.0**self.failures)


@dataclass(slots=True)
class _Page:
    """One mirror. `shown`: its halt as it is, `told`: as it was told last.

    `shown_at`: since when it is so, `failed_at`: when the last document failed, both in epoch seconds.
    """

    cure: str = ""
    shown: Halt | None = None
    shown_at: float = 0.0
    told: Halt | None = None
    halts: _Pacer = field(default_factory=_Pacer)
    documents: list[Mishap] = field(default_factory=list)
    count: int = 0
    failed_at: float = 0.0
    failures: _Pacer = field(default_factory=_Pacer)


class Digest:
    """What was seen of the mirrors of one daemon, and what of it is still to be told."""

    def __init__(self) -> None:
        self._pages: dict[str, _Page] = {}

    def keep_only(self, mirrors: Collection[str]) -> None:
        """The others are not there any more."""
        self._pages = {name: page for name, page in self._pages.items() if name in mirrors}

    def halt_seen(self, mirror: str, halt: Halt | None, at: float) -> None:
        """How the mirror stands `at` these epoch seconds; the same again is no news."""
        page = self._page(mirror)
        if _differ(page.shown, halt):
            page.shown_at = at
        page.shown = halt

    def failed(self, mirror: str, mishap: Mishap, cure: str, now: float, at: float) -> None:
        """A document went into quarantine, `at` epoch seconds. `cure`: what tries all of them again."""
        page = self._page(mirror)
        page.cure, page.failed_at = cure, at
        page.count += 1
        if page.count == 1:
            page.failures.not_before = max(page.failures.not_before, now + GATHER)
        if len(page.documents) < NAMED:
            page.documents.append(mishap)

    def due(self, now: float, on: Collection[Occasion]) -> list[Notice]:
        """What may be told now, of the occasions asked for."""
        return [notice for notice in self._due(now) if notice.event in on]

    def told(self, notice: Notice, now: float, *, well: bool) -> None:
        """The notice was sent; where that did not go `well` it comes again, ever later."""
        page = self._page(notice.mirror)
        if notice.event == "quarantined":
            page.failures.went(now, well=well)
            if well:
                page.count -= notice.count
                page.documents = page.documents[len(notice.documents) :]
            return
        page.halts.went(now, well=well)
        if well:
            page.told = _halt_in(notice)

    def _page(self, mirror: str) -> _Page:
        return self._pages.setdefault(mirror, _Page())

    def _due(self, now: float) -> Iterator[Notice]:
        for name, page in self._pages.items():
            if _differ(page.shown, page.told) and now >= page.halts.not_before:
                yield _of_halt(name, page)
            if page.count and now >= page.failures.not_before:
                documents = tuple(page.documents)
                yield Notice("quarantined", name, page.failed_at, "", "", page.cure, page.count, documents)


def _of_halt(mirror: str, page: _Page) -> Notice:
    """Of a halt that is over only the reason: its detail would tell a person to do what is done."""
    at = page.shown_at
    if page.shown is not None:
        return Notice("halted", mirror, at, page.shown.reason, page.shown.detail, page.shown.cure)
    assert page.told is not None
    return Notice("recovered", mirror, at, page.told.reason)


def _halt_in(notice: Notice) -> Halt | None:
    return Halt(notice.reason, notice.detail, notice.cure) if notice.event == "halted" else None


def _differ(one: Halt | None, other: Halt | None) -> bool:
    """Another number of documents in the detail of the same halt is no news."""
    return (one.reason if one else "") != (other.reason if other else "")
