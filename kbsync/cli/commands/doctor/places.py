"""The places a config names: itself, the state, the folders, the address to listen on."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from kbsync.cli.commands.doctor.command import CheckResult, warning, wrong
from kbsync.cli.exit_codes import Code
from kbsync.cli.folder_contents import limits_of, look_through
from kbsync.cli.output import counted
from kbsync.config.model import MirrorConfig
from kbsync.core.model import Limits
from kbsync.core.selection import Rules
from kbsync.core.text import printable, shell_word
from kbsync.errors import KbsyncError
from kbsync.installation import Installation

NAMED = 3


def config(installation: Installation) -> Iterator[CheckResult]:
    """It could be read; and who else may read it."""
    path = installation.config.path
    if path is None:
        yield CheckResult("config", f"none; --folder {installation.config.mirrors[0].folder}")
        return
    yield CheckResult("config", str(path))
    yield from (_too_open(file) for file in (path, *_secret_files(path)) if _is_open(file))


def _is_open(file: Path) -> bool:
    try:
        mode = file.stat().st_mode
    except OSError:
        return False
    return bool(mode & (stat.S_IROTH | stat.S_IWOTH)) and _may_hold_secrets(file)


def _may_hold_secrets(file: Path) -> bool:
    """A key written out, in a config; any other file was named because it holds one."""
    import re

    if file.suffix not in (".yaml", ".yml"):
        return True
    keys = re.findall(
        r"(?m)^[^#\n]*\b(?:api_key|token|proxy|url)\s*:\s*(\S+)", file.read_text("utf-8", "replace")
    )
    return any(not key.strip("\"'").startswith("${") for key in keys)


def _too_open(file: Path) -> CheckResult:
    cure = f"chmod o-rwx {shell_word(str(file))}"
    return warning("config", f"every user may read {file}, which may hold a secret", cure)


def _secret_files(config_file: Path) -> Iterator[Path]:
    """Files that settings ending in `_file` name, but for certificates, which are no secret."""
    import yaml

    def walk(value: object) -> Iterator[Path]:
        if isinstance(value, dict):
            for key, each in value.items():
                if str(key).endswith("_file") and key != "ca_file" and isinstance(each, str):
                    yield config_file.parent / os.path.expanduser(each)  # noqa: PTH111 (as configs are read)
                else:
                    yield from walk(each)
        elif isinstance(value, list):
            for each in value:
                yield from walk(each)

    yield from walk(yaml.safe_load(config_file.read_bytes()))


def state(installation: Installation) -> Iterator[CheckResult]:
    """The state directory can be used, and what is in it is sound as far as a look tells."""
    from kbsync.cli.context import look_at
    from kbsync.config.places import check_state_dir
    from kbsync.state import lock, ownership

    place = installation.state_dir
    check_state_dir(place, [mirror.folder for mirror in installation.config.mirrors], create=False)
    if not place.exists():
        yield _to_be_made(place)
        return
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        cure = f"sudo chown -R {user()} {shell_word(str(place))}"
        yield wrong("state", f"{place} cannot be written by {user()}", cure, Code.USAGE)
        return
    if place.stat().st_mode & 0o077:
        cure = f"chmod go-rwx {shell_word(str(place))}"
        yield warning("state", f"other users may look into {place}", cure)
    astray = list(ownership.strange(place))
    if astray:
        yield _astray(place, astray)
        return
    found = look_at(installation)
    if found is not None:
        found.close()
    running = "; kbsync is running" if lock.is_held(place) else ""
    yield CheckResult("state", f"{place}{running}" if found else f"{place}, nothing mirrored yet{running}")


def _astray(place: Path, found: Sequence[Path]) -> CheckResult:
    """What one command as another user leaves: the next pass would fail over it."""
    from kbsync.state.ownership import cure_of, fault_of

    more = f"; {len(found) - 1:,} more are like it" if len(found) > 1 else ""
    return wrong("state", f"{fault_of(place, found[0])}{more}", cure_of(place, found[0]), Code.USAGE)


def _to_be_made(place: Path) -> CheckResult:
    above = next(each for each in place.parents if each.exists())
    if os.access(above, os.W_OK | os.X_OK):
        return CheckResult("state", f"{place}, made by the first pass")
    cure = f"sudo install -d -m 700 -o {user()} {shell_word(str(place))}"
    return wrong("state", f"{place} cannot be made by {user()}", cure, Code.USAGE)


def user() -> str:
    """Who runs this."""
    from kbsync.state.ownership import user_name

    return user_name(os.geteuid())


def folder(installation: Installation, mirror: MirrorConfig) -> Iterator[CheckResult]:
    """It is there, and what is to be mirrored of it can be read by whoever runs this."""
    subject = f"{mirror.name}: folder"
    try:
        contents = look_through(mirror.folder, _rules(mirror, _limits(installation, mirror)))
    except FileNotFoundError:
        cure = "mount it, or correct folder: in the config"
        yield wrong(subject, f"{mirror.folder} is not there", cure, Code.PERSON)
        return
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        cure = _cure_of_rights(mirror.folder, mirror.folder)
        yield wrong(subject, f"{mirror.folder} cannot be listed: {why}", cure, Code.PERSON)
        return
    more = "" if contents.is_complete else " at least"
    if contents.unreadable:
        first = contents.first_unreadable
        detail = f"{contents.unreadable:,}{more} of it cannot be read by {user()}, first {first}"
        yield wrong(subject, detail, _cure_of_rights(mirror.folder, Path(first)), Code.FAILED)
        return
    content = f"{counted(contents.files, 'file')} in {counted(contents.folders, 'folder')}"
    yield CheckResult(subject, f"{mirror.folder}: {content}{more}")


def _rules(mirror: MirrorConfig, limits: Limits) -> Rules:
    return Rules(mirror.include, mirror.exclude, limits)


def _limits(installation: Installation, mirror: MirrorConfig) -> Limits:
    """None known where the target cannot be opened, which another check tells."""
    try:
        return limits_of(installation, mirror)
    except (KbsyncError, OSError):
        return Limits()


def _cure_of_rights(folder: Path, shut: Path) -> str:
    """To the owner of a file an access control list gives nothing."""
    place = shell_word(str(folder))
    with contextlib.suppress(OSError):
        if shut.stat().st_uid == os.geteuid():
            return f"chmod -R u+rX {place}"
    return f"sudo setfacl --recursive --modify u:{user()}:rX {place}"


def inotify(mirrors: Sequence[MirrorConfig]) -> Iterator[CheckResult]:
    """The kernel's limits suffice for all folders together."""
    from kbsync.config.places import network_file_system
    from kbsync.source.limits import cure, read_limits, roomy

    watched = [mirror for mirror in mirrors if mirror.observer != "polling" and mirror.folder.is_dir()]
    for mirror in list(watched):
        kind = network_file_system(mirror.folder)
        if kind is not None and mirror.observer == "auto":
            watched.remove(mirror)
            yield CheckResult(
                "inotify", f"{mirror.folder} is on {kind}, which tells of no changes; it is polled"
            )
    looks = (look_through(each.folder, _rules(each, Limits())) for each in watched)
    limits, needed = read_limits(), sum(contents.folders for contents in looks)
    if limits.watches is None:
        yield warning("inotify", "its limits cannot be read; folders may be polled")
    elif needed * 1.2 >= limits.watches:
        detail = f"{limits.watches:,} watches are allowed and {needed:,} folders need one; some may be polled"
        yield warning("inotify", detail, cure("max_user_watches", roomy(needed)))
    else:
        yield CheckResult("inotify", f"{needed:,} of {limits.watches:,} watches needed")
    if limits.instances is not None and limits.instances < max(16, 2 * len(watched)):
        detail = f"only {limits.instances} instances are allowed to all programs of a user"
        yield warning("inotify", detail, cure("max_user_instances", max(1024, 2 * limits.instances)))


def listener(installation: Installation) -> Iterator[CheckResult]:
    """The address can be listened on, or this installation's daemon does."""
    from kbsync.server.listener import bind_sockets
    from kbsync.state import lock

    http = installation.config.http
    if http is None:
        yield CheckResult("listener", "none asked for")
    elif lock.is_held(installation.state_dir):
        yield from _answers(http.host, http.port, lock.holder(installation.state_dir))
    else:
        for socket in bind_sockets(http.host, http.port):
            socket.close()
        yield CheckResult("listener", f"{http.listen} is free")


def _answers(host: str, port: int, process: str) -> Iterator[CheckResult]:
    import socket

    shown = printable(f"{host}:{port}")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not listened on)
    try:
        socket.create_connection((host, port), timeout=2.0).close()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        cure = "restart the daemon that holds the state"
        if process:  # a daemon listens as its config says, once it reads that again; a pass never does
            cure = f"if process {process} is the daemon, have it read its config again: kill -HUP {process}"
        yield warning("listener", f"kbsync runs and does not listen on {shown} ({why})", cure)
    else:
        yield CheckResult("listener", f"{shown} answers")
