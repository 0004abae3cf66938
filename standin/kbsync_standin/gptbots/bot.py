"""One bot: its documents, which change in place with the old text serving, and what a fault does to them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kbsync_standin.application import UNPLAYED, Application, Call, Document, Json, shared_words
from kbsync_standin.gptbots.behaviour import KINDS, GptbotsBehaviour
from kbsync_standin.gptbots.rules import SentFile
from kbsync_standin.rules import Refused

HOME_ID = "67457fea6f658672d6482542"
"""The knowledge base that is there from the start."""

CLEARED = "NULL"
"""Sent as `source_url`."""


@dataclass(frozen=True, slots=True)
class Version:
    """One content. `ready_at` None: never. `fails`: then it is not searchable but failed."""

    content: bytes
    source_url: str
    ready_at: float | None
    fails: bool = False
    address: str = ""

    @property
    def sha256(self) -> str:
        """Of the content, in hex."""
        return hashlib.sha256(self.content).hexdigest()

    def is_over(self, now: float) -> bool:
        """Nothing more happens to it."""
        return self.ready_at is not None and self.ready_at <= now

    def url_after(self, before: str) -> str:
        """What its update makes of a `source_url`: empty leaves it, the word NULL clears it."""
        return "" if self.source_url == CLEARED else self.source_url or before


@dataclass(slots=True, kw_only=True, eq=False)
class BotDocument(Document):
    """A document: `serving` is what searches find, `coming` what is being made of the last content sent."""

    kind: str
    updated: float
    coming: Version | None
    source_url: str
    serving: Version | None = None
    changed_at: float | None = None
    rules: dict[str, Any] = field(default_factory=dict)

    def catch_up(self, now: float) -> None:
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
        self.catch_up(now)
        if self.coming is None:
            return "AVAILABLE"
        is_old = self.serving is not None and self.changed_at is not None
        if is_old and now < (self.changed_at or 0.0) + stale:
            return "AVAILABLE"
        return "FAILED" if self.has_failed(now) else working

    def has_failed(self, now: float) -> bool:
        """What was sent last could not be indexed."""
        return self.coming is not None and self.coming.fails and self.coming.is_over(now)


class Bot(Application[GptbotsBehaviour, BotDocument]):
    """One bot."""

    name, kinds, switches = "gptbots", KINDS, GptbotsBehaviour
    home_id, home_name, home_key = HOME_ID, "Default", "knowledge_base_id"
    id_form = "[0-9a-f]{24}"

    def begin(self) -> None:
        """Nothing was visited yet."""
        self._visits: dict[str, int] = {}
        super().begin()

    def new_id(self) -> str:
        """24 hex digits; the first 8 are the time, as everywhere with the vendor."""
        return f"{int(self.now) & 0xFFFFFFFF:08x}{self.chance.getrandbits(40):010x}{self.count():06x}"

    def check_base(self, base: str) -> None:
        """Raises `Refused`."""
        if base not in self.visible_bases():
            raise Refused("the knowledge base does not exist")

    def catch_up(self) -> None:
        """What is done is swapped in."""
        for one in self.documents.values():
            one.catch_up(self.now)

    def store(
        self, sent: SentFile, base: str, kind: str, rules: Mapping[str, Any], call: Call = UNPLAYED
    ) -> BotDocument:
        """A new document, under the name that a fault makes of its own."""
        version, name = self._version(sent, call), sent.name
        if call.plays("other-name"):  # as services call a name that they have already
            stem, _, extension = name.rpartition(".")
            name = f"{stem} (1).{extension}"
        return self.add(
            BotDocument(
                id=self.new_id(),
                base=base,
                kind=kind,
                name=name,
                content=version.content,
                created=self.now,
                updated=self.now,
                coming=version,
                source_url=version.url_after(""),
                rules=dict(rules),
            )
        )

    def change(self, old: BotDocument, sent: SentFile, rules: Mapping[str, Any], call: Call) -> None:
        """Another content for a document, whose old one serves until the new one is in."""
        version, coming = self._version(sent, call), old.coming
        if coming is not None and self.now < (coming.ready_at or 0.0):  # one that is stuck may be given up
            again = ", with the same bytes" if coming.sha256 == version.sha256 else ""
            self.violations.append(f"update: two updates of {old.id} in flight at once{again}")
        old.rewrite(version.content)
        old.coming, old.changed_at, old.rules = version, self.now, dict(rules) or old.rules
        if self.behaviour.marked_at == "accept":
            old.source_url = version.url_after(old.source_url)
        self.record("updated", old)
        old.catch_up(self.now)

    def retry(self, call: Call) -> int:
        """What failed is indexed once more, in every base; how many documents. A fault lets it fail again."""
        failed = [one for one in self.present() if one.has_failed(self.now)]
        for one in failed:
            if one.coming is not None:
                one.coming = replace(
                    one.coming, ready_at=self.ready_at(), fails=call.plays("fails", one.name)
                )
                self.record("retried", one)
        return len(failed)

    def _version(self, sent: SentFile, call: Call = UNPLAYED) -> Version:
        fails = call.plays("fails", sent.name)
        content, ready = sent.content, self.ready_at(call, sent.name)
        if address := sent.file_url:  # another time there is something else in it
            self._visits[address] = self._visits.get(address, 0) + 1
            content = f"Visit {self._visits[address]} to {address}".encode()
        return Version(content, sent.source_url or "", ready, fails, address)

    def find(self, prompt: str, bases: Sequence[str] | None, ids: Sequence[str] | None) -> list[Json]:
        """Passages that share words with `prompt`, best first; of the union of bases and ids."""
        rows, is_all = [], bases is None and ids is None
        for one in self.present():
            if one.serving is None or not (is_all or one.base in (bases or ()) or one.id in (ids or ())):
                continue
            text = one.serving.content.decode("utf-8", "replace")
            if share := shared_words(prompt, text):
                row = {"content": text[:2000], "data_id": one.id, "document_name": one.name, "score": share}
                rows.append(row)
        return sorted(rows, key=lambda row: -row["score"])

    def store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> BotDocument:
        """`source_url`: that of the document."""
        return self.store(SentFile(name, content, str(args.get("source_url", ""))), HOME_ID, "text", {})

    def describe(self, one: BotDocument) -> Json:
        """And what is found of it."""
        latest = one.coming or one.serving
        address = latest.address if latest else ""
        told = {"kind": one.kind, "source_url": one.source_url, "rules": dict(one.rules), "address": address}
        told |= {
            "serving": one.serving.sha256 if one.serving else "",
            "text": one.text[:200] if address else "",
        }
        return {**super().describe(one), **told}
