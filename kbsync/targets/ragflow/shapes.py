"""Parses RAGFlow's responses and classifies its errors, without I/O.

Every response is `{"code": 0, "data": …}` or `{"code": 102, "message": "…"}`, mostly with HTTP 200. Nearly
every refusal has code 102, so the target checks the dataset before it blames a document. Sources:
docs/references/http_api_reference.md, and api/apps/restful_apis for what that omits.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from kbsync.contract.searching import Passage
from kbsync.contract.target import BaseCard, DocState, DocStatus
from kbsync.errors import NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http import reading, rules
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.reading import DocumentRow, Fields, ListPage, Match, object_of, value_at
from kbsync.targets.http.rules import ErrorRule, case_of, classify

# Messages of errors under a refusal's code, and of refusals under an error's code.
_SERVER_ERRORS = frozenset({"100", "105", *map(str, range(500, 600))})
_BROKE = re.compile(r"internal server error|database (operation|error)", re.IGNORECASE)
_BLAMED = re.compile(r": (this type of file has not been supported|exceed the maximum length)", re.IGNORECASE)
_FILES_FULL = re.compile(r"exceed the maximum file number", re.IGNORECASE)
_NO_INDEX = re.compile(r"\ANo chunk found")
_NO_PATH = re.compile(r"\ANot Found: /")


RULES: tuple[ErrorRule, ...] = (
    # According to the reference, every response has a code (promise 10).
    ErrorRule(Unsure, status=rules.SUCCESS, code={"none"}, says="the response has no code", as_code="shape"),
    # A wrong key or an inactive user (api/apps/restful_apis).
    rules.no_access(code={"401", "109", "403"}, hint="check api_key, and check that it may use the dataset"),
    # RAGFlow passes on the model provider's message: an empty account, also under 429.
    rules.no_money(reported=True, hint="check the account at the model provider"),
    # RetCode.RUNNING: the server is still working on the document.
    ErrorRule(Unavailable, code={"106"}),
    # Too many requests.
    rules.slow_down(code={"429"}),
    # Every version has this call, so the response came from a gateway in front of it.
    ErrorRule(Unavailable, call={"base"}, status={404, 405, 501}, hint=rules.NO_CALL_HINT),
    # The same under HTTP 200: the message names the path, not the dataset (api/apps/__init__.py).
    ErrorRule(Unavailable, call={"base"}, pattern=_NO_PATH, hint=rules.NO_CALL_HINT),
    # A path that the server doesn't have.
    ErrorRule(NotOffered, code={"404"}, hint=rules.NO_CALL_HINT),
    # A search in a dataset without an index, as before its first document.
    ErrorRule(None, pattern=_NO_INDEX, reported=True),
    # The server's MAX_FILE_NUM_PER_USER is reached.
    rules.no_quota(pattern=_FILES_FULL, reported=True, hint="the server doesn't accept any more files"),
    # The document is to blame, although the code is a server error.
    ErrorRule(Rejected, pattern=_BLAMED, reported=True),
    # The server tried and failed, and may have carried out the request.
    ErrorRule(Unsure, code=_SERVER_ERRORS),
    # The same under a refusal's code.
    ErrorRule(Unsure, pattern=_BROKE, reported=True),
    # Any message about a busy server.
    rules.slow_down(pattern=rules.BUSY, reported=True),
    # No room for any document.
    rules.no_room(reported=True),
    # Nearly every refusal is 102, so the target checks the dataset before it blames a document.
    ErrorRule(Rejected, reported=True),
)
"""RAGFlow's rules. Most errors come with HTTP 200; if there is no code, the HTTP status decides."""


def classify_response(response: HttpResponse) -> TargetError | None:
    """Classify a response. Return None on success."""
    if rules.is_completion(response):  # this response has no envelope
        return None
    code = response.fields.integer("code")
    case = case_of(
        response,
        codes={"none"} if code is None and response.body is not None else (),
        code=str(code or ""),
        is_error=bool(code),
    )
    return classify(case, RULES)


@reading.row_reader
def _document(row: Fields) -> DocumentRow:
    name, created = row.text("name"), row.seconds("create_time")
    # RAGFlow repairs a damaged PDF before storing it, so its size differs from the file's.
    size = None if name.lower().endswith(".pdf") else row.count("size")
    return DocumentRow(row["id"], name, size, created, _status(row))


UNSTARTED = DocStatus(DocState.INDEXING, code="UNSTART")
"""The status of a document that nobody has asked RAGFlow to parse."""


def _status(row: Fields) -> DocStatus:
    """Return a document's status. Some versions return `run` as a number."""
    match (row.id("run") or "").upper():
        case "UNSTART" | "0":
            return UNSTARTED
        case "RUNNING" | "1":
            return rules.INDEXING
        case "CANCEL" | "2":
            return rules.failed("parsing was stopped in RAGFlow", "CANCEL")
        case "FAIL" | "4":
            return rules.failed(_last_words(row.get("progress_msg")), "FAIL")
        case "DONE" | "3" if row.id("status") == "0":
            words = "the document is disabled in RAGFlow; retry it to upload it again"
            return rules.failed(words, "disabled", is_final=True)
        case "DONE" | "3" if row.count("chunk_count") == 0:  # no error, but never found
            words = f"RAGFlow found no text in the document: {_last_words(row.get('progress_msg'))}"
            return rules.failed(words, "no-chunks")
        case "DONE" | "3":
            return rules.READY
    return rules.UNKNOWN


def _last_words(value: object) -> str:
    """Return the last error in a document's progress log or, if there is none, the last line.

    The log is a string or a list of lines.
    """
    lines = value if isinstance(value, list) else reading.text_of(value).splitlines()
    messages = [line for line in lines if isinstance(line, str) and line.strip()]
    errors = [line for line in messages if "ERROR" in line.upper()]
    return ([*messages, *errors] or [""])[-1]


def page_of(body: Any) -> ListPage[DocumentRow] | None:
    """Parse a page of documents. Return None if the shape is unexpected.

    In the reference, the count is called `total_datasets` instead of `total`.
    """
    data = object_of(value_at(body, "data"))
    return reading.page_in(data.get("docs"), data.get("total", data.get("total_datasets")), _document)


base_of = reading.row_reader(partial(reading.card_in, setting="chunk_method"))
"""Returns a dataset."""


def bases_of(body: Any) -> ListPage[BaseCard] | None:
    """Parse a list of datasets, which has no count. Return None if the shape is unexpected."""
    return reading.page_in(value_at(body, "data"), None, base_of)


def stored_of(body: Any) -> DocumentRow | None:
    """Return the document that an upload created, or None if the response has none or several."""
    page = reading.page_in(value_at(body, "data"), None, _document)
    return page.rows[0] if page and len(page.rows) == 1 else None


def matches_of(body: Any) -> tuple[Match, ...] | None:
    """Return the passages that a search found, or None if the shape is unexpected."""
    if object_of(body).integer("code"):
        return ()
    chunks = value_at(body, "data.chunks")
    return reading.matches_in(chunks, lambda chunk: (chunk.get("document_id"), passage_of(chunk)))


def passage_of(chunk: Fields) -> Passage:
    """Parse a passage from a search or from an answer's sources."""
    name = reading.text_of(chunk.get("document_keyword") or chunk.get("document_name"))
    page = None
    match chunk.get("positions"):
        # Pages count from 1; for other formats the field counts chunks (rag/nlp/__init__.py).
        case [[first, *_], *_] if name.lower().endswith(".pdf"):
            page = reading.count_of(first) or None
    return Passage(chunk.text("content"), page=page, score=chunk.number("similarity") or 0.0)
