from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from kbsync.errors import Rejected
from kbsync.index.read.encoding import decode, decode_declared
from tests.index.languages import ACCENTED, NAMES, SAMPLES, SCRIPTS, SENTENCES, SIGNS
from tests.share import enumerated, long

LATIN, SIMPLIFIED = SCRIPTS["latin"], SCRIPTS["simplified"]
ENCODINGS = {
    "simplified": ("gb18030",),
    "traditional": ("big5",),
    "japanese": ("shift_jis", "euc_jp"),
    "korean": ("euc_kr",),
    "latin": ("cp1252",),
    "russian": ("cp1251",),
}
LEGACY = [
    *(
        (encoding, text)
        for script, encodings in ENCODINGS.items()
        for encoding in encodings
        for text in SCRIPTS[script]
    ),
    *(("latin-1", text) for text in LATIN if not set("’€") & set(text)),
]
UNICODE = ["plain ascii", "café", "每位员工每年享有三十天假期。\n", "mixed 中文 and English 🎉\n", "x"]
WITH_BOM = ["utf-8-sig", "utf-16", "utf-32"]


@enumerated()
@pytest.mark.parametrize(("encoding", "text"), [*LEGACY, *(sample[1:] for sample in SAMPLES), *SENTENCES])
def test_encodings_of_many_languages_are_detected(encoding, text):
    assert decode(text.encode(encoding)) == text


def damaged(raw: bytes, position: int) -> dict[str, bytes]:
    """Return `raw` with a single wrong byte at `position`, as from a failing disk or a cut."""
    return {
        "one more": raw[:position] + b"\xff" + raw[position:],
        "one less": raw[:position] + raw[position + 1 :],
        "another": raw[:position] + b"\x80" + raw[position + 1 :],
        "first cut": raw[1:],
    }


def share_of(text: str, decoded: str) -> float:
    """Return how much of `text`, in pairs of characters, the decoded text contains."""
    pairs, decoded_pairs = (Counter(map("".join, itertools.pairwise(version))) for version in (text, decoded))
    return (pairs & decoded_pairs).total() / pairs.total()


LONG_ENOUGH = [(encoding, text) for _, encoding, text in SAMPLES if len(text) > 400] + [
    (encoding, f"{text}\n" * 4) for encoding, text in SENTENCES if len(text) > 60
]


@enumerated()
@pytest.mark.parametrize(("encoding", "text"), LONG_ENOUGH)
def test_one_bad_byte_does_not_change_the_detected_language(encoding, text):
    text = text[:1_000]
    raw = text.encode(encoding)
    for what, bad in damaged(raw, len(raw) // 2 + len(raw) % 7).items():
        # The damaged line may be lost, but no other.
        assert share_of(text, decode(bad)) > 0.6, what


@long
def test_slight_damage_rarely_changes_the_detected_language():
    chance, wrong, tried = random.Random(3), [], 0
    for encoding, text in [*LONG_ENOUGH, *((e, t) for e, t in LEGACY if len(t) > 60)]:
        raw = text[:1_500].encode(encoding)
        for _ in range(3):
            for what, bad in damaged(raw, chance.randrange(len(raw) // 4, len(raw))).items():
                tried += 1
                decoded = decode(bad)
                if decoded[:8] != text[:8] and share_of(text[:1_500], decoded) < 0.6:
                    wrong.append((encoding, what, text[:20], decoded[:20]))
    assert len(wrong) <= tried * 0.02, wrong


@pytest.mark.parametrize(
    "text", ["Die Straße ist für Fußgänger gesperrt. ", "Zürich – Genf: 5 € für", "说明：管理员"]
)
@pytest.mark.parametrize("bad", [b"M\xfcller", b"\xff"])
def test_utf8_with_one_bad_byte_is_read(text, bad):
    assert decode(text.encode() + bad + b" a").startswith(text)


ENGLISH = [
    "{}",
    "We met at the {} and talked about work.",
    "item,qty\n{},5\nbread,2\n",
    "Name: {}\nCity: London\n",
    "The {0} of last year. Another {0}.\n",
    "# Notes\n\nThis file lists what we found near the {} last year.\n",
]


@enumerated()
@pytest.mark.parametrize("text", [*SIGNS, *(text.format(word) for text in ENGLISH for word in ACCENTED)])
def test_english_text_with_a_symbol_or_accent_is_western(text):
    assert decode(text.encode("cp1252")) == text


def tables_with_names(encoding: str, count: int) -> list[str]:
    """Return ASCII tables with one to five names."""
    chance = random.Random(7)
    first, second = (half.split() for half in NAMES[encoding])
    tables = []
    for _ in range(count):
        names = [chance.choice(first) + chance.choice(second) for _ in range(chance.randint(1, 5))]
        rows = [
            f"{chance.randint(1, 999)},{name},user@example.com,{chance.randint(1, 99)}.50" for name in names
        ]
        rows += [f"{n},nobody,server{n}.example.org,0" for n in range(chance.choice((0, 0, 20)))]
        tables.append("\n".join(["id,name,address,amount", *rows, ""]))
    return tables


@long
@pytest.mark.parametrize("encoding", NAMES)
def test_few_names_in_a_table_reveal_its_encoding(encoding):
    tables = tables_with_names(encoding, 300)
    wrong = [table for table in tables if decode(table.encode(encoding)) != table]
    assert len(wrong) <= 9, wrong  # a single name's bytes may also be letters of another language


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_unicode_symbols_accents_and_names_are_preserved(encoding):
    tables = [table for name in NAMES for table in tables_with_names(name, 20)]
    for text in (*SIGNS, *ACCENTED, *tables):
        assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_needs_no_bom(encoding):
    tables = [table for name in NAMES for table in tables_with_names(name, 20)]
    korean = (text for text in SCRIPTS["korean"] if len(text) > 20)
    for text in ("hello world\n", "你好 world", SIMPLIFIED[2], "\n".join(SIMPLIFIED[2:4]), *korean, *tables):
        assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize("text", [*UNICODE, *(text for samples in SCRIPTS.values() for text in samples)])
def test_utf8_is_read_unchanged(text):
    assert decode(text.encode()) == text


ZURICH = b"x" * 70 + b"\n" * 300_000 + "Zürich".encode("latin-1")
ODD = [
    (b"", ""),
    *((text.encode(encoding), text) for encoding in WITH_BOM for text in UNICODE),
    (b"\xfe\xff" + "中文 text".encode("utf-16-be"), "中文 text"),
    (b"\x00\x00\xfe\xff" + "中文 text".encode("utf-32-be"), "中文 text"),
    *((f"one{end}two{end}".encode(), "one\ntwo\n") for end in ("\r\n", "\r", "\n")),
    (b"log line\n" * 100 + b"\0\0" + b"log line\n", "log line\n" * 101),  # a few stray NULs
    (ZURICH, ZURICH.decode("latin-1")),  # an accent far down
    (b"\x1b[31merror\x1b[0m " * 50, "error " * 50),  # a coloured log
    (b"N\bNA\bAM\bME\bE\n" * 50, "NAME\n" * 50),  # a page of a manual
    (b"_\bo_\bf x\by\n" * 50, "of y\n" * 50),
    (b"\x1b]0;the title\x07\x1b[2Kone \x1b[38;5;208mtwo\x1b[m \x1b]8;;x\x1b\\\n" * 50, "one two \n" * 50),
]


@pytest.mark.parametrize(("raw", "text"), ODD, ids=lambda value: repr(value)[:30])
def test_boms_line_ends_and_stray_bytes_are_accepted(raw, text):
    assert decode(raw) == text


@pytest.mark.parametrize("text", ["会議は金曜日です\n", "Agenda\n\n会議 at noon\n議事録 ｱｲ\n"])
def test_japanese_with_escape_sequences_is_read(text):
    assert decode(text.encode("iso2022_jp_ext")) == text


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16-le", "utf-16-be"])
def test_block_of_zeros_in_a_log_separates_two_lines(encoding):
    before, after = "12:04 Käse gespeichert, und dann", "13:11 Gerät wieder an\n"
    text = decode(before.encode(encoding) + bytes(4_096) + after.encode(encoding))
    assert text.startswith(before)
    assert text.endswith(after)
    assert encoding.startswith("utf-16") or text == f"{before}\n{after}"


def test_colours_that_introduce_no_japanese_are_removed():
    log = "\x1b[31merror\x1b[0m $B " * 50
    assert decode(log.encode()) == "error $B " * 50


@long
@pytest.mark.parametrize(("encoding", "text"), [(e, t) for e, t in LEGACY if len(t) > 12 and e != "euc_kr"])
def test_text_cut_at_any_byte_keeps_everything_before_the_cut(encoding, text):
    raw = text.encode(encoding)
    for cut in range(len(raw) * 2 // 3, len(raw)):
        decoded = decode(raw[:cut])
        assert text.startswith(decoded) and len(decoded) >= len(text[: -(len(raw) - cut)]) - 1


@pytest.mark.parametrize(
    ("head", "encoding", "text"),
    [
        ('<html><head><meta charset="gbk">', "gbk", "蚣薛"),
        ('<meta charset="gb2312">', "gb18030", "产品价格为€100，朱镕基"),  # everybody means the superset
        ('<meta charset="gbk">', "utf-8", "每位员工"),  # valid UTF-8 outweighs a wrong declaration
        ('<meta http-equiv="Content-Type" content="text/html; charset=shift_jis">', "shift_jis", "カレー"),
        ("<META CHARSET=iso-8859-1>", "latin-1", "ÄÖÜßÄÖÜß"),
        ('<?xml version="1.0" encoding="big5"?>', "big5", "鱷魚"),
        ('<?xml version="1.0" encoding="koi8-r"?>', "koi8-r", "Привет"),
    ],
)
def test_declared_charset_is_honoured(head, encoding, text):
    assert decode_declared((head + text).encode(encoding)) == head + text


def test_wrong_charset_label_is_ignored_when_it_produces_garbage():
    assert decode_declared("Каждый сотрудник имеет".encode("cp1251"), "utf-8") == "Каждый сотрудник имеет"


def test_one_bad_byte_does_not_garble_a_utf8_file():
    text = "每位员工每年享有三十天假期。" * 20
    raw = text.encode()
    assert decode(raw[:300] + b"\xff" + raw[300:]).count("员工") == 20


def random_bytes(size: int) -> bytes:
    return random.Random(7).randbytes(size)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x89PNG\r\n\x1a\n" + bytes(20),
        b"PK\x03\x04" + bytes(20),
        b"\x7fELF" + bytes(20),
        b"\x1f\x8b\x08" + b"abc",
        bytes(1000),
        bytes(range(32)) * 10,
        random_bytes(500),
        random_bytes(100_000),
        b"".join(n.to_bytes(4, "little") for n in range(5000)),
        b"".join(n.to_bytes(2, "big") for n in range(0, 60000, 7)),
    ],
)
def test_binaries_are_refused_with_a_message(raw):
    with pytest.raises(Rejected, match="binary file") as refusal:
        decode(raw)
    assert refusal.value.code == "binary"
