"""Characters that can be written in several ways, made one. Pure.

macOS takes letters apart in file names, PDF has ligatures and radicals for letters, word processors leave
hyphens in words that nobody sees.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
"""Thai, Lao, Burmese and Khmer: nothing but a zero-width space tells where a word of them ends."""

_UNSEEN = f"[\u00ad\u2060\ufeff]|\u200b(?![{_UNSPACED}])"  # soft hyphen, word joiner, BOM, zero-width space
_UNSEEN_IN_TEXT = re.compile(_UNSEEN)
# Joiners and variants of a sign or ideograph, which a text needs to look right and a word does not.
_UNSEEN_IN_WORDS = re.compile(f"{_UNSEEN}|[\u200d\u180b-\u180d\ufe00-\ufe0f\U000e0100-\U000e01ef]")

_RADICALS = str.maketrans(  # Unicode's EquivalentUnifiedIdeograph: of this block NFKC changes but two
    "⺁⺌⺍⺒⺓⺛⺜⺝⺞⺠⺧⺩⺫⺬⺶⺻⺼⻁⻃⻄⻅⻆⻉⻋⻏⻑⻒⻓⻔⻗⻘⻙⻚⻛⻜⻝⻢⻣⻤⻥⻦⻧⻨⻩⻪⻫⻬⻭⻮⻯⻰⻱⻲",
    "厂小小巳幺旡日月歺民牛王目示羊聿肉虎覀西见角贝车邑長镸长门雨青韦页风飞食马骨鬼鱼鸟卤麦黄黾斉齐歯齿竜龙龜亀",
)
"""Radicals that are whole characters: PDF programs write them for these."""
_RADICAL = re.compile("[\u2e81-\u2ef3]")

# Not all that NFKC would change: it takes 。 ， and … from a text, by which it is cut and read.
_COMPATIBLE = re.compile(
    "[\ufb00-\ufb06\ufb13-\ufb17\u2e81-\u2ef3\u2f00-\u2fd5０-９Ａ-Ｚａ-ｚ]"  # ligatures, radicals, full width
    "|[\uff66-\uff9f]+|[\uffa1-\uffdc]+"  # half-width kana and Hangul, with the marks that follow
    "|(?<=[ぁ-ヿ])[\u309b\u309c]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_ANY = re.compile(  # of these three and of what is unseen: one set is looked for in a tenth of the time
    "[\u00ad\u200b\u2060\ufeff\ud800-\udfff\ufb00-\ufb06\ufb13-\ufb17\u2e81-\u2ef3\u2f00-\u2fd5"
    "０-９Ａ-Ｚａ-ｚ\uff66-\uff9f\uffa1-\uffdc\u309b\u309c]"
)
_MARKS = re.compile(r"([^\w\x00-\x7f]{64})")
"""More combining marks than any script puts on a letter (and other signs, which do not matter)."""
_VOICED = ("\u309b", "\u3099"), ("\u309c", "\u309a")  # by themselves they compose with nothing
_HALF_WIDTH = ("\uff9e", "\u3099"), ("\uff9f", "\u309a")  # letters to `_MARKS`, and marks to NFKC
_APART = ("™", " "), ("℠", " ")  # as letters they would become a part of the name they stand behind


def legible(text: str) -> str:
    """`text` as it is shown and embedded: composed, without unseen characters, its lines as they are.

    Lone surrogates, which neither a hash nor a database takes, become U+FFFD.
    """
    if text.isascii():
        return text
    if _ANY.search(text):
        if _SURROGATE.search(text):  # two of them may make a character
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        text = _COMPATIBLE.sub(_compose, _UNSEEN_IN_TEXT.sub("", text))
    return _normalized("NFC", text)


def _compose(found: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", _replaced(found[0].translate(_RADICALS), _VOICED))


def folded(text: str) -> str:
    """`text` as words of it are compared, whatever width, form or composition its characters have."""
    if text.isascii():
        return text
    if _RADICAL.search(text):
        text = text.translate(_RADICALS)
    text = _replaced(_UNSEEN_IN_WORDS.sub("", text), (*_VOICED, *_APART, *_HALF_WIDTH))
    return _normalized("NFKC", text)


def _normalized(form: Literal["NFC", "NFKC"], text: str) -> str:
    """`text` in one of the forms of Unicode. Python takes the square of the marks that follow each other."""
    return "".join(unicodedata.normalize(form, piece) for piece in _MARKS.split(text))


def _replaced(text: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for old, new in pairs:
        text = text.replace(old, new)
    return text
