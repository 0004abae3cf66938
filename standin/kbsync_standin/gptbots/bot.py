"""One bot with its knowledge bases: what it holds, what was done to it, and how it behaves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from kbsync_standin.faults import Fault
from kbsync_standin.gptbots.behaviour import Behaviour, changed
from kbsync_standin.gptbots.playing import NoBase, hits, renamed
from kbsync_standin.gptbots.shelf import HOME_ID, Base, Document, Shelf, Version
from kbsync_standin.gptbots.strict import Sent
from kbsync_standin.messages import StandInClock


class Bot:
    """`journal`: effects in order. `violations`: what was done against the vendor's rules."""

    def __init__(self, seed: int, behaviour: Behaviour, clock: StandInClock) -> None:
        self.behaviour, self.clock = behaviour, clock
        self.violations: list[str] = []
        self.journal: list[dict[str, Any]] = []
        self.shelf = Shelf(seed)
        self._seed = seed
        self._visits: dict[str, int] = {}

    def turn(self, switches: Mapping[str, Any]) -> None:
        """Raises `ValueError` for an unknown switch or a wrong value."""
        before = self.behaviour.base
        self.behaviour = changed(self.behaviour, switches)
        if self.behaviour.base != before:
            self._set_base()

    def _set_base(self) -> None:
        match self.behaviour.base:
            case "deleted" | "emptied":
                self.shelf.drop(HOME_ID)
            case "recreated":
                self.shelf.drop(HOME_ID)
                self.shelf.bases = {self.shelf.new_id(self.clock.now()): Base("Default")}

    def bases(self) -> Mapping[str, Base]:
        """Those that are there, by id."""
        is_home_gone = self.behaviour.base == "deleted"
        return {key: one for key, one in self.shelf.bases.items() if not (is_home_gone and key == HOME_ID)}

    def make_base(self, name: str, description: str, settings: Mapping[str, Any]) -> str:
        """One more base, also of a name that is there; its id."""
        made = self.shelf.new_id(self.clock.now())
        self.shelf.bases[made] = Base(name, description, settings)
        self.journal.append({"effect": "base-made", "id": made, "name": name, "sha256": ""})
        return made

    def check_base(self, base: str) -> None:
        """Raises `NoBase`."""
        if base not in self.bases():
            raise NoBase("the knowledge base does not exist")

    def reset(self) -> None:
        """One empty base again."""
        self.shelf = Shelf(self._seed)
        self.journal.clear()

    def store(
        self, sent: Sent, base: str, kind: str, rules: Mapping[str, Any], fault: Fault | None
    ) -> Document:
        """A new document, under the name that a fault makes of its own."""
        now = self.clock.now()
        version = self._version(sent, fault)
        name = renamed(sent.name) if fault is not None and fault.kind == "other-name" else sent.name
        one = Document(
            self.shelf.new_id(now),
            base,
            kind,
            name,
            now,
            now,
            version,
            version.source_url,
            rules=dict(rules),
        )
        self.shelf.documents[one.id] = one
        self._note("stored", one, version)
        return one

    def change(self, old: Document, sent: Sent, rules: Mapping[str, Any], fault: Fault | None) -> None:
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
            old.source_url = old.coming.source_url or old.source_url
        self._note("updated", old, old.coming)
        old.get_on(now)

    def retry(self, fault: Fault | None) -> int:
        """What failed is indexed once more, in every base; how many documents. A fault lets it fail again."""
        now = self.clock.now()
        failed = [one for one in self.shelf.alive() if one.has_failed(now)]
        for one in failed:
            if one.coming is not None:
                ready = now + self.shelf.span(self.behaviour.vectorize)
                one.coming = replace(one.coming, ready_at=ready, fails=hits(fault, "fails", one.name))
                self._note("retried", one, one.coming)
        return len(failed)

    def delete(self, ids: Iterable[str]) -> None:
        """Documents that are there."""
        for key in ids:
            self.shelf.documents[key].deleted_at = self.clock.now()
            self._note("deleted", self.shelf.documents[key], None)

    def delete_by_others(self, wanted: object) -> Document:
        """By its id or name. Raises `ValueError` for one that is not there."""
        for one in self.shelf.alive():
            if wanted in (one.id, one.name):
                one.deleted_at = self.clock.now()
                self._note("foreign-deleted", one, None)
                return one
        raise ValueError(f"there is no document {wanted!r}")

    def _version(self, sent: Sent, fault: Fault | None) -> Version:
        ready: float | None = self.clock.now() + self.shelf.span(self.behaviour.vectorize)
        if hits(fault, "stuck", sent.name):
            ready = None
        url = "" if sent.source_url in (None, "NULL") else sent.source_url or ""
        content = self._fetched(sent.file_url) if sent.file_url else sent.content
        return Version(content, url, ready, hits(fault, "fails", sent.name), sent.file_url)

    def _fetched(self, address: str) -> bytes:
        """Another time there is something else in it."""
        self._visits[address] = self._visits.get(address, 0) + 1
        return f"Visit {self._visits[address]} to {address}".encode()

    def _note(self, effect: str, one: Document, version: Version | None) -> None:
        sha256 = version.sha256 if version is not None else ""
        self.journal.append({"effect": effect, "id": one.id, "name": one.name, "sha256": sha256})
