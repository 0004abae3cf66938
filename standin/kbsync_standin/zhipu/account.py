"""One account at the vendor: what is in it, how that changes, what a search finds, what others do."""

from __future__ import annotations

import base64
import binascii
import hashlib
import heapq
import itertools
import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kbsync_standin.completions import CJK, words_of
from kbsync_standin.messages import Letter, StandInClock
from kbsync_standin.rules import is_whole
from kbsync_standin.zhipu.behaviour import ZhipuBehaviour
from kbsync_standin.zhipu.documents import (
    BYTES_PER_WORD,
    FULL_CHARACTERS,
    FULL_SPACE,
    HONEST,
    PLAIN,
    Base,
    Callback,
    Entry,
    Failing,
    Passage,
    Phase,
    Script,
    Slicing,
    Snowflakes,
    ZhipuDocument,
    extension,
    letters,
    stored_name,
    trouble,
    written_id,
)
from kbsync_standin.zhipu.rules import LEGAL

if TYPE_CHECKING:
    from kbsync_standin.zhipu.asking_calls import Application


_COUNTED = re.compile(f"[{CJK}]|[^\\W_{CJK}]+")
_PARAGRAPHS = re.compile(r"\n[ \t\r]*\n")


@dataclass(frozen=True, slots=True)
class Match:
    """A passage found: `index` is its place in the document, `score` above 0 and at most 1."""

    document: ZhipuDocument
    index: int
    passage: Passage
    score: float


def passages_of(document: ZhipuDocument) -> tuple[Passage, ...]:
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


def search(query: str, documents: Iterable[ZhipuDocument], count: int, threshold: float) -> list[Match]:
    """The `count` best passages with a score of at least `threshold`, best first."""
    wanted = words_of(query)
    found = (match for document in documents for match in _matches(wanted, document))
    good = (match for match in found if match.score >= threshold)
    return heapq.nsmallest(count, good, key=lambda match: (-match.score, match.document.ordinal, match.index))


def _matches(wanted: frozenset[str], document: ZhipuDocument) -> Iterable[Match]:
    for index, passage in enumerate(passages_of(document)):
        if shared := len(wanted & passage.words):
            yield Match(document, index, passage, round(shared / len(wanted), 4))


HOME_ID = "1734786402936664064"
HOME_NAME = "handbook"
MODELS: Mapping[int, str] = {3: "Embedding-2", 11: "Embedding-3", 12: "Embedding-3-pro"}


class Account:
    """Bases and documents of one customer. Nothing in it knows about HTTP."""

    def __init__(
        self, behaviour: ZhipuBehaviour, clock: StandInClock, seed: int, letters: list[Letter] | None = None
    ) -> None:
        """An account without bases; `seed` decides what is left to chance. `letters`: where callbacks go."""
        self.behaviour = behaviour
        self.clock = clock
        self.chance = random.Random(seed)  # noqa: S311 - what it decides has to be repeatable
        self.bases: dict[str, Base] = {}
        self.documents: dict[str, ZhipuDocument] = {}
        self.applications: dict[str, Application] = {}
        self.answers: dict[str, list[Match]] = {}
        self.entries: list[Entry] = []
        self.letters = [] if letters is None else letters
        self.callback: Callback | None = None
        self.used_bytes = 0
        self._snowflakes = Snowflakes(seed)
        self._ordinals = itertools.count()

    @property
    def now(self) -> float:
        """Seconds since the epoch by the stand-in's clock."""
        return self.clock.now()

    def new_number(self) -> int:
        """A fresh snowflake."""
        skew = self.behaviour.clock_skew if self.behaviour.skewed_ids else 0.0
        return self._snowflakes.make(int((self.now + skew) * 1000))

    def note(self, effect: str, ident: str, name: str, sha256: str = "") -> None:
        """Write an effect into the journal."""
        self.entries.append(Entry(len(self.entries) + 1, self.now, effect, ident, name, sha256))

    def add_base(self, base: Base, effect: str = "base-created") -> Base:
        """It is there from now on."""
        self.bases[base.id] = base
        self.note(effect, base.id, base.name)
        return base

    def drop_base(self, base: Base) -> None:
        """It is gone, with all documents in it."""
        self.empty(base, "deleted-with-base")
        self.bases.pop(base.id, None)
        self.note("base-deleted", base.id, base.name)

    def empty(self, base: Base, effect: str) -> None:
        """Delete every document in it."""
        for document in list(base.documents.values()):
            self.remove(document, effect)

    def base(self, ident: str) -> Base | None:
        """The base with this id, where it can be seen."""
        base = self.bases.get(ident)
        return None if base is None or base.is_hidden else base

    def document(self, ident: str) -> ZhipuDocument | None:
        """The document with this id, where it is there and so is its base."""
        document = self.documents.get(ident)
        gone = document is None or document.deleted is not None or document.base.is_hidden
        return None if gone else document

    def namesakes(self, base: Base, name: str) -> list[ZhipuDocument]:
        """The documents of `base` kept under `name`, oldest first."""
        return base.by_name.get(name, [])

    def draft(self, base: Base, name: str, content: bytes, slicing: Slicing, form: str = "") -> ZhipuDocument:
        """A document with an id, not stored. `form`: of its name, else as the switch `names` says."""
        ordinal = next(self._ordinals)
        number = self.new_number()
        form = form or self.behaviour.names
        return ZhipuDocument(
            id=written_id(number, ordinal, self.behaviour.ids),
            ordinal=ordinal,
            base=base,
            name=stored_name(name, form, lambda taken: bool(self.namesakes(base, taken))),
            sent_name=name,
            content=content,
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            slicing=slicing,
            parse_image=False,
            created=self.now,
        )

    def store(self, document: ZhipuDocument, script: Script = PLAIN, effect: str = "stored") -> None:
        """It is in its base from now on, and being vectorized."""
        self.documents[document.id] = document
        base = document.base
        base.documents[document.id] = document
        base.by_name.setdefault(document.name, []).append(document)
        base.listing.show(document, self.now + max(self.behaviour.list_lag, script.unlisted))
        document.seen_from = self.now + script.undetailed
        self._count(document)
        self.note(effect, document.id, document.name, document.sha256)
        self._vectorize(document, script)

    def remove(self, document: ZhipuDocument, effect: str = "deleted", listed: float = 0.0) -> None:
        """It is gone; the list may show it for `listed` seconds more."""
        base = document.base
        del base.documents[document.id]
        base.by_name[document.name].remove(document)
        base.listing.hide(document, self.now + max(self.behaviour.list_lag, listed))
        if document.counts:
            self.used_bytes -= document.size
            base.size -= document.size
        document.deleted, document.content, document.passages = self.now, b"", None
        self.note(effect, document.id, document.name, document.sha256)

    def again(self, document: ZhipuDocument, effect: str, script: Script = PLAIN) -> None:
        """Vectorize it once more."""
        if not document.counts:
            self._count(document)
        self.note(effect, document.id, document.name, document.sha256)
        self._vectorize(document, script)

    def is_full_for(self, size: int) -> bool:
        """A document of `size` bytes goes beyond the capacity."""
        used, words = self.used_bytes + size, self.behaviour.capacity_words
        return used > self.behaviour.capacity_bytes or 0 < words < used // BYTES_PER_WORD

    def _count(self, document: ZhipuDocument) -> None:
        document.counts = not self.is_full_for(document.size)
        if document.counts:
            self.used_bytes += document.size
            document.base.size += document.size

    def _vectorize(self, document: ZhipuDocument, script: Script) -> None:
        """Decide all phases of the run that begins now."""
        behaviour, now, stale = self.behaviour, self.now, self.behaviour.stale_stat
        before = document.phase(now) if document.phases else None
        document.failing = script.failing or document.failing
        document.polls = script.polls
        if script.disguise is not HONEST:
            document.disguise = script.disguise.over(document.disguise)
            document.disguise_ends = now + script.disguised
        # Drawn for every run, also one that has no end: what follows in a test must not depend on it.
        ready = now + self.chance.uniform(*behaviour.vectorize)
        phases = [Phase(now, 0)]
        if before is not None:
            ready = max(ready, now + stale)
            under_way = Phase(now + stale, 0, before.info if behaviour.keeps_fail_info else None)
            phases = [Phase(now, before.stat, before.info), under_way] if stale else [under_way]
        if not behaviour.zero_balance and not script.stuck:
            end = self._end(document, ready)
            phases.append(end)
            if end.stat == 1:
                phases += [Phase(ready + late.at, late.stat, late.info) for late in script.tail]
            if callback := document.callback or self.callback:
                self.letters += letters(callback, document.id, end.stat, end.at, script.calling)
        document.phases = tuple(phases)

    def _end(self, document: ZhipuDocument, ready: float) -> Phase:
        """How a run ends."""
        failing = document.failing
        if failing.runs:
            document.failing = Failing(failing.runs - 1, failing.info)
            return Phase(ready, 2, failing.info)
        info = trouble(document)
        if not document.counts:
            info = FULL_CHARACTERS if self.behaviour.full == "10002" else FULL_SPACE
        return Phase(ready, 2, info) if info else Phase(ready, 1)


_ARGS = ("name", "text", "base64", "knowledge_type", "base", "delete", "url")


def add_home(account: Account, ident: str = HOME_ID) -> Base:
    """Put the base into the account that is there from the start."""
    return account.add_base(Base(ident, HOME_NAME, 11, MODELS[11]))


def turn_home(account: Account, state: str) -> None:
    """Do to that base what the switch `base` says."""
    home = account.bases.get(HOME_ID)
    if state == "recreated":
        if home is not None:
            account.drop_base(home)
        add_home(account, str(account.new_number()))
        return
    home = home or add_home(account)
    home.is_hidden = state == "deleted"
    if state == "emptied":
        account.empty(home, "deleted-by-others")


def change_by_others(account: Account, args: Mapping[str, Any]) -> ZhipuDocument:
    """Upload `name` with `text` or `base64` into `base`, or delete what has the id or name `delete`.

    `url`: it is the page of this address. Raises `ValueError` with a sentence for wrong arguments.
    """
    if unknown := sorted(set(args) - set(_ARGS)):
        raise ValueError(f"there is no argument {', '.join(unknown)}; there are {', '.join(_ARGS)}")
    if "delete" in args:
        wanted = str(args["delete"])
        for document in account.documents.values():
            if document.deleted is None and wanted in (document.id, document.name, document.sent_name):
                account.remove(document, "foreign-deleted")
                return document
        raise ValueError(f"there is no document {wanted!r}")
    base, name = account.base(str(args.get("base", HOME_ID))), args.get("name")
    if base is None:
        raise ValueError("there is no such knowledge base")
    if not isinstance(name, str) or not name:
        raise ValueError("name is missing: the name of the document")
    fitting = (number for number, kinds in LEGAL.items() if extension(name) in kinds)
    knowledge_type = args.get("knowledge_type", next(fitting, 1))
    if not is_whole(knowledge_type):
        raise ValueError(f"knowledge_type is a whole number, not {knowledge_type!r}")
    if ("text" in args) == ("base64" in args):
        raise ValueError("either text or base64 is needed: what is in the document")
    given = args.get("text", args.get("base64"))
    if not isinstance(given, str):
        raise ValueError("text and base64 are strings")
    try:
        content = given.encode() if "text" in args else base64.b64decode(given, validate=True)
    except (binascii.Error, UnicodeEncodeError) as wrong:
        raise ValueError(f"the content cannot be read: {wrong}") from None
    document = account.draft(base, name, content, Slicing(knowledge_type), "as_sent")
    document.is_foreign = True
    document.address = str(args.get("url", ""))
    account.store(document, effect="foreign-stored")
    return document
