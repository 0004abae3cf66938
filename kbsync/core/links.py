"""Reads link files: small files that contain a web page's address. The service fetches the page itself. This
module does no I/O.

Windows and browsers write `.url` (`[InternetShortcut]`), Linux desktops write `.desktop` (`[Desktop Entry]`
with `Type=Link`), and macOS writes `.webloc`, a property list in XML or binary.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import BinaryIO
from urllib.parse import SplitResult, quote, urlsplit

from kbsync.core.text import extension_of

EXTENSIONS = frozenset({"url", "webloc", "desktop"})
MAX_BYTES = 64 * 1024
"""Maximum size of a link file in bytes."""

MAX_ADDRESS_LENGTH = 2048
"""Maximum length of an address in characters.

No service documents its limit, but browsers and proxies allow about this many.
"""

_PORTS = {"http": 80, "https": 443}
_FORBIDDEN = re.compile("[\x00-\x20\x7f\ud800-\udfff]")
_SAFE = "".join({chr(code) for code in range(0x21, 0x7F)} - set('<>"\\^`{|}'))


class NoLink(ValueError):
    """Raised if a link file contains no address that a service could fetch. `str()` says why."""


def is_link(path: str) -> bool:
    """Return whether files with this extension are link files."""
    return extension_of(path) in EXTENSIONS


def is_address(text: str) -> bool:
    """Return whether the text begins like a web address. No document name that kbsync creates does."""
    return text[:8].lower().startswith(("http://", "https://"))


def address_from(path: str, stream: BinaryIO) -> str:
    """Return the address in the link file `path`, which is open as `stream`. Raises NoLink."""
    return read_address(path, stream.read(MAX_BYTES + 1))


def read_address(path: str, content: bytes) -> str:
    """Return the address in the link file `path`, in ASCII. Raises NoLink."""
    if len(content) > MAX_BYTES:
        raise NoLink(f"is too large for a link file (maximum: {MAX_BYTES:,} bytes)")
    match extension_of(path):
        case "webloc":
            return checked(_from_plist(content))
        case "desktop":
            section = _section(content, "Desktop Entry")
            if (kind := section.get("type", "")) != "Link":
                raise NoLink(f"is not a link: its Type is {kind[:40] or 'missing'}")
        case _:
            section = _section(content, "InternetShortcut")
    return checked(section.get("url", ""))


def checked(text: str) -> str:
    """Return the http(s) address in ASCII, ready to be sent. Raises NoLink."""
    text = text.strip()
    if not text:
        raise NoLink("contains no address")
    if len(text) > MAX_ADDRESS_LENGTH or _FORBIDDEN.search(text):
        raise NoLink(
            f"the address contains spaces or forbidden characters, or is longer than {MAX_ADDRESS_LENGTH} "
            "characters"
        )
    parts = _split(text)
    if parts.scheme not in _PORTS:
        raise NoLink(
            f"the address begins with {parts.scheme or 'no scheme'}:, but only http and https are supported"
        )
    if not parts.hostname:
        raise NoLink("the address has no host")
    if "@" in parts.netloc:
        raise NoLink("the address contains a username or password, which the service would receive")
    try:  # as browsers send it: the host by IDNA, all else in percent-encoded UTF-8
        host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode("ascii")
        remainder = parts._replace(scheme="", netloc="").geturl()
        return f"{parts.scheme}://{host}{quote(remainder, safe=_SAFE)}"
    except UnicodeError:
        raise NoLink("the address contains a host name that cannot be resolved") from None


def same_address(sent_address: str, listed_address: str) -> bool:
    """Return whether `listed_address` is the address `sent_address`, perhaps spelled differently.

    Ignores the case of the scheme and the host, a default port, an empty path, and a fragment that is missing
    from the listed address.
    """
    sent_key, listed_key = address_key(sent_address), address_key(listed_address)
    return sent_key == listed_key or (sent_key is not None and sent_key.partition("#")[0] == listed_key)


def address_key(text: str) -> str | None:
    """Return a key that is equal for all spellings of an address, or None for text that isn't an address."""
    try:
        parts = urlsplit(checked(text))
        port = None if parts.port == _PORTS[parts.scheme] else parts.port
    except ValueError:
        return None
    authority = f"{parts.hostname}:{port}" if port else parts.hostname
    return parts._replace(netloc=authority or "", path=parts.path or "/").geturl()


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - it raises where there is no such port
    except ValueError:
        raise NoLink("the address is malformed") from None
    return parts


def _from_plist(content: bytes) -> str:
    import plistlib  # imported late: few files need it, and it loads an XML parser

    try:
        value = plistlib.loads(content)
    except Exception as error:
        # loads() raises whatever its parsers raise; it rejects entities itself.
        raise NoLink("is not a readable property list") from error
    address = value.get("URL") if isinstance(value, dict) else None
    if not isinstance(address, str):
        raise NoLink("has no URL in its property list")
    return address


def _section(content: bytes, name: str) -> Mapping[str, str]:
    """Return a section, with its keys in lowercase.

    If a key is repeated, its first value is used. Lines without a key are ignored. Raises NoLink if there is
    no such section.
    """
    # configparser rejects files that Windows and Linux desktops accept, such as files with repeated keys or
    # with lines that have no key.
    sections: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in _text(content).splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            current = sections.setdefault(line[1:-1].strip().lower(), {})
        elif "=" in line and line[0] not in "#;":
            key, _, value = line.partition("=")
            current.setdefault(key.strip().lower(), value.strip())
    if name.lower() not in sections:
        raise NoLink(f"has no section [{name}]")
    return sections[name.lower()]


def _text(content: bytes) -> str:
    """Return the text of the file, regardless of its encoding."""
    # Other lines may be in a legacy code page. In an address, such bytes become lone surrogates, so the
    # address is refused.
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    return content.decode("utf-8-sig", "surrogateescape")
