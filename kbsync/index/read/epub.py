"""Reads e-books in HTML (EPUB): the chapters in reading order, with their titles from the table of
contents.
"""

from __future__ import annotations

import posixpath
import re
from contextlib import suppress
from html import escape
from urllib.parse import unquote

from kbsync.errors import Rejected
from kbsync.index.document import Parsed
from kbsync.index.read.encoding import decode_declared
from kbsync.index.read.html import read_html
from kbsync.index.read.text import document_title, one_line
from kbsync.index.read.zip import Archive, Element, damaged, encrypted

_CHAPTERS = ("application/xhtml+xml", "text/html", "image/svg+xml")
_CONTENTS = "application/x-dtbncx+xml"
_MAX_FALLBACKS = 20
_CDATA = re.compile(r"<!\[CDATA\[(.*?)(?:\]\]>|\Z)", re.DOTALL)  # text in XML, but a comment in HTML


def read_epub(raw: bytes) -> Parsed:
    """Return the book as Markdown.

    Raises `Rejected` if the book is encrypted, damaged, or has only pictures.
    """
    book = _Book(Archive(raw))
    text = "\n\n".join(filter(None, map(book.chapter, book.chapters)))
    book.archive.require_text(text)
    return Parsed(text, title=document_title(book.title, text))


class _Book:
    """The parts that contain chapters, in the order of the spine, and the titles of the chapters."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        named = next(archive.xml("META-INF/container.xml").iter("rootfile"), None)
        self._main = "" if named is None else named.get("full-path", "")
        package = archive.xml(self._main)
        if not len(package):
            raise damaged("the file is not an EPUB, or its main part is missing")
        self._items = {item.get("id", ""): item for item in package.iter("item")}
        listed = (self._part(entry.get("idref", "")) for entry in package.iter("itemref"))
        self.chapters = [part for part in listed if part]
        self.title = package.findtext(".//title")
        # Fonts are often encrypted; a book counts as locked only if a chapter is.
        protected = archive.xml("META-INF/encryption.xml").iter("CipherReference")
        if {unquote(entry.get("URI", "")) for entry in protected} & set(self.chapters):
            raise encrypted()
        self._contents, self._titles = set[str](), dict[str, str]()
        for item in self._items.values():
            self._read_contents(item)

    def chapter(self, part: str) -> str:
        """Return the text of a chapter.

        If the chapter has no heading, it gets its title from the table of contents.
        """
        page = _CDATA.sub(lambda section: escape(section[1]), decode_declared(self.archive.read(part)))
        text = read_html(page, falls_back_to_menu=part not in self._contents).text
        title = self._titles.get(part)
        if not text or not title or any(line.startswith("#") for line in text.split("\n")):
            return text
        first, _, rest = text.partition("\n\n")
        return f"# {title}\n\n{rest if first == title else text}".rstrip()

    def _part(self, name: str) -> str:
        """Return the part that an item refers to.

        If kbsync can't read this part, return the first fallback that it can read, or "".
        """
        for _ in range(_MAX_FALLBACKS):
            if (item := self._items.get(name)) is None:
                break
            if item.get("media-type") in _CHAPTERS:
                return _resolve(self._main, item.get("href", ""))
            name = item.get("fallback", "")
        return ""

    def _read_contents(self, item: Element) -> None:
        """If the item is a table of contents, keep the titles of the chapters."""
        part = _resolve(self._main, item.get("href", ""))
        is_new = "nav" in item.get("properties", "").split()  # EPUB 3; otherwise the NCX of EPUB 2
        if is_new:
            self._contents.add(part)
        elif item.get("media-type") != _CONTENTS:
            return
        with suppress(Rejected):  # a book is readable without a table of contents
            for entry in self.archive.xml(part).iter("a" if is_new else "navPoint"):
                link = entry if is_new else entry.find("content")
                address = None if link is None else link.get("href" if is_new else "src")
                label = entry if is_new else entry.find("navLabel")
                title = "" if label is None else one_line("".join(label.itertext()))
                if address and title:
                    self._titles.setdefault(_resolve(part, address.partition("#")[0]), title)


def _resolve(main: str, address: str) -> str:
    """Return the name of the part that a link in another part points to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(main), unquote(address)))
