"""What an answer says of each document that was sent. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from kbsync.contract.mirroring import Accepted, PutOutcome
from kbsync.errors import Rejected, Unsure
from kbsync.targets.gptbots.parcels import Item
from kbsync.targets.gptbots.wire import Receipt, Stored

FAILED = "failed"


def outcomes_of(receipt: Receipt, parcel: Sequence[Item]) -> Mapping[int, PutOutcome]:
    """By place. In both lists or in neither: nobody knows. Never by position."""
    return {item.place: _outcome(receipt, item, is_alone=len(parcel) == 1) for item in parcel}


def _outcome(receipt: Receipt, item: Item, *, is_alone: bool) -> PutOutcome:
    stored = [one for one in receipt.stored if _is_of(one, item)]
    failed = any(_names(item) & {_plain(word) for word in words} for words in receipt.failed)
    if is_alone and not stored and not failed:  # whatever it calls it
        stored, failed = list(receipt.stored), bool(receipt.failed)
    name = item.document.path
    if failed and not stored:
        return Rejected("the vendor refused the document and gives no reason", code=FAILED)
    if failed or len({one.id for one in stored}) > 1:
        return Unsure(f"the vendor's answer contradicts itself about {name}", code="contradiction")
    if not stored:
        return Unsure(f"the vendor's answer names {name} neither as stored nor as failed", code="no-receipt")
    remote_id = stored[0].id or item.doc_id
    if not remote_id:
        return Unsure(f"the vendor's answer gives {name} no id", code="no-id")
    return Accepted(remote_id, replaced=bool(item.doc_id) and remote_id == item.doc_id)


def _is_of(stored: Stored, item: Item) -> bool:
    """An update is told by its id, which stays; a new document by its name."""
    if item.doc_id and stored.id:
        return stored.id == item.doc_id
    return _plain(stored.name) in _names(item)


def _names(item: Item) -> set[str]:
    """The id, the name that was sent, and that without its extension."""
    name = _plain(item.file_name)
    return {name, name.rpartition(".")[0], *({item.doc_id} if item.doc_id else ())} - {""}


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text)
