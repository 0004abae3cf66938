"""Splits texts and questions into words for the index.

Chinese, Japanese and Korean have no spaces between words, so each of their characters counts as a word, and
so does each pair of adjacent ones. In Thai, Lao, Burmese and Khmer, so does each letter with its vowel signs.
SQLite's `porter unicode61` does the rest: it folds case and accents and stems English. Before that, variants
of a character are unified for comparison, and traditional Chinese characters become simplified ones
(`kbsync.index.characters`). A few other languages lose their endings (`kbsync.index.endings`). A Chinese or
Thai word may continue on the next line.
Code identifiers, codes, long numbers, quantities and dates have other forms, which go after the text, so that
its words stay next to each other: `read Timeout` for `readTimeout`, `E4471` for `E-4471`, `wifi` for `Wi-Fi`,
`8999` for `8,999`, `20260314` for `14 March 2026`.

The index keeps no copy of the words: to remove a text, it recomputes the same words. So an existing
version of `words` must never change; every change needs a new version.
"""

from __future__ import annotations

import functools
import itertools
import re
import threading
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from typing import cast

import apsw

from kbsync.core.text import lazy_pattern
from kbsync.dataclass import dataclass
from kbsync.index.characters import VOWEL_SIGNS, folded, legible, unified
from kbsync.index.dates import date_forms, dates_in
from kbsync.index.endings import inflections_of, without_endings

TOKENISER, OLDEST_TOKENISER = 8, 4
"""The version of `words` for new documents, and the oldest version that kbsync still reads."""

SQLITE_TOKENISER = ("porter", "unicode61", "remove_diacritics", "2")
"""SQLite's tokenizer for the words. It is part of the index's schema."""

CJK = "々〇ぁ-ゖゝ-ヿㄅ-ㄯ㐀-䶿一-鿿豈-龎가-힣\U00020000-\U0003ffff"
"""Ranges of characters from scripts without spaces between words, for use inside the brackets of a regular
expression.
"""


@functools.cache  # these characters take 1 ms to compile, and most questions have none
def cjk_runs() -> re.Pattern[str]:
    """Return a pattern that matches a run of `CJK` characters and captures it as a group."""
    return re.compile(f"([{CJK}]+)")


_ALPHABETIC = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u0edc-\u0edf\u1000-\u103f\u1050-\u108f\u109a-\u109f"
    "\u1780-\u17d3\u17d7\u17dc-\u17dd\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa7f"
    "\U000f0e00-\U000f0eff\U000f1000-\U000f10ff\U000f1780-\U000f17ff\U000fa9e5\U000faa7b-\U000faa7d"
)
"""Ranges of Thai, Lao, Burmese and Khmer letters, including their comparable form. Like the scripts in
`CJK`, these have no spaces between words, but they are alphabetic.
"""
UNSPACED = CJK + _ALPHABETIC
_SIGNS = f"{chr(VOWEL_SIGNS)}-{chr(VOWEL_SIGNS + 0xFFFF)}"


@functools.cache
def unspaced_runs() -> re.Pattern[str]:
    """Return a pattern that matches a run of `UNSPACED` characters and captures it as a group."""
    return re.compile(f"([{UNSPACED}]+)")


def runs_in(text: str) -> Iterator[re.Match[str]]:
    """Return the runs of characters in `text` that are in scripts without spaces.

    `text` is in comparable form.
    """
    return iter(()) if text.isascii() else unspaced_runs().finditer(text)


def words(text: str, version: int = TOKENISER, *, has_hyphenated: bool = True) -> str:
    """Return `text` as words separated by spaces, for SQLite's tokenizer.

    Runs in scripts without spaces become single characters and pairs of characters. `has_hyphenated`: whether
    to include the forms of hyphenated words without hyphens.
    """
    plain_and_forms = words_and_forms(text, version, has_hyphenated=has_hyphenated)
    return as_stored(" ".join(filter(None, plain_and_forms)), version)


def as_stored(plain: str, version: int = TOKENISER) -> str:
    """Return words from `words_and_forms` as stored in the index, which SQLite's tokenizer has yet to split
    and to stem.
    """
    return without_endings(plain) if version >= _STEMMED else plain


def words_and_forms(text: str, version: int = TOKENISER, *, has_hyphenated: bool = True) -> tuple[str, str]:
    """Return the words in `text`, with all their endings, and their other forms as a separate text."""
    text = unbroken(text)
    has_cyrillic_months = version >= _GROUPED_BY_SPACES
    dates = sorted(date_forms(text, has_cyrillic_months)) if version >= _DATED else ()
    hyphenated = hyphenated_in(text) if has_hyphenated and version >= _WITH_HYPHENATED else ()
    marked_forms = (f"{HYPHEN_MARK}{form}" for _, _, form in hyphenated)
    numbers = number_forms_in(text) if version >= _WITH_HYPHENATED else ()
    in_text = itertools.chain(forms_in(text, version), numbers)
    forms = " ".join([*(form for _, _, form in in_text), *marked_forms, *dates])
    return text if text.isascii() else unspaced_runs().sub(_grams, text), forms


_GROUPED = re.compile("(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3})")


def comparable(text: str) -> str:
    """Return `text` with variants of letters unified, as done by the current version of `words`."""
    return text if text.isascii() else unified(folded(text))


# Korean has spaces between words, and breaks lines there.
_gaps = lazy_pattern(
    rf"(?<=[{UNSPACED}])(?<![가-힣])(?:\*{{1,3}}|\*{{0,3}}\n\*{{0,3}}|\u200b)(?=[{UNSPACED}])(?![가-힣])"
)


def unbroken(text: str) -> str:
    """Return `text` in comparable form, without line breaks and emphasis inside words."""
    if text.isascii():
        return text
    return _gaps().sub("", comparable(_GROUPED.sub(",", text)))


_DATED = 5  # the first version with forms of dates and of acronyms with dots
_GROUPED_BY_SPACES = 6  # the first version with forms of such numbers and of dates in Russian
HYPHEN_MARK = "\ue000"
"""Marks the form of a hyphenated word without hyphens. Without the mark, a question with the hyphens
would count a text with them twice: by the parts of the word, and by this form.
"""
_WITH_HYPHENATED = 7  # the first version with forms of hyphenated words and of `number_forms_in`
_STEMMED = 8  # the first version whose words are `without_endings`
_NUMBER_MARKS = ",.'’\u00a0\u2009\u202f"
_IDENTIFIER = "[A-Za-z0-9]*[a-z][A-Z][A-Za-z0-9]*"
_NUMBERED = "[A-Za-z]{1,5}-[0-9]{2,}"
_THOUSANDS = rf"[0-9]{{1,3}}(?P<mark>[{_NUMBER_MARKS}])[0-9]{{3}}(?:(?P=mark)[0-9]{{3}})*(?!(?P=mark)[0-9])"
_PARTS = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")


def characters_of(run: str) -> Sequence[str]:
    """Return the characters of a run in a script without spaces, each with the vowel signs that follow it."""
    return run if max(run) < chr(VOWEL_SIGNS) else _SIGNED.findall(run)


_SIGNED = re.compile(f".[{_SIGNS}]*", re.DOTALL)


_UNITS = """
mm cm dm km nm um µm μm ft yd mi ha kg mg ug µg μg lb oz L ml mL dl cl hl ms us µs μs ns min Hz kHz MHz GHz
mV kV mA Ah mAh W mW kW MW GW Wh kWh MWh kJ MJ kN Pa kPa hPa MPa bar mbar psi kcal KB kB MB GB TB KiB MiB
GiB TiB kbit Mbit Gbit dB rpm fps dpi px ppm lm lx mol mph
"""
_UNITS_WITHOUT_SPACE = "in m s t h g l A C F K N B V J em pt"
"""Units that are also words or initials; they belong to a number only if they follow it directly."""

_GROUPED_NUMBER = (
    r"(?P<iban>[A-Z]{2}[0-9]{2}(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?(?![^\W_]))|"
    rf"(?P<grouped>(?<![0-9][{_NUMBER_MARKS}]){_THOUSANDS.replace('mark', 'comma')}"
    rf"|(?<![0-9][ {_NUMBER_MARKS}])[1-9][0-9]{{0,2}}(?: [0-9]{{3}})+(?! [0-9]))"
    rf"(?:(?P<space>[ \u00a0\u2009\u202f]?)(?P<grouped_unit>{'|'.join(_UNITS.split())})"
    rf"|(?P<grouped_short>{'|'.join(_UNITS_WITHOUT_SPACE.split())}))?(?![^\W_])|"
)
_ACRONYM = r"|(?<!\w\.)(?:[A-Z]\.){2,}[A-Z]?(?![A-Za-z0-9])"
_PLAIN = (
    # Up to the last separator before a capital letter, a digit or a sign.
    r"(?P<plain>(?:(?:(?<![^\W_])|(?![a-z]))(?>[^A-Z0-9.#+]*(?:[^A-Za-z0-9.#+-]|-(?![0-9])))"
    r"|(?<![^\W_])[A-Za-z][a-z]++(?![A-Z0-9-])|\.(?![Nn])|[#+]++)++)"
)
"""Matches text in which no other form of a word begins, usually several words at once. Looking for a form at
each character would take three times as long.
"""
_FORMS = (
    r"(?<![^\W_])(?=[A-Za-z0-9.])(?![A-Za-z][a-z]++(?![A-Z0-9-]))"
    rf"(?>{_GROUPED_NUMBER}(?P<number>[0-9]++)"
    rf"(?:(?P<gap>[ \u00a0\u2009\u202f]?)(?P<unit>{'|'.join(_UNITS.split())})(?![^\W_])"
    rf"|(?P<short>{'|'.join(_UNITS_WITHOUT_SPACE.split())})(?![^\W_]))"
    r"|[vV](?P<version>[0-9]++)(?=\.[0-9])"
    rf"{_ACRONYM}"
    r"|(?P<symbol>[A-Za-z](?:\+\+|#)|\.(?:NET|net)(?<!\w.{4})|[A-Z]{1,3}&[A-Z]{1,3})(?![A-Za-z0-9_])"
    # Nine to 15 digits in groups, such as a telephone number, but not a date with an hour.
    rf"|(?<![0-9][ \-:/{_NUMBER_MARKS}])(?![0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?![0-9]))"
    rf"(?=[0-9](?:[ -]?[0-9]){{8,14}}(?![ -]?[0-9]|[:/{_NUMBER_MARKS}][0-9]))"
    r"(?=0|[0-9]++[ -][0-9]++[ -])[0-9]++(?:[ -][0-9]++)+(?![^\W_])"
    rf"|(?<![0-9][{_NUMBER_MARKS}])(?>(?P<name>{_IDENTIFIER})|{_NUMBERED}|{_THOUSANDS})(?![^\W_]))"
)


_forms = lazy_pattern(f"{_PLAIN}|{_FORMS}")
_forms_5 = lazy_pattern(f"{_PLAIN}|{_FORMS}".replace(_GROUPED_NUMBER, ""))
_forms_4 = lazy_pattern(f"{_PLAIN}|{_FORMS}".replace(_GROUPED_NUMBER, "").replace(_ACRONYM, ""))

_SYMBOLS = re.compile(r"\+\+|[#.&]")
_SYMBOL_NAMES = {"++": "plusplus", "#": "sharp", ".": "dot", "&": ""}


def forms_in(text: str, version: int = TOKENISER) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, form) for each other form of a part of `text`.

    For a code identifier, the form is its words; for a code, an acronym with dots or a long number in groups,
    its letters and digits; for a version, the number without `v`; for a quantity, the same with or without a
    space; for a name with symbols, its spelling in letters, such as `csharp`.
    """
    older = _forms_5 if version >= _DATED else _forms_4
    pattern = _forms() if version >= _GROUPED_BY_SPACES else older()
    for match in pattern.finditer(text):
        if match.lastgroup == "plain":
            continue
        start, end = match.span()
        if version >= _GROUPED_BY_SPACES and match["grouped"]:
            number = "".join(filter(str.isdecimal, match["grouped"]))
            yield start, match.end("grouped"), number
            if unit := match["grouped_unit"] or match["grouped_short"]:
                plain = unit.replace("µ", "u").replace("μ", "u")
                yield start, end, f"{number}{plain}"
                if not match["space"]:
                    yield start, end, f"{number} {plain}"
        elif unit := match["unit"] or match["short"]:
            number, plain = match["number"], unit.replace("µ", "u").replace("μ", "u")
            if match["gap"] or plain != unit:
                yield start, end, f"{number}{plain}"
            if not match["gap"]:
                yield start, end, f"{number} {plain}"
        elif match["symbol"]:
            yield start, end, _SYMBOLS.sub(lambda symbol: _SYMBOL_NAMES[symbol[0]], match[0]).lower()
        elif match["name"]:
            yield start, end, " ".join(_PARTS.findall(match[0]))
        else:
            yield start, end, match["version"] or "".join(filter(str.isalnum, match[0]))


_PHONE = re.compile(
    # It begins with a set of characters, which makes it ten times as fast.
    r"[(+](?:(?<=\()(?P<area>[0-9]{2,5})\)|(?<=\+)(?P<country>[0-9]{1,3})(?: ?\(0\)|(?=[ /-])))"
    r"(?P<rest>[ /-]?[0-9]++(?:[ /-][0-9]++)*)(?!\w)"
)
_PHONE_DIGITS = range(9, 16)
_HEXADECIMAL = re.compile("0[xX](?P<digits>[0-9A-Fa-f]{4,16})(?![0-9A-Za-z_])")


def number_forms_in(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, form) for each telephone number with an area code in parentheses or a country code,
    and for each hexadecimal number.

    The form is the national number without separators, such as `0891234567` for `+49 89 1234567`, or the
    number without `0x`.
    """
    for match in _PHONE.finditer(text) if "(" in text or "+" in text else ():  # most texts have neither
        rest = "".join(filter(str.isdecimal, match["rest"]))
        prefix = "" if match["country"] == "1" else "0"  # North America has none
        national = f"{match['area'] or prefix}{rest}"
        if len(national) in _PHONE_DIGITS:
            yield *match.span(), national
    for match in _HEXADECIMAL.finditer(text) if "0x" in text or "0X" in text else ():
        yield *match.span(), match["digits"]


_MAX_HYPHENATED = 40
"""Maximum length of a hyphenated word in characters. A UUID has 36."""

_OTHER_HYPHENS = {0x2010: "-", 0x2011: "-"}
_HYPHEN = re.compile(r"-(?:(?<=[^\W\d_]-)(?=[^\W\d_])|(?<=[0-9A-Fa-f]{8}-)(?=[0-9A-Fa-f]{4}-))")
"""Matches a hyphen between two letters, or the first one of a UUID."""
_HYPHENATED_RUN = re.compile(r"(?:[^\W_]|-)+")


# Without `e-mail`, whose last word is a variant of `email` and would count twice.
_hyphenated = lazy_pattern(
    rf"(?![eE]-[mM]ails?\Z)[^\W\d_{UNSPACED}]++(?:-[^\W\d_{UNSPACED}]++){{1,2}}"
    r"|[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"
)


def hyphenated_in(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, form) for each hyphenated word of two or three parts in `text`, and each UUID.

    The form is the word without hyphens, such as `wifi` for `Wi-Fi`. `text` is in comparable form.
    """
    if not text.isascii():
        text = text.translate(_OTHER_HYPHENS)
    end = 0
    for hyphen in _HYPHEN.finditer(text):  # much faster than looking at each word
        if hyphen.start() < end:
            continue
        start = hyphen.start()
        while start > end and (text[start - 1].isalnum() or text[start - 1] == "-"):
            start -= 1
        while text[start] == "-":
            start += 1
        match = _HYPHENATED_RUN.match(text, start)
        end = match.end() if match else end
        word = text[start:end]
        if len(word) <= _MAX_HYPHENATED and _hyphenated().fullmatch(word):
            yield start, end, word.replace("-", "")


def _grams(run: re.Match[str]) -> str:
    """Return the characters of a run, then its pairs of adjacent characters, all separated by spaces."""
    characters = characters_of(run[0])
    pairs = map("".join, itertools.pairwise(characters))
    return f" {' '.join(characters)} {' '.join(pairs)} "


LONGEST = 4_000
"""Maximum number of characters to read from a question; more text wouldn't find more."""

MAX_TERMS = 64

_ENGLISH = """
a about also am an and any are as at be been being but by can could did do does doing for from had has have
having he her hers him his how i if in into is it its itself many me much my of on or our ours she should so
some such than that the their theirs them then there these they this those to too us was we were what when
where which while who whom whose why will with would you your yours
"""
_CHINESE = """
的 了 是 在 和 与 及 或 有 被 把 对 从 到 为 以 于 之 其 这 那 哪 谁 何 吗 呢 吧 么 也 都 就 而 请 问 什 几
个 些 我 你 他 她 它 们 什么 哪些 哪个 哪里 多少 怎么 怎样 如何 为什 为何 何时 是什 是谁
谁是 几个 是否 有多 么是 么时 在哪 个是 甚么 为甚 是甚
"""
STOP_WORDS = frozenset(_ENGLISH.split()) | frozenset(_CHINESE.split())
"""Stop words, which most questions contain; a question's stop words are used only if it has no other
words."""


_CONVERSATIONAL = """
able anyone anything ask asking everything explain explained explains getting gives going got idea just know
maybe meaning perhaps please possible question questions really regarding say seem seems someone something
suppose sure tell thank thanks thing think tried trying wanted way ways whether wonder wondering
"""
_AROUND_QUESTIONS = frozenset(_CONVERSATIONAL.split())
"""Words that often surround a question, as in `can you tell me`. Few documents may have them, so that they
would count more than the others.
"""
_AROUND_QUESTIONS_WITH = {
    "does": {"mean", "work"},
    "how": {"use", "used", "using", "work", "works"},
    "i": {"find", "help", "like", "look", "looking", "need", "see", "use", "want"},
    "me": {"find", "get", "give", "help", "let", "see", "show"},
    "what": {"happen", "happened", "happening", "happens", "use", "used"},
    "you": {"find", "get", "give", "help", "show"},
}
"""Such words by the stop word that they need, because `find` and `mean` may also be what a question is
about.
"""
_REQUESTS, _DETERMINERS = (
    {"find", "get", "give", "see", "show"},
    {"a", "all", "an", "any", "me", "my", "our", "the"},
)
"""The words of a question that begins with one of `_REQUESTS` and one of `_DETERMINERS` surround it."""

_VERBS = {
    *("ask", "find", "get", "give", "help", "know", "like", "look", "need", "say", "see", "show", "tell"),
    *("think", "use", "want"),
}
"""Such words that belong to the topic after another word of it, as in `what is fair use`, unless the question
has one of `_AUXILIARIES`, as in `which ports does syncthing use`.
"""
_AUXILIARIES = {
    *("can", "could", "did", "do", "does", "may", "might", "must", "shall", "should", "to", "will", "would")
}
_capitalized = lazy_pattern(r"(?<=[^\W_A-Z] )(?!(?:AND|OR)\b)[A-Z]\w+")
"""Matches a capitalized word inside a sentence. `AND` and `OR` are operators of other programs."""

_IN_CHINESE_QUESTIONS = """
怎么办 怎么样 怎么 怎样 如何 什么时候 什么是 是什么 有什么 什么 甚么 为什么 为甚么 为何 何时 谁是 是谁 谁
哪里 哪儿 哪些 哪个 在哪里 在哪儿 在哪 多少 多大 多久 多长 多远 是不是 是否 有没有 能不能 能否 可不可以 可以
请问 请告诉我 能告诉我 告诉我 请帮我找 帮我找 请帮我 帮我 请给我 给我 找一下 查一下 说一下 解释一下
介绍一下 说明一下 一下 我想知道 想知道 我想了解 想了解 我想 我要 你知道 知道 你能 您能 麻烦你 麻烦 吗 呢
"""
_CHINESE_LOOKALIKES = """
周一下午 期一下午 一下午 一下子 统一下 唯一下 单一下 任何时 许多大 很多大 功能不能 性能不能 不能否认 自我要求
自我想象 许可以 认可以 吗啡 呢绒 呢子 毛呢
"""
_in_questions = lazy_pattern(
    rf"(?P<lookalike>{'|'.join(_CHINESE_LOOKALIKES.split())})|"
    r"(?<=\w)['’](?i:s|m|d|ll|re|ve)\b|\b\w+(?i:n['’]t)\b|"
    + "|".join(sorted(_IN_CHINESE_QUESTIONS.split(), key=len, reverse=True))
)
"""Matches phrases of Chinese questions, and the ends of shortened English words, as in `what's`.
`lookalike`: words that only seem to contain such a phrase, as 周一下午 contains 一下.
"""


def without_question_words(question: str) -> str:
    """Return a readable question without the phrases of Chinese questions and without the second parts of
    shortened English words, unless nothing else is left.

    Characters of a phrase would form pairs with other characters, as 么构 in 怎么构建, which few texts have.
    """
    if question.isascii() and "'" not in question:
        return question
    others = _in_questions().sub(lambda match: match["lookalike"] or " ", comparable(question))
    return others if _WORD.search(others) else question


def is_stop_word(word: str) -> bool:
    """Return whether the word occurs in most questions or is a single letter of a script without spaces."""
    is_alphabetic = is_unspaced(word) and not has_cjk(word)
    return word in STOP_WORDS or (is_alphabetic and len(characters_of(word)) == 1)


_OTHER_LANGUAGES = (
    """
    aber als am an auch auf aus bei bin bis da das dass dem den der des die dies diese dieser du durch
    ein eine einem einen einer eines er es euch fur gibt habe haben hat hatte ich ihr ihre im in ist
    kann kein keine man mein meine mit muss nach nicht noch nur oder ob sein seine sich sie sind soll
    uber um und uns unser unsere unter vom von vor wann war waren warum was welche welchem welchen
    welcher welches wenn wer werden wie wieviel wir wird wo woher wohin wurde wurden zu zum zur
    bedeutet bitte brauche danke funktioniert gern gerne kannst konnen konnt konnte konntest mir mochte
    passiert sag sage sagen wissen zeig zeige zeigen
    """,
    """
    a ai au aux avec ce ces cet cette comment combien d dans de des doit donc du elle elles en est et
    etait ete il ils j je l la le les leur lors ma mais mes mon n ne nos notre nous on ou par pas peut
    pour pourquoi qu quand que quel quelle quelles quels qui quoi s sa se ses son sont sur ta tes ton tu
    un une vos votre vous y
    aimerais besoin dire dis dites explique expliquer merci moi montre montrez peux plait pourriez pouvez
    sais savoir svp veux voudrais
    """,
    """
    a al como con cual cuales cuando cuanta cuantas cuanto cuantos de del desde donde e el ella ellas
    ellos en era es esa ese esta este esto fue ha han hay la las le les lo los me mi mis muy nos nuestra
    nuestro o para pero por porque que quien se ser si sin sobre son su sus tiene tu un una y
    decir decirme dime explica explicar favor gracias gustaria muestrame necesito podria podrias puede
    puedes quiero quisiera saber
    """,
    """
    a ai al alla alle anche che chi ci come con cosa da dal dalla dei del della delle di dove e era fra
    gli ha hanno i il in io l la le lo ma mi mio nel nella noi non o per perche piu puo qual quale quali
    quando quanti quanto se si sono su sua suo sul sulla tra un una uno
    bisogno dimmi dire dirmi dov favore grazie mostrami potresti puoi sapere spiegami spiegare voglio vorrei
    """,
    """
    в во вы где для до его ее если есть и из или их к как какая какие какой ко когда кто ли мне мой мы
    на над не но о об он она они от по под при с сколько со так то у что чтобы эта эти это этот я
    знать можете можешь нас нужен нужно объясни объясните подскажи подскажите пожалуйста покажи покажите
    расскажи расскажите сказать скажи скажите спасибо хочу
    """,
)
"""Stop words in German, French, Spanish, Italian and Russian, with accents folded."""

_ALSO_ENGLISH = """
a ai al als also am an are as bin come con d da dem den des die dime dire dis do du e en er era es est et
favor for fur gracias grazie ha han has hat hay he her his i in is it j l la le les lo los ma man me merci mes
mi mir mit moi mon my n no nos o ob of on or par pas per plait pour s sa saber sage se si sin so son su sue
sur svp ta to ton tu um un us war was will y
"""
"""Words of other languages that occur in English questions, too, at least in names, and vice versa."""


@functools.cache
def _other_languages() -> Sequence[tuple[frozenset[str], frozenset[str]]]:
    also_english = frozenset(_ALSO_ENGLISH.split())
    stop_words = (frozenset(words.split()) for words in _OTHER_LANGUAGES)
    return [(words, words - also_english) for words in stop_words]


def _foreign_stop_words_in(words: Set[str]) -> Set[str]:
    """Return a question's stop words in languages other than English, if it has two or more in one."""
    of_languages = (
        words & stop_words
        for stop_words, not_english in _other_languages()
        if len(words & stop_words - STOP_WORDS) > 1 and words & not_english
    )
    return frozenset[str]().union(*of_languages)


def stop_words_in(words: Sequence[str], question: str) -> Set[str]:
    """Return the stop words among the words of `question`.

    Those of another language are included if the question has at least two of them. If few documents are in
    that language, these words are rare, and would count more than the others. Words around a question are
    included if it has others, but not `find` in `the find command`, and not `use` in `what is fair use`. A
    capitalized word inside the sentence is a name, as in `the IT department`.
    """
    present = frozenset(words)
    stop_words = frozenset(filter(is_stop_word, present)) | _foreign_stop_words_in(present)
    named = {word for article, word in itertools.pairwise(words) if article in ("a", "an", "the")}
    around = present & _AROUND_QUESTIONS if stop_words else frozenset[str]()
    for word in present & _AROUND_QUESTIONS_WITH.keys():
        around |= present & _AROUND_QUESTIONS_WITH[word] - named
    if len(words) > 2 and words[0] in _REQUESTS and words[1] in _DETERMINERS:
        around |= {words[0]}
    if not present & _AUXILIARIES:
        verbs = around & _VERBS
        for before, word, after in zip(words, words[1:], [*words[2:], ""], strict=False):
            if word in verbs and before not in stop_words | around and after not in ("me", "us"):
                around -= {word}
    if any(word.islower() for word in question.split()):
        names = {name.casefold() for name in _capitalized().findall(question)}
        stop_words, around = stop_words - (names & STOP_WORDS), around - names
    with_around = stop_words | around
    return with_around if present - with_around else stop_words


_WORD = re.compile(r"\w")
_last_word = lazy_pattern(rf"(?:[^\W_{UNSPACED}]|[{_SIGNS}]){{3,}}\Z")


@dataclass(frozen=True, slots=True)
class Term:
    """A word as written (`surface`, with case and accents folded) and as stored in the index (`stem`).

    `goes_on`: the term also matches longer words that begin with it. `is_guess`: the term replaces a word
    in the question that no document contains. `prefix`: if not empty, the term matches all words with this
    prefix, which may be its other inflections.
    """

    surface: str
    stem: str
    goes_on: bool = False
    is_guess: bool = False
    prefix: str = ""


def terms_of(question: str, *, unfinished: bool = False) -> list[Term]:
    """Return the distinct terms of `question`, without stop words unless there are no others.

    `unfinished`: words that begin with the last word match, too.
    """
    text = readable(question)
    words = stemmed(without_question_words(text))
    stop_words = stop_words_in([term.surface for term in words], text)
    distinctive = [term for term in words if term.surface not in stop_words]
    if _is_in_inflected_language(question, {term.surface for term in words}):
        distinctive = _with_prefixes(distinctive)
    terms = list({term.stem: term for term in distinctive or words}.values())[: 2 * MAX_TERMS]
    if unfinished:
        for term in stemmed(last_word(question)):
            surface, stem = f"{HYPHEN_MARK}{term.surface}", f"{HYPHEN_MARK}{term.stem}"
            terms.append(Term(term.surface, term.stem, goes_on=True))
            terms.append(Term(surface, stem, goes_on=True, is_guess=True))
    return terms


_ONLY_ENGLISH = STOP_WORDS.difference(_ALSO_ENGLISH.split())
_accented = lazy_pattern("[\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f]")
_VIETNAMESE = re.compile("[ƠơƯư\u1ea0-\u1ef9]")


def is_vietnamese(text: str) -> bool:
    """Return whether `text` contains a letter that only Vietnamese has."""
    return not text.isascii() and _VIETNAMESE.search(text) is not None


def _is_in_inflected_language(question: str, words: Set[str]) -> bool:
    """Return whether a question seems to be in a language with Latin letters and inflections, other than
    English. Vietnamese has none.
    """
    if is_vietnamese(question):
        return False
    if _foreign_stop_words_in(words):
        return True
    return words.isdisjoint(_ONLY_ENGLISH) and _accented().search(question) is not None


def _with_prefixes(terms: Sequence[Term]) -> list[Term]:
    """Return the terms with their prefixes, except different words with the same prefix."""
    prefixes = {term.stem: _prefix_of(term) for term in terms}
    counts = Counter(prefixes.values())
    unique = {stem: prefix for stem, prefix in prefixes.items() if counts[prefix] == 1}
    return [replace(term, prefix=unique.get(term.stem, "")) for term in terms]


_MIN_PREFIX = 5  # letters


def _prefix_of(term: Term) -> str:
    """Return the letters that other inflections of a word probably have in common with it, or "" if the word
    is too short.

    SQLite stems prefixes, like all words, as if they were English, which must not change them.
    """
    word = term.surface
    if not (word.isascii() and word.isalpha()):
        return ""
    longest = _MIN_PREFIX + (len(word) - _MIN_PREFIX) // 3
    for length in range(min(longest, len(word) - 1), _MIN_PREFIX - 1, -1):
        prefix = word[:length]
        if term.stem.startswith(prefix) and Tokeniser().tokens(prefix) == [prefix]:
            return prefix
    return ""


def stemmed(text: str) -> list[Term]:
    """Return the words in `text` as stored in the index, each with its surface form.

    Hyphenated words have only their parts: `hyphenation_variants` returns their other forms.
    """
    plain = " ".join(words_and_forms(text, has_hyphenated=False))
    stems, surfaces = Tokeniser(SQLITE_TOKENISER).tokens(plain), Tokeniser(SQLITE_TOKENISER[1:]).tokens(plain)
    return [Term(surface, stem) for surface, stem in zip(surfaces, stems, strict=True)]


def word_with(stem: str, text: str = "") -> str:
    """Return a word that has this stem, from `text` if possible, or a phrase that has these stems.

    Searching for the stem itself, such as `databas`, would stem it a second time.
    """
    if len(parts := stem.split()) > 1:
        return " ".join(word_with(part, text) for part in parts)
    possible = stemmed(" ".join([text, *inflections_of(stem), f"{stem}e"]))
    return next((term.surface for term in possible if term.stem == stem), stem)


def is_unspaced(word: str) -> bool:
    """Return whether the word is in a script that has no spaces between words."""
    return not word.isascii() and unspaced_runs().search(word) is not None


def has_cjk(text: str) -> bool:
    """Return whether `text` contains Chinese, Japanese or Korean characters."""
    return not text.isascii() and cjk_runs().search(text) is not None


class _Tokenisers(threading.local):
    """A cache of SQLite's tokenizers for each thread, keyed by their arguments. A search uses a tokenizer
    for every passage.
    """

    def __init__(self) -> None:
        self.made = dict[tuple[str, ...], apsw.FTS5Tokenizer]()


_tokenisers = _Tokenisers()


class Tokeniser:
    """SQLite's tokenizer, for an index outside SQLite. Not thread-safe."""

    def __init__(self, arguments: Sequence[str] = SQLITE_TOKENISER) -> None:
        name, *options = key = tuple(arguments)
        if key not in _tokenisers.made:
            # Any connection provides it, and lives as long as the tokeniser.
            _tokenisers.made[key] = apsw.Connection(":memory:").fts5_tokenizer(name, options)
        self._tokeniser, self._is_stemming = _tokenisers.made[key], name == SQLITE_TOKENISER[0]

    def words(self, text: str, version: int = TOKENISER) -> list[str]:
        """Return the words in `text` in order."""
        return self.tokens(" ".join(words_and_forms(text, version)))

    def spans(self, text: str) -> list[tuple[int, int, str]]:
        """Return the tokens into which SQLite splits words separated by spaces, each with its start and end
        in the UTF-8 bytes of `text`.
        """
        tokens = self._tokeniser(text.encode(), apsw.FTS5_TOKENIZE_DOCUMENT, None, include_colocated=False)
        return cast("list[tuple[int, int, str]]", tokens)

    def tokens(self, text: str) -> list[str]:
        """Return the tokens into which SQLite splits words separated by spaces."""
        text = without_endings(text) if self._is_stemming else text
        tokens = self._tokeniser(
            text.encode(), apsw.FTS5_TOKENIZE_DOCUMENT, None, include_offsets=False, include_colocated=False
        )
        return list(map(str, tokens))


# -- words as people wrote them ----------------------------------------------------------------------------


class ComparableText:
    """A text in comparable form (`plain`, in which `㎡` is `m2`), with each character's position in the
    original text.
    """

    def __init__(self, text: str) -> None:
        """Convert `text`.

        It must have been cleaned by `legible`, so that it can be converted one character at a time.
        """
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
    """A word with its start and end in a text in comparable form.

    `is_form`: whether it is another form of the word at that position.
    """

    start: int
    end: int
    surface: str
    stem: str
    is_form: bool = False


def words_in(plain: str) -> Iterator[Word]:
    """Yield the words of a text in comparable form as stored in the index, except for scripts without
    spaces.
    """
    splitter, stemmer = Tokeniser(SQLITE_TOKENISER[1:]), Tokeniser()

    def words_of(text: str) -> Iterator[Word]:
        encoded = text.encode()
        character = byte = 0  # the tokeniser counts bytes
        for (first, last, surface), stem in zip(splitter.spans(text), stemmer.tokens(text), strict=True):
            start = character + len(encoded[byte:first].decode())
            character, byte = start + len(encoded[first:last].decode()), last
            yield Word(start, character, surface, stem)

    blanked = plain if plain.isascii() else unspaced_runs().sub(lambda run: " " * len(run[0]), plain)
    yield from words_of(blanked)
    for start, end, form in itertools.chain(forms_in(plain), number_forms_in(plain), hyphenated_in(plain)):
        for word in words_of(form):
            yield Word(start, end, word.surface, word.stem, is_form=True)
    for start, end, form in dates_in(plain):
        yield Word(start, end, form, form)  # shown as written, because nobody writes the form


def written_terms(text: str) -> Iterator[tuple[Term, str]]:
    """Yield the words in `text` as stored in the index, each with its form as written in `text`."""
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


def contains_sequence(tokens: Sequence[str], sought: Sequence[str]) -> bool:
    """Return whether `tokens` contains the tokens `sought` in direct succession."""
    length = len(sought)
    return any(tokens[at : at + length] == sought for at, token in enumerate(tokens) if token == sought[0])


def naming_text(title: str | None, tags: Sequence[str], path: str) -> str:
    """Return the searchable text of a document that isn't part of its content: its title, its tags, and
    its file name without the extension.
    """
    stem = path.rpartition("/")[2].rpartition(".")[0] or path.rpartition("/")[2]
    return "\n".join([title or "", *tags, stem.encode("utf-8", "replace").decode()]).strip()


def last_word(question: str) -> str:
    """Return the word at the very end of `question`, in comparable form, if it may be the beginning of a
    longer one.

    Otherwise, return "". With fewer than three characters, it could be the beginning of too many words. In
    scripts without spaces, every word is complete.
    """
    match = _last_word().search(comparable(readable(question)))
    return match[0] if match else ""


def readable(question: str) -> str:
    """Return the part of `question` to search for, cleaned in the same way as texts, or "" if it contains no
    word.
    """
    text = legible(question[:LONGEST])
    return text if _WORD.search(text) else ""
