"""What people asked for while this process holds the lock: approve, retry, repair, audit.

A command leaves a message in the state and wakes the process that holds it. What a message asks for is done a
page of documents a transaction, the last one together with the end of the message. A crash in the middle does
some of it again, which changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kbsync.contract.target import Listed
from kbsync.core import lifecycle
from kbsync.core.links import is_link
from kbsync.core.model import Upload, UploadState
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
        """Do what was asked, oldest first."""
        name = self._journal.binding.settings.name
        messages = await self._store.read(lambda tx: tx.inbox.waiting(name))
        answer = InboxResult()
        for message in messages:
            match message.verb:
                case "retry":
                    await self._retry(message.args.get("paths"), answer)
                case "repair":
                    await self._repair(message)
            await self._store.write(partial(self._end, message, answer))
        return answer

    def _end(self, message: Message, answer: InboxResult, tx: Tx) -> None:
        match message.verb:
            case "approve":
                for hold in message.args.get("holds", ()):
                    tx.holds.approve(int(hold), self._clock.wall())
            case "retry":
                answer.resumed = True
                answer.look_at.update(self._troubled(tx, message.args.get("paths")))
            case "repair":
                answer.look_at.update(message.args.get("stale", ()))
                status.clear_last_audit(tx, self._journal.binding.mirror)
            case "audit":
                answer.audits = True
        tx.inbox.done(message.id)

    def _troubled(self, tx: Tx, paths: Collection[str] | None) -> list[str]:
        """What could not be read, all of it or of these paths."""
        mirror = self._journal.binding.mirror
        troubled = [entry.path for entry in tx.entries.unread(mirror)]
        troubled += [folder.path for folder in tx.folders.problems(mirror) if not folder.shut]
        return [path for path in troubled if paths is None or path in paths]

    async def _retry(self, paths: Collection[str] | None, answer: InboxResult) -> None:
        """Release failed documents: all, or those of these paths."""
        binding = self._journal.binding
        links = [path for path in paths or () if is_link(path)]

        def fetch_again(tx: Tx) -> None:
            for path in links:
                self._fetch_again(tx, path)

        await self._store.write(fetch_again)

        def release(rows: Sequence[Upload], tx: Tx) -> None:
            for upload in rows:
                timing = self._journal.timing
                tx.uploads.save(
                    lifecycle.retire(upload, timing) if upload.remote_id else lifecycle.drop(upload)
                )
                if upload.path is not None:
                    self._journal.decide(tx, upload.path, fresh=True)

        def forgive(rows: Sequence[Upload], tx: Tx) -> None:
            for upload in rows:
                tx.uploads.save(lifecycle.forgive(upload))

        def failed(tx: Tx, after: int) -> list[Upload]:
            return tx.uploads.in_states(binding.mirror, binding.id, (UploadState.FAILED,), after, PAGE)

        def failed_before(tx: Tx, after: int) -> list[Upload]:
            return tx.uploads.failed_before(binding.mirror, binding.id, after, PAGE)

        # The tries of those on their way are forgotten: the same trouble may have caught them, and they would
        # fail right after it is over.
        for find, change in ((failed, release), (failed_before, forgive)):
            after, last = 0, await self._store.read(lambda tx: tx.uploads.highest())
            while after < last and (rows := await self._store.read(partial(_at, find, after))):
                after = rows[-1].id
                wanted = [row for row in rows if row.id <= last and (paths is None or row.path in paths)]
                await self._store.write(partial(change, wanted))

    def _fetch_again(self, tx: Tx, path: str) -> None:
        # A page changes without its link file, so naming the file in `retry` means the page as it is now.
        # Without a digest the document is sent again and replaced like that of an edited file.
        for upload in self._journal.uploads(tx, path):
            if upload.state is UploadState.SERVING:
                tx.uploads.set_content(upload.id, digest="")
                self._journal.decide(tx, path, fresh=True)

    async def _repair(self, message: Message) -> None:
        """`missing` ones are sent again, `strays` deleted.

        Where a stray is a copy of a missing one, it takes its place and nothing is sent.
        """
        missing, strays = message.args.get("missing", ()), message.args.get("strays", ())
        # Schema 6 named some of those to be deleted by their id alone.
        surplus = message.args.get("surplus", ())

        def adopt(page: Sequence[dict[str, Any]], tx: Tx) -> None:
            for told in page:
                self._repairs.adopt(tx, Stray.from_json(tx, told), frozenset(missing))

        def send_again(page: Sequence[str], tx: Tx) -> None:
            for remote_id in page:
                self._repairs.send_again(tx, remote_id)

        def retire(page: Sequence[dict[str, Any]], tx: Tx) -> None:
            for told in page:
                self._repairs.retire_stray(tx, Stray.from_json(tx, told))

        def retire_known(page: Sequence[str], tx: Tx) -> None:
            for remote_id in page:
                if tx.uploads.by_remote(self._journal.binding.id, remote_id):
                    self._repairs.retire_stray(tx, Stray(Listed(remote_id, ""), "", Proof.NONE))

        for change, whole in (
            (adopt, strays),
            (send_again, missing),
            (retire, strays),
            (retire_known, surplus),
        ):
            for start in range(0, len(whole), PAGE):
                await self._store.write(partial(change, whole[start : start + PAGE]))


def _at(find: Callable[[Tx, int], list[Upload]], after: int, tx: Tx) -> list[Upload]:
    return find(tx, after)
