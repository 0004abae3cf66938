"""Reads calendars (.ics, RFC 5545) and contacts (.vcf, RFC 6350), which share a syntax, into one section per
entry.
"""

from __future__ import annotations

import quopri
import re
from collections.abc import Iterator, Mapping
from dataclasses import field

from kbsync.dataclass import dataclass
from kbsync.index.document import Parsed
from kbsync.index.read.encoding import decode, decode_declared
from kbsync.index.read.text import one_line, tidied
from kbsync.index.read.zip import damaged

_ENTRIES = ("VEVENT", "VTODO", "VJOURNAL", "VAVAILABILITY", "AVAILABLE")
_OF_EVENTS: Mapping[str, str] = {
    "DTSTART": "Start", "DTEND": "End", "DUE": "Due", "LOCATION": "Location", "ORGANIZER": "Organizer",
    "ATTENDEE": "Attendees", "CATEGORIES": "Categories", "STATUS": "Status", "RESOURCES": "Resources",
    "URL": "Address", "CONTACT": "Contact",
}  # fmt: skip
_OF_CONTACTS: Mapping[str, str] = {
    "NICKNAME": "Nickname", "ORG": "Organization", "TITLE": "Title", "ROLE": "Role", "TEL": "Phone",
    "EMAIL": "Email", "ADR": "Address", "URL": "Website", "IMPP": "Messages", "BDAY": "Birthday",
    "CATEGORIES": "Categories", "RELATED": "Related",
}  # fmt: skip
_PROSE = ("DESCRIPTION", "COMMENT", "NOTE")


def read_ics(raw: bytes, charset: str | None = None) -> Parsed:
    """Return the events, tasks and notes of a calendar in file order. The title is the calendar's name.

    `charset`: as declared by a mail that contains the calendar. Raises `Rejected` if it isn't a calendar.
    """
    root = _read(raw, charset, "calendar")
    sections = list[str]()
    for part in root.walk():
        if part.kind in _ENTRIES:
            sections += _section(part, part.first("SUMMARY"), _OF_EVENTS)
    name = next((name for part in root.parts if (name := part.first("X-WR-CALNAME", "NAME"))), None)
    return Parsed(tidied("\n\n".join(filter(None, sections))), title=name)


def read_vcf(raw: bytes, charset: str | None = None) -> Parsed:
    """Return the contacts in a file in file order. `charset`: as for `read_ics`. Raises `Rejected` if there
    are none.
    """
    sections = list[str]()
    for part in _read(raw, charset, "contact").walk():
        if part.kind == "VCARD":
            name = part.first("FN") or _full_name(part.first("N"))
            sections += _section(part, name or part.first("ORG", "EMAIL").replace(";", ", "), _OF_CONTACTS)
    return Parsed(tidied("\n\n".join(filter(None, sections))))


def _full_name(value: str) -> str:
    """Return a name as people write it.

    The family name comes last or, in Chinese, Japanese and Korean, first and without a space.
    """
    family, _, others = value.partition(";")
    given = others.partition(";")[0]
    if family and given and _EAST_ASIAN.fullmatch(family + given):
        return family + given
    return one_line(f"{others.replace(';', ' ')} {family}")


_EAST_ASIAN = re.compile("[぀-ヿ㐀-鿿가-힣々]+")


@dataclass(frozen=True, slots=True)
class _Line:
    """A content line: its unescaped value, and its parameters by upper-case name."""

    value: str
    parameters: Mapping[str, str]


@dataclass(slots=True)
class _Component:
    """A component: everything between its BEGIN and END lines."""

    kind: str
    lines: dict[str, list[_Line]] = field(default_factory=dict)
    parts: list[_Component] = field(default_factory=list)

    def first(self, *names: str) -> str:
        """Return the first of these properties, on one line, or "" if there is none."""
        values = (one_line(line.value) for name in names for line in self.lines.get(name, ()))
        return next(filter(None, values), "")

    def walk(self) -> Iterator[_Component]:
        """Yield this component and all components inside it, at any depth."""
        pending = [self]
        while pending:
            part = pending.pop()
            yield part
            pending += reversed(part.parts)


def _read(raw: bytes, charset: str | None, what: str) -> _Component:
    """Return the components of a file. Raises `Rejected` if there are none."""
    root = _Component("")
    opened = [root]
    raw = _FOLDED_CHARACTER.sub(b"", raw)
    # A web page in a calendar declares nothing about the calendar.
    for line in _unfold(decode_declared(raw, charset) if charset else decode(raw)):
        head, parameters, value = _split(line)
        name = head.rpartition(".")[2].upper()  # contacts may group lines: item1.TEL
        if name == "BEGIN":
            opened.append(_Component(value.strip().upper()))
            opened[-2].parts.append(opened[-1])
        elif name == "END":
            if len(opened) > 1:
                opened.pop()
        elif name:
            opened[-1].lines.setdefault(name, []).append(_Line(_plain(value, parameters), parameters))
    if not root.parts:
        raise damaged(f"the file contains no {what}, or its beginning is missing")
    return root


_FOLDED_CHARACTER = re.compile(rb"(?<=[\x80-\xff])\r?\n[ \t](?=[\x80-\xbf])")
"""Matches a line break inside a UTF-8 character: simple programs count bytes (RFC 5545, 3.1)."""


def _unfold(text: str) -> Iterator[str]:
    """Yield the content lines, each joined with its continuation lines."""
    pieces = list[str]()
    is_quoted = False
    for line in text.split("\n"):
        if is_quoted or (pieces and line[:1] in (" ", "\t")):
            if is_quoted:
                pieces[-1] = pieces[-1][:-1]
            pieces.append(line if is_quoted else line[1:])
        else:
            yield "".join(pieces)
            pieces = [line]
        # vCard 2.1 breaks lines as e-mails do
        is_quoted = line.endswith("=") and "QUOTED-PRINTABLE" in pieces[0][:200].upper()
    yield "".join(pieces)


def _split(line: str) -> tuple[str, dict[str, str], str]:
    """Return the name, the parameters and the value of a content line. For any other line, the name is ""."""
    head, quoted = list[str](), False
    start = 0
    for position, character in enumerate(line[:2000]):
        if character == '"':
            quoted = not quoted
        elif character in ";:" and not quoted:
            head.append(line[start:position])
            start = position + 1
            if character == ":":
                break
    else:
        return "", {}, ""
    parameters = dict[str, str]()
    for parameter in head[1:]:
        name, _, value = parameter.partition("=")
        if not value:  # vCard 2.1: TEL;WORK;QUOTED-PRINTABLE
            name, value = ("ENCODING" if name.upper() == "QUOTED-PRINTABLE" else "TYPE"), name
        name = name.upper()
        parameters[name] = f"{parameters[name]},{value}" if name in parameters else value.strip('"')
    return head[0], parameters, line[start:]


def _plain(value: str, parameters: Mapping[str, str]) -> str:
    """Return the value as decoded text, or "" for pictures, sounds and keys."""
    encoding = parameters.get("ENCODING", "").upper()
    if encoding in ("B", "BASE64") or value.startswith("data:"):
        return ""
    if encoding == "QUOTED-PRINTABLE":
        raw = quopri.decodestring(value.encode("utf-8", "replace"))
        value = decode_declared(raw, parameters.get("CHARSET"))
    if "\\" not in value:
        return value
    pieces = value.split("\\\\")
    return "\\".join(
        piece.replace("\\n", "\n").replace("\\N", "\n").replace("\\,", ",").replace("\\;", ";")
        for piece in pieces
    )


def _section(entry: _Component, title: str, labels: Mapping[str, str]) -> Iterator[str]:
    """Yield the heading of an entry, then the given properties and its prose."""
    yield f"## {title}" if title else ""
    rows = list[str]()
    for name, label in labels.items():
        values = [shown for line in entry.lines.get(name, ()) if (shown := _shown(name, line))]
        if values:
            rows.append(f"{label}: {', '.join(dict.fromkeys(values))}")
    yield "\n".join(rows)
    for name in _PROSE:
        yield from (line.value for line in entry.lines.get(name, ()))


def _shown(name: str, line: _Line) -> str:
    """Return a property as readable text."""
    value = one_line(line.value)
    if name in ("DTSTART", "DTEND", "DUE", "BDAY"):
        return _date(value)
    if name in ("ORGANIZER", "ATTENDEE"):
        address = value[7:] if value[:7].lower() == "mailto:" else value
        person = line.parameters.get("CN", "")
        return f"{person} <{address}>" if person and person != address else address
    if name in ("ADR", "ORG"):
        return ", ".join(filter(None, map(str.strip, value.split(";"))))
    if name in ("TEL", "IMPP", "EMAIL") and value[:4].lower() == "tel:":
        return value[4:]
    return value


def _date(value: str) -> str:
    """Return a date and time as people write them: 2026-03-01 10:00."""
    day, _, clock = value.partition("T")
    if len(day) != 8 or not day.isdecimal():
        return value
    time = f" {clock[:2]}:{clock[2:4]}" if len(clock) >= 4 and clock[:4].isdecimal() else ""
    return f"{day[:4]}-{day[4:6]}-{day[6:]}{time}{' UTC' if time and clock.endswith('Z') else ''}"
