"""What a check found, and how checks are run."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from kbsync.cli.exits import Code, code_of, sentence_of

LIMIT = 10.0
"""Seconds for all checks together: they run side by side."""


class Grade(enum.Enum):
    """How it stands."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `cure`: a command to paste, or what to change; `code`: the exit code it stands for."""

    subject: str
    detail: str
    grade: Grade = Grade.OK
    cure: str = ""
    code: Code = Code.MIRRORED


def warning(subject: str, detail: str, cure: str = "") -> Finding:
    """Works for now."""
    return Finding(subject, detail, Grade.WARNING, cure)


def wrong(subject: str, detail: str, cure: str, code: Code) -> Finding:
    """Keeps documents from being mirrored."""
    return Finding(subject, detail, Grade.WRONG, cure, code)


def troubled(subject: str, error: Exception) -> Finding:
    """What a check ran into; an error that no person can cause is ours."""
    code = code_of(error)
    if code is None:
        return wrong(subject, f"could not be checked ({type(error).__name__}: {error})", "", Code.BROKEN)
    return wrong(subject, sentence_of(error), "", code)


@dataclass(frozen=True, slots=True)
class Check:
    """`look` gives findings one by one; what it gave before it failed or took too long counts."""

    subject: str
    look: Callable[[], Iterable[Finding]]


@dataclass(slots=True)
class _Running:
    check: Check
    found: list[Finding] = field(default_factory=list)
    is_over: bool = False

    def run(self) -> None:
        try:
            for finding in self.check.look():
                self.found.append(finding)
        except Exception as error:
            self.found.append(troubled(self.check.subject, error))
        self.is_over = True

    def findings(self, limit: float) -> Iterator[Finding]:
        found, is_over = list(self.found), self.is_over
        yield from found
        if not is_over:
            detail = f"no answer within {limit:g} s"
            yield wrong(self.check.subject, detail, "look whether a disk or a network hangs", Code.PASSING)


def findings_of(checks: Sequence[Check], limit: float = LIMIT) -> list[Finding]:
    """All findings in the order of the checks, after `limit` seconds at the latest.

    Each check has a thread of its own, which nobody waits for longer: a disk that hangs cannot be cut off.
    """
    running = [_Running(check) for check in checks]
    threads = [threading.Thread(target=one.run, daemon=True) for one in running]
    until = time.monotonic() + limit
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return [finding for one in running for finding in one.findings(limit)]
