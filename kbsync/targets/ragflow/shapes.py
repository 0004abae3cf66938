"""Parses RAGFlow's responses and classifies its errors, without I/O.

Every response is `{"code": 0, "data": …}` or `{"code": 102, "message": "…"}`, mostly with HTTP 200. Nearly
every refusal has code 102, so the target checks the dataset before it blames a document. Sources:
docs/references/http_api_reference.md, and api/apps/restful_apis for what it omits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kbsync.contract.searching import Passage
from kbsync.contract.target import BaseCard, DocState, DocStatus
from kbsync.core.text import number_in, printable
from kbsync.dataclass import dataclass
from kbsync.errors import NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http import reading, rules
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.reading import DocumentRow, Fields, ListPage, Match
from kbsync.targets.http.rules import ErrorCase, ErrorRule, case_of, classify

_MAX_MESSAGE_LENGTH = 200
# Messages of errors under a refusal's code, and of refusals under an error's code.
_BROKE = re.compile(r"internal server error|database (operation|error)", re.IGNORECASE)
_BLAMED = re.compile(r": (this type of file has not been supported|exceed the maximum length)", re.IGNORECASE)
_FILES_FULL = re.compile(r"exceed the maximum file number", re.IGNORECASE)
_NO_INDEX = re.compile(r"\ANo chunk found")
_KEY = "check api_key, and that it may use the dataset"


def _is_refusal(case: ErrorCase) -> bool:
    """Return whether the code says that the server refused the request, rather than tried and failed."""
    code = number_in(case.code)
    return code is not None and not 500 <= code < 600 and code not in (100, 105)


RULES: tuple[ErrorRule, ...] = (
    # A chat completion has no envelope.
    ErrorRule(None, code={"completion"}),
    # According to the reference, every response has a code (promise 10).
    ErrorRule(Unsure, status=rules.SUCCESS, code={"none"}, says="the response has no code", as_code="shape"),
    # A wrong key or an inactive user (api/apps/restful_apis).
    rules.no_access(code={"401", "109", "403"}, hint=_KEY),
    # RAGFlow passes on the model provider's message: an empty account, also under 429.
    rules.no_quota(pattern=rules.MONEY, reported=True, hint="check the account at the model provider"),
    # RetCode.RUNNING: the server is still working on the document.
    ErrorRule(Unavailable, code={"106"}),
    # Too many requests.
    rules.slow_down(code={"429"}),
    # A path that the server doesn't have.
    ErrorRule(NotOffered, code={"404"}, hint=rules.NO_CALL_HINT),
    # A search in a dataset without an index, as before its first document.
    ErrorRule(None, pattern=_NO_INDEX, reported=True),
    # The server's MAX_FILE_NUM_PER_USER is reached.
    rules.no_quota(pattern=_FILES_FULL, reported=True, hint="the server accepts no more files"),
    # The document is to blame, although the code is a server error.
    ErrorRule(Rejected, pattern=_BLAMED, reported=True),
    # Any message about a busy server, which may have carried out the request.
    rules.slow_down(pattern=rules.BUSY, unless=_BROKE, when=_is_refusal),
    # No room for any document.
    rules.no_room(when=_is_refusal),
    # Nearly every refusal is 102, so the target checks the dataset before it blames a document.
    ErrorRule(Rejected, unless=_BROKE, when=_is_refusal),
    # A server error.
    ErrorRule(Unsure, reported=True),
)
"""RAGFlow's rules. Most errors come with HTTP 200; without a code the HTTP status decides."""


def classify_response(response: HttpResponse) -> TargetError | None:
    """Classify a response; return None on success."""
    body = response.fields
    code = body.integer("code")
    is_bare = code is None and response.body is not None
    case = case_of(
        response,
        codes={"completion"} if rules.is_completion(response) else {"none"} if is_bare else (),
        code=str(code) if code else "",
        message=body.text("message")[:_MAX_MESSAGE_LENGTH] if code else "",
        is_error=bool(code),
        is_of_document=response.op == "upload",
    )
    return classify(case, RULES)


@dataclass(frozen=True, slots=True)
class ParsedDocument(DocumentRow):
    """A document in a list or in the response to an upload. `is_unstarted`: nobody has requested its
    parsing."""

    is_unstarted: bool = False


@reading.row_reader
def _document(row: Fields) -> ParsedDocument:
    name, created = row.text("name"), row.seconds("create_time")
    # RAGFlow repairs a damaged PDF before storing it, so its size differs from the file's.
    size = None if name.lower().endswith(".pdf") else row.count("size")
    word = (row.id("run") or "").upper()
    run = _RUNS.get(word, word)
    return ParsedDocument(row["id"], name, size, created, _status(run, row), is_unstarted=run == "UNSTART")


_RUNS = {"0": "UNSTART", "1": "RUNNING", "2": "CANCEL", "3": "DONE", "4": "FAIL"}
"""Names of the values of `run`, which some versions return as numbers."""


def _status(run: str, row: Fields) -> DocStatus:
    """Return a document's status."""
    match run:
        case "UNSTART" | "RUNNING":
            return DocStatus(DocState.INDEXING)
        case "CANCEL":
            return rules.failed("its parsing was stopped in RAGFlow", run)
        case "FAIL":
            return rules.failed(_last_words(row.get("progress_msg")), run)
        case "DONE" if row.id("status") == "0":
            words = "it is disabled in RAGFlow; retry it to upload it again"
            return DocStatus(DocState.FAILED, words, "disabled", is_final=True)
        case "DONE" if row.count("chunk_count") == 0:  # parsed without an error, but searches never find it
            words = f"RAGFlow found no text in it: {_last_words(row.get('progress_msg'))}"
            return DocStatus(DocState.FAILED, words, "no-chunks")
        case "DONE":
            return DocStatus(DocState.READY)
    return DocStatus(DocState.UNKNOWN)


def _last_words(value: object) -> str:
    """Return the last error in a document's progress log, or its last line.

    The log is a string or a list of lines.
    """
    lines = value if isinstance(value, list) else reading.text_of(value).splitlines()
    messages = [printable(line.strip()) for line in lines if isinstance(line, str) and line.strip()]
    errors = [line for line in messages if "ERROR" in line.upper()]
    return ([*messages, *errors] or [""])[-1][:_MAX_MESSAGE_LENGTH]


def page_of(body: Any) -> ListPage[ParsedDocument] | None:
    """Return a page of documents; None if the shape is unexpected.

    The reference calls the count `total_datasets` instead of `total`.
    """
    data = reading.object_of(body).object("data")
    return reading.page_in(data.get("docs"), data.get("total", data.get("total_datasets")), _document)


def stored_of(body: Any) -> ParsedDocument | None:
    """Return the document that an upload created; None if the response has none, or several."""
    page = reading.page_in(reading.object_of(body).get("data"), None, _document)
    return page.rows[0] if page and len(page.rows) == 1 else None


def bases_of(body: Any) -> ListPage[BaseCard] | None:
    """Return a list of datasets; None if the shape is unexpected. It has no count."""
    return reading.page_in(reading.object_of(body).get("data"), None, base_of)


@reading.row_reader
def base_of(row: Fields) -> BaseCard:
    """Return a dataset."""
    method, count = row.text("chunk_method"), row.count("document_count")
    name, description = row.text("name"), row.text("description")
    settings = {"chunk_method": method} if method else {}
    return BaseCard(row["id"], name, description, row.text("embedding_model"), count, settings=settings)


def matches_of(body: Any) -> tuple[Match, ...] | None:
    """Return the passages that a search found; None if the shape is unexpected."""
    if reading.object_of(body).integer("code"):
        return ()
    chunks = reading.object_of(body).object("data").get("chunks")
    return reading.matches_in(chunks, lambda chunk: (chunk.get("document_id"), passage_of(chunk)))


def passage_of(chunk: Fields) -> Passage:
    """Return a passage from a search or from an answer's sources."""
    score = chunk.number("similarity") or 0.0
    return Passage(chunk.text("content"), page=_page(chunk), score=score)


def _page(chunk: Mapping[str, Any]) -> int | None:
    """Return the page, counted from 1, for PDFs only: for other formats the field counts chunks
    (rag/nlp/__init__.py).
    """
    positions = chunk.get("positions")
    first = positions[0] if isinstance(positions, list) and positions else None
    name = reading.text_of(chunk.get("document_keyword") or chunk.get("document_name"))
    if not (isinstance(first, list) and first and name.endswith(".pdf")):
        return None
    return reading.count_of(first[0]) or None
