"""Names documents at targets that don't keep our marker. A name is readable, and identifies its file.

`guides/intro.md` becomes `guides__intro~mfrggzdf.md`: the flattened path, then a tag of the bytes. So a
replacement never takes a name in use, and the name alone identifies the document. Every name is in Unicode's
normal form C and no two are equivalent, so a service may normalize them.

Each UTF-8 byte that would be ambiguous or unsafe in a file name becomes `~XX`. A path may be followed by `~d`
(the path is in normal form D). A path that is too long ends in `~~` and a hash of the whole path (ADR 12).
This module does no I/O.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import unicodedata

from kbsync.dataclass import dataclass

MAX_NAME_BYTES = 200
"""Maximum number of UTF-8 bytes in a name. No service documents its limit; file systems allow 255."""

_COUNTER = len("~-999999")
_TAG = 8
_SHORT = 12

_EXTENSION = r"\.[A-Za-z0-9+-]{1,16}"  # no `_`: `a.__b` is the file b in the folder `a.`
_ADDED = r"(?:[ _]?\([0-9]{1,4}\)|_[0-9]{1,4})"  # suffix that services add to a name in use
_NUMBER = r"(?:-(?P<number>[1-9][0-9]{0,5}))?"

_AT_END = re.compile(rf"{_EXTENSION}\Z")
_ADDED_AT_END = re.compile(rf"{_ADDED}\Z")
_TAGGED = re.compile(
    rf"(?P<body>.*)~(?P<tag>[a-z2-7]{{{_TAG}}}){_NUMBER}(?P<ext>(?:{_EXTENSION})?)", re.DOTALL
)
_PLAIN = re.compile(rf"(?P<body>.*?)(?:~{_NUMBER})?", re.DOTALL)
_SHORTENED = re.compile(rf"(?P<head>.*)~~(?P<short>[a-z2-7]{{{_SHORT}}})", re.DOTALL)
# Matches the tag without its `~`: a service that decodes names as GBK can merge that byte into the preceding
# character.
_KEY = re.compile(rf"([a-z2-7]{{{_TAG}}})(?:-[1-9][0-9]*)?{_ADDED}?(?:{_EXTENSION})?\Z")

_UNSAFE = re.compile(
    r'[\x00-\x1f\x7f"\\:*?<>|%;~]'
    r"|_(?=[_/])|(?<=[_/])_"  # `__` means `/`
    "|\\A[ .\u3000]|[ .\u3000]\\Z|(?<= ) "  # many services trim or collapse these
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
    """Return the tag of a SHA-256 digest in hex: 8 lowercase base32 characters (40 bits).

    Raises ValueError for invalid hex.
    """
    return _base32(bytes.fromhex(digest), _TAG)


def _base32(digest: bytes, length: int) -> str:
    return base64.b32encode(digest)[:length].decode().lower()


@dataclass(frozen=True, slots=True)
class ParsedName:
    """A parsed name. If the name was shortened, `path` is None and `short` is the hash of the path."""

    path: str | None
    tag: str = ""
    number: int = 0
    short: str = ""


@dataclass(frozen=True, slots=True)
class Naming:
    """How a mirror names its documents.

    `prefix` precedes every path and is escaped like one. `style`: `marked` (the target keeps our marker, so
    the name is the path), `tagged`, or `plain` (no tag). Different (path, tag, number) triples give different
    names, even after NFC or NFD normalization.
    """

    prefix: str = ""
    style: str = "tagged"

    def name(self, path: str, digest: str, number: int = 0) -> str:
        """Return the name for the document of `path` with these bytes.

        `number`: makes the name different from an identical one that is already in use.
        """
        if self.style == "marked":
            return self.prefix + path
        return self._compose_name(path, tag_of(digest) if self.style == "tagged" else "", number)

    def read(self, name: str) -> ParsedName | None:
        """Parse `name`. Return None if the name isn't ours.

        A leading folder, percent-encoding and a different normal form are undone first. A name with any other
        change isn't ours.
        """
        if self.style == "marked":
            is_ours = name.startswith(self.prefix) and name != self.prefix
            return ParsedName(name.removeprefix(self.prefix)) if is_ours else None
        text = _normalize(name)
        match = self._match(text)
        if match is None:
            return None
        body, tag, ext = (match.get(part) or "" for part in ("body", "tag", "ext"))
        number = int(match["number"] or 0)
        if shortened := _SHORTENED.fullmatch(body):
            # The head starts with the prefix, or with as much of it as fits.
            head = _unflatten(shortened["head"])
            is_ours = head is not None and (head.startswith(self.prefix) or self.prefix.startswith(head))
            is_ours = is_ours and len(text.encode()) <= MAX_NAME_BYTES
            return ParsedName(None, tag, number, shortened["short"]) if is_ours else None
        path = self._path(body, ext)
        # A name that kbsync would write differently is not ours, however similar it looks (promise 6).
        if path is None or self._compose_name(path, tag, number) != text:
            return None
        return ParsedName(path, tag, number)

    def read_mangled(self, name: str) -> ParsedName | None:
        """Parse `name` like `read`, but also accept a name with an added number, or one decoded with the
        wrong encoding.
        """
        bare = _normalize(name)
        guesses = [name, _strip_added(bare)]
        for codec in _MISREAD_AS:  # a service may have decoded the UTF-8 as one of these
            with contextlib.suppress(UnicodeError):
                guesses.append(bare.encode(codec).decode("utf-8"))
        return next((parsed for guess in guesses if (parsed := self.read(guess)) is not None), None)

    def key(self, name: str) -> str:
        """Return a key that is equal for a name and for every form in which a service may return it.

        The key is the tag, "" (for plain names), or the name (for marked ones). The key of a name that isn't
        ours is arbitrary.
        """
        if self.style == "marked":
            return name
        match = _KEY.search(_normalize(name)) if self.style == "tagged" else None
        return match[1] if match else ""

    def recognizes(self, sent_name: str, listed_name: str) -> bool:
        """Return whether `listed_name` is the name `sent_name`, perhaps mangled by the service.

        The comparison allows for a different Unicode normal form, percent-encoding, a leading folder, "(1)"
        or "_1" before the extension, UTF-8 decoded with the wrong encoding, and replaced or dropped non-ASCII
        characters.
        """
        if sent_name == listed_name:
            return True
        if self.style == "marked" or self.key(sent_name) != self.key(listed_name):
            return False
        bare = _normalize(listed_name)
        variants = (bare, _strip_added(bare))
        if sent_name in variants or sent_name.isascii():
            return sent_name in variants
        sources = (sent_name, unicodedata.normalize("NFD", sent_name))
        misread = {
            _legible(source.encode().decode(codec, "replace")) for source in sources for codec in _MISREAD_AS
        }
        return any(
            _legible(variant) in misread
            or any(_has_dropped_characters(source, variant) for source in sources)
            for variant in variants
        )

    def short_of(self, path: str) -> str:
        """Return the hash of a path if its name is shortened (regardless of digest and number), otherwise
        "".
        """
        if self.style == "marked":
            return ""
        flat, ext = self._flat(path)
        return "" if len(flat.encode()) <= self._room(ext) else _short(path)

    def _compose_name(self, path: str, tag: str, number: int) -> str:
        flat, ext = self._flat(path)
        room = self._room(ext)
        if len(flat.encode()) > room:
            ending = f"~~{_short(path)}"
            flat = _cut(flat, room - len(ending)) + ending
        return flat + _ending(flat + ext, tag, number) + ext

    def _flat(self, path: str) -> tuple[str, str]:
        """Return the prefixed and flattened path without its extension, and the extension."""
        composed = unicodedata.normalize("NFC", path)
        is_decomposed = composed != path and unicodedata.is_normalized("NFD", path)
        text = self.prefix + (composed if is_decomposed else path)
        stem, ext = _split(path.rpartition("/")[2])
        ext = ext if stem.strip(".") else ""  # the file `.md`, for example, has no extension
        return _flatten(text[: len(text) - len(ext)]) + ("~d" if is_decomposed else ""), ext

    def _room(self, ext: str) -> int:
        """Return the number of bytes available for the flat path."""
        tag = 1 + _TAG if self.style == "tagged" else 0
        return MAX_NAME_BYTES - tag - _COUNTER - len(ext)

    def _match(self, text: str) -> dict[str, str | None] | None:
        if self.style == "tagged":
            match = _TAGGED.fullmatch(text)
            return match.groupdict() if match else None
        stem, ext = _split(text)
        match = _PLAIN.fullmatch(stem)
        return {**match.groupdict(), "ext": ext} if match else None

    def _path(self, body: str, ext: str) -> str | None:
        """Return the original path, or None if it has a different prefix or can't exist in any folder."""
        text = _unflatten(body.removesuffix("~d"))
        if text is None or not (text + ext).startswith(self.prefix):
            return None
        path = (text + ext)[len(self.prefix) :]
        if "\0" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
            return None
        return unicodedata.normalize("NFD", path) if body.endswith("~d") else path


def _ending(bare: str, tag: str, number: int) -> str:
    """Return the text between the flat path and the extension. `bare` is the name without the extension."""
    if tag:
        return f"~{tag}-{number}" if number else f"~{tag}"
    if number:
        return f"~-{number}"
    return "" if _strip_added(bare) == bare else "~"  # `a_1.md` must not look like `a.md` renamed


def _split(name: str) -> tuple[str, str]:
    match = _AT_END.search(name)
    return (name[: match.start()], match[0]) if match else (name, "")


def _short(path: str) -> str:
    return _base32(hashlib.sha256(_bytes(path)).digest(), _SHORT)


def _bytes(text: str) -> bytes:
    """Return the bytes of a path, as `os.fsencode` returns them on a system that uses UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def _cut(flat: str, room: int) -> str:
    """Return as many whole characters of `flat` as fit into `room` bytes."""
    end = 0
    for piece in _PIECE.finditer(flat):
        room -= len(piece[0].encode())
        if room < 0:
            break
        end = piece.end()
    return flat[:end]


def _escape(text: str) -> str:
    return "".join(f"~{byte:02X}" for byte in _bytes(text))


def _flatten(text: str) -> str:
    """Return `text` in flattened form: readable, reversible, and NFC-normalized."""

    def make_safe(match: re.Match[str]) -> str:
        beyond = match["beyond"]
        return beyond if beyond and (beyond.isprintable() or beyond in _KEPT) else _escape(match[0])

    flat = _UNSAFE.sub(make_safe, text).replace("/", "__")
    # Escape every character that NFC normalization would change, so that services that normalize names leave
    # ours unchanged.
    if unicodedata.is_normalized("NFC", flat):
        return flat
    pieces, cluster = [], ""  # the cluster begins with ASCII, which never combines with what precedes it
    for character in flat:
        if character.isascii():
            cluster = ""
        elif not unicodedata.is_normalized("NFC", cluster + character):
            character, cluster = _escape(character), ""
        cluster = (cluster + character) if cluster else character[-1]
        pieces.append(character)
    return "".join(pieces)


def _unflatten(flat: str) -> str | None:
    """Return the original text, or None if `flat` wasn't produced by `_flatten`."""
    if _WRITTEN.fullmatch(flat) is None:
        return None
    try:
        raw = flat.replace("__", "/").encode()
    except UnicodeEncodeError:
        return None
    return _BYTE.sub(lambda match: bytes.fromhex(match[1].decode()), raw).decode("utf-8", "surrogateescape")


def _normalize(name: str) -> str:
    """Return `name` without a leading folder, percent-decoded, and NFC-normalized.

    This leaves our own names unchanged.
    """
    bare = _SLASH.split(name)[-1]
    if "%" in bare:
        spaced = bare if "%20" in bare else bare.replace("+", " ")  # web forms encode a space as `+`
        raw = spaced.encode("utf-8", "replace")
        bare = _PERCENT.sub(lambda match: bytes.fromhex(match[1].decode()), raw).decode("utf-8", "replace")
    return unicodedata.normalize("NFC", bare)


def _strip_added(name: str) -> str:
    stem, ext = _split(name)
    return _ADDED_AT_END.sub("", stem) + ext


def _legible(text: str) -> str:
    return _ILLEGIBLE.sub("", unicodedata.normalize("NFC", text))


def _has_dropped_characters(sent_name: str, listed_name: str) -> bool:
    """Return whether `listed_name` is `sent_name` with its non-ASCII characters dropped, or replaced by `?`,
    `_` or U+FFFD.
    """
    survivors = {character for character in listed_name if not character.isascii()} - {"\ufffd"}
    missing = {character for character in sent_name if not character.isascii()} - survivors
    if not missing or _LOST.sub(
        "", "".join(character for character in sent_name if character not in missing)
    ) != _LOST.sub("", listed_name):
        return False
    # If some characters survived, the others must have left a trace; otherwise `手册` would match `册`.
    # Characters outside the Basic Multilingual Plane may vanish without a trace, because old databases drop
    # them.
    has_trace = len(_LOST.findall(listed_name)) > len(_LOST.findall(sent_name))
    return has_trace or not survivors or min(missing) > "\uffff"
