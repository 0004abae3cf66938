"""Looking for uploads whose answer was lost: one complete list serves all of them.

A few are asked for by name first, where the target can do that: a list of thousands takes minutes and many
requests. If all are found that way, they are settled; that one is not there takes the complete list.

Where the target keeps our marker, the marker tells. Elsewhere a document is an upload's if its name is the
one that was sent (as far as the service left it alone), its length is that of the bytes, it is not older
than the request, as far as its time is evidence (`Journal.trusts_times`), and no other upload holds it.
Where the name does not prove the content, the document is read.
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
"""So many are asked for by name; more are found by a list in fewer requests."""


@dataclass(frozen=True, slots=True)
class FoundUpload:
    """A row and the listed document that is it; None when a complete list did not have it.

    `doubt`: a document that may be it, where the list shows nothing that could prove it.
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
    """Every unsure row, and every lost or deleted one that a later list may tell more about.

    Those that are found by name, where all of `unsure` are: nothing was seen then that tells of the others.
    `on_answer` is called while the list comes in: it may take minutes, in which nothing else is asked.
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
    # A list that breaks off raises: absence is only ever told by a complete one (promise 3).
    async for listed in target.list():
        on_answer()
        matcher.see(listed)
    found = await _matched(store, binding, target, matcher)
    pages = await store.read(lambda tx: _pages(tx, matcher.pages, found))
    return [pages.get(row.id) or FoundUpload(row, found.get(row.id)) for row in rows]


async def _found_by_name(
    store: StateStore, journal: Journal, target: Target, rows: Sequence[Upload]
) -> list[FoundUpload] | None:
    """All of the rows, each with its document; None where one of them is not found that way."""
    binding = journal.binding
    if not isinstance(target, Finds) or binding.limits.marks or len(rows) > FEW:
        return None
    if any(row.state is not UploadState.UNSURE or is_address(row.name) for row in rows):
        return None  # where one that was lost or deleted is due, the list is read for all of these
    matcher = _ListMatcher(binding, rows, journal.trusts_times)
    try:
        for row in rows:
            for listed in await target.find(row.name):
                matcher.see(listed)
    except TargetError:
        return None  # the short cut fails now: the whole list tells, or says what is wrong
    found = await _matched(store, binding, target, matcher)
    return [FoundUpload(row, found[row.id]) for row in rows] if len(found) == len(rows) else None


CLOCK_SLACK = 240.0
"""Seconds by which the clocks of the target and this machine may differ after correction, at the most."""

LATE = 900.0
"""Seconds after a request within which its document may have been made."""

EARLIEST, LATEST = 5.0, 120.0
"""Seconds before and after a request: a page of its address that was made in between is its own."""


@dataclass(slots=True)
class Page:
    """The upload of a link file whose outcome is open, and the documents that are or may be it.

    A list has no name of ours for a page. What proves it is its address, where the list tells one, together
    with the moment when the document was made: between the request and a while after it. Without both it
    stays a doubt: it may be ours, or a colleague's. A document that was made at another time, or is a file by
    its name, is no doubt.

    `trusts_times`: that a document was made at another time disproves it; else such a time may only confirm.
    """

    binding: Binding
    row: Upload
    trusts_times: bool
    seen: list[Listed] = field(default_factory=list)
    doubts: list[Listed] = field(default_factory=list)

    def see(self, listed: Listed) -> None:
        """One document of the list."""
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
                return  # it was made at another time
            is_of_moment = -EARLIEST <= after <= LATEST
        is_same = any(same_address(self.row.name, one) for one in listed.addresses)
        (self.seen if is_same and is_of_moment else self.doubts).append(listed)


Key = tuple[object, ...]


@dataclass(slots=True)
class _ListMatcher:
    """Sorts listed documents to the rows they may be. `pages`: rows whose documents have no name of ours."""

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
                self._wanted[(*key, None)].append(row)  # for a list that tells no length

    def _key(self, name: str, number: int | None) -> Key:
        return (number,) if self.binding.limits.marks else (self.binding.naming.key(name),)

    def see(self, listed: Listed) -> None:
        """One document of the list."""
        tombstone = self._tombstones.get(listed.remote_id)
        if tombstone is not None:  # its id tells, whatever name it is listed under
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
        """Rows with the documents they may be, the newest first."""
        for row in self.rows:
            if seen := self._seen.get(row.id):
                yield row, sorted(seen, key=lambda listed: -(listed.created or 0.0))


def _pages(tx: Tx, pages: Sequence[Page], taken: Mapping[int, Listed]) -> dict[int, FoundUpload]:
    """What the list showed of pages, each document given to one of them at most."""
    others = {listed.remote_id for listed in taken.values()}
    sightings = {}
    for page in pages:
        # A document that another row holds, in whatever base, is that row's.
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
    """The documents of rows, each given to one of them at most, the newest that is one's first."""
    found = dict(matcher.deleted)
    # The marker, or the tag in the name, proves the content; else the bytes do, where they can be had.
    is_proven = binding.limits.marks or binding.settings.names == "tagged"
    for row, candidates in matcher.candidates():
        for listed in candidates:
            remote_id = listed.remote_id
            if any(remote_id == other.remote_id for other in found.values()):
                continue
            if listed.upload_id != row.id:  # it does not carry our mark: another row may hold it
                known = await store.read(lambda tx: tx.uploads.by_remote(binding.id, remote_id))  # noqa: B023
                if binding.limits.ids_return:  # what is over holds nothing
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
