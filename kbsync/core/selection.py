"""Decides which files are mirrored: include, exclude, ignore files, the defaults and the target's limits.
This module does no I/O.

Only the path relative to the mirror's root counts, so a mirror may itself be below `.cache` or in `foo~`. The
first of these that matches an entry decides: the config's `exclude`, the nearest ignore file, the ones above
it, the defaults. In each, the last matching line wins, `!` re-includes, and kbsync doesn't enter an excluded
folder. An entry that none excludes must match `include`, if that is given.

Patterns are gitignore's: one line becomes one regular expression. This is our own implementation, because the
usual libraries match a path together with its parents and fail on names that contain a newline. Here a line
is matched against one entry only. Two differences from git: `?` and `[…]` match one character, not one byte,
and a line that could never match (an unclosed bracket, a range from z to a, a lone backslash, a part such as
`.` or `..`) is an error, because it is probably a mistake.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from kbsync.core.model import SELECTED, FileChoice, FileKind, Formats, Verdict
from kbsync.core.text import extension_of
from kbsync.dataclass import dataclass

_ONE_NAME = "[^/]"
_ANY_FOLDERS = "(?:[^/]+/)*"
_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "\\x21-\\x7e",
    "lower": "a-z",
    "print": "\\x20-\\x7e",
    "punct": "!-/:-@\\[-`{-~",
    "space": " \\t\\n\\r\\f\\v",
    "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}


DOT_SLASH = "./ instead of /"
"""The message for a pattern that begins with a dot as a path in a shell does."""


@dataclass(frozen=True, slots=True)
class PatternLine:
    """A line of gitignore syntax. `rule` is its location, such as `docs/.kbsyncignore:3`."""

    text: str
    rule: str
    is_negated: bool
    folders_only: bool
    by_name: bool
    segments: tuple[str, ...]
    expression: re.Pattern[str]
    above: re.Pattern[str]

    def matches(self, path: str, is_folder: bool) -> bool:
        """Return whether the line matches the entry `path` itself.

        `path` is relative to the folder where the line applies.
        """
        if self.folders_only and not is_folder:
            return False
        subject = path.rpartition("/")[2] if self.by_name else path
        return self.expression.fullmatch(subject) is not None

    def reaches_below(self, folder: str) -> bool:
        """Return whether any path below `folder` could match."""
        return self.by_name or self.above.fullmatch(folder) is not None


def parse(text: str, rule: str) -> PatternLine | None:
    """Parse the line `text` (without its line end). Return None for a blank line, a comment or a line without
    a name.

    Raises ValueError with `rule`, the line and what is wrong with it.
    """
    stripped = _without_trailing_spaces(text)
    if stripped.startswith("#") or not stripped.removeprefix("!").strip("/"):
        return None
    try:
        line = _parse_line(stripped, rule)
        _check_names(line)
        return line
    except ValueError as error:
        raise ValueError(f"{rule}: {error} in {stripped!r}") from None


def parse_file(content: str, path: str) -> tuple[PatternLine, ...]:
    """Return the lines of the ignore file at `path`, in order. Raises a ValueError that names the line."""
    texts = content.removeprefix("\ufeff").split("\n")
    numbered = ((text.removesuffix("\r"), f"{path}:{n}") for n, text in enumerate(texts, 1))
    return tuple(line for text, rule in numbered if (line := parse(text, rule)))


def parse_list(items: Sequence[str], key: str) -> tuple[PatternLine, ...]:
    """Return the items of the list `key` in the config.

    Raises a ValueError that names the item, such as `exclude[0]`.
    """
    numbered = ((text, f"{key}[{index}]") for index, text in enumerate(items))
    return tuple(line for text, rule in numbered if (line := parse(text, rule)))


def decide(lines: Iterable[PatternLine], path: str, is_folder: bool) -> PatternLine | None:
    """Return the line that applies to the entry `path`, or None.

    If several of `lines` match, the last one applies.
    """
    return next((line for line in lines if line.matches(path, is_folder)), None)


def decide_upwards(lines: Sequence[PatternLine], path: str, is_folder: bool) -> PatternLine | None:
    """Return the line that applies to `path` or, if none does, to the nearest folder above it that a line
    matches.

    This lets a list of patterns select files: `docs/` selects everything in the folder, `!docs/draft.md`
    excludes that file.
    """
    while path:
        if line := decide(lines, path, is_folder):
            return line
        path, is_folder = path.rpartition("/")[0], True
    return None


@functools.lru_cache(maxsize=256)
def path_matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that checks whether the pattern matches a file's path or a folder above the file.

    Raises ValueError for a pattern that can't match anything.
    """
    lines = (one_pattern(pattern),)
    return lambda path: decide_upwards(lines, path, False) is not None


def plain_part(pattern: str) -> str:
    """Return the longest text that occurs in every path matching the pattern, or "" if there is none."""
    is_plain = pattern.isascii() and not set(pattern) & set("[\\!#")
    parts = pattern.replace("?", "*").split("*") if is_plain else []
    return max((part.strip("/ \t\n") for part in parts), key=len, default="")


def literal_pattern(path: str) -> str:
    """Return the pattern that matches only this path or name."""
    return re.sub(r"[\\*?[]", r"\\\g<0>", path)


def one_pattern(pattern: str) -> PatternLine:
    """Parse a single pattern. Raises ValueError for a pattern that can't match any path."""
    stripped = _without_trailing_spaces(pattern)
    if not stripped.strip("/") or stripped[0] in "#!":
        raise ValueError("it matches nothing")
    return _parse_line(stripped, "")


def _parse_line(text: str, rule: str) -> PatternLine:
    pattern = text.removeprefix("!")
    body = pattern.removesuffix("/")
    name = body.removeprefix("**/")
    by_name = "/" not in name
    segments = (name,) if by_name else _segments(body)
    return PatternLine(
        text=text,
        rule=rule,
        is_negated=pattern != text,
        folders_only=body != pattern,
        by_name=by_name,
        segments=segments,
        expression=re.compile(_name(name) if by_name else _path(segments)),
        above=re.compile(_above(segments), re.DOTALL),
    )


def _check_names(line: PatternLine) -> None:
    """Raise ValueError if the line has a name that no path contains. A pattern of a search may begin with
    `./`, so this isn't checked there.
    """
    if "\0" in line.text:
        raise ValueError("a NUL character (the file must be UTF-8)")
    names = [re.sub(r"\\\.|\[\.\]", ".", segment) for segment in line.segments]
    if names[0] == "." and len(names) > 1:
        raise ValueError(DOT_SLASH)
    if impossible := {"", ".", ".."}.intersection(names):
        raise ValueError(f"a name that no file has ({min(impossible)!r})")


def _segments(pattern: str) -> tuple[str, ...]:
    """Split a pattern: `/a/**/b` becomes ("a", "**", "b"). More than two stars count as two."""
    parts = pattern.removeprefix("/").split("/")
    return tuple("**" if len(part) > 1 and not part.strip("*") else part for part in parts)


def _without_trailing_spaces(text: str) -> str:
    """Remove trailing spaces, except one after a backslash."""
    stripped = text.rstrip(" ")
    backslashes = len(stripped) - len(stripped.rstrip("\\"))
    return stripped + " " if backslashes % 2 and len(stripped) < len(text) else stripped


def _path(segments: Sequence[str]) -> str:
    """Return the regular expression for a whole path.

    A part between two `**` is matched at the first place where it fits (as an atomic group). The result is
    still correct, and a malicious line can't make the match slow.
    """
    first, *remaining = _chunks(segments)
    if not remaining:
        return "/".join(map(_name, first))
    *middle, last = remaining
    inner = (f"(?>(?:[^/]+/)*?{_folders(chunk)})" for chunk in middle if chunk)
    end = _ANY_FOLDERS + "/".join(map(_name, last)) if last else _ANY_FOLDERS + "[^/]+"
    return _folders(first) + "".join(inner) + end


def _chunks(segments: Sequence[str]) -> list[list[str]]:
    """Return the segments, split at each `**`."""
    chunks: list[list[str]] = [[]]
    for segment in segments:
        if segment == "**":
            chunks.append([])
        else:
            chunks[-1].append(segment)
    return chunks


def _folders(chunk: Sequence[str]) -> str:
    return "".join(_name(segment) + "/" for segment in chunk)


def _above(segments: Sequence[str]) -> str:
    """Return the regular expression for the folders below which a path could match."""
    is_open = "**" in segments
    fixed = segments[: segments.index("**")] if is_open else segments[:-1]
    names = list(map(_name, fixed))
    folders = ["/".join(names[:length]) for length in range(1, len(names) + 1)]
    return "|".join([*folders, _folders(fixed) + ".*"] if is_open else folders) or "(?!)"


def _name(segment: str) -> str:
    """Return the regular expression for a single name: `*`, `?`, `[…]`, backslashes and literal
    characters.
    """
    pieces = [""]
    for element in _elements(segment):
        if element == "*":
            pieces.append("")
        else:
            pieces[-1] += element
    first, *remaining = pieces
    if not remaining:
        return first
    *middle, last = remaining
    inner = (f"(?>{_ONE_NAME}*?{piece})" for piece in middle if piece)
    return first + "".join(inner) + f"{_ONE_NAME}*" + last


def _elements(segment: str) -> Iterator[str]:
    """Yield each element of a name as a regular expression for exactly one character, but yield `*`
    unchanged.
    """
    index = 0
    while index < len(segment):
        match segment[index]:
            case "*":
                yield "*"
            case "?":
                yield _ONE_NAME
            case "[":
                expression, index = _bracket(segment, index + 1)
                yield expression
                continue
            case "\\":
                index += 1
                yield re.escape(_character(segment, index, "a backslash with nothing after it"))
            case letter:
                yield re.escape(letter)
        index += 1


def _character(segment: str, index: int, problem: str = "a bracket that is not closed") -> str:
    if index >= len(segment):
        raise ValueError(problem)
    return segment[index]


def _bracket(segment: str, index: int) -> tuple[str, int]:
    """Return the regular expression for a bracket `[…]` whose content starts at `index`, and the position
    after its end.
    """
    is_negated = _character(segment, index) in "!^"
    start = index = index + is_negated
    members = ""
    while (letter := _character(segment, index)) != "]" or index == start:
        if letter == "[" and (match := re.compile(r"\[:([^]]*):\]").match(segment, index)):
            if match[1] not in _CLASSES:
                raise ValueError(f"an unknown class [:{match[1]}:]")
            members += _CLASSES[match[1]]
            index = match.end()
        else:
            low, index = _letter(segment, index)
            if segment[index : index + 1] != "-" or _character(segment, index + 1) == "]":
                members += re.escape(low)
            else:
                high, index = _letter(segment, index + 1)
                members += f"{re.escape(low)}-{re.escape(high)}" if low <= high else ""
    if is_negated:
        return f"[^/{members}]", index + 1
    if not members:
        raise ValueError("a range that is empty")
    return f"(?!/)[{members}]", index + 1


def _letter(segment: str, index: int) -> tuple[str, int]:
    if _character(segment, index) == "\\":
        index += 1
    return _character(segment, index), index + 1


IGNORE_FILE = ".kbsyncignore"
"""The file with the patterns for its folder and everything below it; never mirrored itself."""


def _with_random_end(beginning: str) -> tuple[str, ...]:
    """Return patterns for names that end in six characters from `mkstemp`.

    At least one of the six isn't a lowercase letter; otherwise, ordinary words such as `sedentary` would
    match.
    """
    letters = ["[A-Za-z0-9]"] * 6
    return tuple(
        beginning + "".join([*letters[:index], "[A-Z0-9]", *letters[index + 1 :]]) for index in range(6)
    )


HIDDEN = ".*"

# Files that programs leave behind, never documents. Each is one name in gitignore syntax. Users re-include
# one with a negation in `exclude` or an ignore file (`!*.bak`), or with an `include` that names it. To
# re-include a name that is only hidden, `include` needs a name or pattern for it that begins with a dot.
DEFAULTS = (
    # version control
    *(".git", ".hg/", ".svn/", ".bzr/", "CVS/", "_darcs/", ".jj/", ".pijul/"),
    # editors; 4913 is the file with which vim tests whether a folder is writable
    *("*~", ".*.sw?", "4913", ".*.un~", ".#*", r"\#*#", ".*.kate-swp", ".goutputstream-*", "*.bak", "*.orig"),
    # locks of office programs
    *("~$*", ".~lock.*#"),
    # unfinished files: downloads, copies, files deleted while a program still had them open
    *("*.tmp", "*.temp", "*.part", "*.partial", "*.filepart", "*.crdownload", "*.download/"),
    *(".nfs????????????????*", ".fuse_hidden*"),
    # rsync and sed -i
    *_with_random_end(".*."),
    *_with_random_end("sed"),
    # synchronization programs
    *(".stfolder", ".stversions/", ".stignore", "~syncthing~*", ".syncthing.*"),
    *(".sync_*.db*", "._sync_*.db*", ".owncloudsync.log*"),
    # desktops and file servers
    *(".DS_Store", "._*", ".AppleDouble/", ".Spotlight-V100/", ".Trashes/", ".fseventsd/", "[Tt]humbs.db"),
    *("[Dd]esktop.ini", "$RECYCLE.BIN/", "System Volume Information/", ".Trash-*/", "lost+found/"),
    *("@eaDir/", r"\#recycle/", ".snapshot/", ".snapshots/"),
    # build output
    *("node_modules/", "__pycache__/", ".venv/", ".tox/", ".nox/", ".mypy_cache/", ".ruff_cache/"),
    *(".pytest_cache/", ".ipynb_checkpoints/"),
    # Syncthing's copies of files that changed on two machines
    "*.sync-conflict-*",
    # hidden names, such as Obsidian's .obsidian/ and .trash/; last, because kbsync reports the first match
    HIDDEN,
)


def _plain_parts(pattern: str) -> tuple[str, str, str]:
    """Return the literal texts that every matching name must contain: its beginning, its end, and the longest
    one in between.
    """
    first, *others = re.split(r"\\.|[*?]|\[[^]]*\]", pattern.removesuffix("/"))
    last = others[-1] if others else first
    return first, last, max(others[:-1], key=len, default="")


_PLAIN_PARTS = {pattern: _plain_parts(pattern) for pattern in DEFAULTS}
_BEGINNINGS = (".", *{first for first, _, _ in _PLAIN_PARTS.values() if first and first[0] != "."})
_ENDS = tuple({last for first, last, _ in _PLAIN_PARTS.values() if last and not first})
_MIDDLES = tuple({middle for first, last, middle in _PLAIN_PARTS.values() if not (first or last)})


_REVISION = "2"
"""The version of the way in which this module applies rules. Change it whenever the same rules lead to a
different decision, so that kbsync re-evaluates stored decisions.
"""

DEFAULT = "default"
"""The location to report for the lines of `DEFAULTS`."""

_NEVER_MIRRORED = Verdict(FileChoice.EXCLUDED, "contains patterns for kbsync and isn't mirrored", IGNORE_FILE)
_NOT_INCLUDED = Verdict(FileChoice.EXCLUDED, "matches nothing in include", "include")


@functools.cache
def _default_line(text: str) -> PatternLine:
    return _parse_line(text, DEFAULT)


@dataclass(frozen=True, slots=True)
class _Layer:
    """The lines that apply below the folder `base` ("" is the root), with the last one first."""

    base: str
    lines: tuple[PatternLine, ...]

    def decide(self, path: str, is_folder: bool) -> PatternLine | None:
        return decide(self.lines, path[len(self.base) + 1 :] if self.base else path, is_folder)


class Rules:
    """The rules that apply in one folder of a mirror. `below` returns the rules of a folder with an ignore
    file.

    `include` and `exclude` are gitignore patterns from the config (`include` None: every format that the
    target accepts). For a pattern that could never match, raises a ValueError that names the item, such as
    `include[2]`.
    """

    __slots__ = ("_include", "_layers", "_limits", "_named", "_named_hidden", "_names", "person_version",
                 "program_version")  # fmt: skip

    person_version: str
    """Changes whenever the user's `include` or `exclude`, or an ignore file that applies here, changes."""

    program_version: str
    """Changes whenever the defaults, the target's limits or the way kbsync applies the rules change."""

    def __init__(self, include: tuple[str, ...] | None, exclude: tuple[str, ...], limits: Formats) -> None:
        chosen = None if include is None else parse_list(include, "include")
        self._include = None if chosen is None else chosen[::-1]
        # Every name in `include` re-includes a default of that name or pattern.
        lines = [line for line in chosen or () if not line.is_negated]
        self._named = frozenset(segment for line in lines for segment in line.segments)
        dotted = [_name(segment) for segment in sorted(self._named) if segment.startswith(".")]
        self._named_hidden = re.compile("|".join(f"(?:{pattern})" for pattern in dotted) or "(?!)")
        self._layers: tuple[_Layer, ...] = (_Layer("", parse_list(exclude, "exclude")[::-1]),)
        self._limits = limits
        self._names = frozenset(name.lower() for name in limits.names)
        self.person_version = _hash(include, exclude)
        by_extension = sorted(limits.max_bytes_by_extension.items())
        of_limits = sorted(limits.extensions), sorted(limits.names), limits.max_bytes, by_extension
        self.program_version = _hash(_REVISION, DEFAULTS, of_limits)

    @property
    def version(self) -> str:
        """The version of the rules, which covers both parts.

        Rules that decide differently about any path have different versions.
        """
        return f"{self.person_version}.{self.program_version}"

    def below(self, folder: str, content: str) -> Rules:
        """Return the rules for `folder` and everything below it. `content` is the content of the folder's
        ignore file.

        For a pattern that could never match, raises a ValueError that names the file and the line.
        """
        source = f"{folder}/{IGNORE_FILE}" if folder else IGNORE_FILE
        layer = _Layer(folder, parse_file(content, source)[::-1])
        rules = copy.copy(self)
        rules._layers = (self._layers[0], layer, *self._layers[1:])
        rules.person_version = _hash(self.person_version, content)
        return rules

    def enters(self, folder: str) -> Verdict:
        """Return whether kbsync descends into `folder`. Call this only if kbsync descends into its parent."""
        if not folder:
            return SELECTED
        decisive = self._decisive(folder, is_folder=True)
        if decisive and not decisive.is_negated:
            return _exclusion(decisive)
        if self._include is None:
            return SELECTED
        including = decide_upwards(self._include, folder, is_folder=True)
        if including and not including.is_negated:
            return SELECTED
        # `include` may match something deeper even though no line matches the folder itself.
        is_above = any(not line.is_negated and line.reaches_below(folder) for line in self._include)
        return SELECTED if is_above else _NOT_INCLUDED

    def verdict(self, path: str, size: int, kind: FileKind) -> Verdict:
        """Return whether the entry `path` of `size` bytes is mirrored.

        Call this only if kbsync descends into its folder.
        """
        if kind is FileKind.FOLDER:
            return self.enters(path)
        name = path.rpartition("/")[2]
        if name == IGNORE_FILE:
            return _NEVER_MIRRORED
        decisive = self._decisive(path, is_folder=False)
        if decisive and not decisive.is_negated:
            return _exclusion(decisive)
        included = decide_upwards(self._include or (), path, is_folder=False)
        if self._include is not None and (included is None or included.is_negated):
            return _NOT_INCLUDED if included is None else _exclusion(included)
        # No user rule excludes it; only limits remain.
        if kind is FileKind.SYMLINK:
            return Verdict(FileChoice.SKIPPED, "symlink (not followed)")
        if kind is FileKind.SPECIAL:
            return Verdict(FileChoice.SKIPPED, "socket, fifo or device")
        if size == 0:
            return Verdict(FileChoice.SKIPPED, "empty")
        extension = extension_of(name)
        if extension not in self._limits.extensions and name.lower() not in self._names:
            problem = f"the target doesn't accept .{extension} files"
            if not extension:
                problem = "the target doesn't accept files without an extension"
            if included is None:
                return Verdict(FileChoice.SKIPPED, problem, "formats")
            # The user named it, so leaving it out is a failure (exit 1).
            reason = f"explicitly included but not accepted: {problem}"
            return Verdict(FileChoice.REFUSED, reason, included.rule)
        limit = self._limits.max_bytes_by_extension.get(extension, self._limits.max_bytes)
        if limit is not None and size > limit:
            reason = f"{size:,} bytes, over the limit of {limit:,} bytes"
            return Verdict(FileChoice.REFUSED, reason, "max_bytes")
        selecting = included or decisive
        if selecting is None:
            return SELECTED
        return Verdict(FileChoice.SELECTED, f"selected by {selecting.text}", selecting.rule)

    def _decisive(self, path: str, is_folder: bool) -> PatternLine | None:
        for layer in self._layers:
            if line := layer.decide(path, is_folder):
                return line
        name = path.rpartition("/")[2]
        # This check is quick, and rules out most names.
        is_similar = (
            name.startswith(_BEGINNINGS) or name.endswith(_ENDS) or any(part in name for part in _MIDDLES)
        )
        if name in self._named or not is_similar:
            return None
        # Only the defaults that may match are compiled: all of them would take 30 ms.
        patterns = (
            pattern
            for pattern, (first, last, middle) in _PLAIN_PARTS.items()
            if name.startswith(first) and name.endswith(last) and middle in name
            if pattern.removesuffix("/") not in self._named
        )
        line = decide(map(_default_line, patterns), name, is_folder)
        is_only_hidden = line is not None and line.text == HIDDEN
        return None if is_only_hidden and self._named_hidden.fullmatch(name) else line


def person_part(version: str) -> str:
    """Extract the `person_version` from a stored `version`."""
    return version.partition(".")[0]


def _exclusion(line: PatternLine) -> Verdict:
    is_only_hidden = (line.rule, line.text) == (DEFAULT, HIDDEN)
    reason = "hidden, and left out by default" if is_only_hidden else f"excluded by {line.text}"
    return Verdict(FileChoice.EXCLUDED, reason, line.rule, line.text)


def _hash(*parts: object) -> str:
    import hashlib  # imported late: OpenSSL is slow to load

    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
