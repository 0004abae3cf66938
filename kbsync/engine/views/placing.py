"""What is wrong, and what a document that serves nothing is beside the file it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kbsync.core.model import UNREADABLE, Choice, Presence, Status, Upload
from kbsync.core.planner import tells
from kbsync.engine.views.audit import Proof, Stray, holds
from kbsync.engine.views.footing import Footing
from kbsync.source.looker import look
from kbsync.state.entries import Entry
from kbsync.state.store import Tx


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `remote_id` is None where there is no document. `why` is a sentence.

    `proof` matters for what a repair would delete: without one it is left alone.
    """

    path: str
    remote_id: str | None
    why: str
    proof: Proof = Proof.ROW
    stray: Stray | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """Strays by what is wrong with them."""

    orphaned: list[Finding]
    duplicate: list[Finding]


class Placing:
    """Says what each stray document is beside the file it belongs to."""

    def __init__(self, tx: Tx, footing: Footing, is_compared: bool) -> None:
        self._tx = tx
        self._footing = footing
        self._terms = footing.terms
        self._is_compared = is_compared

    def sorted(self, strays: Sequence[Stray]) -> Placed:
        """Orphaned ones and duplicates; what may yet be adopted is neither."""
        placed = Placed([], [])
        for stray in strays:
            entry = self._tx.entries.get(self._terms.mirror, stray.path)
            server = next((r for r in self._footing.rows(self._tx, stray.path) if r.state.serves), None)
            if server is not None:
                placed.duplicate.append(self._finding(stray, entry, self._twin(stray, server)))
            elif self._has_no_file(stray, entry):
                placed.orphaned.append(self._finding(stray, entry, _no_file(stray, entry)))
            elif self._will_have_another(stray, entry):
                why = f"document {stray.remote_id} is not the one that will serve the file"
                placed.duplicate.append(self._finding(stray, entry, why))
        return placed

    def _has_no_file(self, stray: Stray, entry: Entry | None) -> bool:
        if entry is not None and entry.presence is not Presence.GONE:
            return entry.verdict.choice is Choice.EXCLUDED
        found = look(self._terms.plan.root, stray.path)
        return self._is_compared and found.lacks_file

    def _will_have_another(self, stray: Stray, entry: Entry | None) -> bool:
        """The state has settled on the file and did not take this document for it."""
        return (
            entry is not None
            and entry.status in (Status.PENDING, Status.INDEXING, Status.FAILED)
            and (stray.row is None or not holds(entry, stray.digest, stray.size))
        )

    def _twin(self, stray: Stray, server: Upload) -> str:
        if stray.digest in ("", UNREADABLE):
            return (
                f"document {stray.remote_id} has the name of this file and its bytes could not be read; "
                f"{server.remote_id} serves the file"
            )
        is_same = tells(stray.digest, stray.size, server.digest, server.size)
        same = "the same bytes" if is_same else "other bytes"
        return (
            f"document {stray.remote_id} has {same} under this path, and {server.remote_id} serves the file"
        )

    def _finding(self, stray: Stray, entry: Entry | None, why: str) -> Finding:
        proof = self._proof(stray, entry)
        if stray.reason:
            why += f"; the target refused to delete it: {stray.reason}"
        if proof is Proof.NONE:
            why += "; nothing proves that it is ours, so it is left alone"
        return Finding(stray.path, stray.remote_id, why, proof, stray)

    def _proof(self, stray: Stray, entry: Entry | None) -> Proof:
        """Equal bytes under a path of ours prove a document ours, as does its name where that is enough."""
        if stray.proof is not Proof.NONE:
            return stray.proof
        by_name = self._terms.abilities.adopt == "name"
        by_content = entry is not None and holds(entry, stray.digest, stray.size)
        return Proof.ROW if by_name or by_content else Proof.NONE


def _no_file(stray: Stray, entry: Entry | None) -> str:
    gone = entry is None or entry.presence is Presence.GONE
    return f"{'the file is gone' if gone else 'the file is not selected'}, document {stray.remote_id} is left"
