"""`kbsync status --watch`: the table kept up to date on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from kbsync.cli.paper import Paper
from kbsync.cli.screen import second_screen
from kbsync.cli.standing import Standing, standings
from kbsync.cli.table import print_table, print_wrong, speed
from kbsync.core.printable import printable
from kbsync.engine.status import iso
from kbsync.installation import Installation

EVERY = 1.0
RATE_OVER = 30.0
"""Seconds that a rate is the mean of."""

Sleep = Callable[[float], None]
Look = Callable[[], Sequence[Standing]]


def follow(installation: Installation, *, sleep: Sleep = time.sleep) -> None:
    """Until Ctrl-C."""
    paper = Paper()

    def look() -> Sequence[Standing]:
        return standings(installation)

    if paper.moves:
        _redraw(installation, look, sleep)
    else:
        for line in changes(look, sleep, time.time):
            paper.show(f"{line}\n")


def _redraw(installation: Installation, look: Look, sleep: Sleep) -> None:
    """The last frame stays on the first screen."""
    frame, rates = list[str](), Rates()
    try:
        with second_screen() as screen:
            while True:
                stand = look()
                frame = framed(installation, stand, rates.seen(stand, time.monotonic()))
                screen.show([*frame, "", Paper().dim("Ctrl-C ends")])
                sleep(EVERY)
    finally:
        for line in frame:
            Paper().line(line)


def framed(installation: Installation, stand: Sequence[Standing], notes: Sequence[str]) -> list[str]:
    """What is wrong, what only watching shows, then the table: what a screen has no room for is its end."""
    with closing(_Kept()) as kept:
        paper = Paper(kept)
        print_wrong(paper, installation, stand)
        for note in notes:
            paper.line(note)
        if notes:
            paper.line()
        print_table(paper, stand)
        return kept.getvalue().rstrip("\n").split("\n")


class _Kept(io.StringIO):
    """Is written to as the terminal would be."""

    def isatty(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class _Seen:
    at: float
    settled: int


class Rates:
    """How fast documents become searchable, seen over the last looks. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._seen: dict[str, list[_Seen]] = {}

    def seen(self, stand: Sequence[Standing], now: float) -> list[str]:
        """A line for each mirror at work."""
        return [line for each in stand if (line := self._line(each, now))]

    def _line(self, stand: Standing, now: float) -> str:
        documents, name = stand.status.documents, stand.status.name
        seen = self._seen.setdefault(name, [])
        seen.append(_Seen(now, documents.ready + documents.failed + documents.held))
        while now - seen[0].at > RATE_OVER:
            seen.pop(0)
        done, seconds = seen[-1].settled - seen[0].settled, now - seen[0].at
        return speed(stand, done / seconds) if seconds > 0 else ""


def changes(look: Look, sleep: Sleep, wall: Callable[[], float]) -> Iterator[str]:
    """A line for each mirror as it stands, then one whenever it stands otherwise. `wall`: epoch seconds."""
    before: dict[str, str] = {}
    while True:
        for each in look():
            line = told(each)
            if before.get(each.status.name) != line:
                before[each.status.name] = line
                yield f"{iso(wall())} {line}"
        sleep(EVERY)


def told(stand: Standing) -> str:
    """A mirror in one line."""
    status = stand.status
    counts = [f"{number:,} {word}" for word, number in status.documents.to_json().items() if number]
    halt = "" if status.halt is None else f"; {status.halt.reason}: {status.halt.detail}"
    cure = f"; cure: {status.halt.cure}" if status.halt is not None and status.halt.cure else ""
    return printable(f"{status.name}: {', '.join(counts) or 'no documents'}{halt}{cure}")
