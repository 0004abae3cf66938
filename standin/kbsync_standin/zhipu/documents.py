"""Stores the vendor's documents and bases, and decides when a document becomes searchable."""

from __future__ import annotations

import json
import math
import unicodedata
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from kbsync_standin.application import Base, Document
from kbsync_standin.listing import Listing
from kbsync_standin.messages import Letter


def extension(name: str) -> str:
    """The lower-case extension without its dot; "" if there is none."""
    stem, dot, last = name.rpartition("/")[2].rpartition(".")
    return last.lower() if dot and stem else ""


def suffixed(name: str, number: int = 1) -> str:
    """`name` with "(1)" before its extension."""
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
"""The values of the switch `names`, each with what it makes of a name."""


def stored_name(name: str, form: str, is_taken: Callable[[str], bool]) -> str:
    """The name under which a document is kept; suffixes count up past what is taken."""
    if form != "suffixed":
        return NAME_FORMS[form](name)
    number = 1
    while is_taken(suffixed(name, number)):
        number += 1
    return suffixed(name, number)


# Ids that were captured live are milliseconds since this, shifted by 22 bits; no document says so.
EPOCH_MS = 1288834974657
OTHER_EPOCH_MS = 1577836800000
_SEQUENCE_BITS = 12
_WORKER_BITS = 10


class Snowflakes:
    """Numbers that grow, `(n >> 22) + EPOCH_MS` being the millisecond they were made in."""

    def __init__(self, worker: int) -> None:
        """`worker`: 0 to 1023, to tell two vendors apart."""
        self._worker = worker % (1 << _WORKER_BITS)
        self._last_ms = 0
        self._sequence = 0

    def make(self, now_ms: int) -> int:
        """A new number; a millisecond that is used up (or past) lends from the one after the last."""
        if now_ms > self._last_ms:
            self._last_ms, self._sequence = now_ms, 0
        else:
            self._sequence += 1
            if self._sequence >> _SEQUENCE_BITS:
                self._last_ms, self._sequence = self._last_ms + 1, 0
        stamp = (self._last_ms - EPOCH_MS) << (_WORKER_BITS + _SEQUENCE_BITS)
        return stamp | self._worker << _SEQUENCE_BITS | self._sequence


def written_id(number: int, ordinal: int, form: str) -> str:
    """The id of the document number `ordinal` under the switch `ids`."""
    match form:
        case "short":
            return str(1_000_000 + ordinal)
        case "uuid":
            return str(uuid.UUID(int=number << 64 | ordinal))
        case "other_epoch":
            return str(number - ((OTHER_EPOCH_MS - EPOCH_MS) << (_WORKER_BITS + _SEQUENCE_BITS)))
        case _:
            return str(number)


CALLBACK_FORMS = ("never", "twice", "other", "status", "late", "slow", "malformed")
EVENT = "knowledge_construction"
_OTHER = "1000000000000000000"


@dataclass(frozen=True, slots=True)
class Callback:
    """Where a document's end is told, and with which headers."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Calling:
    """How it is told: `form` "" as documented. `seconds`: how late, or how slowly."""

    form: str = ""
    seconds: float = 0.0


PUNCTUAL = Calling()


def letters(callback: Callback, ident: str, stat: int, at: float, calling: Calling) -> list[Letter]:
    """What is sent about the document `ident`, whose status is `stat` from `at` on."""
    about = _OTHER if calling.form == "other" else ident
    # Nothing is signed, so that a status that is wrong is as easily sent as a right one.
    stat = {1: 2, 2: 1}.get(stat, stat) if calling.form == "status" else stat
    event = {"status": stat, "msg": "向量化完成" if stat == 1 else "向量化失败", "documentId": about}
    body = json.dumps({"eventId": EVENT, "event": event}, ensure_ascii=False).encode()
    body = body[: len(body) // 2] if calling.form == "malformed" else body
    late = calling.seconds if calling.form == "late" else 0.0
    slow = calling.seconds if calling.form == "slow" else 0.0
    one = Letter(at + late, ident, callback.url, body, callback.headers, slow)
    times = {"never": 0, "twice": 2}.get(calling.form, 1)
    return [one] * times


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


@dataclass(frozen=True, slots=True)
class Passage:
    """A paragraph of a document, with the words it is found by."""

    text: str
    words: frozenset[str]


@dataclass(slots=True, kw_only=True, eq=False)
class ZhipuDocument(Document):
    """One document. Its status at a time is that of the last phase begun.

    `ordinal` counts all documents ever. `polls` more looks show status 0. `counts`: its bytes fill the
    capacity. A page has an `address`, which was visited so often. `word_limit`: more words are left out; 0:
    none.
    """

    ordinal: int
    slicing: Slicing
    parse_image: bool = False
    size: int = 0
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

    def rewrite(self, content: bytes) -> None:
        """Another content."""
        super(ZhipuDocument, self).rewrite(content)
        self.size, self.passages = len(content), None

    def visit(self) -> None:
        """Fetch the page: another time there is something else in it."""
        self.visits += 1
        self.rewrite(f"{title_of(self.address)}\n\nVisit {self.visits:06} to {self.address}".encode())

    def phase(self, now: float) -> Phase:
        """Where vectorizing stands at `now`."""
        if self.polls:
            return Phase(now, 0)
        return next((phase for phase in reversed(self.phases) if phase.at <= now), self.phases[0])

    def disguise_at(self, now: float) -> Disguise:
        """The lies still told at `now`."""
        return self.disguise if now < self.disguise_ends else HONEST


def title_of(address: str) -> str:
    """What a page is called."""
    return f"Welcome to {urlsplit(address).hostname}"


@dataclass(slots=True, eq=False)
class ZhipuBase(Base):
    """One knowledge base. `size`: bytes of what counts in it."""

    embedding_id: int = 11
    embedding_model: str = ""
    background: str = "blue"
    icon: str = "question"
    contextual: int = 0
    size: int = 0
    listing: Listing[ZhipuDocument] = field(default_factory=Listing)
    documents: dict[str, ZhipuDocument] = field(default_factory=dict)
    by_name: dict[str, list[ZhipuDocument]] = field(default_factory=dict)


_TEXTS = frozenset({"txt", "md", "csv"})
_BLANKS = b" \t\r\n\x0b\x0c\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Script:
    """What a fault has in store for a document, at its upload or when it is vectorized again.

    stuck: the status stays 0. polls: so many looks show 0 first. failing: this run and maybe more fail.
    tail: phases after it was ready, as seconds since then and the status. disguise, disguised: lies in
    answers, and for how many seconds. unlisted, undetailed: so long the list, the detail lacks it.
    calling: how its end is told to the address that wants to know.
    """

    stuck: bool = False
    polls: int = 0
    failing: Failing | None = None
    tail: tuple[Phase, ...] = ()
    disguise: Disguise = HONEST
    disguised: float = math.inf
    unlisted: float = 0.0
    undetailed: float = 0.0
    calling: Calling = PUNCTUAL


PLAIN = Script()


def trouble(document: ZhipuDocument) -> FailInfo | None:
    """Why this content cannot be vectorized: nothing in it, no text, or a `.md` without a type.

    The last was seen live: 128 bytes of `.md` sent without `knowledge_type` ended as "corrupt".
    """
    kind = extension(document.sent_name)
    is_blank = not document.content.strip(_BLANKS)
    is_binary = kind in _TEXTS and b"\0" in document.content
    is_untyped = kind == "md" and document.slicing.knowledge_type == 0
    return CORRUPT if is_blank or is_binary or is_untyped else None
