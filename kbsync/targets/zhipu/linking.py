"""Sending the address of a page instead of a file, and what became of it."""

from __future__ import annotations

from kbsync.contract.mirroring import Accepted, Outgoing, PutOutcome
from kbsync.core.links import Link, NoLink, link_from
from kbsync.errors import NotOffered, Rejected, Unfit
from kbsync.targets.http.lacking import Lacking
from kbsync.targets.zhipu.api import Api
from kbsync.targets.zhipu.codes import NotFound, Op
from kbsync.targets.zhipu.formats import Slicing, slicing_of
from kbsync.targets.zhipu.knowledge import Knowledge
from kbsync.targets.zhipu.receipts import outcome_of
from kbsync.targets.zhipu.wire import Receipt


class Linking:
    """Has the vendor fetch pages, one to a request, never repeated here. `lacking`: whether it can."""

    def __init__(self, api: Api, knowledge: Knowledge, lacking: Lacking, cure: str) -> None:
        self._api, self._knowledge, self._lacking, self._cure = api, knowledge, lacking, cure

    async def put(self, document: Outgoing) -> PutOutcome:
        """The page of a link file. Raises `TargetError`; `Unfit` for a file that holds no address."""
        link = link_in(document)
        try:
            slicing = slicing_of(document.path, {**document.settings, **link.settings})
            receipt = await self._sent(link.address, slicing)
        except (NotFound, NotOffered) as error:
            reason = f"the vendor takes no addresses here: {error.reason}"
            is_proven = isinstance(error, NotFound) or self._lacking.lacks(Op.UPLOAD_URL)
            raise Unfit(reason, code=error.code, may_pass=not is_proven) from error
        return _of_page(outcome_of(receipt, link.address, self._cure))

    async def _sent(self, address: str, slicing: Slicing) -> Receipt:
        """Raises `NotOffered` where there is no such call, without asking once that is known."""
        self._lacking.check(Op.UPLOAD_URL)
        try:
            return await self._api.upload_url(address, slicing)
        except (NotFound, NotOffered) as error:
            await self._knowledge.look()
            if isinstance(error, NotOffered):
                self._lacking.note(Op.UPLOAD_URL, error)
            raise


def link_in(document: Outgoing) -> Link:
    """What a link file holds. Raises `Unfit`."""
    try:
        with document.body.open() as stream:
            return link_from(document.path, stream)
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
