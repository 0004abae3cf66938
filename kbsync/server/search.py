"""Searches through the targets that are open anyway: no model is loaded for it, and no lock is taken.

A mirror that is halted over its folder has none open, and its target is as good to search as ever: it is
opened for one search, as the command does, for reading only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

from kbsync.contract.searching import Passage, Query
from kbsync.contract.target import Target
from kbsync.engine.halts import FOLDER_MISSING
from kbsync.engine.mirror import MirrorRun
from kbsync.engine.search import FoundDocument, SearchedMirror, merge, search_mirror

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

    async def search_run(run: MirrorRun) -> tuple[SearchedMirror, list[FoundDocument]]:
        async with _opened(run, reading) as target:
            searched = SearchedMirror(run.plan.name, run.plan.root, target, run.store.read)
            return searched, await search_mirror(searched, query)

    wanted = [run for name, run in list(runs.items()) if mirror in ("", name)]
    answers = await asyncio.gather(*map(search_run, wanted), return_exceptions=True)
    silent = {
        run.plan.name: str(answer) or type(answer).__name__
        for run, answer in zip(wanted, answers, strict=True)
        if isinstance(answer, BaseException)
    }
    best = merge([each for each in answers if not isinstance(each, BaseException)], query)
    return {"hits": [_hit_json(each) for each in best], "silent": silent}


@asynccontextmanager
async def _opened(run: MirrorRun, reading: OpenForReading | None) -> AsyncIterator[Target]:
    """The target that is open anyway, or one for this search. Raises `LookupError`, and what opening does."""
    if run.bound is not None:
        yield run.bound.target
    elif reading is not None and run.halt is not None and run.halt.reason == FOLDER_MISSING:
        async with aclosing(await reading(run.plan.name)) as target:
            yield target
    else:
        raise LookupError("its target is not open; see what halts it")


def _hit_json(found: FoundDocument) -> dict[str, Any]:
    hit = found.hit
    return {
        "mirror": found.mirror,
        "path": found.path,
        "score": round(hit.score, 4),
        "title": hit.title,
        "modified": hit.modified,
        "passages": [_passage_json(one) for one in hit.passages[:2]],
    }


def _passage_json(one: Passage) -> dict[str, Any]:
    text = one.text[:LONGEST_TEXT]
    return {"text": text, "headings": list(one.headings), "page": one.page, "line": one.line}
