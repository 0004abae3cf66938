"""Parses the query syntax: `"a phrase"`, `-word`, `-"a phrase"`, `path:GLOB`, `-path:GLOB`, `type:EXT` and
`-type:EXT`.

Quotes may be typographic, and the case of `path` and `type` doesn't matter. Everything else is plain text,
for example an unpaired quote, a hyphen or an apostrophe within a word, a negative number, an option such as
`-i`, or a filter without a value. Parsing takes time linear in the length of the query.
"""

from __future__ import annotations

import re
from dataclasses import replace

from kbsync.contract.searching import Query, parse_types
from kbsync.errors import UsageError

MAX_OPERATORS, MAX_OPERATOR_LENGTH = 16, 500
"""Limits on the operators of a query: their number, and the length of each in characters.

A query that exceeds a limit was probably pasted, so it is read without operators.
"""

# A quote after a letter or digit doesn't open a phrase (5" pipe), except in scripts without spaces.
_OPERATOR = re.compile(
    r"""
    (?<!\S)(?P<minus>-?)(?P<key>(?i:path|type)):(?:"(?P<quoted>[^"]+)"|(?P<value>[^\s"]\S*))
    | (?<!\S)-(?:"(?P<without>[^"]*)"|(?P<word>(?![A-Za-z][.,;:!?)]*(?!\S))[.#@$]?[^\W\d_]\S*))
    | (?<![A-Za-z0-9])"(?P<phrase>[^"]*)"
    """,
    re.VERBOSE,
)
_TYPOGRAPHIC = re.compile(
    r"(?<![A-Za-z0-9])(?:\"[^\"]*\"|“([^“”„\"\u2e80-\u9fff\uac00-\ud7a3]*)”"
    r"|„([^“”„\"]*)[“”]|”([^“”„\"]*)”|«([^«»\"]*)»|»([^«»\"]*)«)"
)
"""Captures text in quotes as word processors and phones write them. Matches text in plain quotes without
capturing it, because other quotes in it are text. Around Chinese, “ and ” are text, because questions in
Chinese have no other quotes: treating them as phrases hid answers in the XQuAD benchmark.
"""
_WORD = re.compile(r"[^\W_]")


class OnlyFiltersError(UsageError):
    """Raised if the query contains nothing but `path:` and `type:` filters."""


def parse_query(query: Query) -> Query:
    """Return `query` with the operators moved from its text to its fields. The words of phrases also stay in
    the text.

    Raises `UsageError` if the operators leave no words to search for, or `OnlyFiltersError` if there is
    nothing but filters.
    """
    typed = _TYPOGRAPHIC.sub(
        lambda match: f'"{match[match.lastindex].strip()}"' if match.lastindex else match[0], query.text
    )
    operators = [match for match in _OPERATOR.finditer(typed) if _WORD.search(match[0])]
    longest = max((len(match[0]) for match in operators), default=0)
    if not operators or len(operators) > MAX_OPERATORS or longest > MAX_OPERATOR_LENGTH:
        return query
    paths, types, phrases, excluded = list[str](), list[str](), list[str](), list[str]()
    excluded_paths, excluded_types = list[str](), list[str]()
    for match in operators:
        value = match["quoted"] or match["value"]
        key = (match["key"] or "").lower()
        if key == "path":
            (excluded_paths if match["minus"] else paths).append(value)
        elif key == "type":
            (excluded_types if match["minus"] else types).extend(parse_types([value]))
        elif match["phrase"]:
            phrases.append(match["phrase"])
        else:
            excluded.append(match["without"] or match["word"])
    text, end = "", 0
    for match in operators:
        text += f"{typed[end : match.start()]} {match['phrase'] or ''} "
        end = match.end()
    text = " ".join(f"{text}{typed[end:]}".split())
    if not _WORD.search(text):
        if not excluded:
            raise OnlyFiltersError("the query has only filters; add a word to search for")
        others = " and filters" if paths or types or excluded_paths or excluded_types else ""
        raise UsageError(f"the query has only excluded words{others}; add a word to search for")
    return replace(
        query,
        text=text,
        paths=(*query.paths, *paths),
        types=(*query.types, *types),
        excluded_paths=tuple(excluded_paths),
        excluded_types=tuple(excluded_types),
        phrases=tuple(phrases),
        excluded=tuple(excluded),
        unfinished=query.unfinished and bool(typed[end:].strip()),
    )
