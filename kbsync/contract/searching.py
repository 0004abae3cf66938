"""What is asked of a target about its text: searches, and what it made of a document.

Questions that a target answers from what it keeps, and who answers them there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class ApplicationInfo:
    """Something that answers questions from knowledge bases: a model, a prompt, the bases' ids.

    `settings`: as in `BaseCard`.
    """

    id: str
    name: str
    description: str = ""
    prompt: str = ""
    model: str = ""
    bases: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ApplicationWish:
    """What is wanted of an application; None: as it is, or the target's choice.

    `settings`: as in `BaseWish`.
    """

    name: str | None = None
    description: str | None = None
    prompt: str | None = None
    model: str | None = None
    bases: tuple[str, ...] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


class Applications(Protocol):
    """The applications of an account. Every call raises `TargetError`; `Rejected` says what to correct.

    `NotOffered`: the service has none, or no longer.
    """

    async def all(self) -> Sequence[ApplicationInfo]:
        """Every one."""

    async def look(self, application_id: str) -> ApplicationInfo:
        """One of them."""

    async def create(self, wish: ApplicationWish) -> ApplicationInfo:
        """Make one. Raises `NameTaken` where there is one of this name."""

    async def update(self, application_id: str, wish: ApplicationWish) -> None:
        """Change what is wanted."""

    async def delete(self, application_id: str) -> None:
        """Remove it; knowledge bases stay."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The end of an answer. `hits`: the passages it was made from; None where the target does not tell.

    `usage`: tokens by the service's own words for what they went into; None: not told. `has_old_document`:
    some of the documents are kept in a form from before, which tells less; None: not told.
    """

    hits: tuple[Hit, ...] | None
    request_id: str = ""
    usage: Mapping[str, int] | None = None
    has_old_document: bool | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier question of a conversation and its whole answer; neither is empty."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Answerer:
    """Who answers: an application by its id, or a model that is given passages. Exactly one is set."""

    application: str = ""
    model: str = ""


@runtime_checkable
class Answers(Protocol):
    """Can answer a question from its knowledge base."""

    @property
    def applications(self) -> Applications:
        """Those of the account."""

    @property
    def model(self) -> str:
        """The model that is given passages where there are no applications; "" for none."""

    def answer(
        self,
        question: str,
        by: Answerer,
        *,
        turns: Sequence[Turn] = (),
        among: Sequence[str] = (),
        streamed: bool = True,
    ) -> AsyncIterator[str | Sources]:
        """The answer piece by piece (not `streamed`: in one), and at its end the sources.

        `turns`: what was said before, oldest first; the service may be told the last of them only. `among`:
        remote ids of the documents to answer from; empty: all. A model is not asked where no passage is
        found: then there are sources without hits and nothing else. Raises `TargetError`, also in the
        middle: then what was given so far is not the whole answer.
        """
