"""Searches through the targets that are open anyway: no model is loaded for it, and no lock is taken."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kbsync.contract import Hit, Passage, Query, Searches, Target
from kbsync.engine.located import Located, looked_up, once
from kbsync.engine.mirror import MirrorRun

MOST_FOUND = 1000
"""Asked of a target whose hits have yet to be looked up: documents of others are among them."""

LONGEST_TEXT = 2000
"""Characters of a passage."""


async def search(runs: Mapping[str, MirrorRun], query: Query, mirror: str = "") -> dict[str, Any]:
    """The best documents of all mirrors that can be searched now, or of one. In the loop of the mirrors.

    `silent` names mirrors that could not be asked, and why. Raises nothing.
    """
    wanted = [run for name, run in list(runs.items()) if mirror in ("", name)]
    answers = await asyncio.gather(*(_found(run, query) for run in wanted), return_exceptions=True)
    hits: list[tuple[str, Located]] = []
    silent: dict[str, str] = {}
    for run, answer in zip(wanted, answers, strict=True):
        if isinstance(answer, BaseException):
            silent[run.plan.name] = str(answer) or type(answer).__name__
        else:
            hits += [(run.plan.name, each) for each in answer]
    best = sorted(hits, key=lambda each: -each[1][1].score)[: query.top_k]
    return {"hits": [_hit_json(name, path, hit) for name, (path, hit) in best], "silent": silent}


async def _found(run: MirrorRun, query: Query) -> Sequence[Located]:
    """Raises `TargetError`, `StateError` or `LookupError`."""
    target = None if run.parts is None else run.parts.target
    if target is None:
        raise LookupError("its target is not open; see what halts it")
    if not isinstance(target, Searches):
        raise LookupError("its target cannot be searched")
    is_alone = not isinstance(target, Target) or target.limits.embedded
    found = await target.search(query if is_alone else replace(query, top_k=MOST_FOUND))
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
