"""Defines the queries, hits and extracted texts of a search in a target."""

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
    """A search query.

    A document must match all gitignore patterns in `paths` and none in `excluded_paths`, have one of the
    extensions in `types` (without the dot) and none in `excluded_types`, contain all `phrases` word for word,
    and contain none of the words and phrases in `excluded`. `after` is in epoch seconds.
    """

    text: str
    top_k: int = 10
    paths: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    excluded_paths: tuple[str, ...] = ()
    excluded_types: tuple[str, ...] = ()
    after: float | None = None
    phrases: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    # Remote ids that the filters for paths, types and the date select, for a target without paths; empty:
    # unknown.
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
        filters = self.paths or self.types or self.excluded_paths or self.excluded_types
        return bool(filters) or self.after is not None


def selector(query: Query) -> Callable[[str, float | None], bool]:
    """Return a function that tests a file against the query's paths, types and date.

    It takes the file's path and its modification time in epoch seconds. Raises `UsageError` if one of the
    paths isn't a valid pattern.
    """
    tests, excluded_tests = (list(map(_test, paths)) for paths in (query.paths, query.excluded_paths))
    endings, excluded_endings = map(type_endings, (query.types, query.excluded_types))

    def selects(path: str, modified: float | None) -> bool:
        if not all(fits(path) for fits in tests) or any(fits(path) for fits in excluded_tests):
            return False
        lowered = path.lower()
        if (endings and not lowered.endswith(endings)) or lowered.endswith(excluded_endings):
            return False
        return query.after is None or (modified is not None and modified >= query.after)

    return selects


def _test(pattern: str) -> Callable[[str], bool]:
    try:
        return path_matcher(pattern)
    except ValueError as error:
        raise UsageError(f"the path pattern {pattern!r} is not a gitignore pattern: {error}") from error


def type_endings(types: Iterable[str]) -> tuple[str, ...]:
    """Return how the lower-case paths of files with one of these extensions end."""
    return tuple(f".{extension.lower().lstrip('.')}" for extension in types)


def parse_types(values: Iterable[str]) -> tuple[str, ...]:
    """Return the extensions listed in these texts. `md,txt`, `md txt`, `.md` and `*.md` are all accepted."""
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

    `page` and `line` start at 1. `sheet` is the name of the sheet that the line is on. `box`: x0, x1, top and
    bottom on the page, then the page's height and width, in the service's unit, or None if unknown.
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
    """The owner of a document, in a base that several hosts share.

    `mirror` and `folder` are those in the owner's config. `as_of`: the time at which that host last
    changed something or began a pass, in epoch seconds. `base`: the id of the base, which shows whether
    two searches have returned the same document.
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
    """A query word that a document contains, and its contribution to `Reasons.words`.

    `written`: its form in the document, if different: without a typo, with a different ending, or in the
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
    None: no vectors were compared. `together`: the share of the question in one sentence, only for passages
    of the best documents. `further`: what the document's other passages add or subtract.
    `is_translated`: the passage was found by the translation of the question.
    `is_named`: the question is the name of the document's file. `size`: the number of the document's
    passages.

    `score` is half the sum of `words`, `meaning` and `together`, times `size_weight`, plus `further`, and 3
    more if `is_named`. `ranked`: the score that replaced it because a ranking model ordered the hits, or
    None.
    """

    in_text: tuple[MatchedWord, ...]
    in_name: tuple[MatchedWord, ...]
    words: float
    meaning: float
    cosine: float | None
    score: float
    together: float = 0.0
    further: float = 0.0
    is_translated: bool = False
    is_named: bool = False
    size: int = 1
    size_weight: float = 1.0
    ranked: float | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A matching document, with its best passage first. `path` is None if only the state knows the path."""

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
    """The query words that no document contains.

    `instead`: for each missing word, a similar word that the search also used, or "". `are_all`: whether
    no document contains any word of the query; in that case, hits are only similar in meaning or contain
    words of the query's `translation`. `codes`: the missing words that are numbers, dates, identifiers or
    other codes; documents may contain parts of such a code.
    """

    instead: Mapping[str, str]
    are_all: bool
    translation: Sequence[str] = ()
    codes: Sequence[str] = ()


@runtime_checkable
class SupportsUnknownWords(Protocol):
    """Finds out which words of a query no document contains."""

    async def unknown_words(self, query: Query) -> UnknownWords:
        """Return the query's words that no document contains, ignoring the filters. Raises `TargetError`."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A document's extracted text, and its number of chunks."""

    chunks: int
    text: str


@runtime_checkable
class SupportsExplain(Protocol):
    """Provides the text that the target extracted from a document."""

    async def explain(self, remote_id: str) -> Explanation:
        """Return the extracted text of a document. Raises `Rejected` for an unknown id."""
