"""RAGFlow's answers as values, and its codes as errors. Pure.

Every answer is `{"code": 0, "data": …}` or `{"code": 102, "message": "…"}`, mostly under HTTP 200. Nearly
every refusal has the code 102, so the target looks at the dataset before it blames a document.
Sources: docs/references/http_api_reference.md, and api/apps/restful_apis where that is silent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kbsync.contract.managing import BaseCard
from kbsync.contract.searching import ApplicationInfo, Hit, Passage, Sources
from kbsync.contract.target import DocState, DocStatus
from kbsync.core.text import printable
from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http.answering import Piece, is_completion
from kbsync.targets.http.errors import HttpAnswer, by_status
from kbsync.targets.http.reading import (
    DocumentRow,
    ListPage,
    count_of,
    id_of,
    integer,
    number,
    object_of,
    objects_in,
    page_in,
    seconds_of,
    text_of,
)

_LONGEST = 200
_WRONG_KEY, _NO_USER, _RUNNING, _NO_CALL, _BUSY = (401, 109), 403, 106, 404, 429
_REFUSALS = (101, 102, 103, 108, 400, 409)
# What stands under a code of a refusal, or of an error, and is the other one.
_BROKE = re.compile(r"internal server error|database (operation|error)", re.IGNORECASE)
_BLAMED = re.compile(r": (this type of file has not been supported|exceed the maximum length)", re.IGNORECASE)
_FULL = re.compile(r"exceed the maximum file number", re.IGNORECASE)
# The words of model vendors, as the progress of a document quotes them.
_MONEY = re.compile(
    r"insufficient[_ ](quota|balance|credits?)|exceeded your current quota|arrearage|余额不足", re.IGNORECASE
)


def judge(answer: HttpAnswer) -> TargetError | None:
    """The error that an answer is; None for success."""
    if is_completion(answer):  # which has no envelope
        return None
    body = object_of(answer.body)
    code = integer(body.get("code"))
    if not code:
        error = by_status(answer, of_item=answer.op == "upload")
        is_odd = error is None and code is None
        return Unsure(f"{answer.op}: the answer has no code", code="shape") if is_odd else error
    words = printable(" ".join(text_of(body.get("message")).split()))[:_LONGEST]
    reason, told = f"{answer.op}: RAGFlow refused it (code {code}: {words})", str(code)
    if code in _WRONG_KEY or code == _NO_USER:
        return Halted("credentials", f"{reason}; check api_key, and that it may use the dataset", code=told)
    if code in (_RUNNING, _BUSY):
        return Unavailable(reason, code=told, retry_after=answer.retry_after)
    if code == _NO_CALL:
        return NotOffered(f"{reason}; it has no such call, or base_url is wrong", code=told)
    if words.startswith("No chunk found"):  # a search in a dataset that has no index yet
        return None
    if _FULL.search(words):
        return Halted("quota", f"{reason}; the server's limit of files is reached", code=told)
    is_refusal = code in _REFUSALS or (not 500 <= code < 600 and code not in (100, 105))
    if _BLAMED.search(words) or (is_refusal and not _BROKE.search(words)):
        return Rejected(reason, code=told)
    return Unsure(reason, code=told)


@dataclass(frozen=True, slots=True)
class ParsedDocument(DocumentRow):
    """A document as lists and uploads show it. `is_unstarted`: nobody asked for it to be parsed."""

    is_unstarted: bool


def _document(one: Mapping[str, Any]) -> ParsedDocument | None:
    if (remote_id := id_of(one.get("id"))) is None:
        return None
    name, created = text_of(one.get("name")), seconds_of(one.get("create_time"))
    # A damaged PDF is repaired before it is stored, so its length is not that of the file.
    size = None if name.lower().endswith(".pdf") else count_of(one.get("size"))
    run = (id_of(one.get("run")) or "").upper()
    return ParsedDocument(remote_id, name, size, created, _status(run, one), run in ("UNSTART", "0"))


def _status(run: str, one: Mapping[str, Any]) -> DocStatus:
    """The state of a document. Some versions tell `run` as a digit."""
    said = _last_words(one.get("progress_msg"))
    match run:
        case "UNSTART" | "RUNNING" | "0" | "1":
            return DocStatus(DocState.INDEXING)
        case "CANCEL" | "2":
            return DocStatus(DocState.FAILED, "its parsing was stopped in RAGFlow", "CANCEL")
        case "FAIL" | "4":
            halt = "quota" if _MONEY.search(said) else ""
            return DocStatus(DocState.FAILED, said or "RAGFlow gives no reason", "FAIL", halt)
        case "DONE" | "3" if id_of(one.get("status")) == "0":
            words = "it is switched off in RAGFlow; a retry uploads it anew"
            return DocStatus(DocState.FAILED, words, "disabled", is_final=True)
        case "DONE" | "3" if count_of(one.get("chunk_count")) == 0:  # without an error, and never found
            return DocStatus(DocState.FAILED, f"RAGFlow found no text in it: {said}", "no-chunks")
        case "DONE" | "3":
            return DocStatus(DocState.READY)
    return DocStatus(DocState.UNKNOWN)


def _last_words(value: object) -> str:
    """The last error of a document's progress, or its last line; it is a text or a list of lines."""
    lines = value if isinstance(value, list) else text_of(value).splitlines()
    said = [printable(line.strip()) for line in lines if isinstance(line, str) and line.strip()]
    errors = [line for line in said if "ERROR" in line.upper()]
    return ([*said, *errors] or [""])[-1][:_LONGEST]


def page_of(body: Any) -> ListPage[ParsedDocument] | None:
    """A page of documents; None for another shape. The reference has `total_datasets` for `total`."""
    data = object_of(object_of(body).get("data"))
    return page_in(data.get("docs"), data.get("total", data.get("total_datasets")), _document)


def stored_of(body: Any) -> ParsedDocument | None:
    """The one document of an upload; None where the answer names none, or several."""
    page = page_in(object_of(body).get("data"), None, _document)
    return page.rows[0] if page and len(page.rows) == 1 else None


def bases_of(body: Any) -> tuple[BaseCard, ...]:
    """The datasets of an answer, which has a list, or the one that was made."""
    data = object_of(body).get("data")
    rows = objects_in(data if isinstance(data, list) else [data])
    return tuple(card for card in map(_base, rows) if card is not None)


def _base(one: Mapping[str, Any]) -> BaseCard | None:
    if (base_id := id_of(one.get("id"))) is None:
        return None
    method, count = text_of(one.get("chunk_method")), count_of(one.get("document_count"))
    name, description = text_of(one.get("name")), text_of(one.get("description"))
    settings = {"chunk_method": method} if method else {}
    return BaseCard(base_id, name, description, text_of(one.get("embedding_model")), count, settings=settings)


def matches_of(body: Any) -> tuple[tuple[str, Passage], ...] | None:
    """What a search found: passages, each with the id of its document; None for another shape."""
    if integer(object_of(body).get("code")):
        return ()
    chunks = object_of(object_of(body).get("data")).get("chunks")
    if not isinstance(chunks, list):
        return None
    return tuple(
        (remote_id, _passage(one))
        for one in objects_in(chunks)
        if (remote_id := id_of(one.get("document_id")))
    )


def _passage(chunk: Mapping[str, Any]) -> Passage:
    score = number(chunk.get("similarity")) or 0.0
    return Passage(text_of(chunk.get("content")), page=_page(chunk), score=score)


def _page(chunk: Mapping[str, Any]) -> int | None:
    """From 1, of a PDF alone: what other formats have in its place counts chunks (rag/nlp/__init__.py)."""
    positions = chunk.get("positions")
    first = positions[0] if isinstance(positions, list) and positions else None
    name = text_of(chunk.get("document_keyword") or chunk.get("document_name"))
    if not (isinstance(first, list) and first and name.endswith(".pdf")):
        return None
    return count_of(first[0]) or None


def chats_of(body: Any) -> ListPage[ApplicationInfo] | None:
    """A page of chat assistants; None for another shape. Up to 0.24 the list stands by itself."""
    data = object_of(body).get("data")
    about = object_of(data)
    return page_in(data if isinstance(data, list) else about.get("chats"), about.get("total"), _chat)


def _chat(one: Mapping[str, Any]) -> ApplicationInfo | None:
    """Up to 0.24 the datasets of an assistant stand in it, and its fields have other names."""
    if (chat_id := id_of(one.get("id"))) is None:
        return None
    model = text_of(one.get("llm_id") or object_of(one.get("llm")).get("model_name"))
    bases = one.get("dataset_ids") or [each.get("id") for each in objects_in(one.get("datasets"))]
    known = tuple(filter(None, map(id_of, bases if isinstance(bases, list) else ())))
    name, description = text_of(one.get("name")), text_of(one.get("description"))
    return ApplicationInfo(chat_id, name, description, model=model, bases=known)


def texts_of(piece: Piece) -> Iterator[str]:
    """What a piece adds to an answer, without what the model only thought. Raises `Unavailable`.

    An error is a text, too, wherever the answer stood, under a good end (rag/llm/chat_model.py).
    """
    text, is_error, words = piece.text.rpartition("</think>")[2].partition("**ERROR**: ")
    if text:
        yield text
    if is_error:
        said = printable(" ".join(words.split()))[:_LONGEST]
        raise Unavailable(f"the answer broke off before its end ({said}); ask again", code="error")


def sources_of(last: Piece) -> Sources:
    """The passages that an assistant had, by document: `[ID:0]` in its answer is the first of all."""
    listed = last.part.get("reference")
    if not isinstance(listed, list):
        return Sources(None, usage=last.usage)
    passages: dict[str, list[Passage]] = {}
    marks: dict[str, list[str]] = {}
    for place, chunk in enumerate(map(object_of, listed)):
        if remote_id := id_of(chunk.get("document_id")):
            passages.setdefault(remote_id, []).append(_passage(chunk))
            marks.setdefault(remote_id, []).append(f"ID:{place}")
    hits = tuple(Hit(one, several[0].score, tuple(several)) for one, several in passages.items())
    return Sources(hits, usage=last.usage, marks=marks)
