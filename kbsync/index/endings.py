"""Removes the endings of Russian, Ukrainian and Greek words, and the endings and articles of Arabic words.

SQLite stems only English. These are light stemmers: they remove one ending, the longest that leaves enough of
the word. Questions in Russian, Greek and Arabic find as much with them as with Snowball's rules (ADR 9).
Sources: Dolamic and Savoy, "Indexing and searching strategies for the Russian language" (2009), and Larkey,
Ballesteros and Connell, "Light stemming for Arabic information retrieval" (2007, light10).

The words in the index depend on these tables, so every change needs a new version of
`kbsync.index.words.words`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

_CYRILLIC = """
а е и о у ы ь ю я і ї ам ах ая ев ее ей ем ею ие ий им их ию ия ов ое ой ом ою ую ые ый ым ых ье ью ья юю
ям ях яя ів ій ої ами его ему еи ией ием ими иям иях ого ому ыми ями иями ією
"""
_GREEK = """
α ε η ι ο υ ω ν σ ασ εσ ησ οσ ουσ ια ιο οι ου ων εισ ει αν εων εωσ ιασ ιεσ ιου ιων μα ματοσ ματα ματων σε σαν
ετε ουν ουνε ουμε αμε ατε ομαι εσαι εται ομαστε εστε ονται ηκα ηκε ηκαν θηκε θηκαν ισε ησε ησαν ηση ησησ
ησεισ ησεων ικοσ ικη ικο ικου ικησ ικοι ικεσ ικα ικων ικουσ μενοσ μενη μενο μενοι μενεσ μενα μενων
"""
_ARABIC = "ها ان ات ون ين يه ه ي"
_ARTICLES = ("وال", "بال", "كال", "فال", "ال", "لل")
_AND = "و"
"""The Arabic word for “and”, which is written together with the next word."""

_ENDINGS = dict.fromkeys((_CYRILLIC + _GREEK).split(), 3) | dict.fromkeys(_ARABIC.split(), 2)
"""Each ending, with the number of letters that must remain."""

_LONGEST = max(map(len, _ENDINGS))
_WORD = re.compile(
    # Greek and Cyrillic, then Arabic, without the signs between which SQLite splits words.
    "[\u0370-\u0374\u0376-\u03f5\u03f7-\u0481\u0483-\u052f"
    "\u0621-\u0669\u066e-\u06d3\u06d5-\u06dc\u06df-\u06e8\u06ea-\u06fc\u06ff]{3,}"
)
_ARABIC_LETTERS = re.compile("[ء-ي]+")


def without_endings(text: str) -> str:
    """Return `text`, which must be in comparable form, with the stems of words in these scripts, in lower
    case. Other words stay as they are.
    """
    return text if text.isascii() else _WORD.sub(lambda match: _stem(match[0]), text)


@functools.lru_cache(8_192)
def _stem(word: str) -> str:
    word = word.lower().replace("ς", "σ")
    if word > "ԯ":
        if not _ARABIC_LETTERS.fullmatch(word):  # a language with other letters, such as Persian
            return word
        if len(word) > len(_AND) + 2:
            word = word.removeprefix(_AND)
        article = next((article for article in _ARTICLES if word.startswith(article)), "")
        if len(word) >= len(article) + 2:
            word = word.removeprefix(article)
    for length in range(_LONGEST, 0, -1):
        least = _ENDINGS.get(word[-length:])
        if least is not None and len(word) - length >= least:
            return word[:-length]
    return word


def inflections_of(stem: str) -> Iterator[str]:
    """Yield words that may have this stem, the stem itself first. Not all of them exist."""
    yield stem
    if not stem.isascii():
        for start in ("", "ال") if _ARABIC_LETTERS.fullmatch(stem) else ("",):
            yield from (f"{start}{stem}{ending}" for ending in ("", *_ENDINGS))
