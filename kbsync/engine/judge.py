"""What a look at one file means: skip it, wait for it, or read it. Runs in threads; touches no rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kbsync.core.model import NO_STAMP, Choice, Kind, Stamp, Verdict
from kbsync.core.select import Rules, person_part
from kbsync.core.settle import is_old_enough
from kbsync.engine.clock import Clock
from kbsync.engine.ledger import Seen
from kbsync.engine.terms import Terms
from kbsync.source.reader import Sample, Taken, Trouble, Unreadable, Unstable, digest, forced_take
from kbsync.source.spool import Spooled
from kbsync.state.entries import Entry

RACY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Sight:
    """One file as a scan or a look found it, with the rules of its directory.

    `version`: under which rules its directory was stored before ('' for a new one). `quiet`: it was
    watched for a settle and did not change. `forced`: it never got quiet and the longest wait is over.
    """

    path: str
    stamp: Stamp
    kind: Kind
    links: int
    rules: Rules
    version: str = ""
    quiet: bool = False
    forced: bool = False
    fresh: bool = False
    sample: Sample | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now: it is being written, or may be. `busy`: even the longest wait did not help.

    `wanted`: the rules take it as it is now.
    """

    path: str
    stamp: Stamp
    busy: bool = False
    sample: Sample | None = None
    wanted: bool = True


Judgement = Seen | Wait | None
"""None: nothing is there any more; the next look finds that out properly."""


class Judge:
    """Judges files of one mirror.

    `former(ino, digest)` gives stored files that this one may be renamed. `keep` gets the bytes of a
    file that never gets quiet: by the time they are sent the file holds others.
    """

    def __init__(
        self,
        terms: Terms,
        clock: Clock,
        former: Callable[[int, str], list[Entry]],
        keep: Callable[[str, Spooled], None],
    ) -> None:
        self._terms = terms
        self._clock = clock
        self._former = former
        self._keep = keep

    def judge(
        self, sight: Sight, known: Entry | None, *, deep: bool = False, awaited: bool = False
    ) -> Judgement:
        """What this sight of a file means, given what is known of it.

        `deep`: read it in any case. `awaited`: its quiet is waited for already.
        """
        if sight.stamp == NO_STAMP:
            return Seen(sight.path, sight.stamp, problem="cannot be looked at; check its permissions")
        verdict = sight.rules.verdict(sight.path, sight.stamp.size, sight.kind)
        if verdict.choice is not Choice.SELECTED:
            return self._unselected(sight, verdict, known, awaited)
        if known is not None and known.digest and known.stamp == sight.stamp and not (deep or known.racy):
            return Seen(sight.path, sight.stamp, verdict, digest=known.digest, fresh=sight.fresh)
        if not (self._is_quiet(sight) or sight.forced):
            return Wait(sight.path, sight.stamp)
        return self._read(sight, verdict, known)

    def _unselected(self, sight: Sight, verdict: Verdict, known: Entry | None, awaited: bool) -> Judgement:
        had_content = awaited or (known is not None and known.digest is not None)
        emptied = had_content and sight.kind is Kind.FILE and sight.stamp.size == 0
        if emptied and not self._is_quiet(sight):
            # Also when its longest wait is over: a moment without bytes tells nothing of what is written.
            return Wait(sight.path, sight.stamp, busy=sight.forced, wanted=False)
        return Seen(sight.path, sight.stamp, verdict, by_person=by_person(sight, known), fresh=sight.fresh)

    def _is_quiet(self, sight: Sight) -> bool:
        return sight.quiet or is_old_enough(sight.stamp, self._clock.wall(), self._terms.plan.settle)

    def _read(self, sight: Sight, verdict: Verdict, known: Entry | None) -> Judgement:
        if self._is_quiet(sight):
            taken = digest(self._terms.plan.root, sight.path, sight.stamp)
        else:
            taken = self._forced(sight)
        match taken:
            case Taken():
                return self._taken(sight, verdict, taken, known)
            case Unreadable(reason):
                return Seen(sight.path, sight.stamp, problem=reason)
            case Unstable():
                return Wait(sight.path, sight.stamp, busy=sight.forced, sample=taken.sample)
            case _:
                return None

    def _forced(self, sight: Sight) -> Taken | Trouble:
        terms = self._terms
        copy = forced_take(terms.plan.root, sight.path, terms.spool_dir, sight.sample)
        if not isinstance(copy, Spooled):
            return copy
        self._keep(sight.path, copy)
        return Taken(copy.digest, copy.stamp)

    def _taken(self, sight: Sight, verdict: Verdict, taken: Taken, known: Entry | None) -> Seen:
        renamed_from = None
        if (known is None or known.digest is None) and sight.links == 1:
            former = self._former(taken.stamp.ino, taken.digest)
            renamed_from = former[0].path if former else None
        return Seen(
            sight.path,
            taken.stamp,
            verdict,
            digest=taken.digest,
            racy=taken.stamp.newest >= self._clock.wall() - RACY_SECONDS,
            fresh=sight.fresh,
            renamed_from=renamed_from,
        )


def by_person(sight: Sight, known: Entry | None) -> bool:
    """Whether this deselection counts as a person's."""
    if known is None or not sight.version:
        return True
    if known.verdict.choice is not Choice.SELECTED:
        return known.by_person
    return is_by_person(sight.version, sight.rules.version)


def is_by_person(before: str, now: str) -> bool:
    """A change of rules is a person's unless only the program's own part of them differs."""
    return before == now or not before or person_part(before) != person_part(now)
