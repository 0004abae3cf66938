"""Numbers of bytes as people read them. Pure.

Whether a document still fits into the account, asked rarely and counted in between.

What an upload's answer says of the one document that was sent: code 200 alone is no success. Pure.

Sending the address of a page instead of a file, and what became of it.

Sending one document, and what became of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kbsync.contract.target import Accepted, Outgoing, PutOutcome
from kbsync.core.links import NoLink, address_from, is_link
from kbsync.errors import Halted, NameTaken, NotOffered, Rejected, TargetError, Unavailable, Unfit, Unsure
from kbsync.targets.http.limits import MissingCalls
from kbsync.targets.zhipu import errors
from kbsync.targets.zhipu.api import Knowledge, ZhipuApi
from kbsync.targets.zhipu.errors import SPACE_ADVICE, NoRoom, NotFound, ZhipuCall
from kbsync.targets.zhipu.formats import EXTENSIONS, Slicing, extension_of, slicing_of
from kbsync.targets.zhipu.settings import ZhipuSettings
from kbsync.targets.zhipu.shapes import Capacity, FailInfo, StoredDocument, ZhipuReceipt


def sized(count: int) -> str:
    """`count` bytes in decimal units, such as `12.3 MB`."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if round(amount, 1) < 1000:
            return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


INTERVAL = 180.0
"""Seconds between two questions, at the least."""

_MOMENT = 5.0  # seconds until uploads under way may have ended

_SMALL = 0.05  # of the account's space: less than this is asked again, since others use it too


class AccountSpace:
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


CODE = "failedInfos"


def outcome_of(receipt: ZhipuReceipt, name: str, cure: str) -> PutOutcome:
    """The outcome of a document sent as `name`, alone in its request; `cure`: what to run then.

    Exactly one success counts whatever name it has; in both lists or in neither: nobody knows.
    """
    stored = _stored(receipt, name)
    if stored is not None:
        return Accepted(stored.id, name="" if stored.name in ("", name) else stored.name)
    if receipt.failed and not receipt.stored:
        return _refused(_failure(receipt, name), name, cure)
    if not receipt.stored:
        return Unsure(f"the vendor's answer names {name} neither as stored nor as failed", code="no-receipt")
    return Unsure(f"the vendor's answer contradicts itself about {name}", code="contradiction")


def _stored(receipt: ZhipuReceipt, name: str) -> StoredDocument | None:
    """The one success, unless it is named among the failures as well."""
    exact = [one for one in receipt.stored if one.name == name]
    [*candidates] = receipt.stored if len(receipt.stored) == 1 else exact
    if len(candidates) != 1:
        return None
    [stored] = candidates
    if not receipt.failed:
        return stored
    is_of_others = stored.name == name and all(one.name not in ("", name) for one in receipt.failed)
    return stored if is_of_others else None


def _failure(receipt: ZhipuReceipt, name: str) -> FailInfo:
    return next((one for one in receipt.failed if one.name == name), receipt.failed[0])


def _refused(failure: FailInfo, name: str, cure: str) -> TargetError:
    """`failReason` is free text: its words decide who is to blame, and not those of the document's name."""
    said = errors.quoted(failure.text) or "no reason is given"
    text = errors.without_names(failure.text, name, failure.name)
    if errors.says_full(text):
        reason = f"the account is at its limit ({said})"
        is_money = errors.says_money(text)
        return (
            Halted("quota", reason, cure=cure, code=CODE)
            if is_money
            else NoRoom(reason, cure=cure, code=CODE)
        )
    if errors.says_wrong_type(text):
        return Rejected(f"the vendor does not take this format ({said})", code=CODE)
    if errors.says_name_taken(text):
        return NameTaken(f"the vendor has a document of this name already ({said})", code=CODE)
    if errors.says_busy(text):
        return Unavailable(f"the vendor is busy ({said})", code=CODE)
    return Rejected(f"the vendor refused the document: {said}", code=CODE)


class Linking:
    """Has the vendor fetch pages, one to a request, never repeated here. `lacking`: whether it can."""

    def __init__(self, api: ZhipuApi, knowledge: Knowledge, lacking: MissingCalls, cure: str) -> None:
        self._api, self._knowledge, self._lacking, self._cure = api, knowledge, lacking, cure

    async def put(self, document: Outgoing) -> PutOutcome:
        """The page of a link file. Raises `TargetError`; `Unfit` for a file that holds no address."""
        address = _address_in(document)
        try:
            receipt = await self._sent(address, slicing_of(document.path, document.settings))
        except (NotFound, NotOffered) as error:
            reason = f"the vendor takes no addresses here: {error.reason}"
            is_proven = isinstance(error, NotFound) or self._lacking.lacks(ZhipuCall.UPLOAD_URL)
            raise Unfit(reason, code=error.code, may_pass=not is_proven) from error
        return _of_page(outcome_of(receipt, address, self._cure))

    async def _sent(self, address: str, slicing: Slicing) -> ZhipuReceipt:
        """Raises `NotOffered` where there is no such call, without asking once that is known."""
        self._lacking.check(ZhipuCall.UPLOAD_URL)
        try:
            return await self._api.upload_url(address, slicing)
        except (NotFound, NotOffered) as error:
            await self._knowledge.look()
            if isinstance(error, NotOffered):
                self._lacking.note(ZhipuCall.UPLOAD_URL, error)
            raise


def _address_in(document: Outgoing) -> str:
    """What a link file holds. Raises `Unfit`."""
    try:
        with document.body.open() as stream:
            return address_from(document.path, stream)
    except NoLink as reason:
        raise Unfit(str(reason), code="link") from None


def _of_page(outcome: PutOutcome) -> PutOutcome:
    """A page has no name of ours to be found by, and one that cannot be fetched says nothing of the rest."""
    match outcome:
        case Accepted():
            return Accepted(outcome.remote_id)
        case Rejected():
            return Unfit(outcome.reason, code=outcome.code)
    return outcome


class Uploading:
    """Sends documents one by one; every outcome is returned, none raised."""

    def __init__(
        self,
        settings: ZhipuSettings,
        api: ZhipuApi,
        knowledge: Knowledge,
        allowance: AccountSpace,
        lacking: MissingCalls,
    ) -> None:
        self._settings, self._api = settings, api
        self._knowledge, self._allowance = knowledge, allowance
        self._linking = Linking(api, knowledge, lacking, settings.command("retry"))

    async def put(self, document: Outgoing) -> PutOutcome:
        """One request, never repeated here. Where it lacks room the account is asked who is to blame."""
        outcome = await self._put(document)
        return (
            await self._allowance.judged(outcome, document.size) if isinstance(outcome, NoRoom) else outcome
        )

    async def _put(self, document: Outgoing) -> PutOutcome:
        try:
            if is_link(document.path):
                return await self._linking.put(document)
            self._check(document)
            await self._allowance.take(document.name, document.size)
            return await self._send(document)
        except TargetError as error:
            return error

    def _check(self, document: Outgoing) -> None:
        """Refuse here what the vendor would refuse after all of it was sent."""
        if extension_of(document.name) not in EXTENSIONS:
            known = " ".join(sorted(EXTENSIONS))
            raise Rejected(f"the vendor does not take this format; it takes {known}", code="format")
        most = self._settings.max_bytes
        if document.size > most:
            raise Rejected(f"{sized(document.size)} is over the limit of {sized(most)}", code="too-large")

    async def _send(self, document: Outgoing) -> PutOutcome:
        stored = True
        try:
            outcome = await self._sent(document)
            stored = isinstance(outcome, Unsure) or not isinstance(outcome, TargetError)
            return outcome
        finally:
            self._allowance.ended(document.size, stored=stored)

    async def _sent(self, document: Outgoing) -> PutOutcome:
        try:
            receipt = await self._api.upload(document, slicing_of(document.name, document.settings))
        except (NotFound, NotOffered) as error:
            return await self._without_base(error)
        except TargetError as error:
            return error
        return outcome_of(receipt, document.name, self._settings.command("retry"))

    async def _without_base(self, error: Rejected) -> TargetError:
        """The base may be gone, which is no fault of the document."""
        try:
            await self._knowledge.look()
        except TargetError as missing:
            return missing
        reason = f"refused although the knowledge base is there: {error.reason}"
        # the call itself is not there: what answered was hardly the vendor
        return Rejected(reason, code=error.code, may_pass=isinstance(error, NotOffered))
