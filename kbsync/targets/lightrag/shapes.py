"""Parses the server's responses without trusting them, and classifies them.

Source: LightRAG 1.5.7, `lightrag/api/routers/document_routes.py` and `query_routes.py`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kbsync.contract.searching import Passage
from kbsync.contract.target import DocState, DocStatus
from kbsync.dataclass import dataclass
from kbsync.errors import NameTaken, TargetBusy, TargetError, Unavailable
from kbsync.targets.http import reading, rules
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.reading import DocumentRow, Fields, ListPage, object_of, value_at
from kbsync.targets.http.rules import ErrorRule, case_of, classify

BUSY_PAUSE = 3.0
"""Minimum number of seconds to wait before calling a busy server again."""

STORED = "stored"
"""The error code of an upload whose name is already in use."""

BUSY = "busy"
"""The server's word, under HTTP 200, for a deletion that it refuses while it is working."""

_KEY_REFUSED = re.compile(r"\A(?:API Key required|Invalid API Key)\Z")
_NO_ROUTE = re.compile(r"\ANot Found\Z")
_STORED = re.compile(r"\ADocument storage already contains")
_LEFT_BEHIND = re.compile(r"\AInput directory already contains")
_BARE_ID = re.compile(r"(?:doc|dup|error)-[0-9a-f]{32}")

UNFINISHED = ("pending", "parsing", "analyzing", "processing", "preprocessed")
FINISHED = ("processed", "failed")
"""The document states by which the server can filter its list."""


RULES: tuple[ErrorRule, ...] = (
    # Observed with 1.5.7.
    rules.no_access(status={403}, pattern=_KEY_REFUSED, hint="check api_key"),
    # FastAPI's own message: the server runs but has no such call.
    rules.no_base(
        status={404},
        call={"base"},
        reported=True,
        pattern=_NO_ROUTE,
        hint="there is no documents API at this address; correct target.base_url",
    ),
    # A document already has this name.
    ErrorRule(NameTaken, status={409}, pattern=_STORED, as_code=STORED),
    # A file already has this name.
    ErrorRule(NameTaken, status={409}, pattern=_LEFT_BEHIND),
    # The server is deleting documents, scanning files or indexing, and did nothing; see `BUSY`.
    ErrorRule(TargetBusy, status={200, 409}, reported=True, as_code=BUSY, pause=BUSY_PAUSE),
    # As above, but a gateway may also say this.
    ErrorRule(Unavailable, status={503}, reported=True, as_code=BUSY, pause=BUSY_PAUSE),
)
"""LightRAG's rules; the common rules come after them."""


def classify_response(response: HttpResponse) -> TargetError | None:
    """Classify a response by the server's message or, if the message is unknown, by the HTTP status."""
    is_busy = response.is_success and response.fields.get("status") == BUSY
    is_error = is_busy or (bool(response.fields.text("detail")) and not response.is_success)
    case = case_of(response, code=BUSY if is_busy else "", is_error=is_error)
    return classify(case, RULES)


def document_id(remote_id: str) -> str:
    """Return the id that the server derives from a document's name."""
    if _BARE_ID.fullmatch(remote_id):
        return remote_id
    return f"doc-{hashlib.md5(remote_id.encode(), usedforsecurity=False).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Row(DocumentRow):
    """A document in the list. Its size is in characters of the text.

    `id`: the name, because searches return it, or the server's id if that isn't derived from the name.
    `server_id`: begins with `dup-` for the record of an upload that was refused because its name was in use,
    and with `error-` for an accepted upload for which the server couldn't create a document. The latter
    occupies the name until it is deleted (`apipeline_enqueue_error_documents`). `duplicate_of`: the server's
    id of a document with the same text.
    """

    server_id: str = ""
    duplicate_of: str = ""

    def status_among(self, others: Mapping[str, Row]) -> DocStatus:
        """Return the document's status, with the reason if it failed.

        `others`: the other known rows, by the server's ids.
        """
        if not self.duplicate_of or self.status.state is not DocState.FAILED:
            return self.status
        twin = others.get(self.duplicate_of)
        name = twin.name if twin else self.duplicate_of
        reason = f"the server stores each text only once, and already has this one as {name}"
        return DocStatus(DocState.FAILED, reason, "duplicate", twin=twin.id if twin else "")


def count_in(body: Any) -> int | None:
    """Return the number of documents on the server, or None if the shape is unexpected."""
    return reading.count_of(value_at(body, "status_counts.all"))


def page_of(body: Any) -> ListPage[Row] | None:
    """Parse a page of the list. Return None if it has no count."""
    page = reading.page_in(value_at(body, "documents"), value_at(body, "pagination.total_count"), _row)
    return None if page is None or page.total is None else page


@reading.row_reader
def _row(item: Fields) -> Row:
    metadata = item.object("metadata")
    name, server_id = item.text("file_path"), item["id"]
    twin = metadata.text("original_doc_id") if metadata.get("is_duplicate") is True else ""
    remote_id = name if document_id(name) == server_id else server_id
    created, status = item.seconds("created_at"), _status(item)
    return Row(remote_id, name, None, created, status, server_id=server_id, duplicate_of=twin)


def _status(item: Fields) -> DocStatus:
    match item.text("status"):
        case "failed":
            return rules.failed(item.text("error_msg"))
        case "processed":
            return rules.READY
        case word:
            return rules.INDEXING if word in UNFINISHED else rules.UNKNOWN


def receipt_in(body: Any) -> str | None:
    """Return the id of an upload, or None if the response doesn't confirm that the server has the file."""
    fields = object_of(body)
    return fields.id("track_id") if fields.get("status") == "success" else None


def passages(response: HttpResponse) -> Iterator[tuple[str, Passage]]:
    """Yield (document name, passage), best first. Raises `Unavailable` for a failed search.

    The server doesn't return scores, so 1, 1/2, 1/3 and so on are used instead.
    """
    body = response.fields
    is_empty = body.object("metadata").get("failure_reason") == "no_results"
    if body.get("status") != "success" and not is_empty:
        raise Unavailable(f"search: {response.excerpt}")
    chunks = body.object("data").objects("chunks")
    for rank, chunk in enumerate(chunks, 1):
        yield chunk.text("file_path"), Passage(chunk.text("content"), score=1 / rank)
