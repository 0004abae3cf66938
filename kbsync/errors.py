"""Errors, with one class for each way the caller must react: four kinds of target errors, and local ones.

Only the folder of a target translates its service's codes into these errors.
"""

from __future__ import annotations

import errno
import re
from typing import Any


def system_reason(error: Exception) -> str:
    """Return the operating system's message for its own errors (for example, `permission denied`), and the
    text of any other error.
    """
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)


TOO_MANY_OPEN_FILES = {
    errno.EMFILE: "raise the limit on open files (ulimit -n, LimitNOFILE=)",
    errno.ENFILE: "raise the system's limit on open files (fs.file-max)",
}
"""Fixes for the errors that mean too many open files, in this process or on the whole system."""

OUT_OF_MEMORY = "kbsync is out of memory; free some memory, or raise its limit"

OUT_OF_THREADS = "kbsync can't start a thread; raise its limit on processes (ulimit -u, TasksMax=) or memory"

_NO_THREAD = "can't start new thread"
"""Python's error message, whether memory or the limit of processes is the cause."""

_NO_MEMORY = re.compile(
    f"failed to map segment|cannot allocate memory|{_NO_THREAD}|out of memory|malloc failure|"
    "can't allocate (?:read )?lock|error return without exception set",
    re.IGNORECASE,
)
"""The error messages of the dynamic linker (for a library), SQLite, OpenSSL, and Python (for a thread, a
lock, or an error that it has no memory to describe).
"""


def lacks_memory(error: BaseException) -> bool:
    """Return whether a lack of memory or threads caused this error. In that case, the error isn't a bug."""
    return memory_message(error) is not None


def memory_message(error: BaseException) -> str | None:
    """Return what to do about the lack of memory or threads that caused this error, or None if the cause
    is something else.
    """
    cause: BaseException | None = error
    while cause is not None:
        is_refusal = isinstance(cause, MemoryError) or getattr(cause, "errno", None) == errno.ENOMEM
        # kbsync's own errors quote services, which may lack memory themselves.
        if is_refusal or (not isinstance(cause, KbsyncError) and _NO_MEMORY.search(str(cause))):
            return OUT_OF_THREADS if _NO_THREAD in str(cause) else OUT_OF_MEMORY
        cause = cause.__cause__ or cause.__context__
    return None


class KbsyncError(Exception):
    """The base class of all errors that kbsync raises on purpose. `str()` is a message for the user."""


class UsageError(KbsyncError):
    """Invalid usage or config (exit code 2). The message names the file, line or key, and suggests a fix."""


class UnmadeError(UsageError):
    """Raised if something is missing that only a pass creates. The caller adds the command for a pass."""


class LockedError(KbsyncError):
    """Raised if another kbsync process holds this state (exit code 4)."""


class StateError(KbsyncError):
    """Raised if the state file can't be used.

    It is damaged or read-only, or the disk is full; the message says which.
    """


class ForeignError(StateError):
    """Raised if another user owns files in the state directory (exit code 2).

    The message contains the command that fixes it.
    """


class ShortageError(StateError):
    """Raised if this process or the whole system has run out of a resource that every file needs, such as
    descriptors.
    """


EMBED = "embed"
"""The name of calls to embedding services, and the first word of their error messages (`embed: HOST …`)."""


class TargetError(KbsyncError):
    """Raised if a request to a target fails. `code` is the service's own code.

    `has_removed`: the failed put deleted the document that it was meant to replace. `is_answer`: the target
    itself reported the error, so the document didn't crash it.
    """

    def __init__(self, reason: str, *, code: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.has_removed = False
        self.is_answer = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the error, for example to send it to another machine. Unpickling doesn't call `__init__`,
        because its parameters differ between the kinds of errors.
        """
        return Exception.__new__, (type(self), self.reason), self.__dict__


class Unavailable(TargetError):
    """Raised if nothing was stored and the request can be retried later.

    `retry_after`: how many seconds the target asks to wait. `untried`: no request was sent, so nothing is
    known about the document. `is_rate_limit`: the target asks for a lower rate of requests.
    """

    def __init__(
        self,
        reason: str,
        *,
        code: str = "",
        retry_after: float | None = None,
        untried: bool = False,
        is_rate_limit: bool = False,
    ) -> None:
        super().__init__(reason, code=code)
        self.retry_after = retry_after
        self.untried = untried
        self.is_rate_limit = is_rate_limit


class DocumentBusy(Unavailable):
    """Raised if only this document has to wait, while the target is still working on it."""


class TargetBusy(Unavailable):
    """Raised if the target refuses work because it is busy. It responds, so it isn't down."""


class Unsure(TargetError):
    """Raised if the document may have been stored. Check before sending it again."""


NO_RESULT = Unsure("the target returned no result for this document")
"""The outcome of a document that the response doesn't mention."""


def untried(error: TargetError) -> TargetError:
    """Return the outcome for documents that aren't sent because they would fail for the same reason as
    `error`.
    """
    if isinstance(error, Unavailable | Unsure):
        wait = error.retry_after if isinstance(error, Unavailable) else None
        return Unavailable(error.reason, code=error.code, retry_after=wait, untried=True)
    return error


class Rejected(TargetError):
    """Raised if the document is to blame: it needs an edit or `retry`.

    `may_pass`: the target might accept the document later. Before anyone has to act, the document is sent
    again a limited number of times, after increasing pauses (promise 9).
    """

    def __init__(self, reason: str, *, code: str = "", may_pass: bool = False) -> None:
        super().__init__(reason, code=code)
        self.may_pass = may_pass


class NameTaken(Rejected):
    """Raised if the target already has a document with this name. The same bytes can be sent under a
    different name.
    """


class Unfit(Rejected):
    """Raised if only the document is to blame. Many such errors in a row say nothing about the target."""


class NotOffered(Rejected):
    """Raised if the target doesn't support a call. The caller continues without it."""


def may_be_from_gateway(error: object) -> bool:
    """Return whether a gateway may have refused a call instead of the service: a call that every service
    has, or one that may be accepted later.
    """
    return isinstance(error, NotOffered) or (isinstance(error, Rejected) and error.may_pass)


class Halted(TargetError):
    """Raised if the work must stop until the user acts. `halt` is the reason in the contract (credentials,
    quota, …).

    `fix` says what to do or to run; '' means to retry the mirror (`engine.status.as_halt`). If it is a kbsync
    command, the options in use are added later.
    """

    def __init__(self, halt: str, reason: str, *, fix: str = "", code: str = "") -> None:
        super().__init__(reason, code=code)
        self.halt = halt
        self.fix = fix


def describe_with_fix(error: Exception) -> str:
    """Return the error's message on one line, with the fix for a halt."""
    fix = [f"fix: {error.fix}"] if isinstance(error, Halted) and error.fix else []
    return "; ".join([*str(error).splitlines(), *fix])
