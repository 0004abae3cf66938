"""Names of documents at targets that keep no marker of ours: readable, and they prove which file they are.

`guides/intro.md` becomes `guides__intro~mfrggzdf.md`: the path laid flat, then a tag of the bytes, so that
a replacement never takes a name in use and a document proves what it is by its name alone. Every name is in
Unicode's normal form C and no two are equivalent, so that a service may normalise them as it likes.

What would be ambiguous or unsafe in a file name is written `~XX`, one for each byte of UTF-8. Behind a path
may stand `~d` (the path is in normal form D) and, instead of the end of a path that is too long, `~~` and a
hash of the whole path (ADR 12). Pure.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST = 200
"""Bytes of UTF-8 that a name has at most; no service says its limit, file systems take 255."""

_COUNTER = len("~-999999")
_TAG = 8
_SHORT = 12
_STYLES = ("marked", "tagged", "plain")

_EXTENSION = r"\.[A-Za-z0-9+-]{1,16}"  # no `_`: `a.__b` is the file b in the folder `a.`
_ADDED = r"(?:[ _]?\([0-9]{1,4}\)|_[0-9]{1,4})"  # what services add to a name they have already
_NUMBER = r"(?:-(?P<number>[1-9][0-9]{0,5}))?"

_AT_END = re.compile(rf"{_EXTENSION}\Z")
_ADDED_AT_END = re.compile(rf"{_ADDED}\Z")
_TAGGED = re.compile(
    rf"(?P<body>.*)~(?P<tag>[a-z2-7]{{{_TAG}}}){_NUMBER}(?P<ext>(?:{_EXTENSION})?)", re.DOTALL
)
_PLAIN = re.compile(rf"(?P<body>.*?)(?:~{_NUMBER})?", re.DOTALL)
_SHORTENED = re.compile(rf"(?P<head>.*)~~(?P<short>[a-z2-7]{{{_SHORT}}})", re.DOTALL)
# Without its `~`: read as GBK, that byte can be swallowed by the character before it.
_KEY = re.compile(rf"([a-z2-7]{{{_TAG}}})(?:-[1-9][0-9]*)?{_ADDED}?(?:{_EXTENSION})?\Z")

_UNSAFE = re.compile(
    r'[\x00-\x1f\x7f"\\:*?<>|%;~]'
    r"|_(?=[_/])|(?<=[_/])_"  # `__` stands for `/`
    "|\\A[ .\u3000]|[ .\u3000]\\Z|(?<= ) "  # trimmed or collapsed by many
    r"|(?P<beyond>[^\x00-\x7f])"
)
_KEPT = frozenset("\u3000\u200c\u200d")  # not printable for Python, but parts of ordinary words and emoji
_PIECE = re.compile(r"~[0-9A-F]{2}|__|.", re.DOTALL)
_WRITTEN = re.compile(r"(?:[^~]|~[0-9A-F]{2})*")
_BYTE, _PERCENT = re.compile(rb"~([0-9A-F]{2})"), re.compile(rb"%([0-9A-Fa-f]{2})")
_SLASH = re.compile(r"[/\\]")
_LOST = re.compile("[?_\ufffd]")
_ILLEGIBLE = re.compile("[?\ufffd\x00-\x1f\x7f-\x9f]")
_MISREAD_AS = ("latin-1", "cp1252", "gbk", "gb18030")


def tag_of(digest: str) -> str:
    """8 lower-case base32 characters (40 bits) of the SHA-256 given as hex. Raises ValueError for no hex."""
    return _base32(bytes.fromhex(digest), _TAG)


def _base32(digest: bytes, length: int) -> str:
    return base64.b32encode(digest)[:length].decode().lower()


@dataclass(frozen=True, slots=True)
class ParsedName:
    """What a name says. `path` is None where it was shortened; `short` then is the hash of the path."""

    path: str | None
    tag: str = ""
    number: int = 0
    short: str = ""


@dataclass(frozen=True, slots=True)
class Naming:
    """How a mirror names its documents. `prefix` stands before every path and is written like one.

    `style`: `marked` (the target keeps our marker: the name is the path), `tagged`, or `plain` (no tag).
    Different (path, tag, number) give different names, also after NFC or NFD. Raises ValueError for
    another style.
    """

    prefix: str = ""
    style: str = "tagged"

    def __post_init__(self) -> None:
        if self.style not in _STYLES:
            raise ValueError(f"{self.style!r} is no style of names; there are {', '.join(_STYLES)}")

    def name(self, path: str, digest: str, number: int = 0) -> str:
        """The name of the document of `path` with these bytes; `number` where an equal name is taken."""
        if self.style == "marked":
            return self.prefix + path
        return self._written(path, tag_of(digest) if self.style == "tagged" else "", number)

    def read(self, name: str) -> ParsedName | None:
        """What `name` says; None for a name that is none of ours.

        A folder before it, percent-encoding and another normal form are undone; a name with anything
        added to it is not ours.
        """
        if self.style == "marked":
            mine = name.startswith(self.prefix) and name != self.prefix
            return ParsedName(name.removeprefix(self.prefix)) if mine else None
        text = _undone(name)
        match = self._matched(text)
        if match is None:
            return None
        body, tag, ext = (match.get(part) or "" for part in ("body", "tag", "ext"))
        number = int(match["number"] or 0)
        if shortened := _SHORTENED.fullmatch(body):
            # The head has the prefix, or as much of it as there was room for.
            head = _unescaped(shortened["head"])
            mine = head is not None and (head.startswith(self.prefix) or self.prefix.startswith(head))
            mine = mine and len(text.encode()) <= LONGEST
            return ParsedName(None, tag, number, shortened["short"]) if mine else None
        path = self._path(body, ext)
        # A name that we would not write so is not ours, whatever it looks like (promise 6).
        if path is None or self._written(path, tag, number) != text:
            return None
        return ParsedName(path, tag, number)

    def read_mangled(self, name: str) -> ParsedName | None:
        """As `read`, also of a name that a service added a number to, or read as another encoding."""
        bare = _undone(name)
        guesses = (name, _without_added(bare), *_repaired(bare))
        return next((found for guess in guesses if (found := self.read(guess)) is not None), None)

    def key(self, name: str) -> str:
        """Equal for a name and whatever a service makes of it: the tag, "" (plain), the name (marked).

        Names of others may have any key.
        """
        if self.style == "marked":
            return name
        match = _KEY.search(_undone(name)) if self.style == "tagged" else None
        return match[1] if match else ""

    def recognises(self, sent: str, seen: str) -> bool:
        """`seen` is the name `sent`, perhaps mangled by the service.

        Undone are: another normal form, percent-encoding, a folder before it, "(1)" or "_1" before the
        extension, UTF-8 read as another encoding, and characters beyond ASCII replaced or dropped.
        """
        if sent == seen:
            return True
        if self.style == "marked" or self.key(sent) != self.key(seen):
            return False
        bare = _undone(seen)
        return any(_is_mangled(sent, one) for one in (bare, _without_added(bare)))

    def short_of(self, path: str) -> str:
        """The hash of a path whose name is shortened (whatever its digest and number), else ""."""
        if self.style == "marked":
            return ""
        flat, ext = self._flat(path)
        return "" if len(flat.encode()) <= self._room(ext) else _short(path)

    def _written(self, path: str, tag: str, number: int) -> str:
        flat, ext = self._flat(path)
        room = self._room(ext)
        if len(flat.encode()) > room:
            ending = f"~~{_short(path)}"
            flat = _cut(flat, room - len(ending)) + ending
        return flat + _ending(flat + ext, tag, number) + ext

    def _flat(self, path: str) -> tuple[str, str]:
        """The path with the prefix, laid flat without its extension, and the extension."""
        composed = unicodedata.normalize("NFC", path)
        is_decomposed = composed != path and unicodedata.is_normalized("NFD", path)
        text = self.prefix + (composed if is_decomposed else path)
        ext = _extension(path)
        return _escaped(text[: len(text) - len(ext)]) + ("~d" if is_decomposed else ""), ext

    def _room(self, ext: str) -> int:
        """Bytes for the flat path."""
        tag = 1 + _TAG if self.style == "tagged" else 0
        return LONGEST - tag - _COUNTER - len(ext)

    def _matched(self, text: str) -> dict[str, str | None] | None:
        if self.style == "tagged":
            match = _TAGGED.fullmatch(text)
            return match.groupdict() if match else None
        stem, ext = _split(text)
        match = _PLAIN.fullmatch(stem)
        return {**match.groupdict(), "ext": ext} if match else None

    def _path(self, body: str, ext: str) -> str | None:
        """The path that was laid flat; None where it has another prefix or is none that a folder can have."""
        text = _unescaped(body.removesuffix("~d"))
        if text is None or not (text + ext).startswith(self.prefix):
            return None
        path = (text + ext)[len(self.prefix) :]
        if "\0" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
            return None
        return unicodedata.normalize("NFD", path) if body.endswith("~d") else path


def _ending(bare: str, tag: str, number: int) -> str:
    """What stands between flat path and extension, which are `bare`."""
    if tag:
        return f"~{tag}-{number}" if number else f"~{tag}"
    if number:
        return f"~-{number}"
    return "" if _without_added(bare) == bare else "~"  # `a_1.md` must not look like `a.md` renamed


def _extension(path: str) -> str:
    """The extension with its dot, where it is plain; else ""."""
    last = path.rpartition("/")[2]
    stem, ext = _split(last)
    return ext if stem.strip(".") else ""


def _split(name: str) -> tuple[str, str]:
    match = _AT_END.search(name)
    return (name[: match.start()], match[0]) if match else (name, "")


def _short(path: str) -> str:
    return _base32(hashlib.sha256(_bytes(path)).digest(), _SHORT)


def _bytes(text: str) -> bytes:
    """The bytes of a path, as `os.fsencode` gives them on a system of UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def _cut(flat: str, room: int) -> str:
    """As many whole characters of `flat` as fit into `room` bytes."""
    end = 0
    for piece in _PIECE.finditer(flat):
        room -= len(piece[0].encode())
        if room < 0:
            break
        end = piece.end()
    return flat[:end]


def _escape(text: str) -> str:
    return "".join(f"~{byte:02X}" for byte in _bytes(text))


def _escaped(text: str) -> str:
    """`text` laid flat: readable, reversible, in normal form C."""
    return _composed(_UNSAFE.sub(_safe, text).replace("/", "__"))


def _safe(match: re.Match[str]) -> str:
    beyond = match["beyond"]
    return beyond if beyond and (beyond.isprintable() or beyond in _KEPT) else _escape(match[0])


def _composed(flat: str) -> str:
    """`flat` with every character escaped that normal form C would change."""
    # A service may normalise names as it likes: equal before or after, ours stay what they are.
    if unicodedata.is_normalized("NFC", flat):
        return flat
    written, cluster = [], ""  # the cluster begins with ASCII, which joins nothing before it
    for character in flat:
        if character.isascii():
            cluster = ""
        elif not unicodedata.is_normalized("NFC", cluster + character):
            character, cluster = _escape(character), ""
        cluster = (cluster + character) if cluster else character[-1]
        written.append(character)
    return "".join(written)


def _unescaped(flat: str) -> str | None:
    """What was laid flat; None where it was not written by `_escaped`."""
    if _WRITTEN.fullmatch(flat) is None:
        return None
    try:
        raw = flat.replace("__", "/").encode()
    except UnicodeEncodeError:
        return None
    return _BYTE.sub(lambda match: bytes.fromhex(match[1].decode()), raw).decode("utf-8", "surrogateescape")


def _undone(name: str) -> str:
    """`name` without a folder before it, not percent-encoded, in normal form C: none of it is ever ours."""
    bare = _SLASH.split(name)[-1]
    if "%" in bare:
        spaced = bare if "%20" in bare else bare.replace("+", " ")  # as forms encode it
        raw = spaced.encode("utf-8", "replace")
        bare = _PERCENT.sub(lambda match: bytes.fromhex(match[1].decode()), raw).decode("utf-8", "replace")
    return unicodedata.normalize("NFC", bare)


def _without_added(name: str) -> str:
    stem, ext = _split(name)
    return _ADDED_AT_END.sub("", stem) + ext


def _repaired(name: str) -> Iterator[str]:
    """What the name was, had it been UTF-8 read as another encoding."""
    for codec in _MISREAD_AS:
        with contextlib.suppress(UnicodeError):
            yield name.encode(codec).decode("utf-8")


def _is_mangled(sent: str, seen: str) -> bool:
    """`seen` is `sent`, as it was or with its characters beyond ASCII misread, replaced or dropped."""
    if sent == seen or sent.isascii():
        return sent == seen
    sources = (sent, unicodedata.normalize("NFD", sent))
    return any(_is_misread(source, seen) or _is_thinned(source, seen) for source in sources)


def _is_misread(sent: str, seen: str) -> bool:
    """`seen` is the UTF-8 of `sent` read as another encoding, illegible characters aside."""
    readings = (sent.encode().decode(codec, "replace") for codec in _MISREAD_AS)
    return _legible(seen) in map(_legible, readings)


def _legible(text: str) -> str:
    return _ILLEGIBLE.sub("", unicodedata.normalize("NFC", text))


def _is_thinned(sent: str, seen: str) -> bool:
    """`seen` is `sent` with `?`, `_`, U+FFFD or nothing for characters beyond ASCII."""
    kept = {character for character in seen if not character.isascii()} - {"\ufffd"}
    lost = {character for character in sent if not character.isascii()} - kept
    if not lost or _LOST.sub("", "".join(one for one in sent if one not in lost)) != _LOST.sub("", seen):
        return False
    # Where some of them came through, the others must have left a trace: else `手册` would be `册`. Those
    # beyond the basic plane may vanish alone, as old databases drop them.
    has_trace = len(_LOST.findall(seen)) > len(_LOST.findall(sent))
    return has_trace or not kept or min(lost) > "\uffff"
