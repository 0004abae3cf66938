"""Searches for uploads whose answer was lost: one complete list serves all of them.

A few are queried by name first, if the target can do that: a list of thousands takes minutes and many
requests. If that finds all of them, they are decided; only the complete list proves that one is absent.

If the target keeps our marker, the marker decides. Elsewhere a document belongs to an upload if it has the
name that was sent (as far as the service kept it), the length of the bytes, is not older than the request, as
far as its time is evidence (`Journal.trusts_times`), and no other upload holds it. If the name does not prove
the content, the document is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from kbsync.contract.target import Finds, Listed, Reads, Target
from kbsync.core.links import is_address, same_address
from kbsync.core.model import LOOKED_FOR, Upload, UploadState
from kbsync.core.text import extension_of
from kbsync.engine.journal import Journal
from kbsync.engine.settings import Binding
from kbsync.errors import TargetError
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore

MOST = 10_000

FEW = 5
"""The most uploads to query by name; for more, a list needs fewer requests."""


@dataclass(frozen=True, slots=True)
class FoundUpload:
    """A row and its listed document; None if a complete list did not have it.

    `doubt`: a document that may be it, if nothing in the list can prove it.
    """

    row: Upload
    listed: Listed | None
    doubt: Listed | None = None


async def look_for(
    store: StateStore,
    journal: Journal,
    target: Target,
    unsure: Sequence[Upload],
    on_answer: Callable[[], None],
) -> list[FoundUpload]:
    """Search for every unsure row, and every lost or deleted one that a later list may decide.

    If all of `unsure` are found by name, it returns only those: nothing was read about the others.
    `on_answer` is called while the list arrives: that may take minutes without other requests.
    Raises `TargetError` when the list is incomplete.
    """
    binding = journal.binding
    named = await _found_by_name(store, journal, target, unsure)
    if named is not None:
        return named
    past = await store.read(
        lambda tx: tx.uploads.in_states(binding.mirror, binding.id, LOOKED_FOR, limit=MOST)
    )
    numbers = {row.id for row in past}
    rows = [*past, *(row for row in unsure if row.id not in numbers)]
    matcher = _ListMatcher(binding, rows, journal.trusts_times)
    # An incomplete list raises: only a complete one proves absence (promise 3).
    async for listed in target.list():
        on_answer()
        matcher.see(listed)
    found = await _matched(store, binding, target, matcher)
    pages = await store.read(lambda tx: _pages(tx, matcher.pages, found))
    return [pages.get(row.id) or FoundUpload(row, found.get(row.id)) for row in rows]


async def _found_by_name(
    store: StateStore, journal: Journal, target: Target, rows: Sequence[Upload]
) -> list[FoundUpload] | None:
    """All of the rows, each with its document; None if one of them is not found by name."""
    binding = journal.binding
    if not isinstance(target, Finds) or binding.limits.marks or len(rows) > FEW:
        return None
    if any(row.state is not UploadState.UNSURE or is_address(row.name) for row in rows):
        return None  # if a lost or deleted row is due, the list is read for all of them
    matcher = _ListMatcher(binding, rows, journal.trusts_times)
    try:
        for row in rows:
            for listed in await target.find(row.name):
                matcher.see(listed)
    except TargetError:
        return None  # the query by name failed: the whole list decides, or reports the error
    found = await _matched(store, binding, target, matcher)
    return [FoundUpload(row, found[row.id]) for row in rows] if len(found) == len(rows) else None


CLOCK_SLACK = 240.0
"""The most seconds the clocks of target and machine may differ after correction."""

LATE = 900.0
"""Seconds after a request within which its document may have been created."""

EARLIEST, LATEST = 5.0, 120.0
"""Seconds around a request: a web page with its address created in between belongs to it."""


@dataclass(slots=True)
class Page:
    """The upload of a link file whose outcome is open, and the documents that are or may be it.

    A list has no name of ours for a web page. The proof is its address, if the list has it, and the creation
    time of the document: between the request and a while after it. Without both it stays a doubt: it may be
    ours, or a colleague's. A document created at another time, or a file by its name, is no doubt.

    `trusts_times`: another creation time disproves it; otherwise a time can only confirm.
    """

    binding: Binding
    row: Upload
    trusts_times: bool
    seen: list[Listed] = field(default_factory=list)
    doubts: list[Listed] = field(default_factory=list)

    def see(self, listed: Listed) -> None:
        """Match one document of the list."""
        # Another page by its address, or a file: one of ours, or one that the address does not end in.
        if is_address(listed.name):
            is_other = not same_address(self.row.name, listed.name)
        elif (
            self.binding.settings.names == "tagged"
            and self.binding.naming.read_mangled(listed.name) is not None
        ):
            is_other = True
        else:
            last = unquote(urlsplit(self.row.name).path.rpartition("/")[2])
            files = self.binding.limits.extensions - self.binding.limits.links
            is_other = extension_of(listed.name) in files and listed.name != last
        if is_other:
            return
        is_of_moment = False
        if listed.created is not None and self.row.sent_at is not None:
            after = listed.created - self.row.sent_at
            if self.trusts_times and not -CLOCK_SLACK <= after <= LATE:
                return  # it was created at another time
            is_of_moment = -EARLIEST <= after <= LATEST
        is_same = any(same_address(self.row.name, one) for one in listed.addresses)
        (self.seen if is_same and is_of_moment else self.doubts).append(listed)


Key = tuple[object, ...]


@dataclass(slots=True)
class _ListMatcher:
    """Matches listed documents to rows. `pages`: rows whose documents have no name of ours."""

    binding: Binding
    rows: Sequence[Upload]
    trusts_times: bool
    pages: list[Page] = field(default_factory=list)
    deleted: dict[int, Listed] = field(default_factory=dict)
    _tombstones: dict[str | None, Upload] = field(default_factory=dict)
    _wanted: dict[Key, list[Upload]] = field(default_factory=lambda: defaultdict(list))
    _seen: dict[int, list[Listed]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for row in self.rows:
            if row.state is UploadState.TOMBSTONE:
                self._tombstones[row.remote_id] = row
            elif is_address(row.name) and not self.binding.limits.marks:
                self.pages.append(Page(self.binding, row, self.trusts_times))
            else:
                key = self._key(row.name, row.id)
                self._wanted[(*key, row.size)].append(row)
                self._wanted[(*key, None)].append(row)  # for a list without lengths

    def _key(self, name: str, number: int | None) -> Key:
        return (number,) if self.binding.limits.marks else (self.binding.naming.key(name),)

    def see(self, listed: Listed) -> None:
        """Match one document of the list."""
        tombstone = self._tombstones.get(listed.remote_id)
        if tombstone is not None:  # its id decides, whatever its listed name
            self.deleted[tombstone.id] = listed
            return
        for page in self.pages:
            page.see(listed)
        for row in self._wanted.get((*self._key(listed.name, listed.upload_id), listed.size), ()):
            if self._may_be(row, listed):
                self._seen[row.id].append(listed)

    def _may_be(self, row: Upload, listed: Listed) -> bool:
        if self.binding.limits.marks:
            return listed.digest in (None, row.digest)
        is_older = (
            self.trusts_times
            and listed.created is not None
            and row.sent_at is not None
            and listed.created < row.sent_at - CLOCK_SLACK
        )
        return not is_older and self.binding.naming.recognises(row.name, listed.name)

    def candidates(self) -> Iterable[tuple[Upload, list[Listed]]]:
        """Rows with their possible documents, the newest first."""
        for row in self.rows:
            if seen := self._seen.get(row.id):
                yield row, sorted(seen, key=lambda listed: -(listed.created or 0.0))


def _pages(tx: Tx, pages: Sequence[Page], taken: Mapping[int, Listed]) -> dict[int, FoundUpload]:
    """The web pages in the list, each document assigned to at most one row."""
    others = {listed.remote_id for listed in taken.values()}
    sightings = {}
    for page in pages:
        # A document that another row holds, in any base, belongs to that row.
        free = [one for one in page.seen if not tx.uploads.holders(one.remote_id)]
        doubts = [one for one in page.doubts if not tx.uploads.holders(one.remote_id)]
        mine = next((one for one in free if one.remote_id not in others), None)
        if mine is not None:
            others.add(mine.remote_id)
        sightings[page.row.id] = FoundUpload(page.row, mine, doubts[0] if doubts and mine is None else None)
    return sightings


async def _matched(
    store: StateStore, binding: Binding, target: Target, matcher: _ListMatcher
) -> dict[int, Listed]:
    """The documents of rows, each assigned to at most one, the newest match first."""
    found = dict(matcher.deleted)
    # The marker, or the tag in the name, proves the content; otherwise the bytes do, if available.
    is_proven = binding.limits.marks or binding.settings.names == "tagged"
    for row, candidates in matcher.candidates():
        for listed in candidates:
            remote_id = listed.remote_id
            if any(remote_id == other.remote_id for other in found.values()):
                continue
            if listed.upload_id != row.id:  # it lacks our mark: another row may hold it
                known = await store.read(lambda tx: tx.uploads.by_remote(binding.id, remote_id))  # noqa: B023
                if binding.limits.ids_return:  # a finished row holds nothing
                    known = [other for other in known if not other.state.is_final]
                if any(other.id != row.id for other in known):
                    continue
            if is_proven or not isinstance(target, Reads):
                found[row.id] = listed
                break
            if await target.digest(remote_id) in (None, row.digest):
                found[row.id] = listed
                break
    return found
