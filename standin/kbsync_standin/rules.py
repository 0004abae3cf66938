"""Checks requests against a service's rules, which are tables of fields and tests for their values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from kbsync_standin.messages import Response

Test = Callable[[Any], bool]


class Refused(Exception):
    """The service refuses a request that has no mistake.

    `status`, `code`, `kind`: the values of this refusal that differ from the usual ones. `response`: the
    whole response, for a refusal with its own format.
    """

    def __init__(
        self,
        sentence: str,
        status: int = 400,
        code: str | int = "",
        kind: str = "",
        response: Response | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status, self.code, self.kind, self.response = status, code, kind, response


class Violation(Refused):
    """A request breaks a documented rule of the service; `str()` says which one."""


def require(is_met: bool, sentence: str, status: int = 400, code: str | int = "") -> None:
    """Raise `Violation` with the sentence if the request breaks a rule."""
    if not is_met:
        raise Violation(sentence, status, code)


def require_known(names: Collection[str], allowed: Collection[str], label: str = "the field") -> None:
    """Require that all names are documented."""
    unknown = sorted(set(names) - set(allowed))
    require(not unknown, f"{label} {', '.join(unknown)} is not documented")


def require_fields(
    values: Mapping[str, Any], tests: Mapping[str, Test], needed: Collection[str] = ()
) -> None:
    """Require all needed fields, and that each field in the table passes its test."""
    for name in needed:
        require(name in values, f"{name} is missing")
    for name, test in tests.items():
        if name in values:
            require(test(values[name]), f"{name} is {values[name]!r:.80}")


def validate(
    values: dict[str, Any], tests: Mapping[str, Test], needed: Collection[str] = ()
) -> dict[str, Any]:
    """Return the values if they have known fields only and pass the checks of `require_fields`."""
    require_known(values, tests)
    require_fields(values, tests, needed)
    return values


def parse_body(
    text: bytes, tests: Mapping[str, Test], needed: Collection[str] = (), status: int = 400
) -> dict[str, Any]:
    """Parse a JSON object that has no other fields than these. Raises `Violation` with `status`."""
    try:
        return validate(json_object(text), tests, needed)
    except Violation as violation:
        raise Violation(str(violation), status) from None


def json_object(text: bytes, sentence: str = "the body is not a JSON object") -> dict[str, Any]:
    """Parse a JSON object. Raises `Violation` with the sentence for anything else."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Violation(sentence)
    return value


def number_in(texts: Mapping[str, str], name: str, usual: int, least: int = 1, most: int = 10**18 - 1) -> int:
    """Return a whole number in ASCII digits from texts such as query parameters. Raises `Violation`."""
    text = texts.get(name, str(usual))
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and least <= int(text) <= most):
        raise Violation(f"{name} is {text!r:.80}, not a number from {least} to {most}")
    return int(text)


def as_word(value: Any) -> str:
    """Return a value as a string, since people write null and 404 without quotes."""
    return "null" if value is None else str(value)


def is_flag(value: Any) -> bool:
    """Return whether the value is true or false."""
    return isinstance(value, bool)


def are_distinct(values: Collection[Any]) -> bool:
    """Return whether no value comes twice."""
    return len(set(values)) == len(values)


def is_whole(value: Any) -> bool:
    """Return whether the value is an integer; JSON's true and false aren't."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_measure(value: Any) -> bool:
    """Return whether the value is a finite number of at least 0; JSON's true and false aren't."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0


def integer(least: int, most: int) -> Test:
    """Return a test for integers in a range."""
    return lambda value: is_whole(value) and least <= value <= most


def share(least: float, most: float) -> Test:
    """Return a test for numbers in a range."""
    return lambda value: is_measure(value) and least <= value <= most


def one_of(*choices: Any) -> Test:
    """Return a test for certain values."""
    return lambda value: any(type(value) is type(choice) and value == choice for choice in choices)


def or_none(test: Test) -> Test:
    """Return a test that also accepts None."""
    return lambda value: value is None or test(value)


def is_string(value: Any) -> bool:
    """Return whether the value is a string."""
    return isinstance(value, str)


def is_text(value: Any) -> bool:
    """Return whether the value is a string that isn't empty."""
    return isinstance(value, str) and bool(value)


def are_strings(value: Any) -> bool:
    """Return whether the value is a list of strings, which may be empty."""
    return isinstance(value, list | tuple) and all(is_string(item) for item in value)


def are_texts(value: Any) -> bool:
    """Return whether the value is a list of strings, with neither the list nor a string empty."""
    return isinstance(value, list) and bool(value) and all(is_text(item) for item in value)


def is_address(value: Any) -> bool:
    """Return whether the value is an HTTP address."""
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def is_object(value: Any) -> bool:
    """Return whether the value is a JSON object."""
    return isinstance(value, dict)


def are_objects(value: Any) -> bool:
    """Return whether the value is a list of JSON objects that isn't empty."""
    return isinstance(value, list) and bool(value) and all(map(is_object, value))
