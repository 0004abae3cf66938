"""What commands asked for while this process holds the lock: approve, retry, repair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from kbsync.core import lifecycle
from kbsync.core.model import Purpose, Upload, UploadState
from kbsync.core.planner import tells
from kbsync.engine.clock import Clock
from kbsync.engine.ledger import Ledger
from kbsync.state.inbox import Message
from kbsync.state.store import Store, Tx

PAGE = 500


@dataclass(slots=True)
class Answer:
    """What follows for the run: files to look at again, and whether a halt may be over."""

    look_at: set[str] = field(default_factory=set)
    resumed: bool = False


class Inbox:
    """The messages of one mirror."""

    def __init__(self, store: Store, ledger: Ledger, clock: Clock) -> None:
        self._store = store
        self._ledger = ledger
        self._clock = clock

    async def carry_out(self) -> Answer:
        """Do what was asked, oldest first, each message with its effect in one transaction."""
        name = self._ledger.terms.plan.name
        messages = await self._store.read(lambda tx: tx.inbox.waiting(name))
        answer = Answer()
        for message in messages:
            await self._store.write(partial(self._carry_out, message, answer))
        return answer

    def _carry_out(self, message: Message, answer: Answer, tx: Tx) -> None:
        match message.verb:
            case "approve":
                for hold in message.args.get("holds", ()):
                    tx.holds.approve(int(hold), self._clock.wall())
            case "retry":
                self._retry(tx, message.args.get("paths"), answer)
            case "repair":
                self._repair(tx, message, answer)
        tx.inbox.done(message.id)

    def _retry(self, tx: Tx, paths: list[str] | None, answer: Answer) -> None:
        """Release failed documents: all, or those of these paths; what is unreadable is looked at again."""
        answer.resumed = True
        terms = self._ledger.terms
        for upload in self._failed(tx):
            if paths is None or upload.path in paths:
                self._release(tx, upload)
        troubled = [entry.path for entry in tx.entries.unread(terms.mirror)]
        troubled += [folder.path for folder in tx.folders.problems(terms.mirror) if not folder.shut]
        answer.look_at.update(path for path in troubled if paths is None or path in paths)

    def _failed(self, tx: Tx) -> list[Upload]:
        terms = self._ledger.terms
        return tx.uploads.in_states(terms.mirror, terms.binding, (UploadState.FAILED,), limit=1_000_000)

    def _release(self, tx: Tx, upload: Upload) -> None:
        retired = (
            lifecycle.retire(upload, self._ledger.rhythm) if upload.remote_id else lifecycle.drop(upload)
        )
        tx.uploads.save(retired)
        if upload.path is not None:
            self._ledger.settle(tx, upload.path, fresh=True)

    def _repair(self, tx: Tx, message: Message, answer: Answer) -> None:
        """`missing` ones are sent again, `surplus` ones and `strays` deleted, `stale` files looked at."""
        binding = self._ledger.terms.binding
        for remote_id in message.args.get("missing", ()):
            for upload in tx.uploads.by_remote(binding, remote_id):
                if upload.state.serves:
                    tx.uploads.save(lifecycle.gone(upload))
                    self._ledger.settle(tx, upload.path or "", fresh=True)
        for remote_id in message.args.get("surplus", ()):
            self._retire_surplus(tx, remote_id)
        for stray in message.args.get("strays", ()):
            self._retire_stray(tx, stray)
        answer.look_at.update(message.args.get("stale", ()))

    def _retire_surplus(self, tx: Tx, remote_id: str) -> None:
        """A document proven ours that nothing needs: it never serves, so no path loses anything."""
        rows = tx.uploads.by_remote(self._ledger.terms.binding, remote_id)
        if any(row.state.serves or row.state.in_flight for row in rows) or not rows:
            return
        tx.uploads.save(lifecycle.retire(rows[0], self._ledger.rhythm))

    def _retire_stray(self, tx: Tx, stray: Mapping[str, Any]) -> None:
        """A document no row holds: its row gets the id back; where it is proven ours it gets a row."""
        remote_id = str(stray["remote_id"])
        if tx.uploads.by_remote(self._ledger.terms.binding, remote_id):
            self._retire_surplus(tx, remote_id)
            return
        row = tx.uploads.get(int(stray["upload"])) if stray.get("upload") is not None else None
        if row is not None and row.remote_id is None and row.digest == stray["digest"]:
            found = replace(row, remote_id=remote_id)
            tx.uploads.save(lifecycle.retire(found, self._ledger.rhythm))
        elif self._ledger.terms.limits.embedded or self._is_twin(tx, stray):
            tx.uploads.add(self._stray_row(remote_id, stray))

    def _is_twin(self, tx: Tx, stray: Mapping[str, Any]) -> bool:
        """Another document serves the file at this path, and this one has the file's own bytes."""
        terms, path = self._ledger.terms, str(stray["path"])
        entry = tx.entries.get(terms.mirror, path)
        is_served = any(row.state.serves for row in self._ledger.uploads(tx, path))
        if entry is None or entry.digest is None or not is_served:
            return False
        return tells(str(stray["digest"]), stray["size"], entry.digest, entry.stamp.size)

    def _stray_row(self, remote_id: str, stray: Mapping[str, Any]) -> Upload:
        terms, now = self._ledger.terms, self._clock.wall()
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
