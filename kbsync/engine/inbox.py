"""What people asked for while this process holds the lock: approve, retry, repair, audit.

A command leaves a message in the state and wakes the process that holds it, so its effect is in one
transaction with the end of the message: a crash neither loses nor repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from kbsync.contract.target import Listed
from kbsync.core import lifecycle
from kbsync.core.links import is_link
from kbsync.core.model import UploadState
from kbsync.engine import status
from kbsync.engine.audit import Proof, Repairs, Stray
from kbsync.engine.clock import Clock
from kbsync.engine.journal import Journal
from kbsync.state.inbox import Message
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore

PAGE = 500


@dataclass(slots=True)
class InboxResult:
    """What follows for the run: files to look at again, whether a halt may be over, whether to audit now."""

    look_at: set[str] = field(default_factory=set)
    resumed: bool = False
    audits: bool = False


class Inbox:
    """The messages of one mirror."""

    def __init__(self, store: StateStore, journal: Journal, clock: Clock) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._repairs = Repairs(journal)

    async def carry_out(self) -> InboxResult:
        """Do what was asked, oldest first, each message with its effect in one transaction."""
        name = self._journal.binding.settings.name
        messages = await self._store.read(lambda tx: tx.inbox.waiting(name))
        answer = InboxResult()
        for message in messages:
            await self._store.write(partial(self._carry_out, message, answer))
        return answer

    def _carry_out(self, message: Message, answer: InboxResult, tx: Tx) -> None:
        match message.verb:
            case "approve":
                for hold in message.args.get("holds", ()):
                    tx.holds.approve(int(hold), self._clock.wall())
            case "retry":
                self._retry(tx, message.args.get("paths"), answer)
            case "repair":
                self._repair(tx, message, answer)
            case "audit":
                answer.audits = True
        tx.inbox.done(message.id)

    def _retry(self, tx: Tx, paths: list[str] | None, answer: InboxResult) -> None:
        """Release failed documents: all, or those of these paths. What is unreadable is looked at again."""
        answer.resumed = True
        binding = self._journal.binding
        for path in paths or ():
            if is_link(path):
                self._fetch_again(tx, path)
        failed = tx.uploads.in_states(binding.mirror, binding.id, (UploadState.FAILED,), limit=1_000_000)
        for upload in failed:
            if paths is None or upload.path in paths:
                timing = self._journal.timing
                tx.uploads.save(
                    lifecycle.retire(upload, timing) if upload.remote_id else lifecycle.drop(upload)
                )
                if upload.path is not None:
                    self._journal.decide(tx, upload.path, fresh=True)
        # The tries of those on their way are forgotten: the same trouble may have caught them, and they would
        # fail right after it is over.
        for upload in tx.uploads.failed_before(binding.mirror, binding.id):
            if paths is None or upload.path in paths:
                tx.uploads.save(lifecycle.forgive(upload))
        troubled = [entry.path for entry in tx.entries.unread(binding.mirror)]
        troubled += [folder.path for folder in tx.folders.problems(binding.mirror) if not folder.shut]
        answer.look_at.update(path for path in troubled if paths is None or path in paths)

    def _fetch_again(self, tx: Tx, path: str) -> None:
        # A page changes without its link file, so naming the file in `retry` means the page as it is now.
        # Without a digest the document is sent again and replaced like that of an edited file.
        for upload in self._journal.uploads(tx, path):
            if upload.state is UploadState.SERVING:
                tx.uploads.set_content(upload.id, digest="")
                self._journal.decide(tx, path, fresh=True)

    def _repair(self, tx: Tx, message: Message, answer: InboxResult) -> None:
        """`missing` ones are sent again, `strays` deleted, `stale` files looked at.

        Where a stray is a copy of a missing one, it takes its place and nothing is sent.
        """
        strays = [Stray.from_json(tx, told) for told in message.args.get("strays", ())]
        for stray in strays:
            self._repairs.adopt(tx, stray, message.args.get("missing", ()))
        for remote_id in message.args.get("missing", ()):
            self._repairs.send_again(tx, remote_id)
        for stray in strays:
            self._repairs.retire_stray(tx, stray)
        # Schema 6 named some of those to be deleted by their id alone.
        for remote_id in message.args.get("surplus", ()):
            if tx.uploads.by_remote(self._journal.binding.id, remote_id):
                self._repairs.retire_stray(tx, Stray(Listed(remote_id, ""), "", Proof.NONE))
        answer.look_at.update(message.args.get("stale", ()))
        status.clear_last_audit(tx, self._journal.binding.mirror)
