"""Exit codes: what each means, which one wins where several apply, and which one an error has."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from kbsync.errors import (
    Halted,
    KbsyncError,
    LockedError,
    NotOffered,
    StateError,
    TargetError,
    UsageError,
)


class Code(enum.IntEnum):
    """What the program says with its exit status."""

    MIRRORED = 0
    FAILED = 1  # some documents failed or are quarantined
    USAGE = 2  # wrong usage or config; nothing was attempted
    PERSON = 3  # waits for a person
    PASSING = 4  # trouble that goes away by itself
    BROKEN = 70  # an error of ours, with a traceback (sysexits.h: EX_SOFTWARE)
    INTERRUPTED = 130
    TERMINATED = 143


ORDER = (Code.USAGE, Code.PERSON, Code.PASSING, Code.FAILED)
"""Where several apply, the first of these wins."""


def worst(codes: Iterable[Code]) -> Code:
    """The one code for all of them; MIRRORED where there are none."""
    found = set(codes)
    return next((code for code in ORDER if code in found), Code.MIRRORED)


def signalled(number: int) -> Code:
    """The code of a pass that a signal cut short."""
    return Code(128 + number)


def code_of(error: Exception) -> Code | None:
    """The code of an error that a person can cause; None for one that is ours."""
    match error:
        case UsageError() | PermissionError():
            return Code.USAGE
        case LockedError() | StateError() | OSError():
            return Code.PASSING
        case Halted():
            return Code.PERSON
        case NotOffered():
            return Code.USAGE  # it will not pass
        case TargetError():
            return Code.PASSING
        case KbsyncError():
            return Code.PERSON
    return None
