"""Decodes bytes to text: BOM, UTF-16 by its NULs, UTF-8, then the likeliest legacy encoding.

A wrong decoder rarely fails on East Asian text, but it produces rare characters. So the most common
characters of each script, which make up well over half of any real text, score high, and all others low or
negative. A wrong single-byte decoder also produces letters, but not those of a single language, and not where
letters belong.

Of the 117 test samples (26 languages), which were used for tuning, chardet 7.7 (3.6 MB) reads 104 correctly
and charset-normalizer 3.5 reads 58. Of 34 sentences not used for tuning, this module reads 33 correctly and
chardet 29. Of 39 older samples, mostly short and Chinese, this module reads all and chardet 34.

A text may be damaged: a byte missing, doubled or wrong, a character cut in two. So a candidate encoding may
fail on a few bytes, each of which lowers its score. Of 930 damaged samples, 10 are read as a different
language; without this tolerance, 209.

For ASCII text with a few symbols or accents, the western encoding is likelier than rarer Latin ones, and
symbols score where English has them. Tables in Chinese, Japanese or Korean often contain only a few names in
these languages, so the most common characters in names are included.
"""

from __future__ import annotations

import codecs
import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

from kbsync.errors import Rejected

# The most frequent letters of each language, tuned by hand on real texts.
_LETTERS_OF = tomllib.loads(Path(__file__).with_name("letters.toml").read_text("utf-8"))
_SIMPLIFIED, _TRADITIONAL, _JAPANESE, _HANGUL = (
    frozenset("".join(_LETTERS_OF["common"][script].split()))
    for script in ("simplified", "traditional", "japanese", "hangul")
)
_KANA = re.compile("[ぁ-んァ-ヶー]")
_LATIN_LETTERS = frozenset("àâäáãåæçéèêëíìîïñóòôöõøœúùûüýÿßÀÂÄÁÃÅÆÇÉÈÊËÍÌÎÏÑÓÒÔÖÕØŒÚÙÛÜÝšžŠŽ")
_LATIN_MARKS = frozenset("’‘“”„–—…€«»°§©®™·£¡¿ºª²³½¼×±µ•\xa0\xad¹¾´¨¢¥¶†‡‰‹›‚×÷¦¬")
_WIDE_MARKS = frozenset("，。、：；！？“”‘’（）《》「」『』【】〈〉…—·〜～％／　・")

Weight = Callable[[str], float]


def _east_asian(common: frozenset[str], encoding: str, first_level: tuple[int, int]) -> Weight:
    """Return a function that gives common characters a high score, the other characters in the first level of
    the encoding's standard a low one, and all remaining characters a negative one.
    """
    # GB2312 and EUC characters have a high second byte; below it are the later, rare additions.
    least = 0 if encoding in ("big5", "cp932") else 0xA1

    def weigh(character: str) -> float:
        if character in common:
            return 1.0
        if character in _WIDE_MARKS:
            return 0.6
        raw = character.encode(encoding, "replace")
        is_first = len(raw) == 2 and first_level[0] <= raw[0] <= first_level[1] and raw[1] >= least
        return 0.3 if is_first else -0.7

    return weigh


def _with_kana(weigh: Weight) -> Weight:
    return lambda character: 0.9 if _KANA.match(character) else weigh(character)


def _count_foreign(text: str) -> dict[str, int]:
    """Return how often each non-ASCII character occurs in `text`."""
    return {character: count for character, count in Counter(text).items() if character > "\x7f"}


def _mean_weight(weigh: Weight, flawless: float = 0.0) -> Callable[[str], float]:
    """Return a function that computes the mean of `weigh` over a text's non-ASCII characters, or -2 if it has
    none.

    If there are several and none of them is rare, `flawless` is added, because this rarely happens by chance.
    If there is only one, `flawless` is subtracted, because any two bytes may form one character.
    """

    def score(text: str) -> float:
        counts = _count_foreign(text)
        total = sum(counts.values())
        if not total:
            return -2.0
        weights = {c: weigh(c) for c in counts}
        mean = sum(n * weights[c] for c, n in counts.items()) / total
        if total == 1:
            return mean - flawless
        return mean + flawless if min(weights.values()) > 0 else mean

    return score


_SAME_LETTERS = {
    "cp1252": ("cp850", "mac_roman"),
    "cp1250": ("iso8859-2", "cp852"),
    "cp1254": ("iso8859-9",),
    "cp1251": ("koi8-u", "cp866", "iso8859-5", "mac_cyrillic"),
    "cp1253": ("iso8859-7",),
    "cp1256": ("iso8859-6",),
}
"""For each encoding, the older encodings for the same languages."""

_HANDICAPS = {
    **dict.fromkeys(("cp1252", "cp1255"), 0.0),
    "cp1251": 0.03,
    **dict.fromkeys(("cp1250", "cp1254", "cp1257", "iso8859-2", "iso8859-9"), 0.04),
    "cp874": 0.25,
    "mac_cyrillic": 0.2,
    **dict.fromkeys(("cp850", "mac_roman", "cp852", "iso8859-6"), 0.35),
}
_HANDICAP = 0.25
"""The default amount subtracted from the score of a single-byte encoding, in which two bytes of Chinese may
look like two letters of Greek.
"""

_NO_MARKS = dict.fromkeys(map(ord, _LATIN_MARKS))
_FOREIGN = re.compile(r"[^\x00-\x7f]+")
_LETTERS = re.compile(r"[^\W\d_]+")
_SIGN_IN_PLACE = re.compile(
    r"""(?:
        (?<![a-z]) [^\x00-\x7f]{1,2} (?![a-z])  # alone or next to a digit: £10, ± 5, § 3
        | (?<![a-z]) [©’‘“”„–—…•«»‹›†‡\xa0\xad]{1,2} | [©®™’‘“”„–—…•«»‹›†‡\xa0\xad]{1,2} (?!\w)
        | (?<=[a-z]) [’–—…\xad] (?=[a-z])
        | (?<=\b[a-z]) [¹²³ªº] \b | (?<=\b[kcdm]m) [²³] \b | (?<=\bft) [²³] \b
        | (?<![a-z]) [µ°] (?= (?:[glmsacfknvw]|mol|min)\b )
        | (?<![a-z]) ¿ (?= [^?\n]{0,200}\? ) | (?<![a-z]) ¡ (?= [^!\n]{0,200}! )
    )(?![^\x00-\x7f])""",
    re.VERBOSE | re.IGNORECASE,
)
"""Non-ASCII symbols in English text; in other encodings, the same bytes are letters within words, such as Š,
Ł and ą.
"""
_BETWEEN_LETTERS = re.compile(  # except Catalan l·l and a dash between two names
    r"(?<=[^\W\d_])(?!(?<=[lL])·[lL]|(?<=[a-zA-Z])–[a-zA-Z])[^\w\s\x00-\x7f’\u0e31-\u0e4e]+(?=[^\W\d_])"
)
_ASTRAY = re.compile(  # above or below no letter, in Thai and Hebrew
    "[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u05b0-\u05c7](?<![ก-ฮ\u0e31-\u0e4eא-ת\u05b0-\u05c7].)"
)
_TOUCHING = re.compile(  # a sign directly next to a letter outside ASCII
    r"[¹²³€£¥¢§±¶µ¼½¾×÷¬¦©®™†‡‰¤°](?:(?=[^\W\d_\x00-\x7f])|(?<=[^\W\d_\x00-\x7f].))"
)
_UNWESTERN = re.compile(  # the ends of words in Latvian and Polish, ļ and ď, and rows of accents
    r"[âîûï]\b|ï(?<=\bï)|ê\b(?<=[aijkwyz]ê)|[àâäáãåæçéèêëíìîïñóòôöõøœúùûüýÿß]{3,}", re.IGNORECASE
)
_ENGLISH = re.compile(r"\b(?:the|and|with|from|this|that|you|for)\b", re.IGNORECASE)


def _faults(text: str) -> int:
    """Return the number of characters in impossible words.

    Such words have capitals or symbols inside, mix two scripts, or contain several accents in a row.
    """
    faults = sum(map(len, _BETWEEN_LETTERS.findall(text)))
    faults += len(_ASTRAY.findall(text)) + len(_TOUCHING.findall(text))
    for run, times in Counter(_FOREIGN.findall(text)).items():
        marks = sum(c in _LATIN_MARKS for c in run)
        if 2 <= marks < len(run) and max(run.translate(_NO_MARKS)) < "\u0250":
            faults += times * len(run)
    for word, times in Counter(_LETTERS.findall(text)).items():
        if word.isascii():
            continue
        foreign = sum(c > "\x7f" for c in word)
        is_latin = max(word) < "\u0250"
        is_mixed = not is_latin and foreign < len(word)
        is_odd = not (word.lower() == word or word.isupper() or word[1:].lower() == word[1:])
        if is_mixed or is_odd or (is_latin and foreign > 4 and foreign * 3 > 2 * len(word)):
            faults += times * foreign
    return faults


def _alphabetic(first: str, handicap: float) -> Callable[[str], float]:
    """Return a function that scores how well a text fits the best-matching language of the encoding
    `first`."""
    alphabets: list[str] = list(_LETTERS_OF["alphabets"][first].values())
    is_latin, is_western = alphabets[0][0] < "\u0250", first == "cp1252"
    tables, least = list[dict[str, float]](), 0.6 if is_latin else 0.2
    for letters in alphabets:  # from 1 for the most common letter down to `least`
        falling = ((1.0 - rank / len(letters)) ** 1.5 for rank in range(len(letters)))
        weights = {c: least + (1.0 - least) * share for c, share in zip(letters, falling, strict=True)}
        # A capital counts less, so that KOI8 isn't mistaken for the Windows encoding.
        capitals = {c.upper(): weight * 0.75 for c, weight in weights.items() if len(c.upper()) == 1}
        tables.append(capitals | weights)
    if is_western:  # western names occur together in one text; those of other languages rarely do
        tables.append(dict.fromkeys(_LATIN_LETTERS, 0.65))

    def score(text: str) -> float:
        counts = _count_foreign(text)
        total = sum(counts.values())
        if not total:
            return -2.0
        marks = sum(n * 0.6 for c, n in counts.items() if c in _LATIN_MARKS)
        if marks:
            marks += 0.4 * sum(
                len(run[0])
                for run in _FOREIGN.finditer(text)
                if len(run[0]) <= 2
                and _LATIN_MARKS.issuperset(run[0])
                and _SIGN_IN_PLACE.match(text, run.start())
            )
        letters_only = {c: n for c, n in counts.items() if c not in _LATIN_MARKS}
        if not is_latin and not letters_only:  # more likely the accents of a western text than only signs
            return -2.0
        best = max(sum(n * table.get(c, -1.0) for c, n in letters_only.items()) for table in tables)
        fitting = (best + marks - 2 * _faults(text)) / total - handicap
        if not is_latin:
            return fitting
        if not is_western:  # western is likelier, especially for one word or next to English
            words = {word for word in _LETTERS.findall(text) if not word.isascii()}
            return fitting - (0.2 / max(1, len(words)) ** 2 + (0.3 if _ENGLISH.search(text) else 0.0))
        fitting -= 2 * sum(map(len, _UNWESTERN.findall(text))) / total
        # a stray accent in ASCII, such as half a character at the end: western rather than UTF-16
        return max(fitting, 0.15) if total < 3 and total * 3 < len(text) else fitting

    return score


_MIN_WIDE_SCORE = 0.3  # texts score 0.7 and more, any other bytes 0.1: they are nearly always valid UTF-16


def _score_wide(text: str) -> float:
    """Score a text as UTF-16 without a BOM, in cases where its NUL bytes don't reveal the encoding.

    Such text contains no ASCII characters at all, or has NULs on both sides, as Korean 가 (U+AC00) has.
    """
    score = _mean_weight(_wide)(text)
    return score if score >= _MIN_WIDE_SCORE else -2.0


def _wide(character: str) -> float:
    if character in _SIMPLIFIED or character in _TRADITIONAL or character in _HANGUL:
        return 1.0
    if _KANA.match(character):
        return 1.0
    if character in _WIDE_MARKS:
        return 0.6
    return 0.1 if "\u4e00" <= character <= "\u9fff" or "\uac00" <= character <= "\ud7a3" else -1.0


_TWO_BYTES = ("gb18030", "big5hkscs", "cp932", "euc_jis_2004", "cp949")
"""Supersets of the encodings, as found in real files:

Big5 with 裏 or Cantonese characters, and Korean and Japanese with rare characters.
"""

_FLAWLESS = 0.2  # two names in a table of ASCII

_SCORES: tuple[tuple[str, Callable[[str], float]], ...] = (
    ("gb18030", _mean_weight(_east_asian(_SIMPLIFIED, "gb18030", (0xB0, 0xD7)), _FLAWLESS)),
    ("big5hkscs", _mean_weight(_east_asian(_TRADITIONAL, "big5", (0xA4, 0xC6)), _FLAWLESS)),
    ("cp932", _mean_weight(_with_kana(_east_asian(_JAPANESE, "cp932", (0x88, 0x97))), _FLAWLESS)),
    ("euc_jis_2004", _mean_weight(_with_kana(_east_asian(_JAPANESE, "euc_jp", (0xB0, 0xCF))), _FLAWLESS)),
    ("cp949", _mean_weight(_east_asian(_HANGUL, "euc_kr", (0xB0, 0xC8)), _FLAWLESS)),
    *(
        (encoding, _alphabetic(first, _HANDICAPS.get(encoding, _HANDICAP)))
        for first in _LETTERS_OF["alphabets"]
        for encoding in (first, *_SAME_LETTERS.get(first, ()))
    ),
    ("utf-16-le", _score_wide),
    ("utf-16-be", _score_wide),
)
"""Legacy encodings, in tie-breaking order, each with a function that scores text decoded with it."""


_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, which begins with the same two bytes
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE = 64 * 1024
_JUDGED = 16 * 1024  # bytes used to distinguish the legacy encodings
_MAGIC = (
    b"%PDF-", b"PK\x03\x04", b"\x89PNG", b"\x7fELF", b"\x1f\x8b", b"GIF8", b"\xff\xd8\xff", b"7z\xbc\xaf",
)  # fmt: skip
_ZEROS = re.compile(rb"(?:\0\0){8,}")  # blocks that a power failure or a truncation leaves in a log
_BINARY = "looks like a binary file, not text; give it the extension of its format or exclude it"
_BAD_SHARE = 0.02  # limit of undecodable characters in a damaged text; each counts against it
_NOISE_SHARE = 0.02  # random bytes are 10% control characters; text with stray ones has far fewer
_HARMLESS = frozenset("\t\n\r\f\v\b\a\x1b")  # backspace, bell, escape: manual pages, terminal logs
_FROM_FOREIGN = re.compile(rb"[\x80-\xff][^\n]*\n?")
_TERMINAL = re.compile(
    r"\x1b(?:\[[0-?]{0,100}[ -/]{0,10}[@-~]|\][^\x07\x1b\n]{0,2000}(?:\x07|\x1b\\))|[^\n\x08]?\x08"
)
"""Matches text that a terminal doesn't show: control sequences, such as those for colors, and overstruck
characters, which manual pages use for bold and underlined letters.
"""
_STRAY = re.compile("[\x00\x1b\x7f]")
_SEPARATOR = re.compile("[\x01-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f]")
"""Form feeds, vertical tabs and similar characters, which separate words; other control characters have no
meaning and no width."""
_DECLARED = re.compile(rb"""<\?xml[^>]{0,100}?encoding\s*=\s*["']([\w.:-]{2,30})["']""", re.IGNORECASE)
_META = re.compile(rb"""<meta\b[^>]{0,200}?\bcharset\s*=\s*(?:["']\s*)?([\w.:-]{2,30})""", re.IGNORECASE)
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "x-gbk": "gb18030", "shift_jis": "cp932", "x-sjis": "cp932",
          "iso-8859-1": "cp1252", "latin-1": "cp1252", "us-ascii": "cp1252", "ks_c_5601-1987": "cp949",
          "euc-kr": "cp949", "big5": "big5hkscs", "euc-jp": "euc_jis_2004"}  # fmt: skip
"""Declared labels and the encodings to use for them, because all programs decode these labels with the
superset."""


_NEVER_DECLARED = frozenset(
    ("idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "utf-16", "utf-32")
)
"""Python codecs that no document uses, or that require a BOM (the caller has already checked for a BOM)."""


_SHIFTED = "iso2022_jp_ext"
_SHIFTS = (b"\x1b$B", b"\x1b$@")
"""The escape sequence before Japanese text in ISO-2022-JP, which is otherwise ASCII."""


def decode(raw: bytes) -> str:
    """Return the text in `raw` with `\\n` line endings and no BOM. A character cut off at the end is dropped.

    Raises `Rejected` if `raw` isn't text.
    """
    for bom, encoding in _BOMS:
        if raw.startswith(bom):
            return _finish(_loose(raw[len(bom) :], encoding))
    if raw.startswith(_MAGIC):
        raise Rejected(_BINARY, code="binary")
    content = _ZEROS.sub(b"", raw) or raw
    if wide := _looks_wide(content):
        return _finish(_loose(content, wide))
    if len(content) < len(raw):
        raw = _ZEROS.sub(b"\n", raw)  # they replace the end of a line
    utf8 = _as_utf8(raw)
    if utf8 is not None:
        is_shifted = utf8.isascii() and any(mark in raw for mark in _SHIFTS)
        return _finish(_lenient(raw, _SHIFTED) or utf8 if is_shifted else utf8)
    encoding = _guess_encoding(raw)
    return _finish(_loose(raw, encoding), _unwritten(encoding))


def decode_declared(raw: bytes, label: str | None = None) -> str:
    """Do the same as `decode`, but for HTML, XML and mail, which may declare their encoding in `label` or
    in their first lines.

    A BOM and valid UTF-8 override the declaration, which is often left over from a template.
    """
    head = raw[:4096]
    declared = _DECLARED.search(head) or _META.search(head)
    encoding = _codec(label) or _codec(declared and declared[1].decode("ascii"))
    if encoding is None or any(raw.startswith(bom) for bom, _ in _BOMS) or _looks_wide(raw):
        return decode(raw)
    utf8 = _as_utf8(raw)
    if utf8 is not None:
        return _finish(utf8 if not utf8.isascii() else _loose(raw, encoding))
    text = _loose(raw, encoding)
    return _finish(text) if text.count("\ufffd") <= len(text) * _BAD_SHARE else decode(raw)


def _loose(raw: bytes, encoding: str) -> str:
    """Decode the bytes, replacing invalid ones and dropping a character cut off at the end."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    return decoder.decode(raw, final=False)


def _strict(raw: bytes, encoding: str) -> str | None:
    """Return the decoded text, or None if the bytes are invalid. The last character may be cut off."""
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(raw, final=False)
    except UnicodeDecodeError:
        return None


def _lenient(raw: bytes, encoding: str) -> str | None:
    """Decode the bytes, with U+FFFD for invalid ones.

    Return None if too many are invalid even for a damaged text.
    """
    text = _strict(raw, encoding)
    if text is not None:
        return text
    text = _loose(raw, encoding)
    return text if text.count("\ufffd") <= max(1, len(text) * _BAD_SHARE) else None


def _looks_wide(raw: bytes) -> str | None:
    """Return the encoding if `raw` is UTF-16 without a BOM, or None if it isn't.

    In UTF-16, the NUL bytes of ASCII characters are always on the same side.
    """
    sample = raw[:_SAMPLE]
    if 0 not in sample:
        return None
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if even == odd or min(even, odd) * 20 > max(even, odd):
        return None
    encoding = "utf-16-be" if even > odd else "utf-16-le"
    text = _strict(sample, encoding)
    return None if text is None or _noise(text) > _NOISE_SHARE else encoding


def _as_utf8(raw: bytes) -> str | None:
    """Return `raw` decoded as UTF-8, or None if it isn't UTF-8.

    A few invalid bytes among many valid characters are allowed. Text in another encoding has fewer characters
    that are valid by chance than invalid bytes.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    try:
        text = decoder.decode(raw, final=False)
    except UnicodeDecodeError:
        text = _loose(raw, "utf-8")
        bad = text.count("\ufffd")
        good = len(text) - len(text.encode("ascii", "ignore")) - bad
        return text if good >= 3 * bad else None
    tail = decoder.getstate()[0]
    # One high byte after only ASCII is more likely the é of a Latin-1 "café" than half a character.
    return None if len(tail) == 1 and text.isascii() else text


def _guess_encoding(raw: bytes) -> str:
    """Return the legacy encoding that yields the most likely text."""
    sample = raw
    if len(raw) > _JUDGED:
        # Lines from their first byte outside ASCII on, as many as needed for a score.
        lines, size = [], 0
        for line in _FROM_FOREIGN.finditer(raw):
            lines.append(line[0][:_JUDGED])
            size += len(lines[-1])
            if size >= _JUDGED:
                break
        sample = b"".join(lines)
    best, best_score = "latin-1", -1.5
    for encoding, score in _SCORES:
        text = _lenient(sample, encoding)
        if text is None or _noise(text, _unwritten(encoding)) > _NOISE_SHARE:
            continue
        if (value := score(text)) > best_score:
            best, best_score = encoding, value
    return best


_COMMON = bytes((*b"\t\n\r", *range(0x20, 0x7F)))


def _has_only_common(text: str) -> bool:
    """Return whether the bytes are only printable ASCII and common whitespace.

    This is quick to check, and true for most texts.
    """
    return text.isascii() and not text.encode().translate(None, _COMMON)


_UNWRITTEN = ("Cc", "Cn", "Co")  # Unicode's categories: control, unassigned, private use
_UNWRITTEN_AFTER_DAMAGE = ("Cc", "Cn")
"""The same without private-use characters, for damaged text. If a byte is missing, the byte pairs after it
are shifted, and some of the new pairs are such characters.
"""


def _noise(text: str, unwritten: Collection[str] = _UNWRITTEN) -> float:
    """Return the share of characters that don't occur in real text.

    These are in the Unicode categories `unwritten`.
    """
    sample = text[:_SAMPLE]
    if _has_only_common(sample):
        return 0.0
    odd = {character for character in set(sample) - _HARMLESS if unicodedata.category(character) in unwritten}
    return (
        sum(n for character, n in Counter(sample).items() if character in odd) / len(sample) if odd else 0.0
    )


def _unwritten(encoding: str) -> Collection[str]:
    """Return the categories whose characters are noise in a text decoded by `encoding`."""
    return _UNWRITTEN_AFTER_DAMAGE if encoding in _TWO_BYTES else _UNWRITTEN


def _finish(text: str, unwritten: Collection[str] = _UNWRITTEN) -> str:
    if _noise(text, unwritten) > _NOISE_SHARE:
        raise Rejected(_BINARY, code="binary")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if _has_only_common(text):
        return text
    return separate_controls(text).removeprefix("\ufeff")


def separate_controls(text: str) -> str:
    """Return `text` without control characters and terminal control sequences.

    Control characters that separate words become spaces.
    """
    if "\x1b" in text or "\b" in text:
        text = _TERMINAL.sub("", text)
    return _SEPARATOR.sub(" ", _STRAY.sub("", text))


def _codec(label: str | None) -> str | None:
    """Return the codec for a declared label, or None if the label is missing, unknown, or not a text
    encoding.
    """
    if not label:
        return None
    name = _WIDER.get(label.strip().lower(), label.strip())
    try:
        codec = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    is_text = getattr(codec, "_is_text_encoding", True) and codec.name not in _NEVER_DECLARED
    return codec.name if is_text and codec.incrementaldecoder else None
