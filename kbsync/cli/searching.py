"""Where the files of found documents are, for targets that keep no paths: the journal knows.

`--path`, `--type` and `--after` as a mirror takes them, and which of them no document matches.

Searches the targets of an installation and merges what they found.
"""

from __future__ import annotations

import asyncio
import datetime
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from kbsync.cli.context import look_at, not_yet, unmade
from kbsync.cli.exit_codes import Code, OfMirror, concerning
from kbsync.config.model import MirrorConfig
from kbsync.contract.searching import Hit, Image, Query
from kbsync.contract.target import Target
from kbsync.core.merging import merged
from kbsync.core.model import Status, Upload
from kbsync.core.text import printable
from kbsync.engine.locate import SHOWN, Located, looked_up, once
from kbsync.errors import UsageError
from kbsync.installation import Installation
from kbsync.state.glance import Tx
from kbsync.state.mirrors import MirrorRecord

MOST_NAMED = 200
"""Documents that a search is limited to by their ids; beyond, what is found is selected from."""

Selector = Callable[[str, float | None], bool]
"""Whether a path and the time its file was changed (epoch seconds) are meant."""


def located(
    installation: Installation, mirror: MirrorConfig, hits: Sequence[Hit], query: Query
) -> list[Located]:
    """The hits with their paths, one for each file, in their order.

    A target that gives no paths cannot select by them either: that is done here. Documents that are none of
    ours are left out. Raises `UsageError` for a bad pattern.
    """
    told = [(hit.path, hit) for hit in hits if hit.path is not None]
    if len(told) == len(hits):
        return told
    state = look_at(installation)
    if state is None:
        return told
    try:
        found = state.read(lambda tx: looked_up(tx, mirror.name, hits))
    finally:
        state.close()
    selects = selector(query)
    return once([(path, hit) for path, hit in found if selects(path, hit.modified)])


def narrowed(installation: Installation, mirror: MirrorConfig, query: Query) -> Query:
    """The query with the ids of our documents that its path, types and date select, where they are few."""
    ids = selected(installation, mirror, query)
    return query if ids is None else replace(query, among=tuple(ids))


def selected(installation: Installation, mirror: MirrorConfig, query: Query) -> Sequence[str] | None:
    """The ids of our documents that path, types and date select; None where they are more than may be named.

    Raises `UsageError` for a bad pattern.
    """
    selects = selector(query)
    state = look_at(installation)
    if state is None:
        return ()
    try:
        ids = state.read(lambda tx: _selected(tx, mirror, selects))
    finally:
        state.close()
    return ids if len(ids) <= MOST_NAMED else None


def _selected(tx: Tx, mirror: MirrorConfig, selects: Selector) -> list[str]:
    """One more than may be named, at most."""
    record = tx.mirrors.named(mirror.name)
    ids: list[str] = []
    after = 0
    while record is not None and record.binding is not None and len(ids) <= MOST_NAMED:
        rows = tx.uploads.in_states(record.id, record.binding, SHOWN, after)
        if not rows:
            break
        after = rows[-1].id
        ids += [row.remote_id for row in rows if row.remote_id and _is_selected(tx, record.id, row, selects)]
    return ids


def _is_selected(tx: Tx, mirror: int, row: Upload, selects: Selector) -> bool:
    entry = None if row.path is None else tx.entries.get(mirror, row.path)
    if entry is None:
        return False
    return selects(entry.path, entry.stamp.mtime_ns / 1e9)


def selector(query: Query) -> Selector:
    """What the query's path, types and date select. Raises `UsageError` for a bad pattern."""
    tests = list(_tests(query))
    return lambda path, modified: all(test(path, modified) for test in tests)


def _tests(query: Query) -> Iterator[Selector]:
    if query.path is not None:
        import pathspec

        try:
            spec = pathspec.GitIgnoreSpec.from_lines([query.path])
        except ValueError as error:
            raise UsageError(f"--path {query.path!r} is not a gitignore pattern: {error}") from error
        yield lambda path, _modified: bool(spec.match_file(path))
    if query.types:
        endings = tuple(f".{each.lower().lstrip('.')}" for each in query.types)
        yield lambda path, _modified: path.lower().endswith(endings)
    if query.after is not None:
        after = query.after
        yield lambda _path, modified: modified is not None and modified >= after


def anchored(mirror: MirrorConfig, query: Query) -> Query:
    """The query with a `--path` that is absolute, or begins with `./`, as seen from the mirror's root.

    `./` is the working directory, where that is in the mirror, and else the root.
    """
    typed = query.path
    if typed is None or not typed.startswith(("/", "./")):
        return query
    place = os.path.abspath(typed)  # noqa: PTH100 (a pattern is no path that could be followed)
    for root in (os.path.realpath(mirror.folder), os.path.abspath(mirror.folder)):  # noqa: PTH100
        if place == root:
            return replace(query, path=None)
        if place.startswith(root.rstrip("/") + "/"):
            end = "/" if typed.endswith("/") else ""
            return replace(query, path=place.removeprefix(root.rstrip("/")) + end)
    return replace(query, path=typed.removeprefix("."))


def unmatched(installation: Installation, query: Query) -> list[str]:
    """Those of the options that no document of any mirror matches, as they were typed."""
    state = look_at(installation)
    if state is None:
        return []
    with closing(state):
        return [
            option
            for option, alone in _each_alone(query)
            if not any(
                state.read(lambda tx: _is_matched(tx, mirror, selector(anchored(mirror, alone))))  # noqa: B023
                for mirror in installation.mirrors
            )
        ]


def _each_alone(query: Query) -> Iterator[tuple[str, Query]]:
    """Each option with a query that has no other."""
    if query.path is not None:
        yield f"--path {printable(query.path)}", Query("", path=query.path)
    for each in query.types:
        yield f"--type {printable(each)}", Query("", types=(each,))
    if query.after is not None:
        yield f"--after {timestamp(query.after)}", Query("", after=query.after)


def _is_matched(tx: Tx, mirror: MirrorConfig, selects: Selector) -> bool:
    record = tx.mirrors.named(mirror.name)
    return record is not None and any(
        entry.status is not Status.SKIPPED and selects(entry.path, entry.stamp.mtime_ns / 1e9)
        for entry in tx.entries.shown(record.id)
    )


MOST_FOUND = 1000
"""Asked of a target whose hits have yet to be looked up: documents of others are among them."""


@dataclass(frozen=True, slots=True)
class FoundDocument:
    """A hit and the mirror it is from; its path is known."""

    mirror: MirrorConfig
    path: str
    hit: Hit

    @property
    def absolute(self) -> Path:
        """Where the file is."""
        return self.mirror.folder / self.path


def find(installation: Installation, query: Query, *, images: bool = True) -> list[FoundDocument]:
    """The best documents of all mirrors. Raises `UsageError` before anything was mirrored.

    `images`: with the pictures in their passages, where a target has such.
    """
    return asyncio.run(_find(installation, query, images))


async def _find(installation: Installation, query: Query, images: bool) -> list[FoundDocument]:
    async with searching(installation) as search:
        return await search(query, images)


Search = Callable[[Query, bool], Awaitable[list[FoundDocument]]]
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
    searchable: Sequence[tuple[MirrorConfig, Target]],
    query: Query,
    images: bool,
) -> list[FoundDocument]:
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
            target.scale,
            [FoundDocument(mirror, path, hit) for path, hit in located(installation, mirror, hits, each)],
        )
        for (mirror, target), each, hits in zip(searchable, queries, answers, strict=True)
    ]
    best = merged(found, lambda each: each.hit.score)[: query.top_k]
    return await _with_images(best, searchable) if images else best


async def _with_images(
    found: list[FoundDocument], targets: Sequence[tuple[MirrorConfig, Target]]
) -> list[FoundDocument]:
    """Only of what is shown, and all mirrors at once."""
    by_mirror = {mirror.name: target for mirror, target in targets}
    shown = {name: [each for each in found if each.mirror.name == name] for name in by_mirror}
    drawn = await asyncio.gather(*(illustrated(by_mirror[name], each) for name, each in shown.items()))
    again = dict(zip(shown, map(iter, drawn), strict=True))
    return [next(again[each.mirror.name]) for each in found]


async def illustrated(target: Target, found: list[FoundDocument]) -> list[FoundDocument]:
    """What one target found, in its order, with the pictures in it."""
    if not found:
        return found
    hits = await target.illustrated([each.hit for each in found])
    return [replace(each, hit=hit) for each, hit in zip(found, hits, strict=True)]


async def _answer(
    installation: Installation, mirror: MirrorConfig, target: Target, query: Query
) -> Sequence[Hit]:
    with concerning(mirror.name):
        return await target.search(_asked(installation, mirror, target, query))


def _check_rank(searchable: Sequence[tuple[MirrorConfig, Target]]) -> None:
    for mirror, target in searchable:
        if not target.reranks:
            raise UsageError(
                f"--rerank: mirror {mirror.name} has no ranking model; "
                "name a service under target.rerank in its config, or search without --rerank"
            )


def _asked(installation: Installation, mirror: MirrorConfig, target: Target, query: Query) -> Query:
    """A base that others may use too is told which documents are meant, and gives all that it finds."""
    if target.limits.embedded:
        return query
    return replace(narrowed(installation, mirror, query), top_k=MOST_FOUND)


async def _opened(installation: Installation, mirror: MirrorConfig, stack: AsyncExitStack) -> Target | None:
    """The mirror's target; None where nothing was mirrored into it yet."""
    try:
        with unmade(installation):
            target = await asyncio.to_thread(installation.target, mirror, read_only=True)
    except UsageError as error:
        if _was_mirrored(installation, mirror):
            raise OfMirror(mirror.name, error, Code.USAGE) from error
        return None
    await stack.enter_async_context(aclosing(target))
    if not target.limits.embedded and _record(installation, mirror) is None:
        return None
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


def to_json(found: FoundDocument) -> dict[str, Any]:
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
