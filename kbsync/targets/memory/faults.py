"""What goes wrong at a base in memory, once or a few times, by script."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kbsync.targets.memory.behaviour import Matcher, Subject, is_meant


class Phase(enum.StrEnum):
    """Where in a request we are: nothing done, one document's work just done, all done but not answered."""

    START = "start"
    EFFECT = "effect"
    ANSWER = "answer"


class Crash(BaseException):
    """The client dies here, as if killed. Not an `Exception`, so that nothing catches it on the way."""


Blow = BaseException | Callable[[], BaseException]
"""What is raised: an exception, or what makes a fresh one each time."""


@dataclass(slots=True, eq=False)
class Fault:
    """Something that goes wrong with a call.

    op: `put`, `status`, `delete`, `list`, `base`, `rename`, `reembed`, `reslice`, `digest`, `is_searchable`
        or `search`.
    error: what the client gets. A `put` or `delete` with `match` gives it to that document alone as its
        outcome; without `match` the whole request raises it. What is no `TargetError` is always raised.
    nth: the first matching request (or document, where `match` picks one) to strike, from 1. Without it:
        the next one that no earlier fault in the script struck.
    times: how often it strikes.
    effect: the work is done before the fault; else it is not done.
    late: the work is done so many seconds of the base's clock after the request.
    lie: the work is not done and the answer says it was. A list ends early and looks complete, a search
        finds nothing, no bytes can be had, and every status is UNKNOWN.
    hang: waited for before the answer (and before the work unless `effect`).
    rows: a list gives out so many rows before the fault.
    """

    op: str
    error: Blow | None = None
    nth: int | None = None
    match: Matcher | None = None
    times: int = 1
    effect: bool = False
    late: float | None = None
    lie: bool = False
    hang: asyncio.Event | None = None
    rows: int = 0
    seen: int = field(default=0, init=False)
    struck: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.error is None and self.hang is None and self.late is None and not self.lie:
            raise ValueError("a fault needs an error, a hang, a late effect or a lie")
        if self.effect and (self.lie or self.late is not None):
            raise ValueError("a fault with the effect done is neither late nor a lie")

    @property
    def is_due(self) -> bool:
        """Whether it strikes the match just counted."""
        return self.struck < self.times and self.seen >= (self.nth or 1)

    @property
    def shortens(self) -> bool:
        """Whether a list ends before its end."""
        return self.error is not None or self.lie

    async def strike(self) -> None:
        """Hang, and raise the error if there is one."""
        if self.hang is not None:
            await self.hang.wait()
        if self.error is not None:
            raise self.error if isinstance(self.error, BaseException) else self.error()

    def means_any(self, subjects: Iterable[Subject]) -> bool:
        """Whether it concerns a request about `subjects`."""
        match = self.match
        return match is None or any(is_meant(match, subject) for subject in subjects)


def pick(faults: Iterable[Fault], op: str, concerns: Callable[[Fault], bool]) -> Fault | None:
    """The fault that strikes this call of `op`, or None; counts the call with each fault it concerns."""
    chosen: Fault | None = None
    for fault in faults:
        if fault.op != op or not concerns(fault):
            continue
        fault.seen += 1
        if chosen is None and fault.is_due:
            fault.struck += 1
            chosen = fault
    return chosen
