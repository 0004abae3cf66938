"""Checks whether the account has space for an upload."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from kbsync.contract.target import Capacity
from kbsync.core.text import format_size
from kbsync.errors import Halted, Rejected, TargetError, Unavailable
from kbsync.targets.zhipu.errors import SPACE_ADVICE, NoRoom

UNKNOWN_FOR = 180.0
"""Seconds before kbsync requests the account's capacity again after a failed request."""

_MOMENT = 5.0  # estimated seconds until uploads in progress have ended


class AccountSpace:
    """Tracks the account's remaining space in bytes, and whether any words are left.

    Requests the capacity again only if the known space is too small. Only the service knows how many words a
    document has, so kbsync only checks that some are left. If `fetch` raises `TargetError`, kbsync doesn't
    know the space and checks nothing; the error for a refused key passes through. `steady`: a monotonic clock
    in seconds.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Capacity | None]], steady: Callable[[], float]) -> None:
        self._fetch, self._steady = fetch, steady
        self._turn = asyncio.Lock()
        self._known: Capacity | None = None
        self._unknown_until = -math.inf
        self._remaining = self._in_flight = 0

    async def take(self, name: str, size: int) -> None:
        """Reserve `size` bytes before an upload. Call `ended` after it.

        Raises `Halted("quota")` if the account has less space left, or `Unavailable` if it may have enough
        once the uploads in progress have ended.
        """
        async with self._turn:
            if self._known is None:
                is_due = self._steady() >= self._unknown_until
            else:
                is_due = _lacks_words(self._known) or size > self._remaining + self._in_flight
            if is_due:  # others may have stored or deleted documents
                await self._refresh()
            known = self._known
            if known is not None and _lacks_words(known):
                reason = f"the account has used all of its {known.total_words:,} words"
                raise Halted("quota", f"{reason}, but {name} needs more; {SPACE_ADVICE}")
            if known is not None and size > self._remaining:
                remaining, total = format_size(self._remaining), format_size(known.total)
                reason = f"the account has {remaining} left of {total}, but {name} needs {format_size(size)}"
                if size <= self._remaining + self._in_flight:
                    reason = f"{reason}; this document is waiting for the uploads in progress"
                    raise Unavailable(reason, retry_after=_MOMENT, untried=True)
                raise Halted("quota", f"{reason}; {SPACE_ADVICE}")
            self._remaining -= size
            self._in_flight += size

    def ended(self, size: int) -> None:
        """Record the end of an upload.

        Until the next capacity request, its bytes count as used, even if it failed.
        """
        self._in_flight -= size

    async def has_room(self, size: int = 1) -> bool:
        """Ask the service whether `size` bytes, and any words, are left.

        For a document that has been accepted, any remaining space is enough, because the used space already
        includes it.
        """
        async with self._turn:
            await self._refresh()
        is_open = self._known is not None and not _lacks_words(self._known)
        return is_open and self._remaining >= max(1, size)

    async def blame(self, error: NoRoom, size: int = 1) -> TargetError:
        """Return the error for a reported lack of space.

        If the account has space (see `has_room`), the document is to blame.
        """
        if await self.has_room(size):
            return Rejected(error.reason.partition(f"; {SPACE_ADVICE}")[0], code=error.code)
        return Halted(error.halt, error.reason, code=error.code)

    async def _refresh(self) -> None:
        self._known = None
        try:
            self._known = await self._fetch()
        except TargetError as error:
            if isinstance(error, Halted) and error.halt == "credentials":
                raise
        self._unknown_until = self._steady() + UNKNOWN_FOR
        if self._known is not None:
            # the service may not count uploads in progress
            self._remaining = max(0, self._known.total - self._known.used - self._in_flight)


def _lacks_words(room: Capacity) -> bool:
    """Return whether the account's word quota is used up, even if bytes are left."""
    return room.used_words is not None and room.used_words >= (room.total_words or 0)
