"""Tests harmful documents: each is refused or read within its limits, and others continue."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from kbsync.errors import Rejected
from kbsync.index.fence.parser import Bounds, Parser
from tests.security.attacks import ATTACKS
from tests.share import enumerated, long
from tests.targets.bodies import BytesBody

MIB = 1024 * 1024
TIMEOUT = 2.0
CODES = {"bomb", "damaged", "memory", "timeout", "output", "crash", "no-text", "scanned", "binary"}


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parser]:
    spool = tmp_path_factory.mktemp("state") / "spool"
    parser = Parser(spool, Bounds(TIMEOUT, 512 * MIB, 8 * MIB))
    yield parser
    parser.close()


ENTITIES = ("a billion laughs in", "a quadratic entity in", "an outside entity in")
LONGER = ("a size that lies", "a size that lies about the text", "a chapter whose size lies")
"""A part longer than it says is not unpacked."""


@long
@enumerated()
@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_refused_or_read_within_limits_and_the_next_document_is_read(parser, name):
    extension, build = ATTACKS[name]
    raw = build()
    began = time.monotonic()
    try:
        text = parser.parse(f"x.{extension}", BytesBody(raw)).text
        assert len(text) <= 8 * MIB and "root:" not in text and name not in LONGER
        assert not name.startswith(ENTITIES) or ("haha" not in text and "hhh" not in text)
    except Rejected as refusal:
        codes = ("bomb", "damaged") if name.startswith(ENTITIES) else CODES
        assert refusal.code in (("damaged",) if name in LONGER else codes)
        assert refusal.reason and len(refusal.reason) < 600
    assert time.monotonic() - began < 30  # twice, where it crashed, and a new process each
    assert parser.parse("x.html", BytesBody(b"<p>an honest page")).text == "an honest page"
