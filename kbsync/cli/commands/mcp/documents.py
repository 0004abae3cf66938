"""Looks up documents in the state by file or by id, and lists files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kbsync.cli.commands.explain import paths_of
from kbsync.cli.context import is_known, open_state
from kbsync.config.model import MirrorConfig
from kbsync.core.model import Status, serving
from kbsync.dataclass import dataclass
from kbsync.engine.status import FileStatus, Items, found_state
from kbsync.errors import UsageError
from kbsync.file_systems import holds
from kbsync.installation import Installation
from kbsync.search import iso_time
from kbsync.state.files import FileRow, join, split
from kbsync.state.read_only import Tx

MAX_ROWS_READ = 20_000
"""Maximum number of rows read for one page of a list."""

MAX_FOLDERS = 200
SEARCHABLE = (Status.READY, Status.HELD, Status.KEPT)

AWAY = Path("/")
"""The working directory to assume for an assistant, so that its paths are either absolute or relative to a
mirror's folder."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A page of a list: at most `limit` files below the folder `below`, in one of `states` or in any state.

    `after`: the last path of the previous page, or None for the first page.
    """

    below: str = ""
    states: tuple[Status, ...] = ()
    after: str | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Located:
    """The document that is searchable for a file of `mirror`.

    `digest` and `size` describe the bytes that it was made from. `reason`: why it differs from the current
    file, or '' if it isn't known to differ.
    """

    mirror: MirrorConfig
    document_id: str
    path: str
    state: Status
    reason: str
    digest: str
    size: int


def _document_at(tx: Tx, chosen: Installation, name: str, path: str) -> Located | None:
    """Return the document that is searchable for a file."""
    record = tx.mirrors.named(name)
    if record is None or record.binding is None:
        return None
    server = serving(tx.uploads.at_path(record.id, record.binding, path))
    entry = tx.entries.get(record.id, path)
    if server is None or server.remote_id is None or entry is None:
        return None
    state, why = found_state(tx, record, entry, server.remote_id)
    return Located(chosen.mirror(name), server.remote_id, path, state, why, server.digest, server.size)


def documents_at(chosen: Installation, path: str) -> list[Located]:
    """Return the documents of the files that `path` may refer to. This reads the disk."""
    with open_state(chosen, must_exist=True) as state:
        documents = list[Located]()
        for name, below in paths_of(chosen, state, path, AWAY):
            located = state.read(lambda tx: _document_at(tx, chosen, name, below))  # noqa: B023 (called at once)
            documents += [] if located is None else [located]
        return documents


def mirror_with(alone: Installation, path: str) -> list[str]:
    """Return the name of the installation's only mirror, in a list, if the mirror has `path` on disk or in
    its state. Otherwise, return []. This reads the disk.
    """
    [mirror] = alone.mirrors

    def is_in_state(tx: Tx) -> bool:
        record = tx.mirrors.named(mirror.name)
        return record is not None and any(is_known(tx, record.id, below) for _, below in paths)

    with open_state(alone) as state:
        paths = paths_of(alone, state, path, AWAY)
        exists = any(os.path.lexists(mirror.folder / below) for _, below in paths)
        return [mirror.name] if exists or state.read(is_in_state) else []


def documents_with(tx: Tx, chosen: Installation, remote_id: str) -> Iterator[Located]:
    """Return the documents with this id, at most one per mirror."""
    for mirror in chosen.mirrors:
        record = tx.mirrors.named(mirror.name)
        if record is not None and record.binding is not None:
            rows = tx.uploads.by_remote(record.binding, remote_id)
            paths = (row.path for row in rows if row.mirror == record.id)
            located = (_document_at(tx, chosen, mirror.name, path) for path in paths)
            yield from [item for item in located if item and item.document_id == remote_id][:1]


def folder_page(tx: Tx, name: str, page: PageRequest) -> dict[str, Any]:
    """Return a page with the files and the direct subfolders of a folder. `notes` are about both."""
    record = tx.mirrors.named(name)
    if record is None:
        return {}
    if page.below and tx.folders.get(record.id, page.below) is None:
        raise UsageError(f"{name} has no folder {page.below}")
    rows, more = _page(tx, record.id, page)
    items = Items(tx, record, record.halt)
    folders = sorted(join(page.below, folder.path) for folder in tx.folders.below(record.id, page.below))
    unlisted = list[FileStatus]()
    if page.states:
        failed, beginning = list[FileStatus](), f"{page.below}/" if page.below else ""
        if Status.FAILED in page.states:
            failed = [status for status in items.unlisted() if status.path.startswith(beginning)]
        paths = [*tx.entries.folders_with(record.id, page.states), *(status.path for status in failed)]
        folders = [folder for folder in folders if any(holds(folder, path) for path in paths)]
        # The first page lists all folders, which have no position among the files.
        unlisted = failed if page.after is None else []
    notes = []
    if len(folders) > MAX_FOLDERS:
        notes = [f"{name}: {MAX_FOLDERS:,} of {len(folders):,} folders listed; pass `path` to list fewer"]
    files = [{**items.of(row).to_json(), "modified": iso_time(row.stamp.mtime_ns / 1e9)} for row in rows]
    return {
        "folders": folders[:MAX_FOLDERS],
        "files": [*({**status.to_json(), "modified": None} for status in unlisted), *files],
        "next": more,
        "notes": notes,
    }


def searchable_files(
    tx: Tx, names: Sequence[str], after: tuple[str, str], limit: int
) -> list[tuple[str, FileRow]]:
    """Return at most `limit` searchable files with their mirrors, starting after this mirror and path."""
    files, (mirror, path) = list[tuple[str, FileRow]](), after
    for name in names[names.index(mirror) if mirror in names else 0 :]:
        if (record := tx.mirrors.named(name)) is None:
            continue
        more: str | None = path if name == mirror else ""
        while more is not None and len(files) < limit:
            page, more = _page(tx, record.id, PageRequest("", SEARCHABLE, more, limit))
            files += [(name, row) for row in page]
    return files[:limit]


def _page(tx: Tx, mirror: int, page: PageRequest) -> tuple[list[FileRow], str | None]:
    """Return the files, and the path after which the next page begins, or None on the last page."""
    # In the order of the rows, other folders may come between a folder and its subfolders: a, a-b, a/c.
    beyond = os.fsencode(page.below) + b"0"
    rows, read_count = list[FileRow](), 0
    after = page.after if page.after is not None else (f"{page.below}/" if page.below else "")
    while True:
        batch = tx.entries.page(mirror, after, page.limit, page.states)
        for row in batch:
            folder = split(row.path)[0]
            if page.below and not holds(page.below, folder):
                if os.fsencode(folder) >= beyond:
                    return rows, None
                continue
            rows.append(row)
            if len(rows) == page.limit:
                return rows, row.path
        read_count += len(batch)
        if len(batch) < page.limit:
            return rows, None
        after = batch[-1].path
        if read_count >= MAX_ROWS_READ:
            return rows, after
