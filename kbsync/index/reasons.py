"""Explains the components of a hit's score, and shows words in their written form.

This module does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from kbsync.contract.searching import MatchedWord, Reasons
from kbsync.index.codes import code_test, joined_in, joined_phrase, other_spellings
from kbsync.index.spelling import Unknown, slips_between
from kbsync.index.store import CandidateChunk, MatchedTerms, StoredPassage
from kbsync.index.weights import TRANSLATED, weight_of_size
from kbsync.index.words import (
    HYPHEN_MARK,
    ComparableText,
    Term,
    characters_of,
    comparable,
    is_unspaced,
    naming_text,
    runs_in,
    written_terms,
)


def reasons_for(
    candidate: CandidateChunk,
    passage: StoredPassage,
    question: str,
    unknown: Sequence[Unknown],
    ranked: float | None,
) -> Reasons:
    """Return the components of a candidate's score. The candidate must have been fetched with an explanation.

    `question`: the readable text of the question whose words found the candidate. `unknown`: the words that
    no document contains. `ranked`: see `Reasons`.
    """
    matched = candidate.matched() if candidate.matched is not None else MatchedTerms({}, {}, 0.0)
    weight = (TRANSLATED if candidate.is_translated else 1.0) / (matched.total or 1.0)
    text = "\n".join([*passage.headings, passage.text])
    name = naming_text(passage.title, (), passage.path)
    codes, words = dict(candidate.codes), list[MatchedWord]()
    for word in _matched_words(matched.text, weight, question, unknown, text):
        # A date has a form that the index knows, and counts as a code.
        words.append(replace(word, points=word.points + codes.pop(word.word.casefold(), 0.0)))
    in_text, in_name = list[MatchedWord](), list[MatchedWord]()
    for code, points in codes.items():
        (in_text if code_test(code)(text) else in_name).append(MatchedWord(code, points, ""))
    return Reasons(
        in_text=(*in_text, *words),
        in_name=(*in_name, *_matched_words(matched.name, weight, question, unknown, name)),
        words=candidate.words,
        meaning=max(0.0, candidate.meaning),
        cosine=candidate.meaning or None,
        score=candidate.score,
        together=candidate.together,
        further=candidate.further,
        is_translated=candidate.is_translated,
        is_named=candidate.is_named,
        size=candidate.size,
        size_weight=weight_of_size(candidate.size),
        ranked=ranked,
    )


def _matched_words(
    points: Mapping[Term, float], weight: float, question: str, unknown: Sequence[Unknown], text: str
) -> tuple[MatchedWord, ...]:
    """Return the words of these terms with their points, multiplied by `weight`.

    The words with the most points come first.
    """
    if not points:
        return ()
    spaced = {term: number for term, number in points.items() if not is_unspaced(term.stem)}
    unspaced = {term.stem: number for term, number in points.items() if term not in spaced}
    words = [*_spaced_words(spaced, question, unknown, text), *_unspaced_words(unspaced, question, text)]
    weighed = (replace(word, points=weight * word.points) for word in words)
    return tuple(sorted(weighed, key=lambda word: -word.points))


def _spaced_words(
    points: Mapping[Term, float], question: str, unknown: Sequence[Unknown], text: str
) -> Iterable[MatchedWord]:
    by_word = dict[str, MatchedWord]()
    plain = comparable(question)
    spellings = (*joined_in(plain), *other_spellings(plain))
    typed = {spelling.lower(): plain[start:end] for start, end, spelling in spellings}
    typed |= {term.surface: written for term, written in written_terms(question)}
    guessed = {term.stem: term for term in reversed(unknown) if term.stem}
    words = list(written_terms(text))
    for term, number in points.items():
        surface, stem = (form.removeprefix(HYPHEN_MARK) for form in (term.surface, term.stem))
        guess = guessed.get(term.stem) if term.is_guess or term.goes_on else None
        prefix, surfaces = surface if term.goes_on else term.prefix, dict[str, str]()
        for word, as_written in words:
            if stem in (word.stem, word.surface) or (prefix and word.surface.startswith(prefix)):
                surfaces.setdefault(word.surface, as_written)
        sought, usual = (guess.word, guess.written) if guess else (surface, "")
        written = joined_phrase(text, surface) if surface in typed and " " in surface else ""
        if sought not in surfaces and not written:
            nearest = min(surfaces, key=partial(slips_between, sought), default="")
            written = surfaces.get(nearest, usual)
        typed_word = typed.get(sought, sought)
        if sought in surfaces and sought.isdecimal() and typed_word != surfaces[sought]:
            written = surfaces[sought]  # the date, or another of the same month
        # The last word of an unfinished question counts as a whole word, and as the beginning of one.
        number += by_word[typed_word].points if typed_word in by_word else 0.0
        by_word[typed_word] = MatchedWord(typed_word, number, written)
    return by_word.values()


def _unspaced_words(points: Mapping[str, float], question: str, text: str) -> Iterator[MatchedWord]:
    """Yield the parts of the question that have points for their characters or pairs of characters.

    A pair gets points in addition to those of its two characters, so all of them form one part.
    """
    if not points:
        return
    remaining = dict(points)
    question_folds, folds = ComparableText(question), ComparableText(text)
    runs = [(run.start(), run[0]) for run in runs_in(question_folds.plain)]
    runs += ((start, form) for start, _, form in joined_in(question_folds.plain) if is_unspaced(form))
    for first, run in runs:
        characters, start = characters_of(run), 0
        while start < len(characters):
            end = start + 1
            while "".join(characters[end - 1 : end + 1]) in points and end < len(characters):
                end += 1
            matching = characters[start:end]
            part = "".join(matching)
            grams = {
                "".join(matching[offset : offset + length])
                for offset in range(end - start)
                for length in (1, 2)
            }
            if matched := [gram for gram in grams if gram in points]:
                typed = question_folds.written(first, first + len(part))
                offset = folds.plain.find(part)
                written = folds.written(offset, offset + len(part)) if offset >= 0 else ""
                number = sum(remaining.pop(gram, 0.0) for gram in matched)
                if number:
                    yield MatchedWord(typed, number, "" if written == typed else written)
            start, first = end, first + len(part)
