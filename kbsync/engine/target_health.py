"""What a worker currently knows about its target: halted, down, to blame, or well.

A problem of one document concerns only that document (promise 9). This module decides when it is the target's
problem: then no further document is tried until a person, or time, has fixed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kbsync.contract.target import PutOutcome
from kbsync.core.model import Upload
from kbsync.engine.clock import bug_in_words, pause_after
from kbsync.engine.journal import Happened
from kbsync.engine.status import TARGET_STUCK
from kbsync.errors import Halted, NameTaken, Rejected, TargetError, Unavailable, Unfit, Unsure

BLAME_LIMIT = 5
"""Documents refused in a row for one reason, with none accepted between: then the target is to blame."""
DONE = ("document.ready", "document.renamed")
STATE_PAUSE = 5.0
LONGEST_PAUSE = 60.0


MANY_FAILURES = 3


@dataclass
class InternalErrors:
    """Errors of kbsync itself, in a row: of whole rounds, and of single jobs while others may succeed."""

    rounds: int = 0
    jobs: int = 0
    reason: str = ""

    @property
    def lasting(self) -> str:
        """What to report once they do not go away by themselves; '' until then."""
        return self.reason if max(self.rounds, self.jobs) >= MANY_FAILURES else ""

    def note(self, error: Exception, *, of_round: bool) -> float:
        """Count one more; returns the seconds to pause."""
        self.rounds += of_round
        self.jobs += not of_round
        self.reason = bug_in_words(error)
        # One document that always fails delays the others no longer than that (promise 9).
        return pause_after(self.rounds) if of_round else min(STATE_PAUSE, pause_after(self.jobs))


@dataclass
class TargetHealth:
    """Steady seconds throughout. Nothing is sent before `not_before`; nothing at all while `halted`.

    `unanswered`: documents whose uploads got no answer since the target accepted one. `is_proven`: since the
    work resumed the target has accepted or finished a document. If it accepts documents but does not finish
    them, only one that becomes ready proves anything: `is_full`, the account had no room to index;
    `is_stuck`, no document ever finished.
    """

    halted: Halted | None = None
    down_since: float | None = None
    not_before: float = 0.0
    trouble: str = ""
    state_error: str = ""
    is_proven: bool = False
    is_full: bool = False
    is_stuck: bool = False
    failures: InternalErrors = field(default_factory=InternalErrors)
    blamed: list[str] = field(default_factory=list)
    unanswered: set[str] = field(default_factory=set)
    _blamed_code: str = ""

    def taken_up(self) -> TargetHealth:
        """Resume to check whether the cause of a halt is gone: one more of the same errors halts again."""
        # One more refusal is enough: a check costs one document, not five again.
        counted = [""] * max(0, len(self.blamed) - 1)
        is_stuck = self.is_stuck or (self.halted is not None and self.halted.halt == TARGET_STUCK)
        return TargetHealth(
            is_full=self.is_full, is_stuck=is_stuck, blamed=counted, _blamed_code=self._blamed_code
        )

    def state_failed(self, reason: str, now: float) -> bool:
        """Record that the journal cannot be written; True if that is news."""
        is_news = reason != self.state_error
        self.state_error = reason
        self.not_before = now + STATE_PAUSE
        return is_news

    def answered(self, errors: Sequence[TargetError], asked: int, now: float) -> Halted | None:
        """A request about `asked` documents ended with these errors; returns the halt to report.

        If all failed through no fault of theirs, the target is down and not called for a while.
        """
        for error in errors:
            if isinstance(error, Halted):
                return error
        late = [error for error in errors if isinstance(error, Unavailable | Unsure)]
        # One answer about one document shows that the target is up, whatever happened to the others.
        if not late or len(late) < asked:
            self.down_since = None
            return None
        self.trouble = late[0].reason
        self.down_since = now if self.down_since is None else self.down_since
        wished = max((e.retry_after or 0.0 for e in late if isinstance(e, Unavailable)), default=0.0)
        self.not_before = now + max(wished, min(LONGEST_PAUSE, 0.5 + (now - self.down_since) / 2))
        return None

    def note_losses(self, answers: Sequence[tuple[Upload, PutOutcome]]) -> bool:
        """Whether the target, and no document, is to blame for the current lost answers.

        It is, once it answered no upload of `BLAME_LIMIT` different documents and accepted none between.
        """
        if any(not isinstance(answer, TargetError) for _, answer in answers):
            self.unanswered.clear()
        if len(self.unanswered) < BLAME_LIMIT:
            lost = (upload for upload, answer in answers if isinstance(answer, Unsure))
            self.unanswered |= {upload.path or upload.label for upload in lost}
        return len(self.unanswered) >= BLAME_LIMIT

    def answers(self) -> None:
        """Note that the target answers."""
        self.down_since = None

    def accepted(self) -> None:
        """Note that the target accepted a document."""
        self.is_proven = self.is_proven or not (self.is_full or self.is_stuck)

    def went_well(self, happened: Sequence[Happened | None]) -> None:
        """Note that documents became ready: the target works."""
        if any(event is not None and event.event in DONE for event in happened):
            self.is_proven, self.is_full, self.is_stuck = True, False, False

    def blame(self, answers: Sequence[tuple[Upload, PutOutcome]]) -> Halted | None:
        """Note refusals: after five in a row with one code and none accepted, the target is to blame.

        Of documents sent together that may succeed later one counts: a brief problem refuses all of them.
        """
        is_counted = False
        for upload, answer in answers:
            if not isinstance(answer, TargetError):
                self.blamed.clear()
            elif isinstance(answer, Rejected) and answer.may_pass and is_counted:
                continue
            elif isinstance(answer, Rejected) and not isinstance(answer, NameTaken | Unfit):
                if answer.code != self._blamed_code:
                    self.blamed.clear()
                    self._blamed_code = answer.code
                is_counted = is_counted or answer.may_pass
                label = upload.path or upload.label
                if label not in self.blamed:
                    self.blamed.append(label)
                if len(self.blamed) >= BLAME_LIMIT:
                    reason = (
                        f"{BLAME_LIMIT} documents in a row were refused for one reason: {answer.reason}; "
                        "check the service and the target's settings"
                    )
                    return Halted("target-rejects", reason, code=answer.code)
        return None
