from __future__ import annotations

import subprocess
import sys

import pytest

from kbsync.index.document import Flavour
from kbsync.index.read.formats import EXTENSIONS, NAMES, extension_of, flavour_of, needs_parser

PROMISED = (
    "pdf docx pptx xlsx odt epub html htm rtf eml ipynb md markdown mdx txt rst org adoc asciidoc tex csv "
    "tsv json jsonl yaml yml toml xml log vtt srt py js ts jsx tsx java c h cc cpp hpp cs go rs rb php "
    "swift kt scala sh bash ps1 sql r jl lua pl css scss vue dart ex exs erl hs clj proto graphql tf ini "
    "cfg conf properties"
)


def test_every_promised_format_is_taken():
    assert set(PROMISED.split()) <= EXTENSIONS
    assert {"README", "LICENSE", "CHANGELOG", "NOTICE", "Makefile", "Dockerfile"} <= NAMES


def test_extensions_are_lower_case_without_a_dot():
    assert all(e == e.lower() and "." not in e for e in EXTENSIONS)


@pytest.mark.parametrize(
    ("path", "extension"),
    [
        ("a/b.MD", "md"),
        ("archive.tar.gz", "gz"),
        ("README", ""),
        (".env", ""),
        ("folder.d/README", ""),
        ("a.b/.c", ""),
        ("no.", ""),
        ("über.PDF", "pdf"),
    ],
)
def test_extension_is_of_the_last_part(path, extension):
    assert extension_of(path) == extension


@pytest.mark.parametrize(
    ("path", "flavour"),
    [
        ("a.md", Flavour.MARKDOWN),
        ("a.PDF", Flavour.MARKDOWN),
        ("a.rst", Flavour.RST),
        ("a.adoc", Flavour.ASCIIDOC),
        ("a.org", Flavour.ORG),
        ("a.tex", Flavour.TEX),
        ("a.csv", Flavour.ROWS),
        ("a.log", Flavour.ROWS),
        ("a.py", Flavour.CODE),
        ("a.yaml", Flavour.CODE),
        ("x/Makefile", Flavour.CODE),
        ("README", Flavour.PLAIN),
        ("a.txt", Flavour.PLAIN),
        ("a.unknown", Flavour.PLAIN),
    ],
)
def test_flavour_follows_the_name(path, flavour):
    assert flavour_of(path) is flavour


def test_only_documents_need_a_worker():
    documents = {e for e in EXTENSIONS if needs_parser(f"x.{e}")}
    assert " ".join(sorted(documents)) == "docx eml epub htm html ipynb odt pdf pptx rtf xhtml xlsx"
    assert not any(needs_parser(name) for name in NAMES)


def test_formats_and_texts_load_nothing_heavy():
    code = (
        "import sys, kbsync.index.read.formats, kbsync.index.fence.parser\n"
        "heavy = ('numpy', 'kreuzberg', 'yaml', 'structlog', 'httpx', 'pydantic')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
