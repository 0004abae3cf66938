"""Words of a text for the full-text index, and weights of a text for the chunker.

Chinese, Japanese and Korean are written without spaces between words, so each of their characters is a
word here, and each pair of neighbours another; what is between them is left to SQLite's
`porter unicode61`, which folds case and accents and stems English.

The index keeps no copy of the words: to take a text out again it makes the same words once more. So a
version of `words` is never changed, only followed by another one (`VERSIONS`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping

TOKENISER = 1
"""The version of `words` that new documents are indexed with."""

SQLITE_TOKENISER = ("porter", "unicode61", "remove_diacritics", "2")
"""What SQLite makes of the words; part of the schema of the index."""

CJK = "々〇ぁ-ゖゝ-ヿㄅ-ㄯ㐀-䶿一-鿿豈-龎가-힣\U00020000-\U0003ffff"
"""Characters written without spaces, as the inside of a regular expression's brackets."""

_RUN = re.compile(f"[{CJK}]+")
_WIDE = re.compile("[⺀-\uffff\U00020000-\U0003ffff]")
_FULL_WIDTH = {0xFF01 + i: 0x21 + i for i in range(94)} | {0x3000: 0x20}


def words(text: str, version: int = TOKENISER) -> str:
    """`text` as words divided by spaces, ready for SQLite's tokeniser. Raises KeyError: unknown version."""
    return VERSIONS[version](text)


def weight(text: str) -> int:
    """About how many tokens of an embedding model `text` is: a CJK character 1, any other 1/4."""
    wide = 0 if text.isascii() else len(_WIDE.findall(text))
    return wide + (len(text) - wide + 3) // 4


def runs(text: str) -> list[str]:
    """The unbroken stretches of CJK characters in `text`."""
    return [] if text.isascii() else _RUN.findall(text)


def _words_1(text: str) -> str:
    """Full-width letters narrowed; single characters and pairs of CJK runs."""
    if text.isascii():
        return text
    return _RUN.sub(_grams, text.translate(_FULL_WIDTH))


def _grams(run: re.Match[str]) -> str:
    """A run's characters, then its pairs, with spaces on both sides."""
    characters = run[0]
    pairs = map("".join, itertools.pairwise(characters))
    return f" {' '.join(characters)} {' '.join(pairs)} "


VERSIONS: Mapping[int, Callable[[str], str]] = {1: _words_1}
