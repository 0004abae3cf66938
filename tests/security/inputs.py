"""Random inputs of strangers, and the required result of each reader."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import strategies as st

from kbsync.contract.target import Limits
from kbsync.core.model import FileKind
from kbsync.core.selection import Rules
from kbsync.errors import Rejected, TargetError
from kbsync.index.characters import legible
from kbsync.index.chunk import LONGEST, chunk, weight
from kbsync.index.document import Parsed
from kbsync.index.fence import child
from kbsync.index.fence.child import unpack_answer, unpack_ready
from kbsync.index.read import calendars, canvas, docx, epub, html, mail, notebook, opendocument, rtf, slides
from kbsync.index.read.encoding import decode, decode_declared
from kbsync.index.read.text import parse_text
from kbsync.targets.http.bodies import excerpt, parse_json
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.rules import by_status
from kbsync.targets.zhipu import shapes
from kbsync.targets.zhipu.errors import classify_response
from kbsync.targets.zhipu.shapes import read_receipt
from tests.index import samples


def as_utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


# -- responses of a service ---------------------------------------------------------------------------------

_KEYS = st.sampled_from([
    "code", "message", "msg", "error", "type", "data", "list", "rows", "total", "page", "size", "id",
    "name", "url", "timestamp", "successInfos", "failedInfos", "documentId", "fileName", "failInfo",
    "embedding_code", "embedding_msg", "embedding_stat", "knowledge_id", "used", "text", "score",
    "metadata", "_id", "doc_id", "length", "word_num", "document_size", "custom_separator",
    "sentence_size", "knowledge_type",
])  # fmt: skip
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**18, max_value=10**40)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["200", "0", "401", "1", "2", "NaN", "1e999", "9" * 500, "\ud800", "\x1b[2J"])
)
_NAMES_OF_VALUES = _KEYS | st.text(max_size=3)
VALUES: st.SearchStrategy[Any] = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES_OF_VALUES, inner, max_size=5),
    max_leaves=20,
)
_BODIES = VALUES.map(as_json) | st.binary(max_size=60)
_HEADER_NAMES = st.sampled_from(["retry-after", "date", "location", "content-type", "content-length"])
_HEADERS = st.dictionaries(_HEADER_NAMES, st.text(max_size=40))
_OPS = st.sampled_from(["upload", "list", "detail", "delete", "base", "capacity", "search", "reembed", "?"])
RESPONSES = st.tuples(_OPS, st.integers(100, 599), _HEADERS, _BODIES)


def check_classification(example: tuple[str, int, dict[str, str], bytes]) -> None:
    """Require a value, or an error that says what to do; never anything else."""
    op, status, headers, content = example
    body = parse_json(content)
    response = HttpResponse(op, status, headers, body, excerpt(content), 1e9)
    assert response.retry_after is None or response.retry_after >= 0
    for error in (classify_response(response), by_status(response)):
        assert error is None or isinstance(error, TargetError)
        assert error is None or len(error.reason) < 5000
    shapes.page_of(body)
    shapes.document_of(body, "1")
    with suppress(TargetError):
        read_receipt(body, "a.md")
    shapes.capacity_of(body)
    shapes.found_of(body)


# -- texts ------------------------------------------------------------------------------------------------

_FRAGMENTS = st.sampled_from([
    "---\n", "# a\n", "## b\n", "```\n", "~~~", "|a|b|\n|--|--|\n", "- x\n", "> ", "\n", "\n\n", " ",
    "\t", '"', ",", "&a ", "*a", "[", "{", "!!python/object:os.system ", "tags: ", "title: ", "<",
    "-->", "00:00:01.000 --> 00:00:02.000\n", "WEBVTT\n", "1\n", "漢", "é", "a\u0301", "word ",
    "x" * 2000, "漢" * 900, "\\section{", "#+begin_src\n", "===\n", "\x0c", "\u2028", "\r", "\ufeff",
    "\x00",
])  # fmt: skip
_ENCODINGS = st.sampled_from(["utf-16", "utf-32", "gb18030", "shift_jis", "cp1252"])
TEXTS = (
    st.lists(_FRAGMENTS | st.text(max_size=5), max_size=30).map("".join).map(as_utf8)
    | st.binary(max_size=200)
    | st.tuples(st.text(max_size=80), _ENCODINGS).map(lambda pair: pair[0].encode(pair[1], "ignore"))
)
_NAMES = st.sampled_from([
    "md", "txt", "csv", "tsv", "json", "yaml", "toml", "vtt", "srt", "rst", "adoc", "org", "tex", "py",
    "js", "xml", "log", "mdx",
]).map("x.{}".format)  # fmt: skip
FILES = st.tuples(_NAMES, TEXTS)


def text_is_covered(example: tuple[str, bytes]) -> None:
    """Require a refusal, or bounded chunks that leave no letter out."""
    path, raw = example
    try:
        read = parse_text(path, raw)
    except Rejected as refusal:
        assert refusal.reason and refusal.code
        return
    chunks = chunk(read)
    assert all(weight(piece.text) <= 3 * LONGEST for piece in chunks)
    indexed = Counter("".join(piece.text for piece in chunks).replace("?", ""))
    expected = Counter(c for c in legible(read.text) if c.isalnum())
    assert not expected - indexed, expected - indexed


_LABELS = st.sampled_from(
    ["utf-8", "utf-7", "utf-16", "utf-32", "idna", "punycode", "undefined", "zip", "rot13", "hex", "\0"]
)
LABELLED = st.tuples(TEXTS, st.none() | st.text(max_size=12) | _LABELS)


def bytes_are_decoded(example: tuple[bytes, str | None]) -> None:
    """Require a text without a NUL, or a refusal."""
    raw, label = example
    for reading in (lambda: decode(raw), lambda: decode_declared(raw, label)):
        with suppress(Rejected):
            assert isinstance(reading(), str)


# -- documents --------------------------------------------------------------------------------------------

_MARKUP = st.lists(
    st.sampled_from([
        "<table>", "<tr>", "<td>", "</table>", "</td>", "<ul>", "<li>", "<ol>", "</ul>", "<pre>",
        "</pre>", "<a href='http://x'>", "</a>", "<h1>", "</h1>", "<title>", "</title>", "<nav>",
        "<!--", "-->", "<![", "<!DOCTYPE x [", "]>", "<?", "&#x110000;", "&amp", "&#0;", "<script>",
        "</script>", "<img alt=x>", "<br", "'", '"', "<", ">", "<p>",
    ])
    | st.text(max_size=4),
    max_size=30,
).map("".join).map(as_utf8)  # fmt: skip
_MAILS = st.lists(
    st.sampled_from([
        b"Subject: ", b"From: =?utf-8?b?", b"?=\n", b"Content-Type: multipart/mixed; boundary=b\n",
        b"Content-Type: text/html\n", b"Content-Type: message/rfc822\n",
        b"Content-Transfer-Encoding: base64\n", b"Content-Transfer-Encoding: x-uuencode\n",
        b"Content-Type: text/plain; charset=idna\n",
        b"Content-Disposition: attachment; filename*=utf-7''%00\n", b"--b\n", b"--b--\n", b"\n",
        b"word", b"=?x?q?=00?=",
    ])
    | st.binary(max_size=6),
    max_size=25,
).map(b"".join)  # fmt: skip


_CARDS = st.lists(
    st.sampled_from([
        b"BEGIN:VCALENDAR\n", b"BEGIN:VCARD\n", b"END:VCARD\n", b"BEGIN:VEVENT\n", b"END:", b"SUMMARY:",
        b"N:;", b"DTSTART;TZID=x:2026", b"T10", b"NOTE;QUOTED-PRINTABLE:=C3=\n", b";", b":", b'"', b"\\n",
        b"\\", b"\n ", b'ATTENDEE;CN="a:b":mailto:', b"CHARSET=utf-7", b"item1.TEL", b"\r", b"word",
    ])
    | st.binary(max_size=6),
    max_size=25,
).map(b"".join)  # fmt: skip
_NODES = st.lists(
    st.dictionaries(
        st.sampled_from(["type", "text", "x", "y", "width", "height", "label", "file"]),
        _SCALARS | st.sampled_from(["group", "text", "file", "link"]),
    ),
    max_size=4,
)


_RICH_TEXTS = st.lists(
    st.sampled_from([
        b"{", b"}", b"\\par ", b"\\'e4", b"\\u-10179 ?", b"\\uc3 ", b"\\bin9 ", b"\\bin-3", b"{\\footnote ",
        b"{\\*\\annotation ", b"{\\fonttbl{\\f1\\fcharset128 x;}}", b"\\f1 ", b"\\s1 ", b"\\intbl ",
        b"\\cell ",
        b"{\\stylesheet{\\s1 heading 1;}}", b"\\row ", b"{\\field{\\*\\fldinst PAGE}{\\fldrslt ", b"\\v ",
        b"\\outlinelevel99 ", b"{\\header ", b"{\\listtext 1.\\tab}", b"{\\upr", b"{\\*\\ud ",
        b"\\ansicpg65001 ", b"\\", b"word",
    ])
    | st.binary(max_size=6),
    max_size=25,
).map(lambda parts: b"{\\rtf1 " + b"".join(parts))  # fmt: skip


def _archived(document: bytes) -> st.SearchStrategy[bytes]:
    """Return an archive with a part replaced, or with bytes swapped."""
    names = sorted(samples.parts_of(document))
    replaced = st.tuples(st.sampled_from(names), _MARKUP | st.binary(max_size=50))
    turned = st.tuples(st.integers(0, len(document) - 1), st.integers(0, 255))
    return replaced.map(lambda change: samples.with_part(document, *change)) | turned.map(
        lambda change: document[: change[0]] + bytes([change[1]]) + document[change[0] + 1 :]
    )


DOCUMENTS = st.one_of(
    st.tuples(st.just("html"), _MARKUP),
    st.tuples(st.just("eml"), _MAILS),
    st.tuples(st.sampled_from(["mbox", "mhtml"]), _MAILS.map(lambda mail: b"From x\n" + mail)),
    st.tuples(st.sampled_from(["ics", "vcf"]), _CARDS),
    st.tuples(
        st.just("canvas"), st.dictionaries(st.sampled_from(["nodes", "edges"]), VALUES | _NODES).map(as_json)
    ),
    st.tuples(st.just("rtf"), _RICH_TEXTS),
    st.tuples(
        st.just("ipynb"),
        st.dictionaries(st.sampled_from(["cells", "worksheets", "metadata"]), VALUES).map(as_json),
    ),
    st.tuples(st.just("epub"), _archived(samples.epub())),
    st.tuples(st.just("pptx"), _archived(samples.pptx())),
    st.tuples(st.just("docx"), _archived(samples.docx())),
    st.tuples(st.just("odt"), _archived(samples.odt())),
    st.tuples(st.sampled_from(["html", "eml", "ipynb", "epub", "pptx", "docx"]), st.binary(max_size=100)),
)

_READERS: dict[str, Callable[[bytes], Parsed]] = {
    "html": html.read_page,
    "eml": mail.read_eml,
    "mbox": mail.read_mbox,
    "mhtml": mail.read_mhtml,
    "ics": calendars.read_ics,
    "vcf": calendars.read_vcf,
    "canvas": canvas.read_canvas,
    "ipynb": notebook.read_ipynb,
    "epub": epub.read_epub,
    "pptx": slides.read_pptx,
    "docx": docx.read_docx,
    "rtf": rtf.read_rtf,
    "odt": opendocument.read_opendocument,
}


def document_is_read(example: tuple[str, bytes]) -> None:
    """Require a text, or a refusal with a reason."""
    extension, raw = example
    outcome, text = child.outcome(_READERS, f"x.{extension}", raw)
    refused = outcome.get("refused", {})
    assert text.strip() if "text" in outcome else (refused["reason"] and refused["code"])


_READ = {"title": _SCALARS, "tags": VALUES, "page_starts": VALUES,
         "flavour": st.sampled_from(["markdown", "rows", "none"]) | _SCALARS, "columns": _SCALARS,
         "line_offset": _SCALARS, "has_lines": _SCALARS}  # fmt: skip
_ANSWERED = st.fixed_dictionaries({"resident": _SCALARS, "text": st.fixed_dictionaries(_READ)})
FRAMES = st.binary(max_size=80) | (VALUES | _ANSWERED).map(as_json)


def frame_is_unpacked(content: bytes) -> None:
    """Require a response, or ValueError."""
    for unpack in (unpack_answer, unpack_ready):
        with suppress(ValueError):
            unpack(content)


# -- patterns --------------------------------------------------------------------------------------------

_PATTERN_PARTS = [
    "*", "**", "?", "/", "a", "[a-z]", "[!a]", "[", "]", "!", "\\", "#", "{a,b}", "[[:alpha:]]", "-", ".",
    " ", "**/",
]  # fmt: skip
_SEGMENTS = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=("Cs",)) | st.sampled_from("~_%. -"),
    min_size=1,
    max_size=12,
).filter(lambda segment: segment not in (".", ".."))
PATHS = st.lists(_SEGMENTS, min_size=1, max_size=4).map("/".join)
PATTERNS = st.tuples(st.lists(st.sampled_from(_PATTERN_PARTS), min_size=1, max_size=25).map("".join), PATHS)


def pattern_is_matched(example: tuple[str, str]) -> None:
    """Require a result, or ValueError for an invalid pattern; also for a path made to backtrack."""
    pattern, path = example
    try:
        rules = Rules(None, (pattern,), Limits())
    except ValueError:
        return
    for tried in (path, "a" * 60 + "b", "a/" * 40 + "b", "aab" * 20 + "/" + "ab" * 30):
        rules.verdict(tried, 1, FileKind.FILE)
        rules.enters(tried)


FIELDS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], None]]] = {
    "responses": (RESPONSES, check_classification),
    "texts": (FILES, text_is_covered),
    "encodings": (LABELLED, bytes_are_decoded),
    "documents": (DOCUMENTS, document_is_read),
    "frames": (FRAMES, frame_is_unpacked),
    "patterns": (PATTERNS, pattern_is_matched),
}
