"""A document that is being indexed: its text, its chunks, and the entry to store."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field

from kbsync.dataclass import dataclass

MAX_TITLE_LENGTH = 500
"""Maximum length of a title or tag in characters."""


class Flavour(enum.Enum):
    """The structure of a text, for the chunker."""

    MARKDOWN = "markdown"  # ATX headings, fences, pipe tables; parsed documents become this
    PLAIN = "plain"  # paragraphs between blank lines
    RST = "rst"  # underlined headings
    ASCIIDOC = "asciidoc"  # = headings
    ORG = "org"  # * headings
    TEX = "tex"  # \section{…}
    CODE = "code"  # top-level blocks
    ROWS = "rows"  # one record a line (csv, tsv, jsonl, log); each chunk repeats `columns`


@dataclass(frozen=True, slots=True)
class Parsed:
    """The text of one document.

    `page_starts[i]` is the offset in `text` where page i+1 begins. `text` is Unicode without a BOM, with
    `\\n` line endings. `columns`: the header line of ROWS, otherwise "". `line_offset`: the number of lines
    before `text` in the file (front matter that was removed). `scanned_pages`: the numbers, counted from 1,
    of pages that are pictures without text.
    """

    text: str
    flavour: Flavour = Flavour.MARKDOWN
    title: str | None = None
    tags: tuple[str, ...] = ()
    page_starts: tuple[int, ...] = ()
    columns: str = ""
    line_offset: int = 0
    has_lines: bool = True  # lines of `text` are lines of the file (false for pdf, docx, …)
    scanned_pages: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture's bytes and media type."""

    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """A searchable piece of a document.

    `text` is shown; `embed_text` also includes the title and the headings, for the vector. `key` is the hex
    SHA-256 of the vector's input, which is `embed_text` or a `picture`. Chunks with equal keys share a
    vector. `line` and `page` start at 1.
    """

    text: str
    embed_text: str
    key: str
    headings: tuple[str, ...] = ()
    page: int | None = None
    line: int | None = None
    picture: Picture | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """The result of reading a document: its title and tags, its text in chunks, and the pages still to be
    recognized.

    `vectors`: vectors that were computed at the same time, in the format of `Entry`.
    """

    title: str | None
    tags: tuple[str, ...]
    chunks: tuple[Chunk, ...]
    scanned_pages: tuple[int, ...] = ()
    vectors: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """A document to store.

    `vectors`: float16 bytes by key, for the keys that need a vector. `replaces`: the id of the document to
    replace in the same transaction.
    """

    upload_id: int
    path: str
    name: str
    digest: str
    size: int
    recipe: str
    modified: float
    replaces: int | None = None
    title: str | None = None
    tags: tuple[str, ...] = ()
    chunks: tuple[Chunk, ...] = ()
    vectors: Mapping[str, bytes] = field(default_factory=dict)
    scanned_pages: tuple[int, ...] = ()
