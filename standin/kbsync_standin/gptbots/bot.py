"""One bot: its documents, which change in place with the old text serving, and what a fault does to them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from kbsync_standin.faults import Fault, hits
from kbsync_standin.gptbots.behaviour import GptbotsBehaviour
from kbsync_standin.gptbots.rules import SentFile
from kbsync_standin.messages import Request, StandInClock
from kbsync_standin.older import Holdings, shared_words
from kbsync_standin.rules import Refused

HOME_ID = "67457fea6f658672d6482542"
"""The knowledge base that is there from the start."""


@dataclass(frozen=True, slots=True)
class BotBase:
    """A knowledge base; `settings`: further ones that it was made with."""

    name: str
    description: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


CLEARED = "NULL"
"""Sent as `source_url`."""


@dataclass(slots=True)
class Version:
    """One content. `ready_at` None: never. `fails`: then it is not searchable but failed."""

    content: bytes
    source_url: str
    ready_at: float | None
    fails: bool = False
    address: str = ""

    def url_after(self, before: str) -> str:
        """What its update makes of a `source_url`: empty leaves it, the word NULL clears it."""
        return "" if self.source_url == CLEARED else self.source_url or before

    @property
    def sha256(self) -> str:
        """Of the content, in hex."""
        return hashlib.sha256(self.content).hexdigest()

    def is_over(self, now: float) -> bool:
        """Nothing more happens to it."""
        return self.ready_at is not None and self.ready_at <= now


@dataclass(slots=True)
class Document:
    """A document: `serving` is what searches find, `coming` what is being made of the last content sent."""

    id: str
    base: str
    kind: str
    name: str
    created: float
    updated: float
    coming: Version | None
    source_url: str
    serving: Version | None = None
    changed_at: float | None = None
    deleted_at: float | None = None
    rules: dict[str, Any] = field(default_factory=dict)

    def get_on(self, now: float) -> None:
        """What is done by `now` is swapped in."""
        coming = self.coming
        if coming is None or coming.fails or not coming.is_over(now):
            return
        if self.changed_at is not None:
            self.updated = max(coming.ready_at or now, self.updated + 1)
        self.serving, self.coming = coming, None
        self.source_url = coming.url_after(self.source_url)

    def status(self, now: float, working: str, stale: float) -> str:
        """`data_status`; `stale`: so many seconds after a change the old one is still told."""
        self.get_on(now)
        if self.coming is None:
            return "AVAILABLE"
        is_old = self.serving is not None and self.changed_at is not None
        if is_old and now < (self.changed_at or 0.0) + stale:
            return "AVAILABLE"
        return "FAILED" if self.has_failed(now) else working

    def has_failed(self, now: float) -> bool:
        """What was sent last could not be indexed."""
        return self.coming is not None and self.coming.fails and self.coming.is_over(now)

    def snapshot(self, now: float) -> dict[str, Any]:
        """All of it, for tests."""
        self.get_on(now)
        latest = self.coming or self.serving
        return {
            "id": self.id,
            "base": self.base,
            "kind": self.kind,
            "name": self.name,
            "source_url": self.source_url,
            "sha256": latest.sha256 if latest else "",
            "serving": self.serving.sha256 if self.serving else "",
            "deleted": self.deleted_at is not None,
            "rules": dict(self.rules),
            "address": latest.address if latest else "",
            "text": latest.content.decode("utf-8", "replace")[:200] if latest and latest.address else "",
        }


class Storage:
    """All documents and bases of one bot."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._count = 0
        self.bases: dict[str, BotBase] = {HOME_ID: BotBase("Default")}
        self.documents: dict[str, Document] = {}

    def new_id(self, now: float) -> str:
        """24 hex digits; the first 8 are the time, as everywhere with the vendor."""
        self._count += 1
        return f"{int(now) & 0xFFFFFFFF:08x}{self._chance.getrandbits(40):010x}{self._count:06x}"

    def span(self, limits: tuple[float, float]) -> float:
        """How long the making of one document takes."""
        return self._chance.uniform(*limits)

    def alive(self, base: str | None = None) -> Iterator[Document]:
        """Documents that were not deleted, of one base or all."""
        for one in self.documents.values():
            if one.deleted_at is None and base in (None, one.base):
                yield one

    def listed(self, base: str, now: float, lag: float) -> list[Document]:
        """As the list has them, the oldest first: changes of the last `lag` seconds are not in it."""
        rows = []
        for one in self.documents.values():
            is_new = now < one.created + lag
            is_gone = one.deleted_at is not None and now >= one.deleted_at + lag
            if one.base == base and not is_new and not is_gone:
                one.get_on(now)
                rows.append(one)
        return rows

    def drop(self, base: str) -> None:
        """As if none of the base's documents had ever been there."""
        self.documents = {key: one for key, one in self.documents.items() if one.base != base}

    def found(
        self, prompt: str, bases: set[str] | None, ids: set[str] | None, now: float
    ) -> list[dict[str, Any]]:
        """Passages that share words with `prompt`, best first; of the union of bases and ids."""
        rows = []
        for one in self.alive():
            one.get_on(now)
            if one.serving is None or not _is_meant(one, bases, ids):
                continue
            text = one.serving.content.decode("utf-8", "replace")
            if share := shared_words(prompt, text):
                row = {"content": text[:2000], "data_id": one.id, "document_name": one.name, "score": share}
                rows.append(row)
        return sorted(rows, key=lambda row: -row["score"])


def _is_meant(one: Document, bases: set[str] | None, ids: set[str] | None) -> bool:
    if bases is None and ids is None:
        return True
    return one.base in (bases or ()) or one.id in (ids or ())


def ids_in(request: Request) -> list[str]:
    """Ids in the query, repeated or joined; one that was encoded together is one odd id."""
    pairs = parse_qsl(urlsplit(request.raw_target).query)
    repeated = [value for name, value in pairs if name == "data_ids"]
    return repeated + [one for name, value in pairs if name == "doc" for one in value.split(",") if one]


class Bot(Holdings[GptbotsBehaviour]):
    """One bot, its documents and bases in `storage`."""

    def __init__(self, seed: int, behaviour: GptbotsBehaviour, clock: StandInClock) -> None:
        super().__init__(seed, behaviour, clock)
        self._visits: dict[str, int] = {}

    def _begin(self) -> None:
        self.storage = Storage(self._chance)

    def _turned(self, before: GptbotsBehaviour) -> None:
        base = self.behaviour.base
        if base not in (before.base, "present"):
            self.storage.drop(HOME_ID)
            if base == "recreated":
                self.storage.bases = {self.storage.new_id(self.clock.now()): BotBase("Default")}

    def bases(self) -> Mapping[str, BotBase]:
        """Those that are there, by id."""
        is_home_gone = self.behaviour.base == "deleted"
        return {key: one for key, one in self.storage.bases.items() if not (is_home_gone and key == HOME_ID)}

    def make_base(self, name: str, description: str, settings: Mapping[str, Any]) -> str:
        """One more base, also of a name that is there; its id."""
        made = self.storage.new_id(self.clock.now())
        self.storage.bases[made] = BotBase(name, description, settings)
        self.journal.append({"effect": "base-made", "id": made, "name": name, "sha256": ""})
        return made

    def check_base(self, base: str) -> None:
        """Raises `Refused`."""
        if base not in self.bases():
            raise Refused("the knowledge base does not exist")

    def store(self, sent: SentFile, base: str, kind: str, rules: Mapping[str, Any], fault: Fault) -> Document:
        """A new document, under the name that a fault makes of its own."""
        now = self.clock.now()
        version = self._version(sent, fault)
        name = sent.name
        if fault.kind == "other-name":  # as services call a name that they have already
            stem, _, extension = name.rpartition(".")
            name = f"{stem} (1).{extension}"
        made, url = self.storage.new_id(now), version.url_after("")
        one = Document(made, base, kind, name, now, now, version, url, rules=dict(rules))
        self.storage.documents[one.id] = one
        self._note("stored", one, version)
        return one

    def change(self, old: Document, sent: SentFile, rules: Mapping[str, Any], fault: Fault) -> None:
        """Another content for a document, whose old one serves until the new one is in."""
        now = self.clock.now()
        old.get_on(now)
        version, coming = self._version(sent, fault), old.coming
        if coming is not None and now < (coming.ready_at or 0.0):  # one that is stuck may be given up
            again = ", with the same bytes" if coming.sha256 == version.sha256 else ""
            self.violations.append(f"update: two updates of {old.id} in flight at once{again}")
        old.coming, old.changed_at = version, now
        old.rules = dict(rules) or old.rules
        if self.behaviour.marked_at == "accept":
            old.source_url = version.url_after(old.source_url)
        self._note("updated", old, old.coming)
        old.get_on(now)

    def retry(self, fault: Fault) -> int:
        """What failed is indexed once more, in every base; how many documents. A fault lets it fail again."""
        now = self.clock.now()
        failed = [one for one in self.storage.alive() if one.has_failed(now)]
        for one in failed:
            if one.coming is not None:
                ready = now + self.storage.span(self.behaviour.vectorize)
                one.coming = replace(one.coming, ready_at=ready, fails=hits(fault, "fails", one.name))
                self._note("retried", one, one.coming)
        return len(failed)

    def present(self) -> Iterator[Document]:
        """In every base."""
        return self.storage.alive()

    def delete(self, one: Document, effect: str = "deleted") -> None:
        """A document that is there."""
        one.deleted_at = self.clock.now()
        self._note(effect, one, None)

    def _version(self, sent: SentFile, fault: Fault) -> Version:
        ready: float | None = self.clock.now() + self.storage.span(self.behaviour.vectorize)
        if hits(fault, "stuck", sent.name):
            ready = None
        url = sent.source_url or ""
        content = self._fetched(sent.file_url) if sent.file_url else sent.content
        return Version(content, url, ready, hits(fault, "fails", sent.name), sent.file_url)

    def _fetched(self, address: str) -> bytes:
        """Another time there is something else in it."""
        self._visits[address] = self._visits.get(address, 0) + 1
        return f"Visit {self._visits[address]} to {address}".encode()

    def _note(self, effect: str, one: Document, version: Version | None) -> None:
        sha256 = version.sha256 if version is not None else ""
        self.journal.append({"effect": effect, "id": one.id, "name": one.name, "sha256": sha256})
