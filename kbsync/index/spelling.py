"""Finds other spellings of a question's words. This module does no I/O.

Other spellings are British and American variants, irregular plurals and, for words that no document contains,
similar words that were probably meant. Because a store can't list its words fast enough, this module
generates other spellings and looks them up. The spellings aren't stored in the index or embedded.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from kbsync.core.text import lazy_pattern
from kbsync.dataclass import dataclass
from kbsync.index.characters import VOWEL_SIGNS
from kbsync.index.codes import code_splits, splits
from kbsync.index.endings import inflections_of
from kbsync.index.words import STOP_WORDS, Term, Tokeniser, comparable, is_stop_word, is_unspaced, stemmed

SWAPPED, ONE_SLIP, TWO_SLIPS = 4, 5, 8
"""Minimum word lengths for correcting two swapped letters, any single typo, and two typos, respectively."""

_SWAPPED_APART = 6  # minimum length of a word in which the swapped letters may have another between them

MAX_WORD_LENGTH = 30
"""Maximum number of letters; longer strings aren't words, and would have too many variants to try."""

MAX_GUESSED_WORDS = 8
"""Maximum number of unknown words in a question for which to look up similar words; a pasted text may have
many."""

_LONG_STEM = 7  # minimum length of stems that mean the same if they are similar: "suspens" and "suspend"
_MAX_SPELLINGS = 2_500  # of one word to look up, with any letters of its script
FIRST_LETTERS = 4
"""Number of letters after which typos are looked for first; a store can read all words with the same first
letters.
"""

_MIN_BEGINNING = 5  # minimum length of a word that is searched for as the beginning of longer ones
_RIGHT = 3  # first letters that a word with two typos must have right

Occurring = Callable[[Iterable[str]], Mapping[str, int]]
"""Returns the stems that occur in the index, each with the number of passages or names that contain it."""

Beginning = Callable[[str, int, int], Iterable[tuple[str, int]]]
"""Takes a prefix and a range of lengths; returns the matching stems, each with the number of passages or
names that contain it.
"""

WordsWith = Callable[[str], Iterable[tuple[str, str]]]
"""Takes a stem; yields words that have it, each in the form used in the index and as written in a document.
Yields at least one word, and only those that are found quickly.
"""

FirstPhrase = Callable[[Iterable[str]], tuple[str, str]]
"""Takes phrases; returns the stems of one whose words follow each other in a document, joined by single
characters, and the phrase as written there. Returns ("", "") if there is none.
"""

_MAX_CHECKED_STEMS = 8  # of one unknown word; looking for the words with a stem reads a few texts


@dataclass(frozen=True, slots=True)
class Unknown:
    """A word in a question that no document contains, and the stem of a similar word that a document
    contains, or "".

    `stem` has several words if a document has the word in parts, such as `Node.js` for `nodejs`. `written`:
    the similar word as written in a document. `goes_on`: `stem` is the word itself, and documents contain
    longer words that begin with it, such as `written`.
    """

    word: str
    stem: str
    written: str = ""
    goes_on: bool = False

    @property
    def is_stored_whole(self) -> bool:
        """Whether documents contain the word, but stored by an older version of `words` with its ending."""
        return self.written == self.word


def find_unknown(
    terms: Sequence[Term],
    occurring: Occurring,
    beginning: Beginning,
    words_with: WordsWith,
    first_phrase: FirstPhrase,
) -> list[Unknown]:
    """Return the unknown terms, each with the most similar word that occurs. If several are equally
    similar, choose the most common one.
    """
    finished = [term for term in terms if not term.goes_on]
    unfinished = {term.stem for term in terms if term.goes_on}  # the user is still typing it
    known = occurring(term.stem for term in finished)
    lookups = (occurring, beginning, words_with, first_phrase)
    missing = [term for term in finished if term.stem not in known and term.stem not in unfinished]
    return [
        *(_with_nearest(term, *lookups) for term in missing[:MAX_GUESSED_WORDS]),
        *(Unknown(term.surface, "") for term in missing[MAX_GUESSED_WORDS:]),
    ]


def _with_nearest(
    term: Term,
    occurring: Occurring,
    beginning: Beginning,
    words_with: WordsWith,
    first_phrase: FirstPhrase,
) -> Unknown:
    if term.is_guess or is_unspaced(term.surface) or len(term.surface) > MAX_WORD_LENGTH:
        return Unknown(term.surface, "")
    if not _is_alphabetic(term.surface):
        stems, written = first_phrase(code_splits(term.surface))
        return Unknown(term.surface, stems, written) if stems else _completed(term, beginning, words_with)
    whole = {} if term.surface.isascii() else occurring([term.surface, *inflections_of(term.stem)])
    for stem in sorted(whole, key=lambda stem: (stem != term.surface, -whole[stem], stem)):
        for surface, written in words_with(stem):
            if surface == stem:  # as stored by a version of `words` that left the word's ending
                return Unknown(term.surface, stem, surface if surface == term.surface else written)
    if variants := occurring(_stems(variants_of(term.surface))):
        stem = max(variants, key=lambda stem: (variants[stem], stem))
        return Unknown(term.surface, stem, _nearest(term.surface, words_with(stem))[1])
    without_digraphs = _stems(_without_digraphs(term.surface)) - _stems_of_stop_words()
    for stem in occurring(without_digraphs) if without_digraphs else ():
        if written := next((written for _, written in words_with(stem) if not written.isascii()), ""):
            return Unknown(term.surface, stem, written)
    if len(term.surface) < SWAPPED:
        return Unknown(term.surface, "")
    parted = [parts for parts in splits(term.surface) if len(parts[1]) > 1 and not is_stop_word(parts[0])]
    stems, written = first_phrase(" ".join(parts) for parts in parted if not is_stop_word(parts[1]))
    if stems:
        return Unknown(term.surface, stems, written)
    for stem, is_certain in _similar_stems(term, occurring, beginning)[:_MAX_CHECKED_STEMS]:
        surface, written = _nearest(term.surface, words_with(stem))
        # By its stem alone, "housing" would be a misspelled "hours", and "attended" a misspelled "attention".
        endings_removed = _without_ending(term.surface), _without_ending(surface)
        is_certain = is_certain or (len(stem) >= _LONG_STEM and _is_similar(term.stem, stem))
        if is_certain or _is_similar(*endings_removed) or _is_similar(term.surface, surface):
            return Unknown(term.surface, stem, written)
    # `login` for `log in`, but not if it may be a misspelling: `workin` isn't `work in`.
    stems, written = first_phrase(" ".join(parts) for parts in parted if is_stop_word(parts[1]))
    return Unknown(term.surface, stems, written) if stems else _completed(term, beginning, words_with)


def _completed(term: Term, beginning: Beginning, words_with: WordsWith) -> Unknown:
    """Return the term as the beginning of longer words, such as German compounds, if documents have some.

    The beginning of a number means nothing, and a stem that lacks more than the last letter is the beginning
    of other words.
    """
    if len(term.surface) < _MIN_BEGINNING or term.surface.isdecimal():
        return Unknown(term.surface, "")
    for word in (term.surface, *_without_digraphs(term.surface)):
        [stem, *_] = Tokeniser().tokens(word)
        counts = dict(beginning(stem, len(stem) + 1, len(stem) + 2 * MAX_WORD_LENGTH))
        if counts and stem in (word, word[:-1]):
            longer = max(counts, key=lambda stem: (counts[stem], stem))
            written = _nearest(term.surface, words_with(longer))[1]
            if word == term.surface or not written.isascii():
                return Unknown(term.surface, stem, written, goes_on=True)
    return Unknown(term.surface, "")


def _nearest(word: str, others: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """Return the first word that differs from `word` by one typo or, if there is none, the most similar."""
    nearest, least = ("", ""), len(word) + MAX_WORD_LENGTH
    for surface, written in others:
        slips = slips_between(word, surface[: 2 * MAX_WORD_LENGTH])
        if slips < least:
            nearest, least = (surface, written), slips
        if least <= 1:
            break
    return nearest


def _is_similar(word: str, other: str) -> bool:
    """Return whether the word is long enough for the typos by which it differs from the other."""
    slips = slips_between(word, other)
    if slips <= 1 and len(word) >= ONE_SLIP:
        return True
    if slips <= 2 and len(word) >= TWO_SLIPS and word[:_RIGHT] == other[:_RIGHT]:
        return True
    return len(word) >= SWAPPED and other in _swaps(word)


def _similar_stems(term: Term, occurring: Occurring, beginning: Beginning) -> list[tuple[str, bool]]:
    """Return the stems of words that the term may be a misspelling of, the most likely one first, each with
    whether any word with this stem is similar enough.
    """
    # A misspelled word may be stemmed differently.
    swapped = _stems(_swaps(term.surface))
    slipped = _stems(_slips(term.surface)) if len(term.surface) >= ONE_SLIP else frozenset()
    stems = (swapped | slipped) - _stems_of_stop_words()
    similar_stems = dict[str, int]()
    if len(term.surface) >= TWO_SLIPS:  # in a long word, the first letters are rarely wrong
        first = term.surface[:FIRST_LETTERS]
        similar_stems = dict(occurring(stem for stem in stems if stem.startswith(first)))
    similar_stems = similar_stems or dict(occurring(stems))
    has_one_typo = bool(similar_stems)
    if not has_one_typo and len(term.surface) >= TWO_SLIPS:
        # There are too many spellings with two typos to look up and, in a large script, too many with one.
        similar = beginning(term.stem[:_RIGHT], len(term.stem) - 2, len(term.stem) + 2)
        similar_stems = {stem: count for stem, count in similar if slips_between(term.stem, stem) <= 2}
    # The first letter is rarely wrong, and many short words differ only in it. `iphone` is a word of its own,
    # not a misspelled `phone`.
    without_prefix = term.surface[1:] if term.surface[0] in "ei" else ""
    similar_stems = {
        stem: n
        for stem, n in similar_stems.items()
        if stem[0] == term.stem[0] or (len(stem) >= ONE_SLIP and not without_prefix.startswith(stem))
    }

    def likelihood(stem: str) -> tuple[bool, bool, int, int, str]:
        slips = slips_between(term.stem, stem)
        return stem[0] == term.stem[0], stem in swapped, -slips, similar_stems[stem], stem

    def is_certain(stem: str) -> bool:
        has_same_beginning = stem in swapped or len(stem) >= TWO_SLIPS or term.surface.startswith(stem)
        return has_one_typo and len(stem) >= ONE_SLIP and has_same_beginning

    ordered = sorted(similar_stems, key=likelihood, reverse=True)
    return [(stem, is_certain(stem)) for stem in ordered]


def _without_digraphs(word: str) -> Iterator[str]:
    """Yield the word with some of its pairs of vowels as the single letters that they may stand for, without
    accents: `ase` for `aase`, which may be `Åse`.
    """
    places = list(itertools.islice(_DIGRAPH.finditer(word), _MAX_DIGRAPHS))
    for chosen in itertools.product(("", None), repeat=len(places)):
        parts, end = list[str](), 0
        for place, removed in zip(places, chosen, strict=True):
            parts.append(word[end : place.start() + 1] + (word[place.start() + 1] if removed is None else ""))
            end = place.end()
        if "" in chosen:
            yield "".join([*parts, word[end:]])


_DIGRAPH = re.compile("aa|ae|oe|(?<![aeoq])ue")
_MAX_DIGRAPHS = 4


def _without_ending(word: str) -> str:
    """Return the word without an English ending that only inflects it."""
    return _ENDING.sub("", word)


_ENDING = re.compile("(?<=..)(?:e|e?s|e?d|ings?)$")


def _stems(words: Iterable[str]) -> frozenset[str]:
    return frozenset(Tokeniser().tokens(" ".join(set(words))))


@functools.cache
def _stems_of_stop_words() -> frozenset[str]:
    """Return the stems of stop words. If one of these replaced another word, a search would find almost
    anything.
    """
    return _stems(filter(str.isascii, STOP_WORDS))


def _swaps(word: str) -> Iterator[str]:
    """Yield the spellings with two letters swapped. The two are adjacent or, in a longer word, nearly
    adjacent.
    """
    for distance in (1, 2) if len(word) >= _SWAPPED_APART else (1,):
        for at in range(len(word) - distance):
            end = at + distance
            yield word[:at] + word[end] + word[at + 1 : end] + word[at] + word[end + 1 :]


def _slips(word: str) -> Iterator[str]:
    """Yield the spellings that differ from the word by one letter of its script."""
    letters = "".join(map(_letters_of_block, {ord(letter) & 0xFF80 for letter in word}))
    if 2 * len(letters) * (len(word) + 1) > _MAX_SPELLINGS:
        letters = "".join(set(word))
    for at in range(len(word) + 1):
        before, after = word[:at], word[at:]
        yield before + after[1:]
        for letter in letters:
            yield before + letter + after
            yield before + letter + after[1:]


def _is_alphabetic(word: str) -> bool:
    """Return whether a word, in the form used in the index, consists only of letters and vowel signs."""
    return all(letter.isalpha() or ord(letter) >= VOWEL_SIGNS for letter in word)


@functools.cache
def _letters_of_block(first: int) -> str:
    """Return the letters and vowel signs among the 128 characters from `first`, in the form used in the
    index.

    They belong to a single script or to a few.
    """
    letters = comparable("".join(map(chr, range(first, first + 0x80)))).lower()
    return "".join(filter(_is_alphabetic, dict.fromkeys(letters)))


def slips_between(word: str, other: str) -> int:
    """Return the minimum number of typos between two words.

    A typo is a missing, added or wrong letter, or two adjacent letters swapped.
    """
    last, row = [0] * (len(other) + 1), list(range(len(other) + 1))
    for i, letter in enumerate(word, 1):
        before, last, row = last, row, [i]
        for j, its in enumerate(other, 1):
            least = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != its))
            if i > 1 and j > 1 and letter == other[j - 2] and word[i - 2] == its:
                least = min(least, before[j - 2] + 1)
            row.append(least)
    return row[-1]


# -- variants of a word that are all correct ---------------------------------------------------------------

MAX_VARIANTS = 16
"""Maximum number of other spellings to search for; a pasted text may have many."""

_PAIRS = """
child children; man men; woman women; foot feet; tooth teeth; goose geese; mouse mice; ox oxen
knife knives; wife wives; shelf shelves; half halves; loaf loaves; thief thieves
wolf wolves; calf calves; criterion criteria; phenomenon phenomena; bacterium bacteria
index indices; matrix matrices; vertex vertices; appendix appendices; analysis analyses
crisis crises; thesis theses; hypothesis hypotheses; axis axes; diagnosis diagnoses; fungus fungi
nucleus nuclei; stimulus stimuli; radius radii
program programme; programs programmes; gray grey; aluminum aluminium; judgment judgement; aging ageing
plow plough; skeptic sceptic; skeptical sceptical; mold mould; pajamas pyjamas; mustache moustache
artifact artefact; fulfill fulfil; enroll enrol; enrollment enrolment; jewelry jewellery
mail email; mails emails; mailed emailed; mailing emailing
maneuver manoeuvre; encyclopedia encyclopaedia; pediatric paediatric; anesthesia anaesthesia; anemia anaemia
esthetic aesthetic; estrogen oestrogen; fetus foetus; diarrhea diarrhoea; leukemia leukaemia; sulfur sulphur
"""

_BEFORE_OUR = (
    "arb|ard|arm|behavi|cand|clam|col|demean|endeav|fav|ferv|flav|glam|harb|hon|hum|lab|neighb|od|parl|ranc|rig"
    "|rum|sav|splend|succ|tum|val|vap|vig"
)
_AFTER_OUR = "|s|ed|ing|al|able|ful|hood|ite|ites|less|er|ers|ist"


@functools.cache
def _pairs() -> Mapping[str, str]:
    pairs = [pair.split() for pair in _PAIRS.replace("\n", ";").split(";") if pair.strip()]
    return dict([(one, other) for one, other in pairs] + [(other, one) for one, other in pairs])


_endings = lazy_pattern(
    rf"(?P<our>(?:dis|mis)?(?:{_BEFORE_OUR})o(?P<u>u?)r(?:{_AFTER_OUR}))"
    r"|[a-z]{3,}[iy](?P<ise>[sz])(?:e|ed|er|ers|es|ing|able|ation|ations|ational)"
    r"|[a-z]{2,}[bt](?P<tre>re|er)s?"
    r"|[a-z]{3,}og(?P<ogue>(?:ue)?)s?"
    r"|[a-z]{2,}en(?P<ence>[cs])es?"
    r"|[a-z]*[aeiou][b-df-hj-np-tv-z]{1,2}[aeiou]l(?P<double>l?)(?:ed|er|ers|ing|ings|or|ors)"
)
_SWAPPED = {
    ("u", ""): "u",
    ("u", "u"): "",
    ("ise", "s"): "z",
    ("ise", "z"): "s",
    ("tre", "re"): "er",
    ("tre", "er"): "re",
    ("ogue", ""): "ue",
    ("ogue", "ue"): "",
    ("ence", "c"): "s",
    ("ence", "s"): "c",
    ("double", ""): "l",
    ("double", "l"): "",
}
"""The other spelling of each part of `_endings`, keyed by the part's name and text."""


_HEBREW = re.compile("[א-ת]{3}")
_ARTICLE = "ה"
"""The Hebrew article, which is written together with its noun."""
_DEVANAGARI = re.compile("[अ-ह]")
_CHANDRABINDU, _ANUSVARA, _NUKTA, _VIRAMA = (chr(VOWEL_SIGNS + sign) for sign in (0x901, 0x902, 0x93C, 0x94D))
_NASALS = {letter: line[-1] for line in ("कखगघङ", "चछजझञ", "टठडढण", "तथदधन", "पफबभम") for letter in line[:-1]}
"""Devanagari's consonants, each with the nasal letter that a point before it may replace."""
_HALF_NASAL = re.compile(f"([ङञणनम]){_VIRAMA}(?=([क-भ]))")
_POINT = re.compile(f"{_ANUSVARA}(?=([{''.join(_NASALS)}]))")
_UNDOTTED = re.compile(f"(?<=.)([डढ])(?!{_NUKTA})")


def _variants_in_devanagari(word: str) -> Iterator[str]:
    """Yield `हिंदी` for `हिन्दी`, `चाँद` for `चांद` and vice versa, and the word with fewer or more dots."""
    plain = word.replace(_CHANDRABINDU, _ANUSVARA).replace(_NUKTA, "")
    plain = _HALF_NASAL.sub(lambda match: _ANUSVARA if _NASALS.get(match[2]) == match[1] else match[0], plain)
    explicit = _POINT.sub(lambda match: f"{_NASALS[match[1]]}{_VIRAMA}", plain)
    nasalized = plain.replace(_ANUSVARA, _CHANDRABINDU)
    dotted = _UNDOTTED.sub(rf"\1{_NUKTA}", word)
    yield from filter(word.__ne__, dict.fromkeys([plain, explicit, nasalized, dotted]))


def variants_of(word: str) -> Iterator[str]:
    """Yield other spellings of a lower-case word. Not all of them exist.

    For example, `colour`, `center`, `organise`, `children` for `color`, `centre`, `organize`, `child`, and
    vice versa. A Hebrew noun has a variant with or without its article, and a word in Devanagari has variants
    with other signs. `mail` is a variant of `email`, and also matches the last word of `e-mail`.
    """
    if other := _pairs().get(word):
        yield other
    elif _HEBREW.match(word):
        yield word.removeprefix(_ARTICLE) if word.startswith(_ARTICLE) else f"{_ARTICLE}{word}"
    elif _DEVANAGARI.match(word):
        yield from _variants_in_devanagari(word)
    elif match := _endings().fullmatch(word):
        part = "u" if match["our"] is not None else str(match.lastgroup)
        start, end = match.span(part)
        yield f"{word[:start]}{_SWAPPED[part, match[part]]}{word[end:]}"


def variants_in(words: Iterable[str]) -> dict[str, str]:
    """Return other spellings of these words, keyed by stem, but not more than a search may look up."""
    variants = dict.fromkeys(itertools.chain.from_iterable(map(variants_of, words)))
    terms = stemmed(" ".join(itertools.islice(variants, MAX_VARIANTS))) if variants else ()
    return {term.stem: term.surface for term in terms}
