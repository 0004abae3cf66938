"""What the vendor keeps: documents, knowledge bases, and the journal of what was done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kbsync_standin.zhipu.calling import Callback
from kbsync_standin.zhipu.shelf import Shelf

BYTES_PER_WORD = 3
"""What a Chinese character takes; the vendor counts characters, nobody relies on it."""


@dataclass(frozen=True, slots=True)
class FailInfo:
    """Why vectorizing failed: the vendor's code and text."""

    code: int
    text: str


CORRUPT = FailInfo(10001, "知识不可用，文档损坏")
FULL_SPACE = FailInfo(10001, "知识不可用，知识库空间已满")
FULL_CHARACTERS = FailInfo(10002, "字数超出限制")


@dataclass(frozen=True, slots=True)
class Phase:
    """From `at` on (seconds since the epoch) the status is `stat`: 0 under way, 1 searchable, 2 failed."""

    at: float
    stat: int
    info: FailInfo | None = None


@dataclass(frozen=True, slots=True)
class Slicing:
    """How a document is cut. `separators` empty: the default one."""

    knowledge_type: int
    separators: tuple[str, ...] = ()
    sentence_size: int = 300


@dataclass(frozen=True, slots=True)
class Failing:
    """So many more runs fail with `info` (None: without a word); below 0: all."""

    runs: int
    info: FailInfo | None


@dataclass(frozen=True, slots=True)
class Disguise:
    """Lies about a document in answers. `changes` sets fields of its item, `without` takes them out.

    `url` is a form of the signed address: "", `missing`, `null`, `expired`, `wrong`.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    url: str = ""

    def over(self, other: Disguise) -> Disguise:
        """Both; what they disagree on is as here."""
        changes = {name: value for name, value in other.changes.items() if name not in self.without}
        without = tuple(name for name in other.without if name not in self.changes)
        return Disguise({**changes, **self.changes}, without + self.without, self.url or other.url)


HONEST = Disguise()


@dataclass(slots=True, eq=False)
class Document:
    """One stored document. Its status at a time is that of the last phase begun.

    `ordinal` counts all documents ever, `lot` is their order when shuffled. `sent_name` is the name that
    came, `name` the one kept. `polls` more looks show status 0. `counts`: its bytes fill the capacity.
    A page has an `address`, which was visited so often. `word_limit`: more words are left out; 0: none.
    """

    id: str
    ordinal: int
    lot: int
    base: Base
    name: str
    sent_name: str
    content: bytes
    sha256: str
    size: int
    slicing: Slicing
    parse_image: bool
    created: float
    is_foreign: bool = False
    deleted: float | None = None
    seen_from: float = 0.0
    phases: tuple[Phase, ...] = ()
    polls: int = 0
    failing: Failing = Failing(0, None)
    disguise: Disguise = HONEST
    disguise_ends: float = 0.0
    counts: bool = True
    passages: tuple[Passage, ...] | None = None
    callback: Callback | None = None
    address: str = ""
    visits: int = 0
    word_limit: int = 0

    def phase(self, now: float) -> Phase:
        """Where vectorizing stands at `now`."""
        if self.polls:
            return Phase(now, 0)
        return next((phase for phase in reversed(self.phases) if phase.at <= now), self.phases[0])

    def count_look(self) -> None:
        """A client has seen its status."""
        self.polls = max(0, self.polls - 1)

    def disguise_at(self, now: float) -> Disguise:
        """The lies still told at `now`."""
        return self.disguise if now < self.disguise_ends else HONEST


@dataclass(frozen=True, slots=True)
class Passage:
    """A paragraph of a document, with the words it is found by."""

    text: str
    words: frozenset[str]


@dataclass(slots=True, eq=False)
class Base:
    """One knowledge base. `is_hidden`: nobody can see it, as if it had been deleted."""

    id: str
    name: str
    embedding_id: int
    embedding_model: str = ""
    description: str = ""
    background: str = "blue"
    icon: str = "question"
    contextual: int = 0
    is_hidden: bool = False
    size: int = 0
    shelf: Shelf = field(default_factory=Shelf)
    documents: dict[str, Document] = field(default_factory=dict)
    by_name: dict[str, list[Document]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """One effect, for tests: what became of which object, and when."""

    n: int
    at: float
    effect: str
    id: str
    name: str
    sha256: str
