"""What is asked of a target about its text: searches, and what it made of a document."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Query:
    """A search. `path` is a gitignore pattern, `types` extensions without dot, `after` epoch seconds.

    `among`: remote ids of the documents that these select, for a target that knows no paths; empty: unknown.
    `rerank`: a ranking model puts what was found into order, which costs; see `Target.reranks`.
    `unfinished`: it is still being typed, so its last word may be the beginning of one, where a target can
    tell; the others take it as it is.
    """

    text: str
    top_k: int = 10
    path: str | None = None
    types: tuple[str, ...] = ()
    after: float | None = None
    among: tuple[str, ...] = ()
    rerank: bool = False
    unfinished: bool = False

    @property
    def selects(self) -> bool:
        """It is not about every document."""
        return self.path is not None or bool(self.types) or self.after is not None


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that stands in a passage as `placeholder`. `url` lets anybody see it: never kept."""

    placeholder: str
    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Box:
    """Where a passage stands on its page, and that page's size, in the service's unit; None: not told."""

    x0: float | None = None
    x1: float | None = None
    top: float | None = None
    bottom: float | None = None
    height: float | None = None
    width: float | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that matched. `page` is 1-based where known; `line` 1-based where known.

    `sheet`: of a table, the name of the sheet that the line is in.
    """

    text: str
    headings: tuple[str, ...] = ()
    page: int | None = None
    line: int | None = None
    score: float = 0.0
    images: tuple[Image, ...] = ()
    box: Box | None = None
    sheet: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that matched, best passage first. `path` is None where only the state knows it.

    `hides_positions`: the service knows no pages and lines of it until it is indexed again; None: not told.
    """

    remote_id: str
    score: float
    passages: tuple[Passage, ...]
    path: str | None = None
    title: str | None = None
    modified: float | None = None
    hides_positions: bool | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the target made of a document: number of chunks and the extracted text."""

    chunks: int
    text: str


@runtime_checkable
class Explains(Protocol):
    """Can show what it made of a document."""

    async def explain(self, remote_id: str) -> Explanation:
        """Raises `Rejected` for an unknown id."""
