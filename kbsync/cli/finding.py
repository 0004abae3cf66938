"""Searches the targets of an installation and merges what they found."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from kbsync.cli.choosing import look_at, not_yet, unmade
from kbsync.cli.exits import Code, OfMirror, concerning
from kbsync.cli.locating import located, narrowed
from kbsync.cli.narrowing import anchored
from kbsync.config.model import MirrorConfig
from kbsync.contract.mirroring import Target
from kbsync.contract.searching import Hit, Illustrates, Image, Query, Reranks, Searches, scale_of
from kbsync.core.merging import merged
from kbsync.errors import UsageError
from kbsync.installation import Installation
from kbsync.state.mirrors import MirrorRecord

MOST_FOUND = 1000
"""Asked of a target whose hits have yet to be looked up: documents of others are among them."""


@dataclass(frozen=True, slots=True)
class Found:
    """A hit and the mirror it is from; its path is known."""

    mirror: MirrorConfig
    path: str
    hit: Hit

    @property
    def absolute(self) -> Path:
        """Where the file is."""
        return self.mirror.folder / self.path


def find(installation: Installation, query: Query, *, images: bool = True) -> list[Found]:
    """The best documents of all mirrors. Raises `UsageError` before anything was mirrored.

    `images`: with the pictures in their passages, where a target has such.
    """
    return asyncio.run(_find(installation, query, images))


async def _find(installation: Installation, query: Query, images: bool) -> list[Found]:
    async with searching(installation) as search:
        return await search(query, images)


Search = Callable[[Query, bool], Awaitable[list[Found]]]
"""The best documents of all mirrors for a query, with images or without."""


@asynccontextmanager
async def searching(installation: Installation) -> AsyncIterator[Search]:
    """The targets, open for one search after the other. Raises `UsageError` before anything was mirrored."""
    async with AsyncExitStack() as stack:
        opened = [(mirror, await _opened(installation, mirror, stack)) for mirror in installation.mirrors]
        searchable = [(mirror, target) for mirror, target in opened if target is not None]
        if not searchable:
            raise not_yet(installation)
        yield partial(_search, installation, searchable)


async def _search(
    installation: Installation,
    searchable: Sequence[tuple[MirrorConfig, Searches]],
    query: Query,
    images: bool,
) -> list[Found]:
    if query.rerank:
        _check_rank(searchable)
    queries = [anchored(mirror, query) for mirror, _ in searchable]
    answers = await asyncio.gather(
        *(
            _answer(installation, mirror, target, each)
            for (mirror, target), each in zip(searchable, queries, strict=True)
        )
    )
    found = [
        (
            scale_of(target),
            [Found(mirror, path, hit) for path, hit in located(installation, mirror, hits, each)],
        )
        for (mirror, target), each, hits in zip(searchable, queries, answers, strict=True)
    ]
    best = merged(found, lambda each: each.hit.score)[: query.top_k]
    return await _with_images(best, searchable) if images else best


async def _with_images(found: list[Found], targets: Sequence[tuple[MirrorConfig, object]]) -> list[Found]:
    """Only of what is shown, and all mirrors at once."""
    by_mirror = {mirror.name: target for mirror, target in targets}
    shown = {name: [each for each in found if each.mirror.name == name] for name in by_mirror}
    drawn = await asyncio.gather(*(illustrated(by_mirror[name], each) for name, each in shown.items()))
    again = dict(zip(shown, map(iter, drawn), strict=True))
    return [next(again[each.mirror.name]) for each in found]


async def illustrated(target: object, found: list[Found]) -> list[Found]:
    """What one target found, in its order, with the pictures in it."""
    if not found or not isinstance(target, Illustrates):
        return found
    hits = await target.illustrated([each.hit for each in found])
    return [replace(each, hit=hit) for each, hit in zip(found, hits, strict=True)]


async def _answer(
    installation: Installation, mirror: MirrorConfig, target: Searches, query: Query
) -> Sequence[Hit]:
    with concerning(mirror.name):
        return await target.search(_asked(installation, mirror, target, query))


def _check_rank(searchable: Sequence[tuple[MirrorConfig, object]]) -> None:
    for mirror, target in searchable:
        if not isinstance(target, Reranks) or not target.reranks:
            raise UsageError(
                f"--rerank: mirror {mirror.name} has no ranking model; "
                "name a service under target.rerank in its config, or search without --rerank"
            )


def _asked(installation: Installation, mirror: MirrorConfig, target: object, query: Query) -> Query:
    """A base that others may use too is told which documents are meant, and gives all that it finds."""
    if not isinstance(target, Target) or target.limits.embedded:
        return query
    return replace(narrowed(installation, mirror, query), top_k=MOST_FOUND)


async def _opened(installation: Installation, mirror: MirrorConfig, stack: AsyncExitStack) -> Searches | None:
    """The mirror's target; None where nothing was mirrored into it yet."""
    try:
        with unmade(installation):
            target = await asyncio.to_thread(installation.target, mirror, read_only=True)
    except UsageError as error:
        if _was_mirrored(installation, mirror):
            raise OfMirror(mirror.name, error, Code.USAGE) from error
        return None
    await stack.enter_async_context(aclosing(target))
    if isinstance(target, Target) and not target.limits.embedded and _record(installation, mirror) is None:
        return None
    if not isinstance(target, Searches):
        raise UsageError(f"mirror {mirror.name}: a target of type {mirror.target.type} cannot be searched")
    return target


def _was_mirrored(installation: Installation, mirror: MirrorConfig) -> bool:
    record = _record(installation, mirror)
    return record is not None and record.last_pass is not None


def _record(installation: Installation, mirror: MirrorConfig) -> MirrorRecord | None:
    state = look_at(installation)
    if state is None:
        return None
    try:
        return state.read(lambda tx: tx.mirrors.named(mirror.name))
    finally:
        state.close()


def to_json(found: Found) -> dict[str, Any]:
    """A hit as the contract has it."""
    best = found.hit.passages[0] if found.hit.passages else None
    return {
        "path": found.path,
        "abs_path": str(found.absolute),
        "document_id": found.hit.remote_id,
        "score": round(found.hit.score, 6),
        "text": best.text if best else "",
        "title": found.hit.title,
        "headings": list(best.headings) if best else [],
        "page": best.page if best else None,
        "mirror": found.mirror.name,
        "modified": timestamp(found.hit.modified),
        **images_json(best.images if best else ()),
        "passages": [
            {
                "text": passage.text,
                "headings": list(passage.headings),
                "page": passage.page,
                "score": round(passage.score, 6),
                **images_json(passage.images),
            }
            for passage in found.hit.passages
        ],
    }


def images_json(images: Sequence[Image]) -> dict[str, Any]:
    """The field `images`, where there are any."""
    listed = [{"placeholder": each.placeholder, "url": each.url} for each in images]
    return {"images": listed} if listed else {}


def timestamp(seconds: float | None) -> str | None:
    """ISO 8601 in UTC; None for no time and for one beyond the calendar."""
    if seconds is None:
        return None
    try:
        moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
