"""Lists the supported formats and their readers. To support another format, begin here.

A text format needs a line in `_FLAVOURS`. A document format needs a reader, which is a function of the
document's bytes in a module in this folder, and a line in `READERS`. Increase the reader's version,
`MARKDOWN` or `TEXTS`, whenever files are read differently. The version is part of these files' recipes only,
so kbsync rereads only these files.

Pictures are documents too, searchable by their content if a service embeds them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from importlib import import_module

from kbsync.contract.target import Body
from kbsync.core.text import extension_of
from kbsync.errors import Rejected
from kbsync.index.document import Chunk, Flavour, Parsed, Picture

CHUNKER = "blocks-3"
"""The version of the output of `kbsync.index.chunk`, part of each recipe. If a change affects only documents
with pages, increase the versions of their readers instead."""

TEXTS = "10"
MARKDOWN = "10"
"""The versions of the readers for plain text and for Markdown."""


def word_set(text: str) -> frozenset[str]:
    """Return the set of words in `text`, such as element names."""
    return frozenset(text.split())


READERS: Mapping[str, tuple[str, str, str]] = {
    "pdf": ("pdf", "read_pdf", "10"),
    **dict.fromkeys(("docx", "docm"), ("docx", "read_docx", "10")),
    **dict.fromkeys(("pptx", "pptm", "ppsx"), ("slides", "read_pptx", "10")),
    **dict.fromkeys(("xlsx", "xlsm"), ("sheets", "read_xlsx", "10")),
    "xls": ("sheets", "read_xls", "10"),
    "ods": ("sheets", "read_ods", "14"),
    **dict.fromkeys(("odt", "odp"), ("opendocument", "read_opendocument", "10")),
    "rtf": ("rtf", "read_rtf", "7"),
    **dict.fromkeys(("html", "htm", "xhtml"), ("html", "read_page", "13")),
    "epub": ("epub", "read_epub", "13"),
    "eml": ("mail", "read_eml", "16"),
    "mbox": ("mail", "read_mbox", "11"),
    **dict.fromkeys(("mhtml", "mht"), ("mail", "read_mhtml", "7")),
    "ics": ("calendars", "read_ics", "3"),
    "vcf": ("calendars", "read_vcf", "4"),
    "canvas": ("canvas", "read_canvas", "4"),
    "ipynb": ("notebook", "read_ipynb", "9"),
}
"""The readers by extension: the module in this folder, its function and the function's version.

All of them run in a sandbox (ADR 8).
"""

DOCUMENTS = frozenset(READERS)
"""Extensions of all formats except plain text, which kbsync decodes itself."""


def load_reader(extension: str) -> Callable[[bytes], Parsed]:
    """Return the reader of a document format. This loads its parser."""
    module, function, _ = READERS[extension]
    reader: Callable[[bytes], Parsed] = getattr(import_module(f"kbsync.index.read.{module}"), function)
    return reader


_CODE = word_set(
    """
    json yaml yml toml xml xsd xsl ini cfg conf properties editorconfig py pyi js mjs cjs ts mts cts jsx
    tsx vue svelte java kt kts scala groovy gradle c h cc cpp cxx hh hpp hxx cs fs vb go rs rb php swift
    m mm dart ex exs erl hrl hs ml mli clj cljs edn elm nim zig jl r lua pl pm sh bash zsh fish ps1 bat
    cmd sql proto graphql gql thrift tf tfvars hcl css scss sass less cmake mk nix sol asm s f90 f95 pas
    d v sv vhd vhdl tcl awk vim el lisp scm rkt
    """
)

_FLAVOURS: Mapping[str, Flavour] = {
    **dict.fromkeys(DOCUMENTS, Flavour.MARKDOWN),
    **dict.fromkeys(_CODE, Flavour.CODE),
    **dict.fromkeys(("md", "markdown", "mdx"), Flavour.MARKDOWN),
    **dict.fromkeys(("txt", "text", "vtt", "srt"), Flavour.PLAIN),
    **dict.fromkeys(("csv", "tsv", "jsonl", "ndjson", "log"), Flavour.ROWS),
    **dict.fromkeys(("adoc", "asciidoc"), Flavour.ASCIIDOC),
    **dict.fromkeys(("tex", "latex"), Flavour.TEX),
    "rst": Flavour.RST,
    "org": Flavour.ORG,
}

_PROSE_NAMES = word_set(
    """
    README Readme readme LICENSE LICENCE License license LICENSE-MIT LICENSE-APACHE UNLICENSE COPYING
    COPYRIGHT NOTICE AUTHORS CONTRIBUTORS CONTRIBUTING MAINTAINERS CREDITS THANKS CHANGELOG ChangeLog
    CHANGES HISTORY NEWS RELEASES TODO INSTALL FAQ SECURITY CODEOWNERS
    """
)
_CODE_NAMES = word_set(
    """
    Makefile makefile GNUmakefile Dockerfile Containerfile Jenkinsfile Vagrantfile Gemfile Rakefile
    Procfile Justfile justfile Brewfile Caddyfile
    """
)

EXTENSIONS: frozenset[str] = frozenset(_FLAVOURS)
"""File extensions that kbsync can read as text, in lower case and without the dot."""

NAMES: frozenset[str] = _PROSE_NAMES | _CODE_NAMES
"""Exact file names accepted without an extension."""


def flavour_of(path: str) -> Flavour:
    """Return how the text of `path` will be structured, or PLAIN if unknown."""
    if path.rpartition("/")[2] in _CODE_NAMES:
        return Flavour.CODE
    return _FLAVOURS.get(extension_of(path), Flavour.PLAIN)


def reader_version(path: str) -> str:
    """Return the version of the reader for `path`."""
    if needs_parser(path):
        return READERS[extension_of(path)][2]
    return MARKDOWN if flavour_of(path) is Flavour.MARKDOWN else TEXTS


def needs_parser(path: str) -> bool:
    """Return whether the file at `path` is a document that must be read in a sandbox, rather than a
    plain-text file.
    """
    return extension_of(path) in DOCUMENTS


MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp"}
"""Media types by extension."""

LARGEST = 10_000_000
"""Maximum size of a picture in bytes. The request for a picture is a third larger, and is held in memory.
"""

_BEGINNINGS = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff", "image/webp": b"RIFF"}
_PIECE = 65_536


def is_picture(path: str) -> bool:
    """Return whether files with this extension are pictures."""
    return extension_of(path) in MEDIA_TYPES


def picture_chunk(path: str, body: Body) -> Chunk:
    """Return a picture's only chunk. Its text is the picture's name.

    Raises `Rejected` if the file isn't a picture or is too large.
    """
    media_type = MEDIA_TYPES[extension_of(path)]
    if body.size > LARGEST:
        raise Rejected(f"{body.size} bytes, over the limit of {LARGEST} for pictures", code="too-large")
    with body.open() as stream:
        content = b"".join(iter(lambda: stream.read(_PIECE), b""))
    if not content.startswith(_BEGINNINGS[media_type]):
        raise Rejected(
            f"the content isn't the type of picture that the extension indicates ({media_type})",
            code="no-picture",
        )
    name = path.rpartition("/")[2]
    return Chunk(name, "", hashlib.sha256(content).hexdigest(), picture=Picture(content, media_type))
