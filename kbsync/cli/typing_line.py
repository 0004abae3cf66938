"""What is typed at a terminal: bytes become keys, and keys a line of text with a choice below it. Pure."""

from __future__ import annotations

import codecs
import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace


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
