"""The permanent properties of an in-memory base, and its scripted faults."""

from __future__ import annotations

import asyncio
import enum
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

EqualNames = Literal["allow", "refuse", "replace"]
"""Whether a second document of one name is stored next to the first, refused, or replaces it."""

FOREVER = sys.maxsize
"""A number of times without end."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The document that a request is about. `remote_id` is None while it has none; other fields are "" if
    unknown.
    """

    remote_id: str | None
    name: str = ""
    path: str = ""
    digest: str = ""


Matcher = str | Callable[[Subject], bool]
"""The documents that a rule applies to: a name, path, digest or remote id, or a predicate."""


def is_meant(matcher: Matcher, subject: Subject) -> bool:
    """Return whether `matcher` applies to `subject`."""
    if isinstance(matcher, str):
        return matcher in (subject.name, subject.path, subject.digest, subject.remote_id)
    return matcher(subject)


@dataclass(slots=True)
class Failure:
    """Documents that fail to index: `times` times each (path and bytes), then they succeed.

    A second upload of the same bytes under the same path continues the count, as does a re-embed. `halt` is
    the contract's word if the account or the model is to blame, `twin` the id of the document that has the
    same text.
    """

    match: Matcher
    times: int = 1
    reason: str = "the text of the document could not be read"
    code: str = "10001"
    halt: str = ""
    twin: str = ""
    _struck: dict[tuple[str, str], int] = field(default_factory=dict, init=False)

    def strikes(self, subject: Subject) -> bool:
        """Count an indexing run and return whether it fails."""
        key = (subject.path, subject.digest)
        struck = self._struck.get(key, 0)
        if struck >= self.times or not is_meant(self.match, subject):
            return False
        self._struck[key] = struck + 1
        return True


@dataclass(slots=True)
class Behaviour:
    """The permanent properties of a base, in seconds of its clock; by default it is honest and quick.

    indexing_seconds, indexing_polls: a document is searchable when both are over; a poll is one `status`
    response of INDEXING. Both 0: searchable when it is accepted.
    one_at_a_time: a document is indexed when the one before has finished.
    answers_ready: `put` reports documents that are searchable already.
    failures: documents that fail to index.
    list_lag: for this time the list misses a new document and still has a deleted one.
    never_says: a glob of names whose status stays INDEXING although they are searchable.
    stale_after_reembed: for this time an old failure is reported after a new attempt was requested.
    capacity: the most searchable documents; one more fails (halt `quota`) until it is indexed again with room
        for it.
    late_puts: for this time after its request an upload isn't stored yet, if its response was lost by a fault
        with `effect` or by a crash in the phase EFFECT (which then comes before the work); 0: it is stored at
        once.
    equal_names: how a second document of one name is treated; `replace` silently drops the first.
    decomposes_names: names are stored, listed and returned in Unicode's form D.
    updates_make_new_ids: an update creates a new document that drops the old one when it is searchable.
    tells_created: the list contains creation times.
    not_offered: the calls (`reembed`, `reslice`) that raise `NotOffered`.
    """

    indexing_seconds: float = 0.0
    indexing_polls: int = 0
    one_at_a_time: bool = False
    answers_ready: bool = True
    failures: list[Failure] = field(default_factory=list)
    list_lag: float = 0.0
    never_says: str | None = None
    stale_after_reembed: float = 0.0
    capacity: int | None = None
    late_puts: float = 0.0
    equal_names: EqualNames = "allow"
    decomposes_names: bool = False
    updates_make_new_ids: bool = False
    tells_created: bool = True
    not_offered: Collection[str] = ()

    def failure_of(self, subject: Subject) -> Failure | None:
        """Return the failure that applies to `subject` this time, and count it."""
        return next((failure for failure in self.failures if failure.strikes(subject)), None)

    def is_silent_about(self, name: str) -> bool:
        """Return whether the status of a document of this name never becomes READY."""
        return self.never_says is not None and fnmatchcase(name, self.never_says)


class Phase(enum.StrEnum):
    """The progress of a request: nothing done, one document's work just done, all done but not answered."""

    START = "start"
    EFFECT = "effect"
    ANSWER = "answer"


class Crash(BaseException):
    """The client dies here, as if killed. Not an `Exception`, so that no handler catches it on the way."""


Blow = BaseException | Callable[[], BaseException]
"""An exception to raise, or a function that creates one each time."""


@dataclass(slots=True, eq=False)
class Fault:
    """A call that goes wrong.

    op: `put`, `status`, `delete`, `list`, `base`, `rename`, `reembed`, `reslice`, `digest`, `is_searchable`
        or `search`.
    error: what the client gets. A `put` or `delete` with `match` gives it to that document alone as its
        outcome; without `match` the whole request raises it. An error that isn't a `TargetError` is always
        raised.
    nth: the first matching request (or document, if `match` selects one) to fail, counted from 1. By default
        the next one that no earlier fault in the script affects.
    times: how many times it applies.
    effect: the work is done before the fault; otherwise it isn't done.
    late: the work is done after this many seconds of the base's clock.
    is_false: the response claims work that isn't done. A list ends early and looks complete, a search finds
        nothing, no bytes are returned, and every status is UNKNOWN.
    hang: awaited before the response (and before the work unless `effect`).
    rows: the list returns this many rows before the fault.
    """

    op: str
    error: Blow | None = None
    nth: int | None = None
    match: Matcher | None = None
    times: int = 1
    effect: bool = False
    late: float | None = None
    is_false: bool = False
    hang: asyncio.Event | None = None
    rows: int = 0
    match_count: int = field(default=0, init=False)
    struck: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.error is None and self.hang is None and self.late is None and not self.is_false:
            raise ValueError("a fault needs an error, a hang, a late effect or a lie")
        if self.effect and (self.is_false or self.late is not None):
            raise ValueError("a fault with the effect done is neither late nor a lie")

    @property
    def is_due(self) -> bool:
        """Whether it applies to the match just counted."""
        return self.struck < self.times and self.match_count >= (self.nth or 1)

    @property
    def shortens(self) -> bool:
        """Whether a list ends early."""
        return self.error is not None or self.is_false

    async def strike(self) -> None:
        """Hang, and raise the error if there is one."""
        if self.hang is not None:
            await self.hang.wait()
        if self.error is not None:
            raise self.error if isinstance(self.error, BaseException) else self.error()

    def means_any(self, subjects: Iterable[Subject]) -> bool:
        """Return whether the fault concerns a request about `subjects`."""
        match = self.match
        return match is None or any(is_meant(match, subject) for subject in subjects)


def pick(faults: Iterable[Fault], op: str, concerns: Callable[[Fault], bool]) -> Fault | None:
    """Return the fault that applies to this call of `op`, or None; count the call for each fault that it
    matches.
    """
    chosen: Fault | None = None
    for fault in faults:
        if fault.op != op or not concerns(fault):
            continue
        fault.match_count += 1
        if chosen is None and fault.is_due:
            fault.struck += 1
            chosen = fault
    return chosen
