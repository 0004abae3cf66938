"""What the vendor says of a document, as the contract's states. Pure.

Finding out what became of documents, with few requests: by pages of the list, else one by one.

Calls that make the vendor index a document again; some installations have none of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from kbsync.contract.target import DocState, DocStatus
from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable
from kbsync.targets.http.limits import MissingCalls
from kbsync.targets.zhipu import errors
from kbsync.targets.zhipu.api import Knowledge, ZhipuApi, ask_each, is_gone
from kbsync.targets.zhipu.errors import SPACE_ADVICE, NoRoom, NotFound, ZhipuCall
from kbsync.targets.zhipu.formats import Slicing
from kbsync.targets.zhipu.paging import SeenOnPages, look_for
from kbsync.targets.zhipu.shapes import FailInfo, ZhipuDocument, created_of
from kbsync.targets.zhipu.upload import AccountSpace

_FULL = "the account has no room left to make documents searchable"
_STATES = {0: DocState.INDEXING, 1: DocState.READY, 2: DocState.FAILED}

_MEANINGS = {
    "10001": "the knowledge base is full, or the document is damaged",
    "10002": "the knowledge base is full",
}
"""As the manual has them; said only where the vendor adds no words."""


def status_of(row: ZhipuDocument, *, has_room: bool = False) -> DocStatus:
    """`embedding_stat` as an integer 0, 1 or 2 counts; all else (text, fraction, null, 3) is UNKNOWN.

    `failInfo` counts only with 2: it stays from before after a new start. `has_room`: the account has room
    left, so that words about space and length are about the document alone.
    """
    state = _STATES.get(row.stat, DocState.UNKNOWN) if type(row.stat) is int else DocState.UNKNOWN
    if state is not DocState.FAILED:
        return DocStatus(state)
    return _failed(row.failure or FailInfo(""), row.name, has_room=has_room)


def _failed(failure: FailInfo, name: str, *, has_room: bool) -> DocStatus:
    said = errors.quoted(failure.text)
    reason = said or _MEANINGS.get(failure.code, "the vendor gives no reason")
    is_money = errors.says_money(errors.without_names(failure.text, name))
    if _is_full(failure, name) and (is_money or not has_room):
        return DocStatus(DocState.FAILED, f"{_FULL} ({reason}); {SPACE_ADVICE}", failure.code, "quota")
    return DocStatus(DocState.FAILED, reason, failure.code)


def _is_full(failure: FailInfo, name: str) -> bool:
    """The words decide: 10001 was seen with "document damaged". Only 10002 has one meaning by itself."""
    if failure.text.strip():
        return errors.says_full(errors.without_names(failure.text, name))
    return failure.code == "10002"


FEW = 2
"""So many are asked for one by one from the start."""

_UNKNOWN = DocStatus(DocState.UNKNOWN)


class Waiting:
    """Looks at documents that are being indexed. Nothing is remembered between two looks."""

    def __init__(self, api: ZhipuApi, knowledge: Knowledge, allowance: AccountSpace, at_once: int) -> None:
        self._api, self._knowledge, self._at_once = api, knowledge, at_once
        self._allowance = allowance

    async def states(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """The state of each of `ids` (no id twice); UNKNOWN where it could not be had.

        Absence from the list proves nothing; MISSING is what a detail says while the base answers. There
        are no more looks at pages and details than ids. Raises `Halted`, and `Unavailable` where nothing
        could be seen at all.
        """
        seen = await self._on_pages(ids) if len(ids) > FEW else SeenOnPages()
        states = {remote_id: status_of(row) for remote_id, row in seen.rows.items()}
        shown = dict(seen.rows)
        rest = sorted((one for one in ids if one not in states), key=lambda one: created_of(one) or 0.0)
        states |= await self._one_by_one(rest[: len(ids) - seen.requests], shown, is_first=not states)
        states |= await self._to_blame({one: shown[one] for one, state in states.items() if state.halt})
        return {remote_id: states.get(remote_id, _UNKNOWN) for remote_id in ids}

    async def _to_blame(self, full: Mapping[str, ZhipuDocument]) -> dict[str, DocStatus]:
        """What is said to lack room: the account, or where that has room the document, which halts nobody."""
        if not full or not await self._allowance.has_room():
            return {}
        return {one: status_of(row, has_room=True) for one, row in full.items()}

    async def _on_pages(self, ids: Sequence[str]) -> SeenOnPages:
        try:
            return await look_for(self._api.page, ids)
        except Rejected:
            await self._knowledge.look()
            return SeenOnPages(requests=1)

    async def _one_by_one(
        self, ids: Sequence[str], shown: dict[str, ZhipuDocument], *, is_first: bool
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


class Mending:
    """Re-embeds and re-slices. `lacking` remembers calls that are missing."""

    def __init__(
        self, api: ZhipuApi, knowledge: Knowledge, allowance: AccountSpace, lacking: MissingCalls
    ) -> None:
        self._api, self._knowledge, self._lacking = api, knowledge, lacking
        self._allowance = allowance

    async def reembed(self, remote_id: str) -> None:
        """Accepted is not done. Raises `NotOffered`, `NotFound` for a document that is gone, and the like."""
        self._lacking.check(ZhipuCall.REEMBED)
        try:
            await self._api.reembed(remote_id)
        except (NotFound, NotOffered) as error:
            raise await self._blamed(ZhipuCall.REEMBED, remote_id, error) from error
        except NoRoom as error:
            raise await self._allowance.judged(error) from error

    async def reslice(self, remote_id: str, slicing: Slicing) -> None:
        """Accepted is not done. Images are not among what this call can change; errors as `reembed`."""
        self._lacking.check(ZhipuCall.RESLICE)
        row = await self._row(remote_id)
        if row is None:
            raise await self._gone()
        if (row.parse_image or False) != slicing.parse_image:
            raise NotOffered("whether images are read cannot be changed by slicing anew")
        try:
            await self._api.reslice(remote_id, slicing)
        except (NotFound, NotOffered) as error:
            raise await self._blamed(ZhipuCall.RESLICE, remote_id, error) from error
        except NoRoom as error:
            raise await self._allowance.judged(error) from error

    async def _blamed(self, op: ZhipuCall, remote_id: str, error: Rejected) -> Rejected:
        """A 404 is either the call's or the document's: the document's own page tells."""
        if is_gone(error):
            is_said = error.code != "404"  # in words about the document
            if is_said or await self._row(remote_id) is None:
                return await self._gone()
        reason = f"{op}: the vendor has no such call here: {error.reason}"
        return self._lacking.note(op, NotOffered(reason, code=error.code))

    async def _row(self, remote_id: str) -> ZhipuDocument | None:
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
