"""Removing documents, fifty to a request: the answer tells of none of them, so each is looked for after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kbsync.contract.mirroring import DeleteOutcome
from kbsync.errors import Halted, Rejected, TargetError, Unavailable
from kbsync.targets.gptbots.api import Api
from kbsync.targets.gptbots.waiting import MOST, Waiting

_STILL_THERE = "the vendor says that it is deleted, and still has it"


async def delete_all(api: Api, waiting: Waiting, ids: Sequence[str]) -> dict[str, DeleteOutcome]:
    """The outcome of each id. After a `Halted` no more are asked for; it is the answer of the rest."""
    outcomes: dict[str, DeleteOutcome] = {}
    halted: Halted | None = None
    for start in range(0, len(ids), MOST):
        part = ids[start : start + MOST]
        try:
            outcomes |= dict.fromkeys(part, halted) if halted else await _delete(api, waiting, part)
        except TargetError as error:
            halted = error if isinstance(error, Halted) else None
            outcomes |= dict.fromkeys(part, error)
    return outcomes


async def _delete(api: Api, waiting: Waiting, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
    try:
        await api.delete(ids)
    except Rejected as error:
        return await _refused(api, waiting, ids, error)
    left = await _left(api, waiting, ids)
    return {one: Unavailable(_STILL_THERE, code="still-there") if one in left else None for one in ids}


async def _refused(
    api: Api, waiting: Waiting, ids: Sequence[str], error: Rejected
) -> Mapping[str, DeleteOutcome]:
    """Ids that are not there may have been refused with the rest."""
    left = await _left(api, waiting, ids)
    outcomes: dict[str, DeleteOutcome] = {one: None for one in ids if one not in left}
    if len(ids) == 1:
        return outcomes | dict.fromkeys(left, error)
    for one in left:
        outcomes |= await _delete(api, waiting, [one])
    return outcomes


async def _left(api: Api, waiting: Waiting, ids: Sequence[str]) -> list[str]:
    """Those that the vendor still tells of. Nothing at all counts only while the base is there."""
    shown = await waiting.shown(ids)
    if not shown:
        await api.base()
    return [one for one in ids if one in shown]
