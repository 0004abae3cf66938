"""Finds the config, the state, the folders of earlier runs, and network file systems."""

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
from kbsync.file_systems import holds, is_network, mounts
from kbsync.permissions import make_private_folder, replace_private


def network_file_system(path: Path, mountinfo: Path | None = None) -> str | None:
    """Return the type of the network file system of `path`, which need not exist; None for others.

    Also None if there is no mountinfo (proc(5)).
    """
    try:
        mounted = mounts(mountinfo)
    except OSError:
        return None
    real = os.path.realpath(path)
    # Use the innermost mount that contains the path; at the same mount point, the last mount hides the
    # others.
    around = [mount for mount in mounted if holds(mount.point, real)]
    innermost = max(reversed(around), key=lambda mount: len(mount.point), default=None)
    return innermost.fs_type if innermost is not None and is_network(innermost.fs_type) else None


SYSTEM_CONFIG = Path("/etc/kbsync/config.yaml")
SYSTEM_STATE = Path("/var/lib/kbsync")
_FOLDERS = "folders"
_FOLDER_NOTE = "folder"
"""The file, in a state directory created for `--folder`, that holds the folder's real path as bytes."""


class KnownFolder(NamedTuple):
    """A folder mirrored earlier with `--folder`: its real path and its state directory."""

    folder: Path
    state_dir: Path


def home(environ: Mapping[str, str]) -> Path | None:
    """Return the home directory: `$HOME`, otherwise that of the user; None if there is none.

    A relative `$HOME` is ignored: the config of the working directory must not decide where keys are sent.
    """
    named = environ.get("HOME", "")
    if not named.startswith("/"):
        try:
            # Not `Path.home()`, which uses a relative `$HOME`.
            named = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return None
    return Path(named) if named.startswith("/") else None


def _user_dir(environ: Mapping[str, str], variable: str, below_home: str) -> Path | None:
    """Return an XDG base directory. A relative one is ignored, as the specification requires."""
    named = environ.get(variable, "")
    if named.startswith("/"):
        return Path(named)
    at_home = home(environ)
    return at_home / below_home if at_home else None


def _named_config(environ: Mapping[str, str]) -> Path | None:
    named = environ.get("KBSYNC_CONFIG")
    return Path(os.path.expanduser(named)) if named else None  # noqa: PTH111 (an unknown ~user is a name)


def config_places(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return where kbsync searches for a config without `--config`, in order."""
    # Never search the working directory: the config of a stranger's repository must not decide where our keys
    # are sent.
    if (named := _named_config(environ)) is not None:
        return (named,)
    user = _user_dir(environ, "XDG_CONFIG_HOME", ".config")
    return (*((user / "kbsync" / "config.yaml",) if user else ()), SYSTEM_CONFIG)


def find_config(explicit: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the config to use; None if there is none in `config_places`.

    A config named by `--config` or `$KBSYNC_CONFIG` is returned even if it is missing, because no other
    config may replace it. The system's config is ignored if this user may not read it: it is for the system's
    service, and must not stop the user's own mirrors.
    """
    if explicit is not None:
        return explicit
    # Even if it does not exist: no other config may replace a named one.
    if (named := _named_config(environ)) is not None:
        return named
    existing = filter(os.path.lexists, config_places(environ))
    return next((path for path in existing if not is_unreadable_system_config(path)), None)


def is_unreadable_system_config(path: Path) -> bool:
    """Return whether the path is the system's config and this user may not read it."""
    return path == SYSTEM_CONFIG and os.access(path, os.F_OK) and not os.access(path, os.R_OK)


def state_home(environ: Mapping[str, str]) -> Path:
    """Return `$XDG_STATE_HOME/kbsync`. Raises UsageError if no home directory is known."""
    user = _user_dir(environ, "XDG_STATE_HOME", ".local/state")
    if user is None:
        raise UsageError("cannot determine your home directory for the state; pass --state-dir DIR")
    return user / "kbsync"


def state_dir(
    environ: Mapping[str, str],
    *,
    explicit: Path | None = None,
    config: Config | None = None,
    folder: Path | None = None,
) -> Path:
    """Return the absolute path of the state directory, without creating it. Raises UsageError if no home
    directory is known.

    `explicit` is `--state-dir`. `folder` is `--folder`, which always has its own state directory under the
    state home.
    """
    if explicit is not None:
        return Path(os.path.abspath(explicit))  # noqa: PTH100 (Path.absolute keeps `..`)
    if folder is not None:  # a separate state from a service's
        return folder_state_dir(folder, state_home(environ))
    if config is not None and config.state_dir is not None:
        return config.state_dir
    # systemd separates several with colons.
    systemd_dir, _, _ = environ.get("STATE_DIRECTORY", "").partition(":")
    if systemd_dir:
        return Path(os.path.abspath(systemd_dir))  # noqa: PTH100
    if config is not None and config.path is not None and config.path.is_relative_to(SYSTEM_CONFIG.parent):
        return SYSTEM_STATE
    return state_home(environ)


def folder_state_dir(folder: Path, below: Path) -> Path:
    """Return `folders/<name>-<8 hex of sha256(realpath)>` under the state home `below`."""
    import hashlib

    digest = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()
    return below / _FOLDERS / f"{folder_name(folder)}-{digest[:8]}"


def check_state_dir(
    path: Path, folders: Iterable[Path] = (), *, create: bool = True, mountinfo: Path | None = None
) -> None:
    """Make sure that `path` can hold the state, creating a missing directory with mode 0700.

    Raises UsageError, before it creates anything, if the path is inside one of the mirrored `folders`,
    contains one or is on a network file system; also if it isn't writable. Without `create`, for read-only
    commands, it checks only the location.
    """
    elsewhere = "choose another with --state-dir, or with state_dir: in the config"
    for folder in folders:
        if is_inside(path, folder):
            reason = f"the state directory {path} is inside the mirrored folder {folder}"
            raise UsageError(f"{reason}; {elsewhere}")
        if is_inside(folder, path):
            reason = f"the mirrored folder {folder} is inside the state directory {path}"
            raise UsageError(f"{reason}; {elsewhere}")
    kind = network_file_system(path, mountinfo)
    if kind is not None:
        raise UsageError(
            f"the state directory {path} is on a network file system ({kind}), "
            "where file locks are unreliable; "
            f"{elsewhere} on a local disk"
        )
    if not create:
        return
    if read_only_mount(path):
        reason = f"the state directory {path} is on a file system that is mounted read-only"
        raise UsageError(f"{reason}; {elsewhere}")
    try:
        make_private_folder(path)
    except OSError as error:
        if not isinstance(error, PermissionError) or _is_missing(path):
            why = system_reason(error)
            raise UsageError(f"the state directory {path} cannot be created ({why}); {elsewhere}") from None
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise UsageError(
            f"the state directory {path} is not writable; run kbsync as the user who owns it, or {elsewhere}"
        )
    if path.stat().st_mode & stat.S_IWOTH:  # anyone could replace the state
        reason = f"anyone can write to the state directory {path}"
        fix = f"chmod o-w {shell_word(str(path))}"
        raise UsageError(f"{reason}; {elsewhere}, or run: {fix}")


def _is_missing(path: Path) -> bool:
    """Return whether nothing exists at `path`; False if the user may not know that."""
    try:
        path.lstat()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def read_only_mount(path: Path) -> Path | None:
    """Return the mount point of `path`, which need not exist, if it is mounted read-only."""
    candidates = (path, *path.parents)
    try:
        existing = next(candidate for candidate in candidates if candidate.exists())
        if os.statvfs(existing).f_flag & os.ST_RDONLY:
            return next(candidate for candidate in candidates if os.path.ismount(candidate))
    except OSError:
        return None  # the user of the path reports the error
    return None


def is_inside(inner: Path, outer: Path) -> bool:
    """Return whether `inner` is `outer` or below it, following symlinks; neither needs to exist."""
    return Path(os.path.realpath(inner)).is_relative_to(os.path.realpath(outer))


def is_no_directory(path: Path) -> bool:
    """Return whether the path is certainly not a directory; False if it cannot be accessed."""
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False


def note_folder(state_dir: Path, folder: Path) -> None:
    """Record in the existing `state_dir` that it belongs to `folder`."""
    content = os.fsencode(os.path.realpath(folder))
    note = state_dir / _FOLDER_NOTE
    with contextlib.suppress(OSError):
        if note.read_bytes() == content:
            return
    replace_private(note, content)  # a truncated file would name another folder


def is_of_folder_option(state_dir: Path, environ: Mapping[str, str]) -> bool:
    """Return whether this is the state directory of a `--folder` run, under the state home."""
    with contextlib.suppress(UsageError):  # no home directory is known
        return state_dir.parent == state_home(environ) / _FOLDERS
    return False


def forget_folder(state_dir: Path) -> None:
    """Delete the record of the folder that this state directory belongs to. Raises OSError."""
    (state_dir / _FOLDER_NOTE).unlink(missing_ok=True)


def known_folders(below: Path) -> list[KnownFolder]:
    """Return the folders of earlier `--folder` runs with a state under the state home `below`, by path."""
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


def known_folder_for(directory: Path, below: Path) -> KnownFolder | None:
    """Return the innermost known folder that contains `directory`; None if none does."""
    real = Path(os.path.realpath(directory))
    candidates = [folder for folder in known_folders(below) if real.is_relative_to(folder.folder)]
    return max(candidates, key=lambda folder: len(folder.folder.parts), default=None)
