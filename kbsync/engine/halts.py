"""Decides whether a mirror is halted or has a temporary problem, and when that is over. No other module
decides that.

A problem with one document concerns only that document (promise 9). `HaltState` decides when the target is
the problem; then no further document is tried until a user or time resolves it.

| state  | work             | next                                                                        |
|--------|------------------|-----------------------------------------------------------------------------|
| FREE   | all              | `stop` → HALTED                                                             |
| HALTED | none             | `try_again` (the base answers) → TRYING; `release` (a user asks) → FREE     |
| TRYING | all, to prove it | a document is accepted, or none is left → FREE; `stop` → HALTED             |

If the base was missing, a response from it is proof enough. If documents were accepted but never finished,
only a finished one counts as proof. A temporary problem, such as a target that is down or an error in kbsync,
ends by itself. It pauses the work, and is only shown if it lasts.

`Halts` writes a halt to the state before showing it, and retries a failed write (`refresh`). Only the reason
why the state can't be written is kept in memory (`shown`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import field
from enum import Enum
from typing import TYPE_CHECKING

import structlog

from kbsync.contract.target import PutOutcome
from kbsync.core.model import Upload
from kbsync.dataclass import dataclass
from kbsync.engine.clock import bug_in_words, pause_after
from kbsync.engine.journal import DocumentEvent
from kbsync.engine.status import (
    CREDENTIALS,
    FAILING,
    FOLDER_MISSING,
    PASSING,
    TARGET_DOWN,
    TARGET_STUCK,
    as_halt,
    halt_json,
    with_retry_command,
)
from kbsync.errors import (
    DocumentBusy,
    Halted,
    NameTaken,
    Rejected,
    StateError,
    TargetBusy,
    TargetError,
    Unavailable,
    Unfit,
    Unsure,
)
from kbsync.state.mirrors import Halt

if TYPE_CHECKING:
    from kbsync.engine.mirror import Mirror

log = structlog.get_logger("kbsync")

BLAME_LIMIT = 5
"""Number of documents in a row after which kbsync blames the target, if all were refused for the same reason,
none got a response, or none became searchable.
"""
DONE = ("document.ready", "document.renamed")
STATE_PAUSE = 5.0
MAX_PAUSE = 60.0
MANY_FAILURES = 3
BASE_MISSING = "knowledge-base-missing"
DOWN_AFTER = 10.0
"""Seconds for which a target must be down before kbsync reports a halt, so that a restart of the service
doesn't count as one."""
PROBE_EVERY, MAX_PROBE_PAUSE = 30.0, 900.0


class Work(Enum):
    """The work that a mirror may currently do. See the table at the beginning of this module."""

    FREE = "free"
    HALTED = "halted"
    TRYING = "trying"


@dataclass
class HaltState:
    """Draws conclusions about the target from requests and errors, without I/O. All times are in steady
    seconds.

    Nothing is sent before `not_before`. `error`: the last halt. `down_reason`: why the target is down
    since `down_since`; '' if it is up. `is_busy`: it is too busy for the work, which is no outage.
    `silent_since`: since when it has given no response, not even that. `awaited`: the reason of a halt
    that documents wait out because the target could not index them (`AWAITING`), or ''; `is_stuck`: no
    document ever finished. `rounds` and `jobs` count kbsync's consecutive internal errors, in whole
    rounds and in single jobs while others may succeed. `unanswered`: documents whose uploads got no
    response since one was accepted.
    """

    work: Work = Work.FREE
    error: Halted | None = None
    down_since: float = 0.0
    not_before: float = 0.0
    down_reason: str = ""
    is_busy: bool = False
    silent_since: float = 0.0
    state_error: str = ""
    rounds: int = 0
    jobs: int = 0
    failure: str = ""
    awaited: str = ""
    is_stuck: bool = False
    refused_labels: list[str] = field(default_factory=list)
    unanswered: set[str] = field(default_factory=set)
    _refusal_code: str = ""

    @property
    def halted(self) -> Halted | None:
        """The reason why sending isn't allowed, or None if work can continue."""
        return self.error if self.work is Work.HALTED else None

    def stop(self, error: Halted) -> None:
        """Start no more work because of this halt."""
        self.work, self.error = Work.HALTED, error

    def release(self) -> None:
        """Resume the work, because the cause of a halt has been resolved."""
        self._forget_problems()
        self.work, self.is_stuck = Work.FREE, False
        self.refused_labels, self._refusal_code = [], ""

    def try_again(self) -> None:
        """Start checking whether the cause of the halt is resolved, because the base responds again.

        If the same error occurs once more, the mirror halts again.
        """
        if self.halted is not None:
            self.is_stuck = self.is_stuck or self.halted.halt == TARGET_STUCK
            # One more refusal is enough, so that a check costs one document, not five again.
            self.refused_labels = [""] * max(0, len(self.refused_labels) - 1)
            self._forget_problems()
            self.work = Work.FREE if self.halted.halt == BASE_MISSING else Work.TRYING

    def _forget_problems(self) -> None:
        self.not_before, self.down_reason, self.state_error = 0.0, "", ""
        self.rounds = self.jobs = 0
        self.unanswered.clear()

    def prove(self) -> None:
        """Record that work has succeeded or that none is left."""
        if self.work is Work.TRYING:
            self.work = Work.FREE

    # -- errors of kbsync itself -----------------------------------------------------------------------

    @property
    def failing(self) -> str:
        """The message to show if kbsync's internal errors persist, or '' if they don't."""
        return self.failure if max(self.rounds, self.jobs) >= MANY_FAILURES else ""

    def record_failure(self, error: Exception, now: float, *, of_round: bool) -> float:
        """Count one of kbsync's internal errors.

        Return how many seconds to pause. Each pause is longer than the last.
        """
        if of_round or now >= self.not_before:  # jobs that fail together count once
            self.rounds += of_round
            self.jobs += not of_round
            self.failure = bug_in_words(error)
            # A document that always fails can delay the others for at most this long (promise 9).
            pause = pause_after(self.rounds) if of_round else min(STATE_PAUSE, pause_after(self.jobs))
            self.not_before = now + pause
        return self.not_before - now

    def record_state_error(self, error: StateError, now: float) -> bool:
        """Record that the journal can't be written. Return whether that is new."""
        is_news = str(error) != self.state_error
        self.state_error = str(error)
        self.not_before = now + STATE_PAUSE
        return is_news

    def record_recovery(self) -> None:
        """Record that a job has ended and its outcome is stored, or that no work is left."""
        self.state_error, self.jobs = "", 0

    # -- the target's responses -----------------------------------------------------------------------

    def record_errors(self, errors: Sequence[TargetError], requested: int, now: float) -> Halted | None:
        """Record that a request for `requested` documents ended with these errors. Return the halt to report.

        If all documents failed and none is to blame, the target counts as down, and kbsync pauses before it
        sends another request.
        """
        for error in errors:
            if isinstance(error, Halted):
                return error
        unanswered_errors = [
            error
            for error in errors
            if isinstance(error, Unavailable | Unsure) and not isinstance(error, DocumentBusy)
        ]
        # A response about any document shows that the target is up.
        if not unanswered_errors or len(unanswered_errors) < requested:
            self.record_response()
            return None
        is_busy = all(isinstance(error, TargetBusy) for error in unanswered_errors)
        self.record_down(unanswered_errors[0].reason, now, is_busy=is_busy)
        longest = max(
            (e.retry_after or 0.0 for e in unanswered_errors if isinstance(e, Unavailable)), default=0.0
        )
        self.not_before = now + max(longest, min(MAX_PAUSE, 0.5 + (now - self.down_since) / 2))
        return None

    def record_down(self, reason: str, now: float, *, is_busy: bool = False) -> None:
        """Record that the target doesn't respond, or that it is too busy."""
        if not self.down_reason or self.is_busy:
            self.silent_since = now
        # Either one counts as long as it lasts, because a pass waits only for so long.
        self.down_since = self.down_since if self.down_reason else now
        self.down_reason, self.is_busy = reason, is_busy

    def record_response(self) -> None:
        """Record that the target responds."""
        self.down_reason = ""

    def is_down_for(self, seconds: float, now: float) -> bool:
        """Return whether the target has been down, or too busy, for this long."""
        return bool(self.down_reason) and now - self.down_since >= seconds

    def note_losses(self, outcomes: Sequence[tuple[Upload, PutOutcome]]) -> bool:
        """Return whether the target, rather than a document, is to blame for the uploads that got no
        response.

        It is to blame once uploads of `BLAME_LIMIT` different documents got no response and none in between
        was accepted.
        """
        if any(not isinstance(outcome, TargetError) for _, outcome in outcomes):
            self.unanswered.clear()
        if len(self.unanswered) < BLAME_LIMIT:
            lost = (upload for upload, outcome in outcomes if isinstance(outcome, Unsure))
            self.unanswered |= {upload.path for upload in lost}
        return len(self.unanswered) >= BLAME_LIMIT

    def record_acceptance(self) -> None:
        """Record that the target accepted a document."""
        if not (self.awaited or self.is_stuck):
            self.prove()

    def record_progress(self, events: Sequence[DocumentEvent | None]) -> None:
        """Record that documents became ready, which shows that the target works."""
        if any(event is not None and event.event in DONE for event in events):
            self.awaited, self.is_stuck = "", False
            self.prove()

    def blame(self, outcomes: Sequence[tuple[Upload, PutOutcome]]) -> Halted | None:
        """Record refusals. After five in a row with the same code, the target is to blame.

        Documents that were sent together and may succeed later count as one refusal, because a brief problem
        affects all of them.
        """
        is_counted = False
        for upload, outcome in outcomes:
            if not isinstance(outcome, TargetError):
                self.refused_labels.clear()
            elif isinstance(outcome, Rejected) and outcome.may_pass and is_counted:
                continue
            elif isinstance(outcome, Rejected) and not isinstance(outcome, NameTaken | Unfit):
                if outcome.code != self._refusal_code:
                    self.refused_labels.clear()
                    self._refusal_code = outcome.code
                is_counted = is_counted or outcome.may_pass
                label = upload.path
                if label not in self.refused_labels:
                    self.refused_labels.append(label)
                if len(self.refused_labels) >= BLAME_LIMIT:
                    reason = (
                        f"{BLAME_LIMIT} documents in a row were refused for the same reason: "
                        f"{outcome.reason}; check the service and the target's settings"
                    )
                    return Halted("target-rejects", reason, code=outcome.code)
        return None


@dataclass(kw_only=True)
class Halts(HaltState):
    """One mirror's halts, in the state and as users see them."""

    mirror: Mirror
    stored: Halt | None = None
    is_current: bool = False
    """Whether this run wrote and logged `stored`. Otherwise, `stored` comes from an earlier run."""
    inherited: Halt | None = None
    """The halt from an earlier run that ended when this one started."""
    write_error: str = ""
    """Why the last halt could not be written to the state, for instance because its disk is full; '' if it
    was written.
    """
    _probe_at: float = 0.0
    _probe_wait: float = PROBE_EVERY
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def show(self, halt: Halt | None) -> None:
        """Record in the state and in the log that the mirror needs a user's help, or no longer needs it."""
        name, command_line = self.mirror.settings.name, self.mirror.context.command_line
        if halt is not None:
            halt = with_retry_command(halt, name, command_line, at_work=not self.mirror.is_pass)
        async with self._writing:
            if halt == self.stored and (self.is_current or halt is None):
                if self.write_error:
                    await self._write(halt)  # proves that the state can be written again
                return  # unchanged: neither write nor log it
            before = self.stored
            await self._write(halt)
            self.is_current = halt is not None
            if halt is not None:
                log.error(
                    "mirror.halted", mirror=name, folder=str(self.mirror.settings.root), **halt_json(halt)
                )
            elif before is not None:
                log.info("mirror.resumed", mirror=name, reason=before.reason)

    async def _write(self, halt: Halt | None) -> None:
        try:
            await self.mirror.store.write(lambda tx: tx.mirrors.set_halt(self.mirror.id, halt))
        except StateError as error:
            self.write_error = str(error)
            raise
        self.stored, self.write_error = halt, ""

    async def halt(self, error: Halted) -> None:
        """Halt until a user acts, because the work can't continue otherwise."""
        self.stop(error)
        await self.show(self._describe(error))

    def _describe(self, error: Halted) -> Halt:
        return as_halt(error, self.mirror.settings.name, self.mirror.context.command_line)

    async def end(self) -> None:
        """End the halt, because a user requested that or the mirror has restarted."""
        if not self.is_current:
            self.inherited = self.stored
        self.release()
        await self.show(None)

    async def end_if_over(self) -> None:
        """Remove the displayed halt if nothing stops the work anymore."""
        if self.work is Work.FREE and self.stored is not None and not self.is_about(*PASSING):
            await self.show(None)

    async def refresh(self) -> None:
        """Show a lasting problem and end a halt that is over, even if an earlier write failed."""
        if self.state_error or self.write_error:
            with contextlib.suppress(StateError):
                await self._write(self.stored)
        await self.end_if_over()
        if self.halted is not None:
            await self.halt(self.halted)
        if self.failing:
            await self.show_problem(FAILING, self.failing)
        elif not self.down_reason or self.is_busy:
            await self.end_problem()
        elif self.mirror.clock.steady() - self.silent_since >= DOWN_AFTER:
            await self.show_problem(TARGET_DOWN, self.down_reason)

    def is_about(self, *reasons: str) -> bool:
        """Return whether the mirror is halted for one of these reasons."""
        return self.stored is not None and self.stored.reason in reasons

    @property
    def shown(self) -> Halt | None:
        """The halt to show: the stored one or, if the state isn't writable, one that says why."""
        return self.stored or (Halt(FAILING, self.write_error, "") if self.write_error else None)

    @property
    def needs_person(self) -> bool:
        """Whether the target is the reason why the mirror is halted until a user acts."""
        return self.stored is not None and not self.is_about(*PASSING, FOLDER_MISSING)

    def take_probe(self) -> bool:
        """Return whether to check the cause of the halt now. The longer a halt lasts, the less often it is
        checked.
        """
        now, wait = self.mirror.clock.steady(), PROBE_EVERY
        if self.stored is None:
            self._probe_wait = PROBE_EVERY
        if now < self._probe_at or not (self.needs_person or self.down_reason):
            return False
        if self.needs_person:
            wait, self._probe_wait = self._probe_wait, min(MAX_PROBE_PAUSE, self._probe_wait * 2)
        self._probe_at = now + wait
        return True

    async def show_problem(self, reason: str, problem: str) -> None:
        """Show a temporary problem (`PASSING`) unless a more important one is already shown."""
        if self._may_show_problem:
            await self.show(self._describe_problem(reason, problem))

    @property
    def _may_show_problem(self) -> bool:
        # Show it only once per run, because showing it again would hide newer findings.
        return self.stored is None or (self.is_about(*PASSING) and not self.is_current)

    def _describe_problem(self, reason: str, problem: str) -> Halt:
        if reason == TARGET_DOWN:
            return Halt(reason, f"{problem}; work will resume when the target responds", "")
        return self._describe(Halted(reason, f"{problem}; retrying within a minute"))

    async def record_failed_start(self, error: TargetError) -> None:
        """Record that the target didn't respond at startup. This replaces a halt caused by a refused key."""
        self.record_down(error.reason, self.mirror.clock.steady())
        if self.is_about(CREDENTIALS):
            # Notes about the key may concern a different address.
            await self.show(self._describe_problem(TARGET_DOWN, error.reason))

    async def note_unfinished(self, reason: str, problem: str) -> None:
        """Show in `status` why a pass couldn't finish, until the next pass starts."""
        if self._may_show_problem:
            fix = self.mirror.context.command_line(f"--once --mirror {self.mirror.settings.name}")
            detail = f"{problem}; the next pass will pick up where the last one stopped"
            await self._write(Halt(reason, detail, fix))
            self.is_current = False

    async def end_problem(self) -> None:
        """End the temporary problem."""
        if self.is_about(*PASSING):
            await self.show(None)
