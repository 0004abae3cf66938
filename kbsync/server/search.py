"""Searches through the targets that are open anyway: no model is loaded for it, and no lock is taken.

A mirror that is halted over its folder has none open, and its target is as good to search as ever: it is
opened for one search, as the command does, for reading only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

from kbsync.contract.searching import Hit, Passage, Query
from kbsync.contract.target import Target
from kbsync.core.merging import merged
from kbsync.engine.halts import FOLDER_MISSING
from kbsync.engine.locate import Located, looked_up, once
from kbsync.engine.mirror import MirrorRun

MOST_FOUND = 1000
"""Asked of a target whose hits have yet to be looked up: documents of others are among them."""

LONGEST_TEXT = 2000
"""Characters of a passage."""


OpenForReading = Callable[[str], Awaitable[Target]]
"""Opens the target of the mirror of this name for reading. Raises `KbsyncError`."""


async def search(
    runs: Mapping[str, MirrorRun], query: Query, mirror: str = "", reading: OpenForReading | None = None
) -> dict[str, Any]:
    """The best documents of all mirrors that can be searched now, or of one. In the loop of the mirrors.

    `silent` names mirrors that could not be asked, and why. Raises nothing.
    """
    wanted = [run for name, run in list(runs.items()) if mirror in ("", name)]
    answers = await asyncio.gather(*(_found(run, query, reading) for run in wanted), return_exceptions=True)
    found: list[tuple[str | int, list[tuple[str, Located]]]] = []
    silent: dict[str, str] = {}
    for run, answer in zip(wanted, answers, strict=True):
        if isinstance(answer, BaseException):
            silent[run.plan.name] = str(answer) or type(answer).__name__
        else:
            scale, hits = answer
            found.append((scale, [(run.plan.name, each) for each in hits]))
    best = merged(found, lambda each: each[1][1].score)[: query.top_k]
    return {"hits": [_hit_json(name, path, hit) for name, (path, hit) in best], "silent": silent}


@asynccontextmanager
async def _opened(run: MirrorRun, reading: OpenForReading | None) -> AsyncIterator[Target]:
    """The target that is open anyway, or one for this search. Raises `LookupError`, and what opening does."""
    if run.parts is not None:
        yield run.parts.target
    elif reading is not None and run.halt is not None and run.halt.reason == FOLDER_MISSING:
        async with aclosing(await reading(run.plan.name)) as target:
            yield target
    else:
        raise LookupError("its target is not open; see what halts it")


async def _found(
    run: MirrorRun, query: Query, reading: OpenForReading | None
) -> tuple[str | int, Sequence[Located]]:
    """What is found, and the scale of its scores. Raises `KbsyncError` or `LookupError`."""
    async with _opened(run, reading) as target:
        return target.scale, await _found_in(target, run, query)


async def _found_in(target: Target, run: MirrorRun, query: Query) -> Sequence[Located]:
    found = await target.search(query if target.limits.embedded else replace(query, top_k=MOST_FOUND))
    told = [(hit.path, hit) for hit in found if hit.path is not None]
    if len(told) == len(found):
        return told
    return once(await run.store.read(lambda tx: looked_up(tx, run.plan.name, found)))


def _hit_json(mirror: str, path: str, hit: Hit) -> dict[str, Any]:
    return {
        "mirror": mirror,
        "path": path,
        "score": round(hit.score, 4),
        "title": hit.title,
        "modified": hit.modified,
        "passages": [_passage_json(one) for one in hit.passages[:2]],
    }


def _passage_json(one: Passage) -> dict[str, Any]:
    text = one.text[:LONGEST_TEXT]
    return {"text": text, "headings": list(one.headings), "page": one.page, "line": one.line}
