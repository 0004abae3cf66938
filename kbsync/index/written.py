"""Finds the words of the index in a text as people wrote it. Pure."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

from kbsync.dataclass import dataclass
from kbsync.index.characters import legible
from kbsync.index.dates import dates_in
from kbsync.index.words import (
    SQLITE_TOKENISER,
    Term,
    Tokeniser,
    characters_of,
    comparable,
    forms_in,
    runs_in,
    unspaced_runs,
)


class ComparableText:
    """A text in comparable form (`plain`, in which `㎡` is `m2`), with the position of each character in the
    original text.
    """

    def __init__(self, text: str) -> None:
        """`text`: cleaned by `legible`, so that it can be converted one character at a time."""
        self._text = text
        folds = list(text) if text.isascii() else list(map(_fold, text))
        self.plain = "".join(folds)
        starts = range(len(text)) if text.isascii() else [at for at, fold in enumerate(folds) for _ in fold]
        self._starts = [*starts, len(text)]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return where a part of `plain` starts and ends in the original text, including any combining marks
        after it.
        """
        return self._starts[start], max(self._starts[end], self._starts[end - 1] + 1)

    def written(self, start: int, end: int) -> str:
        """Return the original text of a part of `plain`."""
        return self._text[slice(*self.span(start, end))]


_fold = functools.lru_cache(4096)(comparable)


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its start and end in a text in comparable form. `is_form`: it is another form of the word
    at that position.
    """

    start: int
    end: int
    surface: str
    stem: str
    is_form: bool = False


def words_in(plain: str) -> Iterator[Word]:
    """Yield the words of a text in comparable form as the index has them, except in scripts without
    spaces."""
    tokenisers = Tokeniser(SQLITE_TOKENISER[1:]), Tokeniser()

    def words_of(text: str) -> Iterator[Word]:
        encoded = text.encode()
        surfaces, stems = (tokeniser.spans(text) for tokeniser in tokenisers)
        character = byte = 0  # the tokenisers count bytes
        for (first, last, surface), (_, _, stem) in zip(surfaces, stems, strict=True):
            start = character + len(encoded[byte:first].decode())
            character, byte = start + len(encoded[first:last].decode()), last
            yield Word(start, character, surface, stem)

    blanked = plain if plain.isascii() else unspaced_runs().sub(lambda run: " " * len(run[0]), plain)
    yield from words_of(blanked)
    for start, end, form in forms_in(plain):
        for word in words_of(form):
            yield Word(start, end, word.surface, word.stem, is_form=True)
    for start, end, form in dates_in(plain):
        yield Word(start, end, form, form)  # shown as written, because nobody writes the form


def written_terms(text: str) -> Iterator[tuple[Term, str]]:
    """Yield the words in `text`, each also as written there."""
    text = legible(text)
    folds = ComparableText(text)
    for word in words_in(folds.plain):
        written = word.surface if word.is_form else folds.written(word.start, word.end)
        yield Term(word.surface, word.stem), written
    for run in runs_in(folds.plain):
        start = run.start()
        for character, following in itertools.zip_longest(
            characters := characters_of(run[0]), characters[1:]
        ):
            for gram in (character, character + (following or "")):
                yield Term(gram, gram), folds.written(start, start + len(gram))
            start += len(character)
