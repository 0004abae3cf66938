"""What the vendor takes: the documented rules, each broken one a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from kbsync_standin.messages import Request
from kbsync_standin.zhipu.documents import Slicing
from kbsync_standin.zhipu.naming import extension

_PROSE = frozenset({"txt", "doc", "pdf", "url", "docx", "ppt", "pptx", "md"})
_TABLES = frozenset({"xls", "xlsx", "csv"})
_PAGES = frozenset({"pdf", "ppt", "pptx"})

LEGAL: Mapping[int, frozenset[str]] = {1: _PROSE, 2: _PROSE, 3: _TABLES, 5: _PROSE, 6: _PAGES, 7: _TABLES}
"""The extensions that each `knowledge_type` is for."""

SUPPORTED = (_PROSE | _TABLES) - {"url"}
"""Extensions of files that are taken at all."""

OWN_SEPARATORS = 5
_MOST_DIGITS = 18
SENTENCE_SIZES = range(20, 2001)
CALLBACK_FIELDS = frozenset({"callback_url", "callback_header"})

_QUERIES: Mapping[str, frozenset[str]] = {
    "list": frozenset({"knowledge_id", "page", "size", "word"}),
    "bases": frozenset({"page", "size"}),
    "applications": frozenset({"page", "size"}),
    "file": frozenset({"q-sign-time", "q-signature"}),
}


class Breach(Exception):
    """A rule is broken; `str()` says which."""


class Rules:
    """How closely requests are looked at."""

    def __init__(self, is_strict: bool) -> None:
        """`is_strict`: also what could be understood has to be as documented."""
        self._is_strict = is_strict

    def must(self, is_kept: bool, sentence: str) -> None:
        """Raises `Breach` where a request cannot be carried out."""
        if not is_kept:
            raise Breach(sentence)

    def should(self, is_kept: bool, sentence: str) -> None:
        """Raises `Breach` where a strict reader would."""
        self.must(is_kept or not self._is_strict, sentence)

    def only(self, given: Iterable[str], known: Collection[str], what: str) -> None:
        """No names but known ones are there."""
        unknown = sorted(set(given) - set(known))
        self.should(not unknown, f"{what} {', '.join(unknown)} is not documented")


def check_head(request: Request, op: str, rules: Rules) -> None:
    """Cookies and query parameters. Raises `Breach`."""
    rules.should("cookie" not in request.headers, "a cookie was sent")
    rules.only(request.query, _QUERIES.get(op, frozenset()), "the query parameter")


def check_slicing(slicing: Slicing, name: str, given: Collection[str], rules: Rules) -> None:
    """`slicing` is legal for the file name; `given`: the fields that came. Raises `Breach`."""
    kind = extension(name)
    knowledge_type = slicing.knowledge_type
    rules.should("knowledge_type" in given, "knowledge_type is missing")
    is_known = knowledge_type in LEGAL or "knowledge_type" not in given
    rules.must(is_known, f"knowledge_type is {knowledge_type}")
    if kind in SUPPORTED and knowledge_type in LEGAL:
        rules.should(kind in LEGAL[knowledge_type], f"knowledge_type {knowledge_type} is not for .{kind}")
    for field in ("custom_separator", "sentence_size"):
        is_due = knowledge_type == OWN_SEPARATORS or field not in given
        rules.should(is_due, f"{field} goes with knowledge_type 5 only")
    in_range = slicing.sentence_size in SENTENCE_SIZES
    rules.must(in_range, f"sentence_size is {slicing.sentence_size}, not 20 to 2000")


def json_body(request: Request, known: Collection[str], rules: Rules) -> dict[str, Any]:
    """The body, a JSON object with known fields only. Raises `Breach`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    rules.should(kind == "application/json", f"the content type is {kind or 'missing'}, not application/json")
    rules.should(bool(request.body), "the body is missing; at least {} is wanted")
    try:
        value = json.loads(request.body or b"{}")
    except ValueError:
        raise Breach("the body is not JSON") from None
    rules.must(isinstance(value, dict), "the body is not a JSON object")
    rules.only(value, known, "the field")
    return dict(value)


Test = Callable[[Any], bool]


def is_whole(value: Any) -> bool:
    """An integer; JSON's true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def whole(least: int, most: int) -> Test:
    """A test for integers in a range."""
    return lambda value: is_whole(value) and least <= value <= most


def one_of(*choices: Any) -> Test:
    """A test for certain values."""
    return lambda value: any(type(value) is type(choice) and value == choice for choice in choices)


def is_text(value: Any) -> bool:
    """A string that is not empty."""
    return isinstance(value, str) and bool(value)


def is_string(value: Any) -> bool:
    """A string."""
    return isinstance(value, str)


def are_texts(value: Any) -> bool:
    """A list of strings, neither list nor strings empty."""
    return isinstance(value, list) and bool(value) and all(is_text(item) for item in value)


def is_address(value: Any) -> bool:
    """An HTTP address."""
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def is_object(value: Any) -> bool:
    """A JSON object."""
    return isinstance(value, dict)


CALLBACK_TESTS: Mapping[str, Test] = {"callback_url": is_address, "callback_header": is_object}


def check_values(values: Mapping[str, Any], tests: Mapping[str, Test], rules: Rules) -> None:
    """Each value present passes its test. Raises `Breach`."""
    for name, test in tests.items():
        if name in values:
            rules.must(test(values[name]), f"{name} is {values[name]!r:.80}")


def check_needed(values: Mapping[str, Any], needed: Iterable[str], rules: Rules) -> None:
    """All needed names are there. Raises `Breach`."""
    for name in needed:
        rules.must(name in values, f"{name} is missing")


def number_in_query(request: Request, name: str, default: int, rules: Rules) -> int:
    """A query parameter from 1 on. Raises `Breach`."""
    text = request.query.get(name, str(default))
    rules.must(is_digits(text) and int(text) >= 1, f"{name} is {text!r:.80}")
    return int(text)


def is_digits(text: str) -> bool:
    """A number of at most 18 ASCII digits."""
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
