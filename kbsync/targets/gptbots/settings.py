"""Kinds of documents at the vendor, and how they are cut. Pure.

What a mirror's config says of its target, as this target takes it.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kbsync.core.links import EXTENSIONS as LINKS
from kbsync.core.links import LARGEST as LARGEST_LINK
from kbsync.core.model import Limits
from kbsync.targets.http.target import RemoteSettings

LARGEST, LARGEST_PDF = 10_000_000, 30_000_000
"""Bytes of a document (the vendor's page "update text document": pdf 30 MB, all else 10 MB)."""

CHUNK_TOKEN, HEADER_ROW = 600, 1
"""The vendor's defaults; sent all the same, because a request without any rule is refused."""


class DocumentKind(enum.StrEnum):
    """A kind decides the routes; a document cannot move from one to another."""

    TEXT = "text"
    SPREADSHEET = "spreadsheet"
    QA = "qa"


_SHEETS = frozenset({"csv", "xls", "xlsx"})
FETCHED = frozenset({"pdf", "txt", "md", "doc", "docx"})
"""What the vendor fetches from an address: files of these formats, and no pages as far as is documented."""

EXTENSIONS = _SHEETS | FETCHED | LINKS

_LETTERS = {DocumentKind.TEXT: "t", DocumentKind.SPREADSHEET: "x", DocumentKind.QA: "q"}


@dataclass(frozen=True, slots=True)
class Cutting:
    """How one document is cut: either `chunk_token` or `splitter`, and `header_row` for tables."""

    kind: DocumentKind
    chunk_token: int | None = CHUNK_TOKEN
    splitter: str | None = None
    header_row: int | None = None

    @property
    def recipe(self) -> str:
        """A short word for it, such as `t600`, `ts1f0c9a3b` or `x600h1`."""
        rule = f"s{_short(self.splitter)}" if self.splitter is not None else str(self.chunk_token)
        header = f"h{self.header_row}" if self.header_row is not None else ""
        return f"{_LETTERS[self.kind]}{rule}{header}"

    @property
    def is_usual(self) -> bool:
        """As the vendor cuts where nothing is said."""
        is_sheet = self.kind is not DocumentKind.TEXT
        return self == Cutting(self.kind, header_row=HEADER_ROW if is_sheet else None)

    def fields(self, *, is_update: bool) -> dict[str, Any]:
        """What a request says of it: nothing where it changes questions and answers, by that call's page."""
        if is_update and self.kind is DocumentKind.QA:
            return {}
        given: dict[str, Any] = {"purpose": "QA_FILE"} if self.kind is DocumentKind.QA else {}
        given |= {"chunk_token": self.chunk_token} if self.splitter is None else {"splitter": self.splitter}
        return given | ({} if self.header_row is None else {"header_row": self.header_row})


def cutting_of(path: str, settings: Mapping[str, Any]) -> Cutting:
    """How the document at `path` is cut under these settings; what does not fit its kind is left out."""
    extension = extension_of(path)
    is_sheet = extension in _SHEETS
    kind = (
        (DocumentKind.QA if settings.get("kind") == "qa" else DocumentKind.SPREADSHEET)
        if is_sheet
        else DocumentKind.TEXT
    )
    splitter = None if kind is DocumentKind.SPREADSHEET else settings.get("splitter")
    return Cutting(
        kind,
        settings.get("chunk_token", CHUNK_TOKEN) if splitter is None else None,
        splitter,
        settings.get("header_row", HEADER_ROW) if is_sheet else None,
    )


def described(recipe: str) -> str:
    """The settings that a recipe stands for; '' for what is none of these recipes."""
    found = re.fullmatch(r"([txq])(?:(\d+)|s([0-9a-f]{8}))(?:h(\d+))?", recipe)
    if found is None:
        return ""
    kind = "kind qa, " if found[1] == _LETTERS[DocumentKind.QA] else ""
    rule = f"chunk_token {found[2]}" if found[2] else f"splitter {found[3]}"
    return f"{kind}{rule}{f', header_row {found[4]}' if found[4] else ''}"


def kind_of_recipe(recipe: str | None) -> DocumentKind | None:
    """The kind of a document that was made by `recipe`; None where that says nothing."""
    letter = (recipe or "")[:1]
    return next((kind for kind, one in _LETTERS.items() if one == letter), None)


def extension_of(path: str) -> str:
    """In lower case, without the dot."""
    return path.rpartition("/")[2].rpartition(".")[2].lower()


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]


MOST_FILES = 10
"""Documents in one request: 20 are documented, production refused 20 and took 10."""

MARKER_BASE = "https://kbsync.invalid"


@dataclass(frozen=True, slots=True)
class SearchWish:
    """What the config wants of every search; None: left to the vendor, and no ranking model."""

    embedding_rate: float | None = None
    doc_correlation: float | None = None
    rerank_version: str | None = None


@dataclass(frozen=True, slots=True)
class GptbotsSettings(RemoteSettings):
    """`base_url` is in its canonical form.

    `prefix` stands before every path, `source_url_prefix` before that in the marker. `qa_update` is
    `replace` or `in_place`.
    """

    knowledge_base_id: str
    max_bytes: int = LARGEST_PDF
    source_url_prefix: str = MARKER_BASE
    prefix: str = ""
    qa_update: str = "replace"
    search: SearchWish = field(default_factory=SearchWish)

    @property
    def limits(self) -> Limits:
        """What the target takes."""
        own = Limits(
            extensions=EXTENSIONS,
            max_bytes=min(self.max_bytes, LARGEST),
            max_bytes_by_extension={
                "pdf": min(self.max_bytes, LARGEST_PDF),
                **dict.fromkeys(LINKS, min(self.max_bytes, LARGEST_LINK)),
            },
            links=LINKS,
            batch=MOST_FILES,
            list_lag=1.0,
            marks=True,
            paid=True,
        )
        return self.limited(own)
