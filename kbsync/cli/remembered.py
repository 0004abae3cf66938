"""The paths of the last search of a person, for `kbsync open`: in memory, gone with the session.

They lie in `$XDG_RUNTIME_DIR`, which belongs to the user and is no disk. Where there is none nothing is
remembered: a search writes neither into the state nor into a home.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

MOST = 100
_FOLDER, _FILE = "kbsync", "last-search"


def remember(paths: Sequence[Path], environ: Mapping[str, str]) -> bool:
    """Keep them, best first, instead of those before; False where there is no place for it."""
    folder = _folder(environ)
    if folder is None:
        return False
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        if not _is_ours(folder):
            return False
        _replace(folder / _FILE, b"\0".join(os.fsencode(path) for path in paths[:MOST]))
        return True
    return False


def recall(environ: Mapping[str, str]) -> list[Path] | None:
    """Those of the last search; None where none is remembered."""
    folder = _folder(environ)
    if folder is None or not _is_ours(folder):
        return None
    try:
        content = (folder / _FILE).read_bytes()
    except OSError:
        return None
    return [Path(os.fsdecode(path)) for path in content.split(b"\0") if path]


def _folder(environ: Mapping[str, str]) -> Path | None:
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    return Path(runtime, _FOLDER) if runtime.startswith("/") else None


def _is_ours(folder: Path) -> bool:
    """Nobody else made it, and nobody else may write in it."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return found.st_uid == os.geteuid() and found.st_mode & 0o170077 == 0o040000


def _replace(file: Path, content: bytes) -> None:
    fresh = file.with_name(f".{file.name}-{os.urandom(4).hex()}")
    descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)
    fresh.replace(file)
