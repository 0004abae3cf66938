"""Real text for a benchmark: the files below a directory, read, chunked and embedded as kbsync does.

Random words are useless for measuring recall, because all texts are equally similar. Any directory with much
text works. The figures in docs/internals/adr/0027 come from documentation and source packages of a
distribution, unpacked with `dpkg-deb -x`.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import zlib
from collections.abc import Iterator, MutableSequence
from pathlib import Path

from kbsync.core.text import extension_of
from kbsync.errors import Rejected
from kbsync.index.chunk import chunk, make_legible
from kbsync.index.document import Chunk, Entry, Parsed
from kbsync.index.embed import LocalEncoder
from kbsync.index.read.formats import DOCUMENTS, EXTENSIONS, NAMES
from kbsync.index.read.html import read_page
from kbsync.index.read.text import parse_text

SEEN = 2**24
"""The size of a shared bitmap in bytes; feeders mark known texts in it, one bit each."""

_LARGEST = 2_000_000  # bytes of a file; larger ones are mostly data
_HELD_OUT = 200  # one file in so many is not stored but used for questions
_TEXTS = EXTENSIONS - DOCUMENTS | {"html", "htm", "xhtml"}


def entries(folder: Path, part: int, parts: int, known_texts: MutableSequence[int]) -> Iterator[Entry]:
    """Yield the documents of one of `parts` feeders, without passages that another document also has."""
    encoder = LocalEncoder()
    for number, (path, parsed) in enumerate(_files(folder, part, parts, held_out=False), 1):
        chunks = tuple(piece for piece in chunk(parsed) if _is_new(piece, known_texts))
        if chunks:
            vectors = encoder.begin(chunks).result()
            digest = hashlib.sha256(path.encode()).hexdigest()
            yield Entry(
                upload_id=number,
                path=path,
                name=path.rpartition("/")[2],
                digest=digest,
                size=len(parsed.text),
                recipe="",
                # Spread the times over three years, so that time filters match a known share.
                modified=1_700_000_000 + int(digest[:8], 16) / 2**32 * 1e8,
                title=parsed.title,
                tags=parsed.tags,
                chunks=chunks,
                vectors={key: piece for key, piece in vectors.items() if isinstance(piece, bytes)},
            )


def questions(folder: Path, count: int) -> list[str]:
    """Return equal numbers of headings, sentences and short phrases from passages that aren't stored."""
    drawn, texts = random.Random(7), dict[str, None]()
    for _, parsed in _files(folder, 0, 1, held_out=True):
        chunks = list(chunk(parsed))
        for piece in drawn.sample(chunks, min(2, len(chunks))):
            match len(texts) % 3:
                case 0:
                    question = piece.headings[-1] if piece.headings else ""
                case 1:
                    question = drawn.choice(re.split(r"(?<=[.;:])\s+", piece.text))[:200]
                case _:
                    words = re.findall(r"[a-zA-Z]{4,20}", piece.text)
                    question = " ".join(drawn.sample(words, min(3, len(words))))
            if len(re.findall(r"[a-zA-Z]{3,}", question)) >= 2:
                texts[" ".join(question.split())] = None
        if len(texts) >= count:
            break
    return list(texts)[:count]


def _is_new(piece: Chunk, known_texts: MutableSequence[int]) -> bool:
    """Mark the text and return whether it was new; one in a hundred new texts counts as known."""
    bit = int(hashlib.sha256(" ".join(piece.text.split()).encode()).hexdigest()[:15], 16) % (
        8 * len(known_texts)
    )
    was = known_texts[bit // 8] & 1 << bit % 8
    known_texts[bit // 8] |= 1 << bit % 8
    return not was


def _files(folder: Path, part: int, parts: int, *, held_out: bool) -> Iterator[tuple[str, Parsed]]:
    """Yield files in an order that mixes folders and is the same in each run."""
    paths = list[str]()
    for directory, folders, names in os.walk(folder):
        folders.sort()
        inside = os.path.relpath(directory, folder)
        paths += (
            os.path.join(inside, name) for name in names if extension_of(name) in _TEXTS or name in NAMES
        )
    for path in sorted(paths, key=lambda path: zlib.crc32(path.encode())):
        mark = zlib.crc32(path.encode()[::-1])
        if (mark % _HELD_OUT == 0) != held_out or mark // _HELD_OUT % parts != part:
            continue
        try:
            raw = (folder / path).read_bytes()
            if len(raw) <= _LARGEST:
                # Parse in this process: the sandbox isn't part of the measurement.
                is_page = extension_of(path) in ("html", "htm", "xhtml")
                yield path, make_legible(read_page(raw) if is_page else parse_text(path, raw))
        except (OSError, Rejected, RecursionError):
            continue
