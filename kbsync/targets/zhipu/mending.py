"""Calls that make the vendor index a document again; some installations have none of them."""

from __future__ import annotations

from kbsync.errors import NotOffered, Rejected
from kbsync.targets.http.lacking import Lacking
from kbsync.targets.zhipu.allowance import Allowance
from kbsync.targets.zhipu.api import Api
from kbsync.targets.zhipu.codes import NoRoom, NotFound, Op
from kbsync.targets.zhipu.formats import Slicing
from kbsync.targets.zhipu.knowledge import Knowledge, is_gone
from kbsync.targets.zhipu.wire import Row


class Mending:
    """Re-embeds and re-slices. `lacking` remembers calls that are missing."""

    def __init__(self, api: Api, knowledge: Knowledge, allowance: Allowance, lacking: Lacking) -> None:
        self._api, self._knowledge, self._lacking = api, knowledge, lacking
        self._allowance = allowance

    async def reembed(self, remote_id: str) -> None:
        """Accepted is not done. Raises `NotOffered`, `NotFound` for a document that is gone, and the like."""
        self._lacking.check(Op.REEMBED)
        try:
            await self._api.reembed(remote_id)
        except (NotFound, NotOffered) as error:
            raise await self._blamed(Op.REEMBED, remote_id, error) from error
        except NoRoom as error:
            raise await self._allowance.judged(error) from error

    async def reslice(self, remote_id: str, slicing: Slicing) -> None:
        """Accepted is not done. Images are not among what this call can change; errors as `reembed`."""
        self._lacking.check(Op.RESLICE)
        row = await self._row(remote_id)
        if row is None:
            raise await self._gone()
        if (row.parse_image or False) != slicing.parse_image:
            raise NotOffered("whether images are read cannot be changed by slicing anew")
        try:
            await self._api.reslice(remote_id, slicing)
        except (NotFound, NotOffered) as error:
            raise await self._blamed(Op.RESLICE, remote_id, error) from error
        except NoRoom as error:
            raise await self._allowance.judged(error) from error

    async def _blamed(self, op: Op, remote_id: str, error: Rejected) -> Rejected:
        """A 404 is either the call's or the document's: the document's own page tells."""
        if is_gone(error):
            is_said = error.code != "404"  # in words about the document
            if is_said or await self._row(remote_id) is None:
                return await self._gone()
        reason = f"{op}: the vendor has no such call here: {error.reason}"
        return self._lacking.note(op, NotOffered(reason, code=error.code))

    async def _row(self, remote_id: str) -> Row | None:
        try:
            return await self._api.detail(remote_id)
        except Rejected as error:
            if is_gone(error):
                return None
            raise

    async def _gone(self) -> NotFound:
        """Raises `Halted` where it is the base that is gone."""
        await self._knowledge.look()
        return NotFound("the document is no longer in the knowledge base")
