"""Finds other spellings of a word: British and American ones, and irregular plurals. Pure.

A question's word also finds its variants. They are neither in the index nor embedded.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping

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


@functools.cache
def _endings() -> re.Pattern[str]:
    return re.compile(
        rf"(?P<our>(?:dis|mis)?(?:{_BEFORE_OUR})o(?P<u>u?)r(?:{_AFTER_OUR}))"
        r"|[a-z]{3,}[iy](?P<ise>[sz])(?:e|ed|er|ers|es|ing|able|ation|ations|ational)"
        r"|[a-z]{2,}[bt](?P<tre>re|er)s?"
        r"|[a-z]{3,}og(?P<ogue>(?:ue)?)s?"
        r"|[a-z]{2,}en(?P<ence>[cs])es?"
        r"|[a-z]*[aeiou][b-df-hj-np-tv-z]{1,2}[aeiou]l(?P<double>l?)(?:ed|er|ers|ing|ings|or|ors)"
    )


def variants_of(word: str) -> Iterator[str]:
    """Yield other spellings of a word in lower case: `colour`, `center`, `organise`, `children` for `color`,
    `centre`, `organize`, `child`, and vice versa. Not all of them exist."""
    if other := _pairs().get(word):
        yield other
    elif match := _endings().fullmatch(word):
        part = "u" if match["our"] is not None else str(match.lastgroup)
        start, end = match.span(part)
        yield f"{word[:start]}{_swapped(part, match[part])}{word[end:]}"


def _swapped(part: str, written: str) -> str:
    match part:
        case "tre":
            return written[::-1]
        case "ise":
            return "z" if written == "s" else "s"
        case "ence":
            return "c" if written == "s" else "s"
    return "" if written else {"u": "u", "ogue": "ue", "double": "l"}[part]


def variants_in(words: Iterable[str]) -> list[str]:
    """Return the other spellings of some words, as many as a search may look for."""
    variants = dict.fromkeys(itertools.chain.from_iterable(map(variants_of, words)))
    return list(itertools.islice(variants, MAX_VARIANTS))
