"""What an assistant is told of the mirrors: hits, texts, lists, states. Knows nothing of the protocol.

Everything is read beside whoever mirrors, as `kbsync search`, `status` and `explain` read it: no lock is
taken and nothing is written. So it makes no difference whether this process mirrors, another, or none.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kbsync import __version__
from kbsync.cli.commands.explain import explained, places_of
from kbsync.cli.context import again, existing_state, is_known, look_at, reader
from kbsync.cli.exit_codes import code_of, sentence_of
from kbsync.cli.output import counted
from kbsync.cli.report import LISTED, MirrorReport, mirror_reports
from kbsync.cli.searching import hit_json, iso_time, searched
from kbsync.config.model import Config, MirrorConfig
from kbsync.config.reader import with_secrets_of
from kbsync.contract.searching import Explains, Query, selector
from kbsync.contract.target import Target
from kbsync.core.model import Presence, Status, serving
from kbsync.engine.clock import in_own_threads
from kbsync.engine.search import FoundDocument, SearchedMirror, merge, search_mirrors, searches
from kbsync.engine.status import CREDENTIALS, Items
from kbsync.errors import Halted, NotOffered, Rejected, Unavailable, UnmadeError, UsageError
from kbsync.index.read.formats import needs_parser
from kbsync.index.read.text import parse_text
from kbsync.installation import Installation
from kbsync.source.read import read_stable
from kbsync.source.watch import LOOK_SECONDS, run_detached
from kbsync.state.files import FileRow, join, split
from kbsync.state.mirrors import MirrorRecord
from kbsync.state.read_only import Tx

if TYPE_CHECKING:
    from kbsync.engine.explain import PathExplanation

T = TypeVar("T")

LONGEST_PASSAGE = 2000
"""Characters of a passage that a search shows; `get` has the rest."""

SEARCH_SECONDS = 20.0
SEARCHES_AT_ONCE = 4
OPEN_SECONDS = 10.0
"""For a knowledge base to open; one that takes longer is there for a later call."""

MOST_LOOKED_AT = 20_000
"""Rows that one page of a list may go through."""

MOST_FOLDERS = 200
LARGEST_TEXT_FILE = 10_000_000
PASSAGES_ONLY = "this knowledge base does not give a document's whole text; `search` gives passages of it"

LASTING = (Status.HELD, Status.KEPT, Status.FAILED, Status.SKIPPED, Status.EXCLUDED)
"""States in which an older version, or a document without its file, may stay for good."""

SEARCHABLE = (Status.READY, Status.HELD, Status.KEPT)
LOOK_EVERY = 0.25
READ_SECONDS = 5.0
"""For a config to be read: it resolves paths, and a network mount may never answer."""

AWAY = Path("/")
"""The working directory of an assistant: a path is absolute, or relative to a mirror's folder."""

Tell = Callable[[int, int, str], Awaitable[None]]
"""Is told how many files are settled, of how many, and that in words."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A page of a list: at most `limit` files below the folder `below`, in one of `states`, or in any.

    `after`: the path that the page before ended with; None for the first page.
    """

    below: str = ""
    states: tuple[Status, ...] = ()
    after: str | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Wanted:
    """A document, by the `path` of its file or by its id at the target; exactly one of them is set."""

    path: str | None
    document_id: str | None


@dataclass(frozen=True, slots=True)
class Located:
    """The document that serves a file of `mirror`; `digest` and `size` are of the bytes it was made from.

    `reason`: why it is not what the file says now, '' where nothing is known of that.
    """

    mirror: MirrorConfig
    document_id: str
    path: str
    state: Status
    reason: str
    digest: str
    size: int


class Library:
    """The mirrors of an installation, with targets that stay open. Every method raises `KbsyncError`.

    `will_mirror`: this process mirrors, or is about to. `trouble`: why it cannot, '' where it does or need
    not. Used in one loop alone.
    """

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.will_mirror = False
        self.trouble = ""
        self._targets: dict[str, tuple[MirrorConfig, Target]] = {}
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._searching = asyncio.Semaphore(SEARCHES_AT_ONCE)
        self._reading: asyncio.Task[Installation] | None = None

    def turn_to(self, config: Config) -> None:
        """Answer from this config from now on."""
        self.installation = replace(self.installation, config=config)

    async def config_now(self) -> Config:
        """The config as its file and those of its keys say now. Raises `UsageError`, `OSError`."""
        if self._reading is None or self._reading.done():
            before = self.installation
            self._reading = asyncio.create_task(run_detached(lambda: again(before)))
        try:
            async with asyncio.timeout(READ_SECONDS):
                fresh = await asyncio.shield(self._reading)
        except TimeoutError as error:
            raise UsageError(
                f"{self.installation.config.path}: not read within {READ_SECONDS:g} s"
            ) from error
        if fresh.state_dir != self.installation.state_dir:
            raise UsageError("state_dir cannot change while kbsync runs; restart it")
        _ = fresh.mirrors  # raises where one that is asked for is no longer in it
        return fresh.config

    async def _has_new_secrets(self, names: Sequence[str]) -> bool:
        """Whether these mirrors, whose keys were refused, have other keys by now; they are taken then."""
        try:
            new = with_secrets_of(self.installation.config, await self.config_now(), names)
        except (UsageError, OSError):
            return False
        is_new = new != self.installation.config
        self.turn_to(new)
        return is_new

    async def aclose(self) -> None:
        """Close every target."""
        for opening in self._opening.values():
            opening.cancel()
        targets, self._targets = self._targets, {}
        for _, target in targets.values():
            await target.aclose()

    # -- search -------------------------------------------------------------------------------------------

    async def search(self, query: Query, mirror: str | None) -> dict[str, Any]:
        """The best documents of one mirror or of all, and what keeps that from being the whole truth."""
        chosen = self._narrowed(mirror)
        try:
            selector(query)
        except UsageError as error:
            raise UsageError(str(error).removeprefix("--")) from error
        try:
            async with self._searching, asyncio.timeout(SEARCH_SECONDS):
                found, silent = await self._find(chosen, replace(query, own=mirror is not None))
        except TimeoutError as error:
            raise Unavailable(f"no answer within {SEARCH_SECONDS:.0f} s; try it again") from error
        reports = await self._reports(chosen)
        return {
            "hits": await self._hits(chosen, found, {each.status.name: each for each in reports}),
            "notes": [
                *self._notes(reports),
                *(f"{name}: not searched: {why}" for name, why in silent.items()),
            ],
        }

    async def _find(
        self, chosen: Installation, query: Query
    ) -> tuple[list[FoundDocument], Mapping[str, str]]:
        """The hits, and why mirrors could not be asked, by name. One that has nothing yet has no hits."""
        silent, mirrors, refused = dict[str, str](), list[SearchedMirror](), list[str]()

        def note(names: Sequence[str], error: BaseException) -> None:
            if not isinstance(error, Exception) or code_of(error) is None:
                raise error
            if isinstance(error, Halted) and error.halt == CREDENTIALS:
                refused.extend(names)
            if not isinstance(error, UnmadeError):
                silent.update(dict.fromkeys(names, sentence_of(error)))

        def known(tx: Tx) -> list[str]:
            return [each.name for each in chosen.mirrors if tx.mirrors.named(each.name) is not None]

        recorded = await reader(chosen)(known)
        opened = await asyncio.gather(*map(self._target, chosen.mirrors), return_exceptions=True)
        for mirror, target in zip(chosen.mirrors, opened, strict=True):
            if isinstance(target, BaseException):
                note([mirror.name], target)
            # A service's base exists before anything of ours is in it: others' documents are no hits.
            elif mirror.name in recorded or target.limits.embedded:
                mirrors.append(searched(chosen, mirror, target))
        # A pattern that is absolute is compared with the real places of the folders.
        asked = await self._apart("", asyncio.to_thread(searches, mirrors, query))
        answered = list[tuple[SearchedMirror, list[FoundDocument]]]()
        searching = (self._apart(each[0][0].name, search_mirrors(*each)) for each in asked)
        answers = await asyncio.gather(*searching, return_exceptions=True)
        for (group, _), answer in zip(asked, answers, strict=True):
            if isinstance(answer, BaseException):
                note([each.name for each in group], answer)
            else:
                answered.append((group[0], answer))
        if refused and await self._has_new_secrets(refused):
            return await self._find(replace(chosen, config=self.installation.config), query)
        return merge(answered, query), silent

    async def _hits(
        self, chosen: Installation, found: Sequence[FoundDocument], reports: Mapping[str, MirrorReport]
    ) -> list[dict[str, Any]]:
        def states(tx: Tx) -> list[tuple[str | None, str]]:
            records = {name: record for name in reports if (record := tx.mirrors.named(name)) is not None}
            told = list[tuple[str | None, str]]()
            for each in found:
                record = None if each.is_foreign else records.get(each.mirror)
                if record is None or (row := tx.entries.get(record.id, each.path)) is None:
                    told.append((None, ""))
                else:
                    told.append((row.status.word, _why_old(tx, record, row)))
            return told

        hits, known = [], await reader(chosen)(states)
        for each, (state, reason) in zip(found, known, strict=True):
            whole, own = hit_json(each), None if each.is_foreign else reports.get(each.mirror)
            passages = [
                {
                    "text": passage.text[:LONGEST_PASSAGE],
                    "headings": list(passage.headings),
                    "page": passage.page,
                    "line": passage.line,
                }
                for passage in each.hit.passages
            ]
            hits.append(
                {
                    **{
                        name: whole[name]
                        for name in ("mirror", "host", "path", "document_id", "title", "score")
                    },
                    "file": str(each.absolute) if each.is_here else None,
                    "modified": whole["modified"],
                    "as_of": whole["as_of"] or (None if own is None else iso_time(_true_at(own))),
                    "state": state,
                    "reason": reason,
                    "passages": passages,
                }
            )
        return hits

    # -- one document -------------------------------------------------------------------------------------

    async def get(
        self, wanted: Wanted, mirror: str | None, *, around: str | None, offset: int, limit: int
    ) -> dict[str, Any]:
        """A piece of a document's text: `limit` characters from `offset` on, or `around` words in it."""
        chosen = self._narrowed(mirror)
        located = await self._locate(chosen, wanted)
        text = await self._text(located)
        if around is not None:
            found = _place_of(around, text)
            if found is None:
                raise UsageError("these words do not stand in the document one after the other")
            offset = max(0, found - limit // 2)
        end = min(len(text), offset + limit)
        reports = await self._reports(replace(chosen, only=(located.mirror.name,)))
        return {
            "mirror": located.mirror.name,
            "path": located.path,
            "document_id": located.document_id,
            "state": located.state.word,
            "reason": located.reason,
            "as_of": iso_time(_true_at(reports[0])),
            "text": text[offset:end],
            "offset": min(offset, len(text)),
            "total": len(text),
            "next_offset": end if end < len(text) else None,
            "notes": self._notes(reports),
        }

    async def _locate(self, chosen: Installation, wanted: Wanted) -> Located:
        if wanted.path is not None:
            path = wanted.path
            found = await self._of_each(chosen, lambda alone: _at_path(alone, path))
            if not found:
                told = await self._apart("", explained(chosen, path, AWAY, text=False))
                raise UsageError(f"there is no document of {wanted.path}. {told.answer}")
            return found[0]
        number = wanted.document_id or ""
        found = await reader(chosen)(lambda tx: list(_with_id(tx, chosen, number)))
        if len(found) > 1:
            names = ", ".join(each.mirror.name for each in found)
            raise UsageError(
                f"several mirrors have a document {number}: {names}; say which `mirror` is meant"
            )
        if not found:
            others = any(each.target.searches_all for each in chosen.mirrors)
            why = "; of those that other machines mirrored it gives the passages only" if others else ""
            raise UsageError(f"there is no document {number}; `search` gives the ids of those there are{why}")
        return found[0]

    async def _text(self, located: Located) -> str:
        """What the target made of the document; else the text of the file, as far as it is one."""
        target = await self._target(located.mirror)
        if isinstance(target, Explains):
            try:
                return (await self._apart(located.mirror.name, target.explain(located.document_id))).text
            except NotOffered:
                pass
            except Halted as error:
                name = located.mirror.name
                if error.halt != CREDENTIALS or not await self._has_new_secrets([name]):
                    raise
                [mirror] = replace(self.installation, only=(name,)).mirrors
                return await self._text(replace(located, mirror=mirror))
        if needs_parser(located.path) or located.size > LARGEST_TEXT_FILE:
            raise NotOffered(PASSAGES_ONLY)
        reading = asyncio.to_thread(_text_of_file, located)
        return await self._apart(located.mirror.name, reading)

    # -- what there is ------------------------------------------------------------------------------------

    async def listed(self, page: PageRequest, mirror: str | None) -> dict[str, Any]:
        """The mirrors, and of one of them a page of files. Files are listed where it is clear of which."""
        chosen = self._narrowed(mirror)
        reports = await self._reports(chosen)
        told: dict[str, Any] = {
            "mirrors": [_summary(each) for each in reports],
            "folders": [],
            "files": [],
            "next": None,
            "notes": self._notes(reports),
        }
        if len(reports) == 1:
            name = reports[0].status.name
            told |= await reader(chosen)(lambda tx: _files(tx, name, page))
        elif page != PageRequest(limit=page.limit):
            raise UsageError(f"several mirrors have files; say which `mirror`: {_names(chosen)}")
        return told

    async def documents(self, after: tuple[str, str], limit: int) -> list[tuple[str, FileRow]]:
        """Searchable files with their mirrors, those after this mirror and path, at most about `limit`."""

        def look(tx: Tx) -> list[tuple[str, FileRow]]:
            found, (mirror, path) = list[tuple[str, FileRow]](), after
            names = [each.name for each in self.installation.mirrors]
            for name in names[names.index(mirror) if mirror in names else 0 :]:
                if (record := tx.mirrors.named(name)) is None:
                    continue
                more: str | None = path if name == mirror else ""
                while more is not None and len(found) < limit:
                    page, more = _page(tx, record.id, PageRequest("", SEARCHABLE, more, limit))
                    found += [(name, row) for row in page]
            return found[:limit]

        return await reader(self.installation)(look)

    # -- whether it is so ---------------------------------------------------------------------------------

    async def status(self, mirror: str | None, path: str | None) -> dict[str, Any]:
        """The state of each mirror; with `path` also why that file is found, or is not."""
        chosen = self._narrowed(mirror)
        reports = await self._reports(chosen)
        why = None if path is None else (await self._explained(chosen, path)).to_json()
        return {
            "version": __version__,
            "mirrors": [
                {
                    **_summary(each),
                    "failed": [{"path": one, "reason": reason} for one, reason in each.failed[:LISTED]],
                    "held": [{"path": one, "reason": reason} for one, reason in each.held],
                }
                for each in reports
            ],
            "explanation": why,
            "notes": self._notes(reports),
        }

    async def wait(self, mirror: str | None, seconds: float, tell: Tell) -> None:
        """Wait until nothing is on its way, for so many seconds at most; 0 tells how far it is and returns.

        Returns early where a mirror is halted, or nobody works on it.
        """
        chosen = self._narrowed(mirror)
        until, last, has_moved = asyncio.get_running_loop().time() + seconds, -1, False
        while True:
            reports = await self._reports(chosen)
            waiting = sum(each.waiting for each in reports)
            moving = [each for each in reports if each.waiting or not each.has_passed]
            settled = sum(_settled(each) for each in reports)
            has_moved = has_moved or bool(moving)
            # The protocol wants each number larger than the one before.
            if has_moved and settled > last and (total := settled + waiting):
                last = settled
                await tell(
                    settled, total, f"{settled:,} of {counted(total, 'file')} are searchable or failed"
                )
            can_move = any(each.is_worked_on is not False and each.status.halt is None for each in moving)
            if not moving or not (can_move or self.will_mirror):
                return
            if asyncio.get_running_loop().time() + LOOK_EVERY > until:
                return
            await asyncio.sleep(LOOK_EVERY)

    # -- what these share ---------------------------------------------------------------------------------

    def _narrowed(self, mirror: str | None) -> Installation:
        """The installation with this mirror alone. Raises `UsageError` for one that there is not."""
        if mirror is None:
            return self.installation
        known = [each.name for each in self.installation.mirrors]
        if mirror not in known:
            raise UsageError(f"there is no mirror {mirror!r}; known are: {', '.join(known)}")
        return replace(self.installation, only=(mirror,))

    async def _explained(self, chosen: Installation, path: str) -> PathExplanation:
        found = [mirror.name for mirror in chosen.mirrors]
        if len(found) > 1:
            found = await self._of_each(chosen, lambda alone: _mirror_with(alone, path))
        chosen = replace(chosen, only=tuple(found[:1]) or chosen.only)
        return await self._apart(found[0] if found else "", explained(chosen, path, AWAY, text=False))

    async def _of_each(self, chosen: Installation, look: Callable[[Installation], list[T]]) -> list[T]:
        """What `look` finds in each mirror alone; those whose folder is silent are left out.

        Raises `Unavailable` where they are, and nothing is found in the others.
        """
        looks = {
            each.name: asyncio.create_task(
                self._apart(each.name, asyncio.to_thread(look, replace(chosen, only=(each.name,))))
            )
            for each in chosen.mirrors
        }
        try:
            await asyncio.wait(looks.values(), timeout=LOOK_SECONDS)
            found = [one for task in looks.values() if task.done() for one in task.result()]
            silent = [name for name, task in looks.items() if not task.done()]
        finally:
            for task in looks.values():
                task.cancel()
        if silent and not found:
            raise Unavailable(f"{', '.join(silent)}: the folder does not answer; try it again later")
        return found

    async def _apart(self, mirror: str, work: Awaitable[T]) -> T:
        """What `work` gives; its threads are of this mirror alone: one that is silent holds up no other."""
        return await asyncio.create_task(in_own_threads(f"answers-{mirror}", work))

    async def _target(self, mirror: MirrorConfig) -> Target:
        """Raises `Unavailable` where its place is silent."""
        while (known := self._targets.get(mirror.name)) is None or known[0] != mirror:
            opening = self._opening.get(mirror.name)
            if opening is None or opening.done():
                opening = self._opening[mirror.name] = asyncio.create_task(self._open(mirror))
                # The error of one that nobody waits for any more is no error of the program.
                opening.add_done_callback(lambda task: task.cancelled() or task.exception())
            try:
                async with asyncio.timeout(OPEN_SECONDS):
                    await asyncio.shield(opening)
            except TimeoutError as error:
                raise Unavailable(f"its knowledge base does not open in {OPEN_SECONDS:g} s") from error
        return known[1]

    async def _open(self, mirror: MirrorConfig) -> None:
        opening = asyncio.to_thread(self.installation.target, mirror, read_only=True)
        target, before = await self._apart(mirror.name, opening), self._targets.get(mirror.name)
        self._targets[mirror.name] = mirror, target
        if before is not None:
            await before[1].aclose()

    async def _reports(self, chosen: Installation) -> list[MirrorReport]:
        return await asyncio.to_thread(mirror_reports, chosen)

    def _notes(self, reports: Sequence[MirrorReport]) -> list[str]:
        """What an answer lacks, or may lack; [] where all is searchable and somebody keeps watch."""
        return [f"{each.status.name}: {said}" for each in reports for said in self._lacks(each)]

    def _lacks(self, report: MirrorReport) -> Iterator[str]:
        status, documents = report.status, report.status.documents
        if status.halt is not None:
            yield f"halted: {status.halt.detail}; cure: {status.halt.cure}"
        watched = self.will_mirror or not report.is_unattended
        if not report.has_passed and watched:
            total = documents.ready + report.waiting
            so_far = f"; searchable so far: {documents.ready:,} of {counted(total, 'file')}" if total else ""
            yield f"the first pass is under way{so_far}"
        elif report.waiting:
            are = "is" if report.waiting == 1 else "are"
            yield f"{counted(report.waiting, 'file')} {are} not indexed yet"
        if documents.failed:
            yield f"{counted(documents.failed, 'file')} failed; `status` says why"
        if not watched:
            since = iso_time(status.last_pass)
            known = f"changes since {since} are not known" if since else "nothing was mirrored yet"
            cure = f"to follow it: {self.installation.cure('')}"
            what = f"this one cannot: {self.trouble}" if self.trouble else cure
            yield f"no kbsync works on it; {known}; {what}"
        if status.note:
            yield status.note


def _true_at(report: MirrorReport) -> float | None:
    """As of when what is searchable is what the folder holds, but for what the notes say; epoch seconds."""
    is_watched = report.is_worked_on and report.has_passed and report.status.halt is None
    return report.at if is_watched else report.status.last_pass


def _settled(report: MirrorReport) -> int:
    documents = report.status.documents
    return documents.ready + documents.failed + documents.held


def _summary(report: MirrorReport) -> dict[str, Any]:
    """As in `status --json`, with the moment for which it is true and whether a kbsync works on it."""
    told = report.status.to_json()
    told.pop("note", None)
    return {**told, "as_of": iso_time(_true_at(report)), "watched": report.is_worked_on}


def _names(chosen: Installation) -> str:
    return ", ".join(each.name for each in chosen.mirrors)


def _at(tx: Tx, chosen: Installation, name: str, path: str) -> Located | None:
    """The document that serves a file."""
    record = tx.mirrors.named(name)
    if record is None or record.binding is None:
        return None
    server, entry = serving(tx.uploads.at(record.id, record.binding, path)), tx.entries.get(record.id, path)
    if server is None or server.remote_id is None or entry is None:
        return None
    mirror = next(each for each in chosen.mirrors if each.name == name)
    why = _why_old(tx, record, entry)
    return Located(mirror, server.remote_id, path, entry.status, why, server.digest, server.size)


def _why_old(tx: Tx, record: MirrorRecord, entry: FileRow) -> str:
    """Why what is found of a file is not what it says now; '' where it is."""
    why = ""
    match entry.status:
        case Status.READY:
            return ""
        case Status.PENDING | Status.INDEXING:
            why = "the file is gone" if entry.presence is Presence.GONE else "the file has changed since"
        case Status.EXCLUDED | Status.SKIPPED:
            why = "the file is not mirrored any more"
    return "; ".join(filter(None, [why, Items(tx, record, record.halt).of(entry).reason]))


def _at_path(chosen: Installation, path: str) -> list[Located]:
    """The documents of the files that may be meant by `path`. Looks at the disk."""
    with closing(existing_state(chosen)) as state:
        found = list[Located]()
        for name, below in places_of(chosen, state, path, AWAY):
            located = state.read(lambda tx: _at(tx, chosen, name, below))  # noqa: B023 (read at once)
            found += [] if located is None else [located]
        return found


def _mirror_with(alone: Installation, path: str) -> list[str]:
    """The name of the one mirror if something lies at `path` in it, or is known to. Looks at the disk."""
    [mirror] = alone.mirrors

    def known(tx: Tx) -> bool:
        record = tx.mirrors.named(mirror.name)
        return record is not None and any(is_known(tx, record.id, below) for _, below in places)

    with closing(look_at(alone)) as state:
        places = places_of(alone, state, path, AWAY)
        is_there = any(os.path.lexists(mirror.folder / below) for _, below in places)
        return [mirror.name] if is_there or state.read(known) else []


def _with_id(tx: Tx, chosen: Installation, remote_id: str) -> Iterator[Located]:
    """The documents that have this id, at most one of each mirror."""
    for mirror in chosen.mirrors:
        record = tx.mirrors.named(mirror.name)
        if record is not None and record.binding is not None:
            rows = tx.uploads.by_remote(record.binding, remote_id)
            paths = (row.path for row in rows if row.path is not None and row.mirror == record.id)
            located = (_at(tx, chosen, mirror.name, path) for path in paths)
            yield from [each for each in located if each is not None and each.document_id == remote_id][:1]


def _files(tx: Tx, name: str, page: PageRequest) -> dict[str, Any]:
    """A page of files, and the folders directly below the one that is listed."""
    record = tx.mirrors.named(name)
    if record is None:
        return {}
    if page.below and tx.folders.get(record.id, page.below) is None:
        raise UsageError(f"{name} has no folder {page.below}")
    rows, more = _page(tx, record.id, page)
    items = Items(tx, record, record.halt)
    folders = sorted(join(page.below, each.path) for each in tx.folders.below(record.id, page.below))
    return {
        "folders": folders[:MOST_FOLDERS],
        "files": [
            {**items.of(row).to_json(), "modified": iso_time(row.stamp.mtime_ns / 1e9)} for row in rows
        ],
        "next": more,
    }


def _page(tx: Tx, mirror: int, page: PageRequest) -> tuple[list[FileRow], str | None]:
    """The files, and the path after which the next page begins; None where there is none."""
    # In the order of the rows, other folders may stand between a folder and those in it: a, a-b, a/c.
    beyond = os.fsencode(page.below) + b"0"
    rows, looked = list[FileRow](), 0
    after = page.after if page.after is not None else (f"{page.below}/" if page.below else "")
    while True:
        batch = tx.entries.page(mirror, after, page.limit)
        for row in batch:
            folder = split(row.path)[0]
            if page.below and folder != page.below and not folder.startswith(f"{page.below}/"):
                if os.fsencode(folder) >= beyond:
                    return rows, None
                continue
            if not page.states or row.status in page.states:
                rows.append(row)
                if len(rows) == page.limit:
                    return rows, row.path
        looked += len(batch)
        if len(batch) < page.limit:
            return rows, None
        after = batch[-1].path
        if looked >= MOST_LOOKED_AT:
            return rows, after


def _place_of(words: str, text: str) -> int | None:
    """Where these words stand in the text, however they are spaced there; None where they do not."""
    # A passage is long, and its beginning is enough.
    wanted = words.split()[:12]
    found = re.search(r"\s+".join(map(re.escape, wanted)), text) if wanted else None
    return None if found is None else found.start()


def _text_of_file(located: Located) -> str:
    """The text of the file whose bytes were mirrored. Raises `Rejected` where it has changed, or has none."""
    folder, path = Path(os.path.realpath(located.mirror.folder)), located.path
    content = read_stable(folder, path, located.digest, located.size)
    if isinstance(content, bytes):
        return parse_text(path, content).text
    why = located.reason or "it is not what was mirrored, or cannot be read"
    if located.state in LASTING:
        raise NotOffered(f"{path}: {why}; {PASSAGES_ONLY}")
    raise Rejected(f"{path}: {why}; ask again in a moment")
