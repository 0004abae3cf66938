"""Finds codes, times, hyphenated words and phrases of a question in texts that write them differently.

Codes are identifiers, versions, dates, addresses and numbers. The stored words (`kbsync.index.words`) include
some of their other forms; a search looks up the rest.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator

from kbsync.dataclass import dataclass
from kbsync.index.characters import legible
from kbsync.index.dates import compact_dates, date_forms, dates_in, whole_dates
from kbsync.index.words import (
    HYPHEN_MARK,
    SQLITE_TOKENISER,
    STOP_WORDS,
    ComparableText,
    Tokeniser,
    characters_of,
    comparable,
    contains_sequence,
    forms_in,
    hyphenated_in,
    is_unspaced,
    stemmed,
    terms_of,
    unbroken,
    unspaced_runs,
    words_and_forms,
    words_in,
)


def without_separators(question: str) -> dict[str, str]:
    """Return the question's hyphenated words and its codes without separators, keyed by stem."""
    # In lower case: `WiFi` would also be a code identifier of two words.
    forms = " ".join(form.lower() for _, _, form in joined_in(comparable(question)))
    return {term.stem: term.surface for term in stemmed(forms)}


def hyphenation_variants(question: str) -> dict[str, str]:
    """Return the question's hyphenated words and its codes without separators, its other words as forms of
    hyphenated words, and its MAC addresses, times of day and codes in other spellings, keyed by stem.
    """
    hyphenated = {
        f"{HYPHEN_MARK}{term.stem}": f"{HYPHEN_MARK}{term.surface}"
        for term in terms_of(question)
        if any(True for _ in splits(term.surface))
    }
    plain = Tokeniser(SQLITE_TOKENISER[1:]).tokens(comparable(question))
    codes = (
        code_splits(word)
        for word in plain
        if not word.isdecimal() and sum(map(str.isdecimal, word)) >= _MIN_CODE_DIGITS
    )
    spellings = itertools.chain(
        (phrase for _, _, phrase in other_spellings(comparable(question))),
        itertools.islice(itertools.chain.from_iterable(codes), MAX_CODES),
    )
    stemmer = Tokeniser()
    others = {
        " ".join(stemmer.tokens(phrase)): phrase
        for phrase in spellings
        if not contains_sequence(plain, phrase.split())
    }
    return without_separators(question) | hyphenated | others


def joined_phrase(text: str, phrase: str) -> str:
    """Return the first place in `text` that has the words of `phrase`, except for a plural, joined by single
    characters, as written there. Return "" if there is none.

    The first word may be a single letter only before an apostrophe, as in `O'Brien`.
    """
    folds, sought = ComparableText(legible(text)), [word.removesuffix("s") for word in phrase.split()]
    words = [word for word in words_in(folds.plain) if not word.is_form]
    for at in range(len(words) - len(sought) + 1):
        found = words[at : at + len(sought)]
        if (
            [word.surface.removesuffix("s") for word in found] == sought
            and all(after.start - before.end == 1 for before, after in itertools.pairwise(found))
            and (len(sought[0]) > 1 or folds.plain[found[0].end] in "'’")
        ):
            return " ".join(folds.written(found[0].start, found[-1].end).split())
    return ""


_CODE = re.compile("(?<![A-Za-z0-9])[A-Za-z0-9]++(?:[._:/-]{1,2}[A-Za-z0-9]++)+")
MAX_CODES = 16
"""Maximum number of codes to read from a question; a pasted log has hundreds."""

_MIN_JOINED_LENGTH = 6
_MAC_ADDRESS = re.compile("[0-9a-f]{12}")
_SPACED_CODE = re.compile("(?<![A-Za-z0-9])[A-Za-z]{1,5}(?: [0-9]{2,})+(?![A-Za-z0-9])")
_KANA = re.compile("(?<!\\S)(?:(?P<hiragana>[ぁ-ゖー]{2,})|[ァ-ヶー]{2,})(?!\\S)")
_KATAKANA = ord("ァ") - ord("ぁ")
_INITIALS = re.compile("(?<![A-Za-z0-9])[A-Za-z]{1,3}&[A-Za-z]{1,3}(?![A-Za-z0-9])")


def joined_in(question: str) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, form) for each hyphenated word in `question`, for each code of letters and digits,
    MAC address, or name such as `AT&T`, and for each word in kana.

    The form is the word or code without separators, such as `po2026044` for `PO-2026-044` or `PO 2026 044`,
    or the word in the other kana. `question` is in comparable form.
    """
    yield from hyphenated_in(question)
    for match in itertools.islice(_CODE.finditer(question), MAX_CODES):
        if form := _joined_code(match[0].casefold()):
            yield *match.span(), form
    for match in itertools.islice(_SPACED_CODE.finditer(question), MAX_CODES):
        yield *match.span(), match[0].replace(" ", "").casefold()
    for match in itertools.islice(_INITIALS.finditer(question), MAX_CODES):
        yield *match.span(), match[0].replace("&", "").casefold()
    for match in itertools.islice(_KANA.finditer(question) if not question.isascii() else (), MAX_CODES):
        shift = _KATAKANA if match["hiragana"] else -_KATAKANA
        yield *match.span(), "".join(kana if kana == "ー" else chr(ord(kana) + shift) for kana in match[0])


_MAX_TIMES = 4  # of a question; a pasted timetable has many, each with several spellings to look up
_TIME = re.compile(
    r"(?<![\w:.,/])(?P<hour>[01]?[0-9]|2[0-3])"
    r"(?:(?::(?P<minute>[0-5][0-9]))?[ \u00a0\u202f]?(?P<half>[AaPp])(?:\.[Mm]\.|[Mm])"
    r"|:(?P<exact>[0-5][0-9]))"
    r"(?![\w:/]|\.[0-9])"
)


def times_in(text: str) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Yield (start, end, (hour, minute)) for each time of day in `text`, such as 19:45 and 7:45 pm."""
    for match in _TIME.finditer(text):
        hour, minute = int(match["hour"]), int(match["minute"] or match["exact"] or 0)
        if not match["half"]:
            yield *match.span(), (hour, minute)
        elif 1 <= hour <= 12:
            yield *match.span(), (hour % 12 + 12 * (match["half"] in "Pp"), minute)


def other_spellings(question: str) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, phrase) for each other way to write a MAC address with separators or a time of day.

    For example, `0011 2233 4455` for `00:11:22:33:44:55`, and `7 45 pm` for `19:45`.
    """
    for start, end, form in joined_in(question):
        if _MAC_ADDRESS.fullmatch(form):
            yield from ((start, end, phrase) for phrase in _groups(form, (2, 4)))
    for start, end, (hour, minute) in itertools.islice(times_in(question), _MAX_TIMES):
        half, hours = "ap"[hour >= 12], hour % 12 or 12
        for minutes in (f" {minute:02}", "") if minute == 0 else (f" {minute:02}",):
            yield from (
                (start, end, f"{hours}{minutes}{mark}") for mark in (f" {half}m", f"{half}m", f" {half} m")
            )
        yield from (
            (start, end, phrase)
            for phrase in dict.fromkeys((f"{hour:02} {minute:02}", f"{hour} {minute:02}"))
        )


def _groups(word: str, sizes: Iterable[int]) -> Iterator[str]:
    """Yield the characters of `word` in groups of each of these sizes."""
    for size in sizes:
        yield " ".join(word[at : at + size] for at in range(0, len(word), size))


def _joined_code(code: str) -> str:
    """Return the code without separators, or "" for one that is short, or that has only letters or only
    digits and isn't a MAC address.
    """
    form = "".join(filter(str.isalnum, code))
    is_mixed = not form.isdecimal() and any(map(str.isdecimal, form)) and len(form) >= _MIN_JOINED_LENGTH
    return form if is_mixed or _MAC_ADDRESS.fullmatch(form) else ""


_SEPARATORS = re.compile("[._:/-]+")
_SEPARATORS_OF_CODES = re.compile("[._:/-]+|(?<=[0-9]),(?=[0-9])")


def codes_in(question: str) -> list[str]:
    """Return the dates, times, versions, addresses, identifiers and other codes in `question`.

    A code is a date with a year, a time of day, or letters and digits joined by `.`, `_`, `:`, `/` or `-`.
    Stop words such as `and/or` and words such as `e-mail` aren't codes.
    """
    text = comparable(question)
    dates = [text[start:end].casefold() for start, end, _ in dates_in(text)]
    times = [text[start:end].casefold() for start, end, _ in times_in(text)]
    others = (match[0].casefold() for match in _CODE.finditer(question))
    codes = dict.fromkeys(
        [*dates, *times, *(code for code in others if not any(code in time for time in times))]
    )
    return [code for code in codes if not _is_word_or_stop_words(code)][:MAX_CODES]


def _is_word_or_stop_words(code: str) -> bool:
    is_word = code.startswith("e-") and code[2:].isalpha()  # e-mail, which texts also write as email
    return is_word or STOP_WORDS.issuperset(_SEPARATORS.split(code))


# Without possessive repetition of the group, which Python 3.11.2 gets wrong.
_EXACT = re.compile(
    r"(?<![^\W_])[^\W_]+(?:(?:[._:/\\@&+#\-\u2010\u2011\u2013]{1,2}|(?<=[0-9])[,'’](?=[0-9]))[^\W_]+)*"
)
_MIN_EXACT_LENGTH = 3
_OF_NAMES = re.compile("[_@&\\\\]|::")


def exact_tokens(question: str) -> list[str]:
    """Return the numbers, dates, versions, addresses, identifiers and other codes in `question`, as written.

    Their parts mean nothing on their own. A token without digits is a code only if a dot or another mark used
    in names joins its parts, as in `os.path.join`, `std::vector` or `AT&T`. So `well-known`, `and/or` and
    `e.g.` aren't codes.
    """
    spaced = [question] if question.isascii() else unspaced_runs().split(question)[::2]
    tokens = dict.fromkeys(match[0] for text in spaced for match in _EXACT.finditer(text))
    return list(itertools.islice(filter(_is_exact, tokens), MAX_CODES))


def _is_exact(token: str) -> bool:
    if any(map(str.isdecimal, token)):
        return len(token) >= _MIN_EXACT_LENGTH
    return _OF_NAMES.search(token) is not None or ("." in token and max(map(len, token.split("."))) > 1)


def code_test(code: str) -> Callable[[str], bool]:
    """Return a function that checks whether a text contains the code.

    The code may have any of the separators in `codes_in`, none, or a decimal comma. If it begins with a
    digit, it may have a `v` before it. A date, a time of day or a MAC address may be written in any way.
    """
    if dates := {form for _, _, form in whole_dates(comparable(code))}:
        return lambda text: not dates.isdisjoint([*date_forms(comparable(text)), *compact_dates(text)])
    if time := next((time for start, end, time in times_in(code) if end - start == len(code)), None):
        hour, minute = time
        # Most texts have none of these, and don't have to be searched for all their times.
        forms = [f"{number}:{minute:02}" if minute else f"{number}" for number in (hour, hour % 12 or 12)]
        return lambda text: (
            any(form in text for form in forms) and time in (other for _, _, other in times_in(text))
        )
    sought = _SEPARATORS_OF_CODES.sub(".", code)
    sought, joined = sought[sought[0] == "v" and sought[1].isdigit() :], _joined_code(code)
    is_address = _MAC_ADDRESS.fullmatch(joined)
    spellings = [group.replace(" ", ".") for group in _groups(joined, (2, 4))] if is_address else [sought]

    def has_code(text: str) -> bool:
        text = text.casefold()
        with_dots = _SEPARATORS_OF_CODES.sub(".", text)
        return any(contains(with_dots, form) for form in spellings) or (
            bool(joined) and contains(text, joined)
        )

    def contains(plain: str, form: str) -> bool:
        position = plain.find(form)
        while position >= 0:
            start, end = position, position + len(form)
            if form[0].isdigit() and plain[position - 1 : position] == "v":
                start -= 1
            before, after = plain[max(0, start - 1) : start], plain[end : end + 1]
            goes_on = after.isdigit() or (after.isascii() and after.isalpha() and form[-1].isalpha())
            if not (before.isascii() and before.isalnum()) and not goes_on:
                return True
            position = plain.find(form, position + 1)
        return False

    return has_code


_MAX_SPELLINGS, _MAX_JOINED_WORDS, _MAX_SPLIT_LENGTH = 32, 4, 20
"""Maximum number of spellings of a phrase, maximum number of its words that may form one code identifier, and
maximum length of a word that a text may write with a hyphen.
"""

_HEXADECIMAL_UUID = re.compile("[0-9a-f]{32}")
_RESPELT = re.compile(
    r"(?<![^\W_])(?:(?P<letters>[A-Za-z]{1,5})(?P<digits>[0-9]{2,})|(?P<thousands>[1-9][0-9]{3,14})"
    r"|(?<![0-9]\.)(?P<version>[0-9]+)(?=\.[0-9]))(?![^\W_])"
)


@dataclass(frozen=True, slots=True)
class Spelling:
    """One way to write a phrase, in parts. A part consists of words separated by spaces that follow each
    other in the index.

    After a run of characters without spaces, the index has the run's pairs, so a phrase that continues there
    has several parts. `identifier`: words that the text must have as the other form of a code identifier or
    of a hyphenated word, or "" if there are none.
    """

    parts: tuple[str, ...]
    identifier: str = ""


def phrase_spellings(phrase: str) -> list[Spelling]:
    """Return the spellings of a phrase: as it is, with the other forms of its words, with some of its words
    as one code identifier, and with one of its words hyphenated.

    Return [] if the phrase contains no word.
    """
    text = unbroken(legible(phrase))
    places = dict[tuple[int, int], list[str]]()
    hyphenated = list(hyphenated_in(text))
    for start, end, form in forms_in(text):
        if not any(first <= start < last for first, last, _ in hyphenated):
            places.setdefault((start, end), [text[start:end]]).append(form)
    for start, end, form in hyphenated:
        places[start, end] = [text[start:end], form]
    formed = [range(*place) for place in places]
    for match in _RESPELT.finditer(text):  # parts that are themselves the other form of a spelling
        if not any(match.start() in place for place in formed):
            respelt = f"v{match['version']}"
            if match["letters"]:
                respelt = f"{match['letters']} {match['digits']}"
            elif match["thousands"]:
                respelt = f"{int(match['thousands']):,}"
            places[match.span()] = [match[0], respelt]
    chosen, tokeniser = sorted(places), Tokeniser(SQLITE_TOKENISER[1:])
    spellings = list[Spelling]()
    for choice in itertools.islice(itertools.product(*(places[place] for place in chosen)), _MAX_SPELLINGS):
        spelling, end = "", 0
        for place, written in zip(chosen, choice, strict=True):
            spelling += text[end : place[0]] + written
            end = place[1]
        spellings.append(Spelling(_parts(spelling + text[end:], tokeniser)))
    if len(spellings[0].parts) == 1:
        words = spellings[0].parts[0].split()
        for count in range(2, _MAX_JOINED_WORDS + 1):
            for start in range(len(words) - count + 1):
                end = start + count
                joined = [*words[:start], "".join(words[start:end]), *words[end:]]
                spellings.append(Spelling((" ".join(joined),), " ".join(words[start:end])))
        for number, word in enumerate(words):
            for parts in splits(word):
                parted = [*words[:number], *parts, *words[number + 1 :]]
                spellings.append(Spelling((" ".join(parted),), f"{HYPHEN_MARK}{word}"))
    return [spelling for spelling in dict.fromkeys(spellings) if spelling.parts][:_MAX_SPELLINGS]


def splits(word: str) -> Iterator[tuple[str, ...]]:
    """Yield the parts of a word that a text may write with a hyphen."""
    if word.isalpha() and len(word) <= _MAX_SPLIT_LENGTH and not is_unspaced(word):
        for at in range(1, len(word)):
            yield word[:at], word[at:]
    elif _HEXADECIMAL_UUID.fullmatch(word):
        yield word[:8], word[8:12], word[12:16], word[16:20], word[20:]


_MIN_CODE_DIGITS = 4  # of a code whose other spellings count as much: `python3` isn't just any `Python 3`
_PARTS_OF_CODE = re.compile("[a-z]+|[0-9]+")
_CODE_WITH_DIGITS = re.compile("([a-z]{1,5})([0-9]{5,})")
_MIN_GROUPED_LENGTH = 8
_MAX_SEAMS = 3  # between letters and digits, at which texts may separate a code or not
_ISBN = re.compile("97[89][0-9]{10}")


def code_splits(word: str) -> Iterator[str]:
    """Yield the parts into which texts may separate a code of letters and digits.

    For example, `inv 2026 031` for `inv2026031`, pairs of digits for a MAC address, and groups of four or
    five characters for a license key or the number of a card.
    """
    if _MAC_ADDRESS.fullmatch(word):
        yield from _groups(word, (2,))
    if len(word) >= _MIN_GROUPED_LENGTH:
        yield from _groups(word, (4, 5))
    if _ISBN.fullmatch(word):
        for first, last in itertools.combinations(range(4, 12), 2):
            yield " ".join((word[:3], word[3:first], word[first:last], word[last:12], word[12]))
    if len(parts := _PARTS_OF_CODE.findall(word)) > 1 and "".join(parts) == word:
        seams = [(" ", "") if number < _MAX_SEAMS else (" ",) for number in range(len(parts) - 1)]
        for marks in itertools.product(*seams):
            if any(marks):
                yield "".join(map("".join, zip(("", *marks), parts, strict=True)))
    if code := _CODE_WITH_DIGITS.fullmatch(word):
        for at in range(2, len(code[2]) - 1):
            yield f"{code[1]} {code[2][:at]} {code[2][at:]}"


def _parts(text: str, tokeniser: Tokeniser) -> tuple[str, ...]:
    split = enumerate(unspaced_runs().split(text))
    parts = (part if number % 2 == 0 else " ".join(characters_of(part)) for number, part in split)
    return tuple(filter(None, (" ".join(tokeniser.tokens(part)) for part in parts)))


def phrase_test(phrase: str) -> Callable[[str], bool]:
    """Return a function that checks whether a text contains the words of `phrase` in direct succession, in
    any of its spellings.
    """
    stemmer, splitter = Tokeniser(), Tokeniser(SQLITE_TOKENISER[1:])
    spellings = [
        (stemmer.tokens(" ".join(spelling.parts)), stemmer.tokens(spelling.identifier))
        for spelling in phrase_spellings(phrase)
    ]

    def has_phrase(text: str) -> bool:
        text = unbroken(legible(text))
        tokens = stemmer.tokens(" ".join(_parts(text, splitter)))
        present = set(tokens)
        return any(
            contains_sequence(tokens, words)
            and (not identifier or contains_sequence(stemmer.tokens(words_and_forms(text)[1]), identifier))
            for words, identifier in spellings
            if present.issuperset(words)
        )

    return has_phrase
