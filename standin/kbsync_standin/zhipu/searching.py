"""Finding paragraphs by the words they share with a question."""

from __future__ import annotations

import heapq
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from kbsync_standin.zhipu.documents import Document, Passage

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORDS = re.compile(f"[{_CJK}]+|[^\\W_{_CJK}]+")
_COUNTED = re.compile(f"[{_CJK}]|[^\\W_{_CJK}]+")
_FIRST_CJK = "\u3040"
_PARAGRAPHS = re.compile(r"\n[ \t\r]*\n")


@dataclass(frozen=True, slots=True)
class Match:
    """A passage found: `index` is its place in the document, `score` above 0 and at most 1."""

    document: Document
    index: int
    passage: Passage
    score: float


def words_of(text: str) -> frozenset[str]:
    """The lower-case words of `text`; of Chinese, Japanese and Korean every two neighbouring characters."""
    words: set[str] = set()
    for run in _WORDS.findall(text.lower()):
        if run[0] < _FIRST_CJK or len(run) == 1:
            words.add(run)
        else:
            words.update(run[at : at + 2] for at in range(len(run) - 1))
    return frozenset(words)


def passages_of(document: Document) -> tuple[Passage, ...]:
    """Its paragraphs, read as UTF-8; kept with the document."""
    if document.passages is None:
        text = document.content.decode("utf-8", "replace").lstrip("\ufeff").replace("\r\n", "\n")
        text = _shortened(text, document.word_limit)
        pieces = (piece.strip() for piece in _PARAGRAPHS.split(text))
        document.passages = tuple(Passage(piece, words_of(piece)) for piece in pieces if piece)
    return document.passages


def _shortened(text: str, limit: int) -> str:
    """Its first `limit` words; 0: all of it."""
    words = list(itertools.islice(_COUNTED.finditer(text), limit)) if limit else []
    return text[: words[-1].end()] if words else text


def search(query: str, documents: Iterable[Document], count: int, threshold: float) -> list[Match]:
    """The `count` best passages with a score of at least `threshold`, best first."""
    wanted = words_of(query)
    found = (match for document in documents for match in _matches(wanted, document))
    good = (match for match in found if match.score >= threshold)
    return heapq.nsmallest(count, good, key=lambda match: (-match.score, match.document.ordinal, match.index))


def _matches(wanted: frozenset[str], document: Document) -> Iterable[Match]:
    for index, passage in enumerate(passages_of(document)):
        if shared := len(wanted & passage.words):
            yield Match(document, index, passage, round(shared / len(wanted), 4))
