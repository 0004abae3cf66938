"""Makes requests to the service, and finds single documents in its list, which has no filter. kbsync looks
for a document first on its last known page, then by the order of ids.

Ids look like Mongo's: they begin with eight hex digits for the second in which they were created. That isn't
documented, so it only decides which page to read next, and only while the pages read so far are in that
order; if a document isn't found that way, the whole list is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field

from kbsync.contract.target import BaseCard, Body, Outgoing
from kbsync.dataclass import dataclass
from kbsync.targets.gptbots.config import cutting_of
from kbsync.targets.gptbots.shapes import MarkedRow, bases_of
from kbsync.targets.http.bodies import RequestBody, base64_size, json_text, json_with_files
from kbsync.targets.http.client import Client
from kbsync.targets.http.reading import PAGE_SIZE, ListPage

# New documents in one request: the documentation allows 20, but production accepted only 10.
MAX_FILES = 10

MAX_CHANGED_TEXTS = 50
"""Maximum number of changed texts in one request, and of texts to prepare in advance (the documentation
allows 200)."""

MAX_REQUEST_BYTES = 16_000_000
"""Maximum size in bytes of a request with several documents; a single document may be larger."""


@dataclass(frozen=True, slots=True)
class UploadItem:
    """A document to upload.

    `index`: the position of its outcome. `doc_id`: the document to update, or "" for a new one. `address`:
    the URL from which the service fetches it, or "" if kbsync sends the file.
    """

    index: int
    document: Outgoing
    kind: str
    file_name: str
    source_url: str
    doc_id: str = ""
    address: str = ""

    @property
    def size(self) -> int:
        """The size of the document in a request, in bytes."""
        return base64_size(self.document.size)


def batches_of(
    items: Iterable[UploadItem], most_files: Callable[[UploadItem], int]
) -> Iterator[tuple[UploadItem, ...]]:
    """Split documents into requests.

    All documents in a request have the same settings, are all new or all changed, have different names and
    ids, and together fit into a request. A document that was refused before is sent alone. `notes.md` and
    `notes.md.txt` aren't sent together: in a response with names that lack extensions, the name of the second
    would equal the full name of the first.
    """
    open_batches: dict[tuple[str, bool], list[UploadItem]] = {}
    for item in items:
        if item.document.is_retry:
            yield (item,)
            continue
        batch = open_batches.setdefault((item.document.recipe, bool(item.doc_id)), [])
        is_namesake = any(
            item.file_name in (other.file_name, other.file_name.rpartition(".")[0])
            or other.file_name == item.file_name.rpartition(".")[0]
            or (item.doc_id and other.doc_id == item.doc_id)
            for other in batch
        )
        is_full = (
            len(batch) >= most_files(item)
            or sum(other.size for other in batch) + item.size > MAX_REQUEST_BYTES
        )
        if batch and (is_namesake or is_full):
            yield tuple(batch)
            batch.clear()
        batch.append(item)
    yield from (tuple(batch) for batch in open_batches.values() if batch)


def stream_of(batch: tuple[UploadItem, ...], base: str) -> RequestBody:
    """Return the request body in pieces."""
    first = batch[0].document
    beginning = {"knowledge_base_id": base, **cutting_of(first.path, first.settings)}
    pieces: list[bytes | Body] = [json_text(beginning)[:-1] + b',"files":[']
    for number, item in enumerate(batch):
        about = {"doc_id": item.doc_id} if item.doc_id else {}
        about |= {"file_name": item.file_name, "source_url": item.source_url}
        comma = b"," if number else b""
        if item.address:
            pieces.append(comma + json_text(about | {"file_url": item.address}))
        else:
            pieces += [comma + json_text(about)[:-1] + b',"file_base64":"', item.document.body, b'"}']
    return json_with_files([*pieces, b"]}"])


async def list_bases(client: Client) -> tuple[BaseCard, ...]:
    """Return all of the bot's bases. Despite its name, the call doesn't return pages."""
    return (await client.read("base", "/v1/bot/knowledge/base/page", bases_of)).rows


_TIME_LENGTH = 8
"""Number of characters at the start of an id that encode its creation time."""


@dataclass(slots=True)
class Lookup:
    """The pages that a lookup has read so far, and their rows."""

    rows: dict[str, MarkedRow] = field(default_factory=dict)
    _pages: dict[int, Sequence[MarkedRow]] = field(default_factory=dict)

    def take(self, number: int, page: ListPage[MarkedRow]) -> None:
        """Record a page."""
        self._pages[number] = page.rows
        self.rows |= {row.id: row for row in page.rows}

    def next_page(self, remote_id: str, known: int | None, count: int | None) -> int | None:
        """Return the page to read next for a document that hasn't been found yet.

        Return None if no page is more likely than another. `known`: the page that had it before. `count`: the
        number of documents in the list, or None if unknown.
        """
        if known is not None and known not in self._pages:
            return known
        if count is None:
            return 1 if not self._pages else None
        times = {
            number: [row.id[:_TIME_LENGTH] for row in rows] for number, rows in sorted(self._pages.items())
        }
        in_order = [time for page_times in times.values() for time in page_times]
        is_rising = in_order == sorted(in_order)
        if not is_rising and in_order != sorted(in_order, reverse=True):
            return None
        # Use the page size that the server really uses.
        size = max(map(len, times.values()), default=0) or PAGE_SIZE
        low, high, time = 1, -(-count // size), remote_id[:_TIME_LENGTH]
        for number, page_times in times.items():
            if not page_times:
                high = min(high, number - 1)
            elif min(page_times) < time < max(page_times):
                return None
            elif min(page_times) == time == max(page_times):
                known = number  # the rest of that second is on the pages next to it
            elif (time <= min(page_times)) == is_rising:
                high = min(high, number - 1)
            else:
                low = max(low, number + 1)
        # The document is probably near the page that had it before. Without such a page, bisect.
        middle = (low + high + 1) // 2 if known is None else known
        unread = (number for number in range(low, high + 1) if number not in times)
        return min(unread, key=lambda number: abs(number - middle), default=None)
