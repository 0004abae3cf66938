"""Turns SQLite and disk errors into messages that suggest a fix."""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path

import apsw

from kbsync.errors import (
    OUT_OF_MEMORY,
    ForeignError,
    Halted,
    KbsyncError,
    Rejected,
    TargetError,
    Unavailable,
    lacks_memory,
    system_reason,
)
from kbsync.file_systems import DISK_FAILED, has_failed
from kbsync.permissions import command_to_open
from kbsync.source.roots import error_words
from kbsync.state.db import find_obstacle, fix_for_closed, io_failure, lacks_inodes
from kbsync.state.lock import MISPLACED, describe_misplaced

_OBSTACLES = (errno.EEXIST, *MISPLACED)
"""Errors that occur if something else has the name of a file or folder of the index."""


def no_space(what: str, path: Path | str) -> Halted:
    """Return the error for a disk without free space or inodes."""
    resource, option = ("free inode", "-i") if lacks_inodes(Path(path)) else ("space", "-h")
    return Halted(
        "disk-full",
        f"no {resource} left for {what} in {path}; free some, and kbsync will continue automatically",
        fix=shlex.join(["df", option, str(path)]),
    )


def dimensions_changed(model: str, before: int, now: int) -> Halted:
    """Return the error for a service whose vectors no longer have the same length, so they can't be compared
    with earlier ones.
    """
    return Halted(
        "embedding-dimensions",
        f"vectors from the model {model} used to have {before} dimensions and now have {now}",
        fix="set embedding.dimensions in the config; all documents will then be reindexed",
    )


def out_of_memory() -> Halted:
    """Return the error for a process that can't get more memory."""
    return Halted(
        "out-of-memory",
        f"{OUT_OF_MEMORY}; a running kbsync will then continue automatically",
        fix="ulimit -v",
    )


def unknown_document(document: int | str) -> Rejected:
    """Return the error for a document that isn't in the index."""
    return Rejected(f"the index has no document {document}", code="unknown-document")


def scratch_error(error: OSError, spool: Path | None = None, failed: str = "") -> TargetError:
    """Return the error, with the fix, for a file or scratch folder that can't be read or written.

    `failed`: the action that failed.
    """
    path = os.fsdecode(error.filename) if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        from tempfile import gettempdir

        return no_space("the text of documents", spool or path or gettempdir())
    words = f"{path}: {error_words(error)}" if path else error_words(error)
    reason = f"{failed}: {words}" if failed else words
    return Unavailable(reason, code=errno.errorcode.get(error.errno or 0, ""))


def storage_error(folder: Path, error: apsw.Error | OSError | KbsyncError) -> TargetError:
    """Return the error, with the fix, for a disk that refuses a write."""
    number = getattr(error, "errno", None)
    is_full = isinstance(error, apsw.FullError) or number in (errno.ENOSPC, errno.EDQUOT)
    if is_full or (isinstance(error, apsw.CantOpenError) and lacks_inodes(folder)):
        return no_space("the index", folder)
    if isinstance(error, apsw.NoMemError) or lacks_memory(error):
        return out_of_memory()
    refusals = (apsw.ReadOnlyError, apsw.PermissionsError)
    is_refused = number in (errno.EROFS, errno.EACCES)
    if (is_refused or isinstance(error, (apsw.IOError, *refusals))) and has_failed(folder):
        reason = f"the index in {folder} cannot be written: {DISK_FAILED}"
        return Halted("index-read-only", reason, fix="sudo dmesg")
    if isinstance(error, (apsw.CantOpenError, apsw.IOError, *refusals)) or number == errno.EACCES:
        # By name, because the module of scans.db imports this one.
        files = (folder / name for name in ("index.db", "scans.db"))
        obstacles = (find_obstacle(file, os.R_OK | os.W_OK) for file in files)
        error = next(filter(None, obstacles), error)
    if isinstance(error, ForeignError):
        return Halted("index-read-only", f"the index in {folder} cannot be used ({error})")
    if isinstance(error, OSError) and number == errno.EACCES:
        paths = (folder, Path(os.fsdecode(error.filename or folder)))
        if command := next(filter(None, map(command_to_open, paths)), ""):
            reason = f"the index in {folder} cannot be used (permission denied)"
            return Halted("index-read-only", reason, fix=command)
    if is_refused or isinstance(error, refusals):
        why, properties = system_reason(error), "owner, mode and mount"
        fix = shlex.join(["ls", "-ld", str(folder)])
        if number == errno.EROFS:  # perhaps because of a systemd unit's `ProtectSystem=strict`
            properties = f"mount or, in a systemd unit, ReadWritePaths={folder}"
            fix = shlex.join(["findmnt", "--target", str(folder)])
        return Halted(
            "index-read-only",
            f"the index in {folder} cannot be written ({why}); check the folder's {properties}",
            fix=fix,
        )
    why = io_failure(error, folder) if isinstance(error, apsw.IOError) else system_reason(error)
    if isinstance(error, apsw.CantOpenError):
        why = f"{why}; {fix_for_closed(folder)}"
    elif isinstance(error, OSError) and number in _OBSTACLES:
        kind = "directory" if number == errno.EEXIST else "file"
        why = describe_misplaced(Path(os.fsdecode(error.filename)), kind)
    reason = f"the index in {folder} cannot be used right now ({why})"
    return Unavailable(reason, code=type(error).__name__)
