"""The part of a passage that shows why it was found, with the matching words marked. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kbsync.index.words import CJK, STOP_WORDS, last_word, readable

_WORD = re.compile(rf"[{CJK}]+|[^\W_{CJK}]+")
_CJK = re.compile(f"[{CJK}]")
_ONES = re.compile("1+")
_ENDINGS = (
    "ations",
    "ation",
    "ings",
    "ing",
    "edly",
    "ies",
    "ied",
    "ers",
    "ed",
    "es",
    "er",
    "ly",
    "y",
    "s",
    "e",
)
_LEAST_STEM = 3


@dataclass(frozen=True, slots=True)
class Snippet:
    """A window of a text on one line. `spans` are the (start, end) of matching words in `text`.

    `starts_late` and `ends_early`: something of the passage comes before or after the window.
    """

    text: str
    spans: tuple[tuple[int, int], ...] = ()
    starts_late: bool = False
    ends_early: bool = False


def snippet(text: str, query: str, width: int, *, unfinished: bool = False) -> Snippet:
    """The window of at most `width` characters with the most, and most different, words of `query`.

    `unfinished`: words that begin with the last one of `query` count too.
    """
    line = " ".join(text.split())
    matches = _matches(line, _wanted(query), last_word(query).casefold() if unfinished else "")
    start, end = _window(line, matches, width)
    spans = tuple(
        (left - start, right - start) for left, right, _ in matches if start <= left and right <= end
    )
    return Snippet(line[start:end], spans, start > 0, end < len(line))


def _wanted(query: str) -> frozenset[str]:
    """What is looked for: stems of words, and CJK pairs (single characters where a run is one)."""
    wanted = set[str]()
    for found in _WORD.finditer(readable(query)):
        wanted.update(_parts(found[0]))
    return frozenset(wanted - STOP_WORDS or wanted)


def _parts(word: str) -> Sequence[str]:
    """A word's stem; the pairs of a CJK run."""
    if not _is_cjk(word):
        return (word.casefold() if word.casefold() in STOP_WORDS else _stem(word),)
    return [word[at : at + 2] for at in range(len(word) - 1)] or (word,)


def _is_cjk(word: str) -> bool:
    """Whether a match of `_WORD` is a CJK run."""
    return _CJK.match(word) is not None


def _stem(word: str) -> str:
    """`word` folded and without a common English ending; rough, as it only marks words."""
    folded = word.casefold()
    for ending in _ENDINGS:
        if folded.endswith(ending) and len(folded) - len(ending) >= _LEAST_STEM:
            stem = folded.removesuffix(ending)
            return stem[:-1] if stem[-1] == stem[-2] else stem
    return folded


def _matches(line: str, wanted: frozenset[str], beginning: str) -> list[tuple[int, int, str]]:
    """Where the wanted words, and those with the beginning, are in `line`.

    (start, end, what matched), in order, never overlapping.
    """
    found = list[tuple[int, int, str]]()
    for word in _WORD.finditer(line):
        if not _is_cjk(word[0]):
            stem = _parts(word[0])[0]
            if stem in wanted or (beginning and word[0].casefold().startswith(beginning)):
                found.append((word.start(), word.end(), stem))
        else:
            found.extend(_cjk_matches(word[0], word.start(), wanted))
    return found


def _cjk_matches(run: str, offset: int, wanted: frozenset[str]) -> list[tuple[int, int, str]]:
    """Stretches of a CJK run that are made of wanted pairs and characters."""
    hit = [False] * len(run)
    for at in range(len(run)):
        for length in (1, 2):
            if run[at : at + length] in wanted:
                hit[at : at + length] = [True] * len(run[at : at + length])
    stretches = list[tuple[int, int, str]]()
    for found in _ONES.finditer("".join("1" if each else "0" for each in hit)):
        start, end = found.span()
        stretches.append((offset + start, offset + end, run[start:end]))
    return stretches


def _window(line: str, matches: Sequence[tuple[int, int, str]], width: int) -> tuple[int, int]:
    """The stretch of `line` to show, cut at spaces where there are any near."""
    if len(line) <= width or width <= 0:
        return 0, min(len(line), max(0, width))
    left, right = _best(matches, width)
    spare = max(0, width - (right - left))
    start = max(0, min(left - spare // 3, len(line) - width))
    return _at_words(line, start, min(len(line), start + width), left)


def _best(matches: Sequence[tuple[int, int, str]], width: int) -> tuple[int, int]:
    """The first and last character of the matches that fit together best."""
    best, place, last = (0, 0), (0, 0), 0
    for first, (left, _, _) in enumerate(matches):
        last = max(last, first)
        while last + 1 < len(matches) and matches[last + 1][1] - left <= width:
            last += 1
        inside = matches[first : last + 1]
        worth = (len({what for _, _, what in inside}), len(inside))
        if worth > best:
            best, place = worth, (left, min(matches[last][1], left + width))
    return place


def _at_words(line: str, start: int, end: int, left: int) -> tuple[int, int]:
    """The window without half words at its edges."""
    if start and (space := line.find(" ", start - 1, min(left, start + 20))) >= 0:
        start = space + 1
    if end < len(line) and (space := line.rfind(" ", max(start, end - 20), end + 1)) > start:
        end = space
    return start, end
