"""Tests the words of the full-text index."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from kbsync.index.words import _FORMS, _forms

PIECES = st.sampled_from(
    """the a A I API fooBar x86 v1.2 V2.0 c++ C# .NET .net e.g. U.S.A. co-12 AB-1234 5kg 1,234 R&D
    010-1234-5678 2026-03-14 éa naïve _ foo_bar - . .. # + 12 N n µm 文a""".split()  # noqa: SIM905
)
SEPARATORS = st.sampled_from([" ", "\n", ", ", "-", ".", "", "_", "(", "/", "\u00a0"])
TEXTS = st.lists(st.tuples(PIECES, SEPARATORS).map("".join), max_size=8).map("".join)


@given(TEXTS | st.text("aAbBvVnNeEtT019 .-+#&_é\n,µ文", max_size=16))
def test_skipping_ordinary_words_misses_no_other_form(text: str) -> None:
    spans = [match.span() for match in _forms().finditer(text) if match.lastgroup != "plain"]
    assert spans == [match.span() for match in re.finditer(_FORMS, text)]
