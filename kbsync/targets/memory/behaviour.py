"""What a base in memory always does: how slowly it indexes, what it forgets, what it cannot read."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from kbsync.targets.memory.naming import EqualNames, NameStyle

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
    contract's word where the account is to blame.
    """

    match: Matcher
    times: int = 1
    reason: str = "the text of the document could not be read"
    code: str = "10001"
    halt: str = ""
    _struck: dict[tuple[str, str], int] = field(default_factory=dict, init=False)

    def strikes(self, subject: Subject) -> bool:
        """Whether indexing fails this time; counts it."""
        key = (subject.path, subject.digest)
        struck = self._struck.get(key, 0)
        if struck >= self.times or not is_meant(self.match, subject):
            return False
        self._struck[key] = struck + 1
        return True


@dataclass(frozen=True, slots=True)
class Flicker:
    """A document whose status says READY `after` times, INDEXING `looks` times, and READY from then on."""

    match: Matcher
    after: int = 1
    looks: int = 2


@dataclass(slots=True)
class Behaviour:
    """How a base behaves. Seconds are of the base's clock; the defaults are those of an honest, quick base.

    indexing_seconds, indexing_polls: a document is searchable when both are over; a poll is one `status`
        answer of INDEXING. Both 0: searchable when it is accepted.
    answers_ready: `put` says so when the document is searchable already.
    failures, flickers, stuck: documents that do not index, whose status flips, or stays INDEXING.
    list_lag, list_lag_reads: so long (seconds, and complete reads) the list lacks a new document and still
        has a deleted one.
    status_lag: so long (seconds) a new document's status is MISSING.
    never_says: a glob of names whose status stays INDEXING for ever, though they are searchable.
    stale_after_reembed: so long (seconds) an old failure is told after indexing was asked for again.
    capacity: how many documents can be searchable; one more fails for lack of room (halt `quota`) until it is
        indexed again with room for it.
    late_puts: so long (seconds) after its request an upload is stored whose answer was lost, by a fault with
        `effect` or by a crash in the phase EFFECT (which then comes before the work); 0: at once.
    equal_names: what a second document of one name meets; `replace` drops the first without a word.
    names: how names are stored, listed and given back.
    keeps_old_on_failure: a failed update in place leaves the old text searchable.
    updates_make_new_ids: an update makes a new document that drops the old one when it is searchable.
    refuses_unknown_replaces: an update of an unknown document is rejected, else it is a new document.
    tells_size, tells_created: the list says them.
    not_offered: the calls (`reembed`, `reslice`) that it answers with `NotOffered`.
    unreadable: a glob of names whose bytes it does not give back.
    pause: awaited with the name of the call at the start of each request, to be slow.
    """

    indexing_seconds: float = 0.0
    indexing_polls: int = 0
    answers_ready: bool = True
    failures: list[Failure] = field(default_factory=list)
    flickers: list[Flicker] = field(default_factory=list)
    stuck: Matcher | None = None
    list_lag: float = 0.0
    list_lag_reads: int = 0
    status_lag: float = 0.0
    never_says: str | None = None
    stale_after_reembed: float = 0.0
    capacity: int | None = None
    late_puts: float = 0.0
    equal_names: EqualNames = "allow"
    names: NameStyle | Callable[[str], str] = "as_sent"
    keeps_old_on_failure: bool = True
    updates_make_new_ids: bool = False
    refuses_unknown_replaces: bool = False
    tells_size: bool = True
    tells_created: bool = True
    not_offered: Collection[str] = ()
    unreadable: str | None = None
    pause: Callable[[str], Awaitable[None]] | None = None

    def failure_of(self, subject: Subject) -> Failure | None:
        """The failure that strikes `subject` this time; counts it."""
        return next((failure for failure in self.failures if failure.strikes(subject)), None)

    def is_stuck(self, subject: Subject) -> bool:
        """Whether `subject` never finishes indexing."""
        return self.stuck is not None and is_meant(self.stuck, subject)

    def is_silent_about(self, name: str) -> bool:
        """Whether the status of a document of this name never says that it is searchable."""
        return self.never_says is not None and fnmatchcase(name, self.never_says)

    def is_unreadable(self, name: str) -> bool:
        """Whether the bytes of a document of this name cannot be had."""
        return self.unreadable is not None and fnmatchcase(name, self.unreadable)

    def hides_readiness(self, subject: Subject, ready_looks: int) -> bool:
        """Whether the status of a ready `subject`, looked at `ready_looks` times before, says INDEXING."""
        meant = (flicker for flicker in self.flickers if is_meant(flicker.match, subject))
        return any(flicker.after <= ready_looks < flicker.after + flicker.looks for flicker in meant)
