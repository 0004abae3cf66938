"""What is never a document unless a person says so: traces of programs, not writing of people.

Each pattern is one name in gitignore syntax (a `/` at its end: folders only). A person brings one back
with a negation in `exclude` or an ignore file (`!*.bak`), or with an `include` that names it.

Which files are mirrored: include, exclude, ignore files, the defaults and the target's limits.

Only the path relative to the mirror's root counts, so a mirror may itself lie below `.cache` or in
`foo~`. The first of these that speaks of an entry decides: `exclude` of the config, the nearest ignore
file, the ones above it, the defaults. Within each the last matching line wins, `!` takes back, and a
folder that is excluded is not entered. What is left must match `include`, where that is given.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from kbsync.core.gitignore import PatternLine, decide, decide_upwards, parse, parse_file, parse_list
from kbsync.core.model import SELECTED, Choice, FileKind, Limits, Verdict

IGNORE_FILE = ".kbsyncignore"
"""Holds patterns for the folder it lies in and all below; never mirrored itself."""

VERSION_CONTROL = (".git", ".hg/", ".svn/", ".bzr/", "CVS/", "_darcs/", ".jj/", ".pijul/")

EDITORS = (
    "*~",
    ".*.sw?",  # vim's swap files; 4913 is how it tries whether a folder can be written
    "4913",
    ".*.un~",
    ".#*",
    r"\#*#",
    ".*.kate-swp",
    ".goutputstream-*",
    "*.bak",
    "*.orig",
)

OFFICE_LOCKS = ("~$*", ".~lock.*#")

UNFINISHED = (
    "*.tmp",
    "*.temp",
    "*.part",
    "*.partial",
    "*.filepart",
    "*.crdownload",
    "*.download/",
    ".nfs????????????????*",
    ".fuse_hidden*",
)


def _with_random_end(beginning: str) -> tuple[str, ...]:
    """Names that end in six characters of `mkstemp`, one of them no small letter (`sedentary` is a word)."""
    letters = ["[A-Za-z0-9]"] * 6
    return tuple(
        beginning + "".join([*letters[:place], "[A-Z0-9]", *letters[place + 1 :]]) for place in range(6)
    )


RSYNC = _with_random_end(".*.")
SED = _with_random_end("sed")

SYNC_PROGRAMS = (
    ".stfolder",
    ".stversions/",
    ".stignore",
    "~syncthing~*",
    ".syncthing.*",
    ".sync_*.db*",
    "._sync_*.db*",
    ".owncloudsync.log*",
)

DESKTOPS = (
    ".DS_Store",
    "._*",
    ".AppleDouble/",
    ".Spotlight-V100/",
    ".Trashes/",
    ".fseventsd/",
    "[Tt]humbs.db",
    "[Dd]esktop.ini",
    "$RECYCLE.BIN/",
    "System Volume Information/",
    ".Trash-*/",
    "lost+found/",
    "@eaDir/",
    r"\#recycle/",
    ".snapshot/",
    ".snapshots/",
)

MADE_BY_BUILDS = (
    "node_modules/",
    "__pycache__/",
    ".venv/",
    ".tox/",
    ".nox/",
    ".mypy_cache/",
    ".ruff_cache/",
    ".pytest_cache/",
    ".ipynb_checkpoints/",
)

DEFAULTS = (
    *VERSION_CONTROL,
    *EDITORS,
    *OFFICE_LOCKS,
    *UNFINISHED,
    *RSYNC,
    *SED,
    *SYNC_PROGRAMS,
    *DESKTOPS,
    *MADE_BY_BUILDS,
)


_REVISION = "1"
"""Changed whenever this module decides otherwise for equal rules, so that stored verdicts are renewed."""

_DEFAULTS = tuple(line for text in DEFAULTS if (line := parse(text, "default")))
_NEVER_MIRRORED = Verdict(Choice.EXCLUDED, "holds patterns for kbsync and is not mirrored", IGNORE_FILE)
_NOT_INCLUDED = Verdict(Choice.EXCLUDED, "matches nothing in include", "include")


@dataclass(frozen=True, slots=True)
class _Layer:
    """Lines, last one first, that count below the folder `base` ("" is the root)."""

    base: str
    lines: tuple[PatternLine, ...]

    def decide(self, path: str, is_folder: bool) -> PatternLine | None:
        return decide(self.lines, path[len(self.base) + 1 :] if self.base else path, is_folder)


class Rules:
    """The rules that apply in one folder of a mirror; `below` gives those of a folder with an ignore file.

    `include` and `exclude` are gitignore patterns from the config (`include` None: every format the
    target takes). Raises ValueError that names the item, as in `include[2]`, for a pattern that could
    never match.
    """

    __slots__ = ("_defaults", "_gate", "_include", "_layers", "_limits", "_named", "_names",
                 "person_version", "program_version")  # fmt: skip

    person_version: str
    """Changes when a person changes include, exclude or an ignore file that applies here."""

    program_version: str
    """Changes when the defaults, the target's limits or this program's reading of the rules change."""

    def __init__(self, include: tuple[str, ...] | None, exclude: tuple[str, ...], limits: Limits) -> None:
        chosen = None if include is None else parse_list(include, "include")
        self._include = None if chosen is None else chosen[::-1]
        self._named = _names_in(chosen or ())
        self._layers: tuple[_Layer, ...] = (_Layer("", parse_list(exclude, "exclude")[::-1]),)
        self._defaults = tuple(line for line in _DEFAULTS if line.segments[0] not in self._named)
        self._gate = re.compile("|".join(f"(?:{line.expression.pattern})" for line in self._defaults))
        self._limits = limits
        self._names = frozenset(name.lower() for name in limits.names)
        self.person_version = _hash(include, exclude)
        self.program_version = _hash(_REVISION, DEFAULTS, _limits_key(limits))

    @property
    def version(self) -> str:
        """Equal versions give equal verdicts in a folder; both parts in one string."""
        return f"{self.person_version}.{self.program_version}"

    def below(self, folder: str, content: str) -> Rules:
        """The rules in `folder` and below, whose ignore file holds `content`.

        Raises ValueError that names file and line for a pattern that could never match.
        """
        source = f"{folder}/{IGNORE_FILE}" if folder else IGNORE_FILE
        layer = _Layer(folder, parse_file(content, source)[::-1])
        rules = self._copy()
        rules._layers = (self._layers[0], layer, *self._layers[1:])
        rules.person_version = _hash(self.person_version, content)
        return rules

    def enters(self, folder: str) -> Verdict:
        """Whether `folder` is looked into; asked only for folders whose parent is entered."""
        if not folder:
            return SELECTED
        decisive = self._decisive(folder, is_folder=True)
        if decisive and not decisive.is_negated:
            return _excluded(decisive)
        return SELECTED if self._may_include_below(folder) else _NOT_INCLUDED

    def verdict(self, path: str, size: int, kind: FileKind) -> Verdict:
        """Whether the entry `path` of `size` bytes is mirrored; its folder is one that is entered."""
        if kind is FileKind.FOLDER:
            return self.enters(path)
        if path.rpartition("/")[2] == IGNORE_FILE:
            return _NEVER_MIRRORED
        decisive = self._decisive(path, is_folder=False)
        if decisive and not decisive.is_negated:
            return _excluded(decisive)
        included = decide_upwards(self._include or (), path, is_folder=False)
        if self._include is not None and (included is None or included.is_negated):
            return _NOT_INCLUDED if included is None else _excluded(included)
        return self._accepted(path, size, kind, included, decisive)

    def _copy(self) -> Rules:
        twin = object.__new__(Rules)
        for name in Rules.__slots__:
            setattr(twin, name, getattr(self, name))
        return twin

    def _decisive(self, path: str, is_folder: bool) -> PatternLine | None:
        for layer in self._layers:
            if line := layer.decide(path, is_folder):
                return line
        name = path.rpartition("/")[2]
        if name in self._named or not self._gate.fullmatch(name):
            return None
        return decide(self._defaults, name, is_folder)

    def _may_include_below(self, folder: str) -> bool:
        if self._include is None:
            return True
        including = decide_upwards(self._include, folder, is_folder=True)
        if including and not including.is_negated:
            return True
        return any(not line.is_negated and line.reaches_below(folder) for line in self._include)

    def _accepted(
        self, path: str, size: int, kind: FileKind, included: PatternLine | None, decisive: PatternLine | None
    ) -> Verdict:
        """The verdict for an entry that no rule of a person leaves out."""
        if kind is FileKind.SYMLINK:
            return Verdict(Choice.SKIPPED, "symlink (not followed)")
        if kind is FileKind.SPECIAL:
            return Verdict(Choice.SKIPPED, "socket, fifo or device")
        if size == 0:
            return Verdict(Choice.SKIPPED, "empty")
        return self._limited(path, size, included) or _selected_by(included or decisive)

    def _limited(self, path: str, size: int, included: PatternLine | None) -> Verdict | None:
        """What the target does not take of `path`, if anything."""
        name = path.rpartition("/")[2]
        extension = extension_of(name)
        if extension not in self._limits.extensions and name.lower() not in self._names:
            return _not_taken(extension, included)
        limit = self._limits.max_bytes_by_extension.get(extension, self._limits.max_bytes)
        if limit is not None and size > limit:
            return Verdict(Choice.REFUSED, f"{size:,} bytes, over the limit of {limit:,} bytes", "max_bytes")
        return None


def extension_of(name: str) -> str:
    """The part after the last dot in lower case, "" where there is none (`README`, `.profile`)."""
    stem, _, extension = name.rpartition(".")
    return extension.lower() if stem.strip(".") else ""


def person_part(version: str) -> str:
    """The `person_version` inside a stored `version`."""
    return version.partition(".")[0]


def _names_in(include: Sequence[PatternLine]) -> frozenset[str]:
    """Every name that a line of `include` spells out, to bring back a default of that name or pattern."""
    return frozenset(segment for line in include if not line.is_negated for segment in line.segments)


def _excluded(line: PatternLine) -> Verdict:
    return Verdict(Choice.EXCLUDED, f"excluded by {line.text}", line.rule)


def _selected_by(line: PatternLine | None) -> Verdict:
    return Verdict(Choice.SELECTED, f"selected by {line.text}", line.rule) if line else SELECTED


def _not_taken(extension: str, included: PatternLine | None) -> Verdict:
    what = f".{extension} files" if extension else "files without an extension"
    if included is None:
        return Verdict(Choice.SKIPPED, f"the target does not take {what}", "formats")
    return Verdict(
        Choice.REFUSED,
        f"explicitly included but not accepted: the target does not take {what}",
        included.rule,
    )


def _limits_key(limits: Limits) -> tuple[object, ...]:
    by_extension = sorted(limits.max_bytes_by_extension.items())
    return sorted(limits.extensions), sorted(limits.names), limits.max_bytes, by_extension


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
