"""Which files found documents are, for targets that keep no paths: the journal knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kbsync.contract.searching import Hit
from kbsync.core.model import Upload, UploadState
from kbsync.state.glance import Tx

SHOWN = (UploadState.SERVING, UploadState.HELD, UploadState.INDEXING)
"""States of documents that stand for a file as it is, or is about to be."""

Located = tuple[str, Hit]


def looked_up(tx: Tx, mirror: str, hits: Sequence[Hit]) -> list[Located]:
    """The hits with their paths, in their order; documents that are none of ours are left out."""
    record = tx.mirrors.named(mirror)
    if record is None or record.binding is None:
        return []
    found = []
    for hit in hits:
        path = _path(tx.uploads.by_remote(record.binding, hit.remote_id))
        entry = None if path is None else tx.entries.get(record.id, path)
        if path is not None and entry is not None:
            found.append((path, replace(hit, path=path, modified=entry.stamp.mtime_ns / 1e9)))
    return found


def _path(rows: Sequence[Upload]) -> str | None:
    return next((row.path for row in rows if row.path is not None and row.state in SHOWN), None)


def once(found: Sequence[Located]) -> list[Located]:
    """An old and a new version may both be found for a moment: the better one stands for the file."""
    best: dict[str, Hit] = {}
    for path, hit in found:
        if path not in best or hit.score > best[path].score:
            best[path] = hit
    return list(best.items())
