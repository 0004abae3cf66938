"""Reads text files, including Markdown, and contains the functions with which all readers write Markdown.

The metadata block of notes and blog posts (YAML between ---, TOML between +++) is read outside the fence, so
the cost of reading it must be bounded by its length. Its length is limited, YAML's merge keys aren't resolved
(each line of them can double everything before it), and TOML's dotted keys, whose cost grows with the cube of
the number of their parts, are limited.
"""

from __future__ import annotations

import html
import operator
import re
import sys
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal

from kbsync.core.text import extension_of
from kbsync.errors import Rejected
from kbsync.index.chunk import Shape, blocks, plain_title
from kbsync.index.document import MAX_TITLE_LENGTH, Flavour, Parsed
from kbsync.index.read.encoding import decode, decode_declared, separate_controls
from kbsync.index.read.formats import DOCUMENTS, EXTENSIONS, flavour_of, load_reader, word_set

_NUMBER = re.compile(r"[-+]?[\d.,]*\d%?$")
_CUE_TIME = re.compile(r"^[ \t]*(?:\d+:)?\d+:\d\d[.,]\d{3}[ \t]+-->.*$")
_MARK = re.compile(r"<([^<>]*)>")  # no `<` inside: each is tried from one place only
_CUE_POSITION = re.compile(r"\{\\[^{}\n]{0,200}\}")  # {\an8}: at the top
_CUE_TAG = re.compile(r"/?(?:[a-zA-Z][^>]{0,80}|\d[\d:.]*)")


def parse_text(path: str, raw: bytes) -> Parsed:
    """Return the text of a file that needs no parser. Raises `Rejected` for binary files and files without
    text.
    """
    extension = extension_of(path)
    flavour = flavour_of(path)
    text = decode_declared(raw) if extension == "xml" else decode(raw)
    text = _without_escapes(text, extension)
    if not text.strip():
        raise Rejected("no text found: the file is empty or contains only whitespace", code="no-text")
    if flavour is Flavour.MARKDOWN:
        matter = split_front_matter(text)
        matter = replace(matter, text=decoded_inline(matter.text))
        if not matter.text.strip():  # only metadata, which becomes the text
            return replace(matter, text=text, line_offset=0)
        return replace(matter, title=matter.title or first_heading(matter.text, flavour))
    if extension in ("vtt", "srt"):
        spoken = list(_spoken_lines(text.split("\n"), is_webvtt=extension == "vtt"))
        if not any(spoken):
            raise Rejected("no text found: the file has no cues", code="no-text")
        return Parsed("\n".join(spoken), Flavour.PLAIN)
    if extension in ("csv", "tsv"):
        return Parsed(text, flavour, columns=_columns(text, extension))
    return Parsed(text, flavour, title=first_heading(text, flavour))


_ESCAPING = ("json", "jsonl", "ndjson", "yaml", "yml", "properties")
_REFERRING = ("xml", "xsd", "xsl")
"""Formats in which programs escape all non-ASCII characters."""

_ESCAPED = re.compile(  # a pair of surrogates, one character, or a backslash with its character
    r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2}))|.)"
)
_REFERRED = re.compile("&#(?:([0-9]{3,7})|x([0-9a-fA-F]{2,6}));")


def _without_escapes(text: str, extension: str) -> str:
    """Return `text` with its escapes decoded."""
    if extension in _ESCAPING and "\\" in text:
        # In YAML, a backslash is literal unless it is quoted: C:\new
        spaces = {} if extension in ("yaml", "yml") else _SPACES
        return _ESCAPED.sub(lambda escape: spaces.get(escape[0]) or _decode_escape(escape), text)
    if extension in _REFERRING and "&#" in text:
        return _REFERRED.sub(
            lambda escape: _letter(int(escape[1]) if escape[1] else int(escape[2], 16), escape[0]), text
        )
    if extension in ("tex", "latex") and "\\" in text:
        return _IN_TEX.sub(_compose_tex, text)
    return text


_SPACES = {rf"\{letter}": " " for letter in "nrtbf"} | {r"\/": "/"}
"""Escapes for whitespace in JSON and Java.

If they weren't converted, their letters would become part of the next word.
"""


def _decode_escape(escape: re.Match[str]) -> str:
    high, low, *singles = escape.groups()
    if high:
        return chr(0x10000 + (int(high, 16) - 0xD800 << 10) + int(low, 16) - 0xDC00)
    digits = "".join(filter(None, singles))
    return _letter(int(digits, 16), escape[0]) if digits else escape[0]


_TEX_MARKS = {
    '"': "\u0308", "'": "\u0301", "`": "\u0300", "^": "\u0302", "~": "\u0303", "=": "\u0304", ".": "\u0307",
    "u": "\u0306", "v": "\u030c", "H": "\u030b", "c": "\u0327", "k": "\u0328", "r": "\u030a",
}  # fmt: skip
_TEX_LETTERS = {
    "ss": "ß", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "aa": "å", "AA": "Å", "o": "ø", "O": "Ø", "l": "ł",
    "L": "Ł", "-": "",
}  # fmt: skip
_TEX_LETTER = (
    r"[\"'`^~=.](?:\{\\?[A-Za-z]\}|\\[ij](?:\{\}|\b)|[A-Za-z])|[uvHckr]\{\\?[A-Za-z]\}"
    r"|(?:ss|ae|AE|oe|OE|aa|AA)(?:\{\}|(?![A-Za-z]) ?)|[oOlL]\{\}|(?<=[A-Za-z]\\)[oOlL] (?=[a-z])|-"
)
_IN_TEX = re.compile(rf"\\\\|\\({_TEX_LETTER})|\{{\\({_TEX_LETTER}|[oOlL])\}}")
"""Matches TeX's notation for a non-ASCII letter, alone or in braces, or for a possible hyphen. \\O without
braces may mean something else.
"""


def _compose_tex(letter: re.Match[str]) -> str:
    code = letter[1] or letter[2]
    if code is None:  # the end of a line: \\
        return letter[0]
    if (character := _TEX_LETTERS.get(code.rstrip(" {}"))) is not None:
        return character
    composed = unicodedata.normalize("NFC", code.strip("\\{} ")[-1] + _TEX_MARKS[code[0]])
    return composed if len(composed) == 1 else letter[0]


def _letter(code: int, escape: str) -> str:
    """Return the character with this code.

    Return `escape` unchanged if the character has a special meaning in the format or isn't printable.
    """
    character = chr(code) if 0x7F < code <= sys.maxunicode else ""
    return character if character and character.isprintable() else escape


_MAX_HEADER_LENGTH = 1_000
"""Maximum length in characters of a header line that is repeated above each chunk."""


def _columns(text: str, extension: str) -> str:
    """Return the header line, or "" if there is none.

    A first line that contains a number or consists of one cell is a record, not a header.
    """
    line, newline, _ = text[: _MAX_HEADER_LENGTH + 1].partition("\n")
    if not newline and len(text) > _MAX_HEADER_LENGTH:
        return ""
    delimiter = "\t" if extension == "tsv" else max(",;\t|", key=line.count)
    cells = [cell.strip().strip('"') for cell in line.split(delimiter)]
    is_record = any(_NUMBER.match(cell) for cell in cells) or not any(cells)
    return "" if is_record or line.count('"') % 2 else line


def _spoken_lines(lines: Sequence[str], *, is_webvtt: bool) -> Iterator[str]:
    """Yield each line of subtitles as it is spoken. Times, numbers, marks and comments become blank lines.

    WebVTT has comments and character references, such as `&amp;`.
    """
    is_start, is_comment = True, False  # of a block, which ends with a blank line
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if is_start:
            is_comment = is_webvtt and line.split(None, 1)[:1] in (["NOTE"], ["STYLE"], ["REGION"])
        is_start = not line.strip()
        is_label = _CUE_TIME.match(following) is not None  # the number or name above a cue's times
        if is_comment or is_label or _CUE_TIME.match(line) or line.startswith("WEBVTT"):
            yield ""
        else:
            spoken = _CUE_POSITION.sub("", _MARK.sub(_strip_mark, line)).rstrip()
            yield " ".join(html.unescape(spoken).splitlines()) if is_webvtt else spoken


def _strip_mark(mark: re.Match[str]) -> str:
    """Return the speaker in `<v.loud Ada>`, "" for other tags, and any other text in angle brackets
    unchanged.
    """
    kind, *name = mark[1].split(None, 1)[:2] or [""]
    if name and (kind == "v" or kind.startswith("v.")):
        return f"{name[0]}: "
    return "" if _CUE_TAG.fullmatch(mark[1]) else mark[0]


_LONGEST = 64 * 1024
_MAX_DOTS = 100  # on one line of TOML, where a key may have many parts
_BLOCK = {
    "---": re.compile(r"---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE),
    "+++": re.compile(r"\+\+\+[ \t]*\n(.*?)^\+\+\+[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE),
}
_ASSIGNMENT = re.compile("[:=]")
_CJK_WORD = re.compile("[぀-ヿ㐀-鿿가-힣]{2}")
_TAG_KEYS = ("tags", "tag", "keywords", "categories", "category")


def split_front_matter(text: str) -> Parsed:
    """Split the front matter off `text`.

    If the front matter can't be parsed, it stays in the text, so that nothing is lost.
    """
    pattern = _BLOCK.get(text[:3])
    match = pattern.match(text, 0, _LONGEST) if pattern else None
    if match is None:
        return Parsed(text)
    try:
        block = match[1]
        if text[:3] == "---":
            loaded = _yaml(block)
        elif any(line.count(".") > _MAX_DOTS for line in block.split("\n")):
            return Parsed(text)
        else:
            loaded = tomllib.loads(block)
        if loaded is None and not block.strip():
            loaded = {}
        if not isinstance(loaded, dict):
            return Parsed(text)
        fields = {str(key).lower(): value for key, value in loaded.items()}
        title = _scalar(fields.get("title"))
        tags = tuple(dict.fromkeys(t for key in _TAG_KEYS for t in _words(fields.get(key))))
    except (ValueError, RecursionError):  # a number of 5,000 digits raises ValueError only when written
        return Parsed(text)
    remaining, lines = text[match.end() :], match[0].count("\n")
    prose = "".join(f"{line}\n" for line in _prose_of(block, title is not None))
    if not prose.strip():
        return Parsed(remaining, title=title, tags=tags, line_offset=lines)
    closing = "\n" if match[0].endswith("\n") else ""
    return Parsed(f"\n{prose}{closing}{remaining}", title=title, tags=tags)


_INLINE = re.compile(
    r"(`+[^`\n]*`+)"
    r"|(?<!\w)!?\[\[(?![-\s$\"'!])([^\[\]|\n]{1,200})(?:\|([^\[\]\n]{1,200}))?\]\]"
    r"|&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});"
)
"""Matches inline code, a note link (capturing the note's name and its display text), or a character
reference.
"""


def decoded_inline(text: str) -> str:
    """Return Markdown with links to notes and embeds (`[[Name|text]]`) as plain text.

    Character references (`&eacute;`) become characters. Code isn't changed.
    """
    if "[[" not in text and "&" not in text:
        return text
    parts, end = list[str](), 0
    for block in blocks(text, Flavour.MARKDOWN):
        if block.shape is Shape.FENCE:
            parts += [_INLINE.sub(_decode_inline, text[end : block.start]), text[block.start : block.end]]
            end = block.end
    return "".join([*parts, _INLINE.sub(_decode_inline, text[end:])])


def _decode_inline(match: re.Match[str]) -> str:
    code, name, words = match.groups()
    if code:
        return str(code)
    if not name:
        character = html.unescape(match[0])
        # other characters of ASCII may have a meaning in Markdown
        is_plain = character in _PLAIN or (character > "\x7f" and character.isprintable())
        return _PLAIN.get(character, character) if is_plain else match[0]
    name = " ".join(name.removesuffix("\\").replace("#", " ").replace("^", " ").split())
    # the words after | may be the size of a picture: 300 or 300x200
    is_size = words is not None and words.replace("x", "").isdecimal()
    return name if words is None or is_size or words.strip() in ("", name) else f"{words.strip()} ({name})"


_PLAIN = {"&": "&", "'": "'", '"': '"', "\xa0": " ", "\xad": ""}


_NAMING_KEYS = frozenset(
    {
        *("abstract", "alias", "aliases", "author", "authors", "description", "excerpt", "lead"),
        *("subtitle", "summary", "teaser"),
    }
)
"""Keys whose value is always treated as prose."""

_TECHNICAL_KEYS = word_set(
    """
    banner class classes color created createdat created_at cssclass cssclasses date date_created
    date_modified expirydate guid icon id image img lang last_modified lastmod last_reviewed lastupdated
    layout locale modified ms.date nav_order order path permalink pid position publishdate published
    published_at pubdate publish redirect_from redirect_to revision sidebar sidebar_label sidebar_position
    slug template theme thumbnail time timestamp toc uid updated updated_at url uuid version weight width
    """
)
"""Keys whose value is meant for programs."""

_MIN_DIGITS = 3  # a rating or a level has fewer, a phone number or a contract number has more

_NO_WORDS = word_set("true false yes no on off null none")


def _prose_of(block: str, has_title: bool) -> Iterator[str]:
    """Yield the lines of front matter. Lines that aren't meant for readers become blank."""
    segments = list[list[str]]()
    for line in block.split("\n")[:-1]:
        if segments and (not line[:1].strip() or line[0] in "-#]})"):
            segments[-1].append(line)
        else:
            segments.append([line])
    for segment in segments:
        key_text, *value = _ASSIGNMENT.split(segment[0], maxsplit=1)
        key = key_text.strip(" \t\"'").lower()
        is_used = key in _TAG_KEYS or (key == "title" and has_title)
        is_prose = key in _NAMING_KEYS or _is_prose(key_text) or _is_value(key, [*value, *segment[1:]])
        for line in segment:
            yield line if is_prose and not is_used and not line.lstrip().startswith("#") else ""


def _is_value(key: str, lines: Sequence[str]) -> bool:
    """Return whether people may search for the value of this key."""
    text = " ".join(lines)
    words = (word.strip(".,;:!?()[]{}\"'’“”|>-*&") for word in text.split())
    has_word = any(sum(map(str.isalpha, word)) > 1 and word.lower() not in _NO_WORDS for word in words)
    # except YAML's anchors and aliases: &a1, *a1
    numbers = (word for word in text.split() if not word.lstrip("[{").startswith(("&", "*")))
    has_word |= sum(sum(map(str.isdecimal, number)) for number in numbers) >= _MIN_DIGITS
    return _is_prose(text) or (has_word and key not in _TECHNICAL_KEYS)


def _is_prose(text: str) -> bool:
    """Return whether the value contains two adjacent words, or words in a script without spaces."""
    words = [word.strip(".,;:!?()[]\"'’“”") for word in text.split()]
    are_words = [len(word) > 1 and word.isalpha() for word in words]
    return any(map(operator.and_, are_words, are_words[1:])) or _CJK_WORD.search(text) is not None


def _yaml(block: str) -> object:
    import yaml  # imported here: files without front matter don't need it

    class Loader(yaml.SafeLoader):
        """A YAML loader that doesn't resolve merge keys (`<<`) but raises YAMLError for them."""

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            """Merge nothing."""

    try:
        return yaml.load(block, Loader)  # noqa: S506 # it is a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _words(value: object) -> Iterable[str]:
    """Yield the tags of a value, which may be a list, "a, b", or a single word."""
    if isinstance(value, list):
        return [word for item in value if (word := _scalar(item))]
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    return [word] if (word := _scalar(value)) else []


def _scalar(value: object) -> str | None:
    if value is None or isinstance(value, (dict, list, set, bytes)):
        return None
    return " ".join(str(value)[:_LONGEST].split())[:MAX_TITLE_LENGTH] or None


_HEAD = 16 * 1024
_UNDERLINE = r"(?P<mark>[=\-`:'\"~^_*+#<>.])(?P=mark){2,}[ \t]*$"
# The text after a mark begins with a letter, extends to the end of the line, and is trimmed afterwards: an
# expression that matched trailing blanks would try all of them at each step.
_PATTERNS = {
    Flavour.MARKDOWN: re.compile(r"^#{1,6}[ \t]+(?P<title>\S.*)|^(?P<under>\S.*)\n=+[ \t]*$", re.MULTILINE),
    Flavour.RST: re.compile(rf"^(?P<title>\S.*)\n{_UNDERLINE}", re.MULTILINE),
    Flavour.ASCIIDOC: re.compile(r"^={1,6}[ \t]+(?P<title>\S.*)", re.MULTILINE),
    Flavour.ORG: re.compile(r"^(?:#\+title:|\*+)[ \t]+(?P<title>\S.*)", re.MULTILINE | re.IGNORECASE),
    Flavour.TEX: re.compile(
        r"\\(?:title|chapter|section)\*?(?:\[[^\]\n]{0,200}\])?\{(?P<title>.{1,500})", re.DOTALL
    ),
}
_FENCED = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)


def first_heading(text: str, flavour: Flavour) -> str | None:
    """Return the first heading of `text`, or None if it has none or its format doesn't have headings."""
    pattern, head = _PATTERNS.get(flavour), text[:_HEAD]
    if flavour is Flavour.MARKDOWN:
        head = _FENCED.sub("", head)  # a shell script's comment isn't a heading
    match = pattern and pattern.search(head)
    if not match:
        return None
    title = plain_title(match["title"] or match.groupdict().get("under") or "", flavour)
    return " ".join(title.split())[:MAX_TITLE_LENGTH] or None


_TICKS = re.compile("`{3,}")
_NO_TITLE = re.compile(
    r"(?:untitled|unbenannt|sans titre|document\d*|(?:powerpoint[- ])?pr[eäé]senta\w+|slide \d+|sheet\d+"
    r"|\(anonymous\)|无标题|演示文稿\d*)?$",
    re.IGNORECASE,
)
_BLANK_LINES = re.compile(r"\n[ \t]*\n(?:[ \t]*\n)+")
_NO_CHARACTER = re.compile("[\ufeff\ufffe\uffff\ud800-\udfff]")


def pipe_table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first row is the header, with short rows padded, or "" if there are no rows."""
    width = max((len(row) for row in rows), default=0)
    if not width:
        return ""
    cells = ([" ".join(cell.split()).replace("|", r"\|") for cell in row] for row in rows)
    filled = [row + [""] * (width - len(row)) for row in cells]
    lines = ["| " + " | ".join(row) + " |" for row in filled]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])


_SMALLEST, _LARGEST = 1e-12, 1e21  # otherwise with an exponent


def readable_number(value: float) -> str:
    """Format a number from an office document with 15 significant digits, as office programs display it."""
    digits = Decimal(f"{value:.15g}")
    return f"{digits:f}" if _SMALLEST < abs(value) < _LARGEST else f"{digits:g}"


def style_of(name: str) -> tuple[int, bool]:
    """Return the heading level of the Word style with this name (0: no heading), and whether it is used in
    tables of contents.
    """
    name = one_line(name).lower()
    heading = _HEADING_STYLE.match(name)
    return int(heading[1] or 1) if heading else 0, _CONTENTS_STYLE.match(name) is not None


_HEADING_STYLE = re.compile("(?:title|heading ?([1-9]))$")
_CONTENTS_STYLE = re.compile("toc ?[1-9]$")

PAGE_NUMBERS = ("PAGE", "NUMPAGES", "SECTIONPAGES")
"""Word fields that show a page number or a page count, which nobody searches for."""


class Blocks:
    """Blocks of Markdown, in order: headings, paragraphs, list items and tables."""

    def __init__(self) -> None:
        self._blocks: list[tuple[str, str]] = []  # the separator from the block above, and the text
        self._is_item = False
        self._has_table = False

    def __bool__(self) -> bool:
        return bool(self._blocks)

    @property
    def text(self) -> str:
        """Return the Markdown."""
        return "".join(part for block in self._blocks for part in block).lstrip("\n")

    def add(self, block: str) -> None:
        """Add a heading, a paragraph or a fence, unless it is empty."""
        if block:
            self._blocks.append(("\n\n", block))
            self._is_item = False

    def add_paragraph(self, text: str) -> None:
        """Add the lines of a paragraph as they are, even if they look like Markdown."""
        self.add("\n".join(escaped(line) for line in map(one_line, text.split("\n")) if line))

    def add_item(self, level: int, mark: str, text: str) -> None:
        """Add a list item below the previous item."""
        if text:
            item = f"{'  ' * min(level, 8)}{mark} {text}"
            self._blocks.append(("\n" if self._is_item else "\n\n", item))
            self._is_item = True

    def extend(self, other: Blocks) -> None:
        """Add blocks that another reader produced."""
        if other:
            (_, first), *rest = other._blocks
            self._blocks += [("\n\n", first), *rest]
            self._is_item, self._has_table = other._is_item, self._has_table or other._has_table

    def add_table(self, rows: Sequence[Sequence[Blocks]]) -> None:
        """Add a pipe table, or only the cells in order if the table is used just for layout."""
        rows = [row for row in rows if any(row)]
        cells = [cell for row in rows for cell in row if cell]
        if max(map(len, rows), default=0) < 2 or any(cell._lays_out for cell in cells):
            for cell in cells:
                self.extend(cell)
        else:
            widest = range(max(map(len, rows)))
            used = [column for column in widest if any(row[column] for row in rows if column < len(row))]
            texts = ([row[column]._cell if column < len(row) else "" for column in used] for row in rows)
            self.add(pipe_table(list(texts)))
        self._has_table = True

    @property
    def _cell(self) -> str:
        """Return the text for a table cell. In a cell, characters at the start of a line don't have to be
        escaped.
        """
        return "\n".join(unescaped(line) for _, text in self._blocks for line in text.split("\n"))

    @property
    def _lays_out(self) -> bool:
        """Return whether a cell with these blocks contains more than a single value."""
        texts = [text for _, text in self._blocks]
        return (
            self._has_table
            or sum(map(len, texts)) > _MAX_CELL_LENGTH
            or any(text.startswith(("#", "```")) for text in texts)
        )


_MAX_CELL_LENGTH = 1500
"""Maximum length of a table cell in characters."""


def one_line(text: str) -> str:
    """Return the words of `text` on one line, separated by single spaces."""
    return " ".join(text.split())


def distinct_texts(texts: Iterable[str]) -> list[str]:
    """Return the texts, such as page headers, that contain letters. Each text is returned only once."""
    return [text for text in dict.fromkeys(texts) if any(map(str.isalpha, text))]


def is_note_mark(before: str, raised: str, *, is_link: bool = False) -> bool:
    """Return whether the `raised` characters refer to a note about the word `before` them.

    They may instead be part of a word or number, such as m² or 10⁵.
    """
    mark = raised.strip()
    if not mark or len(mark) > _MAX_NOTE_MARK_LENGTH:
        return False
    if is_link:
        return mark.isalnum() or set(mark) <= _NOTE_SIGNS
    return len(before) > 3 and before[-4:].isalpha() and set(mark) <= _NOTE_SIGNS


_MAX_NOTE_MARK_LENGTH = 8
_NOTE_SIGNS = frozenset("0123456789*†‡§,;–- ")


def note(kind: str, text: str, author: str = "") -> str:
    """Return a note that belongs to the text, such as a comment, labeled with its kind, or "" if the note is
    empty.
    """
    return f"**{kind}{f' by {author}' if author else ''}:** {text}" if text else ""


def linked(text: str, address: str) -> str:
    """Return the `text` of a link, with the address if it is absolute, because an address may be the answer
    to a question.

    An address within the page or site is just noise.
    """
    text, address = one_line(text), address.strip()
    return f"[{text}]({address})" if text and is_absolute(address) and address not in text else text


def is_absolute(address: str) -> bool:
    """Return whether a URL points outside the site and is short enough to show."""
    return address.startswith(("http://", "https://", "mailto:")) and len(address) < _MAX_ADDRESS_LENGTH


_MAX_ADDRESS_LENGTH = 300


def split_keywords(text: str | None) -> tuple[str, ...]:
    """Return the keywords in a document's properties, each only once."""
    return tuple(dict.fromkeys(filter(None, map(one_line, _KEYWORD_END.split(text or "")))))


_KEYWORD_END = re.compile("[,;，；、\n]")


def is_description(text: str) -> bool:
    """Return whether a picture's description was written for people. Programs often put a file name there."""
    return " " in text.strip() and not {"/", "\\"} & set(text)


_STRUCTURE = re.compile(r"#{1,6}[ \t]|```|~~~|\|")  # Markdown would not read it as a paragraph


def escaped(text: str) -> str:
    """Return a line, escaped so that Markdown finds no other structure in it."""
    return f"\\{text}" if _STRUCTURE.match(text) else text


def escaped_lines(text: str) -> str:
    """Escape the lines of plain text that Markdown would read as structure."""
    return "\n".join(map(escaped, text.split("\n")))


def unescaped(text: str) -> str:
    """Undo `escaped` for a line, to show the line or to put it into a table."""
    return text[1:] if text.startswith("\\") and _STRUCTURE.match(text, 1) else text


def fenced(code: str, language: str = "") -> str:
    """Return a code block whose fence is longer than any fence in the code."""
    longest = max(map(len, _TICKS.findall(code)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{code.rstrip()}\n{fence}"


def document_title(stated: str | None, text: str) -> str | None:
    """Return the document's own title or, if that was filled in by a program, the first heading."""
    title = " ".join((stated or "").split()).removeprefix("Microsoft Word - ")
    if not _NO_TITLE.match(title):
        return title
    heading = first_heading(text, Flavour.MARKDOWN)
    return None if heading is None or _NO_TITLE.match(heading) else heading


def deepened(text: str, levels: int) -> str:
    """Return Markdown with its headings moved down by `levels`, so that they fit below a heading of that
    level.
    """
    parts, end = list[str](), 0
    for block in blocks(text, Flavour.MARKDOWN):
        if block.is_heading:
            parts += [text[end : block.start], f"{'#' * min(block.level + levels, 6)} {block.title}"]
            end = block.end
    return "".join([*parts, text[end:]])


def inner_text(name: str, content: bytes, level: int = 0) -> str:
    """Return the Markdown of a file inside another one, with its headings below `level`.

    Return "" if kbsync can't read the file's format. Raises any error of the format's reader.
    """
    extension = extension_of(name)
    if extension in DOCUMENTS:
        parsed = load_reader(extension)(content)
    elif extension in EXTENSIONS:
        parsed = parse_text(name, content)
    else:
        return ""
    match parsed.flavour:
        case Flavour.MARKDOWN:
            return deepened(parsed.text, level)
        case Flavour.PLAIN:
            return escaped_lines(parsed.text)
        case _:
            return fenced(parsed.text)


def tidied(text: str) -> str:
    """Return the text stripped, with `\\n` line endings, and without control characters or consecutive blank
    lines.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _NO_CHARACTER.sub("", separate_controls(text))
    return _BLANK_LINES.sub("\n\n", text).strip()
