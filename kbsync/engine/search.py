"""Searches mirrors: queries each target, finds the files that the hits belong to, and merges the results.
Used by `kbsync search`, `kbsync ask` and the listener.

A target that others also write to (a service) stores no paths: the state maps documents to files, and
`--path`, `--type` and `--after` are applied here. A base shared by several hosts has the paths of all of
them; it is queried once for all mirrors that use it, and its hits name their mirrors.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

from kbsync.contract.searching import Hit, Query, SupportsUnknownWords, UnknownWords, selector
from kbsync.contract.target import Target
from kbsync.core.model import SEARCHABLE, Status
from kbsync.dataclass import dataclass
from kbsync.errors import Unavailable
from kbsync.file_systems import real_path
from kbsync.state.read_only import SnapshotReader, Tx
from kbsync.threads import gather

T = TypeVar("T")


MAX_REQUESTED_HITS = 1000
"""Number of hits to request from a service: more than needed, because kbsync drops hits in other people's
documents."""

PATIENCE = 15.0
"""Maximum number of seconds to search one of several mirrors; after that, a note names the mirror."""

MAX_SELECTED_IDS = 200
"""Maximum number of document ids to which a search can be limited."""


@dataclass(frozen=True, slots=True)
class SearchedMirror:
    """A mirror with its open target. `folder`: the mirror's folder as written in the config."""

    name: str
    folder: Path
    target: Target
    read: SnapshotReader


@dataclass(frozen=True, slots=True)
class FoundDocument:
    """A hit, with its mirror and its path in that mirror.

    `searched_mirror`: the mirror whose target returned the hit.
    """

    mirror: str
    folder: Path
    path: str
    hit: Hit
    searched_mirror: str
    # True if its mirror is not among those that were searched.
    is_foreign: bool = False
    # What the state has about the file: whether the hit is up to date, why not, and as of when.
    state: Status | None = None
    reason: str = ""
    known_at: float | None = None
    # Whether the last check of the folder found that the file no longer exists.
    is_gone: bool = False

    @property
    def absolute(self) -> Path:
        """The file's absolute path on its host."""
        return self.folder / self.path

    @property
    def is_here(self) -> bool:
        """Whether the file is on this machine."""
        return not self.is_foreign or (self.hit.origin is not None and self.hit.origin.is_here)

    @property
    def can_be_opened(self) -> bool:
        """Whether the file is on this machine and exists, as far as the state knows."""
        return self.is_here and not self.is_gone

    @property
    def host(self) -> str | None:
        """The machine that mirrored the file, or None if unknown."""
        return self.hit.origin.host or None if self.hit.origin is not None else None

    @property
    def as_of(self) -> float | None:
        """When the document was known to be current, in epoch seconds.

        In a base that several hosts share, this is when its host last changed something or began a pass.
        """
        return self.hit.origin.as_of if self.hit.origin is not None else self.known_at

    @property
    def mirror_label(self) -> str:
        """The document's mirror and, if it belongs to another machine, the name of that machine."""
        return self.mirror if self.is_here or not self.host else f"{self.mirror} on {self.host}"


def searches(mirrors: Sequence[SearchedMirror], query: Query) -> list[tuple[Sequence[SearchedMirror], Query]]:
    """Return the smallest set of searches that covers these mirrors, each with its mirrors and its query.

    Each search uses the target of its first mirror.
    """
    groups: dict[Hashable, list[SearchedMirror]] = {}
    for mirror in mirrors:
        groups.setdefault(mirror.name if query.own else mirror.target.reach, []).append(mirror)
    requests: list[tuple[Sequence[SearchedMirror], Query]] = []
    for group in groups.values():
        queries = [anchored(mirror.folder, query) for mirror in group]
        if any(narrowed.own for narrowed in queries):
            # For a path on this machine, each mirror has its own pattern, and others' documents have none.
            requests += [([mirror], replace(q, own=True)) for mirror, q in zip(group, queries, strict=True)]
        else:
            requests.append((group, queries[0]))
    return requests


Answer = tuple[list[FoundDocument], UnknownWords | None]
"""The best documents, and the words that occur in no document (None if the target can't report them)."""


async def search_mirrors(mirrors: Sequence[SearchedMirror], query: Query) -> Answer:
    """Run one of the searches that `searches` returns. While the user is typing, don't ask the target for
    unknown words.

    Raises `TargetError`, `StateError` or, for an invalid pattern, `UsageError`.
    """
    mirror = mirrors[0]
    if mirror.target.limits.embedded:
        hits = await mirror.target.search(query)
    else:
        ids = await selected_ids(mirror, query)
        hits = await mirror.target.search(replace(query, among=tuple(ids or ()), top_k=MAX_REQUESTED_HITS))
    documents, unknown = await locate(mirrors, hits, query), None
    if isinstance(mirror.target, SupportsUnknownWords) and not query.unfinished:
        unknown = await mirror.target.unknown_words(query)
    return documents, unknown


async def search_soon(mirrors: Sequence[SearchedMirror], query: Query) -> Answer:
    """Search like `search_mirrors`, but raise `Unavailable` if there is no response within `PATIENCE`."""
    import asyncio  # imported late: a search command doesn't need it

    try:
        async with asyncio.timeout(PATIENCE):
            return await search_mirrors(mirrors, query)
    except TimeoutError as error:
        raise Unavailable(f"no response within {PATIENCE:g} s", code="late") from error


def merge(answers: Iterable[tuple[SearchedMirror, list[FoundDocument]]], query: Query) -> list[FoundDocument]:
    """Merge the results of several searches, best first, with each document only once.

    Scores on the same scale are compared. Scores on different scales can't be, because one service's 1.00 may
    be worse than another's 0.30. In that case, the best hit of each search comes first, then the second best
    of each, and so on.
    """
    scales: dict[Hashable, list[list[FoundDocument]]] = {}
    for mirror, hits in answers:
        scales.setdefault(mirror.target.scale, []).append(hits)
    ranked = []
    for lists in scales.values():
        # A single list keeps the order of its target.
        by_score = sorted(chain.from_iterable(lists), key=lambda document: -document.hit.score)
        ranked.append(lists[0] if len(lists) == 1 else by_score)
    longest = max(map(len, ranked), default=0)
    best: dict[Hashable, FoundDocument] = {}
    for document in (hits[rank] for rank in range(longest) for hits in ranked if rank < len(hits)):
        base = document.searched_mirror if document.hit.origin is None else document.hit.origin.base
        best.setdefault((base, document.hit.remote_id), document)
    return list(best.values())[: query.top_k]


async def with_images(
    documents: Sequence[FoundDocument], mirrors: Sequence[SearchedMirror]
) -> list[FoundDocument]:
    """Return the same documents in the same order, including the pictures in their passages if their target
    has them.
    """

    async def illustrate(mirror: SearchedMirror) -> Sequence[Hit]:
        hits = [document.hit for document in documents if document.searched_mirror == mirror.name]
        return await mirror.target.illustrated(hits) if hits else hits

    results = await gather(*map(illustrate, mirrors))
    hits = {mirror.name: iter(its_hits) for mirror, its_hits in zip(mirrors, results, strict=True)}
    return [replace(document, hit=next(hits[document.searched_mirror])) for document in documents]


async def locate(mirrors: Sequence[SearchedMirror], hits: Sequence[Hit], query: Query) -> list[FoundDocument]:
    """Return the hits with their paths, one per file, in the same order. The first of `mirrors` is the one
    that was searched.

    Documents that aren't ours are dropped, unless they have an `Origin`. Raises `UsageError` for an invalid
    pattern.
    """
    mirror = mirrors[0]
    if all(hit.path is not None for hit in hits):
        return [_locate_hit(mirrors, hit, hit.path) for hit in hits if hit.path is not None]
    selects = selector(query)

    def read_paths(tx: Tx) -> list[tuple[str, Hit]]:
        record = tx.mirrors.named(mirror.name)
        if record is None or record.binding is None:
            return []
        located = []
        for hit in hits:
            rows = tx.uploads.by_remote(record.binding, hit.remote_id)
            path = next((row.path for row in rows if row.state in SEARCHABLE), None)
            entry = None if path is None else tx.entries.get(record.id, path)
            if path is not None and entry is not None:
                located.append((path, replace(hit, path=path, modified=entry.stamp.mtime_ns / 1e9)))
        return located

    # While a file is being replaced, a search may find both versions (promise 2). Keep the better hit.
    best: dict[str, Hit] = {}
    for path, hit in await mirror.read(read_paths):
        if selects(path, hit.modified) and (path not in best or hit.score > best[path].score):
            best[path] = hit
    return [FoundDocument(mirror.name, mirror.folder, path, hit, mirror.name) for path, hit in best.items()]


def _locate_hit(mirrors: Sequence[SearchedMirror], hit: Hit, path: str) -> FoundDocument:
    """Return the hit with its mirror, which may not be one of `mirrors`."""
    searched, origin = mirrors[0], hit.origin
    if origin is None or origin.is_own:
        return FoundDocument(searched.name, searched.folder, path, hit, searched.name)
    for mirror in mirrors:
        # Compare the names stored in the base, because the machine may have been renamed since its last pass.
        is_its = origin.owner is not None and origin.owner == mirror.target.owner
        if is_its or (origin.is_here and origin.folder == mirror.folder):
            return FoundDocument(mirror.name, mirror.folder, path, hit, searched.name)
    return FoundDocument(origin.mirror, origin.folder, path, hit, searched.name, is_foreign=True)


async def selected_ids(mirror: SearchedMirror, query: Query) -> Sequence[str] | None:
    """Return the ids of our documents that are selected by the query's paths, types and date.

    Return None if there are more than the limit. Raises `UsageError` for an invalid pattern.
    """
    selects = selector(query)

    def read_ids(tx: Tx) -> list[str]:
        record, ids = tx.mirrors.named(mirror.name), list[str]()
        if record is None or record.binding is None:
            return ids
        for row in tx.uploads.each(record.id, record.binding, SEARCHABLE):
            entry = tx.entries.get(record.id, row.path)
            if row.remote_id and entry is not None and selects(entry.path, entry.stamp.mtime_ns / 1e9):
                ids.append(row.remote_id)
                if len(ids) > MAX_SELECTED_IDS:
                    break
        return ids

    ids = await mirror.read(read_ids)
    return ids if len(ids) <= MAX_SELECTED_IDS else None


@dataclass(frozen=True, slots=True)
class Unmatched:
    """The filters of a query (paths, types and date) that match no document.

    Each filter in `alone` matches none by itself; the filters in `together` match none in combination.
    """

    alone: Sequence[Query] = ()
    together: bool = False


def find_unmatched(tx: Tx, folders: Mapping[str, Path], query: Query) -> Unmatched:
    """Find the filters of the query that match no document of these mirrors, except those that exclude some.

    `folders`: the mirrors' folders, keyed by name.
    """
    parts = [Query("", types=(extension,)) for extension in query.types]
    parts = [*(Query("", paths=(path,)) for path in query.paths), *parts]
    if query.after is not None:
        parts.append(Query("", after=query.after))
    if not parts:
        return Unmatched()
    together = Query("", paths=query.paths, types=query.types, after=query.after)
    unmatched = dict(enumerate([*parts, together]))
    for name, folder in folders.items():
        record = tx.mirrors.named(name)
        selectors = {number: selector(anchored(folder, part)) for number, part in unmatched.items()}
        for entry in tx.entries.visible(record.id) if record is not None else ():
            if entry.status is not Status.SKIPPED:
                modified = entry.stamp.mtime_ns / 1e9
                matched = [number for number, selects in selectors.items() if selects(entry.path, modified)]
                for number in matched:
                    del selectors[number], unmatched[number]
                if not unmatched:
                    return Unmatched()
    alone = [part for number, part in unmatched.items() if number < len(parts)]
    return Unmatched(alone, len(parts) in unmatched)


def anchored(folder: Path, query: Query) -> Query:
    """Resolve patterns that are absolute or begin with `./` against the mirror's folder.

    `./` means the working directory if that is in the mirror, otherwise the mirror's folder. A path in the
    folder is on this machine, so the query is then limited to the mirror's `own` documents.
    """
    resolved = [_anchored_pattern(folder, typed) for typed in query.paths]
    excluded = [_anchored_pattern(folder, typed) for typed in query.excluded_paths]
    return replace(
        query,
        paths=tuple(pattern for pattern, _ in resolved if pattern is not None),
        excluded_paths=tuple("*" if pattern is None else pattern for pattern, _ in excluded),
        own=query.own or any(is_inside for _, is_inside in [*resolved, *excluded]),
    )


def _anchored_pattern(folder: Path, typed: str) -> tuple[str | None, bool]:
    """Return the pattern relative to `folder` (None: all of it), and whether it is a path in the folder."""
    if not typed.startswith(("/", "./")):
        return typed, False
    path = os.path.abspath(typed)  # noqa: PTH100 (a pattern is no path that could be followed)
    for root in (str(real_path(folder)), os.path.abspath(folder)):  # noqa: PTH100
        if path == root:
            return None, True
        if path.startswith(root.rstrip("/") + "/"):
            end = "/" if typed.endswith("/") else ""
            return path.removeprefix(root.rstrip("/")) + end, True
    return typed.removeprefix("."), False
