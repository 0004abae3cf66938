"""Which files the embedded knowledge base takes, and how each is read."""

from __future__ import annotations

from collections.abc import Mapping

from kbsync.targets.local.pieces import Flavour

PARSER = "3"
"""Raised whenever a document is read otherwise than before: it is part of every recipe."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DOCUMENTS = _words("pdf docx pptx xlsx odt epub html htm xhtml rtf eml ipynb")
"""Read by a parser in a worker of its own; everything else is text and decoded by ourselves."""

_CODE = _words(
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

_PROSE_NAMES = _words(
    """
    README Readme readme LICENSE LICENCE License license LICENSE-MIT LICENSE-APACHE UNLICENSE COPYING
    COPYRIGHT NOTICE AUTHORS CONTRIBUTORS CONTRIBUTING MAINTAINERS CREDITS THANKS CHANGELOG ChangeLog
    CHANGES HISTORY NEWS RELEASES TODO INSTALL FAQ SECURITY CODEOWNERS
    """
)
_CODE_NAMES = _words(
    """
    Makefile makefile GNUmakefile Dockerfile Containerfile Jenkinsfile Vagrantfile Gemfile Rakefile
    Procfile Justfile justfile Brewfile Caddyfile
    """
)

EXTENSIONS: frozenset[str] = frozenset(_FLAVOURS)
"""Lower-case, without the dot."""

NAMES: frozenset[str] = _PROSE_NAMES | _CODE_NAMES
"""Exact file names taken although they have no extension."""


def extension_of(path: str) -> str:
    """The lower-case extension of the last part of `path`, without the dot; "" where there is none."""
    stem, dot, extension = path.rpartition("/")[2].rpartition(".")
    return extension.lower() if stem and dot else ""


def flavour_of(path: str) -> Flavour:
    """How the text of `path` will be structured; PLAIN for what is not known."""
    if path.rpartition("/")[2] in _CODE_NAMES:
        return Flavour.CODE
    return _FLAVOURS.get(extension_of(path), Flavour.PLAIN)


def needs_worker(path: str) -> bool:
    """Whether `path` is a document that a parser in a worker reads, not a text."""
    return extension_of(path) in DOCUMENTS
