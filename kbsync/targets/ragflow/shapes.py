"""RAGFlow's answers as values, and its codes as errors. Pure.

Every answer is `{"code": 0, "data": …}` or `{"code": 102, "message": "…"}`, mostly under HTTP 200. Nearly
every refusal has the code 102, so the target looks at the dataset before it blames a document.
Sources: docs/references/http_api_reference.md, and api/apps/restful_apis where that is silent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kbsync.contract.managing import BaseCard
from kbsync.contract.searching import Passage
from kbsync.contract.target import DocState, DocStatus
from kbsync.core.text import printable
from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http.errors import HttpAnswer, by_status
from kbsync.targets.http.reading import (
    ListPage,
    count_of,
    id_of,
    integer,
    number,
    object_of,
    objects_in,
    text_of,
)

NO_CHUNK = "no-chunk"
"""Our code for a search in a dataset that has no index yet."""

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
    if words.startswith("No chunk found"):
        return Rejected(reason, code=NO_CHUNK)
    if _FULL.search(words):
        return Halted("quota", f"{reason}; the server's limit of files is reached", code=told)
    is_refusal = code in _REFUSALS or (not 500 <= code < 600 and code not in (100, 105))
    if _BLAMED.search(words) or (is_refusal and not _BROKE.search(words)):
        return Rejected(reason, code=told)
    return Unsure(reason, code=told)


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A document as lists and uploads show it. `size` in bytes, `created` in seconds since the epoch.

    `run` is in capitals, "" where it is missing. `chunks` None: not told.
    """

    id: str
    name: str
    size: int | None
    created: float | None
    run: str
    said: str
    chunks: int | None
    is_enabled: bool

    @property
    def is_unstarted(self) -> bool:
        """Stored, and nobody asked for it to be parsed."""
        return self.run in ("UNSTART", "0")

    @property
    def status(self) -> DocStatus:
        """Its state. Some versions tell `run` as a digit."""
        match self.run:
            case "UNSTART" | "RUNNING" | "0" | "1":
                return DocStatus(DocState.INDEXING)
            case "CANCEL" | "2":
                return DocStatus(DocState.FAILED, "its parsing was stopped in RAGFlow", "CANCEL")
            case "FAIL" | "4":
                halt = "quota" if _MONEY.search(self.said) else ""
                return DocStatus(DocState.FAILED, self.said or "RAGFlow gives no reason", "FAIL", halt)
            case "DONE" | "3":
                return self._done
        return DocStatus(DocState.UNKNOWN)

    @property
    def _done(self) -> DocStatus:
        if not self.is_enabled:
            words = "it is switched off in RAGFlow; a retry uploads it anew"
            return DocStatus(DocState.FAILED, words, "disabled", is_final=True)
        if self.chunks == 0:  # parsed without an error, and nothing to be found
            return DocStatus(DocState.FAILED, f"RAGFlow found no text in it: {self.said}", "no-chunks")
        return DocStatus(DocState.READY)


def _rows(value: Any) -> Iterator[DocumentRow]:
    for one in objects_in(value):
        if (remote_id := id_of(one.get("id"))) is None:
            continue
        name, created = text_of(one.get("name")), _seconds(one.get("create_time"))
        # A damaged PDF is repaired before it is stored, so its length is not that of the file.
        size = None if name.lower().endswith(".pdf") else count_of(one.get("size"))
        run = (id_of(one.get("run")) or "").upper()
        chunks, is_enabled = count_of(one.get("chunk_count")), id_of(one.get("status")) != "0"
        said = _last_words(one.get("progress_msg"))
        yield DocumentRow(remote_id, name, size, created, run, said, chunks, is_enabled)


def _seconds(value: object) -> float | None:
    """Seconds, of milliseconds."""
    found = integer(value)
    return found / 1000 if found is not None and 0 < found < 10**14 else None


def _last_words(value: object) -> str:
    """The last error of a document's progress, or its last line; it is a text or a list of lines."""
    lines = value if isinstance(value, list) else text_of(value).splitlines()
    said = [printable(line.strip()) for line in lines if isinstance(line, str) and line.strip()]
    errors = [line for line in said if "ERROR" in line.upper()]
    return ([*said, *errors] or [""])[-1][:_LONGEST]


def page_of(body: Any) -> ListPage[DocumentRow] | None:
    """A page of documents; None for another shape. The reference has `total_datasets` for `total`."""
    data = object_of(object_of(body).get("data"))
    docs = data.get("docs")
    if not isinstance(docs, list):
        return None
    total = count_of(data.get("total", data.get("total_datasets")))
    return ListPage(tuple(_rows(docs)), total)


def stored_of(body: Any) -> DocumentRow | None:
    """The one document of an upload; None where the answer names none, or several."""
    rows = list(_rows(object_of(body).get("data")))
    return rows[0] if len(rows) == 1 else None


def bases_of(body: Any) -> tuple[BaseCard, ...]:
    """The datasets of an answer, which has a list, or the one that was made."""
    data = object_of(body).get("data")
    return tuple(
        BaseCard(
            base_id,
            text_of(one.get("name")),
            text_of(one.get("description")),
            text_of(one.get("embedding_model")),
            documents=count_of(one.get("document_count")),
            settings={"chunk_method": method} if (method := text_of(one.get("chunk_method"))) else {},
        )
        for one in objects_in(data if isinstance(data, list) else [data])
        if (base_id := id_of(one.get("id")))
    )


def matches_of(body: Any) -> tuple[tuple[str, Passage], ...] | None:
    """What a search found: passages, each with the id of its document; None for another shape."""
    chunks = object_of(object_of(body).get("data")).get("chunks")
    if not isinstance(chunks, list):
        return None
    return tuple(
        (remote_id, Passage(text_of(one.get("content")), page=_page(one), score=_score(one)))
        for one in objects_in(chunks)
        if (remote_id := id_of(one.get("document_id")))
    )


def _score(chunk: dict[str, Any]) -> float:
    return number(chunk.get("similarity")) or 0.0


def _page(chunk: dict[str, Any]) -> int | None:
    """From 1, of a PDF alone: what other formats have in its place counts chunks (rag/nlp/__init__.py)."""
    positions = chunk.get("positions")
    first = positions[0] if isinstance(positions, list) and positions else None
    if not (isinstance(first, list) and first and text_of(chunk.get("document_keyword")).endswith(".pdf")):
        return None
    return count_of(first[0]) or None
