"""How the mirrors stand, as values and JSON for metrics, pages and the API. Each look takes constant time."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from kbsync import __version__
from kbsync.config.model import MirrorConfig
from kbsync.core.model import Status
from kbsync.engine import findings
from kbsync.engine.status import Items, MirrorStatus, mirror_status, never_ran, unapproved
from kbsync.state.mirrors import MirrorRecord
from kbsync.state.store import Tx
from kbsync.web.held import renewals_json

SHOWN_MOVING = 12
SHOWN_WRONG = 50
MOST_ITEMS = 1000


@dataclass(frozen=True, slots=True)
class Sight:
    """What is looked at: the mirrors of the config, and how cures are written. `now`: epoch seconds."""

    mirrors: Sequence[MirrorConfig]
    cure: Callable[[str], str]
    now: float


@dataclass(frozen=True, slots=True)
class Asked:
    """A page of documents. `state`: of this one only; `after`: the path that ended the page before."""

    limit: int = 100
    state: Status | None = None
    after: str = ""


def standing(tx: Tx, sight: Sight, mirror: MirrorConfig) -> MirrorStatus:
    """One mirror as `status` has it."""
    return _standing(tx, sight, mirror, tx.mirrors.named(mirror.name))


def _standing(tx: Tx, sight: Sight, mirror: MirrorConfig, record: MirrorRecord | None) -> MirrorStatus:
    if record is None:
        return never_ran(mirror.name, str(mirror.folder), mirror.target.type)
    return mirror_status(tx, record, now=sight.now, cure=sight.cure)


def status_json(tx: Tx, sight: Sight, asked: Asked | None = None) -> dict[str, Any]:
    """`kbsync status --json`; with `asked` each mirror has a page of its `items`.

    Where there are more, `next` is what the next page is `after`.
    """
    return {"version": __version__, "mirrors": [_told(tx, sight, mirror, asked) for mirror in sight.mirrors]}


def _told(tx: Tx, sight: Sight, mirror: MirrorConfig, asked: Asked | None) -> dict[str, Any]:
    record = tx.mirrors.named(mirror.name)
    status = _standing(tx, sight, mirror, record)
    if asked is None:
        return status.to_json()
    page = {"items": []} if record is None else _page(tx, record, status, asked)
    return {**status.to_json(), **page}


def _page(tx: Tx, record: MirrorRecord, status: MirrorStatus, asked: Asked) -> dict[str, Any]:
    if asked.state is not None:
        return {"items": _wrong(tx, record, status, asked.state, asked.limit)}
    items = Items(tx, record, status.halt)
    entries = tx.entries.page(record.id, asked.after, asked.limit)
    found = [items.of(entry).to_json() for entry in entries]
    if not asked.after:
        found = [*_unlisted(items), *found]
    more = {"next": cursor(entries[-1].path)} if len(entries) == asked.limit else {}
    return {"items": found, **more}


def cursor(path: str) -> str:
    """A path as a query can carry it: it may be no Unicode."""
    return base64.urlsafe_b64encode(os.fsencode(path)).decode()


def path_at(given: str) -> str:
    """The inverse of `cursor`. Raises `ValueError`."""
    try:
        return os.fsdecode(base64.b64decode(given.encode("ascii"), altchars=b"-_", validate=True))
    except ValueError as error:
        raise ValueError("after is what the page before gave as next") from error


def _wrong(tx: Tx, record: MirrorRecord, status: MirrorStatus, wanted: Status, limit: int) -> list[Any]:
    """Files in one status, directories that cannot be listed among those that failed."""
    items = Items(tx, record, status.halt)
    entries: Iterable[Any] = (
        tx.entries.some(record.id, wanted, limit) if getattr(status.documents, wanted.word) else ()
    )
    folders = _unlisted(items) if wanted is Status.FAILED else []
    return [*folders, *(items.of(entry).to_json() for entry in entries)][:limit]


def _unlisted(items: Items) -> list[dict[str, Any]]:
    return [folder.to_json() for folder in islice(items.unlisted(), SHOWN_WRONG)]


def frame_json(tx: Tx, sight: Sight) -> list[dict[str, Any]]:
    """Every mirror as the page shows it: besides its status what is wrong, and what moves."""
    return [_framed(tx, sight, mirror) for mirror in sight.mirrors]


def _framed(tx: Tx, sight: Sight, mirror: MirrorConfig) -> dict[str, Any]:
    record = tx.mirrors.named(mirror.name)
    status = _standing(tx, sight, mirror, record)
    if record is None:
        return {
            **status.to_json(),
            "failed": [],
            "moving": [],
            "held": 0,
            "renewals": None,
            "audited": None,
        }
    return {
        **status.to_json(),
        "failed": _wrong(tx, record, status, Status.FAILED, SHOWN_WRONG),
        "moving": _moving(tx, record, status),
        "held": sum(tx.holds.item_count(hold.id) for hold in unapproved(tx, record.id)),
        "renewals": renewals_json(tx, record.id),
        "audited": _audited(tx, record),
    }


def _audited(tx: Tx, record: MirrorRecord) -> dict[str, Any] | None:
    """What the last audit of this base came to; None where there was none yet."""
    known = findings.recall(tx, record.id)
    if known is None or known.binding != record.binding or not known.is_audit:
        return None
    left = {"duplicate": known.duplicate, "orphaned": known.orphaned}
    return {"at": known.ended, "mended": known.mended, **left}


def _moving(tx: Tx, record: MirrorRecord, status: MirrorStatus) -> list[dict[str, Any]]:
    if not status.documents.pending and not status.documents.indexing:
        return []
    items = Items(tx, record, status.halt)
    waiting = tx.entries.waiting(record.id, SHOWN_MOVING)
    return [{**items.of(entry).to_json(), "since": entry.since} for entry in waiting]
