"""`kbsync search -i`: shows results as you type, from targets that stay open.

prompt_toolkit draws the screen and handles the keys (see `full_screen`). Other searches don't load it.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import BufferControl, FormattedTextControl, HSplit, Window
from prompt_toolkit.layout.processors import BeforeInput

from kbsync.cli.exit_codes import code_of, sentence_of
from kbsync.cli.full_screen import full_screen, show
from kbsync.cli.output import Output
from kbsync.cli.searching import INDENT, CommandMirrors, as_of, excerpt, heading_trail
from kbsync.config.model import MirrorConfig
from kbsync.contract.searching import Query
from kbsync.core.text import printable
from kbsync.engine.search import FoundDocument
from kbsync.errors import UsageError, system_reason
from kbsync.installation import Installation
from kbsync.search import SearchReply
from kbsync.threads import run_coroutine

PAUSE, PAUSE_AT_SERVICES = 0.08, 0.5
"""Seconds to wait after a keystroke before searching, because results for half a word are useless and may
cost money.
"""

Search = Callable[[Query], Awaitable[SearchReply]]

HELP = "enter opens · ↑ ↓ choose · esc quits"


def search_live(installation: Installation, query: Query) -> None:
    """Show the search screen, then open or print the hit that the user chooses.

    Raises `UsageError` without a terminal.
    """
    if not (sys.stdin.isatty() and Output().can_move_cursor):
        raise UsageError("search -i needs a terminal; omit -i, or in a program use --json instead")
    chosen = run_coroutine(_run(installation, query))
    if chosen is not None:
        open_or_print(chosen)


def open_or_print(path: Path, environ: Mapping[str, str] = os.environ) -> None:
    """Open a file with the user's editor or default application.

    If there is neither, print the file's path.
    """
    opener = shutil.which("xdg-open", path=environ.get("PATH"))
    has_display = bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if is_terminal and has_display and opener is not None:
        # In its own session and without waiting, because some openers run as long as their window is open.
        nowhere = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
        os.posix_spawn(opener, [opener, str(path)], dict(environ), file_actions=nowhere, setsid=True)
    elif is_terminal and (editor := shlex.split(environ.get("VISUAL") or environ.get("EDITOR") or "")):
        try:
            subprocess.run([*editor, str(path)], env=dict(environ), check=False)
        except OSError as error:
            why = system_reason(error)
            raise UsageError(f"{editor[0]} cannot be run ({why}); fix $VISUAL") from None
    else:
        Output().path(str(path))


async def _run(installation: Installation, query: Query) -> Path | None:
    async with CommandMirrors(installation) as mirrors:
        await mirrors.open()
        several, pause = len(installation.mirrors) > 1, pause_for(installation.mirrors)
        session = LiveSearch(mirrors.search, query, pause, several=several)
        keys = KeyBindings()

        @keys.add("enter")
        def choose(event: KeyPressEvent) -> None:
            if session.chosen is not None:
                event.app.exit(result=session.chosen)

        @keys.add("escape")
        @keys.add("c-d")
        def end(event: KeyPressEvent) -> None:
            event.app.exit(result=None)

        @keys.add("up")
        @keys.add("c-p")
        def up(_event: KeyPressEvent) -> None:
            session.mark(-1)

        @keys.add("down")
        @keys.add("c-n")
        def down(_event: KeyPressEvent) -> None:
            session.mark(1)

        def hits() -> ANSI:
            return ANSI("\n".join(session.lines(Output())))

        line = Buffer(
            document=Document(session.text),
            multiline=False,
            on_text_changed=lambda buffer: session.type(buffer.text),
        )
        typed = BufferControl(line, input_processors=[BeforeInput("> ", style="bold")])
        content = HSplit([Window(typed, height=1), Window(FormattedTextControl(hits))])
        screen = full_screen(content, keys)
        session.redraw = screen.invalidate
        chosen: Path | None = await show(screen, session.keep_searching())
        return chosen


def pause_for(mirrors: Sequence[MirrorConfig]) -> float:
    """Return how many seconds to wait before a search.

    The wait is longer if a service embeds, ranks or does the whole search.
    """
    return PAUSE_AT_SERVICES if any(mirror.target.services for mirror in mirrors) else PAUSE


class LiveSearch:
    """The state of the search screen: the typed line, its hits, and the selected hit.

    `query`: the first query. `pause`: how many seconds must pass after a keystroke before a search starts.
    `several`: whether the hits come from several mirrors; if so, each hit shows its mirror's name.
    """

    def __init__(self, search: Search, query: Query, pause: float = PAUSE, *, several: bool = False) -> None:
        self._search, self._query, self._pause, self._several = search, query, pause, several
        self._changed = asyncio.Event()
        self._changed.set()
        self._problem = ""
        self._notes: Sequence[str] = ()
        self.redraw: Callable[[], object] = lambda: None
        self.text = query.text
        self.hits: Sequence[FoundDocument] = ()
        self.marked = 0

    @property
    def chosen(self) -> Path | None:
        """The file of the selected hit, if it can be opened."""
        marked = self.hits[self.marked] if self.hits else None
        return marked.absolute if marked is not None and marked.can_be_opened else None

    def type(self, text: str) -> None:
        """Change the line."""
        if text != self.text:
            self.text = text
            self._changed.set()

    def mark(self, step: int) -> None:
        """Select the next or the previous hit."""
        self.marked = max(0, min(len(self.hits) - 1, self.marked + step))

    async def keep_searching(self) -> None:
        """Until canceled, search each time the user pauses after changing the line."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await asyncio.sleep(self._pause)
            if self._changed.is_set():
                continue
            text, problem, notes = self.text, "", self._notes
            hits: Sequence[FoundDocument] = ()
            try:
                if text.strip():
                    reply = await self._search(replace(self._query, text=text, unfinished=True))
                    hits, notes = reply.hits, reply.note_lines()
            except Exception as error:
                if code_of(error) is None:
                    raise
                problem = sentence_of(error)
            if text == self.text:
                # Otherwise the text has changed meanwhile, and these hits are outdated.
                self.hits, self.marked, self._problem, self._notes = hits, 0, problem, notes
                self.redraw()

    def lines(self, output: Output) -> Iterator[str]:
        """Return the lines below the input."""
        if self._problem:
            yield output.dim(printable(self._problem))
        else:
            nothing = "nothing found; " if self.text.strip() and not self.hits else ""
            yield output.dim(nothing + HELP)
        yield from map(output.dim, self._notes)
        for number, hit in enumerate(self.hits):
            passage = hit.hit.passages[0] if hit.hit.passages else None
            name = f"{printable(hit.mirror_label)}: " if self._several or hit.is_foreign else ""
            trail = printable(heading_trail(hit, passage))
            why_gone = printable(hit.reason) if hit.is_gone else ""
            heading = "  ".join(filter(None, [name + printable(hit.path), trail, *as_of(hit), why_gone]))
            is_marked = number == self.marked
            yield f"{output.cyan('❯')} {output.bold(heading)}" if is_marked else f"  {heading}"
            if passage is not None:
                yield INDENT + next(excerpt(output, hit, self.text, unfinished=True), "")
