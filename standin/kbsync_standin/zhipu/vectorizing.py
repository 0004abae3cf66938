"""The status of a document over time, decided when vectorizing begins."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kbsync_standin.zhipu.calling import PUNCTUAL, Calling
from kbsync_standin.zhipu.documents import (
    CORRUPT,
    FULL_CHARACTERS,
    FULL_SPACE,
    HONEST,
    Disguise,
    Document,
    FailInfo,
    Failing,
    Phase,
)
from kbsync_standin.zhipu.naming import extension

_TEXTS = frozenset({"txt", "md", "csv"})
_BLANKS = b" \t\r\n\x0b\x0c\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Script:
    """What a fault has in store for a document, at its upload or when it is vectorized again.

    stuck: the status stays 0. polls: so many looks show 0 first. failing: this run and maybe more fail.
    tail: phases after it was ready, as seconds since then and the status. disguise, disguised: lies in
    answers, and for how many seconds. unlisted, undetailed: so long the list, the detail lacks it.
    calling: how its end is told to the address that wants to know.
    """

    stuck: bool = False
    polls: int = 0
    failing: Failing | None = None
    tail: tuple[Phase, ...] = ()
    disguise: Disguise = HONEST
    disguised: float = math.inf
    unlisted: float = 0.0
    undetailed: float = 0.0
    calling: Calling = PUNCTUAL


PLAIN = Script()


@dataclass(frozen=True, slots=True)
class Terms:
    """The circumstances of one run: its start, how long it takes, and what the account can pay."""

    now: float
    seconds: float
    stale: float
    is_paid: bool
    keeps_info: bool
    full: str


def start(document: Document, terms: Terms, script: Script) -> None:
    """Decide all phases of the run that begins now."""
    before = document.phase(terms.now) if document.phases else None
    document.failing = script.failing or document.failing
    document.polls = script.polls
    if script.disguise is not HONEST:
        document.disguise = script.disguise.over(document.disguise)
        document.disguise_ends = terms.now + script.disguised
    document.phases = (*_opening(terms, before), *_ending(document, terms, script, before is not None))


def _opening(terms: Terms, before: Phase | None) -> tuple[Phase, ...]:
    if before is None:
        return (Phase(terms.now, 0),)
    info = before.info if terms.keeps_info else None
    under_way = Phase(terms.now + terms.stale, 0, info)
    return (Phase(terms.now, before.stat, before.info), under_way) if terms.stale else (under_way,)


def _ending(document: Document, terms: Terms, script: Script, is_again: bool) -> tuple[Phase, ...]:
    if script.stuck or not terms.is_paid:
        return ()
    ready = terms.now + max(terms.seconds, terms.stale if is_again else 0.0)
    failure = _failure(document, terms)
    if failure is not None:
        return (Phase(ready, 2, failure.info),)
    return (Phase(ready, 1), *(Phase(ready + late.at, late.stat, late.info) for late in script.tail))


def _failure(document: Document, terms: Terms) -> Failing | None:
    if document.failing.runs:
        told = document.failing
        document.failing = Failing(told.runs - 1, told.info)
        return told
    if not document.counts:
        return Failing(1, FULL_CHARACTERS if terms.full == "10002" else FULL_SPACE)
    info = trouble(document)
    return None if info is None else Failing(1, info)


def trouble(document: Document) -> FailInfo | None:
    """Why this content cannot be vectorized: nothing in it, no text, or a `.md` without a type.

    The last was seen live: 128 bytes of `.md` sent without `knowledge_type` ended as "corrupt".
    """
    kind = extension(document.sent_name)
    is_blank = not document.content.strip(_BLANKS)
    is_binary = kind in _TEXTS and b"\0" in document.content
    is_untyped = kind == "md" and document.slicing.knowledge_type == 0
    return CORRUPT if is_blank or is_binary or is_untyped else None
