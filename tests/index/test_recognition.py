"""Scanned pages, read by the real models (the extra `ocr`) in their own process."""

from __future__ import annotations

import ctypes
import time
import zlib
from collections.abc import Iterator

import pypdfium2
import pytest

from kbsync.errors import Rejected
from kbsync.index.fence.parser import PageParser
from kbsync.index.scans import is_installed
from tests.index import samples
from tests.programs import do_without
from tests.security import attacks
from tests.share import long
from tests.targets.bodies import BytesBody

LINES = ("Kestrels nest in the old tower.", "The keeper counts 4711 eggs; tickets cost 3.50 euros.")
LONGEST = 130.0
"""The most seconds for a page, twice that if its process ends."""


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageParser]:
    if not is_installed():
        do_without("the extra ocr")
    parser = PageParser(tmp_path_factory.mktemp("state") / "spool")
    yield parser
    parser.close()


def scan(*lines: str) -> bytes:
    """Return a page that is a picture of these lines."""
    with pypdfium2.PdfDocument(samples.pdf([lines])) as document:
        bitmap = document[0].render(scale=200 / 72, grayscale=True)
        pixels = ctypes.string_at(bitmap.buffer, bitmap.stride * bitmap.height)
    rows = [pixels[start : start + bitmap.width] for start in range(0, len(pixels), bitmap.stride)]
    picture = attacks.picture_of(bitmap.width, bitmap.height, zlib.compress(b"".join(rows)))
    return attacks.scanned(picture)


@long
def test_scanned_page_lines_are_recognized_offline(parser: PageParser) -> None:
    text = parser.read_page("a.pdf", BytesBody(scan(*LINES)), 1)
    assert text.split() == " ".join(LINES).split()


@long
@pytest.mark.parametrize("name", attacks.SCANS)
def test_hostile_page_is_read_or_refused_within_its_limits(parser: PageParser, name: str) -> None:
    body = BytesBody(attacks.SCANS[name]())
    began = time.monotonic()
    try:
        assert len(parser.read_page("a.pdf", body, 1)) < 1_000
    except Rejected as refusal:
        assert refusal.code in ("damaged", "memory", "timeout", "crash", "no-text")
    assert time.monotonic() - began < LONGEST
    assert LINES[0] in parser.read_page("a.pdf", BytesBody(scan(*LINES)), 1)
