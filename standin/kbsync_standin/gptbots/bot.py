"""One bot and its documents, which change in place while the old text serves, and how faults change them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kbsync_standin.application import NO_FAULT, Application, Call, Document, Json
from kbsync_standin.gptbots.behaviour import KINDS, GptbotsBehaviour
from kbsync_standin.gptbots.rules import SentFile
from kbsync_standin.rules import Refused

HOME_ID = "67457fea6f658672d6482542"
"""The id of the initial knowledge base."""

CLEARED = "NULL"
"""The value that clears `source_url`."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a document. `ready_at` None: never ready. `fails`: indexing it fails."""

    content: bytes
    source_url: str
    ready_at: float | None
    fails: bool = False
    address: str = ""

    @property
    def sha256(self) -> str:
        """The SHA-256 of the content, in hex."""
        return hashlib.sha256(self.content).hexdigest()

    def is_over(self, now: float) -> bool:
        """Return whether its status is final."""
        return self.ready_at is not None and self.ready_at <= now

    def url_after(self, before: str) -> str:
        """Return the `source_url` after this update: an empty one keeps it, the word NULL clears it."""
        return "" if self.source_url == CLEARED else self.source_url or before


@dataclass(slots=True, kw_only=True, eq=False)
class BotDocument(Document):
    """A document: searches find `serving`; `coming` is the latest content, still being indexed."""

    kind: str
    updated: float
    coming: Version | None
    source_url: str
    serving: Version | None = None
    changed_at: float | None = None
    rules: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The text that searches read."""
        return self.serving.content.decode("utf-8", "replace") if self.serving else ""

    def is_searchable(self, now: float) -> bool:
        """Return whether searches find it."""
        return self.serving is not None and not self.is_deleted

    def catch_up(self, now: float) -> None:
        """Let the latest content serve if it is ready by `now`."""
        coming = self.coming
        if coming is None or coming.fails or not coming.is_over(now):
            return
        if self.changed_at is not None:
            self.updated = max(coming.ready_at or now, self.updated + 1)
        self.serving, self.coming = coming, None
        self.source_url = coming.url_after(self.source_url)

    def status(self, now: float, working: str, stale: float) -> str:
        """Return `data_status`; for `stale` seconds after a change it is still the old one."""
        self.catch_up(now)
        if self.coming is None:
            return "AVAILABLE"
        is_old = self.serving is not None and self.changed_at is not None
        if is_old and now < (self.changed_at or 0.0) + stale:
            return "AVAILABLE"
        return "FAILED" if self.has_failed(now) else working

    def has_failed(self, now: float) -> bool:
        """Return whether indexing the latest content failed."""
        return self.coming is not None and self.coming.fails and self.coming.is_over(now)


class Bot(Application[GptbotsBehaviour, BotDocument]):
    """One bot."""

    name, kinds, switches = "gptbots", KINDS, GptbotsBehaviour
    home_id, home_name, home_key = HOME_ID, "Default", "knowledge_base_id"
    id_form = "[0-9a-f]{24}"

    def begin(self) -> None:
        """Create the initial contents: no page has been fetched."""
        self._visits: dict[str, int] = {}
        super().begin()

    def new_id(self) -> str:
        """Return 24 hex digits; the first 8 are the time, as in all ids of this service."""
        return f"{int(self.now) & 0xFFFFFFFF:08x}{self.chance.getrandbits(40):010x}{self.count():06x}"

    def check_base(self, base: str) -> None:
        """Check that the base exists. Raises `Refused`."""
        if base not in self.visible_bases():
            raise Refused("the knowledge base does not exist")

    def catch_up(self) -> None:
        """Let contents that are ready serve."""
        for document in self.documents.values():
            document.catch_up(self.now)

    def store(
        self, upload: SentFile, base: str, kind: str, rules: Mapping[str, Any], call: Call = NO_FAULT
    ) -> BotDocument:
        """Store a new document; a fault can change its name."""
        version, name = self._version(upload, call), upload.name
        if call.plays("other-name"):  # as services do when a name is in use
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

    def change(self, old: BotDocument, upload: SentFile, rules: Mapping[str, Any], call: Call) -> None:
        """Replace a document's content; the old one serves until the new one is indexed."""
        version, coming = self._version(upload, call), old.coming
        if coming is not None and self.now < (coming.ready_at or 0.0):  # a stuck version may be replaced
            same_bytes = ", with the same bytes" if coming.sha256 == version.sha256 else ""
            self.violations.append(f"update: two updates of {old.id} in flight at once{same_bytes}")
        old.rewrite(version.content)
        old.coming, old.changed_at, old.rules = version, self.now, dict(rules) or old.rules
        if self.behaviour.marked_at == "accept":
            old.source_url = version.url_after(old.source_url)
        self.record("updated", old)
        old.catch_up(self.now)

    def retry(self, call: Call) -> int:
        """Index failed documents again, in every base, and return how many; a fault lets them fail again."""
        failed = [document for document in self.present() if document.has_failed(self.now)]
        for document in failed:
            if document.coming is not None:
                document.coming = replace(
                    document.coming, ready_at=self.ready_at(), fails=call.plays("fails", document.name)
                )
                self.record("retried", document)
        return len(failed)

    def _version(self, upload: SentFile, call: Call = NO_FAULT) -> Version:
        fails = call.plays("fails", upload.name)
        content, ready = upload.content, self.ready_at(call, upload.name)
        if address := upload.file_url:  # the page's content differs at each fetch
            self._visits[address] = self._visits.get(address, 0) + 1
            content = f"Visit {self._visits[address]} to {address}".encode()
        return Version(content, upload.source_url or "", ready, fails, address)

    def find(self, prompt: str, bases: Sequence[str] | None, ids: Sequence[str] | None) -> list[Json]:
        """Return passages that share words with `prompt`, best first, from the union of bases and ids."""
        is_all = bases is None and ids is None
        documents = [
            document
            for document in self.present()
            if is_all or document.base in (bases or ()) or document.id in (ids or ())
        ]
        return [
            {"content": document.text[:2000], "data_id": document.id}
            | {"document_name": document.name, "score": share}
            for share, document in self.rank(prompt, documents)
        ]

    def store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> BotDocument:
        """Store another user's document; `args` can set its `source_url`."""
        return self.store(SentFile(name, content, str(args.get("source_url", ""))), HOME_ID, "text", {})

    def describe(self, document: BotDocument) -> Json:
        """Describe a document, and the text that searches find."""
        latest = document.coming or document.serving
        address = latest.address if latest else ""
        details = {name: getattr(document, name) for name in ("kind", "source_url", "rules")}
        return {
            **super().describe(document),
            **details,
            "address": address,
            "serving": document.serving.sha256 if document.serving else "",
            "text": document.text[:200] if address else "",
        }
