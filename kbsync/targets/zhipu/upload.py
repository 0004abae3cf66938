"""One document goes to the vendor: whether it has room, one request, and what the answer says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from kbsync.contract.target import Accepted, Outgoing, PutOutcome
from kbsync.core.links import NoLink, address_from, is_link
from kbsync.core.text import sized
from kbsync.errors import Halted, NameTaken, NotOffered, Rejected, TargetError, Unavailable, Unfit, Unsure
from kbsync.targets.http.reading import id_of, object_of, objects_in, text_of
from kbsync.targets.zhipu import errors
from kbsync.targets.zhipu.api import ZhipuApi
from kbsync.targets.zhipu.config import EXTENSIONS, extension_of, slicing_of
from kbsync.targets.zhipu.errors import SPACE_ADVICE, NoRoom, NotFound, ZhipuCall
from kbsync.targets.zhipu.shapes import Capacity, FailInfo, data_of

INTERVAL = 180.0
"""Seconds between two questions about the account's space, at the least."""

FAILED_INFOS = "failedInfos"

_MOMENT = 5.0  # seconds until uploads under way may have ended
_SMALL = 0.05  # of the account's space: less than this is asked again, since others use it too


class AccountSpace:
    """The rest of the account's space in bytes, as far as the vendor tells, and whether words are left in it.

    How many words a document has only the vendor knows: it is foreseen that none are left, and no more.
    Where `ask` raises `TargetError` nothing is known and nothing is checked, unless the key was refused.
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
            is_too_much = self._known is not None and size > self._left + self._under_way
            if self._is_due(size) or is_too_much:
                await self._look()
            if self._known is not None and self._known.lacks_words:
                await self._look()  # before anybody is called: others may have made room
            if self._known is not None and self._known.lacks_words:
                reason = f"the account has none left of {self._known.total_words:,} words; {name} needs some"
                raise Halted("quota", f"{reason}; {SPACE_ADVICE}", cure=self._cure)
            if self._known is not None and size > self._left:
                left, total = sized(max(0, self._left)), sized(self._known.total)
                reason = f"the account has {left} left of {total}; {name} needs {sized(size)}"
                if size <= self._left + self._under_way:
                    reason += "; it waits for the uploads under way"
                    raise Unavailable(reason, retry_after=_MOMENT, untried=True)
                self._asked_at = None  # before the next try somebody may have made room
                raise Halted("quota", f"{reason}; {SPACE_ADVICE}", cure=self._cure)
            self._left -= size
            self._under_way += size

    def ended(self, size: int, *, stored: bool) -> None:
        """The upload of counted bytes is over; `stored`: they are, or may be, at the vendor."""
        self._under_way -= size
        if not stored:
            self._left += size

    def freed(self) -> None:
        """Documents were deleted: the vendor is asked before the next upload is refused for want of space."""
        if self._known is not None and self._left < _SMALL * self._known.total:
            self._asked_at = None

    async def has_room(self, size: int = 1) -> bool:
        """Whether `size` bytes, and words at all, are left by the vendor's word at this moment.

        A document that was accepted is among what is used already: for it any room is room enough.
        """
        async with self._turn:
            await self._look()
        if self._known is None or self._known.lacks_words:
            return False
        return self._left >= max(1, size)

    async def blamed(self, error: NoRoom, size: int = 1) -> TargetError:
        """What a lack of room means: where there is room (see `has_room`), the document is to blame."""
        if await self.has_room(size):
            return Rejected(error.said, code=error.code)
        return Halted(error.halt, error.reason, cure=error.cure, code=error.code)

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


class Uploader:
    """Sends documents one by one, each in one request that is never repeated here.

    `cure`: the command for a halt.
    """

    def __init__(self, max_bytes: int, api: ZhipuApi, space: AccountSpace, cure: str) -> None:
        self._max_bytes, self._api, self._space, self._cure = max_bytes, api, space, cure

    async def put(self, document: Outgoing) -> PutOutcome:
        """What became of it. Where room was lacking the account is asked who is to blame."""
        try:
            if is_link(document.path):
                return await self._put_page(document)
            return await self._put_file(document)
        except NoRoom as error:
            # The vendor says "space" of one document, too: the capacity tells whom it means.
            try:
                return await self._space.blamed(error, document.size)
            except TargetError as trouble:
                return trouble
        except TargetError as error:
            return error

    async def _put_file(self, document: Outgoing) -> Accepted:
        # What the vendor would refuse after all of it was sent is refused here.
        if extension_of(document.name) not in EXTENSIONS:
            known = " ".join(sorted(EXTENSIONS))
            raise Rejected(f"the vendor does not take this format; it takes {known}", code="format")
        if document.size > self._max_bytes:
            reason = f"{sized(document.size)} is over the limit of {sized(self._max_bytes)}"
            raise Rejected(reason, code="too-large")
        await self._space.take(document.name, document.size)
        stored = True
        try:
            slicing = slicing_of(document.name, document.settings)
            # Sent once. An unclear answer is unsure, and the engine looks for it by its name (promise 3).
            answer = await self._api.upload(document, slicing)
            return accepted(answer.body, document.name, self._cure)
        except (NotFound, NotOffered) as error:
            stored = False
            # The base is there. Where the call itself is not, what answered was hardly the vendor.
            reason = f"refused although the knowledge base is there: {error.reason}"
            raise Rejected(reason, code=error.code, may_pass=isinstance(error, NotOffered)) from error
        except TargetError as error:
            stored = isinstance(error, Unsure)
            raise
        finally:
            self._space.ended(document.size, stored=stored)

    async def _put_page(self, document: Outgoing) -> Accepted:
        """The address in a link file, which the vendor fetches. Raises `Unfit` for a file that holds none."""
        try:
            with document.body.open() as stream:
                address = address_from(document.path, stream)
        except NoLink as error:
            raise Unfit(str(error), code="link") from None
        slicing = slicing_of(document.path, document.settings)
        try:
            with self._api.missing.remembered(ZhipuCall.UPLOAD_URL):
                answer = await self._api.upload_url(address, slicing)
        except (NotFound, NotOffered) as error:
            reason = f"the vendor takes no addresses here: {error.reason}"
            is_proven = isinstance(error, NotFound) or self._api.missing.lacks(ZhipuCall.UPLOAD_URL)
            raise Unfit(reason, code=error.code, may_pass=not is_proven) from error
        try:
            page = accepted(answer.body, address, self._cure, key="url")
        except Rejected as error:  # a page that cannot be fetched says nothing of other documents
            raise Unfit(error.reason, code=error.code) from error
        return Accepted(page.remote_id)  # it has no name of ours to be found by


def accepted(body: Any, name: str, cure: str, key: str = "fileName") -> Accepted:
    """What an upload's answer says of the one document in it: code 200 alone is no success (promise 10).

    `name`: what was sent under `key`, the name of a file or the `url` of a page; `cure`: what to run after a
    halt. Exactly one success counts, under whatever name. In both lists or in neither it is `Unsure`.
    """
    content = object_of(data_of(body))
    stored = {
        remote_id: text_of(one.get(key))
        for one in objects_in(content.get("successInfos"))
        if (remote_id := id_of(one.get("documentId"))) is not None
    }
    failed = [
        FailInfo(text_of(one.get("failReason")), name=text_of(one.get(key)))
        for one in objects_in(content.get(FAILED_INFOS))
    ]
    candidates = list(stored) if len(stored) == 1 else [one for one in stored if stored[one] == name]
    if len(candidates) == 1:
        told = stored[candidates[0]]
        is_of_others = told == name and all(one.name not in ("", name) for one in failed)
        if not failed or is_of_others:
            return Accepted(candidates[0], name="" if told in ("", name) else told)
    if stored:
        raise Unsure(f"the vendor's answer contradicts itself about {name}", code="contradiction")
    if failed:
        own = next((one for one in failed if one.name == name), failed[0])
        raise refused(own, name, cure)
    raise Unsure(f"the vendor's answer names {name} neither as stored nor as failed", code="no-receipt")


def refused(failure: FailInfo, name: str, cure: str) -> TargetError:
    """`failReason` is free text: its words decide who is to blame, and not those of the document's name."""
    said = errors.quoted(failure.text) or "no reason is given"
    text = errors.without_names(failure.text, name, failure.name)
    if errors.says_full(text):
        reason = f"the account is at its limit ({said})"
        if errors.says_money(text):
            return Halted("quota", reason, cure=cure, code=FAILED_INFOS)
        return NoRoom(reason, cure=cure, code=FAILED_INFOS)
    if errors.says_wrong_type(text):
        return Rejected(f"the vendor does not take this format ({said})", code=FAILED_INFOS)
    if errors.says_name_taken(text):
        return NameTaken(f"the vendor has a document of this name already ({said})", code=FAILED_INFOS)
    if errors.says_busy(text):
        return Unavailable(f"the vendor is busy ({said})", code=FAILED_INFOS)
    return Rejected(f"the vendor refused the document: {said}", code=FAILED_INFOS)
