"""A request that stores several documents, and the outcome of each of them in its response, without I/O."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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

    `index`: the position of its outcome. `file_name` is in Unicode's normal form C. `doc_id`: the document to
    update, or "" for a new one. `address`: the URL from which the service fetches it, or "" if kbsync sends
    the file.
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
        return self.file_name, self.file_name.rpartition(".")[0]


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


_IDS, _NAMES = ("doc_id", "data_id", "id"), ("doc_name", "file_name", "name")


def _ids_by_key(listed: object, *, is_update: bool) -> Mapping[str, set[str]]:
    """Return the ids of the files in one list of a response, "" for a missing one, by the file's key.

    The key identifies the file: for an update its id, for a new document its name, or the other one if this
    one is missing. For failed files, the response to an add request contains names, and the response to an
    update request contains ids. Some versions return objects with either of the two.
    """
    ids: dict[str, set[str]] = {}
    for item in listed if isinstance(listed, list) else ():
        fields = object_of(item)
        doc_id = next(filter(None, map(fields.id, _IDS)), "")
        name = next(filter(None, map(fields.text, _NAMES)), "") or id_of(item) or ""
        if key := (doc_id or name) if is_update else (name or doc_id):
            # a name may come back in a different Unicode form
            ids.setdefault(unicodedata.normalize("NFC", key), set()).add(doc_id)
    return ids


def outcomes_of(body: Any, batch: Sequence[UploadItem]) -> dict[int, PutOutcome]:
    """Return the outcome of each sent document by its `index`, from the body of the response.

    The order of the response doesn't matter. A document that the response lists both as stored and as failed,
    or not at all, is `Unsure`.
    """
    lists, is_update = object_of(body), bool(batch[0].doc_id)
    stored, failed = (_ids_by_key(lists.get(name), is_update=is_update) for name in ("doc", "failed"))
    keys = stored.keys() | failed.keys()
    whole_keys = {key for item in batch for key in (item.doc_id, item.names[0])}
    matches, ids = dict[int, set[str]](), dict[int, set[str]]()
    for item in batch:
        # A name without its extension must not be the whole name of another document. A response to a request
        # with one document is about that document, whatever its name.
        others = keys if len(batch) == 1 else keys & {item.names[1]} - whole_keys
        matches[item.index] = matching = keys & {item.doc_id, item.names[0]} or others
        ids[item.index] = {doc_id for key in matching for doc_id in stored.get(key, ())}
    holders = Counter(doc_id for some in ids.values() for doc_id in some if doc_id)
    return {
        item.index: _outcome(
            item, ids[item.index], not failed.keys().isdisjoint(matches[item.index]), holders
        )
        for item in batch
    }


def _outcome(item: UploadItem, ids: set[str], is_failed: bool, holders: Counter[str]) -> PutOutcome:
    """Return the outcome of a document that the response lists with these ids.

    `holders`: the number of documents that have each id.
    """
    path = item.document.path
    if is_failed and not ids:
        # The service often accepts the same document a moment later.
        return Rejected("the service refused the document and gave no reason", code=FAILED, may_pass=True)
    # If the response has the same id for two documents, don't trust the id for either of them. Otherwise, one
    # of them would be missing from searches without any error (promise 10).
    if is_failed or len(ids) > 1 or any(holders[doc_id] > 1 for doc_id in ids):
        return Unsure(f"the service's response contradicts itself about {path}", code="contradiction")
    if not ids:
        return Unsure(f"the service's response doesn't say whether {path} was stored", code="no-receipt")
    remote_id = ids.pop() or item.doc_id
    if not remote_id:
        return Unsure(f"the service's response contains no id for {path}", code="no-id")
    return Accepted(remote_id, replaced=remote_id == item.doc_id)
