"""Finding out what became of documents, with few requests: by pages of the list, else one by one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from kbsync.contract.mirroring import DocState, DocStatus
from kbsync.errors import Halted, Rejected, TargetError, Unavailable
from kbsync.targets.zhipu.allowance import Allowance
from kbsync.targets.zhipu.api import Api
from kbsync.targets.zhipu.each import ask_each
from kbsync.targets.zhipu.ids import created_of
from kbsync.targets.zhipu.knowledge import Knowledge, is_gone
from kbsync.targets.zhipu.paging import Sightings, look_for
from kbsync.targets.zhipu.states import status_of
from kbsync.targets.zhipu.wire import Row

FEW = 2
"""So many are asked for one by one from the start."""

_UNKNOWN = DocStatus(DocState.UNKNOWN)


class Waiting:
    """Looks at documents that are being indexed. Nothing is remembered between two looks."""

    def __init__(self, api: Api, knowledge: Knowledge, allowance: Allowance, at_once: int) -> None:
        self._api, self._knowledge, self._at_once = api, knowledge, at_once
        self._allowance = allowance

    async def states(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """The state of each of `ids` (no id twice); UNKNOWN where it could not be had.

        Absence from the list proves nothing; MISSING is what a detail says while the base answers. There
        are no more looks at pages and details than ids. Raises `Halted`, and `Unavailable` where nothing
        could be seen at all.
        """
        seen = await self._on_pages(ids) if len(ids) > FEW else Sightings()
        states = {remote_id: status_of(row) for remote_id, row in seen.rows.items()}
        shown = dict(seen.rows)
        rest = sorted((one for one in ids if one not in states), key=lambda one: created_of(one) or 0.0)
        states |= await self._one_by_one(rest[: len(ids) - seen.requests], shown, is_first=not states)
        states |= await self._to_blame({one: shown[one] for one, state in states.items() if state.halt})
        return {remote_id: states.get(remote_id, _UNKNOWN) for remote_id in ids}

    async def _to_blame(self, full: Mapping[str, Row]) -> dict[str, DocStatus]:
        """What is said to lack room: the account, or where that has room the document, which halts nobody."""
        if not full or not await self._allowance.has_room():
            return {}
        return {one: status_of(row, has_room=True) for one, row in full.items()}

    async def _on_pages(self, ids: Sequence[str]) -> Sightings:
        try:
            return await look_for(self._api.page, ids)
        except Rejected:
            await self._knowledge.look()
            return Sightings(requests=1)

    async def _one_by_one(
        self, ids: Sequence[str], shown: dict[str, Row], *, is_first: bool
    ) -> dict[str, DocStatus]:
        answers = await ask_each(ids, self._api.detail, self._at_once)
        if answers.halted is not None:
            raise answers.halted
        refused = answers.refused
        if is_first and not answers.given:
            _raise_if_away(refused.values())
        gone = [key for key, row in answers.given.items() if row is None]
        gone += [key for key, error in refused.items() if is_gone(error)]
        states = {key: _unseen(error) for key, error in refused.items()}
        shown |= {key: row for key, row in answers.given.items() if row is not None}
        states |= {key: status_of(row) for key, row in answers.given.items() if row is not None}
        return states | dict.fromkeys(gone, await self._of_gone()) if gone else states

    async def _of_gone(self) -> DocStatus:
        """What "not found" means: nothing, as long as the base does not answer."""
        try:
            await self._knowledge.look()
        except Halted:
            raise
        except TargetError as error:
            return _unseen(error)
        return DocStatus(DocState.MISSING)


def _raise_if_away(errors: Collection[TargetError]) -> None:
    """Where nobody answered at all it is the target's trouble and not the documents'."""
    away = [error for error in errors if isinstance(error, Unavailable)]
    if away and len(away) == len(errors):
        raise away[0]


def _unseen(error: TargetError) -> DocStatus:
    return DocStatus(DocState.UNKNOWN, error.reason, error.code)
