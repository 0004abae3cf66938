"""What the vendor says of a document, as the contract's states. Pure."""

from __future__ import annotations

from kbsync.contract.mirroring import DocState, DocStatus
from kbsync.targets.zhipu import words
from kbsync.targets.zhipu.codes import SPACE_ADVICE
from kbsync.targets.zhipu.wire import Failure, Row

_FULL = "the account has no room left to make documents searchable"
_STATES = {0: DocState.INDEXING, 1: DocState.READY, 2: DocState.FAILED}

_MEANINGS = {
    "10001": "the knowledge base is full, or the document is damaged",
    "10002": "the knowledge base is full",
}
"""As the manual has them; said only where the vendor adds no words."""


def status_of(row: Row, *, has_room: bool = False) -> DocStatus:
    """`embedding_stat` as an integer 0, 1 or 2 counts; all else (text, fraction, null, 3) is UNKNOWN.

    `failInfo` counts only with 2: it stays from before after a new start. `has_room`: the account has room
    left, so that words about space and length are about the document alone.
    """
    state = _STATES.get(row.stat, DocState.UNKNOWN) if type(row.stat) is int else DocState.UNKNOWN
    if state is not DocState.FAILED:
        return DocStatus(state)
    return _failed(row.failure or Failure(""), row.name, has_room=has_room)


def _failed(failure: Failure, name: str, *, has_room: bool) -> DocStatus:
    said = words.quoted(failure.text)
    reason = said or _MEANINGS.get(failure.code, "the vendor gives no reason")
    is_money = words.says_money(words.without_names(failure.text, name))
    if _is_full(failure, name) and (is_money or not has_room):
        return DocStatus(DocState.FAILED, f"{_FULL} ({reason}); {SPACE_ADVICE}", failure.code, "quota")
    return DocStatus(DocState.FAILED, reason, failure.code)


def _is_full(failure: Failure, name: str) -> bool:
    """The words decide: 10001 was seen with "document damaged". Only 10002 has one meaning by itself."""
    if failure.text.strip():
        return words.says_full(words.without_names(failure.text, name))
    return failure.code == "10002"
