"""The vendor's side of one account: what is in it, and the ways in which that changes."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kbsync_standin.messages import Letter, StandInClock
from kbsync_standin.zhipu import ids, naming, vectorizing
from kbsync_standin.zhipu.behaviour import Behaviour
from kbsync_standin.zhipu.calling import Callback, letters
from kbsync_standin.zhipu.documents import BYTES_PER_WORD, Base, Document, Entry, Slicing
from kbsync_standin.zhipu.searching import Match
from kbsync_standin.zhipu.vectorizing import PLAIN, Script, Terms

if TYPE_CHECKING:
    from kbsync_standin.zhipu.applications import Application

_LOTS = (1 << 61) - 1  # prime, so that every document has a lot of its own
_STRIDE = 1_518_500_249_988_025_601


class Account:
    """Bases and documents of one customer. Nothing in it knows about HTTP."""

    def __init__(
        self, behaviour: Behaviour, clock: StandInClock, seed: int, letters: list[Letter] | None = None
    ) -> None:
        """An account without bases; `seed` decides what is left to chance. `letters`: where callbacks go."""
        self.behaviour = behaviour
        self.clock = clock
        self.chance = random.Random(seed)  # noqa: S311 - what it decides has to be repeatable
        self.bases: dict[str, Base] = {}
        self.documents: dict[str, Document] = {}
        self.applications: dict[str, Application] = {}
        self.answers: dict[str, list[Match]] = {}
        self.entries: list[Entry] = []
        self.letters = [] if letters is None else letters
        self.callback: Callback | None = None
        self.used_bytes = 0
        self._snowflakes = ids.Snowflakes(seed)
        self._ordinals = itertools.count()
        self._paid = 0

    @property
    def now(self) -> float:
        """Seconds since the epoch by the stand-in's clock."""
        return self.clock.now()

    def turn(self, behaviour: Behaviour) -> None:
        """It behaves so from now on; a changed balance is counted down anew."""
        if behaviour.balance != self.behaviour.balance:
            self._paid = 0
        self.behaviour = behaviour

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

    def document(self, ident: str) -> Document | None:
        """The document with this id, where it is there and so is its base."""
        document = self.documents.get(ident)
        gone = document is None or document.deleted is not None or document.base.is_hidden
        return None if gone else document

    def namesakes(self, base: Base, name: str) -> list[Document]:
        """The documents of `base` kept under `name`, oldest first."""
        return base.by_name.get(name, [])

    def draft(self, base: Base, name: str, content: bytes, slicing: Slicing, form: str = "") -> Document:
        """A document with an id, not stored. `form`: of its name, else as the switch `names` says."""
        ordinal = next(self._ordinals)
        number = self.new_number()
        form = form or self.behaviour.names
        return Document(
            id=ids.written(number, ordinal, self.behaviour.ids),
            ordinal=ordinal,
            lot=(ordinal * _STRIDE) % _LOTS,
            base=base,
            name=naming.stored(name, form, lambda taken: bool(self.namesakes(base, taken))),
            sent_name=name,
            content=content,
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            slicing=slicing,
            parse_image=False,
            created=self.now,
        )

    def store(self, document: Document, script: Script = PLAIN, effect: str = "stored") -> None:
        """It is in its base from now on, and being vectorized."""
        self.documents[document.id] = document
        base = document.base
        base.documents[document.id] = document
        base.by_name.setdefault(document.name, []).append(document)
        base.shelf.add(document, self.now + max(self.behaviour.list_lag, script.unlisted))
        document.seen_from = self.now + script.undetailed
        self._count(document)
        self.note(effect, document.id, document.name, document.sha256)
        self._vectorize(document, script)

    def remove(self, document: Document, effect: str = "deleted", listed: float = 0.0) -> None:
        """It is gone; the list may show it for `listed` seconds more."""
        base = document.base
        del base.documents[document.id]
        base.by_name[document.name].remove(document)
        base.shelf.remove(document, self.now + max(self.behaviour.list_lag, listed))
        self._uncount(document)
        document.deleted, document.content, document.passages = self.now, b"", None
        self.note(effect, document.id, document.name, document.sha256)

    def again(self, document: Document, effect: str, script: Script = PLAIN) -> None:
        """Vectorize it once more."""
        if not document.counts:
            self._count(document)
        self.note(effect, document.id, document.name, document.sha256)
        self._vectorize(document, script)

    def rebuild(self, documents: Iterable[Document]) -> None:
        """Vectorize them all once more, as after a change of the model."""
        for document in documents:
            self.again(document, "rebuilt")

    def is_full_for(self, size: int) -> bool:
        """A document of `size` bytes goes beyond the capacity."""
        used, words = self.used_bytes + size, self.behaviour.capacity_words
        return used > self.behaviour.capacity_bytes or 0 < words < used // BYTES_PER_WORD

    def _count(self, document: Document) -> None:
        document.counts = not self.is_full_for(document.size)
        if document.counts:
            self.used_bytes += document.size
            document.base.size += document.size

    def _uncount(self, document: Document) -> None:
        if document.counts:
            self.used_bytes -= document.size
            document.base.size -= document.size

    def _vectorize(self, document: Document, script: Script) -> None:
        terms = Terms(
            now=self.now,
            seconds=self.chance.uniform(*self.behaviour.vectorize),
            stale=self.behaviour.stale_stat,
            is_paid=self._pay(),
            keeps_info=self.behaviour.keeps_fail_info,
            full=self.behaviour.full,
        )
        vectorizing.start(document, terms, script)
        begun = itertools.dropwhile(lambda phase: phase.stat, document.phases)
        ends = next((phase for phase in begun if phase.stat), None)
        callback = document.callback or self.callback
        if ends is not None and callback is not None:
            self.letters += letters(callback, document.id, ends.stat, ends.at, script.calling)

    def _pay(self) -> bool:
        balance = self.behaviour.balance
        is_paid = not self.behaviour.zero_balance and (balance < 0 or self._paid < balance)
        self._paid += is_paid
        return is_paid
