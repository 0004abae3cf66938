"""A request that stores several documents, and the outcome of each of them in its response, without I/O."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from kbsync.contract.target import Accepted, Body, Outgoing, PutOutcome
from kbsync.dataclass import dataclass
from kbsync.errors import Rejected, Unsure
from kbsync.targets.gptbots.config import cutting_of
from kbsync.targets.http.bodies import RequestBody, json_text, json_with_files
from kbsync.targets.http.reading import id_of, object_of

# New documents in one request: the documentation allows 20, but production accepted only 10.
MAX_FILES = 10

MAX_CHANGED_TEXTS = 50
"""Maximum number of changed texts in one request, and of texts to prepare in advance (the documentation
allows 200)."""

MAX_REQUEST_BYTES = 16_000_000
"""Maximum size in bytes of a request with several documents; a single document may be larger."""

FAILED = "failed"


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
    def names(self) -> tuple[str, str]:
        """The name, and the name without its extension, which some versions omit in responses."""
        name = _composed(self.file_name)
        return name, name.rpartition(".")[0]


def _composed(name: str) -> str:
    """Return a name as NFC, because it may come back in a different Unicode form."""
    return unicodedata.normalize("NFC", name)


def batches_of(
    items: Iterable[UploadItem], most_files: Callable[[UploadItem], int]
) -> Iterator[tuple[UploadItem, ...]]:
    """Split documents into requests.

    All documents in a request have the same settings, are all new or all changed, and have different names. A
    document that was refused before is sent alone. `notes.md` and `notes.md.txt` aren't sent together: in a
    response with names that lack extensions, the name of the second would equal the full name of the first.
    """
    open_batches: dict[tuple[str, bool], list[UploadItem]] = {}
    for item in items:
        if item.document.is_retry:
            yield (item,)
            continue
        batch = open_batches.setdefault((item.document.recipe, bool(item.doc_id)), [])
        is_namesake = any(item.names[0] in other.names or other.names[0] in item.names for other in batch)
        if is_namesake or len(batch) >= most_files(item):
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


@dataclass(frozen=True, slots=True)
class FileResult:
    """The part of a response that concerns one file.

    `key` identifies the file: for an update its id, for a new document its name, or the other one if this one
    is missing. `id` is "" if missing.
    """

    key: str
    id: str
    is_stored: bool


_IDS, _NAMES = ("doc_id", "data_id", "id"), ("doc_name", "file_name", "name")


def results_of(body: Any, *, is_update: bool) -> list[FileResult]:
    """Return the outcomes for the files of a request.

    For failed files, the response to an add request contains names, and the response to an update request
    contains ids. Some versions return objects with either of the two.
    """
    results = []
    for key in ("doc", "failed"):
        listed = object_of(body).get(key)
        for item in listed if isinstance(listed, list) else ():
            fields = object_of(item)
            doc_id = next(filter(None, map(fields.id, _IDS)), "")
            name = next(filter(None, map(fields.text, _NAMES)), "") or id_of(item) or ""
            word = (doc_id or name) if is_update else (name or doc_id)
            if word:
                results.append(FileResult(_composed(word), doc_id, key == "doc"))
    return results


def outcomes_of(results: Sequence[FileResult], batch: Sequence[UploadItem]) -> dict[int, PutOutcome]:
    """Return the outcome of each sent document by its `index`.

    The order of the response doesn't matter. A document that the response lists both as stored and as failed,
    or not at all, is `Unsure`.
    """
    # Match whole names and ids first; a name without its extension can only be one of the remaining ones.
    matches = {
        item.index: [result for result in results if result.key in (item.names[0], item.doc_id)]
        for item in batch
    }
    rest = [result for result in results if not any(result in some for some in matches.values())]
    for item in batch:
        # If only one document was sent, the result is about that document, whatever its name.
        matches[item.index] = matches[item.index] or [
            result for result in rest if len(batch) == 1 or result.key == item.names[1]
        ]
    holders = Counter(doc_id for some in matches.values() for doc_id in _stored_ids(some))
    return {item.index: _outcome(item, matches[item.index], holders) for item in batch}


def _stored_ids(results: Sequence[FileResult]) -> set[str]:
    return {result.id for result in results if result.is_stored}


def _outcome(item: UploadItem, results: Sequence[FileResult], holders: Counter[str]) -> PutOutcome:
    path, ids = item.document.path, _stored_ids(results)
    is_failed = not all(result.is_stored for result in results)
    if is_failed and not ids:
        # The service often accepts the same document a moment later.
        return Rejected("the service refused the document and gave no reason", code=FAILED, may_pass=True)
    # If the response has the same id for two documents, don't trust the id for either of them. Otherwise, one
    # of them would be missing from searches without any error (promise 10).
    if is_failed or len(ids) > 1 or any(doc_id and holders[doc_id] > 1 for doc_id in ids):
        return Unsure(f"the service's response contradicts itself about {path}", code="contradiction")
    if not ids:
        return Unsure(f"the service's response doesn't say whether {path} was stored", code="no-receipt")
    remote_id = ids.pop() or item.doc_id
    if not remote_id:
        return Unsure(f"the service's response contains no id for {path}", code="no-id")
    return Accepted(remote_id, replaced=remote_id == item.doc_id)
