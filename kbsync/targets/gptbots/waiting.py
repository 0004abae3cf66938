"""Finding out what became of documents, fifty to a request.

After an update the vendor may go on telling the state of the old version. A final state counts for the new
one when another state was seen in between, or when the document's `update_time` is not the one that the
update's marker remembers. So it can be told after a restart as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from kbsync.contract.mirroring import DocState, DocStatus
from kbsync.errors import Halted, Rejected, TargetError
from kbsync.targets.gptbots.api import Api
from kbsync.targets.gptbots.sightings import Seen, Sightings

MOST = 50
"""Ids of one request."""

_FINAL = {"AVAILABLE": DocState.READY, "FAILED": DocState.FAILED, "FAILURE": DocState.FAILED}
_NO_REASON = "the vendor could not index it and gives no reason; see its console"
_UNKNOWN, _INDEXING = DocStatus(DocState.UNKNOWN), DocStatus(DocState.INDEXING)


class Waiting:
    """Looks at documents. `grace`: seconds after an update in which a failure may be an old one."""

    def __init__(self, api: Api, sightings: Sightings, steady: Callable[[], float], grace: float) -> None:
        self._api, self._sightings = api, sightings
        self._steady, self._grace = steady, grace
        self._trusted: set[str] = set()
        self._begun: dict[str, float] = {}

    def began(self, ids: Iterable[str]) -> None:
        """These are about to be changed: nothing that was said of them holds."""
        ids = list(ids)
        self._trusted.difference_update(ids)
        self._begun |= dict.fromkeys(ids, self._steady())
        self._sightings.changing(ids)

    def added(self, ids: Iterable[str]) -> None:
        """These are new: whatever is said of them is of their only version."""
        self._trusted.update(ids)

    async def states(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """The state of each; UNKNOWN where it could not be had, MISSING where the list lacks it as well.

        Raises `Halted`, and `TargetError` where nothing could be seen at all.
        """
        shown, unseen = await self._asked(ids)
        self._trusted.update(one for one, word in shown.items() if word and word not in _FINAL)
        absent = [one for one in ids if one not in shown and one not in unseen]
        doubtful = [one for one, word in shown.items() if word in _FINAL and one not in self._trusted]
        listed = await self._sightings.read([*absent, *doubtful]) if absent or doubtful else {}
        self._sightings.changing(ids)
        states = {one: self._state(one, word, listed) for one, word in shown.items()}
        states |= {one: _UNKNOWN if one in listed else DocStatus(DocState.MISSING) for one in absent}
        self._settle(states)
        return {one: states.get(one, _UNKNOWN) for one in ids}

    async def shown(self, ids: Sequence[str]) -> Mapping[str, str]:
        """`data_status` of those that are told of at all; a request that is refused is asked in halves."""
        try:
            return await self._api.states(ids)
        except Rejected:
            if len(ids) == 1:
                return {}
        middle = len(ids) // 2
        return {**await self.shown(ids[:middle]), **await self.shown(ids[middle:])}

    async def _asked(self, ids: Sequence[str]) -> tuple[dict[str, str], set[str]]:
        """What is told, and which could not be asked about."""
        told: dict[str, str] = {}
        unseen: set[str] = set()
        for start in range(0, len(ids), MOST):
            part = ids[start : start + MOST]
            try:
                told |= {one: word for one, word in (await self.shown(part)).items() if one in part}
            except Halted:
                raise
            except TargetError:
                if not told:
                    raise
                unseen.update(part)
        return told, unseen

    def _state(self, remote_id: str, word: str, listed: Mapping[str, Seen]) -> DocStatus:
        state = _FINAL.get(word)
        if state is None:
            return _INDEXING if word else _UNKNOWN
        if remote_id not in self._trusted:
            seen = listed.get(remote_id)
            if seen is None:
                return _UNKNOWN
            if not seen.is_through and not (state is DocState.FAILED and self._is_late(remote_id)):
                return _INDEXING
        return DocStatus(state, _NO_REASON, "FAILED") if state is DocState.FAILED else DocStatus(state)

    def _is_late(self, remote_id: str) -> bool:
        """A failure is shown for so long that it must be the new one."""
        begun = self._begun.get(remote_id)
        return begun is None or self._steady() >= begun + self._grace

    def _settle(self, states: Mapping[str, DocStatus]) -> None:
        """What is over need not be remembered."""
        over = [one for one, status in states.items() if status.state in _OVER]
        self._trusted.difference_update(over)
        for one in over:
            self._begun.pop(one, None)


_OVER = (DocState.READY, DocState.FAILED, DocState.MISSING)
