"""What can go wrong, by what has to be done about it.

A target translates its vendor's codes into these at its own door and nowhere else.
"""

from __future__ import annotations


class KbsyncError(Exception):
    """Base of all errors kbsync raises on purpose; `str()` is a sentence for a person."""


class UsageError(KbsyncError):
    """Wrong usage or config (exit 2): the message names file, line or key, and the cure."""


class UnmadeError(UsageError):
    """A pass has yet to make what was to be read; whoever knows how passes are made here adds the cure."""


class LockedError(KbsyncError):
    """Another kbsync holds this state (exit 4)."""


class StateError(KbsyncError):
    """The state file cannot be used: damaged, full disk, read-only (the message says which)."""


class ForeignError(StateError):
    """What lies in the state directory is shut by another user (exit 2): the message has the command."""


class ShortageError(StateError):
    """This process or the whole system ran out of what any file needs, such as descriptors."""


class TargetError(KbsyncError):
    """A request to a target did not succeed; `code` is the vendor's own code, for counting blame."""

    def __init__(self, reason: str, *, code: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class Unavailable(TargetError):
    """Nothing was stored; try again later. `retry_after` is the target's wish in seconds.

    `untried`: the target was not even asked, so nothing is known of the document.
    """

    def __init__(
        self, reason: str, *, code: str = "", retry_after: float | None = None, untried: bool = False
    ) -> None:
        super().__init__(reason, code=code)
        self.retry_after = retry_after
        self.untried = untried


class Unsure(TargetError):
    """It may have been stored: look before sending again."""


class Rejected(TargetError):
    """The document is to blame; wait for an edit or `retry`.

    `may_pass`: what refused it may let it through another time, so it is sent again first, a bounded number
    of times with growing pauses (promise 9).
    """

    def __init__(self, reason: str, *, code: str = "", may_pass: bool = False) -> None:
        super().__init__(reason, code=code)
        self.may_pass = may_pass


class NameTaken(Rejected):
    """The target refuses a name it has already: the same bytes can be sent under another."""


class Unfit(Rejected):
    """The document is to blame and nothing else: however many there are, the target is not."""


class NotOffered(Rejected):
    """The target has no such call; another way has to be found."""


class Halted(TargetError):
    """Nothing works until a person acts; `halt` is the contract's word (credentials, quota, …).

    `cure` is a command for when that is done, or '': one of kbsync gets the options in use added later.
    """

    def __init__(self, halt: str, reason: str, *, cure: str = "", code: str = "") -> None:
        super().__init__(reason, code=code)
        self.halt = halt
        self.cure = cure
