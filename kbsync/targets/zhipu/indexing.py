"""Whether documents became searchable, and the calls that make the vendor index one again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kbsync.contract.target import DocState, DocStatus
from kbsync.errors import NotOffered, Rejected, Unavailable
from kbsync.targets.zhipu import errors
from kbsync.targets.zhipu.api import ZhipuApi
from kbsync.targets.zhipu.errors import SPACE_ADVICE, NoRoom, NotFound, ZhipuCall, is_gone
from kbsync.targets.zhipu.formats import Slicing
from kbsync.targets.zhipu.paging import SeenOnPages, look_for
from kbsync.targets.zhipu.shapes import FailInfo, ZhipuDocument, created_of
from kbsync.targets.zhipu.upload import AccountSpace

FEW = 2
"""So many are asked for one by one from the start."""

_FULL = "the account has no room left to make documents searchable"
_STATES = {0: DocState.INDEXING, 1: DocState.READY, 2: DocState.FAILED}
_MEANINGS = {
    "10001": "the knowledge base is full, or the document is damaged",
    "10002": "the knowledge base is full",
}
"""As the manual has them; said only where the vendor adds no words."""


def status_of(document: ZhipuDocument, *, has_room: bool = False) -> DocStatus:
    """`embedding_stat` as an integer 0, 1 or 2 counts; all else (text, fraction, null, 3) is UNKNOWN.

    `failInfo` counts only with 2: it stays from before after a new start. `has_room`: the account has room
    left, so that words about space and length are about the document alone.
    """
    # Read strictly: a text "1" or an unknown number is never taken for ready (promise 10).
    stat = document.stat
    state = _STATES.get(stat, DocState.UNKNOWN) if type(stat) is int else DocState.UNKNOWN
    if state is not DocState.FAILED:
        return DocStatus(state)
    failure = document.failure or FailInfo("")
    reason = errors.quoted(failure.text) or _MEANINGS.get(failure.code, "the vendor gives no reason")
    text = errors.without_names(failure.text, document.name)
    # 10001 was seen with "document damaged": where there are words, they decide
    is_full = errors.says_full(text) if failure.text.strip() else failure.code == "10002"
    if is_full and (errors.says_money(text) or not has_room):
        return DocStatus(DocState.FAILED, f"{_FULL} ({reason}); {SPACE_ADVICE}", failure.code, "quota")
    return DocStatus(DocState.FAILED, reason, failure.code)


class Indexing:
    """Looks at documents that are being indexed, and starts it again. Nothing is remembered between looks."""

    def __init__(self, api: ZhipuApi, space: AccountSpace) -> None:
        self._api, self._space = api, space

    async def states(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """The state of each of `ids` (no id twice); UNKNOWN where it could not be had.

        By pages of the list, else one by one, in no more looks than there are ids. Absence from the list
        proves nothing; MISSING is what a detail says while the base answers. Raises `Halted`, and
        `Unavailable` where nothing could be seen at all.
        """
        lookup = await self._on_pages(ids) if len(ids) > FEW else SeenOnPages()
        seen = dict(lookup.rows)
        # Many by pages, few by themselves (ADR 15). The oldest first: the newest can wait for the next look.
        rest = sorted((one for one in ids if one not in seen), key=lambda one: created_of(one) or 0.0)
        answers = await self._api.documents(rest[: len(ids) - lookup.requests])
        if answers.halted is not None:
            raise answers.halted
        away = [error for error in answers.refused.values() if isinstance(error, Unavailable)]
        if away and len(away) == len(answers.refused) and not seen and not answers.given:
            raise away[0]  # nobody answered at all: the target's trouble and not the documents'
        states = dict.fromkeys(ids, DocStatus(DocState.UNKNOWN))
        for one, error in answers.refused.items():
            states[one] = DocStatus(DocState.UNKNOWN, error.reason, error.code)
        for one, document in answers.given.items():
            if document is None:
                states[one] = DocStatus(DocState.MISSING)
            else:
                seen[one] = document
        states |= {one: status_of(document) for one, document in seen.items()}
        full = [one for one, state in states.items() if state.halt]
        if full and await self._space.has_room():  # then the documents are to blame, which halts nobody
            states |= {one: status_of(seen[one], has_room=True) for one in full}
        return states

    async def _on_pages(self, ids: Sequence[str]) -> SeenOnPages:
        try:
            return await look_for(self._api.page, ids)
        except Rejected:  # the base is there, and the list is not to be had
            return SeenOnPages(requests=1)

    async def reembed(self, remote_id: str) -> None:
        """Accepted is not done. Raises `NotOffered`, `NotFound` for a document that is gone, and the like."""
        self._api.missing.check(ZhipuCall.REEMBED)
        try:
            await self._api.reembed(remote_id)
        except (NotFound, NotOffered) as error:
            raise await self._blamed(ZhipuCall.REEMBED, remote_id, error) from error
        except NoRoom as error:
            raise await self._space.blamed(error) from error

    async def reslice(self, remote_id: str, slicing: Slicing) -> None:
        """Cut a document that failed again. It cannot change whether images are read; errors as above."""
        self._api.missing.check(ZhipuCall.RESLICE)
        document = await self._document(remote_id)
        if document is None:
            raise _gone()
        if (document.parse_image or False) != slicing.parse_image:
            raise NotOffered("whether images are read cannot be changed by slicing again")
        try:
            await self._api.reslice(remote_id, slicing)
        except (NotFound, NotOffered) as error:
            raise await self._blamed(ZhipuCall.RESLICE, remote_id, error) from error
        except NoRoom as error:
            raise await self._space.blamed(error) from error

    async def _blamed(self, op: ZhipuCall, remote_id: str, error: Rejected) -> Rejected:
        """A 404 is either the call's or the document's: the document's own page tells. The base is there."""
        if is_gone(error) and (error.code != "404" or await self._document(remote_id) is None):
            return _gone()
        reason = f"{op}: the vendor has no such call here: {error.reason}"
        return self._api.missing.note(op, NotOffered(reason, code=error.code))

    async def _document(self, remote_id: str) -> ZhipuDocument | None:
        """None for one that is gone, the base still being there."""
        answers = await self._api.documents([remote_id])
        for error in answers.refused.values():
            raise error
        return answers.given[remote_id]


def _gone() -> NotFound:
    return NotFound("the document is no longer in the knowledge base")
