"""Carries out the requests of other commands while this process holds the lock: approve, retry, repair,
audit, rescan.

A command leaves a message in the state and wakes the process that holds the lock. That process carries out
the message in batches of documents, one transaction each; the last one also removes the message. After a
crash in the middle, part of the work is repeated, which is harmless.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import field
from functools import partial
from typing import Any, TypeVar

from kbsync.core import lifecycle
from kbsync.core.links import is_link
from kbsync.core.model import Upload, UploadState
from kbsync.core.text import printable
from kbsync.dataclass import dataclass
from kbsync.engine import status
from kbsync.engine.audit import Repairs
from kbsync.engine.clock import Clock, log_bug
from kbsync.engine.journal import Journal
from kbsync.engine.listing import Claim
from kbsync.errors import StateError
from kbsync.state.approvals import RENEWALS
from kbsync.state.files import folder_label, split
from kbsync.state.history import HistoryEvent
from kbsync.state.inbox import Message
from kbsync.state.mirrors import MirrorFact
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore

T = TypeVar("T")

PAGE = 500
"""Number of documents in one transaction."""


class MalformedMessage(ValueError):
    """Raised for a message that no command would write. kbsync ignores such messages."""


@dataclass(slots=True)
class InboxResult:
    """What the run has to do next: check files again, check whether a halt is over, start an audit, or
    compare the whole folder.

    `dropped`: messages that kbsync couldn't carry out, each with the reason.
    """

    recheck: set[str] = field(default_factory=set)
    resumed: bool = False
    audits: bool = False
    rescans: bool = False
    dropped: list[tuple[Message, str]] = field(default_factory=list)


class Inbox:
    """The messages for one mirror. `configured` returns the names of all mirrors in the config."""

    def __init__(
        self,
        store: StateStore,
        journal: Journal,
        clock: Clock,
        configured: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._configured = configured
        self._repairs = Repairs(journal)

    async def carry_out(self, may_begin: Callable[[], Awaitable[bool]] | None = None) -> InboxResult:
        """Carry out all messages, oldest first.

        If there are any, `may_begin` is called first; if it returns False, the messages are kept. A message
        that can't be carried out is dropped, because it would make every later pass fail, too. The user can
        repeat the request. A malformed message is ignored.
        """
        name = self._journal.binding.settings.name
        messages, unknown = await self._store.read(
            lambda tx: (tx.inbox.waiting(name), tx.inbox.find_unknown([name, *self._configured()]))
        )
        result = InboxResult()
        if messages and may_begin is not None and not await may_begin():
            return result
        for message in messages:
            try:
                await self._carry_out(message, result)
            except StateError:
                raise  # the message itself is valid
            except MalformedMessage as error:
                result.dropped.append((message, str(error)))
            except Exception as error:
                words = log_bug("message.failed", error, mirror=name, verb=message.verb)
                result.dropped.append((message, words))
        result.dropped += [(message, "no mirror has this name") for message in unknown]
        if dropped := [message.id for message, _ in result.dropped]:
            await self._store.write(lambda tx: tx.inbox.done(*dropped))
        return result

    async def _carry_out(self, message: Message, result: InboxResult) -> None:
        refuse_malformed(message)
        match message.verb:
            case "retry":
                paths = message.args.get("paths")
                await self._retry(paths)
                # Recheck unreadable files and directories: all, or those at these paths.
                mirror = self._journal.binding.mirror
                folders = await self._store.read(lambda tx: tx.folders.problems(mirror))
                unread = {folder.path for folder in folders if not folder.is_excluded}
                after = (0, "")
                while rows := await self._store.read(lambda tx: tx.entries.unread(mirror, after, PAGE)):  # noqa: B023
                    after = rows[-1][0]
                    unread.update(path for _, path in rows)
                result.recheck |= unread if paths is None else unread & set(paths)
            case "repair":
                await self._repair(message)
        await self._store.write(partial(self._finish, message, result))

    def _finish(self, message: Message, result: InboxResult, tx: Tx) -> None:
        match message.verb:
            case "approve":
                # A listing of the directory above shows whether it still exists.
                result.recheck.update(split(path)[0] for path in _paths(message.args, "folders"))
                self._approve(tx, message.args)
            case "retry":
                result.resumed = True
            case "repair":
                result.recheck.update(message.args.get("stale", ()))
                # The audited base may be a deleted one that this run still has open; a rescan notices that.
                result.rescans |= not self._is_about_base(message)
                status.clear_last_audit(tx, self._journal.binding.mirror)
            case "audit":
                tx.meta.set(MirrorFact.AUDIT_REQUEST, self._journal.binding.mirror, str(message.id))
                result.audits = True
            case "rescan":
                result.rescans = True
        tx.inbox.done(message.id)

    def _approve(self, tx: Tx, args: Mapping[str, Any]) -> None:
        mirror, now = self._journal.binding.mirror, self._clock.wall()
        numbers, by = _holds(args), str(args.get("by", ""))
        if args.get("root"):
            tx.history.add(mirror, now, HistoryEvent.APPROVED, reason="the folder as it is now", by=by)
        for path in _paths(args, "folders"):
            reason = "the directory as it is now"
            tx.history.add(mirror, now, HistoryEvent.APPROVED, folder_label(path), reason=reason, by=by)
            tx.folders.allow_unmounting(mirror, path)
        for hold in [*tx.holds.current(mirror), *tx.holds.current(mirror, RENEWALS)]:
            if hold.id in numbers and hold.approved_at is None:
                paths = [removal.path for removal in tx.removals.page(hold, held=True)]
                for path in paths or [""]:
                    tx.history.add(mirror, now, HistoryEvent.APPROVED, path, reason=hold.detail, by=by)
        for number in numbers:
            tx.holds.approve(number, now)

    async def _retry(self, paths: Collection[str] | None) -> None:
        """Allow failed documents to be retried, either all of them or those at these paths."""
        binding = self._journal.binding
        links = [path for path in paths or () if is_link(path)]
        requested = None if paths is None else frozenset(paths)

        def fetch_again(tx: Tx) -> None:
            # A web page changes without its link file, so `retry` of that file requests the current page.
            # Without a digest the document is sent again, as after an edit.
            for path in links:
                for upload in self._journal.uploads(tx, path):
                    if upload.state is UploadState.SERVING:
                        tx.uploads.set_content(upload.id, digest="")
                        self._journal.decide(tx, path, fresh=True)

        if links:
            await self._store.write(fetch_again)

        def release(rows: Sequence[Upload], tx: Tx) -> None:
            for upload in rows:
                tx.uploads.save(lifecycle.retire(upload, self._journal.timing))
                self._journal.decide(tx, upload.path, fresh=True)

        def forgive(rows: Sequence[Upload], tx: Tx) -> None:
            for upload in rows:
                tx.uploads.save(lifecycle.forgive(upload))

        def failed(after: int, tx: Tx) -> list[Upload]:
            return tx.uploads.in_states(binding.mirror, binding.id, (UploadState.FAILED,), after, PAGE)

        def failed_before(after: int, tx: Tx) -> list[Upload]:
            return tx.uploads.failed_before(binding.mirror, binding.id, after, PAGE)

        # Documents in progress get their tries back, too. They may have had the same problem, and could
        # otherwise fail as soon as the problem is over.
        for find, change in ((failed, release), (failed_before, forgive)):
            after, last = 0, await self._store.read(lambda tx: tx.uploads.highest())
            while after < last and (rows := await self._store.read(partial(find, after))):
                after = rows[-1].id
                matching = [
                    row for row in rows if row.id <= last and (requested is None or row.path in requested)
                ]
                await self._store.write(partial(change, matching))

    async def _repair(self, message: Message) -> None:
        """Send `missing` documents again, and delete `strays`.

        If a stray is a copy of a missing document, it takes that document's place and nothing is sent. In a
        base other than the audited one, the same ids may refer to other documents.
        """
        if not self._is_about_base(message):
            return
        missing, strays = message.args.get("missing", ()), message.args.get("strays", ())

        def adopt(batch: Sequence[dict[str, Any]], tx: Tx) -> None:
            for fields in batch:
                self._repairs.adopt(tx, Claim.from_json(tx, fields), frozenset(missing))

        def send_again(batch: Sequence[str], tx: Tx) -> None:
            for remote_id in batch:
                self._repairs.send_again(tx, remote_id)

        def retire(batch: Sequence[dict[str, Any]], tx: Tx) -> None:
            for fields in batch:
                self._repairs.retire_stray(tx, Claim.from_json(tx, fields))

        for change, items in ((adopt, strays), (send_again, missing), (retire, strays)):
            for start in range(0, len(items), PAGE):
                await self._store.write(partial(change, items[start : start + PAGE]))

    def _is_about_base(self, message: Message) -> bool:
        base = self._journal.binding.base
        return bool(message.args.get("base", base) == base)


def _list(args: Mapping[str, Any], name: str, kind: type[T]) -> list[T]:
    values = args.get(name, [])
    # In Python, True is a number.
    if not isinstance(values, list) or any(not isinstance(v, kind) or isinstance(v, bool) for v in values):
        raise MalformedMessage(f"`{name}` is not a list of {_KINDS[kind]}")
    return values


_KINDS: Mapping[type, str] = {int: "numbers", str: "texts", dict: "objects"}


def _holds(args: Mapping[str, Any]) -> list[int]:
    numbers = _list(args, "holds", int)
    if not all(0 <= number < 2**63 for number in numbers):
        raise MalformedMessage("`holds` contains a number that is not a valid row id")
    return numbers


def _paths(args: Mapping[str, Any], name: str) -> list[str]:
    """Return the paths after checking that each is relative to the mirror's folder and inside it."""
    paths = _list(args, name, str)
    for path in paths:
        try:
            encoded = os.fsencode(path)
        except UnicodeEncodeError as error:
            raise MalformedMessage(f"`{name}` contains a path that no file can have") from error
        if b"\0" in encoded or path.startswith("/") or ".." in path.split("/"):
            raise MalformedMessage(f"`{name}` contains a path outside the folder: {printable(path)}")
    return paths


def refuse_malformed(message: Message) -> None:
    """Raise `MalformedMessage` for a message that no kbsync command writes."""
    args = message.args
    if message.problem:
        raise MalformedMessage(message.problem)
    match message.verb:
        case "approve":
            _holds(args)
            _paths(args, "folders")
            if not isinstance(args.get("by", ""), str):
                raise MalformedMessage("`by` is not a string")
        case "retry":
            if args.get("paths") is not None:
                _paths(args, "paths")
        case "repair":
            if not isinstance(args.get("base", ""), str):
                raise MalformedMessage("`base` is not a string")
            _list(args, "missing", str)
            _paths(args, "stale")
            for fields in _list(args, "strays", dict):
                if problem := Claim.problem_of_json(fields):
                    raise MalformedMessage(problem)
        case "audit" | "rescan":
            pass
        case _:
            raise MalformedMessage(f"{printable(message.verb)!r} is not a known request")
