"""Tests that any bytes, JSON or name give a value or a refusal in time, never another exception."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, seed, settings

from kbsync.index.fence.child import unpack_answer, unpack_ready
from kbsync.index.read.encoding import decode_declared
from kbsync.index.read.text import parse_text
from tests.security.inputs import FIELDS
from tests.share import enumerated, long


@long
@enumerated()
@pytest.mark.parametrize("field", FIELDS)
def test_any_input_is_parsed_or_refused(field: str) -> None:
    inputs, check = FIELDS[field]

    @seed(20)
    @settings(max_examples=50, deadline=3000, database=None, suppress_health_check=list(HealthCheck))
    @given(inputs)
    def every(value: object) -> None:
        check(value)

    every()


@pytest.mark.parametrize(
    "label", ["idna", "punycode", "undefined", "utf-16", "utf-32", "unicode_escape", "zip"]
)
def test_page_with_an_unknown_encoding_is_read_unchanged(label: str) -> None:
    page = f"<?xml version='1.0' encoding='{label}'?><p>word \\u0041 é</p>".encode("latin-1")
    assert "word \\u0041 é" in parse_text("x.xml", page).text
    assert decode_declared(b"", label) == ""


NO_NUMBERS = ["Infinity", "-Infinity", "NaN", "1e999", '"x"', "[]"]
TEXT = '"title": null, "tags": [], "columns": "", "has_lines": true, "flavour": "rows"'
FRAMES = [
    *("", "[]", "null", "{}", "\xff", "[" * 100_000, '{"resident": 1, "text": {}}'),
    *(f'{{"resident": {value}, "refused": {{"reason": "x", "code": "y"}}}}' for value in NO_NUMBERS),
    *(
        f'{{"resident": 1, "text": {{{TEXT}, "page_starts": [{value}], "line_offset": 0}}}}'
        for value in NO_NUMBERS
    ),
    *(
        f'{{"resident": 1, "text": {{{TEXT}, "page_starts": [], "line_offset": {value}}}}}'
        for value in NO_NUMBERS
    ),
    *(
        f'{{"resident": 1, "text": {{{TEXT}, "page_starts": [], "line_offset": 0, "flavour": {value}}}}}'
        for value in ("null", '"bitter"', "[]", "{}")
    ),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame[:60])
def test_nonsense_response_is_a_target_error(frame: str) -> None:
    for unpack in (unpack_answer, unpack_ready):
        with pytest.raises(ValueError):
            unpack(frame.encode("latin-1"))
