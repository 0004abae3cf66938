"""Mends what an audit found, within one transaction, and only what is proven ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from kbsync.contract.mirroring import DocState, Listed
from kbsync.core import lifecycle
from kbsync.core.model import Purpose, Upload, UploadState
from kbsync.core.planner import tells
from kbsync.engine.adoption import adopting
from kbsync.engine.ledger import Ledger
from kbsync.engine.views.audit import Stray
from kbsync.state.store import Tx


class Repairs:
    """Of the documents of one mirror."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def send_again(self, tx: Tx, remote_id: str) -> bool:
        """The document is no longer at the target: its file wants another. False where none served."""
        rows = tx.uploads.by_remote(self._ledger.terms.binding, remote_id)
        serving = [row for row in rows if row.state.serves]
        for row in serving:
            tx.uploads.save(lifecycle.gone(row))
            tx.holds.release(row.id)
            tx.renewals.drop(row.id)
            self._ledger.settle(tx, row.path or "", fresh=True)
        tx.holds.end_empty(self._ledger.terms.mirror, self._ledger.rhythm.now)
        return bool(serving)

    def adopt(self, tx: Tx, stray: Mapping[str, Any], missing: Collection[str]) -> bool:
        """A twin of a document that is `missing` (remote ids) takes its place, rather than a new one.

        To be told before `send_again`: the planner takes a document that is proven by its bytes.
        """
        terms, path = self._ledger.terms, str(stray["path"])
        server = next((row for row in self._ledger.uploads(tx, path) if row.state.serves), None)
        if server is None or server.remote_id not in missing or not self._is_twin(tx, stray):
            return False
        if tx.uploads.by_remote(terms.binding, str(stray["remote_id"])):
            return False
        listed = Listed(
            str(stray["remote_id"]),
            str(stray["name"]),
            size=stray["size"],
            state=DocState.READY if stray.get("is_ready") else DocState.UNKNOWN,
            digest=str(stray["digest"]),
            recipe=stray.get("recipe"),
        )
        tx.uploads.add(adopting(terms, listed, path, self._ledger.rhythm.now))
        return True

    def retire_surplus(self, tx: Tx, remote_id: str) -> bool:
        """A document proven ours that nothing needs: it never serves, so no path loses anything."""
        rows = tx.uploads.by_remote(self._ledger.terms.binding, remote_id)
        if any(row.state.serves or row.state.in_flight for row in rows) or not rows:
            return False
        if rows[0].state is not UploadState.RETIRING:
            tx.uploads.save(lifecycle.retire(rows[0], self._ledger.rhythm))
        return True

    def retire_stray(self, tx: Tx, stray: Mapping[str, Any]) -> bool:
        """A document no row holds: its row gets the id back; where it is proven ours it gets a row."""
        remote_id = str(stray["remote_id"])
        if tx.uploads.by_remote(self._ledger.terms.binding, remote_id):
            return self.retire_surplus(tx, remote_id)
        row = tx.uploads.get(int(stray["upload"])) if stray.get("upload") is not None else None
        if row is not None and row.remote_id is None and row.digest == stray["digest"]:
            found = replace(row, remote_id=remote_id)
            tx.uploads.save(lifecycle.retire(found, self._ledger.rhythm))
            return True
        if self._ledger.terms.limits.embedded or self._is_twin(tx, stray):
            tx.uploads.add(self._stray_row(remote_id, stray))
            return True
        return False

    def _is_twin(self, tx: Tx, stray: Mapping[str, Any]) -> bool:
        """Another document serves the file at this path, and this one has the file's own bytes."""
        terms, path = self._ledger.terms, str(stray["path"])
        entry = tx.entries.get(terms.mirror, path)
        is_served = any(row.state.serves for row in self._ledger.uploads(tx, path))
        if entry is None or entry.digest is None or not is_served:
            return False
        return tells(str(stray["digest"]), stray["size"], entry.digest, entry.stamp.size)

    def _stray_row(self, remote_id: str, stray: Mapping[str, Any]) -> Upload:
        terms, now = self._ledger.terms, self._ledger.rhythm.now
        path = str(stray["path"] or stray["name"])
        return Upload(
            id=0,
            mirror=terms.mirror,
            binding=terms.binding,
            path=path,
            label=path,
            name=str(stray["name"]),
            digest=str(stray["digest"] or ""),
            size=int(stray["size"] or 0),
            recipe="",
            state=UploadState.RETIRING,
            purpose=Purpose.RETIRE,
            remote_id=remote_id,
            created_at=now,
            next_look_at=now,
        )


def stray_json(stray: Stray) -> dict[str, Any]:
    """As `Repairs` takes it."""
    return {
        "remote_id": stray.remote_id,
        "path": stray.path,
        "name": stray.name,
        "digest": stray.digest,
        "size": stray.size,
        "upload": None if stray.row is None else stray.row.id,
        "recipe": stray.recipe,
        "is_ready": stray.is_ready,
    }
