"""Defines the exit codes and their precedence, and returns the exit code and the message for an error."""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kbsync.errors import (
    TOO_MANY_OPEN_FILES,
    ForeignError,
    Halted,
    KbsyncError,
    LockedError,
    NotOffered,
    StateError,
    TargetError,
    UsageError,
    describe_with_fix,
    lacks_memory,
    memory_message,
)


class Code(enum.IntEnum):
    """The documented exit codes, and 70 for a bug."""

    MIRRORED = 0
    # Some documents failed or are quarantined.
    FAILED = 1
    # Wrong usage or config; nothing was attempted.
    USAGE = 2
    # Needs a decision.
    PERSON = 3
    # A temporary problem.
    PASSING = 4
    # A bug, with a traceback (sysexits.h: EX_SOFTWARE).
    BROKEN = 70
    INTERRUPTED = 130
    TERMINATED = 143


ORDER = (Code.USAGE, Code.PERSON, Code.PASSING, Code.FAILED)
"""The codes in order of precedence. If several apply, the first one is used."""


def worst(codes: Iterable[Code]) -> Code:
    """Return the code that takes precedence, or MIRRORED if there are none."""
    present = set(codes)
    return next((code for code in ORDER if code in present), Code.MIRRORED)


def unwritten(code: Code) -> Code:
    """Return the exit code of a command that would have ended with `code` but couldn't write its result.

    This is the code for a temporary problem, unless `code` is more severe or means that the command was
    interrupted.
    """
    return code if code not in (Code.MIRRORED, *ORDER) else worst([code, Code.PASSING])


class UnwrittenError(KbsyncError):
    """Raised if a command can't write to stdout. The command then exits with `code`."""

    def __init__(self, cause: OSError, code: Code) -> None:
        super().__init__(sentence_of(cause))
        self.code = unwritten(code)


@contextmanager
def printing_result(code: Code) -> Iterator[None]:
    """Print a command's result inside this context.

    Raises `UnwrittenError` if the result can't be written. `code`: the exit code of the command if the result
    is written.
    """
    try:
        yield
    except OSError as error:
        raise UnwrittenError(error, code) from error


class MirrorError(KbsyncError):
    """Raised for an error in a single `mirror`, which the message names. `code` is the exit code for the
    cause.
    """

    def __init__(self, mirror: str, cause: Exception, code: Code) -> None:
        message = sentence_of(cause)
        super().__init__(message if message.startswith(f"{mirror}: ") else f"{mirror}: {message}")
        self.mirror = mirror
        self.code = code


@contextmanager
def concerning(mirror: str) -> Iterator[None]:
    """Add the mirror's name to errors raised inside the context, if they are errors that users can cause."""
    try:
        yield
    except MirrorError:
        raise
    except Exception as error:
        code = code_of(error)
        if code is None:
            raise
        raise MirrorError(mirror, error, code) from error


def sentence_of(error: Exception) -> str:
    """Return the error as a message that says what happened, to which file, and what to do."""
    error = _as_system_error(error)
    if _lacks_working_directory(error):
        return "the working directory was deleted; change to another one"
    if not isinstance(error, OSError) or not error.strerror:
        # A command of ours would lack the options in use.
        if isinstance(error, Halted) and not error.fix.startswith("kbsync "):
            return describe_with_fix(error)
        # `str()` of a MemoryError is empty.
        shortage = None if isinstance(error, KbsyncError) else memory_message(error)
        return shortage or str(error)
    from kbsync.permissions import access_fix
    from kbsync.state.db import lacks_inodes
    from kbsync.state.lock import MISPLACED, describe_misplaced, fix_for

    fix = _FIXES.get(error.errno or 0)
    filename = error.filename2 or error.filename  # of a file that can't be replaced, not of its replacement
    path = Path(os.fsdecode(filename)) if filename else None
    if path is None:
        return f"{error.strerror.lower()}; {fix}" if fix else error.strerror.lower()
    if error.errno in MISPLACED:
        return describe_misplaced(path)
    if error.errno == errno.ENOSPC and lacks_inodes(path):
        fix = "free some inodes (df -i)"
    elif error.errno in (errno.EACCES, errno.EPERM):
        fix = access_fix(path)
        with suppress(OSError):
            # Another user's file in our folder: restore its owner.
            is_astray = path.parent.stat().st_uid == os.geteuid() != path.lstat().st_uid
            if is_astray:
                fix = f"restore its owner: {fix_for(path.parent, path)}"
    problem = f"{os.fsdecode(filename)}: {error.strerror.lower()}"
    return f"{problem}; {fix}" if fix else problem


def _as_system_error(error: Exception) -> Exception:
    """Return the error, or the cause if the dynamic linker couldn't open a library, because it gives only
    the cause's text.
    """
    for number in TOO_MANY_OPEN_FILES:
        if isinstance(error, ImportError) and os.strerror(number) in str(error):
            return OSError(number, os.strerror(number))
    return error


def _lacks_working_directory(error: Exception) -> bool:
    if isinstance(error, FileNotFoundError) and not error.filename:  # getcwd(2) has no path to report
        try:
            Path.cwd()
        except FileNotFoundError:
            return True
    return False


_FIXES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EROFS: "choose a writable location",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f, LimitFSIZE=)",
    **TOO_MANY_OPEN_FILES,
    errno.EIO: "check the disk and the kernel log",
}


def code_of(error: Exception) -> Code | None:
    """Return the exit code for an error that users can cause, or None for a bug."""
    match error := _as_system_error(error):
        case MirrorError() | UnwrittenError():
            return error.code
        # `NotOffered`: the service lacks this call, so a retry won't help.
        case UsageError() | ForeignError() | PermissionError() | NotOffered():
            return Code.USAGE
        case FileNotFoundError() if _lacks_working_directory(error):
            return Code.USAGE
        case Halted():
            return Code.PERSON
        case LockedError() | StateError() | OSError() | TargetError():
            return Code.PASSING
        case KbsyncError():
            return Code.PERSON
        case _ if lacks_memory(error):
            return Code.PASSING
    return None
