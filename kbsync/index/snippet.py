"""Finds the part of a passage that best shows why it matches, as readable text, and marks matching words.
Pure.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence

from kbsync.dataclass import dataclass
from kbsync.index.characters import simplified
from kbsync.index.chunk import Shape, blocks
from kbsync.index.document import Flavour
from kbsync.index.read.formats import flavour_of
from kbsync.index.words import CJK, STOP_WORDS, is_unspaced, last_word, readable, with_forms

_ASCII_WORD = re.compile(r"[^\W_]+")
_ONES = re.compile("1+")
_ENDINGS = ("ations", "ation", "ings", "ing", "edly", "ies", "ied", "ers", "ed", "es", "er", "ly", "y", "s",
            "e")  # fmt: skip
_LEAST_STEM = 3


@dataclass(frozen=True, slots=True)
class Snippet:
    """A part of a text, on one line. `spans` are the (start, end) of matching words in `text`.

    `starts_late` and `ends_early`: the passage has text before or after the window.
    """

    text: str
    spans: tuple[tuple[int, int], ...] = ()
    starts_late: bool = False
    ends_early: bool = False


_LINK = re.compile(r'!?\[([^\[\]\n]{0,300})\]\([^()\s]{0,2000}(?: "[^"\n]{0,200}")?\)')
_EMPHASIS = re.compile(r"(?<![\w*])([*_]{1,3})(?=[^\s*_])([^*_\n]{1,300})(?<=\S)\1(?![\w*])")
_WITHOUT_MARKUP = (Flavour.PLAIN, Flavour.CODE, Flavour.ROWS)
_AFTER_HEADING = " ·"


def without_markup(text: str, path: str, above: Sequence[str]) -> str:
    """Return a passage of the document at `path` as people read it, without the markup of headings, fences
    and tables and, in Markdown, of links and emphasis.

    `above`: the headings shown above the passage, which are omitted from it.
    """
    flavour = flavour_of(path)
    if flavour in _WITHOUT_MARKUP:
        return text
    parts, titles = list[str](), list[str]()
    for block in blocks(text, flavour):
        lines = text[block.start : block.end].split("\n")
        if block.is_heading:
            titles.append(block.title)
            lines = [] if block.title in above else [block.title + _AFTER_HEADING]
        elif block.shape is Shape.FENCE:
            lines = lines[1:-1] if _ends_fence(lines[-1]) else lines[1:]
        elif block.shape is Shape.TABLE:
            lines = [line.strip(" \t|") for line in lines if set(line) - set("|-=:+ \t")]
        if flavour is Flavour.MARKDOWN and block.shape is not Shape.FENCE:
            lines = [_EMPHASIS.sub(r"\2", _LINK.sub(r"\1", line)).replace("`", "") for line in lines]
        parts += lines
    return "\n".join(parts).removesuffix(_AFTER_HEADING) or " ".join(titles)


def _ends_fence(line: str) -> bool:
    bare = line.strip().lower()
    return bare.startswith(("#+end", "\\end{")) or not any(map(str.isalnum, bare))


def snippet(text: str, query: str, width: int, *, unfinished: bool = False) -> Snippet:
    """Return the part of at most `width` characters with the most matches of words in `query`, and of as many
    different ones as possible.

    `unfinished`: words that begin with the last word of `query` also count.
    """
    line = " ".join(text.split())
    stems = set[str]()  # stems of words, and CJK pairs (a single character if a run has only one)
    for match in _words_in(with_forms(simplified(readable(query)))):
        word = match[0]
        pairs = [word[index : index + 2] for index in range(len(word) - 1)] or [word]
        stems.update(pairs if is_unspaced(word) else [_stem(word)])
    terms = stems - STOP_WORDS or stems
    matches = _matches(line, terms, last_word(query).casefold() if unfinished else "")
    start, end = _window(line, matches, width)
    spans = tuple(
        (first - start, last - start) for first, last, _ in matches if start <= first and last <= end
    )
    return Snippet(line[start:end], spans, start > 0, end < len(line))


def _words_in(text: str) -> Iterator[re.Match[str]]:
    """Yield the words of `text`, and its runs of `CJK`."""
    return (_ASCII_WORD if text.isascii() else _word()).finditer(text)


@functools.cache
def _word() -> re.Pattern[str]:
    return re.compile(rf"[{CJK}]+|[^\W_{CJK}]+")


@functools.lru_cache(4096)
def _stem(word: str) -> str:
    """Return `word` case-folded and without a common English ending; a rough stem is enough to mark words."""
    folded = word.casefold()
    if folded in STOP_WORDS:
        return folded
    for ending in _ENDINGS:
        if folded.endswith(ending) and len(folded) - len(ending) >= _LEAST_STEM:
            stem = folded.removesuffix(ending)
            return stem[:-1] if stem[-1] == stem[-2] else stem
    return folded


def _matches(line: str, terms: set[str], beginning: str) -> list[tuple[int, int, str]]:
    """Return the wanted words in `line`, and the words with the prefix, as (start, end, match), in order,
    without overlaps.
    """
    spans = list[tuple[int, int, str]]()
    for match in _words_in(simplified(line)):
        run = match[0]
        if not is_unspaced(run):
            match_stem = next((stem for stem in map(_stem, with_forms(run).split()) if stem in terms), None)
            if match_stem or (beginning and run.casefold().startswith(beginning)):
                spans.append((*match.span(), match_stem or _stem(run)))
            continue
        hit = [False] * len(run)  # the characters of wanted pairs, and wanted characters
        for index in range(len(run)):
            for length in (1, 2):
                if run[index : index + length] in terms:
                    hit[index : index + length] = [True] * len(run[index : index + length])
        for stretch in _ONES.finditer("".join("1" if is_hit else "0" for is_hit in hit)):
            start, end = stretch.span()
            spans.append((match.start() + start, match.start() + end, run[start:end]))
    return spans


def _window(line: str, matches: Sequence[tuple[int, int, str]], width: int) -> tuple[int, int]:
    """Return the part of `line` to show, cut at nearby spaces if there are any."""
    if len(line) <= width or width <= 0:
        return 0, min(len(line), max(0, width))
    left, right = _best(matches, width)
    spare = max(0, width - (right - left))
    start = max(0, min(left - spare // 3, len(line) - width))
    end = min(len(line), start + width)
    # Avoid half words at its edges.
    if start and (space := line.find(" ", start - 1, min(left, start + 20))) >= 0:
        start = space + 1
    if end < len(line) and (space := line.rfind(" ", max(start, end - 20), end + 1)) > start:
        end = space
    return start, end


def _best(matches: Sequence[tuple[int, int, str]], width: int) -> tuple[int, int]:
    """Return the positions of the first and last character of the best matches that fit into the part
    together."""
    best, window, last_index = (0, 0), (0, 0), 0
    for first_index, (left, _, _) in enumerate(matches):
        last_index = max(last_index, first_index)
        while last_index + 1 < len(matches) and matches[last_index + 1][1] - left <= width:
            last_index += 1
        inside = matches[first_index : last_index + 1]
        worth = (len({match for _, _, match in inside}), len(inside))
        if worth > best:
            best, window = worth, (left, min(matches[last_index][1], left + width))
    return window
