"""Searches all mirrors of an installation, for `search` and `ask`, and prints the hits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from kbsync.cli.context import not_yet, read_state, reader, unmade
from kbsync.cli.exit_codes import ORDER, code_of, concerning
from kbsync.cli.output import Output, cells
from kbsync.config.model import MirrorConfig
from kbsync.contract.searching import Query
from kbsync.contract.target import Target
from kbsync.core.text import format_count, printable
from kbsync.engine.search import FoundDocument, Unmatched, find_unmatched
from kbsync.engine.status import clock_time, iso
from kbsync.errors import UsageError
from kbsync.freshness import Freshness, freshness_reader
from kbsync.index.snippet import plain_heading, snippet, without_markup
from kbsync.installation import Installation
from kbsync.search import SearchReply, filters_in_words, notes_on, open_all, search, why_lines
from kbsync.state.read_only import SnapshotReader
from kbsync.threads import in_thread, run_coroutine, run_here

if TYPE_CHECKING:
    from kbsync.contract.searching import Passage


class CommandMirrors:
    """The targets that a command uses. Each is opened on first use and closed at the end."""

    will_mirror, obstacle = False, ""

    def __init__(self, installation: Installation, write_time: Callable[[float], str] = clock_time) -> None:
        self.installation, self.write_time = installation, write_time
        self._targets: dict[str, Target] = {}
        self._closing = AsyncExitStack()

    async def __aenter__(self) -> CommandMirrors:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._closing.aclose()

    @property
    def read(self) -> SnapshotReader:
        """Read the state."""
        return reader(self.installation)

    @asynccontextmanager
    async def target(self, mirror: MirrorConfig) -> AsyncIterator[Target]:
        """Yield the mirror's target. Raises `KbsyncError`."""
        if mirror.name not in self._targets:
            target = await in_thread(self.installation.target, mirror, read_only=True)
            self._targets[mirror.name] = await self._closing.enter_async_context(aclosing(target))
        yield self._targets[mirror.name]

    async def reload_secrets(self, _names: Collection[str]) -> bool:
        """Keep the current keys, because the command has just read them."""
        return False

    async def search(self, query: Query, *, images: bool = False) -> SearchReply:
        """Search all mirrors and return their combined reply, with notes on the mirrors that couldn't be
        searched.

        If none could be searched, raises `MirrorError` for the worst error, or `UsageError` if no mirror has
        had a pass.
        """
        reply = await search(self, query, images=images)
        self._refuse(reply.freshness, reply.errors, reply.answered)
        return reply

    async def open(self) -> None:
        """Open all targets. Raises the same errors as a search."""
        installation = self.installation
        read = freshness_reader(installation, installation.mirrors)
        async with AsyncExitStack() as stack:
            searched, errors = await open_all(self, installation.mirrors, stack)
        self._refuse(await self.read(read), errors, searched)

    def _refuse(
        self, fresh: Sequence[Freshness], errors: Mapping[str, Exception], answered: Collection[object]
    ) -> None:
        if answered:
            return  # notes name the others
        passed = {report.status.name for report in fresh if report.has_passed}
        failures = [
            (name, e) for name, e in errors.items() if name in passed or not isinstance(e, UsageError)
        ]
        if not failures:
            raise not_yet(self.installation)
        name, error = min(failures, key=lambda failure: ORDER.index(code_of(failure[1])))
        with concerning(name), unmade(self.installation.narrow(name)):
            raise error


def search_once(installation: Installation, query: Query, *, images: bool, as_json: bool) -> SearchReply:
    """Search all mirrors once and return the reply. The targets are closed afterwards."""

    async def run() -> SearchReply:
        async with CommandMirrors(installation, iso if as_json else clock_time) as mirrors:
            return await mirrors.search(query, images=images)

    if [mirror.target.type for mirror in installation.mirrors] == ["local"]:
        return run_here(run())
    return run_coroutine(run())


def search_notes(installation: Installation) -> list[str]:
    """Return notes on gaps in a search of these mirrors, or [] if there are none."""
    read = freshness_reader(installation, installation.mirrors, check_folders=True)
    notes = notes_on(read_state(installation, read), CommandMirrors(installation))
    return [note.line() for note in notes if not note.is_minor]


def unmatched_options(installation: Installation, query: Query) -> list[str]:
    """Return which of the options `--path`, `--type` and `--after`, as typed, match no document in any
    mirror.

    If the search also covered documents of other hosts, return none of them, because the state doesn't have
    those documents.
    """
    if not query.own and any(mirror.target.searches_all for mirror in installation.mirrors):
        return []
    folders = {mirror.name: mirror.folder for mirror in installation.mirrors}
    return options_in_words(query, read_state(installation, lambda tx: find_unmatched(tx, folders, query)))


def options_in_words(query: Query, unmatched: Unmatched) -> list[str]:
    """Return the options that match no document, as typed.

    If each option matches something on its own, return all of them together.
    """

    def write_date(moment: float) -> str:
        # A local date, with the time unless it is midnight, as `--after` reads it.
        return datetime.fromtimestamp(moment).isoformat(timespec="seconds").removesuffix("T00:00:00")

    unmatched_filters = filters_in_words(query, unmatched, write_date)
    return [" ".join(f"--{name} {value}" for name, value in filters) for filters in unmatched_filters]


LINES = 2
INDENT = "    "


def print_hits(
    output: Output, hits: Sequence[FoundDocument], query: str, *, several: bool, explain: bool
) -> None:
    """Print each document with its best passage, best first.

    `several`: more than one mirror was searched, so each hit shows its mirror's name. `explain`: also print
    why each document was found.
    """
    for number, document in enumerate(hits):
        if number:
            output.line()
        output.line(_heading(output, document, several))
        if document.is_gone:
            output.line(INDENT + output.dim(printable(document.reason)))
        if document.hit.passages:
            output.lines(INDENT + line for line in excerpt(output, document, query))
            if images := document.hit.passages[0].images:
                output.line(INDENT + output.dim(f"{format_count(len(images), 'image')}; see --json"))
        if explain:
            output.lines(INDENT + output.dim(line) for line in why_lines(document))


def _heading(output: Output, document: FoundDocument, several: bool) -> str:
    """Return the path, headings, position and score.

    For a document from another machine, also return its mirror and time.
    """
    path = output.bold(printable(document.path))
    if document.can_be_opened:
        path = output.link(path, document.absolute)
    parts = [
        output.dim(f"{printable(document.mirror_label)}: ") + path if several or document.is_foreign else path
    ]
    passage = document.hit.passages[0] if document.hit.passages else None
    if trail := heading_trail(document, passage):
        parts.append(printable(trail))
    if passage is not None and passage.page is not None:
        parts.append(f"p. {passage.page}")
    elif passage is not None and passage.line is not None:
        parts.append(f"line {passage.line}")
    return "  ".join([*parts, output.dim(f"{document.hit.score:.2f}"), *map(output.dim, as_of(document))])


def as_of(document: FoundDocument) -> list[str]:
    """Return a note on how old a document from another machine may be, or [] for one from this machine."""
    if document.is_here or document.as_of is None:
        return []
    try:
        return [f"as of {clock_time(document.as_of)}"]
    except (ValueError, OverflowError, OSError):
        return []  # that machine's clock is wrong


def heading_trail(document: FoundDocument, passage: Passage | None) -> str:
    """Return the headings above a passage or, if there are none, the document's title.

    Return "" if there is neither.
    """
    headings = passage.headings if passage else ()
    trail = " › ".join(plain_heading(heading, document.path) for heading in headings)
    return trail or plain_heading(document.hit.title or "", document.path)


def excerpt(
    output: Output, document: FoundDocument, query: str, *, unfinished: bool = False
) -> Iterator[str]:
    """Yield the snippet of the best passage on at most two lines, with matching words in bold.

    `unfinished`: the user is still typing the query.
    """
    room = max(20, output.columns - len(INDENT) - 1)
    passage = document.hit.passages[0]
    text = without_markup(passage.text, document.path, passage.headings or [document.hit.title or ""])
    excerpt_of = partial(snippet, printable(" ".join(text.split())), query, unfinished=unfinished)
    fitted = excerpt_of(LINES * room - 6)
    if (width := cells(fitted.text)) > LINES * room - 6:
        # Wide characters occupy two cells.
        fitted = excerpt_of((LINES * room - 6) * len(fitted.text) // width)
    for start, end in _break_lines(fitted.text, room):
        parts, position = list[str](), start
        for left, right in fitted.spans:
            left, right = max(left, start), min(right, end)
            if left < right:
                parts += [fitted.text[position:left], output.bold(fitted.text[left:right])]
                position = right
        line = "".join([*parts, fitted.text[position:end]])
        before = "…" if start == 0 and fitted.starts_late else ""
        yield before + line + ("…" if end == len(fitted.text) and fitted.ends_early else "")


def _break_lines(text: str, room: int) -> list[tuple[int, int]]:
    """Return the start and the end of each line. Lines break at spaces where possible."""
    lines, start = list[tuple[int, int]](), 0
    while start < len(text) and len(lines) < LINES:
        end, width = start, 0
        while end < len(text) and (width := width + cells(text[end])) <= room:
            end += 1
        if end < len(text) and (space := text.rfind(" ", start, end + 1)) > start + (end - start) // 2:
            end = space
        lines.append((start, end))
        start = end + (text[end : end + 1] == " ")
    return lines
