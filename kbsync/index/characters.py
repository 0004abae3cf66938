"""Unifies characters that can be written in several ways.

For example, macOS decomposes letters in file names, PDFs contain ligatures and radicals in place of letters,
and word processors leave invisible hyphens in words.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from kbsync.core.text import lazy_pattern

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
"""Matches Thai, Lao, Burmese and Khmer, where only a zero-width space marks the end of a word."""

_UNSEEN = f"[\u00ad\u2060\ufeff]|\u200b(?![{_UNSPACED}])"  # soft hyphen, word joiner, BOM, zero-width space


# All of these expressions are only for non-ASCII text, and take 4 ms to compile.
_unseen_in_text = lazy_pattern(_UNSEEN)
# Joiners and variation selectors: a text needs them to look right, a word doesn't.
_unseen_in_words = lazy_pattern(f"{_UNSEEN}|[\u200d\u180b-\u180d\ufe00-\ufe0f\U000e0100-\U000e01ef]")

_RADICALS = str.maketrans(  # Unicode's EquivalentUnifiedIdeograph: NFKC changes only two of this block
    "⺁⺌⺍⺒⺓⺛⺜⺝⺞⺠⺧⺩⺫⺬⺶⺻⺼⻁⻃⻄⻅⻆⻉⻋⻏⻑⻒⻓⻔⻗⻘⻙⻚⻛⻜⻝⻢⻣⻤⻥⻦⻧⻨⻩⻪⻫⻬⻭⻮⻯⻰⻱⻲",
    "厂小小巳幺旡日月歺民牛王目示羊聿肉虎覀西见角贝车邑長镸长门雨青韦页风飞食马骨鬼鱼鸟卤麦黄黾斉齐歯齿竜龙龜亀",
)
"""Radicals that PDF programs write in place of the full characters that they resemble."""
_RADICAL = re.compile("[\u2e81-\u2ef3]")

# Not everything that NFKC changes: it also rewrites 。 ， and …, which mark where to cut a text.
_compatible = lazy_pattern(
    # ligatures, radicals, full width
    "[\ufb00-\ufb06\ufb13-\ufb17\u2e81-\u2ef3\u2f00-\u2fd5０-９Ａ-Ｚａ-ｚ]"
    "|[\uff66-\uff9f]+|[\uffa1-\uffdc]+"  # half-width kana and Hangul, with the marks that follow
    "|(?<=[ぁ-ヿ])[\u309b\u309c]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")

# All characters that `legible` looks for: searching for a single set is ten times as fast.
_any = lazy_pattern(
    "[\u00ad\u200b\u2060\ufeff\ud800-\udfff\ufb00-\ufb06\ufb13-\ufb17\u2e81-\u2ef3\u2f00-\u2fd5"
    "０-９Ａ-Ｚａ-ｚ\uff66-\uff9f\uffa1-\uffdc\u309b\u309c]"
)

_MARKS = re.compile(r"([^\w\x00-\x7f]{64})")
"""Matches more combining marks than any script puts on one letter.

It also matches some other signs, which does no harm.
"""
_VOICED = ("\u309b", "\u3099"), ("\u309c", "\u309a")  # these don't compose with the letter before them
_HALF_WIDTH = ("\uff9e", "\u3099"), ("\uff9f", "\u309a")  # letters to `_MARKS`, marks after NFKC
_APART = ("™", " "), ("℠", " ")  # letters after NFKC, so a part of the name before them


def legible(text: str) -> str:
    """Return `text` in the form used for display and embedding: composed and without invisible characters.
    Line breaks stay where they are.

    Lone surrogates, which neither hashes nor databases accept, become U+FFFD.
    """
    if text.isascii():
        return text
    if _any().search(text):
        if _SURROGATE.search(text):  # two of them may form a character
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        text = _compatible().sub(_compose, _unseen_in_text().sub("", text))
    return _normalize("NFC", text)


def _compose(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", _replace_pairs(match[0].translate(_RADICALS), _VOICED))


def folded(text: str) -> str:
    """Normalize `text` so that its words can be compared.

    Variants of a character, such as full-width or decomposed ones, become equal.
    """
    if text.isascii():
        return text
    if _RADICAL.search(text):
        text = text.translate(_RADICALS)
    text = _replace_pairs(_unseen_in_words().sub("", text), (*_VOICED, *_APART, *_HALF_WIDTH))
    return _normalize("NFKC", text)


def unified(text: str) -> str:
    """Return folded text with optional marks removed and with a single form for characters that people or
    keyboards use interchangeably.

    Vowel signs aren't optional. They are replaced by private-use characters, because SQLite would treat them
    as separators.
    """
    return text if text.isascii() else text.translate(_unified())


def simplified(text: str) -> str:
    """Return `text` with each traditional Chinese character replaced by its simplified form."""
    return text if text.isascii() else text.translate(_simplified())


@functools.cache
def _simplified() -> Mapping[int, int]:
    """Return OpenCC's TSCharacters table.

    If the table lists several replacements for a character, kbsync uses the first (see NOTICE).
    """
    traditional, *rest = Path(__file__).with_name("simplified.txt").read_text("utf-8").split()
    return str.maketrans(traditional, *rest)


VOWEL_SIGNS = 0xF0000
"""The offset from the code of a vowel sign to the code of its private-use character."""

_SIGNS = (  # some ranges include letters, which does no harm
    "07a6-07b0"  # Thaana
    " 0900-0903 093a-093c 093e-094f 0951-0957 0962-0963 0981-0983 09bc 09be-09cd 09d7 09e2-09e3"
    " 0a01-0a03 0a3c-0a51 0a70-0a75 0a81-0a83 0abc 0abe-0acd 0ae2-0ae3 0afa-0aff 0b01-0b03 0b3c 0b3e-0b57"
    " 0b62-0b63 0b82 0bbe-0bcd 0bd7 0c00-0c04 0c3c 0c3e-0c56 0c62-0c63 0c81-0c83 0cbc 0cbe-0cd6 0ce2-0ce3"
    " 0d00-0d03 0d3b-0d3c 0d3e-0d4d 0d57 0d62-0d63 0d81-0d83 0dca-0ddf 0df2-0df3"  # India and Sri Lanka
    " 0e31 0e34-0e3a 0e47-0e4e 0eb1 0eb4-0ebc 0ec8-0ece"  # Thai, Lao
    " 0f18-0f19 0f35 0f37 0f39 0f3e-0f3f 0f71-0f84 0f86-0f87 0f8d-0fbc 0fc6"  # Tibetan
    " 102b-103e 1056-1064 1067-106d 1071-1074 1082-108f 109a-109d a9e5 aa7b-aa7d"  # Burmese
    " 1712-1715 1732-1734 1752-1753 1772-1773 17b4-17d3 17dd 1920-193b 1a17-1a1b 1a55-1a7c"  # Khmer, others
    " 1b00-1b04 1b34-1b44 1b80-1b82 1ba1-1bad 1be6-1bf3 1c24-1c37 a980-a983 a9b3-a9c0 aa29-aa4d"
)
_OPTIONAL_MARKS = (
    "0300-036f 0483-0489 1ab0-1aff 1dc0-1dff 20d0-20f0 2de0-2dff fe20-fe2f"  # accents
    " 0591-05bd 05bf 05c1-05c2 05c4-05c5 05c7 fb1e"  # Hebrew
    " 0610-061a 0640 064b-065f 0670 06d6-06dc 06df-06e4 06e7-06e8 06ea-06ed 0898-089f 08ca-08ff"  # Arabic
    " 0730-074a"  # Syriac
)
_ZEROS = (
    "0660 06f0 07c0 0966 09e6 0a66 0ae6 0b66 0be6 0c66 0ce6 0d66 0de6 0e50 0ed0 0f20 1040 1090 17e0 1810 1946"
    " 19d0 1a80 1a90 1b50 1bb0 1c40 1c50 a620 a8d0 a900 a9d0 a9f0 aa50 abf0"
)
_SAME_LETTERS = str.maketrans(
    "ёЁıİøØǿǾłŁđĐðÐħĦŧŦ\u0622\u0623\u0625\u0671\u0629\u0649\u06cc\u06a9",
    "еЕiIoOoOlLdDdDhHtT\u0627\u0627\u0627\u0627\u0647\u064a\u064a\u0643",
)
"""Maps Cyrillic, Latin and Arabic letters to the simpler letters that many people type instead."""
_APOSTROPHES = dict.fromkeys(map(ord, "\u02bb\u02bc\u02bd\u02be\u02bf\ua78c"), "'")
"""Letters used as apostrophes."""
_SEVERAL_LETTERS = str.maketrans(
    {"ß": "ss", "ẞ": "SS", "œ": "oe", "Œ": "OE", "þ": "th", "Þ": "TH"}
    | dict.fromkeys("æǽǣ", "ae")
    | dict.fromkeys("ÆǼǢ", "AE")
)


@functools.cache
def _unified() -> Mapping[int, int | str | None]:
    greek = (*range(0x370, 0x400), *range(0x1F00, 0x2000))  # SQLite removes accents of Latin letters only
    zeros = list(_codes(_ZEROS))
    return {
        **_simplified(),
        **{code: unicodedata.normalize("NFD", chr(code))[0] for code in greek},
        **dict.fromkeys(_codes(_OPTIONAL_MARKS)),
        **{code: VOWEL_SIGNS + code for code in _codes(_SIGNS)},
        **{zero + digit: str(digit) for zero in zeros for digit in range(10)},
        **_SAME_LETTERS,
        **_APOSTROPHES,
        **_SEVERAL_LETTERS,
    }


def _codes(ranges: str) -> Iterator[int]:
    for first, _, last in (item.partition("-") for item in ranges.split()):
        yield from range(int(first, 16), int(last or first, 16) + 1)


def _normalize(form: Literal["NFC", "NFKC"], text: str) -> str:
    """Return `text` in one of Unicode's normalization forms.

    This avoids the quadratic time that Python needs for a long run of combining marks.
    """
    return "".join(unicodedata.normalize(form, piece) for piece in _MARKS.split(text))


def _replace_pairs(text: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for old, new in pairs:
        text = text.replace(old, new)
    return text
