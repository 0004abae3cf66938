"""Link files: small files that hold the address of a page, which the service fetches by itself.

`.url` is what Windows and browsers write (`[InternetShortcut]`), `.desktop` what Linux desktops do
(`[Desktop Entry]` with `Type=Link`), `.webloc` a property list of macOS, as XML or binary. Pure.
"""

from __future__ import annotations

import plistlib
import re
from collections.abc import Mapping
from typing import BinaryIO
from urllib.parse import SplitResult, quote, urlsplit

from kbsync.core.text import extension_of

EXTENSIONS = frozenset({"url", "webloc", "desktop"})
LARGEST = 64 * 1024
"""Bytes of a link file; what is larger is none."""

LONGEST = 2048
"""Characters of an address; no service says its limit, browsers and proxies take about so many."""

_PORTS = {"http": 80, "https": 443}
_FORBIDDEN = re.compile("[\x00-\x20\x7f\ud800-\udfff]")
_SAFE = "".join({chr(code) for code in range(0x21, 0x7F)} - set('<>"\\^`{|}'))

Sections = Mapping[str, Mapping[str, str]]


class NoLink(ValueError):
    """It holds no address that a service could fetch; `str()` says why."""


def is_link(path: str) -> bool:
    """By its extension."""
    return extension_of(path) in EXTENSIONS


def is_address(text: str) -> bool:
    """It begins as the address of a page does; no name that we give to a document does."""
    return text[:8].lower().startswith(("http://", "https://"))


def address_from(path: str, stream: BinaryIO) -> str:
    """The address in the link file `path` that is open here. Raises NoLink."""
    return read_address(path, stream.read(LARGEST + 1))


def read_address(path: str, content: bytes) -> str:
    """The address in the link file `path`, in ASCII. Raises NoLink."""
    if len(content) > LARGEST:
        raise NoLink(f"is over {LARGEST:,} bytes, which no link file is")
    match extension_of(path):
        case "webloc":
            return checked(_from_plist(content))
        case "desktop":
            return checked(_from_desktop(_sections(content)))
        case _:
            return checked(_from_shortcut(_sections(content)))


def checked(text: str) -> str:
    """An http(s) address in ASCII, as it may be sent. Raises NoLink."""
    text = text.strip()
    if not text:
        raise NoLink("holds no address")
    if len(text) > LONGEST or _FORBIDDEN.search(text):
        raise NoLink(f"its address has blanks or forbidden characters, or more than {LONGEST} in all")
    parts = _split(text)
    if parts.scheme not in _PORTS:
        raise NoLink(f"its address begins with {parts.scheme or 'no scheme'}:, and only http and https go")
    if not parts.hostname:
        raise NoLink("its address names no host")
    if "@" in parts.netloc:
        raise NoLink("its address holds a user name or password, which would be given to the service")
    return _in_ascii(parts)


def same_address(sent: str, seen: str) -> bool:
    """`seen` is the address `sent`, perhaps written in another way.

    Undone are the case of scheme and host, a default port, an empty path and a fragment that was cut off.
    """
    one, other = address_key(sent), address_key(seen)
    return one == other or (one is not None and one.partition("#")[0] == other)


def address_key(text: str) -> str | None:
    """Equal for the ways to write one address; None for what is none."""
    try:
        parts = urlsplit(checked(text))
        port = None if parts.port == _PORTS[parts.scheme] else parts.port
    except ValueError:
        return None
    where = f"{parts.hostname}:{port}" if port else parts.hostname
    return parts._replace(netloc=where or "", path=parts.path or "/").geturl()


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - it raises where there is no such port
    except ValueError:
        raise NoLink("its address is malformed") from None
    return parts


def _in_ascii(parts: SplitResult) -> str:
    """As browsers send it: the host by IDNA, all else in percent-encoded UTF-8."""
    try:
        host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode("ascii")
        rest = parts._replace(scheme="", netloc="").geturl()
        return f"{parts.scheme}://{host}{quote(rest, safe=_SAFE)}"
    except UnicodeError:
        raise NoLink("its address has a host that cannot be looked up") from None


def _from_shortcut(sections: Sections) -> str:
    section = sections.get("internetshortcut")
    if section is None:
        raise NoLink("has no section [InternetShortcut]")
    return section.get("url", "")


def _from_desktop(sections: Sections) -> str:
    section = sections.get("desktop entry")
    if section is None:
        raise NoLink("has no section [Desktop Entry]")
    kind = section.get("type", "")
    if kind != "Link":
        raise NoLink(f"is no link: its Type is {kind[:40] or 'missing'}")
    return section.get("url", "")


def _from_plist(content: bytes) -> str:
    try:
        value = plistlib.loads(content)
    except Exception as error:
        # It lets through whatever its parsers raise; entities it refuses by itself.
        raise NoLink("is no property list that can be read") from error
    address = value.get("URL") if isinstance(value, dict) else None
    if not isinstance(address, str):
        raise NoLink("has no URL in its property list")
    return address


def _sections(content: bytes) -> Sections:
    """Sections and keys in lower case; the first of equal keys counts, lines without sense do not."""
    # configparser would refuse what Windows and desktops accept: equal keys, lines without a key.
    sections: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in _text(content).splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            current = sections.setdefault(line[1:-1].strip().lower(), {})
        elif "=" in line and line[0] not in "#;":
            key, _, value = line.partition("=")
            current.setdefault(key.strip().lower(), value.strip())
    return sections


def _text(content: bytes) -> str:
    """The text of the file, in whatever encoding."""
    # Lines beside the address may be in the code page of some machine: in an address that shows as a lone
    # surrogate, and is refused.
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    return content.decode("utf-8-sig", "surrogateescape")
