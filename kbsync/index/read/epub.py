"""EPUB books: the chapters in reading order.

Read here because the general parser drops without a word what is nested deeper than 64 elements.
"""

from __future__ import annotations

import posixpath
from urllib.parse import unquote

from kbsync.index.document import Parsed
from kbsync.index.read.encoding import decode_declared
from kbsync.index.read.html import read_html
from kbsync.index.read.markdown import document_title
from kbsync.index.read.zip import Archive, damaged, encrypted, without_text

_PAGES = ("application/xhtml+xml", "text/html")


def read_epub(raw: bytes) -> Parsed:
    """The book as markdown. Raises `Rejected` for one that is locked, damaged, or all pictures."""
    archive = Archive(raw)
    container = archive.xml("META-INF/container.xml")
    named = None if container is None else next(container.iter("rootfile"), None)
    name = "" if named is None else named.get("full-path", "")
    package = archive.xml(name)
    if package is None:
        raise damaged("it is not an EPUB, or its main part is missing")
    items = {item.get("id", ""): item for item in package.iter("item")}
    chapters = list[str]()  # the part names of the pages in the order of the spine
    for entry in package.iter("itemref"):
        item = items.get(entry.get("idref", ""))
        if item is not None and item.get("media-type") in _PAGES:
            part = posixpath.join(posixpath.dirname(name), unquote(item.get("href", "")))
            chapters.append(posixpath.normpath(part))
    # Fonts are often obscured; only a locked chapter locks the book.
    if (listed := archive.xml("META-INF/encryption.xml")) is not None:
        locked = {unquote(entry.get("URI", "")) for entry in listed.iter("CipherReference")}
        if locked & set(chapters):
            raise encrypted()
    texts = [read_html(decode_declared(page)).text for part in chapters if (page := archive.read(part))]
    text = "\n\n".join(filter(None, texts))
    if not text:
        raise without_text(pictures=archive.has_pictures())
    return Parsed(text, title=document_title(package.findtext(".//title"), text))
