"""Defines queries, hits and extracted texts for searching a target."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from itertools import chain
from pathlib import Path
from typing import Protocol, runtime_checkable

from kbsync.core.selection import path_matcher
from kbsync.dataclass import dataclass
from kbsync.errors import UsageError


@dataclass(frozen=True, slots=True)
class Query:
    """A search.

    A document must match all gitignore patterns in `paths`, have one of the extensions in `types` (without
    dot), contain all `phrases` word for word, and contain no word or phrase in `excluded`. `after` is in
    epoch seconds.
    """

    text: str
    top_k: int = 10
    paths: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    after: float | None = None
    phrases: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    # Remote ids that `paths`, `types` and `after` select, for a target without paths; empty: unknown.
    among: tuple[str, ...] = ()
    # Have a ranking model order the hits, which costs money; see `Target.reranks`.
    rerank: bool = False
    # The user is still typing: the last word may be incomplete. A target may ignore this.
    unfinished: bool = False
    # Only this mirror's documents, even if a search would cover those of others (`Target.reach`).
    own: bool = False
    # Explain the score of each hit, if the target can.
    explain: bool = False

    @property
    def selects(self) -> bool:
        """Whether the query selects only some documents."""
        return bool(self.paths or self.types) or self.after is not None


def selector(query: Query) -> Callable[[str, float | None], bool]:
    """Return a predicate for the query's path, types and date: it takes a path and its modification time in
    epoch seconds.

    Raises `UsageError` if the path isn't a valid pattern.
    """
    tests: list[Callable[[str], bool]] = []
    for path in query.paths:
        try:
            tests.append(path_matcher(path))
        except ValueError as error:
            raise UsageError(f"the path pattern {path!r} is not a gitignore pattern: {error}") from error
    endings = tuple(f".{extension.lower().lstrip('.')}" for extension in query.types)

    def selects(path: str, modified: float | None) -> bool:
        if not all(fits(path) for fits in tests):
            return False
        if endings and not path.lower().endswith(endings):
            return False
        return query.after is None or (modified is not None and modified >= query.after)

    return selects


def parse_types(values: Iterable[str]) -> tuple[str, ...]:
    """Return the extensions in these texts: `md,txt`, `md txt`, `.md` and `*.md` are all accepted."""
    parts = chain.from_iterable(map(_SEPARATORS.split, values))
    return tuple(filter(None, (part.removeprefix("*") for part in parts)))


_SEPARATORS = re.compile(r"[\s,]+")


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that appears in a passage as `placeholder`."""

    placeholder: str
    # Signed: anybody with this URL can see the picture, so kbsync never stores it.
    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Passage:
    """A matching piece of a document.

    `page` and `line` count from 1; `sheet` names the sheet that the line is on. `box`: x0, x1, top and bottom
    on the page, its height and width, in the service's unit; None: unknown.
    """

    text: str
    headings: tuple[str, ...] = ()
    page: int | None = None
    line: int | None = None
    score: float = 0.0
    images: tuple[Image, ...] = ()
    box: Mapping[str, float | None] | None = None
    sheet: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """The owner of a document, in a base that several hosts share; `mirror` and `folder` as in its config.

    `as_of`: the last time that host changed something or began a pass, in epoch seconds. `base`: the base's
    id, to recognize a document that two searches return.
    """

    base: str
    host: str
    mirror: str
    folder: Path
    as_of: float = field(compare=False)  # changes with each pass, so it isn't compared
    # Whether it belongs to the searched mirror.
    is_own: bool
    # Whether `host` is this machine.
    is_here: bool
    # Identifies its mirror in the base, even after its machine was renamed (`Target.owner`).
    owner: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class MatchedWord:
    """A word of a question that a document contains, and its contribution to `Reasons.words`.

    `written`: its form in the document, if that differs: without a typo, with a different ending, in the
    other Chinese script.
    """

    word: str
    points: float
    written: str = ""


@dataclass(frozen=True, slots=True)
class Reasons:
    """The components of the score of a hit's best passage.

    `in_text`: words in the passage or its headings; `in_name`: words in the document's file name, title or
    tags. Their points add up to `words`. `meaning`: the contribution of the `cosine` of passage and question;
    None: no vectors were compared. `together`: the share of the question in one sentence, of the best
    documents' passages only. `is_translated`: it was found by the translation of the question.
    `is_named`: the question is the name of its file. `size`: the number of the document's passages.

    `score` is half the sum of `words`, `meaning` and `together`, times `size_weight`, and 1 more if
    `is_named`. `ranked`: the score that replaced it because a ranking model ordered the hits, or None.
    """

    in_text: tuple[MatchedWord, ...]
    in_name: tuple[MatchedWord, ...]
    words: float
    meaning: float
    cosine: float | None
    score: float
    together: float = 0.0
    is_translated: bool = False
    is_named: bool = False
    size: int = 1
    size_weight: float = 1.0
    ranked: float | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A matching document, its best passage first. `path` is None if only the state has it."""

    remote_id: str
    score: float
    passages: tuple[Passage, ...]
    path: str | None = None
    title: str | None = None
    modified: float | None = None
    # Whether the service has no pages and lines for it until it is indexed again; None: unknown.
    hides_positions: bool | None = None
    # None: it belongs to the searched mirror.
    origin: Origin | None = None
    # With `Query.explain`, if the target supports it.
    reasons: Reasons | None = None


@dataclass(frozen=True, slots=True)
class UnknownWords:
    """The words of a question that no document contains.

    `instead`: for each of them, a similar word that the search also tried, or "". `are_all`: no document has
    any word of the question, so the hits only have a similar meaning, or words of its `translation`. `codes`:
    those that are numbers, dates, identifiers or other codes; a document may have their parts.
    """

    instead: Mapping[str, str]
    are_all: bool
    translation: Sequence[str] = ()
    codes: Sequence[str] = ()


@runtime_checkable
class SupportsUnknownWords(Protocol):
    """Finds out which words of a question no document contains."""

    async def unknown_words(self, query: Query) -> UnknownWords:
        """Return the words of the query that no document contains, ignoring its filters. Raises
        `TargetError`."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The number of chunks of a document, and its extracted text."""

    chunks: int
    text: str


@runtime_checkable
class SupportsExplain(Protocol):
    """Returns the text that the target extracted from a document."""

    async def explain(self, remote_id: str) -> Explanation:
        """Return the extracted text of a document. Raises `Rejected` for an unknown id."""
