from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Callable
from hashlib import sha256
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.core.names import MAX_NAME_BYTES, Naming, ParsedName, tag_of
from tests.share import enumerated, long

ONE, OTHER = (sha256(content).hexdigest() for content in (b"one", b"other"))
TAG = tag_of(ONE)
TAGGED, PLAIN, MARKED = (Naming(style=style) for style in ("tagged", "plain", "marked"))
STYLES = [TAGGED, PLAIN]


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def as_reported(raw: bytes) -> str:
    """Return a path as the system reports it."""
    return raw.decode("utf-8", "surrogateescape")


FRAGMENTS = [
    *("a", "B", "7E", "d", "~", "~d", "~~", "~-2", "_", "__", "/", ".", " ", "-", "-2", "(1)", "_1", ".md"),
    *("\u00e9", "e\u0301", "\u0301", "\u0338", "\u212b", "\uac00", "\u1100\u1161", "\uf900"),
    *("手册", "\u3000"),
    *("👨\u200d👩\u200d👧", "\U0001f600", "\u202e", "\x00\x01"[1:], "\n", "\\", '"', ":", "*?<>|%;&+", "%41"),
    *("\udcff", "\udcc3", "README", ".tar.gz", TAG, f"~{TAG}", "abcdefghijkl"),
]
PARTS = (
    st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=6).map("".join)
    | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
    | st.binary(min_size=1, max_size=60).map(as_reported)
    | st.sampled_from(["x" * 255, "手" * 85, "\U0001f600" * 63, "e\u0301" * 85, "\udcff" * 255, "~" * 255])
)


def form(name: str) -> str:
    """As forms of Java encode it; a name that it would only change from ` ` to `+` is left alone."""
    encoded = quote_plus(name).replace("~", "%7E")
    return encoded if "%" in encoded else name


def is_path(text: str) -> bool:
    return "\0" not in text and {"", ".", ".."}.isdisjoint(text.split("/"))


PATHS = (
    st.lists(PARTS, min_size=1, max_size=5)
    .map("/".join)
    .map(lambda text: as_reported(text.encode("utf-8", "surrogateescape")))
    .filter(is_path)
)
PREFIXES = st.sampled_from(["", "", "hb-", "guides/", "a_", "_", "~", "é", "e\u0301", "手册 ", ".", "x" * 90])
NUMBERS = st.sampled_from([0, 0, 1, 2, 37, 999_999])
ASCII_PATHS = (
    st.lists(
        st.sampled_from([fragment for fragment in FRAGMENTS if fragment.isascii()]), min_size=1, max_size=6
    )
    .map("".join)
    .filter(is_path)
)


@pytest.mark.parametrize(
    ("path", "flat"),
    [
        ("intro.md", "intro~T.md"),
        ("guides/intro.MD", "guides__intro~T.MD"),
        ("a_b.md", "a_b~T.md"),
        ("a__b.md", "a~5F~5Fb~T.md"),
        ("a_/b.md", "a~5F__b~T.md"),
        ("README", "README~T"),
        (".env", "~2Eenv~T"),
        ("d/.env", "d__.env~T"),
        ("a.tar.gz", "a.tar~T.gz"),
        ("a.md~", "a.md~7E~T"),
        (" a .md", "~20a~20~T.md"),
        ("a..md", "a~2E~T.md"),
        ("R&D: 50%.md", "R&D~3A 50~25~T.md"),
        ("手册/安装 指南.pdf", "手册__安装 指南~T.pdf"),
        ("caf\u00e9.md", "caf\u00e9~T.md"),
        ("cafe\u0301.md", "caf\u00e9~d~T.md"),
        ("\u00e9/e\u0301.md", "\u00e9__e~CC~81~T.md"),
        ("\udce9t\udce9.md", "~E9t~E9~T.md"),
        ("👨\u200d👩\u200d👧.md", "👨\u200d👩\u200d👧~T.md"),
        ("a_1.md", "a_1~T.md"),
        ("a (1).md", "a (1)~T.md"),
    ],
)
def test_a_name_reads_like_the_path(path: str, flat: str) -> None:
    """Without a tag, a name that could have been changed to avoid another ends with `~`."""
    plain = flat.replace("~T", "~" if path in ("a_1.md", "a (1).md") else "")
    assert TAGGED.name(path, ONE) == flat.replace("~T", f"~{TAG}")
    assert PLAIN.name(path, ONE) == plain
    assert TAGGED.read(TAGGED.name(path, ONE)) == ParsedName(path, TAG)
    assert PLAIN.read(plain) == ParsedName(path)
    assert TAGGED.name(path, ONE, 2) == flat.replace("~T", f"~{TAG}-2")


def test_tag_is_a_prefix_of_the_digest() -> None:
    assert tag_of("00" * 32) == "aaaaaaaa"
    assert tag_of("0000000001" + "ff" * 27) == "aaaaaaab"
    assert tag_of("FFFFFFFFFF" + "00" * 27) == "77777777"


def test_target_that_stores_our_marker_gets_the_plain_path() -> None:
    naming = Naming("guides/", "marked")
    assert naming.name("a/ü~.md", ONE, 3) == "guides/a/ü~.md" == naming.key("guides/a/ü~.md")
    assert naming.read("guides/a/b.md") == ParsedName("a/b.md")
    assert naming.read("a/b.md") is None
    assert naming.recognizes("guides/a.md", "guides/a.md")
    assert not naming.recognizes("guides/a.md", "a.md")
    assert naming.short_of("x" * 300) == ""


@long
@given(PREFIXES, PATHS, NUMBERS, st.sampled_from(["tagged", "plain"]))
def test_name_encodes_path_tag_and_number(prefix: str, path: str, number: int, style: str) -> None:
    naming = Naming(prefix, style)
    name, short = naming.name(path, ONE, number), naming.short_of(path)
    expected = ParsedName(None if short else path, TAG if style == "tagged" else "", number, short)
    for listed_name in (name, nfd(name), quote(name), form(name), f"/uploads/{name}", f"C:\\x\\{name}"):
        assert naming.read(listed_name) == expected
        assert naming.key(listed_name) == naming.key(name) == expected.tag
        assert naming.recognizes(name, listed_name)


@long
@given(PREFIXES, PATHS, NUMBERS, st.sampled_from(["tagged", "plain"]))
def test_name_is_short_safe_and_keeps_its_extension(prefix: str, path: str, number: int, style: str) -> None:
    name = Naming(prefix, style).name(path, ONE, number)
    assert len(name.encode()) <= MAX_NAME_BYTES
    assert not re.search(r'[\x00-\x1f\x7f-\x9f"\\/:*?<>|%;\u2028\u202e]', name)
    assert not name.startswith((".", " "))
    assert not name.endswith((".", " "))
    assert nfc(name) == name
    extension = os.path.splitext(path)[1]
    if re.fullmatch(r"\.[A-Za-z0-9]{1,16}", extension):
        assert name.endswith(extension)


@long
@enumerated()
@pytest.mark.parametrize("alphabet", ["a_/~.", "_~5Fd.", "ae\u0301\u00e9~/", ".~-2a_", "1_()a."])
@pytest.mark.parametrize("naming", STYLES, ids=lambda naming: naming.style)
def test_all_short_paths_have_distinct_names(naming: Naming, alphabet: str) -> None:
    lengths = range(1, 6)
    texts = (
        "".join(characters) for length in lengths for characters in itertools.product(alphabet, repeat=length)
    )
    paths = [text for text in texts if is_path(text)]
    names = {nfd(naming.name(path, ONE, number)): (path, number) for path in paths for number in (0, 2)}
    assert len(names) == 2 * len(paths)
    readings = [naming.read(name) for name in names]
    assert [(reading.path, reading.number) for reading in readings if reading] == list(names.values())


def test_too_long_path_keeps_its_head_and_hash() -> None:
    long = "报告/" + "季度 " * 40
    first, second = f"{long}1.docx", f"{long}2.docx"
    name = TAGGED.name(first, ONE)
    assert name.startswith("报告__季度 季度 季度")
    assert name.endswith(f"~~{TAGGED.short_of(first)}~{TAG}.docx")
    assert len(name.encode()) > MAX_NAME_BYTES - 15
    assert TAGGED.name(second, ONE) != name
    assert TAGGED.read(name) == ParsedName(None, TAG, 0, TAGGED.short_of(first))
    assert TAGGED.short_of(first) != TAGGED.short_of(second)


@pytest.mark.parametrize("naming", STYLES, ids=lambda naming: naming.style)
def test_number_does_not_decide_whether_a_name_is_shortened(naming: Naming) -> None:
    for length in range(170, 205):
        path = "x" * length + ".md"
        for number in (0, 9, 999_999):
            reading = naming.read(naming.name(path, ONE, number))
            assert reading is not None
            assert (reading.path, reading.short) == (
                (None, short) if (short := naming.short_of(path)) else (path, "")
            )


def test_name_with_another_prefix_is_not_ours() -> None:
    guides, faq = Naming("guides/"), Naming("faq/")
    for path in ("a.md", "x" * 250 + ".md", "cafe\u0301.md"):
        assert guides.name(path, ONE).startswith("guides__")
        assert faq.read(guides.name(path, ONE)) is None
    assert guides.read(TAGGED.name("a.md", ONE)) is None
    assert guides.read(TAGGED.name("guides/a.md", ONE)) == ParsedName(
        "a.md", TAG
    )  # why prefixes must not clash


@pytest.mark.parametrize("prefix", ["手" * 60, "_" * 200])
def test_prefix_that_leaves_no_room_is_shortened_too(prefix: str) -> None:
    naming = Naming(prefix)
    name = naming.name("a.md", ONE)
    assert len(name.encode()) <= MAX_NAME_BYTES
    assert naming.read(name) == ParsedName(None, TAG, 0, naming.short_of("a.md"))


@pytest.mark.parametrize(
    "name",
    [
        *("a.md", "", "~", ".md", f"~{TAG}", f"~{TAG}.md", f"a~{TAG[:7]}.md", f"a~{TAG.upper()}.md"),
        *(f"a~{TAG}-0.md", f"a~{TAG}-02.md", f"a~{TAG}.md.bak", f"a~{TAG} (1).md", f"a~{TAG}\n"),
        *(f"a~zz~{TAG}.md", f"a~7e~{TAG}.md", f"a~41~{TAG}.md", f"a~~{TAG}.md", f"a___b~{TAG}.md"),
        *(f"a~d~{TAG}.md", f"a:b~{TAG}.md", f"a ~{TAG}.md", f"~2E.__a~{TAG}.md", f"__a~{TAG}.md"),
        *(f"a~00~{TAG}.md", f"a\ud800~{TAG}.md", f"a__~{TAG}", f"{'x' * 300}~~{'a' * 12}~{TAG}.md"),
    ],
)
def test_name_we_never_wrote_is_not_ours(name: str) -> None:
    assert TAGGED.read(name) is None


@long
@given(st.text(max_size=30) | st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join))
def test_our_names_round_trip(name: str) -> None:
    for naming in (PLAIN, Naming("a_", "plain")):
        reading = naming.read(name)
        if reading is not None and reading.path is not None:
            assert naming.recognizes(naming.name(reading.path, ONE, reading.number), name)


def added(suffix: str) -> Callable[[str], str]:
    return lambda name: re.sub(r"(\.\w+)?\Z", lambda match: suffix + match[0], name, count=1)


def replaced(mark: str) -> Callable[[str], str]:
    return lambda name: re.sub(r"[^\x00-\x7f]", mark, name)


def misread(codec: str, errors: str = "replace") -> Callable[[str], str]:
    return lambda name: name.encode().decode(codec, errors)


MANGLES: dict[str, Callable[[str], str]] = {
    "kept": str,
    "NFD": nfd,
    "folder": "uploads/2026/{}".format,
    "windows folder": "C:\\fakepath\\{}".format,
    "(1)": added("(1)"),
    " (12)": added(" (12)"),
    "_1": added("_1"),
    "_(1)": added("_(1)"),
    "NFD and (1)": lambda name: added("(1)")(nfd(name)),
    "percent": quote,
    "percent, small": lambda name: quote(name).lower() if name.islower() else quote(name),
    "form": form,
    "form and (1)": lambda name: form(added(" (1)")(name)),
    "latin-1": misread("latin-1"),
    "cp1252": misread("cp1252"),
    "gbk": misread("gbk"),
    "gb18030": misread("gb18030"),
    "gbk, dropping": misread("gbk", "ignore"),
    "latin-1 of NFD": lambda name: misread("latin-1")(nfd(name)),
    "latin-1, controls dropped": lambda name: re.sub(r"[\x80-\x9f]", "", misread("latin-1")(name)),
    "?": replaced("?"),
    "_": replaced("_"),
    "U+FFFD": replaced("\ufffd"),
    "? for a byte": lambda name: replaced("?")(misread("latin-1")(name)),
    "dropped": replaced(""),
    "dropped accents": lambda name: replaced("")(nfd(name)),
    "latin-1 or ?": lambda name: name.encode("latin-1", "replace").decode("latin-1"),
    "gbk or ?": lambda name: name.encode("gbk", "replace").decode("gbk"),
    "basic plane only": lambda name: re.sub(r"[^\x00-\uffff]", "", name),
    "_ and (1)": lambda name: added("(1)")(replaced("_")(name)),
}
SAMPLES = [
    *(
        "a b/c_d.md",
        "手册/安装 指南.pdf",
        "café/手.md",
        "cafe\u0301.md",
        "手",
        "册\U0001f600.md",
        "b_手_é__1.md",
    )
]


@pytest.mark.parametrize("mangle", MANGLES.values(), ids=MANGLES)
@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize("naming", STYLES, ids=lambda naming: naming.style)
def test_name_is_recognized_after_a_service_altered_it(
    naming: Naming, mangle: Callable[[str], str], number: int
) -> None:
    for path in SAMPLES:
        sent = naming.name(path, ONE, number)
        assert naming.recognizes(sent, mangle(sent)), mangle(sent)
        assert naming.key(sent) == naming.key(mangle(sent)), mangle(sent)


@long
@given(PATHS, PATHS, st.sampled_from(list(MANGLES.values())), NUMBERS, NUMBERS)
def test_name_does_not_match_other_bytes_or_another_number(
    path: str, other: str, mangle: Callable[[str], str], number: int, second: int
) -> None:
    sent = TAGGED.name(path, ONE, number)
    assert not TAGGED.recognizes(sent, mangle(TAGGED.name(other, OTHER, second)))
    if number != second:
        assert not TAGGED.recognizes(sent, mangle(TAGGED.name(path, ONE, second)))


@long
@given(ASCII_PATHS, ASCII_PATHS | st.none(), st.sampled_from(list(MANGLES.values())))
def test_plain_paths_are_never_confused(path: str, other: str | None, mangle: Callable[[str], str]) -> None:
    second = mangle(path) if other is None else other
    if second == path or not is_path(second):
        return
    for naming in STYLES:
        first_name, second_name = naming.name(path, ONE), naming.name(second, ONE)
        assert not naming.recognizes(first_name, second_name)
        assert not naming.recognizes(second_name, first_name)
        numbered = added("(1)")(second_name)
        if numbered != added("_(1)")(first_name):  # else it may as well be the other one's
            assert not naming.recognizes(first_name, numbered)


NEIGHBOURS = (
    ("手册.md", "指南.md"),
    ("手册.md", "册.md"),
    ("é.md", "è.md"),
    ("a/手.md", "b/手.md"),
    ("手a", "手b"),
)


@pytest.mark.parametrize("naming", STYLES, ids=lambda naming: naming.style)
def test_different_words_mean_a_different_document(naming: Naming) -> None:
    for path, other in NEIGHBOURS:
        assert not naming.recognizes(naming.name(path, ONE), naming.name(other, ONE))
        assert not naming.recognizes(naming.name(other, ONE), naming.name(path, ONE))


def test_long_altered_name_is_decided_immediately() -> None:
    sent = PLAIN.name("手/" * 30 + "a.md", ONE)
    assert not PLAIN.recognizes(sent, "_" * 180 + "b.md")
    assert PLAIN.recognizes(sent, replaced("_")(sent))


@pytest.mark.parametrize("form", ["{stem}(1){ext}", "{stem}_2{ext}", "mojibake"])
def test_altered_name_is_still_parsed(form: str) -> None:
    naming = Naming()
    name = naming.name("手册/退款.md", ONE)
    stem, ext = name[:-3], name[-3:]
    altered = name.encode().decode("latin-1") if form == "mojibake" else form.format(stem=stem, ext=ext)
    assert naming.read(altered) is None
    assert naming.read_mangled(altered) == naming.read(name)
    assert naming.read_mangled("guide(1).md") is None
