"""What is typed at a terminal: bytes become keys, and keys a line of text with a choice below it. Pure.

`kbsync search -i`: results as you type, on targets that stay open.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import enum
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kbsync.cli.commands.search_hits import INDENT, excerpt, trail_of
from kbsync.cli.exit_codes import code_of, sentence_of
from kbsync.cli.output import Output
from kbsync.cli.searching import FoundDocument, Search, searching
from kbsync.cli.terminal import ENDING, clipped, second_screen
from kbsync.config.model import MirrorConfig
from kbsync.contract.searching import Query
from kbsync.core.text import printable
from kbsync.errors import UsageError
from kbsync.installation import Installation


class Key(enum.Enum):
    """A key that is no character."""

    ENTER = enum.auto()
    ESCAPE = enum.auto()
    UP = enum.auto()
    DOWN = enum.auto()
    BACKSPACE = enum.auto()
    ERASE_WORD = enum.auto()
    ERASE_LINE = enum.auto()
    END = enum.auto()  # Ctrl-D


_CONTROLS = {
    "\r": Key.ENTER,
    "\n": Key.ENTER,
    "\x7f": Key.BACKSPACE,
    "\b": Key.BACKSPACE,
    "\x04": Key.END,
    "\x0e": Key.DOWN,
    "\x10": Key.UP,
    "\x15": Key.ERASE_LINE,
    "\x17": Key.ERASE_WORD,
}
_SEQUENCES = {"[A": Key.UP, "[B": Key.DOWN, "OA": Key.UP, "OB": Key.DOWN}


class Keyboard:
    """Reads keys out of what a terminal sends, which may come in pieces."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._open = ""

    @property
    def is_amid(self) -> bool:
        """An escape has come; if nothing follows soon, it was the key."""
        return bool(self._open)

    def keys(self, sent: bytes) -> Iterator[Key | str]:
        """Characters, and keys that are none; a sequence of an unknown key is dropped."""
        for character in self._decoder.decode(sent):
            if self._open:
                yield from self._within(character)
            elif character == "\x1b":
                self._open = character
            elif (key := _CONTROLS.get(character)) is not None:
                yield key
            elif character.isprintable():
                yield character

    def _within(self, character: str) -> Iterator[Key | str]:
        self._open += character
        begun = self._open[1:]
        if len(begun) == 1 and begun not in "[O":
            self._open = ""
        elif len(begun) > 1 and "@" <= character <= "~":  # ECMA-48: the final byte of a sequence
            self._open = ""
            if begun in _SEQUENCES:
                yield _SEQUENCES[begun]

    def silence(self) -> Iterator[Key]:
        """Nothing followed."""
        if self._open == "\x1b":
            yield Key.ESCAPE
        self._open = ""


@dataclass(frozen=True, slots=True)
class Line:
    """The text so far, and which of the `found` things is chosen."""

    text: str = ""
    chosen: int = 0
    found: int = 0

    def pressed(self, key: Key | str) -> Line:
        """After a key; those that end the line change nothing."""
        match key:
            case str():
                return replace(self, text=self.text + key)
            case Key.BACKSPACE:
                return replace(self, text=self.text[:-1])
            case Key.ERASE_WORD:
                return replace(self, text=self.text.rstrip().rpartition(" ")[0])
            case Key.ERASE_LINE:
                return replace(self, text="")
            case Key.UP:
                return replace(self, chosen=max(0, self.chosen - 1))
            case Key.DOWN:
                return replace(self, chosen=max(0, min(self.found - 1, self.chosen + 1)))
        return self

    def with_found(self, number: int) -> Line:
        """So many were found for this text; the best is chosen."""
        return replace(self, found=number, chosen=0)


PAUSE, PAUSE_AT_SERVICES = 0.08, 0.5
"""Seconds without a key before a search: nobody wants the results for half a word, or to pay for them."""

ESCAPE_WITHIN = 0.05
"""Seconds within which the rest of a key's sequence comes."""

HELP = "enter opens · ↑ ↓ choose · esc ends"

Draw = Callable[[Sequence[str]], None]


def live(installation: Installation, query: Query) -> tuple[list[Path], Path | None]:
    """What was found last, and what was chosen. Raises `UsageError` without a terminal."""
    if not (sys.stdin.isatty() and Output().moves):
        raise UsageError("search -i needs a terminal; leave -i out, or add --json for a program")
    return asyncio.run(_live(installation, query))


async def _live(installation: Installation, query: Query) -> tuple[list[Path], Path | None]:
    async with searching(installation) as search:
        with _keys_at_once(sys.stdin.fileno()) as keyboard, second_screen() as screen:
            several = len(installation.mirrors) > 1
            session = Session(search, query, screen.show, pause_for(installation.mirrors), several=several)
            chosen = await _keep(session, keyboard)
            return [found.absolute for found in session.found], chosen


def pause_for(mirrors: Sequence[MirrorConfig]) -> float:
    """Seconds of rest before a search of all of them."""
    return PAUSE_AT_SERVICES if any(mirror.target.addresses for mirror in mirrors) else PAUSE


@contextlib.contextmanager
def _keys_at_once(descriptor: int) -> Iterator[int]:
    """Keys come as they are pressed, unseen; Ctrl-C stays what it is."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


async def _keep(session: Session, descriptor: int) -> Path | None:
    """Until a key ends it."""
    loop, pressed = asyncio.get_running_loop(), asyncio.Queue[bytes | int]()
    loop.add_reader(descriptor, lambda: pressed.put_nowait(_read(descriptor)))
    for number in ENDING:  # told by the loop: what is raised just anywhere may be dropped
        loop.add_signal_handler(number, pressed.put_nowait, int(number))
    loop.add_signal_handler(signal.SIGWINCH, session.draw)
    working = asyncio.create_task(session.keep_searching())
    try:
        return await _typed(session, pressed)
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        loop.remove_signal_handler(signal.SIGWINCH)
        loop.remove_reader(descriptor)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1024)
    except OSError:
        return b""  # the terminal is gone


async def _typed(session: Session, pressed: asyncio.Queue[bytes | int]) -> Path | None:
    keyboard = Keyboard()
    session.draw()
    while True:
        try:
            async with asyncio.timeout(ESCAPE_WITHIN if keyboard.is_amid else None):
                sent = await pressed.get()
            if isinstance(sent, int):
                raise SystemExit(128 + sent)
            keys: list[Key | str] = [Key.END] if not sent else list(keyboard.keys(sent))
        except TimeoutError:
            keys = list(keyboard.silence())
        for key in keys:
            match key:
                case Key.ENTER if session.chosen is not None:
                    return session.chosen
                case Key.ESCAPE | Key.END:
                    return None
            session.press(key)
        session.draw()


class Session:
    """One conversation: a line, what was found for it, and frames of both. `query` is the first one.

    `pause`: seconds of rest before a search. `several`: of several mirrors, so each hit tells its own.
    """

    def __init__(
        self, search: Search, query: Query, draw: Draw, pause: float = PAUSE, *, several: bool = False
    ) -> None:
        self._search, self._query, self._show, self._pause = search, query, draw, pause
        self._several = several
        self._line = Line(query.text)
        self._typed = asyncio.Event()
        self._typed.set()
        self._trouble = ""
        self.found: list[FoundDocument] = []

    @property
    def chosen(self) -> Path | None:
        """The file of the hit that is marked."""
        return self.found[self._line.chosen].absolute if self.found else None

    def press(self, key: Key | str) -> None:
        """One key."""
        before, self._line = self._line, self._line.pressed(key)
        if self._line.text != before.text:
            self._typed.set()

    async def keep_searching(self) -> None:
        """Search whenever the text has changed and rested, until cancelled."""
        while True:
            await self._typed.wait()
            self._typed.clear()
            await asyncio.sleep(self._pause)
            if not self._typed.is_set():
                await self._look()

    async def _look(self) -> None:
        """What is found for a text that has changed meanwhile is not shown."""
        text = self._line.text
        try:
            asked = replace(self._query, text=text, unfinished=True)
            found = await self._search(asked, False) if text.strip() else []
            self._trouble = ""
        except Exception as error:
            if code_of(error) is None:
                raise
            found, self._trouble = [], sentence_of(error)
        if text == self._line.text:
            self.found, self._line = found, self._line.with_found(len(found))
            self.draw()

    def draw(self) -> None:
        """Show it as it is."""
        self._show(list(self._frame(Output())))

    def _frame(self, paper: Output) -> Iterator[str]:
        room = paper.columns
        yield paper.bold("> ") + clipped(printable(self._line.text), room - 3) + "▏"
        yield paper.dim(clipped(self._words(), room))
        for number, found in enumerate(self.found):
            yield from self._hit(paper, found, is_chosen=number == self._line.chosen)

    def _words(self) -> str:
        if self._trouble:
            return printable(self._trouble)
        nothing = "nothing found; " if self._line.text.strip() and not self.found else ""
        return nothing + HELP

    def _hit(self, paper: Output, found: FoundDocument, *, is_chosen: bool) -> Iterator[str]:
        passage = found.hit.passages[0] if found.hit.passages else None
        trail = printable(trail_of(found, passage))
        name = f"{found.mirror.name}: " if self._several else ""
        heading = clipped("  ".join(filter(None, [name + printable(found.path), trail])), paper.columns - 2)
        yield f"{paper.cyan('❯')} {paper.bold(heading)}" if is_chosen else f"  {heading}"
        if passage is not None:
            yield INDENT + next(excerpt(paper, passage.text, self._line.text, unfinished=True), "")
