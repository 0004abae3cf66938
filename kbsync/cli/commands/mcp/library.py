"""Provides the data that an assistant can read: hits, texts, lists and states. It doesn't depend on the
protocol.

Like `kbsync search`, `status` and `explain`, it takes no lock and writes nothing. It therefore works the same
way whether this process, another one or none is mirroring.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kbsync import __version__
from kbsync.cli.commands.explain import explain_file
from kbsync.cli.commands.mcp.documents import (
    AWAY,
    Located,
    PageRequest,
    documents_at,
    documents_with,
    folder_page,
    mirror_with,
    searchable_files,
)
from kbsync.cli.commands.mcp.open_mirrors import query_folders, run_each
from kbsync.cli.commands.mcp.unseen import has_unseen_changes
from kbsync.cli.context import reader
from kbsync.cli.report import MAX_HELD, MirrorReport, mirror_reports
from kbsync.contract.searching import Query, SupportsExplain
from kbsync.core.model import Status
from kbsync.core.text import format_count, unescape_path
from kbsync.engine.status import CREDENTIALS
from kbsync.errors import Halted, NotOffered, Rejected, Unavailable, UsageError
from kbsync.index.read.formats import needs_parser
from kbsync.index.read.text import parse_text
from kbsync.installation import Installation
from kbsync.search import OpenMirrors, SearchReply, find_passage, iso_time, notes_on, search
from kbsync.source.read import read_stable
from kbsync.state.files import FileRow
from kbsync.threads import in_mirror_threads, searches_first

if TYPE_CHECKING:
    from kbsync.engine.explain import PathExplanation

T = TypeVar("T")

SEARCH_SECONDS = 20.0
SEARCHES_AT_ONCE = 4
MAX_TEXT_FILE_BYTES = 10_000_000
PASSAGES_ONLY = "this knowledge base can't return a document's whole text; use `search` for passages from it"

STATUS_HINT = "the tool `status` says why"
"""Where an assistant can find out why files failed."""

LASTING = (Status.HELD, Status.KEPT, Status.FAILED, Status.SKIPPED, Status.EXCLUDED)
"""States in which an old version of a file, or the document of a deleted file, may stay searchable
indefinitely.
"""

POLL_SECONDS = 0.25

SCAN_PAUSE = 4.0
"""The pause between comparisons of a folder, as a multiple of one comparison's duration."""

ReportProgress = Callable[[int, int, str], Awaitable[None]]
"""Called with the number of finished files, the total number, and a message that contains both."""


class Library:
    """An assistant's view of the mirrors.

    Every method may raise `KbsyncError`. Use it from a single event loop.
    """

    def __init__(self, open_mirrors: OpenMirrors) -> None:
        self.open_mirrors = open_mirrors
        self._searching = asyncio.Semaphore(SEARCHES_AT_ONCE)
        # Compare a folder only once at a time, regardless of the number of waiting clients.
        self._comparing = defaultdict[str, asyncio.Lock](asyncio.Lock)

    # -- search -------------------------------------------------------------------------------------------

    async def search(self, query: Query, mirror: str | None) -> SearchReply:
        """Return the best documents of one or all mirrors, with notes on results that may be missing."""
        only = [named.name for named in self.open_mirrors.installation.narrow(mirror).mirrors]
        try:
            async with self._searching, asyncio.timeout(SEARCH_SECONDS):
                with searches_first.search():
                    return await search(
                        self.open_mirrors, replace(query, own=mirror is not None), only, soon=True
                    )
        except TimeoutError as error:
            raise Unavailable(f"no response within {SEARCH_SECONDS:.0f} s; try again") from error

    # -- one document -------------------------------------------------------------------------------------

    async def get(
        self,
        *,
        mirror: str | None = None,
        path: str | None = None,
        document_id: str | None = None,
        around: str | None = None,
        offset: int,
        limit: int,
    ) -> dict[str, Any]:
        """Return part of a document's text: `limit` characters from `offset`, or the text `around` some
        words.

        The document is identified by the `path` of its file or by its id at the target.
        """
        chosen = self.open_mirrors.installation.narrow(mirror)
        if path is not None:
            path = await _path_shown_as(path, chosen)
            matches = await query_folders(chosen, lambda alone: documents_at(alone, path))
            if not matches:
                explanation = await in_mirror_threads("", explain_file(chosen, path, AWAY, text=False))
                raise UsageError(f"{path} has no document. {explanation.answer}")
            subject = path
        else:
            matches = await reader(chosen)(lambda tx: list(documents_with(tx, chosen, document_id or "")))
            if not matches:
                reason = f"there is no document {document_id}; use an id from the results of `search`"
                if any(mirror.target.searches_all for mirror in chosen.mirrors):
                    reason += ". Documents from other machines are available only as passages"
                raise UsageError(reason)
            subject = f"a document {document_id}"
        document = _only_match(matches, subject, [match.mirror.name for match in matches])
        text = await self._text(document)
        if around is not None:
            span = find_passage(around, text)
            if span is None:
                raise UsageError("that text isn't in the document")
            offset = max(0, span[0] - limit // 2)
        end = min(len(text), offset + limit)
        reports = await self._reports(chosen.narrow(document.mirror.name))
        return {
            "mirror": document.mirror.name,
            "path": document.path,
            "document_id": document.document_id,
            "state": document.state.word,
            "reason": document.reason,
            "as_of": iso_time(reports[0].as_of),
            "text": text[offset:end],
            "offset": min(offset, len(text)),
            "total": len(text),
            "next_offset": end if end < len(text) else None,
            "notes": self._notes(reports),
        }

    async def _text(self, located: Located) -> str:
        """Return the text that the target extracted or, if there is none, the text of the file.

        In the second case, the file must be a text file whose bytes haven't changed since they were
        mirrored. Raises `Rejected` if it has changed or has no text.
        """
        name, path = located.mirror.name, located.path
        async with self.open_mirrors.target(located.mirror) as target:
            try:
                if isinstance(target, SupportsExplain):
                    return (await in_mirror_threads(name, target.explain(located.document_id))).text
            except NotOffered:
                pass
            except Halted as error:
                if error.halt != CREDENTIALS or not await self.open_mirrors.reload_secrets([name]):
                    raise
                return await self._text(replace(located, mirror=self.open_mirrors.installation.mirror(name)))
        if needs_parser(path) or located.size > MAX_TEXT_FILE_BYTES:
            raise NotOffered(PASSAGES_ONLY)

        def read_file() -> str | None:
            folder = Path(os.path.realpath(located.mirror.folder))
            content = read_stable(folder, path, located.digest, located.size)
            return parse_text(path, content).text if isinstance(content, bytes) else None

        text = await in_mirror_threads(name, asyncio.to_thread(read_file))
        if text is not None:
            return text
        why = located.reason or "the file has changed since it was mirrored, or can't be read"
        if located.state in LASTING:
            raise NotOffered(f"{path}: {why}; {PASSAGES_ONLY}")
        raise Rejected(f"{path}: {why}; try again in a moment")

    # -- lists ------------------------------------------------------------------------------------

    async def list_files(self, page: PageRequest, mirror: str | None) -> dict[str, Any]:
        """Return the mirrors, and a page of one mirror's files.

        The files are listed only if it is clear which mirror is meant.
        """
        chosen = self.open_mirrors.installation.narrow(mirror)
        page = replace(page, below=await _path_shown_as(page.below, chosen))
        reports = await self._reports(chosen)
        response: dict[str, Any] = {
            "mirrors": [_summary(report) for report in reports],
            "folders": [],
            "files": [],
            "next": None,
            "notes": self._notes(reports),
        }
        if len(reports) == 1:
            name = reports[0].status.name
            content = await reader(chosen)(lambda tx: folder_page(tx, name, page))
            response |= {**content, "notes": [*response["notes"], *content.get("notes", ())]}
        elif page != PageRequest(limit=page.limit):
            names = ", ".join(mirror.name for mirror in chosen.mirrors)
            raise UsageError(f"there are several mirrors; set `mirror` to one of them: {names}")
        return response

    async def documents(self, after: tuple[str, str], limit: int) -> list[tuple[str, FileRow]]:
        """Return at most `limit` searchable files with their mirrors, starting after this mirror and path."""
        installation = self.open_mirrors.installation
        names = [mirror.name for mirror in installation.mirrors]
        return await reader(installation)(lambda tx: searchable_files(tx, names, after, limit))

    # -- freshness ---------------------------------------------------------------------------------

    async def status(self, mirror: str | None, path: str | None) -> dict[str, Any]:
        """Return the state of each mirror.

        With `path`, also explain why a search does or doesn't find that file.
        """
        chosen = self.open_mirrors.installation.narrow(mirror)
        reports = await self._reports(chosen)
        why = None
        if path is not None:
            why = (await self._explain(chosen, await _path_shown_as(path, chosen))).to_json()
        notes = self._notes(reports, "listed below")
        for report in reports:
            name, documents = report.status.name, report.status.documents
            failed = Status.FAILED, min(MAX_HELD, len(report.failed)), documents.failed
            for state, listed_count, total in (failed, (Status.HELD, len(report.held), documents.held)):
                if listed_count < total:
                    list_call = f"use `list` with `state: {state.word}` to see all of them"
                    notes.append(
                        f"{name}: only {listed_count:,} of {total:,} {state.word} files listed; {list_call}"
                    )
        return {
            "version": __version__,
            "mirrors": [
                {
                    **_summary(report),
                    "failed": [{"path": path, "reason": reason} for path, reason in report.failed[:MAX_HELD]],
                    "held": [{"path": path, "reason": reason} for path, reason in report.held],
                }
                for report in reports
            ],
            "explanation": why,
            "notes": notes,
        }

    async def wait(self, mirror: str | None, seconds: float, report_progress: ReportProgress) -> list[str]:
        """Wait at most `seconds` for all files that are now in the folders to be indexed. Return notes on
        gaps.

        This doesn't wait for mirrors that are paused or halted, or that no kbsync process is working on. With
        0 seconds, it reports the progress and returns.
        """
        chosen, clock = self.open_mirrors.installation.narrow(mirror), asyncio.get_running_loop().time
        until, last, has_progressed, is_compared = clock() + seconds, -1, False, False
        while True:
            reports = await self._reports(chosen)
            waiting = sum(report.waiting for report in reports)
            # Held documents don't block the others.
            attended = [
                report
                for report in reports
                if (report.status.halt is None or report.is_held)
                and report.status.pause is None
                and (self.open_mirrors.will_mirror or not report.is_unattended)
            ]
            in_progress = [report for report in attended if report.waiting or not report.has_passed]
            counts = [report.status.documents for report in reports]
            finished = sum(count.ready + count.failed + count.held for count in counts)
            has_progressed = has_progressed or bool(in_progress)
            # The protocol requires each number to be larger than the previous one.
            if has_progressed and finished > last and (total := finished + waiting):
                last = finished
                message = f"{finished:,} of {format_count(total, 'file')} are searchable or have failed"
                await report_progress(finished, total, message)
            pause, unseen = POLL_SECONDS, list[str]()
            if not in_progress:
                # An event takes up to a second to arrive, and a file counts as pending only after it has been
                # unchanged for a while.
                if is_compared or not seconds:
                    return []
                began = clock()
                unseen = await self._find_unseen(chosen, attended, until - began)
                # Files added meanwhile may still be in progress, so reread the rows.
                is_compared, has_progressed = not unseen, has_progressed or bool(unseen)
                pause = max(POLL_SECONDS, SCAN_PAUSE * (clock() - began)) if unseen else 0.0
            if clock() + pause > until:
                return [f"{name}: recent changes in the folder may not be indexed yet" for name in unseen]
            await asyncio.sleep(pause)

    async def _find_unseen(
        self, chosen: Installation, reports: Sequence[MirrorReport], seconds: float
    ) -> list[str]:
        """Return the mirrors whose folders have changes that aren't in the state, or whose folders take
        too long to compare.
        """
        is_over = threading.Event()

        async def compare(name: str) -> bool:
            async with self._comparing[name]:
                return await asyncio.to_thread(has_unseen_changes, chosen.narrow(name), is_over.is_set)

        names = [report.status.name for report in reports]
        try:
            results = await run_each({name: compare(name) for name in names}, max(0.0, seconds))
            return [name for name in names if results.get(name, True)]
        finally:
            is_over.set()

    # -- shared parts ---------------------------------------------------------------------------------

    async def _explain(self, chosen: Installation, path: str) -> PathExplanation:
        names = [mirror.name for mirror in chosen.mirrors]
        if len(names) > 1:
            names = await query_folders(chosen, lambda alone: mirror_with(alone, path))
            names = [_only_match(names, path, names)] if names else []
        chosen, name = replace(chosen, only=tuple(names) or chosen.only), names[0] if names else ""
        return await in_mirror_threads(name, explain_file(chosen, path, AWAY, text=False))

    async def _reports(self, chosen: Installation) -> list[MirrorReport]:
        return await asyncio.to_thread(mirror_reports, chosen)

    def _notes(self, reports: Sequence[MirrorReport], hint: str = STATUS_HINT) -> list[str]:
        """Return notes on gaps in a response. The list is empty if everything is searchable and kbsync is
        watching the folders.

        `hint`: where to find the reasons for failed files.
        """
        return [note.line(hint) for note in notes_on(reports, self.open_mirrors)]


def _summary(report: MirrorReport) -> dict[str, Any]:
    """Return the mirror in the format of `status --json`, with the time of its status, and whether kbsync
    is running for the mirror.
    """
    fields = report.status.to_json()
    fields.pop("note", None)
    return {**fields, "as_of": iso_time(report.as_of), "watched": report.is_worked_on}


async def _path_shown_as(text: str, chosen: Installation) -> str:
    """Return the path in a mirror that a response shows as `text`, because some characters can't be shown.

    Return `text` itself if it is such a path, or if there is none.
    """
    path = unescape_path(text)
    if path == text or await query_folders(chosen, lambda alone: mirror_with(alone, text)):
        return text
    return path if await query_folders(chosen, lambda alone: mirror_with(alone, path)) else text


def _only_match(matches: Sequence[T], subject: str, mirrors: Sequence[str]) -> T:
    """Return the only match. Raises `UsageError` if several of the `mirrors` have a match."""
    if len(matches) > 1:
        names = ", ".join(mirrors)
        raise UsageError(f"several mirrors have {subject}: {names}; set `mirror` to one of them")
    return matches[0]
