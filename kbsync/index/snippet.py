"""Finds the part of a passage that best shows why the passage matches, and marks matching words in it. This
module does no I/O.

The result is readable text.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence, Set

from kbsync.core.text import extension_of
from kbsync.dataclass import dataclass
from kbsync.index.characters import legible
from kbsync.index.chunk import Shape, blocks
from kbsync.index.codes import without_separators
from kbsync.index.document import Flavour
from kbsync.index.read.formats import flavour_of, needs_parser
from kbsync.index.spelling import variants_in
from kbsync.index.words import (
    ComparableText,
    characters_of,
    comparable,
    is_stop_word,
    is_unspaced,
    readable,
    runs_in,
    stemmed,
    stop_words_in,
    terms_of,
    without_question_words,
    words_in,
)

_ONES = re.compile("1+")


@dataclass(frozen=True, slots=True)
class Snippet:
    """A part of a text, on one line.

    `spans` are the (start, end) of matching words in `text`. `starts_late` and `ends_early`: the passage has
    text before or after this part.
    """

    text: str
    spans: tuple[tuple[int, int], ...] = ()
    starts_late: bool = False
    ends_early: bool = False

    @property
    def parts(self) -> list[str]:
        """Return `text` in alternating parts: text without matching words (possibly empty), then a matching
        word.
        """
        edges = [0, *itertools.chain.from_iterable(self.spans), len(self.text)]
        return [self.text[start:end] for start, end in itertools.pairwise(edges)]


_MASK = "\udfff"
"""Placeholder for code while other markup is removed: a lone surrogate, which no text contains."""
_LINK = re.compile(rf'!?\[([^\[\]\n]{{0,300}})\]\([^()\s{_MASK}]{{0,2000}}(?: "[^"\n{_MASK}]{{0,200}}")?\)')
_EMPHASIS = re.compile(r"(?<![\w*])([*_]{1,3})(?=[^\s*_])([^*_\n]{1,300})(?<=\S)\1(?![\w*])")
_LABEL = re.compile(r"^\*\*([^*\n]{1,300}:)\*\*", re.MULTILINE)
"""Matches a label that the format readers write before a comment or note."""
_TICKS = re.compile("`+")
_OBSIDIAN = re.compile(
    r"^[ \t]{0,3}>[> \t]{0,100}(?:\[![\w-]{1,30}\][+-]?[ \t]?)?"
    r"|(?:^|[ \t])\^[A-Za-z0-9-]{1,100}[ \t]*$"
    r"|^%%$"
    r"|(?<![\w%])%%(?!%)([^%]{1,1000})%%(?!%)"
    r"|(?<![\w=])==(?=[^\s=])([^=\n]{1,300})(?<=\S)==(?![\w=])",
    re.MULTILINE,
)
"""Matches quote marks, and the syntax that Obsidian adds to Markdown: the kind of a callout, the id of a
block, a comment (`%%…%%`) and highlighted text (`==…==`).
"""
_HTML = re.compile(
    r"<!--[ \t]?|[ \t]?-->"
    r"|<img\b(?=[^<>\udfff]{0,2000}>)(?:[^<>\udfff]{0,1000}?\balt=\"(?P<alt>[^\"<>\udfff]{0,300})\")?[^<>\udfff]{0,2000}>"
    r"|</?(?:a|abbr|b|code|del|em|font|i|ins|kbd|mark|s|small|span|strong|sub|sup|u"
    r"|(?P<block>br|center|dd|details|div|dl|dt|h[1-6]|hr|li|ol|p|picture|pre|source|summary|table|tbody|td"
    r"|th|thead|tr|ul))(?:[ \t\n/][^<>\udfff]{0,2000})?>"
    r"|<(?P<address>(?:https?://|mailto:)[^<>\s\udfff]{1,300})>",
    re.IGNORECASE,
)
"""Matches HTML in Markdown: tags, addresses, pictures with a description, and the delimiters of a comment. A
comment's text stays, because it may be why the passage was found."""
_FIELD = re.compile(
    r"^([ \t]{0,20}[\w.-]{1,60}[ \t]{0,3}[:=][ \t]{0,3})(?:\[([^\n]*)\]|\{([^\n]*)\}|[>|][+-]?)$",
    re.MULTILINE,
)
"""Matches a list, a mapping, and the mark before a text in front matter (`aliases: [a, b]`)."""
_WITHOUT_MARKUP = (Flavour.PLAIN, Flavour.CODE, Flavour.ROWS)
_MARKDOWN_INSIDE = ("ipynb", "canvas")
_AFTER_HEADING = " ·"


def without_markup(text: str, path: str, above: Sequence[str]) -> str:
    """Return a passage of the document at `path` as people read it.

    This removes the markup of headings, fences, tables and links. If the document was written in Markdown,
    the markup of code and emphasis is also removed. `above`: the headings shown above the passage, which
    are omitted from it.
    """
    flavour = flavour_of(path)
    if flavour in _WITHOUT_MARKUP:
        return text
    text = text.replace(_MASK, "\ufffd")
    is_typed = not needs_parser(path) or extension_of(path) in _MARKDOWN_INSIDE
    parts, titles = list[str](), list[str]()
    for block in blocks(text, flavour):
        lines = text[block.start : block.end].split("\n")
        if block.is_heading:
            titles.append(block.title)
            lines = [] if block.title in above else [block.title + _AFTER_HEADING]
        elif block.shape is Shape.FENCE:
            last = lines[-1].strip().lower()
            is_end = last.startswith(("#+end", "\\end{")) or not any(map(str.isalnum, last))
            lines = lines[1:-1] if is_end else lines[1:]
        elif block.shape is Shape.TABLE:
            rows = (line.replace("\\|", _MASK) for line in lines if set(line) - set("|-=:+ \t"))
            lines = [row.strip(" \t|").replace(_MASK, "|") for row in rows]
        elif not is_typed:
            from kbsync.index.read.text import unescaped  # imported here: a search of notes doesn't need it

            lines = list(map(unescaped, lines))
        if flavour is Flavour.MARKDOWN and block.shape is not Shape.FENCE and lines:
            body = "\n".join(lines)
            lines = [_without_inline(body) if is_typed else _LABEL.sub(r"\1", _LINK.sub(r"\1", body))]
        parts += lines
    return "\n".join(parts).removesuffix(_AFTER_HEADING) or " ".join(titles)


def plain_heading(heading: str, path: str) -> str:
    """Return a heading of the document at `path`.

    If the document was written in Markdown, the markup of links, emphasis and code is removed.
    """
    is_typed = not needs_parser(path) or extension_of(path) in _MARKDOWN_INSIDE
    if flavour_of(path) is not Flavour.MARKDOWN or not is_typed:
        return heading
    return " ".join(_without_inline(heading.replace(_MASK, "\ufffd")).split()) or heading


def _without_inline(text: str) -> str:
    """Return Markdown without the markup of links, emphasis and code. Code itself stays as it is."""
    ticks = list(_TICKS.finditer(text))
    closing, nearest = dict[int, re.Match[str]](), dict[int, re.Match[str]]()  # by start, and by length
    for run in reversed(ticks):
        if end := nearest.get(len(run[0])):
            closing[run.start()] = end
        nearest[len(run[0])] = run
    parts, codes, start = list[str](), list[str](), 0
    for run in ticks:
        if run.start() >= start and (end := closing.get(run.start())):
            code = text[run.end() : end.start()]
            codes.append(code[1:-1] if code[0] == code[-1] == " " and code.strip() else code)
            parts += [text[start : run.start()], _MASK]
            start = end.end()
    masked = "".join([*parts, text[start:]]).replace("`", "")
    if "<" in masked:
        masked = _HTML.sub(lambda tag: tag["alt"] or tag["address"] or (" " if tag["block"] else ""), masked)
    masked = _FIELD.sub(r"\1\2\3", _OBSIDIAN.sub(r"\1\2", _LINK.sub(r"\1", masked)))
    prose = _EMPHASIS.sub(r"\2", masked).split(_MASK)
    return "".join(part for pair in zip(prose, [*codes, ""], strict=True) for part in pair)


def snippet(text: str, query: str, width: int, *, unfinished: bool = False) -> Snippet:
    """Return the part of at most `width` characters with the most matches of words in `query`.

    A part with more distinct words is preferred. Words match in the same way as in the index.
    `unfinished`: whether words that begin with the last word of `query` also match.
    """
    line = " ".join(legible(text).split())
    matches = _matches(line, _terms(query), _prefixes(query, unfinished=unfinished))
    start, end = _window(line, matches, width)
    spans = tuple(
        (first - start, last - start) for first, last, _ in matches if start <= first and last <= end
    )
    return Snippet(line[start:end], spans, start > 0, end < len(line))


@functools.lru_cache(16)  # a search asks for the same ones for each hit
def _terms(query: str) -> frozenset[str]:
    """Return the stems of the words in `query`, plus character bigrams for text in scripts without spaces.

    A run of only one such character is returned as is. Stop words are omitted unless there are no other
    words.
    """
    text = without_question_words(readable(query))
    words = stemmed(text)
    surfaces = {term.stem: term.surface for term in words if not is_unspaced(term.stem)}
    surfaces |= variants_in(surface for surface in surfaces.values() if not is_stop_word(surface))
    separated = without_separators(text)
    surfaces |= {stem: surface for stem, surface in separated.items() if len(stem) > 1}
    for run in runs_in(comparable(text)):
        grams = list(map("".join, itertools.pairwise(characters_of(run[0])))) or [run[0]]
        surfaces.update(zip(grams, grams, strict=True))
    stop_words = stop_words_in([term.surface for term in words], text)
    distinctive = {stem for stem, surface in surfaces.items() if surface not in stop_words}
    return frozenset(distinctive or surfaces)


@functools.lru_cache(16)
def _prefixes(query: str, *, unfinished: bool) -> tuple[str, ...]:
    """Return the prefixes of words that match, too, because they may be other inflections of a word in
    `query` or, if it is unfinished, because they begin with its last word.
    """
    terms = terms_of(query, unfinished=unfinished)
    return tuple(term.prefix or term.surface for term in terms if term.prefix or term.goes_on)


def _matches(line: str, terms: Set[str], prefixes: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """Return the words in `line` that are in `terms` or start with one of `prefixes`, as (start, end,
    match).

    The words are in order and don't overlap.
    """
    folds = ComparableText(line)
    spans = [
        (word.start, word.end, word.stem)
        for word in words_in(folds.plain)
        if word.stem in terms or word.surface.startswith(prefixes)
    ]
    for run in runs_in(folds.plain):
        characters = characters_of(run[0])
        edges = list(itertools.accumulate(map(len, characters), initial=run.start()))
        hit = [False] * len(characters)  # the characters of wanted pairs, and wanted characters
        for index in range(len(characters)):
            for length in (1, 2):
                if "".join(gram := characters[index : index + length]) in terms:
                    hit[index : index + length] = [True] * len(gram)
        for stretch in _ONES.finditer("".join("1" if is_hit else "0" for is_hit in hit)):
            start, end = map(edges.__getitem__, stretch.span())
            spans.append((start, end, folds.plain[start:end]))
    matches = list[tuple[int, int, str]]()
    for start, end, match in sorted(spans, key=lambda span: (span[0], -span[1])):
        first, last = folds.span(start, end)
        if not matches or first >= matches[-1][1]:
            matches.append((first, last, match))
    return matches


def _window(line: str, matches: Sequence[tuple[int, int, str]], width: int) -> tuple[int, int]:
    """Return the part of `line` to show, cut at nearby spaces if there are any."""
    if len(line) <= width or width <= 0:
        return 0, min(len(line), max(0, width))
    # The window with the most different matches that fit into it and, among equals, with the most matches.
    most, (left, right), last_index = (0, 0), (0, 0), 0
    for first_index, (start, _, _) in enumerate(matches):
        last_index = max(last_index, first_index)
        while last_index + 1 < len(matches) and matches[last_index + 1][1] - start <= width:
            last_index += 1
        inside = matches[first_index : last_index + 1]
        counts = (len({match for _, _, match in inside}), len(inside))
        if counts > most:
            most, (left, right) = counts, (start, min(matches[last_index][1], start + width))
    spare = max(0, width - (right - left))
    start = max(0, min(left - spare // 3, len(line) - width))
    end = min(len(line), start + width)
    # Avoid half words at its edges.
    if start and (space := line.find(" ", start - 1, min(left, start + 20))) >= 0:
        start = space + 1
    if end < len(line) and (space := line.rfind(" ", max(start, end - 20), end + 1)) > start:
        end = space
    return start, end
