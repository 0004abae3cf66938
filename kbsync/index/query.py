"""What is looked for: the words of a question that tell one document from another."""

from __future__ import annotations

import re
from dataclasses import dataclass

import apsw

from kbsync.index.tokens import CJK, SQLITE_TOKENISER, words

LONGEST = 4_000
"""Characters of a question that are read; a whole pasted document finds nothing better than its beginning."""

MOST_TERMS = 64

_ENGLISH = """
a about also am an and any are as at be been being but by can could did do does doing for from had has have
having he her hers him his how i if in into is it its itself many me much my of on or our ours she should so
some such than that the their theirs them then there these they this those to too us was we were what when
where which while who whom whose why will with would you your yours
"""
_CHINESE = """
的 了 是 在 和 与 及 或 有 被 把 对 从 到 为 以 于 之 其 这 那 哪 谁 何 吗 呢 吧 么 也 都 就 而 请 问 什 几
个 些 我 你 他 她 它 们 什么 哪些 哪个 哪里 多少 怎么 怎样 如何 为什 为何 何时 是什 是谁
谁是 几个 是否 有多 么是 么时 在哪 个是
"""
STOP_WORDS = frozenset(_ENGLISH.split()) | frozenset(_CHINESE.split())
"""Words that questions are made of; they are looked for only when there are no others."""

_FTS = apsw.FTS5_TOKENIZE_QUERY
_WORD = re.compile(r"\w")
_AT_THE_END = re.compile(rf"[^\W_{CJK}]{{3,}}\Z")


@dataclass(frozen=True, slots=True)
class Term:
    """A word as it is written (`surface`, case and accents folded) and as the index has it (`stem`).

    `goes_on`: any word that begins so.
    """

    surface: str
    stem: str
    goes_on: bool = False

    @property
    def match(self) -> str:
        """The term in a full-text query of SQLite."""
        return f'"{self.surface}"*' if self.goes_on else f'"{self.surface}"'


class QueryWords:
    """Finds the terms of questions with the very tokeniser of the index."""

    def __init__(self, connection: apsw.Connection) -> None:
        """`connection` lends its tokenisers."""
        self._stems = connection.fts5_tokenizer(SQLITE_TOKENISER[0], list(SQLITE_TOKENISER[1:]))
        self._surfaces = connection.fts5_tokenizer(SQLITE_TOKENISER[1], list(SQLITE_TOKENISER[2:]))

    def terms(self, question: str) -> list[Term]:
        """The distinct terms of `question`, without stop words unless there is nothing else."""
        text = words(readable(question)).encode()
        stems, surfaces = _tokens(self._stems, text), _tokens(self._surfaces, text)
        every = {stem: Term(surface, stem) for stem, surface in zip(stems, surfaces, strict=True)}
        telling = [each for each in every.values() if each.surface not in STOP_WORDS]
        return (telling or list(every.values()))[: 2 * MOST_TERMS]

    def beginnings(self, question: str) -> list[Term]:
        """The words that the last word of `question`, which may not be finished, begins."""
        begun = _tokens(self._surfaces, words(last_word(question)).encode())
        stems = _tokens(self._stems, words(last_word(question)).encode())
        return [Term(surface, stem, goes_on=True) for surface, stem in zip(begun, stems, strict=True)]


def _tokens(tokenizer: apsw.FTS5Tokenizer, text: bytes) -> list[str]:
    """The tokens of `text`."""
    return [str(each) for each in tokenizer(text, _FTS, None, include_offsets=False, include_colocated=False)]


def last_word(question: str) -> str:
    """The word at the very end of `question`, if it may be the beginning of one; "" otherwise.

    Words of fewer than three characters begin too many; what is written without spaces needs no end.
    """
    found = _AT_THE_END.search(readable(question))
    return found[0] if found else ""


def readable(question: str) -> str:
    """The part of `question` that is read, without lone surrogates; "" where it holds no word at all."""
    text = question[:LONGEST].encode("utf-8", "replace").decode()
    return text if _WORD.search(text) else ""
