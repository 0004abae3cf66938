"""Recognizes names and paths of files in questions."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from urllib.parse import unquote

from kbsync.index.dates import compact_dates, whole_dates
from kbsync.index.read.formats import EXTENSIONS
from kbsync.index.words import SQLITE_TOKENISER, Tokeniser, comparable, contains_sequence, words_and_forms

_MAX_NAME_LENGTH = 255
"""Maximum length of a file name in characters."""

_PASTED_PATH = re.compile(r"(?:(?P<url>file://)[^/]*|[A-Za-z]:|~|\.{1,2})?(?P<path>[/\\].+)", re.DOTALL)


def _pasted_path(question: str) -> str:
    """Return the path, without its beginning, if the question is an absolute path, a path that begins with a
    dot or a tilde, or the URL of a file. Return "" for other questions.
    """
    match = _PASTED_PATH.fullmatch(question.strip())
    if match is None:
        return ""
    path = unquote(match["path"]) if match["url"] else match["path"].replace("\\", "/")
    return path.strip("/")


_LINE_IN_FILE = re.compile(r"(?<=\w)(?::[0-9]+(?:[:-][0-9]+)?:?|#L[0-9]+(?:-L?[0-9]+)?)\s*\Z")
_FILE_NAME = re.compile(r"/|\.[A-Za-z]\w*\Z")
_PATH_OF_FILE = re.compile(r"/[^/]*\.[A-Za-z]\w*\s*\Z")


def _without_line(question: str) -> str:
    """Return the question without the line number that follows a file's name, as in `plan.md:3`."""
    name = _LINE_IN_FILE.sub("", question)
    return name if _FILE_NAME.search(name) else question


def names_sought(question: str) -> list[str]:
    """Return the words of the file names that the question may be: the whole question and, if it is a path,
    its last part.

    Each name is returned with and without its extension, which may follow a space. A line number after it and
    names that are too long are left out. If the question is a date, its form is returned, too.
    """
    dates = _date_named(question)
    question = _without_line(question)
    question = _pasted_path(question) or question
    last = question.rpartition("/")[2]
    whole = [name for name in (question, last) if 0 < len(name) <= _MAX_NAME_LENGTH]
    tokeniser = Tokeniser(SQLITE_TOKENISER[1:])  # without stems, which a search would stem a second time
    names = [form for name in whole for form in (name, name.rpartition(".")[0])]
    before, _, extension = last.rstrip().rpartition(" ")
    if extension.lower() in EXTENSIONS:
        names += [before][: len(whole)]
    plain = (words_and_forms(name)[0] for name in names)
    return list(filter(None, dict.fromkeys([*(" ".join(tokeniser.tokens(name)) for name in plain), *dates])))


def _date_named(name: str) -> set[str]:
    """Return the forms of the date if `name` is nothing but a date, in any notation."""
    text = comparable(name).strip()
    if compact_dates(text) == [text]:
        return {text}
    return {form for start, end, form in whole_dates(text) if (start, end) == (0, len(text))}


def find_named(question: str, paths: Iterable[tuple[int, str]]) -> list[int]:
    """Return the numbers of the paths whose file name equals the question, or is the same date.

    If the question contains slashes, return the paths that end with it or, if one path equals it, only
    that path. The question may omit the extension, and may end with a line number. If the question begins
    outside the mirrored folder, as an absolute path or a path from the folder's parent does, return the
    longest of the paths that it ends with.
    """
    question, numbered_paths = _without_line(question), list(paths)
    if pasted_path := _pasted_path(question):
        return _find_named(pasted_path, numbered_paths, begins_outside=True)
    named = _find_named(question, numbered_paths)
    if not named and _PATH_OF_FILE.search(question):
        named = _find_named(question, numbered_paths, begins_outside=True)
    return named


def _find_named(
    question: str, paths: Iterable[tuple[int, str]], *, begins_outside: bool = False
) -> list[int]:
    """Like `find_named`, for a question without a line number.

    `begins_outside`: the question is a path that begins outside the mirrored folder.
    """
    sought = question.split("/")
    tokeniser = Tokeniser(SQLITE_TOKENISER[1:])

    def words_of(name: str) -> list[str]:
        return tokeniser.tokens(words_and_forms(name)[0])  # `meeting-notes` is `meeting notes`

    question_words, depth = words_of(question), len(sought)
    equal, named, dates = defaultdict[int, list[int]](list), list[int](), _date_named(question)
    for number, path in paths:
        parts = path.encode("utf-8", "replace").decode().split("/")
        names = {"/".join(parts[-count:]): question_words for count in (1, depth)}
        if begins_outside and len(parts) <= depth:
            names = {"/".join(parts): words_of("/".join(sought[-len(parts) :]))}
        for name, words_sought in names.items():
            folder, slash, last = name.rpartition("/")
            without = f"{folder}{slash}{last.rpartition('.')[0]}"
            is_date = bool(dates) and not dates.isdisjoint(_date_named(last.rpartition(".")[0] or last))
            if is_date or words_sought in (words_of(name), words_of(without)):
                named.append(number)
                is_whole_path = len(parts) <= depth if begins_outside else slash and len(parts) == depth
                if is_whole_path:
                    equal[len(parts)].append(number)
    return equal[max(equal)] if equal else named


def whole_name_test(question: str) -> Callable[[str], bool]:
    """Return a function that checks whether a path's file name, without its extension, is part of the
    question.

    The name must have several words, or be a date, which the question may have in a different notation. The
    question may omit the number or date at the beginning of a name.
    """
    tokeniser, plain = Tokeniser(SQLITE_TOKENISER[1:]), comparable(question)
    question_tokens = tokeniser.tokens(plain)
    dates = {*(form for _, _, form in whole_dates(plain)), *compact_dates(plain)}

    def has_name(path: str) -> bool:
        stem = path.rpartition("/")[2].rpartition(".")[0].encode("utf-8", "replace").decode()
        name = tokeniser.tokens(comparable(stem))
        without_number = list(itertools.dropwhile(str.isdecimal, name))
        if any(
            len(words) > 1 and contains_sequence(question_tokens, words) for words in (name, without_number)
        ):
            return True
        return bool(dates) and not dates.isdisjoint(_date_named(stem))

    return has_name
