"""From bytes to text: BOM, UTF-16 by its NULs, UTF-8, then the likeliest legacy encoding."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Sequence

from kbsync.errors import Rejected
from kbsync.targets.local.scripts import SCORES, WIDE_SCORES

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: it begins with the same two bytes
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE = 64 * 1024
_JUDGED = 16 * 1024  # bytes that the legacy encodings are told apart by
_MAGIC = (
    b"%PDF-",
    b"PK\x03\x04",
    b"\x89PNG",
    b"\x7fELF",
    b"\x1f\x8b",
    b"GIF8",
    b"\xff\xd8\xff",
    b"7z\xbc\xaf",
)
_BINARY = "looks like a binary file, not text; give it the extension of its format or exclude it"
_NOISE_SHARE = 0.02  # random bytes have ten per cent control characters, text with stray ones far less
_HARMLESS = frozenset("\t\n\r\f\b\x1b")  # back-space and escape: manual pages and coloured logs
_FOREIGN = re.compile(rb"[\x80-\xff][^\n]*\n?")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_DECLARED = re.compile(rb"""<\?xml[^>]{0,100}?encoding\s*=\s*["']([\w.:-]{2,30})["']""", re.IGNORECASE)
_META = re.compile(rb"""<meta\b[^>]{0,200}?\bcharset\s*=\s*(?:["']\s*)?([\w.:-]{2,30})""", re.IGNORECASE)
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "x-gbk": "gb18030", "shift_jis": "cp932", "x-sjis": "cp932",
          "iso-8859-1": "cp1252", "latin-1": "cp1252", "us-ascii": "cp1252", "ks_c_5601-1987": "cp949",
          "euc-kr": "cp949", "big5": "big5hkscs"}  # fmt: skip
"""What files declare and what they hold: everybody decodes these labels by the superset."""


_NEVER_DECLARED = frozenset(
    ("idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "utf-16", "utf-32")
)
"""Codecs of Python that no document is in, or that need the mark which would have been believed first."""


def decode(raw: bytes) -> str:
    """The text of `raw` with `\\n` line ends and no BOM; a character cut off at the end is left out.

    Raises `Rejected` where it is no text.
    """
    return _tidied(_decoded(raw))


def decode_declared(raw: bytes, label: str | None = None) -> str:
    """Like `decode` for HTML, XML and mail, which may say what they are in: `label`, or their first lines.

    A BOM and valid UTF-8 are believed before the declaration, which is often left from a template.
    """
    encoding = _codec(label) or _codec(_declaration(raw[:4096]))
    if encoding is None or _has_bom(raw) or _looks_wide(raw):
        return decode(raw)
    utf8 = _as_utf8(raw)
    if utf8 is not None:
        return _tidied(utf8 if not utf8.isascii() else _loose(raw, encoding))
    text = _loose(raw, encoding)
    return _tidied(text) if text.count("\ufffd") * 50 <= len(text) else decode(raw)


def _decoded(raw: bytes) -> str:
    for bom, encoding in _BOMS:
        if raw.startswith(bom):
            return _loose(raw[len(bom) :], encoding)
    if raw.startswith(_MAGIC):
        raise Rejected(_BINARY, code="binary")
    wide = _looks_wide(raw)
    if wide:
        return _loose(raw, wide)
    utf8 = _as_utf8(raw)
    return _loose(raw, _likeliest(raw)) if utf8 is None else utf8


def _has_bom(raw: bytes) -> bool:
    return any(raw.startswith(bom) for bom, _ in _BOMS)


def _loose(raw: bytes, encoding: str) -> str:
    """Decode, bad bytes replaced, a cut-off character at the end dropped."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    return decoder.decode(raw, final=False)


def _strict(raw: bytes, encoding: str) -> str | None:
    """Decode, or None; a cut-off character at the end is no fault."""
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(raw, final=False)
    except UnicodeDecodeError:
        return None


def _looks_wide(raw: bytes) -> str | None:
    """UTF-16 without a BOM: ASCII characters in it have their NUL always on the same side."""
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
    """`raw` as UTF-8, even with a stray bad byte among many good ones; None where it is something else."""
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    try:
        text = decoder.decode(raw, final=False)
    except UnicodeDecodeError:
        return _mostly_utf8(raw)
    tail = decoder.getstate()[0]
    # One high byte after nothing but ASCII is rather the é of a Latin-1 "café" than half a character.
    return None if len(tail) == 1 and text.isascii() else text


def _mostly_utf8(raw: bytes) -> str | None:
    text = _loose(raw, "utf-8")
    bad = text.count("\ufffd")
    good = len(text) - len(text.encode("ascii", "ignore")) - bad
    return text if good >= 9 * bad else None


def _likeliest(raw: bytes) -> str:
    sample = _telling_lines(raw)
    best, best_score = "latin-1", -1.5
    for encoding, score in (*SCORES, *WIDE_SCORES):
        text = _strict(sample, encoding)
        if text is None or _noise(text) > _NOISE_SHARE:
            continue
        if (value := score(text)) > best_score:
            best, best_score = encoding, value
    return best


def _telling_lines(raw: bytes) -> bytes:
    """The lines from their first byte outside ASCII on, as many as are needed to judge by."""
    if len(raw) <= _JUDGED:
        return raw
    kept, size = [], 0
    for line in _FOREIGN.finditer(raw):
        kept.append(line[0][:_JUDGED])
        size += len(kept[-1])
        if size >= _JUDGED:
            break
    return b"".join(kept)


_COMMON = bytes((*b"\t\n\r", *range(0x20, 0x7F)))
_SUSPICIOUS = re.compile(f"[^{re.escape(_COMMON.decode())}]")
"""What is neither printable ASCII nor a common white space is looked at one by one."""


def _suspicious(text: str) -> Sequence[str]:
    """Such characters of a text; most texts have none, which bytes tell ten times as fast."""
    if text.isascii():
        return text.encode().translate(None, _COMMON).decode()
    return _SUSPICIOUS.findall(text)


def _noise(text: str) -> float:
    """The share of characters that no writing has."""
    sample = text[:_SAMPLE]
    noise = sum(map(_is_noise, _suspicious(sample)))
    return noise / max(1, len(sample))


def _is_noise(character: str) -> bool:
    return character not in _HARMLESS and unicodedata.category(character) in ("Cc", "Cn", "Co")


def _tidied(text: str) -> str:
    if _noise(text) > _NOISE_SHARE:
        raise Rejected(_BINARY, code="binary")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii() and not _suspicious(text):
        return text
    return _CONTROL.sub("", text).removeprefix("\ufeff")


def _declaration(head: bytes) -> str | None:
    found = _DECLARED.search(head) or _META.search(head)
    return found[1].decode("ascii") if found else None


def _codec(label: str | None) -> str | None:
    """The codec for a declared label; None for none, unknown ones and what is no text encoding."""
    if not label:
        return None
    name = _WIDER.get(label.strip().lower(), label.strip())
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    is_text = getattr(found, "_is_text_encoding", True) and found.name not in _NEVER_DECLARED
    return found.name if is_text and found.incrementaldecoder else None
