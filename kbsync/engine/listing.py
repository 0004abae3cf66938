"""Determines the owner of a listed document: reads the target's list and compares it with the rows of the
state.

`identify` is pure, and is the only function that compares the names, tags, lengths, times and marks of listed
documents. The caller acts on the result: adopts a document, resolves an open upload, reports or repairs.

If the target keeps our mark, the mark decides. Otherwise a document belongs to an upload if it has the name
that was sent (as far as the service kept it) and the length of the bytes, is not older than the request (if
its time is evidence), and no other upload holds it.
"""

from __future__ import annotations

import asyncio
import enum
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from kbsync.contract.target import DocState, DocStatus, Listed, Target
from kbsync.core.lifecycle import RETIRE_TRIES
from kbsync.core.links import is_address, same_address
from kbsync.core.model import OUTCOME_OPEN, SERVING, UNANSWERED, Upload, UploadState
from kbsync.core.names import Naming, tag_of
from kbsync.core.planner import digests_match
from kbsync.core.text import extension_of
from kbsync.dataclass import dataclass
from kbsync.engine.journal import AGREE
from kbsync.engine.settings import Binding
from kbsync.state.files import FileRow
from kbsync.state.mirrors import BindingFact
from kbsync.state.read_only import SnapshotReader, Tx

PAGE = 200
MAX_OPEN_UPLOADS = 10_000
UNKNOWN = DocStatus(DocState.UNKNOWN)

CLOCK_SLACK = 240.0
"""Maximum number of seconds by which the target's and the machine's clocks may differ after correction."""

MAX_CREATION_DELAY = 900.0
"""Maximum number of seconds between a request and the creation of its document."""

MAX_PAGE_LEAD, MAX_PAGE_DELAY = 5.0, 120.0
"""Maximum number of seconds between a request and the creation of the web page that belongs to it."""


class Whose(enum.Enum):
    """Who owns a document, and the proof. kbsync doesn't touch documents that aren't proven to be ours
    (promise 6).
    """

    ROW = enum.auto()  # ours: an upload of this mirror that needs the document has its id
    OPEN = enum.auto()  # ours: it is, or may be, the document of an upload whose outcome is awaited
    OURS_UNNEEDED = enum.auto()  # ours, but not needed; proven by id, mark, lost upload's name or base
    PATH = enum.auto()  # may be ours: its mark or its name has a path of this mirror
    OTHERS = enum.auto()  # it belongs to another mirror of this state
    FOREIGN = enum.auto()


@dataclass(frozen=True, slots=True)
class Claim:
    """A listed document and its owner.

    `listed` includes its path and the known facts about its bytes: from its row, its mark or its name. `row`:
    the upload that has its id or whose mark it has. `uploads`: the open uploads that it may belong to.
    `doubts`: uploads of web pages that it may belong to, although nothing in the list proves it. `reported`:
    what the list itself says about a document whose id `row` has.
    """

    whose: Whose
    listed: Listed
    row: Upload | None = None
    uploads: tuple[Upload, ...] = ()
    doubts: tuple[Upload, ...] = ()
    reported: Listed | None = None

    @property
    def remote_id(self) -> str:
        """The document's id at the target."""
        return self.listed.remote_id

    @property
    def path(self) -> str:
        """The document's path; '' if it has none."""
        return self.listed.path or ""

    @property
    def digest(self) -> str:
        """The known part of the digest of the document's bytes, as in `Upload`."""
        return self.listed.digest or ""

    @property
    def is_new(self) -> bool:
        """Whether the document belongs to no row and no open upload, but is or may be ours."""
        row = self.row
        is_known = row is not None and row.remote_id == self.remote_id and not row.state.is_final
        return not is_known and not self.uploads and self.whose in (Whose.OURS_UNNEEDED, Whose.PATH)

    @property
    def is_overtaken(self) -> bool:
        """Whether the document is searchable according to our state, but its bytes have changed since."""
        serves = self.row is not None and self.row.state.serves
        reported = self.reported
        if not serves or reported is None or reported.state in (DocState.FAILED, DocState.MISSING):
            return False
        return self.row is not None and reported.digest not in (None, self.row.digest)

    @property
    def moved_to(self) -> str | None:
        """The path of a serving document on the target, if our state has a different path."""
        row, path = self.row, None if self.reported is None else self.reported.path
        if row is None or not row.state.serves:
            return None
        # Without a label, it is to be renamed anyway.
        return path if path != (row.label or row.path) else None

    def to_json(self) -> dict[str, Any]:
        """Return the claim as JSON for the inbox message `repair`."""
        upload = None if self.row is None else self.row.id
        fields = {name: getattr(self.listed, name) for name in _LISTED}
        is_ready = self.listed.state is DocState.READY
        return {**fields, "digest": self.digest, "upload": upload, "is_ready": is_ready}

    @staticmethod
    def problem_of_json(fields: Mapping[str, Any]) -> str:
        """Return why these fields can't have come from `to_json`, or '' if they can."""
        wrong = [name for name in _TEXTS if not isinstance(fields.get(name), str)]
        for name in ("size", "upload"):
            value = fields.get(name)
            if value is not None and (type(value) is not int or abs(value) >= 2**63):  # as SQLite stores it
                wrong.append(name)
        wrong += [] if isinstance(fields.get("recipe"), str | None) else ["recipe"]
        return f"no usable {' and no '.join(wrong)} in a document to delete" if wrong else ""

    @staticmethod
    def from_json(tx: Tx, fields: Mapping[str, Any]) -> Claim:
        """Return the claim in a `repair` message, along with its current row."""
        values: dict[str, Any] = {name: fields.get(name) for name in _LISTED}
        state = DocState.READY if fields.get("is_ready") else DocState.UNKNOWN
        number = fields.get("upload")
        row = None if number is None else tx.uploads.get(number)
        return Claim(Whose.PATH, Listed(**values, state=state), row)


_TEXTS = ("remote_id", "name", "digest", "path")
_LISTED = (*_TEXTS, "size", "recipe")
"""Fields of `Listed` in a `repair` message."""


def identify(
    binding: Binding,
    listed: Listed,
    holders: Iterable[Upload] = (),
    candidates: Iterable[Upload] = (),
    *,
    trusts_times: bool = False,
) -> Claim:
    """Return the document's owner.

    `holders`: the uploads of this base that have the document's id, newest first. `candidates`: the open
    uploads of this mirror and, if the target keeps marks, the upload whose mark the document has.
    `trusts_times`: whether the document's time can disprove that it belongs to an upload. If not, a time can
    only confirm it.
    """
    candidates = list(candidates)
    if binding.limits.embedded:
        # All documents of the base are this mirror's now. In a base restored from a backup, a document that
        # was gone may have its former path, and a new document the id of one that is gone.
        candidates = [row for row in candidates if not row.state.is_final]
        holders = [row for row in holders if _is_mine(binding, row) and not row.state.is_final]
    # If there are several, choose the one that needs it most.
    holder = max(holders, key=lambda row: (_needs_document(row), _is_mine(binding, row)), default=None)
    if candidates or holder is None:
        listed = binding.read(listed)
    fits = [(row, _fit(binding, row, listed, trusts_times)) for row in candidates]
    fitting = tuple(row for row, fit in fits if fit)
    uploads = tuple(row for row in fitting if row.state in OUTCOME_OPEN)
    # A document updated in place has the id of its predecessor.
    if uploads and (binding.limits.marks or holder is None or _may_be_of_an_upload(binding, holder, uploads)):
        if not proves_content(binding) or any(row.state in UNANSWERED for row in uploads):
            return Claim(Whose.OPEN, listed, uploads=uploads)
        return Claim(Whose.OURS_UNNEEDED, _at_path_of(uploads[0], listed), uploads[0], uploads)
    if holder is not None:
        return _claim_of_holder(binding, holder, listed)
    if fitting and binding.limits.marks:
        return Claim(Whose.OURS_UNNEEDED, _at_path_of(fitting[0], listed), fitting[0])
    doubts = tuple(row for row, fit in fits if fit is False)
    return Claim(Whose.FOREIGN if listed.path is None else _whose_by_path(binding), listed, doubts=doubts)


def _may_be_of_an_upload(binding: Binding, holder: Upload, uploads: Iterable[Upload]) -> bool:
    """Return whether a document with the holder's id may belong to one of the uploads instead."""
    if holder.state.is_final and binding.limits.ids_return:
        return True
    # Another mirror read a different path from the name, so the file at that path proves nothing.
    is_misread = _is_unproven(holder) and not _is_mine(binding, holder)
    return is_misread and all(holder.path not in (row.path, row.label) for row in uploads)


def _claim_of_holder(binding: Binding, holder: Upload, listed: Listed) -> Claim:
    """Return who owns the document of an upload that has its id (`holder`)."""
    if not _is_mine(binding, holder):
        return Claim(Whose.OTHERS, listed, holder)
    digest, size = holder.digest or listed.digest, holder.size or listed.size
    listed_at_path = replace(_at_path_of(holder, listed), digest=digest, size=size)
    if _is_unproven(holder):
        return Claim(_whose_by_path(binding), listed_at_path, holder)
    whose = Whose.ROW if _needs_document(holder) else Whose.OURS_UNNEEDED
    return Claim(whose, listed_at_path, holder, reported=listed if binding.limits.marks else None)


def _is_unproven(row: Upload) -> bool:
    """Return whether only a name says that the upload's document is ours."""
    return row.state is UploadState.ADOPTING and not row.is_marked


def _whose_by_path(binding: Binding) -> Whose:
    """Return the owner of a document that has one of this mirror's paths, but no row or mark that proves
    whose it is.
    """
    return Whose.OURS_UNNEEDED if binding.limits.embedded else Whose.PATH


def _at_path_of(row: Upload, listed: Listed) -> Listed:
    return replace(listed, path=row.path)


def proves_content(binding: Binding) -> bool:
    """Return whether a mark or a name proves a document's bytes. If not, kbsync has to read the document."""
    return binding.limits.marks or binding.settings.names == "tagged"


def _is_mine(binding: Binding, row: Upload) -> bool:
    return (row.mirror, row.binding) == (binding.mirror, binding.id)


def _needs_document(row: Upload) -> bool:
    """Return whether the row still needs its document or hasn't finished deleting it."""
    match row.state:
        case UploadState.RETIRING:
            return row.attempts < RETIRE_TRIES
        case UploadState.ADOPTING | UploadState.TOMBSTONE | UploadState.PRESUMED_LOST:
            return False
        case _:
            return not row.state.is_final


def is_tagged(row: Upload) -> bool:
    """Return whether the upload's name contains the tag of its bytes."""
    return Naming().key(row.name) == tag_of(row.digest)


def sent_by_other(binding: Binding, listed: Listed, tx: Tx) -> Upload | None:
    """Return another mirror's upload that got no response but provably created the document, or None."""
    if binding.limits.marks:
        return None
    return next(
        (
            row
            for row in tx.uploads.open_in_base(binding.id, listed.name)
            if not _is_mine(binding, row) and listed.size in (None, row.size) and is_tagged(row)
        ),
        None,
    )


def was_sent_by_kbsync(binding: Binding, listed: Listed) -> bool:
    """Return whether the document has kbsync's mark or, at a target without marks, one of our tags.

    If its bytes are known, the tag must match them.
    """
    if binding.limits.marks:
        return listed.upload_id is not None
    tag = binding.read(listed).digest
    return bool(tag) and digests_match(tag or "", None, listed.digest or "", 0)


def has_bytes(entry: FileRow, listed: Listed) -> bool:
    """Return whether a file and a document have the same bytes, as far as is known."""
    # Without a length a tag alone proves nothing.
    listed_bytes, digest = (listed.digest or "", listed.size or 0), entry.digest
    return digest is not None and digests_match(*listed_bytes, digest, entry.stamp.size)


def _fit(binding: Binding, row: Upload, listed: Listed, trusts_times: bool) -> bool | None:
    """Return whether the document belongs to this upload.

    True means that this is proven, False that it is possible, and None that the document doesn't belong to
    it.
    """
    if binding.limits.marks:
        is_same = listed.digest in (None, row.digest) and listed.size in (None, row.size)
        return True if listed.upload_id == row.id and _is_mine(binding, row) and is_same else None
    after = None if listed.created is None or row.sent_at is None else listed.created - row.sent_at
    is_older = trusts_times and after is not None and after < -CLOCK_SLACK
    if is_address(row.name):
        return None if is_older else _fit_page(binding, row.name, listed, after, trusts_times)
    is_same = listed.size in (None, row.size) and binding.naming.recognizes(row.name, listed.name)
    return True if is_same and not is_older else None


def _fit_page(
    binding: Binding, address: str, listed: Listed, after: float | None, trusts_times: bool
) -> bool | None:
    """Like `_fit`, but for a link file's web page, created `after` seconds after the request.

    A list doesn't have our names for web pages. The proof is the page's address, if the list has it, and a
    creation time between the request and a while after it. Without both, the page stays in doubt: it may be
    ours or a colleague's. A document created at a different time, or one whose name shows that it is a file,
    is not in doubt.
    """
    if is_address(listed.name):
        is_other = not same_address(address, listed.name)
    elif binding.settings.names == "tagged" and listed.digest is not None:  # listed under one of our names
        is_other = True
    else:
        last = unquote(urlsplit(address).path.rpartition("/")[2])
        files = binding.limits.extensions - binding.limits.links
        is_other = extension_of(listed.name) in files and listed.name != last
    if is_other or (trusts_times and after is not None and after > MAX_CREATION_DELAY):
        return None
    is_of_moment = after is not None and -MAX_PAGE_LEAD <= after <= MAX_PAGE_DELAY
    return is_of_moment and any(same_address(address, other_address) for other_address in listed.addresses)


def identify_all(binding: Binding, batch: Sequence[Listed], tx: Tx) -> list[Claim]:
    """Return the owners of these documents according to the current state."""
    uploads, naming, marks = tx.uploads, binding.naming, binding.limits.marks
    # No service documents the times in its ids, so `Journal` compares them with the clock.
    trusts_times = tx.meta.get(BindingFact.TIMES, binding.id) == AGREE
    files, web_pages = defaultdict[tuple[str, int | None], list[Upload]](list), list[Upload]()
    for row in (
        [] if marks else uploads.in_states(binding.mirror, binding.id, OUTCOME_OPEN, limit=MAX_OPEN_UPLOADS)
    ):
        if is_address(row.name):
            web_pages.append(row)
        else:
            for size in (row.size, None):  # some lists have no lengths
                files[naming.key(row.name), size].append(row)

    def candidates(listed: Listed) -> Sequence[Upload]:
        if marks:
            marked = None if listed.upload_id is None else uploads.get(listed.upload_id)
            return [] if marked is None else [marked]
        return [*files.get((naming.key(listed.name), listed.size), ()), *web_pages]

    return [
        identify(
            binding,
            listed,
            uploads.holders(binding.id, listed.remote_id),
            candidates(listed),
            trusts_times=trusts_times,
        )
        for listed in batch
    ]


async def read_list(
    binding: Binding, target: Target, read: SnapshotReader, on_answer: Callable[[], None] = lambda: None
) -> AsyncIterator[list[Claim]]:
    """Yield the whole list in batches. Raises `TargetError` if it is incomplete.

    `on_answer` is called as each batch arrives, because reading a list may take minutes without any other
    request.
    """
    long_paths: Mapping[str, str] | None = None
    async for batch in _batches(target, on_answer):
        claims = await read(partial(identify_all, binding, batch))
        for index, claim in enumerate(claims):
            if claim.whose is Whose.FOREIGN and (short := binding.short_of(claim.listed)):
                if long_paths is None:
                    long_paths = await asyncio.to_thread(_long_paths, binding)
                if (path := long_paths.get(short)) is not None:
                    claims[index] = replace(claim, whose=Whose.PATH, listed=replace(claim.listed, path=path))
        yield claims


async def _batches(target: Target, on_answer: Callable[[], None]) -> AsyncIterator[list[Listed]]:
    batch: list[Listed] = []
    async for listed in target.list():
        on_answer()
        batch.append(listed)
        if len(batch) == PAGE:
            yield batch
            batch = []
    if batch:
        yield batch


async def uploads_in(
    binding: Binding, read: SnapshotReader, states: Collection[UploadState], size: int = PAGE
) -> AsyncIterator[list[Upload]]:
    """Yield all uploads of this mirror that are in these states, in batches of at most `size`."""
    after = 0

    def batch(tx: Tx) -> list[Upload]:
        return tx.uploads.in_states(binding.mirror, binding.id, states, after, size)

    while rows := await read(batch):
        after = rows[-1].id
        yield rows


async def unlisted(
    binding: Binding, read: SnapshotReader, listed: Collection[str], before: float
) -> AsyncIterator[list[Upload]]:
    """Yield the serving uploads whose ids aren't `listed`, in batches, except for those created after
    `before`.
    """
    async for rows in uploads_in(binding, read, SERVING):
        # Documents that were created while the list was being read may be missing from it.
        old = (row for row in rows if max(row.created_at, row.accepted_at or 0.0) <= before)
        if unlisted_rows := [row for row in old if row.remote_id not in listed]:
            yield unlisted_rows


async def find_missing(target: Target, read: SnapshotReader, rows: Sequence[Upload]) -> list[Upload]:
    """Return the uploads that are searchable according to our state but missing according to the target."""
    present_ids = await find_present(target, [row.remote_id or "" for row in rows])

    def serves(tx: Tx, row: Upload) -> bool:
        current = tx.uploads.get(row.id, *SERVING)
        return current is not None and current.remote_id == row.remote_id

    return await read(
        lambda tx: [row for row in rows if row.remote_id not in present_ids and serves(tx, row)]
    )


async def find_present(target: Target, ids: Sequence[str]) -> set[str]:
    """Return the ids that the target doesn't report as missing."""
    if not ids:
        return set()
    statuses = dict(await target.status(ids))
    unknown = [remote_id for remote_id in ids if statuses.get(remote_id, UNKNOWN).state is DocState.UNKNOWN]
    # A target may omit a few until the next request. If it omits all of them, they count as present: only a
    # clear response counts as missing.
    if unknown and len(unknown) < len(ids):
        statuses |= await target.status(unknown)
    return {remote_id for remote_id in ids if statuses.get(remote_id, UNKNOWN).state is not DocState.MISSING}


def _long_paths(binding: Binding) -> dict[str, str]:
    """Return the folder's paths that are too long for a name, keyed by the hash that replaces the path in the
    document's name.
    """
    root = os.fspath(binding.settings.root)
    paths: dict[str, str] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), root)
            if short := binding.naming.short_of(path):
                paths[short] = path
    return paths
