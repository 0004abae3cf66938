"""Unifies characters that can be written in several ways.

macOS decomposes letters in file names, PDF has ligatures and radicals for letters, word processors leave
invisible hyphens in words.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
"""Matches Thai, Lao, Burmese and Khmer, where only a zero-width space marks the end of a word."""

_UNSEEN = f"[\u00ad\u2060\ufeff]|\u200b(?![{_UNSPACED}])"  # soft hyphen, word joiner, BOM, zero-width space
_UNSEEN_IN_TEXT = re.compile(_UNSEEN)
# Joiners and variation selectors: a text needs them to look right, a word doesn't.
_UNSEEN_IN_WORDS = re.compile(f"{_UNSEEN}|[\u200d\u180b-\u180d\ufe00-\ufe0f\U000e0100-\U000e01ef]")

_RADICALS = str.maketrans(  # Unicode's EquivalentUnifiedIdeograph: NFKC changes only two of this block
    "⺁⺌⺍⺒⺓⺛⺜⺝⺞⺠⺧⺩⺫⺬⺶⺻⺼⻁⻃⻄⻅⻆⻉⻋⻏⻑⻒⻓⻔⻗⻘⻙⻚⻛⻜⻝⻢⻣⻤⻥⻦⻧⻨⻩⻪⻫⻬⻭⻮⻯⻰⻱⻲",
    "厂小小巳幺旡日月歺民牛王目示羊聿肉虎覀西见角贝车邑長镸长门雨青韦页风飞食马骨鬼鱼鸟卤麦黄黾斉齐歯齿竜龙龜亀",
)
"""Radicals that look like whole characters, which PDF programs write in their place."""
_RADICAL = re.compile("[\u2e81-\u2ef3]")

# Not everything that NFKC changes: it also rewrites 。 ， and …, which mark where to cut a text.
_COMPATIBLE = re.compile(
    "[\ufb00-\ufb06\ufb13-\ufb17\u2e81-\u2ef3\u2f00-\u2fd5０-９Ａ-Ｚａ-ｚ]"  # ligatures, radicals, full width
    "|[\uff66-\uff9f]+|[\uffa1-\uffdc]+"  # half-width kana and Hangul, with the marks that follow
    "|(?<=[ぁ-ヿ])[\u309b\u309c]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_ANY = re.compile(  # all of these and of the unseen: one set is ten times as fast to search
    "[\u00ad\u200b\u2060\ufeff\ud800-\udfff\ufb00-\ufb06\ufb13-\ufb17\u2e81-\u2ef3\u2f00-\u2fd5"
    "０-９Ａ-Ｚａ-ｚ\uff66-\uff9f\uffa1-\uffdc\u309b\u309c]"
)
_MARKS = re.compile(r"([^\w\x00-\x7f]{64})")
"""Matches more combining marks than any script puts on a letter (and some other signs, harmlessly)."""
_VOICED = ("\u309b", "\u3099"), ("\u309c", "\u309a")  # alone they don't compose
_HALF_WIDTH = ("\uff9e", "\u3099"), ("\uff9f", "\u309a")  # letters to `_MARKS`, and marks to NFKC
_APART = ("™", " "), ("℠", " ")  # as letters they would become part of the name before them


def legible(text: str) -> str:
    """Return `text` in the form for display and embedding: composed, without invisible characters, and with
    the same lines.

    Lone surrogates, which neither a hash nor a database accepts, become U+FFFD.
    """
    if text.isascii():
        return text
    if _ANY.search(text):
        if _SURROGATE.search(text):  # two of them may form a character
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        text = _COMPATIBLE.sub(_compose, _UNSEEN_IN_TEXT.sub("", text))
    return _normalize("NFC", text)


def _compose(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", _replace_pairs(match[0].translate(_RADICALS), _VOICED))


def folded(text: str) -> str:
    """Return `text` in a form for comparing words that doesn't depend on its characters' width, form and
    composition.
    """
    if text.isascii():
        return text
    if _RADICAL.search(text):
        text = text.translate(_RADICALS)
    text = _replace_pairs(_UNSEEN_IN_WORDS.sub("", text), (*_VOICED, *_APART, *_HALF_WIDTH))
    return _normalize("NFKC", text)


def simplified(text: str) -> str:
    """Return `text` with each traditional Chinese character replaced by a simplified one."""
    return text if text.isascii() else text.translate(_simplified())


@functools.cache
def _simplified() -> Mapping[int, int]:
    """Return OpenCC's table TSCharacters. If it has several replacements for a character, use the first (see
    NOTICE)."""
    traditional, *rest = Path(__file__).with_name("simplified.txt").read_text("utf-8").split()
    return str.maketrans(traditional, *rest)


def _normalize(form: Literal["NFC", "NFKC"], text: str) -> str:
    """Return `text` in one of Unicode's normalization forms. Avoids the quadratic time that Python takes for
    a run of combining marks."""
    return "".join(unicodedata.normalize(form, piece) for piece in _MARKS.split(text))


def _replace_pairs(text: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for old, new in pairs:
        text = text.replace(old, new)
    return text
