"""Opens documents that are ZIP archives, within limits, and reads their XML without expanding entities.

It doesn't read pictures, audio or video, so these may have any size and don't count toward the limits.
"""

from __future__ import annotations

import io
import posixpath
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from xml.etree import ElementTree
from xml.parsers import expat

from kbsync.errors import Rejected
from kbsync.index.document import Parsed
from kbsync.index.read.text import document_title, split_keywords

MAX_UNPACKED_BYTES = 512 * 1024 * 1024
"""Maximum total size in bytes of all unpacked parts."""

_MAX_XML_BYTES = 64 * 1024 * 1024
_MAX_PARTS = 20_000
_MAX_RATIO = 200  # deflate reaches 1032:1; XML of real documents stays below 60:1
_RATIO_FROM = 16 * 1024 * 1024
_OLE = bytes.fromhex("D0CF11E0A1B11AE1")
_PICTURES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".tif", ".tiff", ".emf", ".emz", ".wmf", ".wmz", ".bmp",
    ".dib", ".webp", ".heic", ".heif", ".avif", ".svg", ".ico", ".wdp", ".hdp", ".jxr", ".pict", ".eps",
)  # fmt: skip
_MEDIA = (
    *_PICTURES, ".wav", ".mp3", ".m4a", ".aac", ".wma", ".ogg", ".oga", ".mid", ".aif", ".aiff", ".flac",
    ".mp4", ".m4v", ".mov", ".avi", ".wmv", ".mpg", ".mpeg", ".mkv", ".webm", ".asf", ".glb",
    ".ttf", ".otf", ".woff", ".woff2", ".odttf", ".fntdata",
)  # fmt: skip

Element = ElementTree.Element


def damaged(detail: str) -> Rejected:
    """Return the error for a file that doesn't match its extension."""
    return Rejected(
        f"cannot be read: {detail}; open the document in the program that created it and save it again",
        code="damaged",
    )


def encrypted() -> Rejected:
    """Return the error for a password-protected file."""
    return Rejected("the file is password-protected; save a copy without a password", code="encrypted")


def without_text(*, pictures: bool = False) -> Rejected:
    """Return the error for a document without text. If the document has pictures, they are probably scans."""
    if not pictures:
        return Rejected("no text found", code="no-text")
    return Rejected(
        "no text found: the document seems to contain only scanned pages or pictures; run OCR (text "
        "recognition) on it and save the result",
        code="scanned",
    )


class Archive:
    """The parts of a ZIP archive. Raises `Rejected` if the archive is a ZIP bomb, encrypted or damaged."""

    def __init__(self, raw: bytes) -> None:
        if raw.startswith(_OLE):
            if "EncryptedPackage".encode("utf-16-le") in raw:
                raise encrypted()
            raise damaged(
                "the file is in an old Office format (doc, xls or ppt) but has the extension of a new format"
            )
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(raw))
        except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, OSError) as error:
            raise damaged("the archive is damaged or incomplete") from error
        parts = self._zip.infolist()
        if any(part.flag_bits & 1 for part in parts):
            raise encrypted()
        self._check([part for part in parts if not _is_medium(part.filename)])

    def _check(self, parts: list[zipfile.ZipInfo]) -> None:
        unpacked = sum(part.file_size for part in parts)
        packed = sum(part.compress_size for part in parts)
        is_bomb = unpacked > _RATIO_FROM and unpacked > packed * _MAX_RATIO
        if unpacked > MAX_UNPACKED_BYTES or len(parts) > _MAX_PARTS or is_bomb:
            raise Rejected(
                f"the archive unpacks to {unpacked >> 20} MiB in {len(parts)} parts, like a zip bomb; the "
                f"limits are {MAX_UNPACKED_BYTES >> 20} MiB and {_MAX_RATIO} times its size",
                code="bomb",
            )

    @property
    def names(self) -> list[str]:
        """Return the names of all parts, in the archive's order."""
        return self._zip.namelist()

    def require_text(self, text: str) -> None:
        """Raise `Rejected` if the document has no text."""
        if not text:
            # Not the thumbnail that programs add.
            pictures = (name for name in self.names if name.lower().endswith(_PICTURES))
            thumbnails = "docProps/", "Thumbnails/"
            raise without_text(pictures=not all(name.startswith(thumbnails) for name in pictures))

    def for_parser(self, replaced: Mapping[str, bytes] = {}) -> bytes:
        """Return the archive with some parts `replaced`, for a parser that unpacks everything.

        Pictures, audio and video become empty.
        """
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
            for name in self.names:
                target.writestr(name, b"" if _is_medium(name) else replaced.get(name) or self.read(name))
        return out.getvalue()

    def read(self, name: str) -> bytes:
        """Return the bytes of a part, or b"" if there is no such part."""
        try:
            part = self._zip.getinfo(name)
            if _is_medium(name):
                self._check([part])  # a text under a picture's name
            with self._zip.open(part) as content:
                return content.read(part.file_size + 1)  # never unpacks more than the declared size
        except KeyError:
            return b""
        except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, OSError) as error:
            raise damaged("the archive is damaged or incomplete") from error

    def xml(self, name: str) -> Element:
        """Return the root of an XML part, or an empty element if there is no such part."""
        raw = self.read(name)
        return parse_xml(raw) if raw else ElementTree.Element("")

    def related(self, name: str) -> dict[str, tuple[str, str]]:
        """Return the relationships of an Office part, except external ones: id → (last component of the type,
        part name).

        The name "" refers to the package.
        """
        folder = posixpath.dirname(name)
        relations = {}
        for row, target in self._relations(name):
            if row.get("TargetMode") != "External":
                part = posixpath.normpath(posixpath.join("/" + folder, target)).lstrip("/")
                relations[row.get("Id", "")] = (row.get("Type", "").rpartition("/")[2], part)
        return relations

    def addresses(self, name: str) -> dict[str, str]:
        """Return the addresses of the external relationships of an Office part, by id."""
        rows = self._relations(name)
        return {row.get("Id", ""): target for row, target in rows if row.get("TargetMode") == "External"}

    def _relations(self, name: str) -> Iterator[tuple[Element, str]]:
        for row in self.xml(relations_part(name)):
            if target := row.get("Target"):
                yield row, target

    def main_part(self, usual: str) -> str:
        """Return the name of an Office document's main part."""
        main = (part for kind, part in self.related("").values() if kind == "officeDocument")
        return next((part for part in main if part in self.names), usual)

    def parsed(self, text: str, page_starts: tuple[int, ...] = (), *, has_headings: bool = True) -> Parsed:
        """Return the text of an Office document, with the title and keywords from its properties.

        If there is no title and the document `has_headings`, the first heading is the title. Raises
        `Rejected` if there is no text.
        """
        self.require_text(text)
        properties = self.xml("docProps/core.xml")
        title = document_title(properties.findtext("title"), text if has_headings else "")
        tags = split_keywords(properties.findtext("keywords"))
        return Parsed(text, title=title, tags=tags, page_starts=page_starts)


def _is_medium(name: str) -> bool:
    return name.lower().endswith(_MEDIA)


def inside(parent: Element, tags: Collection[str], omitted: Collection[str]) -> Iterator[Element]:
    """Yield the elements with these tags in order, at any depth, but not those inside `omitted` elements."""
    for element in parent:
        if element.tag in tags:
            yield element
        elif element.tag not in omitted:
            yield from inside(element, tags, omitted)


def relations_part(name: str) -> str:
    """Return the name of the part that contains the relationships of an Office part; "" is the package
    itself.
    """
    folder, base = posixpath.split(name)
    return posixpath.join(folder, f"_rels/{base}.rels")


def number_of(value: str | None, usual: int) -> int:
    """Return an attribute's value as an integer, or `usual` if it is missing, invalid or too long."""
    value = (value or "").strip()
    return int(value) if value.isdecimal() and len(value) < 10 else usual


def parse_xml(raw: bytes) -> Element:
    """Parse an XML text and return its root.

    Raises `Rejected` for damaged XML and for a document type with declarations, so that no entity can be
    expanded. Old e-books refer to an external document type, which is never fetched.
    """
    if len(raw) > _MAX_XML_BYTES:
        raise Rejected(f"a part of the document exceeds {_MAX_XML_BYTES >> 20} MiB", code="too-large")
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")

    def start(tag: str, attributes: dict[str, str]) -> None:
        # Those in a namespace keep a colon: `r:id` becomes `:id`, which differs from `id`.
        items = attributes.items()
        builder.start(
            _local(tag), {(":" + _local(name) if "}" in name else name): value for name, value in items}
        )

    def refuse_declarations(_name: str, _system: str | None, _public: str | None, has_subset: int) -> None:
        if has_subset:
            raise Rejected("the XML declares a document type, which office documents never do", code="bomb")

    parser.StartDoctypeDeclHandler = refuse_declarations
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: builder.end(_local(tag))
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(raw, True)
        return builder.close()
    except (expat.ExpatError, ValueError, LookupError, AssertionError) as error:
        raise damaged("its XML is damaged") from error


def _local(tag: str) -> str:
    """Return the name without its namespace. Strict and transitional files differ only in the namespaces."""
    return tag.rpartition("}")[2]
