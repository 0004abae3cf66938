"""The constant behaviours of a base in memory, and its scripted faults."""

from __future__ import annotations

import asyncio
import enum
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

EqualNames = Literal["allow", "refuse", "replace"]
"""What a second document of one name meets: a place beside the first, a refusal, or the first one's place."""

FOREVER = sys.maxsize
"""As a number of times: it never ends."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The document a request is about. `remote_id` is None while it has none; the rest is "" if unknown."""

    remote_id: str | None
    name: str = ""
    path: str = ""
    digest: str = ""


Matcher = str | Callable[[Subject], bool]
"""Which documents are meant: a name, path, digest or remote id, or a question asked of the subject."""


def is_meant(matcher: Matcher, subject: Subject) -> bool:
    """Whether `matcher` means `subject`."""
    if isinstance(matcher, str):
        return matcher in (subject.name, subject.path, subject.digest, subject.remote_id)
    return matcher(subject)


@dataclass(slots=True)
class Failure:
    """Documents that fail to index: `times` times each (path and bytes), then they succeed.

    A second upload of the same bytes under the same path counts on, as does a re-embed. `halt` is the
    contract's word where the account is to blame, `twin` the id of the document that has the same text.
    """

    match: Matcher
    times: int = 1
    reason: str = "the text of the document could not be read"
    code: str = "10001"
    halt: str = ""
    twin: str = ""
    _struck: dict[tuple[str, str], int] = field(default_factory=dict, init=False)

    def strikes(self, subject: Subject) -> bool:
        """Whether indexing fails this time; counts it."""
        key = (subject.path, subject.digest)
        struck = self._struck.get(key, 0)
        if struck >= self.times or not is_meant(self.match, subject):
            return False
        self._struck[key] = struck + 1
        return True


@dataclass(slots=True)
class Behaviour:
    """How a base behaves. Seconds are of the base's clock; the defaults are those of an honest, quick base.

    indexing_seconds, indexing_polls: a document is searchable when both are over; a poll is one `status`
        answer of INDEXING. Both 0: searchable when it is accepted.
    one_at_a_time: the next document is indexed when the one before is through.
    answers_ready: `put` says so when the document is searchable already.
    failures: documents that do not index.
    list_lag: so long (seconds) the list lacks a new document and still has a deleted one.
    never_says: a glob of names whose status stays INDEXING for ever, though they are searchable.
    stale_after_reembed: so long (seconds) an old failure is told after indexing was asked for again.
    capacity: how many documents can be searchable; one more fails for lack of room (halt `quota`) until it is
        indexed again with room for it.
    late_puts: so long (seconds) after its request an upload is stored whose answer was lost, by a fault with
        `effect` or by a crash in the phase EFFECT (which then comes before the work); 0: at once.
    equal_names: what a second document of one name meets; `replace` drops the first without a word.
    decomposes_names: they are stored, listed and given back in Unicode's form D.
    updates_make_new_ids: an update makes a new document that drops the old one when it is searchable.
    tells_created: the list says it.
    not_offered: the calls (`reembed`, `reslice`) that it answers with `NotOffered`.
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
        """The failure that strikes `subject` this time; counts it."""
        return next((failure for failure in self.failures if failure.strikes(subject)), None)

    def is_silent_about(self, name: str) -> bool:
        """Whether the status of a document of this name never says that it is searchable."""
        return self.never_says is not None and fnmatchcase(name, self.never_says)


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
