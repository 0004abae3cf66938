"""Explains a hit's score by its components, with words as people write them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from kbsync.contract.searching import MatchedWord, Reasons
from kbsync.index.spelling import Unknown, slips_between
from kbsync.index.store import CandidateChunk, MatchedTerms, StoredPassage
from kbsync.index.weights import TRANSLATED, weight_of_size
from kbsync.index.words import Term, cjk_runs, comparable, is_unspaced, naming_text, stemmed


def reasons_for(
    candidate: CandidateChunk,
    passage: StoredPassage,
    question: str,
    unknown: Sequence[Unknown],
    ranked: float | None,
) -> Reasons:
    """Return the components of a candidate's score; the candidate must have been fetched with an explanation.

    `question`: the readable text whose words found it. `unknown`: words that no document has. `ranked`: see
    `Reasons`.
    """
    is_translated = candidate.translated is not None
    matched = candidate.matched() if candidate.matched is not None else MatchedTerms({}, {}, 0.0)
    weight = (TRANSLATED if is_translated else 1.0) / (matched.total or 1.0)
    text = "\n".join([*passage.headings, passage.text])
    name = naming_text(passage.title, (), passage.path)
    codes = (MatchedWord(code, points, "") for code, points in candidate.codes.items())
    return Reasons(
        in_text=(*codes, *_matched_words(matched.text, weight, question, unknown, text)),
        in_name=_matched_words(matched.name, weight, question, unknown, name),
        words=candidate.words,
        meaning=max(0.0, candidate.meaning),
        cosine=candidate.meaning / (candidate.translated or 1.0) or None,
        score=candidate.score,
        is_translated=is_translated,
        is_named=candidate.is_named,
        size=candidate.size,
        size_weight=weight_of_size(candidate.size),
        ranked=ranked,
    )


def _matched_words(
    points: Mapping[Term, float], weight: float, question: str, unknown: Sequence[Unknown], text: str
) -> tuple[MatchedWord, ...]:
    """Return these terms' words with their points times `weight`, those with the most points first."""
    unspaced = {term.stem: number for term, number in points.items() if is_unspaced(term.stem)}
    words = [*_spaced_words(points, unknown, text), *_unspaced_words(unspaced, question, text)]
    weighed = (replace(word, points=weight * word.points) for word in words)
    return tuple(sorted(weighed, key=lambda word: -word.points))


def _spaced_words(
    points: Mapping[Term, float], unknown: Sequence[Unknown], text: str
) -> Iterable[MatchedWord]:
    by_word = dict[str, MatchedWord]()
    typed = {term.stem: term for term in reversed(unknown) if term.stem}
    words = stemmed(text) if points else []
    for term, number in points.items():
        if is_unspaced(term.stem):
            continue
        guess = typed.get(term.stem) if term.is_guess else None
        surfaces = [
            word.surface
            for word in words
            if word.stem == term.stem or (term.goes_on and word.surface.startswith(term.surface))
        ]
        word, usual = (guess.word, guess.written) if guess else (term.surface, "")
        written = ""
        if word not in surfaces:
            written = min(dict.fromkeys(surfaces), key=partial(slips_between, word), default=usual)
        # The last word of an unfinished question counts as a whole word, and as the beginning of one.
        number += by_word[word].points if word in by_word else 0.0
        by_word[word] = MatchedWord(word, number, written)
    return by_word.values()


def _unspaced_words(points: Mapping[str, float], question: str, text: str) -> Iterator[MatchedWord]:
    """Yield the parts of the question whose characters and pairs have points.

    A pair counts as well as its two characters, so they form one part.
    """
    remaining = dict(points)
    question_text, plain = comparable(question), comparable(text)
    for run in cjk_runs().finditer(question_text) if points else ():
        characters, start = run[0], 0
        while start < len(characters):
            end = start + 1
            while characters[end - 1 : end + 1] in points and end < len(characters):
                end += 1
            part = characters[start:end]
            grams = {part[at : at + length] for at in range(len(part)) for length in (1, 2)}
            if matched := [gram for gram in grams if gram in points]:
                typed = _original(question, question_text, run.start() + start, part)
                at = plain.find(part)
                written = _original(text, plain, at, part) if at >= 0 else ""
                number = sum(remaining.pop(gram, 0.0) for gram in matched)
                if number:
                    yield MatchedWord(typed, number, "" if written == typed else written)
            start = end


def _original(text: str, plain: str, start: int, part: str) -> str:
    """Return `part`, which begins at `start` in `plain`, as written in `text`, if `plain` and `text` have the
    same length."""
    return text[start : start + len(part)] if len(text) == len(plain) else part
