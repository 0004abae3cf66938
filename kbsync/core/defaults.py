"""What is never a document unless a person says so: traces of programs, not writing of people.

Each pattern is one name in gitignore syntax (a `/` at its end: folders only). A person brings one back
with a negation in `exclude` or an ignore file (`!*.bak`), or with an `include` that names it.
"""

from __future__ import annotations

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
