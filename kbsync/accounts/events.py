"""Reads server-sent events from the bytes of a streamed answer, as the HTML standard defines them (9.2).

Also accepts what some services send instead: names in any case, quoted values, non-standard fields, and a
last event without the blank line that ends it.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import field

from kbsync.dataclass import dataclass
from kbsync.targets.http.bodies import parse_json


@dataclass(slots=True)
class Event:
    """A single event.

    `name` and `id`: "" if the event has none. `fields`: the fields that the standard doesn't define.
    """

    name: str = ""
    id: str = ""
    data: str = ""
    fields: dict[str, str] = field(default_factory=dict)


_LINE_END = re.compile(r"\r\n?|\n")


class EventReader:
    """Parses bytes into events. An event is complete once the first byte of the blank line after it has
    arrived.
    """

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
        # The pieces of an unfinished line. The line may be megabytes long, so join them only once.
        self._rest: list[str] = []
        self._after_cr = False
        self._lines: list[tuple[str, str]] = []
        self._pads = True

    def feed(self, content: bytes) -> Iterator[Event]:
        """Yield each event that these bytes complete."""
        yield from self._read(self._decode(content))

    def end(self) -> Iterator[Event]:
        """Yield the last event, whether or not a blank line follows it."""
        yield from self._read(f"{self._decode(b'', True)}\n\n")

    def _read(self, text: str) -> Iterator[Event]:
        for line in self._split(text):
            if line:
                self._add(line)
            elif self._lines:
                yield self._event()

    def _split(self, text: str) -> Sequence[str]:
        """Return the complete lines.

        A CR ends a line immediately; an LF directly after it is part of the same line ending.
        """
        if self._after_cr and text:
            text = text.removeprefix("\n")
            self._after_cr = False
        self._after_cr = self._after_cr or text.endswith("\r")
        *lines, rest = _LINE_END.split(text)
        if lines:
            lines[0] = "".join([*self._rest, lines[0]])
            self._rest.clear()
        self._rest.append(rest)
        return lines

    def _add(self, line: str) -> None:
        name, colon, value = line.partition(":")
        name = name.strip().lower()
        if not name:  # a comment, which services send to keep the connection open
            return
        if name != "data" and colon and value:
            self._pads = value.startswith(" ")
        self._lines.append((name, value))

    def _event(self) -> Event:
        """Return the event.

        If no other field has a space after its colon, a space after the colon of `data` is treated as part
        of the text.
        """
        lines, self._lines = self._lines, []
        event, data = Event(), []
        quotes = any(name == "event" and is_quoted(value.strip()) for name, value in lines)
        for name, value in lines:
            if name == "data":
                text = value[1:] if self._pads and value.startswith(" ") else value
                data.append(unquoted(text) if quotes else text)
            elif name in ("event", "id"):
                setattr(event, "name" if name == "event" else "id", unquoted(value.strip()))
            else:
                event.fields[name] = value.strip()
        event.data = "\n".join(data)
        return event


def is_quoted(text: str) -> bool:
    """Return whether the text is in double quotes."""
    return len(text) > 1 and text[0] == text[-1] == '"'


def unquoted(text: str) -> str:
    """Return the text without its quotes. If it is a valid JSON string, also resolve its escapes."""
    bare = text.strip()
    if not is_quoted(bare):
        return text
    value = parse_json(bare)
    return value if isinstance(value, str) else bare[1:-1]
