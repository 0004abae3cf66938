"""Errors, by what has to be done about them: four kinds of target errors, and those of this machine.

A target translates its vendor's codes into these in its own folder and nowhere else.
"""

from __future__ import annotations

from typing import Any


class KbsyncError(Exception):
    """Base of all errors kbsync raises on purpose; `str()` is a sentence for a person."""


class UsageError(KbsyncError):
    """Wrong usage or config (exit 2): the message names file, line or key, and the cure."""


class UnmadeError(UsageError):
    """Nothing was mirrored yet; the caller adds the command that makes a pass."""


class LockedError(KbsyncError):
    """Another kbsync holds this state (exit 4)."""


class StateError(KbsyncError):
    """The state file cannot be used: damaged, full disk, read-only (the message says which)."""


class ForeignError(StateError):
    """Another user owns what lies in the state directory (exit 2): the message has the command."""


class ShortageError(StateError):
    """This process or the whole system ran out of something that any file needs, such as descriptors."""


class TargetError(KbsyncError):
    """A request to a target did not succeed; `code` is the vendor's own code.

    `has_removed`: of a put: the document that it was to replace is not there any more. `is_answer`: the
    target itself said so, and did not stumble over the document.
    """

    def __init__(self, reason: str, *, code: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.has_removed = False
        self.is_answer = False

    def __reduce__(self) -> tuple[Any, ...]:
        """It may be the answer of another machine. What it is made from differs from kind to kind."""
        return _made_again, (type(self), self.__dict__)


def _made_again(kind: type[TargetError], state: dict[str, Any]) -> TargetError:
    error = kind.__new__(kind, state["reason"])
    error.__dict__.update(state)
    return error


class Unavailable(TargetError):
    """Nothing was stored; try again later. `retry_after`: the seconds that the target asks for.

    `untried`: the target was not even asked, so nothing is known of the document. `is_rate_limit`: it asks
    for fewer requests.
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


class Unsure(TargetError):
    """It may have been stored: look before sending again."""


def untried(error: TargetError) -> TargetError:
    """The outcome of documents that are not sent, since they would wait for what `error` of one waits for."""
    if isinstance(error, Unavailable | Unsure):
        wait = error.retry_after if isinstance(error, Unavailable) else None
        return Unavailable(error.reason, code=error.code, retry_after=wait, untried=True)
    return error


class Rejected(TargetError):
    """The document is to blame; wait for an edit or `retry`.

    `may_pass`: it may be accepted another time, so it is sent again first, a bounded number of times with
    growing pauses (promise 9).
    """

    def __init__(self, reason: str, *, code: str = "", may_pass: bool = False) -> None:
        super().__init__(reason, code=code)
        self.may_pass = may_pass


class NameTaken(Rejected):
    """The target has a document of this name already: the same bytes can be sent under another."""


class Unfit(Rejected):
    """The document alone is to blame: even many of these in a row say nothing of the target."""


class NotOffered(Rejected):
    """The target has no such call; the caller takes another way."""


class Halted(TargetError):
    """Nothing works until a person acts; `halt` is the contract's word (credentials, quota, …).

    `cure` says what to do or to run then, '' that the mirror is tried again (`engine.status.as_halt`). A
    command of kbsync gets the options in use added later.
    """

    def __init__(self, halt: str, reason: str, *, cure: str = "", code: str = "") -> None:
        super().__init__(reason, code=code)
        self.halt = halt
        self.cure = cure
