"""Formats text for people and protocols: makes it printable, quotes it for a shell, formats sizes and
durations, and repairs JSON. This module does no I/O.

Most text that kbsync shows comes from outside, such as file names and services' responses. Such text must not
move a terminal's cursor, forge a log line or hide its own content.
"""

from __future__ import annotations

import base64
import functools
import os
import re
import shlex
from collections.abc import Callable, Iterable, Sequence

_HARMFUL = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0 and C1 controls, including line ends
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # direction, line ends, invisible
    "\ud800-\udfff"  # bytes that are not UTF-8, as surrogate escapes
    "\U000e0000-\U000e007f"  # tags: invisible
    "]"
)
_HARMFUL_IN_LINES = re.compile(f"(?![\n\t]){_HARMFUL.pattern}")


def lazy_pattern(pattern: str) -> Callable[[], re.Pattern[str]]:
    """Return a function that compiles `pattern` when it is first called.

    Compiling takes milliseconds if the pattern has many non-ASCII characters, and many runs don't need it.
    """
    return functools.cache(functools.partial(re.compile, pattern))


def extension_of(path: str) -> str:
    """Return the extension in lowercase, without the dot, or "" for a name without one (`README`,
    `.profile`).
    """
    stem, _, extension = path.rpartition("/")[2].rpartition(".")
    return extension.lower() if stem.strip(".") else ""


def printable(text: str) -> str:
    """Return `text` on one line, with control and invisible characters escaped, and bytes that aren't UTF-8
    as `\\xff`.
    """
    return text if text.isprintable() else _HARMFUL.sub(_escape, text)


def printable_lines(text: str) -> str:
    """Return `text` with its line ends and tabs unchanged, and everything else as in `printable`."""
    return _HARMFUL_IN_LINES.sub(_escape, text)


def shell_word(text: str) -> str:
    """Return `text` quoted for a shell.

    If it isn't printable, use the syntax that bash and zsh understand.
    """
    if printable(text) == text:
        return shlex.quote(text)
    plain = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{_HARMFUL.sub(_escape, plain)}'"


def path_argument(path: str) -> str:
    """Return `path` as an argument that no command can mistake for an option. It isn't quoted yet."""
    return f"./{path}" if path.startswith("-") else path


def shell_command(words: Iterable[str]) -> str:
    """Return a command line that consists of these words, on a single line."""
    return " ".join(map(shell_word, words))


def _escape(match: re.Match[str]) -> str:
    """Escape a character as in C and in shells: `\\x` for a byte, `\\u` for a character."""
    number = ord(match[0])
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    if 0x80 <= number <= 0x9F:
        return f"\\u{number:04x}"
    return match[0].encode("unicode_escape").decode()


_PATH_ESCAPE = re.compile(r"\\(?:x(?!00)[0-9a-f]{2}|u(?!d[89a-f])[0-9a-f]{4}|U000[0-9a-f]{5}|[nrt])")
"""Matches the escapes of characters that a path can contain. Other surrogates and NUL aren't among them."""


def unescape_path(text: str) -> str:
    """Return the path that `printable` shows as `text`, or `text` itself if there is none."""

    def character(match: re.Match[str]) -> str:
        kind, digits = match[0][1], match[0][2:]
        if not digits:
            return {"n": "\n", "r": "\r", "t": "\t"}[kind]
        number = int(digits, 16)
        return chr(number + 0xDC00 if kind == "x" and number >= 0x80 else number)

    path = _PATH_ESCAPE.sub(character, text)
    return path if printable(path) == text else text


def format_count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 document`, `2 documents`, `1,204 documents`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_list(names: Sequence[str], conjunction: str = "and") -> str:
    """Return names joined as in a sentence: `a`, `a and b`, `a, b and c`. `conjunction`: `and` or `or`."""
    *first, last = names
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def format_size(size: int) -> str:
    """Return a number of bytes in human-readable form: `812 B`, `4.1 kB`, `12 MB`."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 9.95 else f"{amount:.1f} {unit}"


def format_duration(seconds: float) -> str:
    """Return a duration in human-readable form: `0.4 s`, `12 s`, `3 min`, `5 h`, `2 d`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min"), (129600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} d"


def number_in(text: str) -> int | None:
    """Return the number in the text, or None if it isn't a number or has too many digits to be a count."""
    # int() takes quadratic time for a million digits.
    return int(text) if text.isdecimal() and len(text) <= 20 else None


def cursor(path: str) -> str:
    """Encode a path as a page cursor.

    Paths aren't always valid Unicode, so they can't be used as they are.
    """
    return base64.urlsafe_b64encode(os.fsencode(path)).decode()


def path_at(text: str) -> str:
    """Return the path encoded in `cursor`, which may lack its padding. Raises `ValueError`."""
    padded = text + "=" * (-len(text) % 4)
    return os.fsdecode(base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True))


_FIT = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")


def fits_header(value: str) -> bool:
    """Return whether the text is printable ASCII, isn't empty, and has no spaces at either end."""
    return _FIT.fullmatch(value) is not None


_JSON_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a surrogate pair
    r"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
    r"|\\."  # any other escape, such as an escaped backslash before a u
)
_JSON_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def replace_surrogates(json_text: str) -> str:
    """Return the same JSON, at the same length, with each lone surrogate replaced by U+FFFD.

    Some programs truncate text inside an emoji, or encode the invalid UTF-8 bytes of a name this way.
    Databases and the MCP package reject such text.
    """
    if _JSON_SURROGATE.search(json_text) is None:  # quick: JSON in Chinese may consist of other escapes
        return json_text
    return _JSON_ESCAPE.sub(lambda match: "\\ufffd" if match["half"] else match[0], json_text)
