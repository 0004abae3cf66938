"""Finds the config, the state and the folders of earlier runs, and detects network file systems."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from kbsync.config.model import Config, folder_name
from kbsync.core.text import shell_word
from kbsync.errors import UsageError, system_reason
from kbsync.file_systems import (
    DISK_FAILED,
    access_within,
    has_failed,
    is_network,
    mount_containing,
    real_path,
)
from kbsync.permissions import access_fix, exists, make_private_folder, replace_private


def network_file_system(path: Path) -> str | None:
    """Return the type of the network file system that contains `path`, which need not exist.

    Return None for other file systems, or if there is no mountinfo (proc(5)).
    """
    mount = mount_containing(path)
    return mount.fs_type if mount is not None and is_network(mount.fs_type) else None


SYSTEM_CONFIG = Path("/etc/kbsync/config.yaml")
SYSTEM_STATE = Path("/var/lib/kbsync")
_KERNEL = ("cgroup", "cgroup2", "debugfs", "devpts", "proc", "securityfs", "sysfs", "tracefs")
"""File systems that show the kernel's own files, and can hold no others."""
_FOLDERS = "folders"
_FOLDER_NOTE = "folder"
"""The file, in a state directory created for `--folder`, that holds the folder's real path as bytes."""


class KnownFolder(NamedTuple):
    """A folder that was mirrored earlier with `--folder`: its real path and its state directory."""

    folder: Path
    state_dir: Path


def home(environ: Mapping[str, str]) -> Path | None:
    """Return the home directory: `$HOME` or, if that isn't set, the one in the user database. Return None if
    there is neither.

    A relative `$HOME` is ignored, because a config in the working directory must not decide where keys are
    sent.
    """
    named = environ.get("HOME", "")
    if not named.startswith("/"):
        try:
            # Don't use `Path.home()`, which accepts a relative `$HOME`.
            named = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return None
    return Path(named) if named.startswith("/") else None


def _user_dir(environ: Mapping[str, str], variable: str, below_home: str) -> Path | None:
    """Return an XDG base directory. A relative path is ignored, as the specification requires."""
    named = environ.get(variable, "")
    if named.startswith("/"):
        return Path(named)
    at_home = home(environ)
    return at_home / below_home if at_home else None


def _named_config(environ: Mapping[str, str]) -> Path | None:
    named = environ.get("KBSYNC_CONFIG")
    return Path(os.path.expanduser(named)) if named else None  # noqa: PTH111 (an unknown ~user is a name)


def config_places(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return, in order, the places where kbsync looks for a config if `--config` isn't given."""
    # Never search the working directory: the config of a stranger's repository must not decide where our keys
    # are sent.
    if (named := _named_config(environ)) is not None:
        return (named,)
    user = _user_dir(environ, "XDG_CONFIG_HOME", ".config")
    return (*((user / "kbsync" / "config.yaml",) if user else ()), SYSTEM_CONFIG)


def find_config(explicit: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the config to use, or None if there is none in `config_places`.

    A config named by `--config` or `$KBSYNC_CONFIG` is returned even if the file is missing, because no other
    config may replace it. The system-wide config is ignored if this user can't read it. It is meant for the
    system's service, and must not get in the way of the user's own mirrors.
    """
    if explicit is not None:
        return explicit
    if (named := _named_config(environ)) is not None:
        return named
    existing = filter(os.path.lexists, config_places(environ))
    return next((path for path in existing if not is_unreadable_system_config(path)), None)


def is_unreadable_system_config(path: Path) -> bool:
    """Return whether `path` is the system-wide config and this user can't read it."""
    return path == SYSTEM_CONFIG and os.access(path, os.F_OK) and not os.access(path, os.R_OK)


def find_state_home(environ: Mapping[str, str]) -> Path | None:
    """Return `$XDG_STATE_HOME/kbsync`, or None if the home directory is unknown."""
    user = _user_dir(environ, "XDG_STATE_HOME", ".local/state")
    return None if user is None else user / "kbsync"


def state_home(environ: Mapping[str, str]) -> Path:
    """Return `$XDG_STATE_HOME/kbsync`. Raises UsageError if the home directory is unknown."""
    if (found := find_state_home(environ)) is None:
        raise UsageError("cannot determine your home directory for the state; pass --state-dir DIR")
    return found


def state_dir(
    environ: Mapping[str, str],
    *,
    explicit: Path | None = None,
    config: Config | None = None,
    folder: Path | None = None,
) -> Path:
    """Return the absolute path of the state directory, without creating it.

    Raises UsageError if the home directory is unknown. `explicit` is the value of `--state-dir`. `folder` is
    the value of `--folder`; each such folder has its own state directory under the state home.
    """
    if explicit is not None:
        return Path(os.path.abspath(explicit))  # noqa: PTH100 (Path.absolute keeps `..`)
    if folder is not None:  # kept apart from the state of a service
        return folder_state_dir(folder, state_home(environ))
    if config is not None and config.state_dir is not None:
        return config.state_dir
    # systemd separates multiple directories with colons.
    systemd_dir, _, _ = environ.get("STATE_DIRECTORY", "").partition(":")
    if systemd_dir:
        return Path(os.path.abspath(systemd_dir))  # noqa: PTH100
    if config is not None and config.path is not None and config.path.is_relative_to(SYSTEM_CONFIG.parent):
        return SYSTEM_STATE
    return state_home(environ)


def folder_state_dir(folder: Path, below: Path) -> Path:
    """Return `folders/<name>-<8 hex of sha256(realpath)>` under the state home `below`."""
    import hashlib

    digest = hashlib.sha256(os.fsencode(real_path(folder))).hexdigest()
    return below / _FOLDERS / f"{folder_name(folder)}-{digest[:8]}"


def check_state_dir(path: Path, folders: Iterable[Path] = (), *, create: bool = True) -> None:
    """Make sure that `path` can hold the state. If the directory is missing, create it with mode 0700.

    Raises UsageError, before creating anything, if the path is inside one of the mirrored `folders`, contains
    one, is on a network file system or among the kernel's files, or isn't writable. Without `create`, for
    read-only commands, only the location is checked.
    """
    elsewhere = "choose another with --state-dir, or with state_dir: in the config"
    for folder in map(Path.absolute, folders):
        if is_inside(path, folder):
            reason = f"the state directory {path} is inside the mirrored folder {folder}"
            raise UsageError(f"{reason}; {elsewhere}")
        if is_inside(folder, path):
            reason = f"the mirrored folder {folder} is inside the state directory {path}"
            raise UsageError(f"{reason}; {elsewhere}")
    kind = network_file_system(path)
    if kind is not None:
        raise UsageError(
            f"the state directory {path} is on a network file system ({kind}), where file locks are "
            f"unreliable; {elsewhere} on a local disk"
        )
    if (mount := mount_containing(path)) is not None and mount.fs_type in _KERNEL:
        raise UsageError(f"the state directory {path} is among the kernel's own files; {elsewhere}")
    if obstacle := _obstacle(path):
        raise UsageError(f"the state directory {path} cannot be created ({obstacle}); {elsewhere}")
    if not create:
        return
    if has_failed(path):
        raise UsageError(f"the state directory {path} cannot be written: {DISK_FAILED}")
    if read_only_mount(path):
        reason = f"the state directory {path} is on a read-only file system"
        raise UsageError(f"{reason}; {elsewhere}")
    try:
        make_private_folder(path)
    except OSError as error:
        if not isinstance(error, PermissionError) or _is_missing(path):
            why = system_reason(error)
            raise UsageError(f"the state directory {path} cannot be created ({why}); {elsewhere}") from None
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        reason = f"the state directory {path} is not writable"
        raise UsageError(f"{reason}; {elsewhere}, or {access_fix(path)}")
    if path.stat().st_mode & stat.S_IWOTH:  # anyone could replace the state
        reason = f"anyone can write to the state directory {path}"
        fix = f"chmod o-w {shell_word(str(path))}"
        raise UsageError(f"{reason}; {elsewhere}, or run: {fix}")


def _obstacle(path: Path) -> str:
    """Return what prevents a directory at `path` from being created: something else at the path or at one of
    its parents.

    Return '' if nothing does.
    """
    for part in (path, *path.parents):
        try:
            # Only one check, because another process may be creating the directory.
            is_directory = stat.S_ISDIR(part.stat().st_mode)
        except OSError:
            # `os.path`, because `pathlib` raises an error below a directory that this user can't enter.
            if os.path.islink(part):  # noqa: PTH114
                return f"{part} is a symlink to the missing {os.readlink(part)}; mount its disk"  # noqa: PTH115
        else:
            return "" if is_directory else f"{part} is not a directory"
    return ""


def _is_missing(path: Path) -> bool:
    """Return whether nothing exists at `path`, or False if the user lacks the permission to find out."""
    try:
        path.lstat()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def read_only_mount(path: Path) -> Path | None:
    """Return the mount point of `path`, which need not exist, if that file system is mounted read-only."""
    candidates = (path, *path.parents)
    try:
        existing = next(candidate for candidate in candidates if exists(candidate))
        if os.statvfs(existing).f_flag & os.ST_RDONLY:
            # Bind mounts have the device of their source, so only the mount table knows them.
            mount = mount_containing(path)
            return existing if mount is None else Path(mount.point)
    except OSError:
        return None  # the caller reports this error when it uses the path
    return None


def is_inside(inner: Path, outer: Path) -> bool:
    """Return whether `inner` is `outer` or below it, following symlinks. Neither path needs to exist."""
    return real_path(inner).is_relative_to(real_path(outer))


def is_no_directory(path: Path) -> bool:
    """Return whether the path is definitely not a directory. If it can't be accessed, return False."""
    try:
        return not stat.S_ISDIR(access_within(path, path.stat).st_mode)
    except OSError:
        return False


def note_folder(state_dir: Path, folder: Path) -> None:
    """Record in `state_dir`, which must exist, that it belongs to `folder`."""
    content = os.fsencode(real_path(folder))
    note = state_dir / _FOLDER_NOTE
    with contextlib.suppress(OSError):
        if note.read_bytes() == content:
            return
    replace_private(note, content)  # a truncated file would name another folder


def is_of_folder_option(state_dir: Path, environ: Mapping[str, str]) -> bool:
    """Return whether this is the state directory of a `--folder` run under the state home."""
    with contextlib.suppress(UsageError):  # no home directory is known
        return state_dir.parent == state_home(environ) / _FOLDERS
    return False


def forget_folder(state_dir: Path) -> None:
    """Delete the record of the folder that this state directory belongs to. Raises OSError."""
    (state_dir / _FOLDER_NOTE).unlink(missing_ok=True)


def known_folders(below: Path | None) -> list[KnownFolder]:
    """Return the folders of earlier `--folder` runs whose state is under the state home `below`, sorted by
    path.
    """
    if below is None:
        return []
    try:
        entries = list((below / _FOLDERS).iterdir())
    except OSError:
        return []
    return sorted(folder for entry in entries if (folder := _read_note(entry)) is not None)


def _read_note(state_dir: Path) -> KnownFolder | None:
    try:
        content = (state_dir / _FOLDER_NOTE).read_bytes()
    except OSError:
        return None
    is_path = content.startswith(b"/") and b"\0" not in content
    return KnownFolder(Path(os.fsdecode(content)), state_dir) if is_path else None


def known_folder_for(directory: Path, below: Path | None) -> KnownFolder | None:
    """Return the innermost known folder that contains `directory`, or None if there is none."""
    real = real_path(directory)
    candidates = [folder for folder in known_folders(below) if real.is_relative_to(folder.folder)]
    return max(candidates, key=lambda folder: len(folder.folder.parts), default=None)
