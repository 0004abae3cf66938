"""What is asked of a target about its text: searches, and what it made of a document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from kbsync.core.selection import path_matcher
from kbsync.errors import UsageError


@dataclass(frozen=True, slots=True)
class Query:
    """A search. `path` is a gitignore pattern, `types` extensions without dot, `after` epoch seconds."""

    text: str
    top_k: int = 10
    path: str | None = None
    types: tuple[str, ...] = ()
    after: float | None = None
    # Remote ids that the three above select, for a target that knows no paths; empty: not known.
    among: tuple[str, ...] = ()
    # A ranking model orders what was found, which costs; see `Target.reranks`.
    rerank: bool = False
    # Still being typed: the last word may be the beginning of one. A target may ignore that.
    unfinished: bool = False
    # Only the asked mirror's documents, also where a search goes through those of others (`Target.reach`).
    own: bool = False

    @property
    def selects(self) -> bool:
        """It is not about every document."""
        return self.path is not None or bool(self.types) or self.after is not None


def selector(query: Query) -> Callable[[str, float | None], bool]:
    """A test for the query's path, types and date: of a path and when it was modified, epoch seconds.

    Raises `UsageError` for a path that is no pattern.
    """
    try:
        fits = None if query.path is None else path_matcher(query.path)
    except ValueError as error:
        raise UsageError(f"--path {query.path!r} is not a gitignore pattern: {error}") from error
    endings = tuple(f".{each.lower().lstrip('.')}" for each in query.types)

    def selects(path: str, modified: float | None) -> bool:
        if fits is not None and not fits(path):
            return False
        if endings and not path.lower().endswith(endings):
            return False
        return query.after is None or (modified is not None and modified >= query.after)

    return selects


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that stands in a passage as `placeholder`."""

    placeholder: str
    # Signed: anybody who has it can see the picture, so it is never kept.
    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that matched. `page` and `line` count from 1; `sheet` names that of the line.

    `box`: x0, x1, top and bottom on the page, its height and width, in the service's unit; None: unknown.
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
    """Whose document it is, in a base that several hosts fill; `mirror` and `folder` as its config has them.

    `as_of`: when that host last changed something or began a pass, epoch seconds. `base`: the base's id, so
    that a document which two searches find is known for one.
    """

    base: str
    host: str
    mirror: str
    folder: Path
    as_of: float = field(compare=False)  # later with each pass: the same document all the same
    # The asked mirror's own.
    is_own: bool
    # `host` is this machine.
    is_here: bool
    # What names its mirror to the base, also when its machine has another name by now (`Target.owner`).
    owner: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that matched, best passage first. `path` is None where only the state knows it."""

    remote_id: str
    score: float
    passages: tuple[Passage, ...]
    path: str | None = None
    title: str | None = None
    modified: float | None = None
    # The service knows no pages and lines of it until it is indexed again; None: unknown.
    hides_positions: bool | None = None
    # None: the asked mirror's.
    origin: Origin | None = None


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
