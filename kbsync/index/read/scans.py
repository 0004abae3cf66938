"""Reads scanned pages: pdfium renders a page, and RapidOCR recognizes its lines (the `ocr` extra).

The models, for Chinese and English, come with the package; kbsync doesn't download anything.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any

import pypdfium2

from kbsync.index.document import Parsed
from kbsync.index.read.pdf import Line, joined
from kbsync.index.read.text import escaped, tidied
from kbsync.index.read.zip import damaged

_MAX_SIDE_PIXELS = 2000  # pixels; the recognizer makes larger pictures smaller
_FINEST = 200 / 72  # pixels per point: 200 dpi
_INK = 160  # pixels darker than this are not paper
_MARGIN = 40  # pixels of paper to leave around the ink: the recognizer misses a line on an empty page
_MIN_SIDE_PIXELS = 736  # pixels; the recognizer makes smaller pictures larger
_NEAR = 0.9  # line heights between two lines of a paragraph, at most
_OVERLAP = 0.5  # share of the narrower line that two lines of a column have in common, at least
_REMEMBERED = 1_000  # pages: a small file may repeat one page thousands of times

Picture = Any
"""An image as a NumPy array: rows of pixels, each with its blue, green and red values."""

Recognize = Callable[[Picture], Iterable[Line]]


class ScanReader:
    """Reads single pages of PDF files. `recognize` returns the lines in a picture, from top to bottom."""

    def __init__(self, recognize: Recognize) -> None:
        self._recognize = recognize
        self._texts = dict[bytes, str]()

    def read_page(self, raw: bytes, number: int) -> Parsed:
        """Return the text of the page with this number, starting from 1. Raises `Rejected`."""
        try:
            with closing(pypdfium2.PdfDocument(raw)) as document:
                picture = _without_margins(_draw(document[number - 1]))
        except pypdfium2.PdfiumError as error:
            raise damaged("a page of the PDF is damaged") from error
        if not picture.size:
            return Parsed("")
        key = hashlib.sha256(picture).digest() + bytes(str(picture.shape), "ascii")
        if key not in self._texts:
            if len(self._texts) >= _REMEMBERED:
                self._texts.clear()
            self._texts[key] = "\n\n".join(_paragraphs(self._recognize(picture)))
        return Parsed(self._texts[key])


def _draw(page: pypdfium2.PdfPage) -> Picture:
    width, height = page.get_size()
    if not 0 < width < math.inf or not 0 < height < math.inf:
        raise damaged("a page of the PDF is damaged")
    scale = min(_FINEST, _MAX_SIDE_PIXELS / max(width, height))
    return page.render(scale=scale, may_draw_forms=False).to_numpy()


def _without_margins(picture: Picture) -> Picture:
    import numpy as np

    ink = picture.min(axis=2) < _INK
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return picture[:0]
    (top, bottom), (left, right) = ((int(edges[0]), int(edges[-1]) + 1) for edges in (rows, columns))
    bottom, right = (
        max(bottom + _MARGIN, top + _MIN_SIDE_PIXELS),
        max(right + _MARGIN, left + _MIN_SIDE_PIXELS),
    )
    return np.ascontiguousarray(picture[max(0, top - _MARGIN) : bottom, max(0, left - _MARGIN) : right])


def _paragraphs(lines: Iterable[Line]) -> Iterator[str]:
    """Yield the paragraphs.

    A line continues the one above it if the two are close together and in the same column.
    """
    groups = list[list[Line]]()
    for line in _whole(lines):
        above = (group for group in reversed(groups[-100:]) if _continues(group[-1], line))
        if group := next(above, None):
            group.append(line)
        else:
            groups.append([line])
    for group in groups:
        for line, following in pairwise(group):
            if line.text.endswith("-") and following.text[:1].islower():
                line.text, line.is_hyphenated = line.text[:-1], True
        if text := tidied(joined(group, set())):
            yield escaped(text)


def _whole(lines: Iterable[Line]) -> Iterator[Line]:
    """Yield whole lines. The recognizer returns words with a wide gap between them as separate lines."""
    before: Line | None = None
    for line in lines:
        if before is not None:
            is_beside = abs(line.base - before.base) < 0.5 * before.size
            if is_beside and -0.5 * before.size < line.left - before.right < 1.5 * before.size:
                before.text, before.right = f"{before.text} {line.text}", line.right
                continue
            yield before
        before = line
    if before is not None:
        yield before


def _continues(above: Line, line: Line) -> bool:
    common = min(above.right, line.right) - max(above.left, line.left)
    narrower = max(1.0, min(above.right - above.left, line.right - line.left))
    gap = above.base - line.base - line.size  # `base` grows upwards
    is_alike = 0.6 < above.size / line.size < 1.6
    return is_alike and common >= _OVERLAP * narrower and -line.size < gap < _NEAR * line.size


def load() -> ScanReader:
    """Load RapidOCR and its models. Raises ImportError without the `ocr` extra."""
    from rapidocr import RapidOCR

    engine = RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_cls": False,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )

    def recognize(picture: Picture) -> Iterator[Line]:
        result = engine(picture)
        if result.txts is None or result.boxes is None:
            return
        for text, corners in zip(result.txts, result.boxes, strict=True):
            across, down = [float(x) for x, _ in corners], [float(y) for _, y in corners]
            top, bottom = min(down), max(down)
            yield Line(text, min(across), max(across), -bottom, max(1.0, bottom - top))

    return ScanReader(recognize)
