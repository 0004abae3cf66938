"""Stores the service's documents and bases, and decides when a document becomes searchable."""

from __future__ import annotations

import json
import math
import unicodedata
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from kbsync_standin.application import Base, Call, Document
from kbsync_standin.messages import Letter


def extension(name: str) -> str:
    """Return the lower-case extension without its dot; "" if there is none."""
    stem, dot, last = name.rpartition("/")[2].rpartition(".")
    return last.lower() if dot and stem else ""


def suffixed(name: str, number: int = 1) -> str:
    """Return `name` with "(1)" before its extension."""
    kind = extension(name)
    stem = name[: -len(kind) - 1] if kind else name
    return f"{stem}({number}){name[len(stem) :]}"


NAME_FORMS: Mapping[str, Callable[[str], str]] = {
    "as_sent": str,
    "nfc": lambda name: unicodedata.normalize("NFC", name),
    "nfd": lambda name: unicodedata.normalize("NFD", name),
    "mojibake": lambda name: name.encode("utf-8", "replace").decode("latin-1"),
    "basename": lambda name: name.replace("\\", "/").rpartition("/")[2],
    "suffixed": suffixed,
    "question_marks": lambda name: name.encode("ascii", "replace").decode("ascii"),
}
"""The values of the switch `names`, each with its change to a name."""


def stored_name(name: str, form: str, exists: Callable[[str], bool]) -> str:
    """Return the stored name of a document; suffixes count up until the name is free."""
    if form != "suffixed":
        return NAME_FORMS[form](name)
    number = 1
    while exists(suffixed(name, number)):
        number += 1
    return suffixed(name, number)


# Ids captured live count milliseconds from this time, shifted by 22 bits; no document describes them.
EPOCH_MS = 1288834974657
OTHER_EPOCH_MS = 1577836800000
_SEQUENCE_BITS = 12
_SHIFT = 22  # a worker has 10 bits


class Snowflakes:
    """Generates growing ids; `(n >> 22) + EPOCH_MS` is the millisecond of their creation."""

    def __init__(self, worker: int) -> None:
        """Start with `worker`, 0 to 1023, which distinguishes two services."""
        self._worker = (worker << _SEQUENCE_BITS) % (1 << _SHIFT)
        self._last = 0

    def make(self, now_ms: int) -> int:
        """Return a new id: the first one of this millisecond, or the one after the last id."""
        self._last = max(self._last + 1, (now_ms - EPOCH_MS) << _SHIFT | self._worker)
        return self._last


def written_id(number: int, ordinal: int, form: str) -> str:
    """Return the id of the document number `ordinal` in the form of the switch `ids`."""
    match form:
        case "short":
            return str(1_000_000 + ordinal)
        case "uuid":
            return str(uuid.UUID(int=number << 64 | ordinal))
        case "other_epoch":
            return str(number - ((OTHER_EPOCH_MS - EPOCH_MS) << _SHIFT))
        case _:
            return str(number)


EVENT = "knowledge_construction"
_OTHER = "1000000000000000000"


@dataclass(frozen=True, slots=True)
class Callback:
    """The address that gets a document's final status, and its headers."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


def letters(callback: Callback, ident: str, stat: int, time: float, call: Call) -> list[Letter]:
    """Return the callbacks for the document `ident`, which gets the status `stat` at `time`; the fault
    `callback` of the call that indexed it changes them.
    """
    form = call.word("form", "never") if call.plays("callback") else ""
    seconds = float(call.arg("seconds", 5.0))
    about = _OTHER if form == "other" else ident
    # Callbacks aren't signed, so anyone can send a wrong status as easily as a right one.
    stat = {1: 2, 2: 1}.get(stat, stat) if form == "status" else stat
    event = {"status": stat, "msg": "向量化完成" if stat == 1 else "向量化失败", "documentId": about}
    body = json.dumps({"eventId": EVENT, "event": event}, ensure_ascii=False).encode()
    body = body[: len(body) // 2] if form == "malformed" else body
    late, slow = (seconds if form == how else 0.0 for how in ("late", "slow"))
    letter = Letter(time + late, callback.url, body, callback.headers, slow)
    times = {"never": 0, "twice": 2}.get(form, 1)
    return [letter] * times


BYTES_PER_WORD = 3
"""A Chinese character has 3 bytes; the service counts characters, and nobody relies on it."""


@dataclass(frozen=True, slots=True)
class FailInfo:
    """Why vectorizing failed: the service's code and text."""

    code: int
    text: str


CORRUPT = FailInfo(10001, "知识不可用，文档损坏")
FULL_SPACE = FailInfo(10001, "知识不可用，知识库空间已满")
FULL_CHARACTERS = FailInfo(10002, "字数超出限制")


@dataclass(frozen=True, slots=True)
class Phase:
    """A status from `starts_at` (epoch seconds) on: `stat` 0 in progress, 1 searchable, 2 failed."""

    starts_at: float
    stat: int
    info: FailInfo | None = None


@dataclass(frozen=True, slots=True)
class Slicing:
    """How a document is sliced. `separators` empty: the default one."""

    knowledge_type: int
    separators: tuple[str, ...] = ()
    sentence_size: int = 300


@dataclass(frozen=True, slots=True)
class Passage:
    """A paragraph of a document, with its words for searches."""

    text: str
    words: frozenset[str]


@dataclass(slots=True, kw_only=True, eq=False)
class ZhipuDocument(Document):
    """One document. Its status at a time is that of the latest phase that has begun.

    `ordinal` counts all documents ever stored. `listed_from`, `listed_until`: when the list shows it.
    `polls`: how many more polls show status 0. `runs_to_fail`: how many more runs fail with `failure`; below
    0: all. `distortions`: faults that change its item, each until a time. `counts`: whether its bytes use
    capacity. A page has an `address` and counts its `visits`. `word_limit`: further words are left out; 0:
    none are.
    """

    ordinal: int
    slicing: Slicing
    parse_image: bool = False
    size: int = 0
    visible_from: float = 0.0
    listed_from: float = 0.0
    listed_until: float = math.inf
    phases: tuple[Phase, ...] = ()
    polls: int = 0
    runs_to_fail: int = 0
    failure: FailInfo | None = None
    distortions: list[tuple[float, Call]] = field(default_factory=list)
    counts: bool = True
    passages: tuple[Passage, ...] | None = None
    callback: Callback | None = None
    address: str = ""
    visits: int = 0
    word_limit: int = 0

    def rewrite(self, content: bytes) -> None:
        """Replace the content."""
        super(ZhipuDocument, self).rewrite(content)
        self.size, self.passages = len(content), None

    def visit(self) -> None:
        """Fetch the page; its content differs each time."""
        self.visits += 1
        self.rewrite(f"{title_of(self.address)}\n\nVisit {self.visits:06} to {self.address}".encode())

    def phase(self, now: float) -> Phase:
        """Return the phase at `now`."""
        if self.polls:
            return Phase(now, 0)
        return next((phase for phase in reversed(self.phases) if phase.starts_at <= now), self.phases[0])

    def is_searchable(self, now: float) -> bool:
        """Return whether searches find it."""
        return self.phase(now).stat == 1


def title_of(address: str) -> str:
    """Return the title of a page."""
    return f"Welcome to {urlsplit(address).hostname}"


@dataclass(slots=True, eq=False)
class ZhipuBase(Base):
    """One knowledge base. `size`: the bytes that count towards the capacity."""

    embedding_id: int = 11
    embedding_model: str = ""
    background: str = "blue"
    icon: str = "question"
    contextual: int = 0
    size: int = 0


_TEXTS = frozenset({"txt", "md", "csv"})
_BLANKS = b" \t\r\n\x0b\x0c\xef\xbb\xbf"


def failure_reason(document: ZhipuDocument) -> FailInfo | None:
    """Return why this content can't be vectorized: it is empty or isn't text."""
    kind = extension(document.sent_name)
    is_blank = not document.content.strip(_BLANKS)
    is_binary = kind in _TEXTS and b"\0" in document.content
    return CORRUPT if is_blank or is_binary else None
