from __future__ import annotations

import pytest

from kbsync.index.read.formats import EXTENSIONS, NAMES, extension_of

PROMISED = (
    "pdf docx pptx xlsx odt epub html htm rtf eml ipynb md markdown mdx txt rst org adoc asciidoc tex csv "
    "tsv json jsonl yaml yml toml xml log vtt srt py js ts jsx tsx java c h cc cpp hpp cs go rs rb php "
    "swift kt scala sh bash ps1 sql r jl lua pl css scss vue dart ex exs erl hs clj proto graphql tf ini "
    "cfg conf properties"
)


def test_every_promised_format_is_taken():
    assert set(PROMISED.split()) <= EXTENSIONS
    assert {"README", "LICENSE", "CHANGELOG", "NOTICE", "Makefile", "Dockerfile"} <= NAMES


@pytest.mark.parametrize(
    ("path", "extension"),
    [("a/b.MD", "md"), ("archive.tar.gz", "gz"), ("README", ""), (".env", ""), ("folder.d/README", ""),
     ("a.b/.c", ""), ("no.", ""), ("über.PDF", "pdf")],
)  # fmt: skip
def test_extension_is_of_the_last_part(path, extension):
    assert extension_of(path) == extension
