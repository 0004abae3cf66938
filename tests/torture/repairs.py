"""Others damage a knowledge base while lists shift and lie, and a user verifies and repairs it.

For each kind of damage the expected report of `verify` is known. A document with the mark of one of our
uploads, or with its name and bytes if names are the proof, is a duplicate, and a repair removes it; one with
another kbsync's mark, or only our name, belongs to somebody else. If a name contains a digest, a document
with such a name but other bytes may be a version from a lost state: it is reported and stays.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from kbsync.core.names import Naming
from kbsync.engine.verify import Verification, repair_request
from kbsync.errors import TargetError
from kbsync_standin.faults import Fault
from tests.bench.bench import OwnDocument
from tests.services.rows import ROWS
from tests.torture.mess import DAY, Mess, MessyMirror

REPAIRS = 3
"""Within this many repairs everything is right again."""

TROUBLE = (
    Fault("left-out", "list"),
    Fault("lost-answer", "list"),
    Fault("status", "list", times=4, args={"status": 502}),
)
"""Faults of the first verification of a turn, at every service."""

LOOKS = ("list", "status", "detail", "state", "file")
"""The operations that a verification calls."""


def text_of(document: OwnDocument) -> str:
    """Return the text that searches find."""
    assert document.search_result is not None
    return document.search_result[1]


class RepairedMirror(MessyMirror):
    """A mirror at the `service` of `ROWS`, whose behaviours last a turn each.

    `lists`, `faults`: behaviours and faults in addition to those of the service. `hidden`: how many times a
    list lacks an existing document; 0: each time. `most`: the requests of one verification: pages of the
    list, twice for apparent errors, and polls of single documents.
    """

    service: ClassVar[str]
    lists: ClassVar[Sequence[dict[str, Any]]] = ()
    faults: ClassVar[Sequence[Fault]] = ()
    hidden: ClassVar[int] = 0
    most: ClassVar[int] = 60
    late = (5, 40)

    def __init__(self, folder: Path, chance: random.Random) -> None:
        row = ROWS[self.service]
        world = row.world(folder)
        # Passes with audits would repair what `verify` is supposed to find.
        world.settings = replace(world.settings, names=chance.choice(row.names), deep_rescan=1e9)
        super().__init__(row.bench(world), chance)
        self._lists = [*row.behaviours, *self.lists]
        # Other users' documents with digests in their names like ours; and those with these bytes, or with a
        # mark.
        self.tagged, self.lookalikes = set[str](), set[str]()
        self._faults = [*TROUBLE, *(fault for fault in row.oddities if fault.op in LOOKS), *self.faults]

    def messes(self) -> Sequence[Mess]:
        return (
            self.delete_ours,
            self.replace_ours,
            self.exchange_ours,
            self.make_twin,
            self.make_lookalike,
            self.mangle_name,
            self.bring_back,
            self.take_text,
            self.come_late,
            self.leave,
            self.edit,
        )

    def set_out(self) -> None:
        usual = type(self.world.app.behaviour)()
        names = {name for switches in self._lists for name in switches}
        self.world.turn(**{name: getattr(usual, name) for name in names})
        self.world.turn(**self.chance.choice(self._lists))

    # -- contents --------------------------------------------------------------------------------------------

    def document_digests(self) -> Mapping[str, Sequence[str]]:
        """Return the SHA-256 of each file's searchable text, "" for a document that searches don't find."""
        results: dict[str, list[str]] = {}
        for path, document in self.owned():
            digest = (
                ""
                if document.search_result is None
                else sha256(document.search_result[1].encode()).hexdigest()
            )
            results.setdefault(path, []).append(digest)
        return results

    def covered(self) -> set[str]:
        return {path for path, document in self.owned() if document.search_result is not None}

    # -- implemented for each service ------------------------------------------------------------------------

    def plant_copy(self, document: OwnDocument) -> str:
        """Copy one of our documents with its mark as another user, and return the id."""
        return self.bench.add_foreign(document.name, text_of(document))

    def plant_replacement(self, document: OwnDocument) -> None:
        """Upload something else under the name of a deleted document of ours, without its mark."""
        self.bench.add_foreign(document.name, self.new_text())

    def plant_lookalike(self, path: str, text: str) -> None:
        """Upload a file with the same path as another kbsync."""
        name = Naming(self.world.settings.prefix).name(path, sha256(text.encode()).hexdigest())
        self.lookalikes.add(self.bench.add_foreign(name, text))

    def expect_marked(self, planted: str, path: str, text: str) -> None:
        """Expect a marked document: a twin of our file may be deleted, any other text stays."""
        if text == self.text(path):
            self.pass_as_ours(planted)
            self.want("duplicate", path)
        else:
            self.lookalikes.add(planted)

    def id_of(self, remote_id: str | None) -> str:
        """Return the id of a document at the stand-in."""
        return remote_id or ""

    def stored(self, remote_id: str) -> Any:
        """Return the stand-in's document, even a deleted one."""
        raise NotImplementedError

    def give_name(self, document: OwnDocument, name: str) -> None:
        """Rename one of our documents as another user."""
        self.stored(document.id).name = name

    def undelete(self, document: OwnDocument) -> None:
        """Restore a deleted document, or upload it again unchanged, as another user."""
        self.pass_as_ours(self.plant_copy(document))

    # -- damage ----------------------------------------------------------------------------------------------

    def pass_as_ours(self, planted: str) -> None:
        """Note that nothing distinguishes it from our documents."""
        self.world.foreign.discard(planted)
        if hasattr(stored := self.stored(planted), "is_foreign"):
            stored.is_foreign = False

    async def replace_ours(self) -> None:
        """Delete one of our documents as another user and upload something else under its name."""
        path = self.pick()
        document = self.document_of(path)
        self.bench.take_away(document)
        self.plant_replacement(document)
        self.want("missing", path)

    async def make_twin(self) -> None:
        """Copy one of our documents with its mark as another user: it looks like a duplicate of ours."""
        path = self.pick()
        document = self.document_of(path)
        if document.id not in self.untold:
            self.pass_as_ours(self.plant_copy(document))
            self.want("duplicate", path)

    async def exchange_ours(self) -> None:
        """Copy one of our documents with its mark as another user, and delete the original."""
        path = self.pick()
        document = self.document_of(path)
        if document.id not in self.untold:
            self.pass_as_ours(self.plant_copy(document))
            self.bench.take_away(document)
            self.want("missing", path)

    async def make_lookalike(self) -> None:
        """Let another user's kbsync upload a file with our path."""
        self.plant_lookalike(self.pick(), self.new_text())

    async def mangle_name(self) -> None:
        """Rename one of our documents as another user; its id or its mark still identifies it."""
        path = self.chance.choice(sorted(self.steady))
        document = self.document_of(path)
        self.untold[document.id] = path
        self.give_name(
            document,
            self.chance.choice((f"{document.name} (1)", "notes.md", "说明.md", document.name.upper())),
        )

    async def bring_back(self) -> None:
        """Restore a document that we deleted, as another user."""
        path = self.pick()
        document = self.document_of(path)
        self.world.delete(path)
        await self.go_over()
        if document.id not in self.untold:
            self.undelete(document)
            self.want("orphaned", path)

    async def take_text(self) -> None:
        """Upload the text of a file's next version as another user, then change the file."""
        path, text = self.pick(), self.new_text()
        self.bench.add_foreign(f"theirs{self.number}.md", text)
        self.world.write(path, text)
        self.want("stale", path)

    async def go_over(self) -> None:
        """Run a pass, which sends edited files and finds restored documents if it reads the list."""
        await self.world.once()
        owned_paths = {path for path, _ in self.owned()}
        self.expected_findings = {
            "missing": self.expected_findings.get("missing", set()),
            "duplicate": self.expected_findings.get("duplicate", set()),
            "orphaned": self.expected_findings.get("orphaned", set()) & owned_paths,
        }

    # -- repair ----------------------------------------------------------------------------------------------

    async def put_in_order(self, messes: str) -> None:
        await self.verify_during(self.chance.choice(self._faults))
        self.check_findings(messes, await self.verify(messes))
        for _ in range(REPAIRS):
            await self.repair(messes)
        result = await self.verify(messes, hides=False)
        theirs = self.world.foreign & {str(document["id"]) for document in self.world.documents()}
        left_ids = {self.id_of(document.remote_id) for document in (*result.duplicate, *result.orphaned)}
        is_left_rightly = self.lookalikes & theirs <= left_ids <= (self.lookalikes | self.tagged) & theirs
        is_in_order = not (result.halt or result.missing or result.stale)
        is_well = is_in_order and is_left_rightly and result.foreign == len(theirs - left_ids)
        self.check(messes, is_well=is_well, evidence=result.to_json())

    def changes(self) -> int:
        """Return the number of requests that change something."""
        return sum(map(self.world.request_count, self.bench.effects))

    async def verify_during(self, fault: Fault) -> None:
        """Verify during a fault: it may be put off, and changes nothing."""
        before = self.changes()
        self.world.server.faults.add(fault)
        with contextlib.suppress(TargetError):
            await self.world.verify()
        self.world.server.faults.clear()
        assert self.changes() == before

    async def verify(self, messes: str, *, hides: bool = True) -> Verification:
        """Return the result of `verify`, which sends few requests. `hides`: the list lacks a document that
        exists.
        """
        if hides:
            document = self.document_of(self.chance.choice(sorted(self.steady)))
            self.world.play("left-out", op="list", times=self.hidden, args={"name": document.name})
        before, changes = self.world.request_count(), self.changes()
        findings = await self.world.verify()
        self.world.server.faults.clear()
        assert self.changes() == changes
        self.tally.steps += (requests_made := self.world.request_count() - before)
        if requests_made > self.most:
            self.blame(f"{messes}: {requests_made} requests of one verification")
        return findings

    async def repair(self, messes: str) -> None:
        """Run `verify --repair`, and the pass that carries it out."""
        self.world.post_request("repair", **repair_request(await self.verify(messes)))
        await self.world.once()
        self.world.clock.now += DAY

    def check_findings(self, messes: str, verification: Verification) -> None:
        """Require that all changes to our files are reported and explained, and nothing about steady
        files.
        """
        lists = {kind: getattr(verification, kind) for kind in ("missing", "stale", "orphaned", "duplicate")}
        named = {kind: {document.path for document in findings} for kind, findings in lists.items()}
        ours = {
            document.path
            for findings in lists.values()
            for document in findings
            if self.id_of(document.remote_id) not in self.lookalikes | self.tagged
        }
        overlooked = {kind: paths - named[kind] for kind, paths in self.expected_findings.items()}
        wrongly = ours & self.steady
        mute = [document.path for findings in lists.values() for document in findings if not document.why]
        if any(overlooked.values()) or wrongly or mute or verification.halt is not None:
            self.blame(f"{messes}: {overlooked} overlooked, {wrongly} wrongly, {mute} unexplained")
