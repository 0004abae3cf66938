"""What an answer says of each document that was sent. Pure.

The vendor's pages tell a document by the name that was sent, some versions by that without its extension; an
update is told by its id, which stays.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

from kbsync.contract.mirroring import Accepted, PutOutcome
from kbsync.errors import Rejected, Unsure
from kbsync.targets.gptbots.parcels import Item
from kbsync.targets.gptbots.wire import Receipt, Stored

FAILED = "failed"


def outcomes_of(receipt: Receipt, parcel: Sequence[Item]) -> Mapping[int, PutOutcome]:
    """By place, never by position. In both lists or in neither: nobody knows.

    An id that would be that of two documents is told of neither: one of them would never be found, and
    nothing would say so (promise 10).
    """
    told = [*(_words_of(one, parcel) for one in receipt.stored), *receipt.failed]
    meant = _meant(told, parcel)
    stored = {
        item.place: [receipt.stored[n] for n in meant[item.place] if n < len(receipt.stored)]
        for item in parcel
    }
    failed = {item.place for item in parcel if any(n >= len(receipt.stored) for n in meant[item.place])}
    if len(parcel) == 1 and not meant[parcel[0].place]:  # whatever it calls the only one
        stored = {parcel[0].place: list(receipt.stored)}
        failed = {parcel[0].place} if receipt.failed else set()
    holders = Counter(one_id for some in stored.values() for one_id in {one.id for one in some} if one_id)
    return {
        item.place: _outcome(item, stored[item.place], holders, is_failed=item.place in failed)
        for item in parcel
    }


def _outcome(
    item: Item, stored: Sequence[Stored], holders: Mapping[str, int], *, is_failed: bool
) -> PutOutcome:
    name = item.document.path
    if is_failed and not stored:
        return Rejected("the vendor refused the document and gives no reason", code=FAILED)
    ids = {one.id for one in stored}
    if is_failed or len(ids) > 1 or any(holders.get(one, 0) > 1 for one in ids):
        return Unsure(f"the vendor's answer contradicts itself about {name}", code="contradiction")
    if not stored:
        return Unsure(f"the vendor's answer names {name} neither as stored nor as failed", code="no-receipt")
    remote_id = stored[0].id or item.doc_id
    if not remote_id:
        return Unsure(f"the vendor's answer gives {name} no id", code="no-id")
    return Accepted(remote_id, replaced=bool(item.doc_id) and remote_id == item.doc_id)


def _meant(told: Sequence[frozenset[str]], parcel: Sequence[Item]) -> Mapping[int, list[int]]:
    """By place: which of what is told may be of that document.

    Whole names and ids first; a name without its extension is only one of what these left over.
    """
    whole = {item.place: _which(told, {_plain(item.file_name), item.doc_id}) for item in parcel}
    taken = {number for numbers in whole.values() for number in numbers}
    return {
        item.place: whole[item.place]
        or [n for n in _which(told, {_plain(item.file_name).rpartition(".")[0]}) if n not in taken]
        for item in parcel
    }


def _which(told: Sequence[frozenset[str]], words: set[str]) -> list[int]:
    wanted = words - {""}
    return [number for number, one in enumerate(told) if not wanted.isdisjoint(map(_plain, one))]


def _words_of(stored: Stored, parcel: Sequence[Item]) -> frozenset[str]:
    """An update's id tells more than any name that stands beside it; that of a new document tells nothing."""
    is_update = bool(parcel[0].doc_id and stored.id)
    return frozenset({stored.id if is_update else stored.name} - {""})


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text)
