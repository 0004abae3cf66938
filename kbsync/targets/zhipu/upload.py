"""Checks the account's space for an upload, and parses the upload's response."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

from kbsync.contract.target import Accepted, Capacity
from kbsync.core.text import format_size
from kbsync.errors import Halted, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http.reading import object_of
from kbsync.targets.http.rules import ErrorCase
from kbsync.targets.zhipu import errors
from kbsync.targets.zhipu.errors import SPACE_ADVICE, NoRoom
from kbsync.targets.zhipu.shapes import FailInfo, data_of

UNKNOWN_FOR = 180.0
"""Seconds before kbsync requests the account's capacity again after a request that failed."""

FAILED_INFOS = "failedInfos"

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

    @property
    def remaining(self) -> int | None:
        """Return the bytes left; None if unknown."""
        return None if self._known is None else self._remaining

    async def take(self, name: str, size: int) -> None:
        """Reserve `size` bytes before an upload; call `ended` after it.

        Raises `Halted("quota")` if the account has less left, or `Unavailable` if it may have enough once the
        uploads in progress have ended.
        """
        async with self._turn:
            if self._known is None:
                is_due = self._steady() >= self._unknown_until
            else:
                is_due = _lacks_words(self._known) or size > self._remaining + self._in_flight
            if is_due:  # others may have stored or deleted documents
                await self._refresh()
            if self._known is not None and _lacks_words(self._known):
                reason = (
                    f"the account has used all of its {self._known.total_words:,} words; {name} needs more"
                )
                raise Halted("quota", f"{reason}; {SPACE_ADVICE}")
            if self._known is not None and size > self._remaining:
                remaining, total = format_size(self._remaining), format_size(self._known.total)
                reason = f"the account has {remaining} left of {total}; {name} needs {format_size(size)}"
                if size <= self._remaining + self._in_flight:
                    reason += "; it waits for the uploads in progress"
                    raise Unavailable(reason, retry_after=_MOMENT, untried=True)
                raise Halted("quota", f"{reason}; {SPACE_ADVICE}")
            self._remaining -= size
            self._in_flight += size

    def ended(self, size: int) -> None:
        """Record the end of an upload. Until the next request its bytes count as used, even if it failed."""
        self._in_flight -= size

    async def has_room(self, size: int = 1) -> bool:
        """Ask the service whether `size` bytes, and any words, are left.

        The used space already includes accepted documents, so for such a document any remaining space is
        enough.
        """
        async with self._turn:
            await self._refresh()
        if self._known is None or _lacks_words(self._known):
            return False
        return self._remaining >= max(1, size)

    async def blame(self, error: NoRoom, size: int = 1) -> TargetError:
        """Return the error for a reported lack of space: if the account has space (see `has_room`), the
        document is to blame.
        """
        if await self.has_room(size):
            return Rejected(error.reason_alone, code=error.code)
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


def _lacks_words(room: Capacity | None) -> bool:
    """Return whether the account has no words left, even if it has bytes."""
    return room is not None and room.used_words is not None and room.used_words >= (room.total_words or 0)


def read_receipt(body: Any, name: str, key: str = "fileName") -> Accepted:
    """Return a document's outcome from the response to its upload; code 200 alone isn't a success (promise
    10).

    `name`: the value sent under `key`, a file's name or a page's `url`. A single success counts, regardless
    of its name. If the response lists the document both as stored and as failed, or not at all, the outcome
    is `Unsure`.
    """
    content = object_of(data_of(body))
    stored = {
        remote_id: info.text(key)
        for info in content.objects("successInfos")
        if (remote_id := info.id("documentId")) is not None
    }
    failed = [
        FailInfo(info.text("failReason"), name=info.text(key)) for info in content.objects(FAILED_INFOS)
    ]
    candidates = (
        list(stored) if len(stored) == 1 else [remote_id for remote_id in stored if stored[remote_id] == name]
    )
    if len(candidates) == 1:
        stored_name = stored[candidates[0]]
        is_of_others = stored_name == name and all(info.name not in ("", name) for info in failed)
        if not failed or is_of_others:
            return Accepted(candidates[0], name=stored_name)
    if stored:
        raise Unsure(f"the service's response contradicts itself about {name}", code="contradiction")
    if failed:
        info = next((failure for failure in failed if failure.name == name), failed[0])
        raise receipt_error(info, name)
    raise Unsure(f"the service's response lists {name} neither as stored nor as failed", code="no-receipt")


def receipt_error(failure: FailInfo, name: str) -> TargetError:
    """Return the error for one file in the response.

    `failReason` is free text: its words, without the document's name, decide whether the account or the
    document is to blame.
    """
    message = errors.quote_message(failure.text)
    rule = errors.refusal(errors.RECEIPT, message, errors.without_names(failure.text, name, failure.name))
    sentence = rule.says or "the service refused the document"
    reason = f"{sentence} ({message or 'no reason is given'})"
    case = ErrorCase(errors.RECEIPT, code=FAILED_INFOS, message=message)
    return rule.error(case, reason) or Rejected(reason, code=FAILED_INFOS)
