"""Evidence as JSON."""

from __future__ import annotations

from typing import Any

from kbsync.core.model import Upload
from kbsync.engine.status import iso
from kbsync.engine.views.evidence import Evidence, Selection


def evidence_json(evidence: Evidence) -> dict[str, Any]:
    """The parts of an explanation that come from looking; each may be null."""
    return {
        "file": _file_json(evidence),
        "selection": _selection_json(evidence.selection),
        "state": _state_json(evidence),
        "uploads": [_upload_json(upload) for upload in evidence.uploads],
        "hold": _hold_json(evidence),
        "document": _document_json(evidence),
        **_below_json(evidence),
    }


def _below_json(evidence: Evidence) -> dict[str, Any]:
    """Of a directory alone: how many files in it are in each state."""
    if evidence.below is None:
        return {}
    return {"below": {status.word: n for status, n in evidence.below.counts.items()}}


def _file_json(evidence: Evidence) -> dict[str, Any] | None:
    stamp, stability = evidence.seen.stamp, evidence.stability
    if stamp is None:
        return None
    return {
        "kind": None if evidence.seen.kind is None else evidence.seen.kind.value,
        "size": stamp.size,
        "age_s": None if stability is None else round(stability.age, 3),
        "settle_left_s": None if stability is None else round(stability.left, 3),
    }


def _selection_json(chosen: Selection | None) -> dict[str, Any] | None:
    if chosen is None:
        return None
    return {
        "choice": chosen.verdict.choice.name.lower(),
        "reason": chosen.verdict.reason or chosen.problem,
        "rule": chosen.verdict.rule,
        "by_directory": chosen.closed,
    }


def _state_json(evidence: Evidence) -> dict[str, Any] | None:
    entry = evidence.entry
    if entry is None:
        return None
    return {
        "state": entry.status.word,
        "since": iso(entry.since),
        "digest": entry.digest,
        "racy": entry.racy,
        "changed_since": evidence.is_changed,
    }


def _upload_json(upload: Upload) -> dict[str, Any]:
    return {
        "id": upload.id,
        "state": state_word(upload),
        "document_id": upload.remote_id,
        "label": upload.label,
        "attempts": upload.attempts,
        "reason": upload.reason,
        "code": upload.code,
        "next_look": None if upload.next_look_at is None else iso(upload.next_look_at),
    }


def _hold_json(evidence: Evidence) -> dict[str, Any] | None:
    held, server = evidence.held, evidence.server
    if held is None and server is not None and server.asked:
        return {"cause": "recipe", "approved": False}
    return None if held is None else {"cause": held.item.cause, "approved": held.approved}


def _document_json(evidence: Evidence) -> dict[str, Any] | None:
    remote, server = evidence.remote, evidence.server
    if server is None:
        return None
    known = None if remote is None or remote.status is None else remote.status.state.value
    return {
        "document_id": server.remote_id,
        "known_as": known,
        "chunks": None if remote is None else remote.chunks,
        "trouble": "" if remote is None else remote.trouble,
    }


def state_word(upload: Upload) -> str:
    """An upload's state as people read it."""
    return upload.state.name.lower().replace("_", " ")
