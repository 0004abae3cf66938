"""Whether a document still fits into the account, asked rarely and counted in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kbsync.errors import Halted, Rejected, TargetError, Unavailable
from kbsync.targets.zhipu.codes import SPACE_ADVICE, NoRoom
from kbsync.targets.zhipu.sizes import sized
from kbsync.targets.zhipu.wire import Capacity

INTERVAL = 180.0
"""Seconds between two questions, at the least."""

_MOMENT = 5.0  # seconds until uploads under way may have ended

_SMALL = 0.05  # of the account's space: less than this is asked again, since others use it too


class Allowance:
    """The rest of the account's space in bytes, as far as the vendor tells, and whether words are left in it.

    How many words a document has only the vendor knows: it is foreseen that none are left, and no more.

    `ask` raises `TargetError`: unless the key was refused, nothing is known then and nothing is checked.
    `steady`: seconds that never go back. `cure`: the command for a halt.
    """

    def __init__(
        self, ask: Callable[[], Awaitable[Capacity | None]], steady: Callable[[], float], cure: str
    ) -> None:
        self._ask, self._steady, self._cure = ask, steady, cure
        self._turn = asyncio.Lock()
        self._asked_at: float | None = None
        self._known: Capacity | None = None
        self._left = self._under_way = 0

    @property
    def left(self) -> int | None:
        """Bytes; None where the vendor did not tell."""
        return None if self._known is None else max(0, self._left)

    async def take(self, name: str, size: int) -> None:
        """Count `size` bytes as used, before they are sent; `ended` has to be told how that went.

        Raises `Halted("quota")` for too many, `Unavailable` where uploads under way may leave enough.
        """
        async with self._turn:
            if self._is_due(size):
                await self._look()
            elif self._known is not None and size > self._left + self._under_way:
                await self._look()  # before anybody is called: others may have made room
            if self._known is not None and self._known.lacks_words:
                await self._look()  # before anybody is called: others may have made room
            if self._known is not None and self._known.lacks_words:
                raise self._no_words(name, self._known)
            if self._known is not None and size > self._left:
                raise self._refusal(name, size, self._known)
            self._left -= size
            self._under_way += size

    async def measured(self) -> int | None:
        """Bytes left by the vendor's word at this moment; None where it does not tell."""
        async with self._turn:
            await self._look()
        return 0 if self._known is not None and self._known.lacks_words else self.left

    async def has_room(self, size: int = 1) -> bool:
        """Whether `size` bytes, and words at all, are left by the vendor's word at this moment.

        A document that was accepted is among what is used already: for it any room is room enough.
        """
        left = await self.measured()
        return left is not None and left >= max(1, size)

    async def judged(self, error: NoRoom, size: int = 1) -> TargetError:
        """What a lack of room means: where there is room (see `has_room`), the document is to blame."""
        if await self.has_room(size):
            return Rejected(error.said, code=error.code)
        return Halted(error.halt, error.reason, cure=error.cure, code=error.code)

    def ended(self, size: int, *, stored: bool) -> None:
        """The upload of counted bytes is over; `stored`: they are, or may be, at the vendor."""
        self._under_way -= size
        if not stored:
            self._left += size

    def freed(self) -> None:
        """Documents were deleted: the vendor is asked before the next upload is refused for want of space."""
        if self._known is not None and self._left < _SMALL * self._known.total:
            self._asked_at = None

    def _is_due(self, size: int) -> bool:
        if self._asked_at is None:
            return True
        if self._steady() - self._asked_at < INTERVAL:
            return False
        return self._known is None or self._left - size < _SMALL * self._known.total

    async def _look(self) -> None:
        self._known = self._asked_at = None
        try:
            self._known = await self._ask()
        except TargetError as error:
            if isinstance(error, Halted) and error.halt == "credentials":
                raise
        self._asked_at = self._steady()
        if self._known is not None:
            # what is under way may not be counted there yet
            self._left = max(0, self._known.total - self._known.used - self._under_way)

    def _refusal(self, name: str, size: int, known: Capacity) -> TargetError:
        reason = self._too_little(name, size, known)
        if size <= self._left + self._under_way:
            reason += "; it waits for the uploads under way"
            return Unavailable(reason, retry_after=_MOMENT, untried=True)
        self._asked_at = None  # whoever tries once more may have made room
        return Halted("quota", f"{reason}; {SPACE_ADVICE}", cure=self._cure)

    def _no_words(self, name: str, known: Capacity) -> TargetError:
        reason = f"the account has none left of {known.total_words:,} words; {name} needs some"
        return Halted("quota", f"{reason}; {SPACE_ADVICE}", cure=self._cure)

    def _too_little(self, name: str, size: int, known: Capacity) -> str:
        left = sized(max(0, self._left))
        return f"the account has {left} left of {sized(known.total)}; {name} needs {sized(size)}"
