"""EPUB books: the chapters in reading order.

Read here because the general parser drops without a word what is nested deeper than 64 elements.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from urllib.parse import unquote

from kbsync.index.document import Parsed
from kbsync.index.read.encoding import decode_declared
from kbsync.index.read.html import read_html
from kbsync.index.read.markdown import document_title
from kbsync.index.read.zip import Archive, Element, damaged, encrypted, without_text

_PAGES = ("application/xhtml+xml", "text/html")


def read_epub(raw: bytes) -> Parsed:
    """The book as markdown. Raises `Rejected` for one that is locked, damaged, or all pictures."""
    archive = Archive(raw)
    name = _package_name(archive)
    package = archive.xml(name)
    if package is None:
        raise damaged("it is not an EPUB, or its main part is missing")
    chapters = list(_chapters(package, posixpath.dirname(name)))
    if _is_locked(archive, chapters):
        raise encrypted()
    texts = [read_html(decode_declared(page)).text for part in chapters if (page := archive.read(part))]
    text = "\n\n".join(filter(None, texts))
    if not text:
        raise without_text(pictures=archive.has_pictures())
    return Parsed(text, title=document_title(package.findtext(".//title"), text))


def _package_name(archive: Archive) -> str:
    container = archive.xml("META-INF/container.xml")
    for entry in container.iter("rootfile") if container is not None else ():
        return entry.get("full-path", "")
    raise damaged("it is not an EPUB, or its main part is missing")


def _chapters(package: Element, folder: str) -> Iterator[str]:
    """The part names of the pages in the order of the spine."""
    items = {item.get("id", ""): item for item in package.iter("item")}
    for entry in package.iter("itemref"):
        item = items.get(entry.get("idref", ""))
        if item is not None and item.get("media-type") in _PAGES:
            yield posixpath.normpath(posixpath.join(folder, unquote(item.get("href", ""))))


def _is_locked(archive: Archive, chapters: list[str]) -> bool:
    """Fonts are often obscured; only a locked chapter locks the book."""
    listed = archive.xml("META-INF/encryption.xml")
    if listed is None:
        return False
    locked = {unquote(entry.get("URI", "")) for entry in listed.iter("CipherReference")}
    return any(part in locked for part in chapters)
