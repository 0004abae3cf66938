"""Documents of one request, and its body: files are read and put into base64 while they are sent. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kbsync.contract.mirroring import Body, Outgoing
from kbsync.targets.gptbots.formats import Cutting
from kbsync.targets.http.streaming import JsonStream, base64_size

MOST_BYTES = 16_000_000
"""Of one request with several documents; a single one may have more."""


@dataclass(frozen=True, slots=True)
class Item:
    """One document. `place`: where its outcome belongs. `doc_id`: what it changes; "" for a new one.

    `address`: where the vendor fetches it; "" for one that is sent.
    """

    place: int
    document: Outgoing
    cutting: Cutting
    file_name: str
    source_url: str
    doc_id: str = ""
    address: str = ""

    @property
    def size(self) -> int:
        """Bytes that it has in a request."""
        return base64_size(self.document.size)


def packed(items: Iterable[Item], most_files: int) -> Iterator[tuple[Item, ...]]:
    """Requests: equally cut, all new or all changed, no name and no document twice, not too large.

    `notes.md` and `notes.md.txt` do not go together: an answer that tells names without their extensions
    would call the second as the first is called in full.
    """
    open_parcels: dict[tuple[Cutting, bool], list[Item]] = {}
    for item in items:
        parcel = open_parcels.setdefault((item.cutting, bool(item.doc_id)), [])
        if parcel and not _has_room(parcel, item, most_files):
            yield tuple(parcel)
            parcel.clear()
        parcel.append(item)
    yield from (tuple(parcel) for parcel in open_parcels.values() if parcel)


def _has_room(parcel: list[Item], item: Item, most_files: int) -> bool:
    is_namesake = any(
        item.file_name in _names(one)
        or one.file_name in _names(item)
        or (item.doc_id and one.doc_id == item.doc_id)
        for one in parcel
    )
    size = sum(one.size for one in parcel) + item.size
    return not is_namesake and len(parcel) < most_files and size <= MOST_BYTES


def _names(item: Item) -> tuple[str, str]:
    """In full, and without its extension."""
    return item.file_name, item.file_name.rpartition(".")[0]


def stream_of(parcel: tuple[Item, ...], base: str) -> JsonStream:
    """The body of the request."""
    first = parcel[0]
    beginning = {"knowledge_base_id": base, **first.cutting.fields(is_update=bool(first.doc_id))}
    pieces: list[bytes | Body] = [_text(beginning)[:-1] + b',"files":[']
    for number, item in enumerate(parcel):
        about: dict[str, Any] = {"doc_id": item.doc_id} if item.doc_id else {}
        about |= {"file_name": item.file_name, "source_url": item.source_url}
        comma = b"," if number else b""
        if item.address:
            pieces.append(comma + _text(about | {"file_url": item.address}))
        else:
            pieces += [comma + _text(about)[:-1] + b',"file_base64":"', item.document.body, b'"}']
    return JsonStream([*pieces, b"]}"])


def _text(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
