"""What a worker knows of its target at this moment: halted, down, to blame, or well.

One document's trouble is that document's (promise 9). Here is decided from when on it is the target's: then
nothing is spent on further documents until a person, or time, has cured it.
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
"""Documents in a row refused for one reason, with none accepted between: then it is not the documents."""
DONE = ("document.ready", "document.renamed")
STATE_PAUSE = 5.0
LONGEST_PAUSE = 60.0


MANY_FAILURES = 3


@dataclass
class InternalErrors:
    """Errors of kbsync itself, in a row: of whole rounds, and of single jobs while others may go well."""

    rounds: int = 0
    jobs: int = 0
    reason: str = ""

    @property
    def lasting(self) -> str:
        """What to say of them once they do not pass by themselves; '' until then."""
        return self.reason if max(self.rounds, self.jobs) >= MANY_FAILURES else ""

    def note(self, error: Exception, *, of_round: bool) -> float:
        """One more; returns seconds in which nothing is tried."""
        self.rounds += of_round
        self.jobs += not of_round
        self.reason = bug_in_words(error)
        # One document that always fails holds the others up for no longer than that (promise 9).
        return pause_after(self.rounds) if of_round else min(STATE_PAUSE, pause_after(self.jobs))


@dataclass
class TargetHealth:
    """Steady seconds throughout. Nothing is sent before `not_before`; nothing at all while `halted`.

    `unanswered`: documents whose uploads got no answer since the target accepted one. `is_proven`: since the
    work was taken up again the target has accepted something or finished it. Where it accepted what it did
    not finish only a document that becomes ready proves anything: `is_full`, the account had no room to
    index; `is_stuck`, nothing ever got done.
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
        """To see whether the cause of a halt is gone: one more of the same halts again."""
        # One refusal more is enough: a try costs one document, not five again.
        counted = [""] * max(0, len(self.blamed) - 1)
        is_stuck = self.is_stuck or (self.halted is not None and self.halted.halt == TARGET_STUCK)
        return TargetHealth(
            is_full=self.is_full, is_stuck=is_stuck, blamed=counted, _blamed_code=self._blamed_code
        )

    def state_failed(self, reason: str, now: float) -> bool:
        """The journal cannot be written; True when that is news."""
        is_news = reason != self.state_error
        self.state_error = reason
        self.not_before = now + STATE_PAUSE
        return is_news

    def answered(self, errors: Sequence[TargetError], asked: int, now: float) -> Halted | None:
        """A request about `asked` documents ended with these errors; what a person has to be told.

        When all came to nothing for no fault of theirs, the target is down and left alone for a while.
        """
        for error in errors:
            if isinstance(error, Halted):
                return error
        late = [error for error in errors if isinstance(error, Unavailable | Unsure)]
        # One answer about one document shows that the target is there, whatever became of the others.
        if not late or len(late) < asked:
            self.down_since = None
            return None
        self.trouble = late[0].reason
        self.down_since = now if self.down_since is None else self.down_since
        wished = max((e.retry_after or 0.0 for e in late if isinstance(e, Unavailable)), default=0.0)
        self.not_before = now + max(wished, min(LONGEST_PAUSE, 0.5 + (now - self.down_since) / 2))
        return None

    def note_losses(self, answers: Sequence[tuple[Upload, PutOutcome]]) -> bool:
        """Whether the target is to blame for the answers that are lost just now, and no document.

        It is once it answered no upload of `BLAME_LIMIT` different documents, and accepted none between.
        """
        if any(not isinstance(answer, TargetError) for _, answer in answers):
            self.unanswered.clear()
        if len(self.unanswered) < BLAME_LIMIT:
            lost = (upload for upload, answer in answers if isinstance(answer, Unsure))
            self.unanswered |= {upload.path or upload.label for upload in lost}
        return len(self.unanswered) >= BLAME_LIMIT

    def answers(self) -> None:
        """The target is there."""
        self.down_since = None

    def accepted(self) -> None:
        """The target took a document."""
        self.is_proven = self.is_proven or not (self.is_full or self.is_stuck)

    def went_well(self, happened: Sequence[Happened | None]) -> None:
        """Documents became ready: the target does its work."""
        if any(event is not None and event.event in DONE for event in happened):
            self.is_proven, self.is_full, self.is_stuck = True, False, False

    def blame(self, answers: Sequence[tuple[Upload, PutOutcome]]) -> Halted | None:
        """Five documents in a row refused with one code and none accepted between: the target is to blame.

        Of those that went along and may pass another time one counts: a moment's trouble refuses all of them.
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
